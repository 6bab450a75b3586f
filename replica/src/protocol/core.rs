//! The core: its inputs, its outputs, and what it remembers. The rules are in the phases.

use std::collections::VecDeque;

use rkyv::util::AlignedVec;

use super::action::{Action, DeathNotice, Transmit};
use super::config::{Config, ConfigError};
use super::ids::{ConnectionId, Seq, Tick};
use super::view::{Answer, Request, RequestId, View};
use crate::wire::{OpenBatch, OpenChunk, Standing};

/// One node's side of the pair protocol.
#[derive(Debug)]
pub struct Core {
    pub(super) config: Config,
    pub(super) actions: VecDeque<Action>,
    pub(super) transmits: VecDeque<Transmit>,
    pub(super) open: OpenBatch,
}

/// Why something that was offered is not shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotShipped {
    /// This node is not primary, or of another epoch than the commits: they are of no use.
    #[error("commits up to {watermark} are not of an epoch in which this node is primary")]
    NotPrimary {
        /// What was offered.
        watermark: Seq,
    },
    /// There is no transfer under way for this.
    #[error("no state transfer is under way")]
    NoTransfer,
}

/// A look at a core, for `status` and for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What this node is.
    pub standing: Standing,
    /// The newest confirmed view it knows.
    pub view: Option<View>,
    /// The epoch in which it is primary or back-up.
    pub epoch: u16,
    /// Whether another node holds, or this one as back-up holds, all that is released.
    pub protected: bool,
    /// Whether a request to the arbiter is without answer.
    pub undetermined: bool,
    /// Number of the last table closed (primary) or applied (back-up).
    pub table_no: u64,
    /// Gathered up to here (primary), or applied (back-up).
    pub watermark: Seq,
    /// Acknowledged up to here (primary).
    pub acked: Seq,
    /// Released up to here (primary).
    pub released: Seq,
    /// Batches in flight.
    pub in_flight: usize,
    /// Bytes in flight.
    pub in_flight_bytes: usize,
    /// Whether a connection with a completed handshake exists.
    pub connected: bool,
    /// Whether a state transfer is under way, in either direction.
    pub transferring: bool,
    /// The current period of the table, in nanoseconds.
    pub period_ns: u64,
}

impl Core {
    /// A node that starts. It resumes nothing: the arbiter's view and the peer say what it becomes.
    pub fn new(config: Config, now: Tick) -> Result<Core, ConfigError> {
        config.check()?;
        let _ = now;
        Ok(Core {
            open: OpenBatch::new(config.slots, config.limits.batch_bytes),
            actions: VecDeque::new(),
            transmits: VecDeque::new(),
            config,
        })
    }

    /// A connection to the peer is up, authenticated as the configured peer. Replaces an older one.
    pub fn handle_peer_connected(&mut self, now: Tick, connection: ConnectionId) {
        let _ = (now, connection);
    }

    /// A connection is gone, for whatever reason.
    pub fn handle_peer_lost(&mut self, now: Tick, connection: ConnectionId) {
        let _ = (now, connection);
    }

    /// A whole frame came on the stream (cut by [`FrameReader`](crate::wire::FrameReader)). If it is
    /// not what it should be, the core asks for a disconnection.
    pub fn handle_frame(&mut self, now: Tick, connection: ConnectionId, frame: AlignedVec) {
        let _ = (now, connection, frame);
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Tick, connection: ConnectionId, datagram: &[u8]) {
        let _ = (now, connection, datagram);
    }

    /// The kernel says that the peer's node process is dead. Holds until the peer connects again.
    pub fn handle_peer_dead(&mut self, now: Tick, notice: DeathNotice) {
        let _ = (now, notice);
    }

    /// The peer's heartbeats stopped, and this node's own were on time. Holds until heard again.
    pub fn handle_peer_silent(&mut self, now: Tick) {
        let _ = now;
    }

    /// The peer's heartbeats are there again.
    pub fn handle_peer_heard(&mut self, now: Tick) {
        let _ = now;
    }

    /// The arbiter answered, or the host gave up on it ([`Answer::NoAnswer`]). Answers to requests
    /// that are no longer of interest are ignored.
    pub fn handle_arbiter(&mut self, now: Tick, request: RequestId, answer: Answer) {
        let _ = (now, request, answer);
    }

    /// The tick of [`poll_timeout`](Self::poll_timeout) has come. Harmless at any time.
    pub fn handle_timeout(&mut self, now: Tick) {
        let _ = now;
    }

    /// A batch that was handed over is applied; and the digest of the whole table after it, if the
    /// batch had one. This is what the ack stands for: call it when the region holds the batch.
    pub fn handle_applied(&mut self, now: Tick, table_no: u64, digest: Option<u64>) {
        let _ = (now, table_no, digest);
    }

    /// A chunk that was handed over is applied.
    pub fn handle_chunk_applied(&mut self, now: Tick, chunk_no: u64) {
        let _ = (now, chunk_no);
    }

    /// A batch or chunk could not be applied: this node's state is not to be relied on, and it asks
    /// for all of it anew.
    pub fn handle_apply_failed(&mut self, now: Tick) {
        let _ = now;
    }

    /// Where to record commits, in their order, before [`offer`](Self::offer). Costs nothing when
    /// there is nobody to ship to.
    pub fn gathering(&mut self) -> &mut OpenBatch {
        &mut self.open
    }

    /// Whether the primary may gather more. While not, leave commits where they are: the rings hold
    /// them. Becomes true again with an ack or a change of view, so look after every input.
    pub fn has_room(&self) -> bool {
        true
    }

    /// Everything up to `watermark` is recorded, and nothing behind it. Also when nothing is new:
    /// it is cheap. `digest` is that of the whole table at `watermark`, where it is known.
    pub fn offer(
        &mut self,
        now: Tick,
        watermark: Seq,
        digest: Option<u64>,
    ) -> Result<(), NotShipped> {
        let _ = (now, digest);
        Err(NotShipped::NotPrimary { watermark })
    }

    /// How many more chunks of the state transfer may be offered now.
    pub fn snapshot_room(&self) -> u32 {
        0
    }

    /// A chunk of the state transfer.
    pub fn offer_chunk(&mut self, now: Tick, chunk: OpenChunk) -> Result<(), NotShipped> {
        let _ = (now, chunk);
        Err(NotShipped::NoTransfer)
    }

    /// The last chunk was offered. `through` is the region's `commit_seq`, **read after the last slot
    /// was copied**: only with everything up to there the copies are a state that existed.
    pub fn finish_snapshot(&mut self, now: Tick, through: Seq) -> Result<(), NotShipped> {
        let _ = (now, through);
        Err(NotShipped::NoTransfer)
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next thing to write. Stream frames of one connection are to be written in this order.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next question to the arbiter. At most one is of interest at any time: a newer one makes
    /// the older ones void (their answers may still be given).
    pub fn poll_arbiter(&mut self) -> Option<(RequestId, Request)> {
        None
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Tick> {
        None
    }

    /// A look from outside.
    pub fn status(&self) -> Status {
        Status {
            standing: Standing::Starting,
            view: None,
            epoch: 0,
            protected: false,
            undetermined: false,
            table_no: 0,
            watermark: Seq::ZERO,
            acked: Seq::ZERO,
            released: Seq::ZERO,
            in_flight: 0,
            in_flight_bytes: 0,
            connected: false,
            transferring: false,
            period_ns: self.config.timing.period.as_nanos() as u64,
        }
    }
}
