//! The back-up: what comes is handed over in order, what is applied is acknowledged.

use std::collections::VecDeque;

use super::action::{Action, Applied, Cause, Event, Fault, Receipt, Resync};
use super::config::Mutation;
use super::core::{Core, Role};
use super::history::History;
use super::ids::{Seq, Tick};
use super::unapplied::Unapplied;
use crate::wire::{
    self, Ack, BatchFrame, CHANGED_MAX, Changed, ChunkFrame, EpochStart, Outgoing, SnapshotEnd,
    Standing, Start,
};

/// What a back-up remembers.
#[derive(Debug)]
pub(super) struct Backup {
    pub(super) epoch: u16,
    pub(super) transfer: u64,
    run: u64,
    /// Received: the last table and what it ends with.
    pub(super) received_table: u64,
    pub(super) received: Seq,
    /// Handed to the host: less than received only under a deliberate delay.
    pub(super) handed: Seq,
    pub(super) applied_table: u64,
    pub(super) applied: Seq,
    chunks_received: u64,
    chunks_applied: u64,
    end: Option<SnapshotEnd>,
    /// Received and not applied, handed over or delayed.
    pub(super) unapplied: Unapplied,
    delayed: VecDeque<(Tick, BatchFrame)>,
    ack_due: bool,
    /// When the newest batch came.
    heard_at: Tick,
    /// Whether a view of this epoch had this node in it.
    pub(super) was_member: bool,
    /// The host knows that the transfer is complete: the state has the primary's history.
    pub(super) is_whole: bool,
    /// The primary's, as of the transfer's beginning.
    epochs: Vec<EpochStart>,
    since: Option<Seq>,
}

impl Backup {
    /// Whether the state is one that its primary had.
    pub(super) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| {
            self.chunks_applied == end.chunks && self.applied >= Seq::from_raw(end.through)
        })
    }

    pub(super) fn timeout(&self) -> Option<Tick> {
        self.delayed.front().map(|(due, _)| *due)
    }
}

impl Core {
    /// Why this back-up wants to take over.
    pub(super) fn backup_suspicion(&self, _backup: &Backup) -> Option<Cause> {
        self.detected().or_else(|| {
            // A primary that says it is none any more has restarted.
            let peer = self.peer()?;
            let fell = matches!(peer.standing, Standing::Starting | Standing::Joining);
            fell.then_some(Cause::NotInStep)
        })
    }

    /// The primary begins a transfer: all that this node has gives way.
    pub(super) fn on_start(&mut self, now: Tick, start: Start) {
        let view = start.view;
        self.learn(now, view);
        if self.view != Some(view) {
            return; // of a primary that does not know yet that it is superseded
        }
        let outside = !view.has(self.this()) || self.mutated(Mutation::ShipToMember);
        let free = matches!(self.role, Role::Joining | Role::Backup(_) | Role::Starting);
        if !outside || !free || view.primary != self.config.peer || self.is_undetermined() {
            return self.on_fault(now, Fault::Unexpected { message: "a transfer to a member" });
        }
        let held = self.history();
        let since = start.since;
        if since.is_some_and(|since| !held.is_known() || since > held.end) {
            return self.on_fault(now, Fault::Unexpected { message: "a transfer from nowhere" });
        }
        self.runs += 1;
        self.unsound = true; // until the transfer is whole
        let epochs = self.peer().map(|peer| peer.epoch_starts.clone()).unwrap_or_default();
        let diverged = held.is_known() && since.is_none_or(|since| held.end > since);
        match since {
            // What it keeps of its history until the transfer is whole (P7).
            Some(since) => self.history.end = since,
            None => self.history = History::default(),
        }
        if self.mutated(Mutation::HistoryBeforeWhole) {
            self.history = History { epochs: epochs.clone(), end: start.prev };
        }
        self.role = Role::Backup(Backup {
            epoch: view.epoch,
            transfer: start.transfer,
            run: self.runs,
            received_table: start.table_no,
            received: start.prev,
            handed: start.prev,
            applied_table: start.table_no,
            applied: start.prev,
            chunks_received: 0,
            chunks_applied: 0,
            end: None,
            unapplied: Unapplied::default(),
            delayed: VecDeque::new(),
            ack_due: false,
            heard_at: Tick::ZERO,
            was_member: false,
            is_whole: false,
            epochs,
            since,
        });
        let resync = Resync::of(since, held.end);
        self.event(Event::Resyncing { resync, since, held: held.end });
        let receipt = Receipt { run: self.runs, what: Applied::Start };
        let epoch = view.epoch;
        self.actions.push_back(Action::BecomeBackup { epoch, since, diverged, receipt });
    }

    /// Tells the primary what this node has changed by itself, whatever that was.
    pub(super) fn on_rewound(&mut self, receipt: Receipt, slots: &[u32]) {
        let Role::Backup(backup) = &self.role else {
            return;
        };
        if receipt.run != backup.run || backup.since.is_none() {
            return;
        }
        let transfer = backup.transfer;
        let mut parts = slots.chunks(CHANGED_MAX).peekable();
        loop {
            let slots = parts.next().unwrap_or_default().to_vec();
            let last = parts.peek().is_none();
            let changed = Changed { transfer, slots, last };
            self.transmit(wire::encode(Outgoing::Changed(&changed)));
            if last {
                return;
            }
        }
    }

    pub(super) fn on_batch(&mut self, now: Tick, batch: BatchFrame) {
        let delay = self.config.control.ack_delay;
        // What a former primary still had on its way to a node that has moved on.
        let Role::Backup(backup) = &mut self.role else {
            return;
        };
        if batch.epoch != backup.epoch {
            let (expected, found) = (backup.epoch, batch.epoch);
            return self.on_fault(now, Fault::Epoch { expected, found });
        }
        if batch.table_no <= backup.received_table {
            backup.ack_due = true;
            return; // sent again after a connection broke
        }
        let expected = backup.received_table.saturating_add(1);
        if batch.table_no != expected || batch.prev != backup.received || batch.last < batch.prev {
            let found = batch.table_no;
            return self.on_fault(now, Fault::Gap { expected, found });
        }
        if let Err(fault) = backup.unapplied.take(&batch, &self.config.limits) {
            return self.on_fault(now, fault);
        }
        backup.received_table = batch.table_no;
        backup.received = batch.last;
        backup.heard_at = now;
        if !delay.is_zero() {
            backup.delayed.push_back((now.after(delay), batch));
            return;
        }
        self.hand_over(batch);
    }

    fn hand_over(&mut self, batch: BatchFrame) {
        let hasty = self.mutated(Mutation::AckBeforeApply);
        let Role::Backup(backup) = &mut self.role else {
            return;
        };
        backup.handed = batch.last;
        let receipt = Receipt { run: backup.run, what: Applied::Table(batch.table_no) };
        self.actions.push_back(Action::ApplyBatch(batch, receipt));
        if hasty {
            self.on_applied(receipt, None);
        }
    }

    pub(super) fn on_chunk(&mut self, now: Tick, chunk: ChunkFrame) {
        let window = self.config.limits.window_chunks;
        let Role::Backup(backup) = &mut self.role else {
            return;
        };
        if chunk.chunk_no != backup.chunks_received + 1 || backup.end.is_some() {
            return self.on_fault(now, Fault::Unexpected { message: "a chunk out of turn" });
        }
        let (found, most) = (backup.chunks_received + 1 - backup.chunks_applied, window.into());
        if found > most {
            return self.on_fault(now, Fault::Beyond { what: "chunks", found, most });
        }
        backup.chunks_received += 1;
        let receipt = Receipt { run: backup.run, what: Applied::Chunk(chunk.chunk_no) };
        self.actions.push_back(Action::ApplyChunk(chunk, receipt));
    }

    pub(super) fn on_snapshot_end(&mut self, now: Tick, end: SnapshotEnd) {
        let Role::Backup(backup) = &mut self.role else {
            return;
        };
        if end.chunks != backup.chunks_received || backup.end.is_some() {
            return self.on_fault(now, Fault::Unexpected { message: "an end out of turn" });
        }
        backup.end = Some(end);
        backup.ack_due = true;
    }

    pub(super) fn on_applied(&mut self, receipt: Receipt, digest: Option<u64>) {
        let Role::Backup(backup) = &mut self.role else {
            return;
        };
        if receipt.run != backup.run {
            return;
        }
        backup.ack_due = true;
        let table_no = match receipt.what {
            Applied::Start => return,
            Applied::Chunk(chunk_no) => {
                backup.chunks_applied = backup.chunks_applied.max(chunk_no);
                return;
            }
            Applied::Table(table_no) => table_no,
        };
        let mut differs = None;
        while let Some(table) = backup.unapplied.applied(table_no) {
            backup.applied_table = table.table_no;
            backup.applied = table.last;
            if table.table_no == table_no
                && let (Some(ours), Some(theirs)) = (digest, table.digest)
                && ours != theirs
            {
                differs = Some(Event::DigestDiffers { seq: table.last, ours, theirs });
            }
        }
        if let Some(event) = differs
            && backup.is_complete()
        {
            // It leaves the set first: the primary sees it join, goes solo, and ships all anew.
            self.event(event);
            self.distrust();
        }
    }

    pub(super) fn on_apply_failed(&mut self, now: Tick) {
        if matches!(self.role, Role::Backup(_)) {
            self.distrust();
            self.on_fault(now, Fault::NotApplied);
        }
    }

    /// No ack leaves from now on, not even one that was ready (P3).
    pub(super) fn withdraw_ack(&mut self) {
        self.withdraw_datagrams();
        if let Role::Backup(backup) = &mut self.role {
            backup.ack_due = false;
        }
    }

    pub(super) fn settle_backup(&mut self, now: Tick) {
        while let Role::Backup(backup) = &mut self.role
            && backup.delayed.front().is_some_and(|(due, _)| now >= *due)
        {
            let Some((_, batch)) = backup.delayed.pop_front() else {
                break;
            };
            self.hand_over(batch);
        }
        self.note_whole();
        self.send_ack(now);
    }

    /// The host learns that the transfer is whole, before any ack says so.
    fn note_whole(&mut self) {
        let Role::Backup(backup) = &mut self.role else {
            return;
        };
        if backup.is_whole || !backup.is_complete() {
            return;
        }
        backup.is_whole = true;
        self.unsound = false;
        let epochs = std::mem::take(&mut backup.epochs);
        self.history = History { epochs: epochs.clone(), end: backup.applied };
        self.actions.push_back(Action::Whole { epochs });
    }

    fn send_ack(&mut self, now: Tick) {
        let silent = self.is_undetermined() && !self.mutated(Mutation::AckWhilePromoting);
        let connected = self.peer().is_some();
        let incarnation = self.config.incarnation;
        let Role::Backup(backup) = &mut self.role else {
            return;
        };
        if silent || !connected || !backup.ack_due {
            return;
        }
        backup.ack_due = false;
        let ack = Ack {
            epoch: backup.epoch,
            transfer: backup.transfer,
            table_no: backup.applied_table,
            applied: backup.applied.raw(),
            chunks: backup.chunks_applied,
            incarnation,
            complete: backup.is_complete(),
            needed_ns: now.since(backup.heard_at).as_nanos() as u64,
        };
        let datagram = wire::encode_datagram(&ack);
        self.promise();
        self.transmit_datagram(datagram);
    }
}
