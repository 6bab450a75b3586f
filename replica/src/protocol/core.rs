//! The core: its inputs, its outputs, and what it remembers. The rules are in the phases.

use std::collections::VecDeque;
use std::time::Duration;

use rkyv::util::AlignedVec;

use super::action::{Action, Cause, DeathNotice, Event, Receipt, Transmit};
use super::asking::{Asking, Wish};
use super::backup::Backup;
use super::bounded::Ahead;
use super::config::{Config, ConfigError, Mutation};
use super::handshake::Session;
use super::history::History;
use super::ids::{ConnectionId, NodeId, Seq, Tick};
use super::planned::Planned;
use super::primary::{Link, Primary};
use super::record::Testimony;
use super::view::{Answer, Member, Request, RequestId, View};
use crate::wire::{OpenBatch, OpenChunk, Standing};

/// One node's side of the pair protocol.
///
/// Its host owns it alone, passes in what happened and carries out what it asks for. After any call
/// of a `handle_*` or `offer*` method, empty [`poll_action`](Self::poll_action), then
/// [`poll_transmit`](Self::poll_transmit), [`poll_arbiter`](Self::poll_arbiter) and
/// [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Core {
    pub(super) config: Config,
    pub(super) role: Role,
    /// The newest view known to be confirmed.
    pub(super) view: Option<View>,
    /// The one dialogue with the arbiter, if there is one.
    pub(super) asking: Option<Asking>,
    /// What the arbiter was asked for in vain, and until when it is not asked again.
    pub(super) paused: Option<(Wish, Tick)>,
    /// Its silence is reported once, and so is its loss of memory.
    pub(super) arbiter_silent: bool,
    pub(super) arbiter_forgot: bool,
    pub(super) requests: u64,
    pub(super) request: Option<(RequestId, Request)>,
    /// Whether the arbiter told this process of a view: from then on what its peer says is news.
    pub(super) looked: bool,
    /// Whether the arbiter said that there is no view, and this is for the node to change.
    pub(super) begins: bool,
    pub(super) started: Tick,
    pub(super) session: Option<Session>,
    /// Since when there is no connection; counted anew when the host was late.
    pub(super) apart_since: Tick,
    pub(super) dead: Option<DeathNotice>,
    pub(super) silent: bool,
    /// When the last message came: a proof of life, whatever became of the heartbeats.
    pub(super) heard_at: Tick,
    pub(super) suspected: Option<Cause>,
    /// The state of this node turned out to be wrong: it needs all of it anew.
    pub(super) unsound: bool,
    /// What the state is made of; its end is kept up when a role ends, see [`Core::history`].
    pub(super) history: History,
    /// Counts the transfers that this core began, and the times it became back-up.
    pub(super) transfers: u64,
    pub(super) runs: u64,
    /// Connections that were closed because of what the peer sent.
    pub(super) faults: u64,
    /// What people want.
    pub(super) planned: Planned,
    pub(super) open: OpenBatch,
    pub(super) ahead: Ahead,
    pub(super) actions: VecDeque<Action>,
    pub(super) transmits: VecDeque<Transmit>,
    /// The batch that the last ack was for, until the host asks.
    pub(super) trip: Option<Trip>,
    pub(super) last_input: Tick,
    /// When the host was to call at the latest.
    promised: Option<Tick>,
    /// When the host drove this core again after a pause of its own: nobody is accused of what
    /// happened before.
    pub(super) awake_since: Tick,
}

/// What a node is, with what only such a node remembers.
#[derive(Debug)]
pub(super) enum Role {
    Starting,
    Primary(Primary),
    Backup(Backup),
    Joining,
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

/// A batch's way to the back-up and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// From its sealing to the ack.
    pub took: Duration,
    /// What the back-up says it needed in between.
    pub needed: Duration,
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
    /// Whether the view has two members: another node holds all that is released.
    pub protected: bool,
    /// Whether a request to change the view is without answer.
    pub undetermined: bool,
    /// Number of the last table closed (primary) or applied (back-up).
    pub table_no: u64,
    /// Gathered up to here (primary), or applied (back-up).
    pub watermark: Seq,
    /// Acknowledged by a complete back-up up to here (primary).
    pub acked: Seq,
    /// Released up to here (primary).
    pub released: Seq,
    /// Batches in flight.
    pub in_flight: usize,
    /// Bytes in flight.
    pub in_flight_bytes: usize,
    /// Batches that a back-up has received and its host has not applied; at most a window of them.
    pub unapplied: usize,
    /// Their bytes: at most a window, and the batch that filled it.
    pub unapplied_bytes: usize,
    /// Connections that this core has closed because of what the peer sent on them.
    pub faults: u64,
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
        let mut core = Core {
            open: OpenBatch::new(config.slots, config.limits.batch_bytes)
                .awaiting(config.awaited_queue),
            history: config.history.clone(),
            ahead: Ahead::new(&config.bounds),
            config,
            role: Role::Starting,
            view: None,
            asking: None,
            paused: None,
            arbiter_silent: false,
            arbiter_forgot: false,
            requests: 0,
            request: None,
            looked: false,
            begins: false,
            started: now,
            session: None,
            apart_since: now,
            dead: None,
            silent: false,
            heard_at: Tick::ZERO,
            suspected: None,
            unsound: false,
            transfers: 0,
            runs: 0,
            faults: 0,
            planned: Planned::default(),
            actions: VecDeque::new(),
            transmits: VecDeque::new(),
            trip: None,
            last_input: now,
            promised: None,
            awake_since: now,
        };
        core.settle(now);
        Ok(core)
    }

    /// How long the newest batch was on its way that was acknowledged since the last call.
    pub fn take_trip(&mut self) -> Option<Trip> {
        self.trip.take()
    }

    /// When the oldest batch left whose acknowledgement somebody waits for (primary).
    pub fn awaited_since(&self) -> Option<Tick> {
        let Role::Primary(primary) = &self.role else { return None };
        primary.window.iter().find(|batch| batch.awaited).map(|batch| batch.closed_at)
    }

    /// Everything up to here is in sealed batches (primary).
    pub fn batched(&self) -> Seq {
        match &self.role {
            Role::Primary(primary) => primary.batched,
            _ => Seq::ZERO,
        }
    }

    /// A connection to the peer is up, authenticated as the configured peer. Replaces an older one.
    pub fn handle_peer_connected(&mut self, now: Tick, connection: ConnectionId) {
        self.wake(now);
        self.on_connected(now, connection);
        self.settle(now);
    }

    /// A connection is gone, for whatever reason.
    pub fn handle_peer_lost(&mut self, now: Tick, connection: ConnectionId) {
        self.wake(now);
        if self.is_current(connection) {
            self.event(Event::PeerLost);
            self.forget_session(now);
        }
        self.settle(now);
    }

    /// A whole frame came on the stream (cut by [`FrameReader`](crate::wire::FrameReader)). If it is
    /// not what it should be, the core asks for a disconnection.
    pub fn handle_frame(&mut self, now: Tick, connection: ConnectionId, frame: AlignedVec) {
        self.wake(now);
        if self.is_current(connection) {
            self.heard_at = now;
            self.on_frame(now, frame);
        }
        self.settle(now);
    }

    /// A datagram came. A bad one is dropped: nothing depends on a single datagram.
    pub fn handle_datagram(&mut self, now: Tick, connection: ConnectionId, datagram: &[u8]) {
        self.wake(now);
        if self.is_current(connection)
            && let Ok(ack) = crate::wire::Message::decode_datagram(datagram)
        {
            self.heard_at = now;
            self.on_ack(now, ack);
        }
        self.settle(now);
    }

    /// The kernel says that the peer's node process is dead. Holds until the peer connects again.
    pub fn handle_peer_dead(&mut self, now: Tick, notice: DeathNotice) {
        self.wake(now);
        self.note_death(now);
        self.dead = Some(notice);
        self.settle(now);
    }

    /// The peer's heartbeats stopped, and this node's own were on time. Holds until heard again, and
    /// counts once no message has come for [`proof_of_life`](super::Timing::proof_of_life) either.
    pub fn handle_peer_silent(&mut self, now: Tick) {
        self.wake(now);
        self.silent = true;
        self.settle(now);
    }

    /// The peer's heartbeats are there again.
    pub fn handle_peer_heard(&mut self, now: Tick) {
        self.wake(now);
        self.silent = false;
        self.settle(now);
    }

    /// The arbiter answered, or the host gave up on it ([`Answer::NoAnswer`]). Answers to requests
    /// that are no longer of interest are ignored.
    pub fn handle_arbiter(&mut self, now: Tick, request: RequestId, answer: Answer) {
        self.wake(now);
        self.on_answer(now, request, answer);
        self.settle(now);
    }

    /// The tick of [`poll_timeout`](Self::poll_timeout) has come. Harmless at any time.
    pub fn handle_timeout(&mut self, now: Tick) {
        self.wake(now);
        self.settle(now);
    }

    /// A batch or chunk that was handed over is applied. This is what the ack stands for: call it
    /// when the region holds all of it. `digest` is that of the whole table after the batch, if the
    /// batch had one and the host keeps one.
    pub fn handle_applied(&mut self, now: Tick, receipt: Receipt, digest: Option<u64>) {
        self.wake(now);
        self.on_applied(receipt, digest);
        self.settle(now);
    }

    /// The region went back to what both have in common; `slots` were changed later, all of them are named.
    pub fn handle_rewound(&mut self, now: Tick, receipt: Receipt, slots: &[u32]) {
        self.wake(now);
        self.on_rewound(receipt, slots);
        self.settle(now);
    }

    /// A batch or chunk could not be applied: this node's state is not to be relied on, and it asks
    /// for all of it anew.
    pub fn handle_apply_failed(&mut self, now: Tick) {
        self.wake(now);
        self.on_apply_failed(now);
        self.settle(now);
    }

    /// Where to record commits, in their order, before [`offer`](Self::offer). Costs nothing when
    /// there is nobody to ship to.
    pub fn gathering(&mut self) -> &mut OpenBatch {
        &mut self.open
    }

    /// Whether the primary may gather more. While not, leave commits where they are: the rings hold
    /// them. Becomes true again with an ack or a change of view, so look after every input.
    pub fn has_room(&self) -> bool {
        match &self.role {
            Role::Primary(primary) => {
                primary.has_room(&self.config.limits) && !self.open.has_sealed()
            }
            _ => true,
        }
    }

    /// Everything up to `watermark` is recorded, and nothing behind it. Also when nothing is new:
    /// it is cheap. `digest` is that of the whole table at `watermark`, where it is known.
    pub fn offer(
        &mut self,
        now: Tick,
        watermark: Seq,
        digest: Option<u64>,
    ) -> Result<(), NotShipped> {
        self.wake(now);
        let offered = self.on_offer(now, watermark, digest);
        self.settle(now);
        offered
    }

    /// How many more chunks of the state transfer may be offered now.
    pub fn snapshot_room(&self) -> u32 {
        match &self.role {
            Role::Primary(primary) => primary.snapshot_room(&self.config.limits),
            _ => 0,
        }
    }

    /// A chunk of the state transfer.
    pub fn offer_chunk(&mut self, now: Tick, chunk: OpenChunk) -> Result<(), NotShipped> {
        self.wake(now);
        let offered = self.on_chunk_offered(chunk);
        self.settle(now);
        offered
    }

    /// The last chunk was offered. `through` is the region's `commit_seq`, **read after the last slot
    /// was copied**: only with everything up to there the copies are a state that existed.
    pub fn finish_snapshot(&mut self, now: Tick, through: Seq) -> Result<(), NotShipped> {
        self.wake(now);
        let finished = self.on_snapshot_finished(through);
        self.settle(now);
        finished
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
        self.request.take()
    }

    /// What this node knows of the view by itself. Every question to the arbiter bears it.
    pub fn testimony(&self) -> Testimony {
        match self.view {
            Some(view) if self.looked || self.config.by_hand => Testimony::Known(view),
            None if self.config.past.is_none() => Testimony::Nothing,
            _ => Testimony::Something(self.known_number()),
        }
    }

    /// The other node of the pair.
    pub fn peer_id(&self) -> NodeId {
        self.config.peer
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Tick> {
        let dialogue = self.asking_timeout();
        let role = match &self.role {
            Role::Starting => self.starting_timeout(),
            Role::Primary(primary) => self.primary_timeout(primary),
            Role::Backup(backup) => backup.timeout(),
            Role::Joining => None,
        };
        let waits = [self.silence_timeout(), self.promise_timeout(), self.planned_timeout()];
        dialogue.into_iter().chain(role).chain(waits.into_iter().flatten()).min()
    }

    /// A look from outside.
    pub fn status(&self) -> Status {
        let (primary, backup) = match &self.role {
            Role::Primary(primary) => (Some(primary), None),
            Role::Backup(backup) => (None, Some(backup)),
            Role::Starting | Role::Joining => (None, None),
        };
        let period = primary.map_or(self.config.timing.period, |p| {
            p.period(&self.config, self.open.is_empty(), self.last_input)
        });
        Status {
            standing: self.standing(),
            view: self.view,
            epoch: self.epoch(),
            protected: self.view.is_some_and(|view| !view.is_solo())
                && (primary.is_some() || backup.is_some_and(Backup::is_complete)),
            undetermined: self.is_undetermined(),
            table_no: primary.map_or(0, |p| p.tables) + backup.map_or(0, |b| b.applied_table),
            watermark: primary
                .map_or(Seq::ZERO, |p| p.watermark)
                .max(backup.map_or(Seq::ZERO, |b| b.applied)),
            acked: primary.map_or(Seq::ZERO, |p| p.acked),
            released: primary.map_or(Seq::ZERO, |p| p.released),
            in_flight: primary.map_or(0, |p| p.window.len()),
            in_flight_bytes: primary.map_or(0, |p| p.window_bytes),
            unapplied: backup.map_or(0, |b| b.unapplied.len()),
            unapplied_bytes: backup.map_or(0, |b| b.unapplied.bytes()),
            faults: self.faults,
            connected: self.peer().is_some(),
            transferring: primary
                .is_some_and(|p| matches!(p.link, Link::Copying | Link::Closing { .. }))
                || backup.is_some_and(|b| !b.is_complete()),
            period_ns: period.as_nanos() as u64,
        }
    }
}

impl Core {
    /// Notes that the host drove this core, and when it did not for a while.
    pub(super) fn wake(&mut self, now: Tick) {
        // Everybody sleeps too long now and then; twice the idle period is no accident.
        let late = self.promised.map(|promised| now.since(promised));
        if late.is_some_and(|late| late > self.config.timing.idle_period * 2) {
            self.awake_since = now;
        }
        self.last_input = now;
    }

    /// Everything that follows from the state as it is now. Runs after every input, so the inputs
    /// only record what happened: there is no event that could be missed.
    pub(super) fn settle(&mut self, now: Tick) {
        self.note_suspicion(now);
        self.settle_order(now);
        self.tell_of_nothing(now);
        self.ask(now);
        self.say_hello();
        match &self.role {
            Role::Primary(_) => self.settle_primary(now),
            Role::Backup(_) => self.settle_backup(now),
            Role::Starting | Role::Joining => {}
        }
        self.settle_planned(now);
        self.promised = self.poll_timeout();
    }

    pub(super) fn event(&mut self, event: Event) {
        self.actions.push_back(Action::Event(event));
    }

    /// What this node's state is made of, up to its end.
    pub(super) fn history(&self) -> History {
        let end = match &self.role {
            Role::Primary(primary) => primary.watermark,
            Role::Backup(backup) if backup.is_whole => backup.applied,
            Role::Starting | Role::Backup(_) | Role::Joining => self.history.end,
        };
        History { end, ..self.history.clone() }
    }

    /// Leaves whatever role this node has; its state stays.
    pub(super) fn leave(&mut self) {
        self.history = self.history();
        self.role = Role::Joining;
    }

    /// The state of this node is not to be relied on: it needs all of it anew.
    pub(super) fn distrust(&mut self) {
        self.unsound = true;
        self.history = History::default();
        self.role = Role::Joining;
        self.actions.push_back(Action::Distrust);
    }

    pub(super) fn this(&self) -> Member {
        self.config.this()
    }

    pub(super) fn mutated(&self, mutation: Mutation) -> bool {
        self.config.control.mutation == Some(mutation)
    }

    pub(super) fn standing(&self) -> Standing {
        match self.role {
            Role::Starting => Standing::Starting,
            Role::Primary(_) => Standing::Primary,
            Role::Backup(_) => Standing::Backup,
            Role::Joining => Standing::Joining,
        }
    }

    pub(super) fn epoch(&self) -> u16 {
        match &self.role {
            Role::Primary(primary) => primary.epoch,
            Role::Backup(backup) => backup.epoch,
            Role::Starting | Role::Joining => 0,
        }
    }

    /// Whether this view has room for no one else and contains this node's region.
    pub(super) fn is_member_of(&self, view: &View) -> bool {
        if self.mutated(Mutation::NodeInsteadOfIncarnation) {
            return view.member(self.config.node).is_some();
        }
        view.has(self.this())
    }

    /// Whether the confirmed view of this primary names a back-up.
    pub(super) fn partner(&self) -> Option<Member> {
        self.view?.member(self.config.peer)
    }

    /// Why the peer is taken for gone, by what the detectors say.
    pub(super) fn detected(&self) -> Option<Cause> {
        match (self.dead, self.silent) {
            (Some(notice), _) => Some(Cause::Dead(notice)),
            (None, true) if self.last_input >= self.silent_from() => Some(Cause::Silent),
            (None, _) => None,
        }
    }

    /// Heartbeats can be late while everything else arrives; then they accuse nobody.
    fn silent_from(&self) -> Tick {
        self.heard_at.after(self.config.timing.proof_of_life)
    }

    fn silence_timeout(&self) -> Option<Tick> {
        let waits = self.silent && self.dead.is_none() && self.last_input < self.silent_from();
        waits.then(|| self.silent_from())
    }

    fn note_suspicion(&mut self, now: Tick) {
        let cause = self.suspicion(now);
        if cause == self.suspected {
            return;
        }
        match cause {
            Some(cause) => self.event(Event::PeerSuspected { cause }),
            None => self.event(Event::PeerHeard),
        }
        self.suspected = cause;
    }

    fn suspicion(&self, now: Tick) -> Option<Cause> {
        match &self.role {
            Role::Primary(primary) => self.primary_suspicion(primary, now),
            Role::Backup(backup) => self.backup_suspicion(backup),
            Role::Starting | Role::Joining => self.detected(),
        }
    }
}
