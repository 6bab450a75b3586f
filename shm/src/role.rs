//! Changing role: promotion, fencing, and making a region empty again. For the node alone.
//!
//! ```text
//!           begin_change          quiesce, (wipe)        settle_as
//!   any ───────────────► Changing ───────────────► quiet ─────────► Primary / Backup / Fenced
//!           (one swap)              everybody let go
//! ```
//!
//! Whoever holds a claim, an ingest or a packet under an older role word has declared it in its seat
//! (`active`). The changer waits until all of them have let go, and the caller kills those that do not
//! within a bound. Nothing of an older role can commit meanwhile: a commit reads the role after it went
//! to Drawing, and the changer aborts what is undecided after it changed the role.

use std::time::Duration;

use crate::claim::give_back;
use crate::inbox;
use crate::map::Map;
use crate::participant::{Participant, SeatState, SeatWord};
use crate::pool;
use crate::process::monotonic_ns;
use crate::region::{PortId, Region, random};
use crate::sync::Ordering;
use crate::words::{
    BlockState, BlockWord, BucketWord, EntryState, EntryWord, InboxWord, Role, RoleEpoch, Seq,
    SlotState, SlotWord,
};

/// A participant that still holds something of an older role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdout {
    /// Its seat.
    pub seat: u8,
    /// Its process.
    pub pid: u32,
}

impl Region {
    /// Leaves the present role: from now on nobody begins anything, and nothing undecided commits.
    pub fn begin_change(&self, epoch: u16) {
        self.swap_role(Role::Changing, epoch);
        self.abort_undecided();
        self.ring_all(); // who sleeps over what it holds lets go
    }

    pub(crate) fn swap_role(&self, role: Role, epoch: u16) {
        let word = &self.header().role.word;
        let mut seen = RoleEpoch(word.load(Ordering::SeqCst));
        // ORDER role/1 SeqCst, pairs with role/2; before the swap of role/4 and the looks of active/2.
        while let Err(now) = word.compare_exchange(
            seen.0,
            seen.next(role, epoch).0,
            Ordering::SeqCst,
            Ordering::SeqCst,
        ) {
            seen = RoleEpoch(now);
        }
    }

    fn abort_undecided(&self) {
        let map: &Map = &self.map;
        // ORDER role/4 SeqCst, pairs with role/3, draw/1 and entry/1: a swap that changes nothing. Who draws
        // after it sees the new role; who drew before it is seen below.
        map.header().commit_seq.word.fetch_add(0, Ordering::SeqCst);
        for seat in 0..map.geometry().participants as u8 {
            let Some(row) = map.participant(seat) else {
                continue;
            };
            let Some(position) = row.next_position.load(Ordering::SeqCst).checked_sub(1) else {
                continue;
            };
            let Some(entry) = map.entry(seat, position) else {
                continue;
            };
            let mut seen = EntryWord(entry.word.load(Ordering::SeqCst));
            while seen.position() == position && seen.state() == Some(EntryState::Drawing) {
                let aborted = seen.with(EntryState::Aborted);
                match entry.word.compare_exchange(
                    seen.0,
                    aborted.0,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                ) {
                    Ok(_) => break,
                    Err(now) => seen = EntryWord(now),
                }
            }
        }
    }

    /// Who still holds something of an older role. Empty: the region is quiet.
    pub fn holdouts(&self) -> Vec<Holdout> {
        let role = self.role();
        let seats = 0..self.geometry().participants as u8;
        seats
            .filter_map(|seat| {
                let row = self.map.participant(seat)?;
                let word = SeatWord(row.word.load(Ordering::Acquire));
                // ORDER active/2 SeqCst, pairs with active/1 and active/3.
                let active = row.active.load(Ordering::SeqCst);
                let live = word.state() == Some(SeatState::Live) && !row.lock.owner_died();
                (live && active != 0 && active != role.0)
                    .then_some(Holdout { seat, pid: word.pid() })
            })
            .collect()
    }

    /// Who reads values in place: to be waited for before the region is emptied.
    fn readers(&self) -> Vec<Holdout> {
        let seats = 0..self.geometry().participants as u8;
        seats
            .filter_map(|seat| {
                let row = self.map.participant(seat)?;
                let word = SeatWord(row.word.load(Ordering::Acquire));
                let live = word.state() == Some(SeatState::Live) && !row.lock.owner_died();
                // ORDER hazard/2 Acquire, pairs with hazard/5.
                let reads = row.hazards.iter().any(|cell| cell.load(Ordering::Acquire) != 0);
                (live && reads).then_some(Holdout { seat, pid: word.pid() })
            })
            .collect()
    }

    /// Waits until the region is quiet, at most for `bound`; returns who is left then.
    pub fn quiesce(&self, bound: Duration) -> Vec<Holdout> {
        self.wait_for(bound, Self::holdouts)
    }

    /// Waits until nobody reads in place, at most for `bound`; returns who is left then. Before the region is
    /// emptied: what is being read must not be recycled.
    pub fn quiesce_readers(&self, bound: Duration) -> Vec<Holdout> {
        self.wait_for(bound, Self::readers)
    }

    fn wait_for(&self, bound: Duration, who: fn(&Self) -> Vec<Holdout>) -> Vec<Holdout> {
        let begun = monotonic_ns();
        loop {
            let left = who(self);
            if left.is_empty() || monotonic_ns() - begun > bound.as_nanos() as u64 {
                return left;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Begins to serve: the last step of a promotion, or of a first start. Wakes everybody.
    ///
    /// `released` is left as it was: raising it is the protocol's decision.
    pub fn become_primary(&self, epoch: u16) {
        let header = self.header();
        let start = Seq::new(epoch, 0).to_bits();
        // Nobody draws while the role is not Primary, so plain maxima are enough.
        header.commit_seq.word.fetch_max(start, Ordering::SeqCst);
        header.gathered.word.fetch_max(start, Ordering::SeqCst);
        self.swap_role(Role::Primary, epoch);
        self.ring_all();
    }

    /// Begins to follow.
    pub fn become_backup(&self, epoch: u16) {
        self.swap_role(Role::Backup, epoch);
        self.ring_all();
    }

    /// Stops serving because another node is primary of `epoch`.
    pub fn become_fenced(&self, epoch: u16) {
        self.begin_change(epoch);
        self.swap_role(Role::Fenced, epoch);
        self.ring_all();
    }

    /// Opens the output gate up to `seq` and wakes the ports that wait for it.
    pub fn raise_released(&self, seq: Seq) {
        // ORDER released/1 SeqCst, pairs with released/2: ports sleep over this word (bell/3).
        let before = self.header().released.word.fetch_max(seq.to_bits(), Ordering::SeqCst);
        if before < seq.to_bits() {
            // ORDER bell/3 is the maximum above, pairs with bell/5.
            for port in (0..self.geometry().ports.len() as u8).map(PortId) {
                // One that waits for nobody was told when its packet was committed.
                if !self.waits_for_nobody(port) {
                    self.ring(crate::bell::Bell::Port(port));
                }
            }
        }
    }

    /// Whether only the node may make room in the rings (`true`: nothing may be overwritten before the
    /// node has copied it).
    pub fn set_gathering(&self, required: bool) {
        // ORDER gathering/1 SeqCst, pairs with gathering/2: who still reads the old word here has computed what
        // it raises `gathered` to from commits that were decided before.
        self.header().gathering.store(required.into(), Ordering::SeqCst);
    }

    /// Makes the region empty and gives it a new incarnation; see [`empty`](Self::empty).
    pub fn wipe(&self) -> std::io::Result<u64> {
        // First: who dies half-way leaves a region that no view counts on.
        let incarnation = random()?;
        self.header().incarnation.word.store(incarnation, Ordering::SeqCst);
        self.empty();
        Ok(incarnation)
    }

    /// Makes the region empty, under the incarnation that it has: for a node that no view counts on and
    /// that is about to be sent all state. Only while it is quiet: the role is Changing and there are no
    /// holdouts. What other processes hold privately stays theirs.
    pub fn empty(&self) {
        let map: &Map = &self.map;
        for queue in 0..map.geometry().queues.len() as u8 {
            for lane in (0..map.lane_count(queue)).filter_map(|lane| map.lane(queue, lane)) {
                while lane.pop().is_some() {}
            }
        }
        for index in 0..map.layout().bucket_count {
            if let Some(head) = map.bucket_at(index) {
                let seen = BucketWord(head.load(Ordering::SeqCst));
                if seen.first().is_some() || seen.owner() != 0 {
                    head.store(seen.next(None, 0).0, Ordering::SeqCst);
                }
            }
        }
        for slot in 0..map.geometry().slots {
            let Some(row) = map.slot(slot) else { continue };
            let seen = SlotWord(row.word.load(Ordering::SeqCst));
            row.left_hint.store(0, Ordering::Relaxed);
            if seen.is(SlotState::Free) {
                // A change that only this region had must not outrank the state that comes.
                row.last_seq.store(0, Ordering::Relaxed);
            }
            if seen.is(SlotState::Free) || seen.is(SlotState::Reserved) {
                continue;
            }
            let free = seen.next(SlotState::Free, 0, None);
            if row
                .word
                .compare_exchange(seen.0, free.0, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
            {
                let closed = InboxWord::new(row.incarnation.load(Ordering::Relaxed), true, 0, None);
                row.inbox.store(closed.0, Ordering::SeqCst);
                row.last_seq.store(0, Ordering::Relaxed);
                pool::hint_free_slot(map, slot);
            }
        }
        for index in 0..map.block_count() {
            let Some(block) = map.block(index) else {
                continue;
            };
            let seen = BlockWord(block.row.word.load(Ordering::Acquire));
            if matches!(
                seen.state(),
                Some(
                    BlockState::Value
                        | BlockState::Linked
                        | BlockState::Taken
                        | BlockState::Emitted
                        | BlockState::Sent
                        | BlockState::Dropped
                )
            ) {
                pool::free_block(map, index, seen);
            }
        }
        self.set_history(&[]);
        self.close_gates();
        self.header().released.word.store(0, Ordering::SeqCst);
        self.header().gathered.word.store(0, Ordering::SeqCst);
        self.header().commit_seq.word.store(0, Ordering::SeqCst);
    }

    /// Takes claims that a process left standing when the region was not primary any more: after the
    /// region is quiet there can be none but of the dead, whom the reaper has not reached yet.
    pub fn void_claims(&self) {
        for slot in 0..self.geometry().slots {
            let Some(row) = self.map.slot(slot) else {
                continue;
            };
            let seen = SlotWord(row.word.load(Ordering::SeqCst));
            if seen.is(SlotState::Claimed) {
                give_back(self, slot, seen, false, false);
                inbox::prune(&self.map, slot);
            }
            // Neither key nor value: its packet was with the server that is gone. Whoever claims it ends it.
            let seen = SlotWord(row.word.load(Ordering::SeqCst));
            if seen.is(SlotState::Idle)
                && seen.block().is_none()
                && !inbox::has_waiting(&self.map, slot)
            {
                let queued = seen.next(SlotState::Queued, 0, None);
                // ORDER slot/1 SeqCst, pairs with slot/1. The region is quiet.
                if row
                    .word
                    .compare_exchange(seen.0, queued.0, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
                {
                    self.hint(slot, row);
                }
            }
        }
    }
}

impl Participant {
    /// The bell of the node; see [`Participant::arm_bell`].
    pub fn node_bell(&self) -> crate::bell::Bell {
        crate::bell::Bell::Node
    }
}
