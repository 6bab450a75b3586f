//! Resynchronisation, the primary's side: a transfer of state while it serves.
//!
//! ```text
//!   Start ─ (Changed) ─ chunks and batches, mixed ── SnapshotEnd ── batches ── … acked ── admitted
//!     ▲         ▲                                         ▲                      ▲
//!     │         the other's, if there is a common         │                      complete, through
//!     │         position: what it has changed since       acks are required      `through`, and all
//!     gathering is required from before here,                                    that was released
//!     so that every later commit is a batch
//! ```
//!
//! The two histories say what both states have in common. Then the chunks hold the slots that either has
//! changed since, free ones too: `incremental` if the other has changed nothing by itself, else `union`.
//! Without a common position they hold every object: `full`. No log is kept for it, so nothing grows while
//! the other is away.
//!
//! Copies and batches need no order among each other: each carries the seq of its slot's last change,
//! and an older one is not applied over a newer one. Of the same seq, the batch wins: a slot's seq is
//! raised just before its word changes, so a copy may name a commit whose effect it does not show.

use super::action::{Action, Event, Fault, Resync};
use super::config::{Limits, Mode, Mutation};
use super::core::{Core, NotShipped, Role};
use super::history::History;
use super::ids::{Seq, Tick};
use super::primary::{Link, Primary};
use super::view::Member;
use crate::wire::{self, Changed, OpenChunk, Outgoing, SnapshotEnd, Standing, Start};

impl Primary {
    pub(super) fn snapshot_room(&self, limits: &Limits) -> u32 {
        if self.link != Link::Copying {
            return 0;
        }
        let in_flight = u32::try_from(self.chunks - self.chunks_acked).unwrap_or(u32::MAX);
        limits.window_chunks.saturating_sub(in_flight)
    }
}

impl Core {
    /// Whether there is a peer to take in, were it not for the pause after an eviction.
    pub(super) fn transfer_waits(&self, primary: &Primary) -> bool {
        let Some(view) = self.view else { return false };
        let outside = view.is_solo() || self.mutated(Mutation::ShipToMember);
        // What it said of its state is of the time at which it knew this view, so it is still true.
        let wants = self.peer().is_some_and(|peer| {
            matches!(peer.standing, Standing::Joining | Standing::Backup)
                && peer.view.is_some_and(|theirs| !self.is_newer(&view, &theirs))
                || self.mutated(Mutation::ShipToMember)
        });
        // P4. The view is this primary's own: it would be fenced otherwise.
        primary.link == Link::Apart
            && outside
            && wants
            && !self.is_undetermined()
            && self.detected().is_none()
    }

    pub(super) fn begin_transfer(&mut self, now: Tick) {
        let Role::Primary(primary) = &self.role else {
            return;
        };
        if !self.transfer_waits(primary) || !primary.may_readmit(now) {
            return;
        }
        let Some(view) = self.view else { return };
        self.transfers += 1;
        let transfer = self.transfers;
        let replicates = self.config.mode == Mode::Sync;
        let theirs = self
            .peer()
            .map(|peer| History { epochs: peer.epoch_starts.clone(), end: peer.applied });
        let theirs = theirs.unwrap_or_default();
        let mut since = self.history().common(&theirs).filter(|_| replicates);
        if self.mutated(Mutation::TrustTheirEnd) {
            since = since.map(|_| theirs.end);
        }
        self.open.set_recording(replicates);
        if self.mutated(Mutation::PatchWhileCopying) {
            self.open.set_patching();
        }

        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        primary.clear_window();
        primary.link = Link::Copying;
        primary.transfer = transfer;
        primary.batched = primary.watermark;
        primary.acked = Seq::ZERO;
        primary.chunks = 0;
        primary.chunks_acked = 0;
        primary.since = since;
        primary.diverged = since.map(|_| Vec::new());
        let (table_no, prev) = (primary.tables, primary.watermark);
        self.say_hello();
        let start = Start { view, transfer, table_no, prev, since };
        self.transmit(wire::encode(Outgoing::Start(start)));
        self.event(Event::TransferStarted { resync: Resync::of(since, theirs.end), since });
        if !replicates {
            return self.close_transfer(prev);
        }
        self.actions.push_back(Action::SetGathering { required: true });
        if since.is_none() {
            self.actions.push_back(Action::StartSnapshot { since, also: Vec::new() });
        }
    }

    /// The other says what it has changed by itself.
    pub(super) fn on_changed(&mut self, now: Tick, changed: Changed) {
        let (slots, forgets) = (self.config.slots, self.mutated(Mutation::ForgetDiverged));
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        if changed.transfer != primary.transfer || primary.link != Link::Copying {
            return; // of a transfer that was given up
        }
        let Some(diverged) = &mut primary.diverged else {
            return self.on_fault(now, Fault::Unexpected { message: "changes nobody asked for" });
        };
        let sound = changed.slots.iter().all(|slot| *slot < slots)
            && diverged.len() + changed.slots.len() <= slots as usize;
        if !sound {
            return self.on_fault(now, Fault::Unexpected { message: "more slots than there are" });
        }
        diverged.extend(changed.slots);
        if changed.last {
            let mut also = primary.diverged.take().unwrap_or_default();
            if forgets {
                also.clear();
            }
            let since = primary.since;
            self.actions.push_back(Action::StartSnapshot { since, also });
        }
    }

    pub(super) fn on_chunk_offered(&mut self, mut chunk: OpenChunk) -> Result<(), NotShipped> {
        if self.mutated(Mutation::ForgetUnsent) {
            chunk.forget_packets();
        }
        let Role::Primary(primary) = &mut self.role else {
            return Err(NotShipped::NoTransfer);
        };
        if primary.link != Link::Copying {
            return Err(NotShipped::NoTransfer);
        }
        primary.chunks += 1;
        let frame = chunk.encode(primary.chunks);
        self.transmit(frame);
        Ok(())
    }

    pub(super) fn on_snapshot_finished(&mut self, through: Seq) -> Result<(), NotShipped> {
        match &self.role {
            Role::Primary(primary) if primary.link == Link::Copying => {
                self.close_transfer(through);
                Ok(())
            }
            _ => Err(NotShipped::NoTransfer),
        }
    }

    fn close_transfer(&mut self, through: Seq) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        primary.link = Link::Closing { through };
        let chunks = primary.chunks;
        let end = SnapshotEnd { chunks, through: through.raw() };
        self.transmit(wire::encode(Outgoing::SnapshotEnd(end)));
        self.event(Event::TransferSent { chunks, through });
    }

    /// The peer, if it may be admitted now (P5).
    pub(super) fn admissible(&self, primary: &Primary) -> Option<Member> {
        let Link::Closing { through } = primary.link else {
            return None;
        };
        let peer = self.peer()?;
        let member = Member { node: self.config.peer, incarnation: peer.incarnation };
        if self.detected().is_some() {
            return None;
        }
        if self.mutated(Mutation::AdmitWhileCopying) {
            return Some(member);
        }
        // `acked` counts from a complete transfer on, so it covers `through`, and the unsent packets
        // that came with the chunks.
        let complete = primary.acked >= through && primary.acked > Seq::ZERO;
        let open_gate = self.config.mode == Mode::Local
            || self.config.control.release_without_ack
            || self.mutated(Mutation::AdmitBeforeAcks);
        (complete && (open_gate || primary.acked >= primary.released)).then_some(member)
    }

    /// The connection is gone: a transfer ends, a back-up that is in sync may come back.
    pub(super) fn on_apart(&mut self) {
        let in_set = self.partner().is_some() || self.is_undetermined();
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        if in_set {
            // If the view has it or may get it, what it lacks is kept. The host still copies if it
            // was copying: it is told below.
            let copying = primary.link == Link::Copying;
            primary.link = Link::Apart;
            if copying {
                self.actions.push_back(Action::StopSnapshot);
            }
        } else {
            self.stop_shipping();
        }
    }

    /// Nobody is shipped to any more.
    pub(super) fn stop_shipping(&mut self) {
        self.open.set_recording(false);
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let link = std::mem::replace(&mut primary.link, Link::Apart);
        primary.clear_window();
        if link == Link::Copying {
            self.actions.push_back(Action::StopSnapshot);
        }
        if matches!(link, Link::Copying | Link::Closing { .. }) {
            self.event(Event::TransferStopped);
        }
        self.actions.push_back(Action::SetGathering { required: false });
    }

    /// A back-up that is still the same, and still in the view, goes on where its connection broke.
    pub(super) fn try_resume(&mut self) {
        let (Some(partner), Some(peer)) = (self.partner(), self.peer()) else {
            return;
        };
        let Role::Primary(primary) = &self.role else {
            return;
        };
        let acked = primary.window.front().map_or(primary.tables, |batch| batch.table_no - 1);
        let same = peer.incarnation == partner.incarnation
            && peer.standing == Standing::Backup
            && peer.epoch == primary.epoch
            && peer.transfer == primary.transfer;
        let held = peer.table_no;
        if !same || held < acked || held > primary.tables || primary.link != Link::Apart {
            return;
        }
        let frames: Vec<_> = primary
            .window
            .iter()
            .filter(|batch| batch.table_no > held)
            .map(|batch| batch.frame.clone())
            .collect();
        let now = self.last_input;
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        primary.link = Link::Following;
        self.open.set_patching();
        for batch in &mut primary.window {
            batch.closed_at = now; // it can be acknowledged only from now on
        }
        for frame in frames {
            self.transmit(frame);
        }
        self.event(Event::Resumed { table_no: held + 1 });
    }
}
