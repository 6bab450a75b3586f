//! Handshake: who is there, does it fit, where does it stand.
//!
//! Each side says hello when the connection is up, and again whenever its standing changes. A hello
//! carries the newest confirmed view, so two nodes that meet agree on the newer one at once.
//!
//! Two nodes speak the newest version that both know. A hello and a refusal are said before that is known: their bytes are
//! the same in every version (`wire/golden.txt`), and what a later version has to say besides follows in messages of its own.

use std::time::Duration;

use rkyv::util::AlignedVec;

use super::action::{Action, Body, Event, Fault, Refusal, Transmit};
use super::core::{Core, Role};
use super::ids::{ConnectionId, Seq, Tick};
use crate::wire::{self, Hello, Message, Outgoing, Refuse, SharedFrame, Standing};

/// Pause after a fault: long enough that a broken peer costs nothing, shorter than any primary
/// waits for its back-up.
const FAULT_RETRY: Duration = Duration::from_millis(10);

/// The current connection.
#[derive(Debug)]
pub(super) struct Session {
    id: ConnectionId,
    /// What the peer said last, once it has and it fits.
    peer: Option<Hello>,
    /// What this node said last.
    said: Option<Said>,
}

/// The part of a hello whose change is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    standing: Standing,
    view: u64,
    epoch: u16,
    transfer: u64,
    /// Of a node that waits for a transfer: what it depends on.
    held: Seq,
    epochs: usize,
}

impl Core {
    pub(super) fn is_current(&self, connection: ConnectionId) -> bool {
        self.session.as_ref().is_some_and(|session| session.id == connection)
    }

    /// The current connection.
    pub(super) fn connection(&self) -> Option<ConnectionId> {
        self.session.as_ref().map(|session| session.id)
    }

    /// The peer, if there is a connection and it introduced itself.
    pub(super) fn peer(&self) -> Option<&Hello> {
        self.session.as_ref()?.peer.as_ref()
    }

    pub(super) fn on_connected(&mut self, now: Tick, connection: ConnectionId) {
        if self.session.as_ref().is_some_and(|session| session.id >= connection) {
            return;
        }
        if self.session.is_some() {
            self.event(Event::PeerLost);
            self.forget_session(now);
        }
        // Only a live process completes a handshake, and a dead one's connections went before it.
        self.dead = None;
        self.session = Some(Session { id: connection, peer: None, said: None });
    }

    pub(super) fn forget_session(&mut self, now: Tick) {
        let Some(session) = self.session.take() else {
            return;
        };
        self.apart_since = now;
        self.transmits.retain(|transmit| transmit.connection != session.id);
        self.on_apart();
    }

    /// Closes the connection because of something the peer did; both try again.
    pub(super) fn on_fault(&mut self, now: Tick, fault: Fault) {
        self.faults += 1;
        self.event(Event::Fault(fault));
        self.disconnect(now, FAULT_RETRY);
    }

    pub(super) fn disconnect(&mut self, now: Tick, retry_after: Duration) {
        if let Some(Session { id, .. }) = self.session {
            self.forget_session(now);
            self.actions.push_back(Action::Disconnect { connection: id, retry_after });
        }
    }

    pub(super) fn transmit(&mut self, frame: SharedFrame) {
        if let Some(session) = &self.session {
            let body = Body::Stream(frame);
            self.transmits.push_back(Transmit { connection: session.id, body });
        }
    }

    /// Sends a datagram; one that is not polled yet is replaced, since acks are cumulative.
    pub(super) fn transmit_datagram(&mut self, datagram: Vec<u8>) {
        self.withdraw_datagrams();
        if let Some(session) = &self.session {
            let body = Body::Datagram(datagram);
            self.transmits.push_back(Transmit { connection: session.id, body });
        }
    }

    pub(super) fn withdraw_datagrams(&mut self) {
        self.transmits.retain(|transmit| !matches!(transmit.body, Body::Datagram(_)));
    }

    /// Says hello if there is news.
    pub(super) fn say_hello(&mut self) {
        let joining = matches!(self.role, Role::Joining);
        let said = Said {
            standing: self.standing(),
            view: self.view.map_or(0, |view| view.number),
            epoch: self.epoch(),
            transfer: self.place().0,
            held: if joining { self.history.end } else { Seq::ZERO },
            epochs: self.history.epochs.len(),
        };
        match &mut self.session {
            Some(session) if session.said != Some(said) => session.said = Some(said),
            _ => return,
        }
        let hello = self.hello();
        self.transmit(wire::encode(Outgoing::Hello(&hello)));
    }

    /// Transfer and last table of the epoch that this node has a part in.
    fn place(&self) -> (u64, u64) {
        match &self.role {
            Role::Primary(primary) => (primary.transfer, primary.tables),
            Role::Backup(backup) => (backup.transfer, backup.received_table),
            Role::Starting | Role::Joining => (0, 0),
        }
    }

    fn hello(&self) -> Hello {
        let (transfer, table_no) = self.place();
        let history = self.history();
        Hello {
            version_min: *self.config.versions.start(),
            version_max: *self.config.versions.end(),
            cluster: self.config.cluster,
            node: self.config.node,
            geometry_hash: self.config.geometry_hash,
            incarnation: self.config.incarnation,
            standing: self.standing(),
            view: self.view,
            epoch: self.epoch_told(),
            transfer,
            table_no,
            applied: history.end,
            epoch_starts: history.epochs,
            lease_ns: self.config.lease().map_or(0, |lease| lease.as_nanos() as u64),
            modes: self.config.modes,
        }
    }

    pub(super) fn on_frame(&mut self, now: Tick, frame: AlignedVec) {
        let message = match Message::decode(frame) {
            Ok(message) => message,
            Err(error) => return self.on_fault(now, Fault::Bytes(error)),
        };
        match message {
            Message::Hello(hello) => return self.on_hello(now, hello),
            Message::Refuse(refuse) => return self.on_refused(now, refuse),
            _ => {}
        }
        if self.peer().is_none() {
            return self.on_fault(now, Fault::Unexpected { message: "anything before a hello" });
        }
        match message {
            Message::Hello(_) | Message::Refuse(_) => {}
            Message::Start(start) => self.on_start(now, start),
            Message::Batch(batch) => self.on_batch(now, batch),
            Message::Chunk(chunk) => self.on_chunk(now, chunk),
            Message::SnapshotEnd(end) => self.on_snapshot_end(now, end),
            Message::Changed(changed) => self.on_changed(now, changed),
            Message::HandOver(message) => self.on_hand_over(now, message),
            Message::Ack(_) => self.on_fault(now, Fault::Unexpected { message: "an ack" }),
        }
    }

    fn on_hello(&mut self, now: Tick, hello: Hello) {
        if let Some((reason, theirs, ours)) = self.misfit(&hello) {
            self.faults += 1;
            self.event(Event::Refused { reason, theirs, ours, by_us: true });
            self.transmit(wire::encode(Outgoing::Refuse(Refuse {
                reason: reason as u8,
                theirs,
                ours,
            })));
            let retry_after = self.config.timing.refused_retry;
            let Some(Session { id, .. }) = self.session.take() else {
                return;
            };
            // What it is told must still be written, so its transmits stay.
            self.apart_since = now;
            self.on_apart();
            self.actions.push_back(Action::Disconnect { connection: id, retry_after });
            return;
        }
        let view = hello.view;
        let Some(session) = &mut self.session else {
            return;
        };
        let first = session.peer.is_none();
        let (node, incarnation, modes) = (hello.node, hello.incarnation, hello.modes);
        let version = hello.version_max.min(*self.config.versions.end());
        session.peer = Some(hello);
        if first {
            self.event(Event::PeerConnected { node, incarnation, version });
            if modes != self.config.modes {
                self.event(Event::ModesDiffer { theirs: modes, ours: self.config.modes });
            }
        }
        if let Some(view) = view {
            self.learn(now, view);
        }
        if first {
            self.try_resume();
        }
    }

    /// In what the peer does not fit: reason, what it has, what this node has.
    fn misfit(&self, hello: &Hello) -> Option<(Refusal, u64, u64)> {
        let config = &self.config;
        let (oldest, newest) = (*config.versions.start(), *config.versions.end());
        if hello.version_min > newest || hello.version_max < oldest {
            let (theirs, ours) = (hello.version_max, newest);
            return Some((Refusal::Version, theirs.into(), ours.into()));
        }
        if hello.cluster != config.cluster {
            return Some((Refusal::Cluster, hello.cluster, config.cluster));
        }
        if hello.node != config.peer {
            return Some((Refusal::Node, hello.node.0.into(), config.peer.0.into()));
        }
        if hello.geometry_hash != config.geometry_hash {
            return Some((Refusal::Geometry, hello.geometry_hash, config.geometry_hash));
        }
        let most = config.timing.takeover_wait.as_nanos() as u64;
        if hello.lease_ns > most {
            return Some((Refusal::Lease, hello.lease_ns, most));
        }
        None
    }

    fn on_refused(&mut self, now: Tick, refuse: Refuse) {
        let reason = match refuse.reason {
            1 => Refusal::Version,
            2 => Refusal::Cluster,
            3 => Refusal::Node,
            4 => Refusal::Geometry,
            5 => Refusal::Lease,
            _ => {
                return self.on_fault(now, Fault::Unexpected { message: "an unknown refusal" });
            }
        };
        // Told from the other side: what it calls its own is what we met.
        let (theirs, ours) = (refuse.ours, refuse.theirs);
        self.event(Event::Refused { reason, theirs, ours, by_us: false });
        self.disconnect(now, self.config.timing.refused_retry);
    }
}
