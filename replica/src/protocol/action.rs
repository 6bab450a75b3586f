//! What a core asks of its host, and what it has to report.

use std::time::Duration;

use super::bounded::Closed;
use super::ids::{ConnectionId, NodeId, Seq, Tick};
use super::planned::Declined;
use super::view::View;
use crate::wire::{BatchFrame, ChunkFrame, EpochStart, SharedFrame};

/// Something the host must do. Actions are carried out in the order in which they are polled; a
/// later one may rely on an earlier one being complete.
#[derive(Debug)]
#[must_use = "an action that is not carried out breaks the protocol"]
pub enum Action {
    /// Become primary of this epoch: finish every batch and chunk that was handed over before, add the
    /// epoch to the region's history, make the region primary, then gather and offer. The view is confirmed.
    BecomePrimary {
        /// How it begins; commits of this node start at its beginning.
        start: EpochStart,
    },
    /// Become the back-up of this epoch: leave whatever role the region has, and go back to the state at
    /// `since`, or **empty it** (incarnation kept). Then hand the receipt to
    /// [`handle_rewound`](super::Core::handle_rewound) with the slots that were changed after `since`.
    /// Chunks and batches follow; of each slot the first of them counts, whatever the slot holds.
    BecomeBackup {
        /// The primary's epoch.
        epoch: u16,
        /// What both have in common.
        since: Option<Seq>,
        /// This node has commits beyond that which its primary does not have: save what they did.
        diverged: bool,
        /// To be handed back.
        receipt: Receipt,
    },
    /// The transfer is whole: the region holds a state that its primary had, with this history. From here on
    /// it follows, and after a restart it is what it holds. This must hold before anything is transmitted.
    Whole {
        /// Where the epochs of the state began.
        epochs: Vec<EpochStart>,
    },
    /// The state turned out to be wrong: forget its history, so that no process takes it for one.
    Distrust,
    /// This node was superseded. Nothing may leave any more: take the primary role from the region
    /// at once. The state stays until `BecomeBackup`.
    Fence,
    /// This primary is about to hand over: take nothing new in, let what is there be finished and sent, then make the
    /// region quiet and say so by [`handle_drained`](super::Core::handle_drained). Until then gather as ever.
    Drain,
    /// It did not get through: serve on in the same epoch.
    Resume {
        /// The epoch.
        epoch: u16,
    },
    /// Raise `released` in the region to this commit. Never lower than before within a region.
    Release(Seq),
    /// Let packets of this bounded port leave up to this commit as well, while the lease lasts.
    Allow {
        /// Index of the port.
        port: u8,
        /// Never lower than before within an epoch.
        upto: Seq,
    },
    /// Until when packets that were allowed may leave. Every port is to look at the clock itself, right
    /// before it sends.
    ExtendLease(Tick),
    /// While required, commits wait for the gatherer (and so for the window). When it becomes
    /// required this must hold before the next action is carried out.
    SetGathering {
        /// Whether `gathered` may be raised by nobody but the gatherer.
        required: bool,
    },
    /// Record the commits that are decided and not seen in their slots yet (they may have been gathered
    /// when nobody recorded), then copy slots and all packets not known to be sent, in chunks, as
    /// [`snapshot_room`](super::Core::snapshot_room) allows; then
    /// [`finish_snapshot`](super::Core::finish_snapshot).
    StartSnapshot {
        /// Of the slots those that were changed later, free ones as well; `None`: every object.
        since: Option<Seq>,
        /// And these, whenever they were changed.
        also: Vec<u32>,
    },
    /// Stop copying; what is left of the snapshot is of no use.
    StopSnapshot,
    /// Apply this batch (whole or not at all), then hand the receipt to
    /// [`handle_applied`](super::Core::handle_applied).
    ApplyBatch(BatchFrame, Receipt),
    /// Apply this part of a state transfer, then hand the receipt to
    /// [`handle_applied`](super::Core::handle_applied).
    ApplyChunk(ChunkFrame, Receipt),
    /// Close the connection, after what [`poll_transmit`](super::Core::poll_transmit) still has for
    /// it is written, and do not make another before the pause is over.
    Disconnect {
        /// The connection.
        connection: ConnectionId,
        /// Pause before the next attempt.
        retry_after: Duration,
    },
    /// Something worth a line in the timeline.
    Event(Event),
}

/// Stands for something that was handed over to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which time this core became back-up; receipts of an earlier time are void.
    pub(super) run: u64,
    pub(super) what: Applied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Start,
    Table(u64),
    Chunk(u64),
}

/// Bytes for the peer.
#[derive(Debug)]
pub struct Transmit {
    /// The connection they are meant for; drop them if it is gone.
    pub connection: ConnectionId,
    /// What, and on which road.
    pub body: Body,
}

/// The two roads of a connection.
#[derive(Debug)]
pub enum Body {
    /// On the one long-lived stream, in order.
    Stream(SharedFrame),
    /// As one datagram, which may be lost.
    Datagram(Vec<u8>),
}

/// How the peer's death is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathNotice {
    /// The peer's supervisor saw its node die.
    Supervisor,
    /// The kernel closed the connection of the peer's supervisor.
    Tripwire,
}

/// Why a node believes that it has to go on without its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kernel said so.
    Dead(DeathNotice),
    /// Its heartbeats stopped.
    Silent,
    /// It did not connect again in time.
    Disconnected,
    /// It left batches unacknowledged for too long.
    Slow,
    /// It came back as another process or with another region, or says that it is not in step.
    NotInStep,
    /// This node started and goes on from the state that it has.
    Started,
    /// The primary handed over.
    Planned,
    /// A person ordered it.
    Ordered,
}

/// For the timeline. The host adds the time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A newer view is confirmed.
    ViewChanged {
        /// What was known before.
        from: Option<View>,
        /// What holds now.
        to: View,
    },
    /// The arbiter is asked to change the view.
    Asking {
        /// Number of the view asked for.
        number: u64,
        /// Why.
        cause: Option<Cause>,
    },
    /// An unanswered compare-and-set: nothing is released or acknowledged until it is settled.
    Undetermined {
        /// Number of the view asked for.
        number: u64,
    },
    /// The arbiter did not answer a read.
    ArbiterSilent,
    /// The arbiter does not know the newest view: it is new, or lost its memory, and grants nothing.
    ArbiterForgot {
        /// The newest view that this node knows.
        known: Option<View>,
    },
    /// This node is primary of a new epoch.
    Promoted {
        /// The epoch.
        epoch: u16,
        /// Why.
        cause: Cause,
        /// The last commit of the older epochs that its state contains.
        from: Seq,
    },
    /// The primary works without a back-up from now on.
    Solo {
        /// Why.
        cause: Cause,
    },
    /// Another node is primary of a newer epoch: this one was fenced.
    Superseded {
        /// The view that says so.
        by: View,
    },
    /// This primary is about to hand over.
    HandingOver {
        /// The epoch that ends.
        epoch: u16,
    },
    /// The back-up holds everything and is asked to take over.
    HandOverReady {
        /// The last commit of this primary.
        last: Seq,
    },
    /// It did.
    HandedOver {
        /// Its view.
        by: View,
    },
    /// Roles stay as they are: on the primary that serves on, and on the back-up.
    HandOverEnded {
        /// Why.
        why: Declined,
    },
    /// An order to promote has come to nothing.
    PromotionEnded {
        /// Why.
        why: Declined,
    },
    /// Without an arbiter nobody goes on by itself: a person has to say who is to be primary.
    WaitsForOrder {
        /// The newest view that this node knows; it is in it.
        view: View,
    },
    /// The peer completed the handshake.
    PeerConnected {
        /// The peer.
        node: NodeId,
        /// The incarnation of its region.
        incarnation: u64,
        /// The version of the protocol that both speak.
        version: u16,
    },
    /// The connection is gone.
    PeerLost,
    /// The peer is suspected.
    PeerSuspected {
        /// Why.
        cause: Cause,
    },
    /// The peer was heard again.
    PeerHeard,
    /// The back-up continues where its connection broke.
    Resumed {
        /// The first table that it gets again.
        table_no: u64,
    },
    /// A transfer of state to the peer begins.
    TransferStarted {
        /// How much of it.
        resync: Resync,
        /// What both have in common.
        since: Option<Seq>,
    },
    /// A transfer of state from the peer begins.
    Resyncing {
        /// How much of it.
        resync: Resync,
        /// What both have in common.
        since: Option<Seq>,
        /// What this node had.
        held: Seq,
    },
    /// It ended: all of it is sent.
    TransferSent {
        /// Chunks.
        chunks: u64,
        /// The back-up is admitted when it has acknowledged this commit.
        through: Seq,
    },
    /// It was given up.
    TransferStopped,
    /// The back-up is in the in-sync set.
    Admitted {
        /// The back-up.
        node: NodeId,
    },
    /// This node is in the in-sync set of the peer's view.
    InSync {
        /// The view's epoch.
        epoch: u16,
    },
    /// Peer and node do not fit: whoever found out said so to the other.
    Refused {
        /// In what they differ.
        reason: Refusal,
        /// What the peer has.
        theirs: u64,
        /// What this node has.
        ours: u64,
        /// Whether this node refused, or the peer.
        by_us: bool,
    },
    /// The peer broke the protocol, or bytes were damaged; the connection is made anew.
    Fault(Fault),
    /// At the same position the two tables differ: this back-up asks for all state anew.
    DigestDiffers {
        /// The position.
        seq: Seq,
        /// Digest of this node's table.
        ours: u64,
        /// Digest of the primary's table.
        theirs: u64,
    },
    /// A bounded port sends no more ahead of the acks. Reported now and then; all are counted.
    GateClosed {
        /// Index of the port.
        port: u8,
        /// Why.
        because: Closed,
    },
    /// It may again.
    GateOpened {
        /// Index of the port.
        port: u8,
        /// How often it closed so far.
        closes: u64,
    },
    /// Ports of the two nodes have other modes: a failover changes when packets leave.
    ModesDiffer {
        /// The peer's number.
        theirs: u64,
        /// This node's.
        ours: u64,
    },
    /// There is no epoch left to promote into.
    EpochsExhausted,
    /// The view names no region that is here, and none that is there, or the other node has not been heard: without a
    /// person nothing goes on.
    NothingToStartFrom {
        /// The view.
        view: View,
        /// The other node is in it and has not been heard: it may still come.
        awaited: bool,
    },
}

/// How much of the state a transfer brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resync {
    /// What the primary has changed since the last batch that the other has.
    Incremental,
    /// What either has changed: the other ran ahead in an epoch that ended without it.
    Union,
    /// Everything.
    Full,
}

impl Resync {
    pub(super) fn of(since: Option<Seq>, held: Seq) -> Resync {
        match since {
            None => Resync::Full,
            Some(since) if held > since => Resync::Union,
            Some(_) => Resync::Incremental,
        }
    }
}

/// In what two nodes differ that cannot work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// No protocol version that both speak (the newest of each is given).
    Version = 1,
    /// Another cluster.
    Cluster = 2,
    /// A node that is not the configured peer.
    Node = 3,
    /// Regions of different geometry.
    Geometry = 4,
    /// A lease (in nanoseconds) longer than this node would wait after a start.
    Lease = 5,
}

/// What was wrong with something the peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Not a message.
    Bytes(crate::wire::WireError),
    /// A message that makes no sense in this state.
    Unexpected {
        /// The message.
        message: &'static str,
    },
    /// A batch does not continue the one before.
    Gap {
        /// The table number that comes next.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// A batch of another epoch.
    Epoch {
        /// The epoch of the session.
        expected: u16,
        /// The batch's.
        found: u16,
    },
    /// More than its window lets the peer send before acks come. What is beyond is not kept.
    Beyond {
        /// Of what: batches, bytes of them, chunks.
        what: &'static str,
        /// Not applied, with the one that came.
        found: u64,
        /// The window.
        most: u64,
    },
    /// The host could not apply what the peer sent.
    NotApplied,
}
