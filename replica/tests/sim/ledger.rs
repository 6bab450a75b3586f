//! What no participant knows and everything is checked against: all commits of all epochs, and all
//! that the outside world was told.

use std::collections::BTreeMap;

use hotpair_replica::protocol::{NodeId, Seq, View};

use super::region::{Commit, KEPT_SLOTS, Region, Slot, holds};

/// A broken promise, in words.
#[derive(Clone, Debug)]
pub(crate) struct Violation(pub String);

pub(crate) type Checked<T = ()> = Result<T, Violation>;

macro_rules! ensure {
    ($holds:expr, $($words:tt)*) => {
        if !$holds {
            return Err(Violation(format!($($words)*)));
        }
    };
}
pub(crate) use ensure;

#[derive(Debug)]
struct Epoch {
    /// Who was primary, and in which life of its process.
    primary: (NodeId, u64),
    commits: Vec<Commit>,
    /// State as of some commit of this epoch, moved forward as the back-up does.
    fold: Vec<Slot>,
    base: Vec<Slot>,
    folded: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    epochs: BTreeMap<u16, Epoch>,
    /// What left: commit and slot, with the epoch that it left in.
    outside: Vec<(u32, u32, u16)>,
    pub(crate) views: Vec<View>,
    /// Went with the arbiter's disk before anybody learned of them.
    lost: Vec<View>,
    /// Others look whether what the outside was told holds: it is written down here, and not checked.
    only_notes: bool,
}

impl Ledger {
    pub(crate) fn only_notes(&mut self) {
        self.only_notes = true;
    }

    /// G7: one primary per epoch. G5: its state contains all that was released.
    pub(crate) fn on_primary(
        &mut self,
        epoch: u16,
        node: NodeId,
        life: u64,
        region: &Region,
    ) -> Checked {
        if let Some(other) = self.epochs.get(&epoch) {
            return Err(Violation(format!(
                "epoch {epoch} has two primaries: node {}, life {}, and node {node}, life {life}",
                other.primary.0, other.primary.1
            )));
        }
        for &(id, slot, told_in) in &self.outside {
            ensure!(
                self.only_notes || told_in >= epoch || region.holds(slot, id),
                "node {node} is primary of epoch {epoch} without commit {id} of slot {slot}, \
                 which the outside was told in epoch {told_in}"
            );
        }
        self.epochs.insert(
            epoch,
            Epoch {
                primary: (node, life),
                commits: Vec::new(),
                fold: region.slots.clone(),
                base: region.slots.clone(),
                folded: 0,
            },
        );
        Ok(())
    }

    pub(crate) fn on_commit(&mut self, epoch: u16, commit: Commit) {
        if let Some(epoch) = self.epochs.get_mut(&epoch) {
            epoch.commits.push(commit);
        }
    }

    /// A packet leaves: every primary that there was since must have its commit.
    pub(crate) fn on_sent(&mut self, epoch: u16, id: u32, slot: u32) -> Checked {
        for (later, log) in self.epochs.range(epoch + 1..) {
            ensure!(
                self.only_notes || slot >= KEPT_SLOTS || holds(&log.base[slot as usize], id),
                "epoch {epoch} tells of commit {id}, but epoch {later} began without it"
            );
        }
        if slot < KEPT_SLOTS {
            self.outside.push((id, slot, epoch));
        }
        Ok(())
    }

    /// Who was primary of an epoch, and in which life of its process.
    pub(crate) fn primary_of(&self, epoch: u16) -> Option<(NodeId, u64)> {
        self.epochs.get(&epoch).map(|log| log.primary)
    }

    /// The first later epoch whose primary lacked a commit of a kept slot when it began.
    pub(crate) fn began_without(&self, epoch: u16, id: u32, slot: u32) -> Option<u16> {
        let mut later = self.epochs.range(epoch + 1..);
        let lacks = |log: &Epoch| slot < KEPT_SLOTS && !holds(&log.base[slot as usize], id);
        later.find(|(_, log)| lacks(log)).map(|(later, _)| *later)
    }

    /// Whether the outside was told of a commit.
    pub(crate) fn was_told(&self, id: u32) -> bool {
        self.outside.iter().any(|told| told.0 == id)
    }

    /// The arbiter stored a view.
    pub(crate) fn on_view(&mut self, view: View, decided: bool) -> Checked {
        if let Some(last) = self.views.last() {
            let next = view.number == last.number + 1;
            ensure!(next || decided, "view {} after {}", view.number, last.number);
            // Of an epoch that was granted and never begun, nobody may know any more.
            ensure!(
                view.epoch >= last.epoch || decided,
                "epoch {} after {}",
                view.epoch,
                last.epoch
            );
            ensure!(
                view.epoch != last.epoch || view.primary == last.primary,
                "epoch {} changes its primary",
                view.epoch
            );
            if view.epoch != last.epoch {
                let promoted = view.member(view.primary);
                ensure!(
                    promoted.is_some_and(|member| last.has(member)),
                    "node {} is promoted, but its region is not in sync: {last:?}",
                    view.primary
                );
            }
        }
        self.views.push(view);
        Ok(())
    }

    /// G5: what an in-sync back-up holds is what its primary held at that commit.
    pub(crate) fn check_prefix(
        &mut self,
        epoch: u16,
        backup: &Region,
        primary: Option<&Region>,
    ) -> Checked {
        if self.only_notes {
            return Ok(());
        }
        let Some(log) = self.epochs.get_mut(&epoch) else { return Ok(()) };
        let at = backup.applied;
        if log.folded > 0 && log.commits[log.folded - 1].seq > at {
            log.fold.clone_from(&log.base);
            log.folded = 0;
        }
        while log.commits.get(log.folded).is_some_and(|commit| commit.seq <= at) {
            let commit = &log.commits[log.folded];
            log.fold[commit.slot as usize] = commit.after.clone();
            log.folded += 1;
        }
        for (index, (held, was)) in backup.slots.iter().zip(&log.fold).enumerate() {
            ensure!(
                held.value == was.value
                    && (was.value.is_none() || held.incarnation == was.incarnation),
                "slot {index} of the back-up at {at} is {held:?}, its primary had {was:?}"
            );
        }
        for (&(seq, ordinal), id) in primary.iter().flat_map(|region| &region.packets) {
            ensure!(
                seq > at || backup.packets.contains_key(&(seq, ordinal)),
                "the back-up at {at} lacks the unsent packet {id} of commit {seq}"
            );
        }
        Ok(())
    }

    /// A node learned of a view.
    pub(crate) fn on_learned(&mut self, view: View) -> Checked {
        let last = self.newest().map_or(0, |newest| newest.number);
        if view.number <= last {
            return Ok(());
        }
        // Its answer was on the way when the arbiter lost its disk.
        ensure!(self.lost.contains(&view), "{view:?} was never granted");
        self.views.push(view);
        Ok(())
    }

    /// The arbiter lost its disk: a view later than any that a region knows may never have been.
    pub(crate) fn on_disk_lost(&mut self, learned: u64) {
        let (kept, lost) = self.views.iter().partition(|view| view.number <= learned);
        (self.views, self.lost) = (kept, lost);
    }

    /// The arbiter was told this view, and takes it for the newest.
    pub(crate) fn on_restored(&self, view: View) -> Checked {
        let newest = self.newest();
        ensure!(Some(view) == newest, "the arbiter is told of {view:?}, there was {newest:?}");
        Ok(())
    }

    /// The newest view that there is.
    pub(crate) fn newest(&self) -> Option<View> {
        self.views.last().copied()
    }

    pub(crate) fn told(&self) -> usize {
        self.outside.len()
    }

    /// Every kept commit in the final state that emitted a packet, and never left.
    pub(crate) fn never_told(&self, region: &Region) -> Vec<u32> {
        let told: std::collections::HashSet<u32> = self.outside.iter().map(|told| told.0).collect();
        let mut missing = Vec::new();
        for commit in self.epochs.values().flat_map(|epoch| &epoch.commits) {
            let Some(id) = commit.packet else { continue };
            if commit.slot < KEPT_SLOTS && region.holds(commit.slot, id) && !told.contains(&id) {
                missing.push(id);
            }
        }
        missing
    }

    pub(crate) fn commits(&self) -> usize {
        self.epochs.values().map(|epoch| epoch.commits.len()).sum()
    }

    pub(crate) fn last_seq(&self) -> Seq {
        self.epochs.values().next_back().and_then(|e| e.commits.last()).map_or(Seq::ZERO, |c| c.seq)
    }
}
