//! The reaper: hands on what the dead have left, once the kernel has confirmed their death.
//!
//! Order for each dead participant: entries (finish what is committed, abort the rest), the message it was
//! linking, its claims, its blocks and slots; its seat last, so that a reaper that dies half-way is
//! continued by the next. Every step is a swap from a word that names the dead, or is repeated harmlessly.

use std::collections::HashMap;
use std::time::Duration;

use crate::bell::{self, Bell};
use crate::claim::{GivenBack, give_back_quietly};
use crate::counters::Counter;
use crate::egress;
use crate::events::Source;
use crate::inbox;
use crate::index;
use crate::layout::ParticipantRow;
use crate::letter;
use crate::map::Map;
use crate::object::release_reserved;
use crate::participant::{Kind, SeatState, SeatWord};
use crate::pool;
use crate::process::{self, Life, monotonic_ns};
use crate::reading::{self, Hazards};
use crate::region::{PortId, QueueId, Region};
use crate::robust;
use crate::sync::Ordering;
use crate::tx;
use crate::words::{
    BlockState, BlockWord, BucketWord, EntryState, EntryWord, InboxWord, SlotState, SlotWord,
};

/// A process may take this long between taking a seat and sitting on it.
const JOIN_MAX: Duration = Duration::from_secs(5);

/// How often processes are checked that neither the kernel nor they themselves have announced.
const PATROL: Duration = Duration::from_secs(1);

/// What one pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Dead or departed participants whose claims are ready again: seat, pid, kind.
    pub participants: Vec<(u8, u32, Option<Kind>)>,
    /// Claims made ready again.
    pub claims: u32,
    /// Seats that could not be freed yet, because something of theirs is still needed.
    pub unfinished: u32,
}

/// Watches the participants of a region. Normally in the node; anybody may do its work.
pub struct Reaper {
    region: Region,
    /// Seats in `Joining`, and since when.
    joining: HashMap<u8, (u64, u64)>,
    /// Seats whose death is confirmed and whose claims are handed on, but not yet all of the rest.
    pending: Vec<(u8, SeatWord)>,
    patrolled: u64,
}

impl Reaper {
    /// A reaper that has seen nothing yet.
    pub fn new(region: Region) -> Self {
        Self { region, joining: HashMap::new(), pending: Vec::new(), patrolled: 0 }
    }

    /// Sleeps until the kernel announces a death, at most for `timeout`.
    pub fn wait(&self, timeout: Duration) -> bool {
        if !self.pending.is_empty() {
            std::thread::sleep(timeout.min(Duration::from_millis(1)));
            return true;
        }
        let seats = 0..self.region.geometry().participants as u8;
        let places: Vec<_> = seats
            .filter_map(|seat| {
                let row = self.region.map.participant(seat)?;
                let word = SeatWord(row.word.load(Ordering::Acquire));
                (word.state() == Some(SeatState::Live)).then_some(&row.lock)
            })
            .collect();
        robust::wait_for_death(&places, timeout)
    }

    /// Looks at every seat once and hands on what the dead have left.
    pub fn run_once(&mut self) -> Reaped {
        let region = self.region.clone();
        let mut reaped = Reaped::default();
        let Some(_alone) = region.header().reap_lock.try_guard() else {
            return reaped; // another reaper is at it
        };
        let now = monotonic_ns();
        let patrol = now - self.patrolled > PATROL.as_nanos() as u64;
        if patrol {
            self.patrolled = now;
        }
        for seat in 0..region.geometry().participants as u8 {
            if self.is_gone(seat, patrol, now) {
                self.hand_on(seat, &mut reaped);
            }
        }
        self.clean(&mut reaped);
        reaped
    }

    /// Whether this reaper has handed on what everybody had whose death is announced: their commits are finished or
    /// undone, their claims are free. Their seats may still be needed, for blocks that wait to be gathered.
    pub fn has_handed_on(&self) -> bool {
        let seats = 0..self.region.geometry().participants as u8;
        seats.filter(|seat| !self.pending.iter().any(|(at, _)| at == seat)).all(|seat| {
            self.region.map.participant(seat).is_none_or(|row| {
                let word = SeatWord(row.word.load(Ordering::Acquire));
                word.state() != Some(SeatState::Live) || !row.lock.owner_died()
            })
        })
    }

    fn is_gone(&mut self, seat: u8, patrol: bool, now: u64) -> bool {
        let Some(row) = self.region.map.participant(seat) else {
            return false;
        };
        let word = SeatWord(row.word.load(Ordering::Acquire));
        if self.pending.iter().any(|&(at, _)| at == seat) {
            return false;
        }
        let dead = |start| process::life_of(word.pid(), start) == Life::Dead;
        match word.state() {
            Some(SeatState::Left) => true,
            Some(SeatState::Live) => {
                let announced = row.lock.owner_died();
                let start = row.start_time.load(Ordering::Relaxed);
                (announced || patrol)
                    && (dead(start) || patrol && has_moved_on(&self.region, word.pid()))
            }
            Some(SeatState::Joining) => {
                let since = match self.joining.get(&seat) {
                    Some(&(seen, since)) if seen == word.0 => since,
                    _ => {
                        self.joining.insert(seat, (word.0, now));
                        now
                    }
                };
                // No start time yet, so a reused pid cannot be told apart at once.
                let late = now - since > JOIN_MAX.as_nanos() as u64;
                dead(0) || late && has_moved_on(&self.region, word.pid())
            }
            _ => false,
        }
    }

    /// The urgent part: entries, the message in the air, claims.
    fn hand_on(&mut self, seat: u8, reaped: &mut Reaped) {
        let region = &self.region;
        let Some(row) = region.map.participant(seat) else {
            return;
        };
        let word = SeatWord(row.word.load(Ordering::Acquire));
        reading::forget(&region.map, seat);
        finish_entries(region, seat, row);
        letter::offer_again(region, row);
        let mut handed_on = 0;
        for hint in &row.claims {
            if let Some(slot) = hint.load(Ordering::Relaxed).checked_sub(1) {
                handed_on += u32::from(reclaim_slot(region, seat, slot));
            }
        }
        reaped.claims += handed_on;
        let participants = u32::from(region.geometry().participants);
        for queue in (0..region.geometry().queues.len() as u8).map(QueueId) {
            bell::disarm(&region.map, Bell::Queue(queue), seat);
            // After all hints: a worker that is woken by the first takes the processor from the reaper.
            // ORDER bell/3 are the lanes' cells, pairs with bell/5.
            (0..handed_on.min(participants)).for_each(|_| region.ring(Bell::Queue(queue)));
        }
        for port in 0..region.geometry().ports.len() as u8 {
            bell::disarm(&region.map, Bell::Port(PortId(port)), seat);
        }
        bell::disarm(&region.map, Bell::Node, seat);
        let kind = Kind::from_bits(row.kind.load(Ordering::Relaxed));
        if kind == Some(Kind::Node) {
            let node = &region.header().node_seat;
            let _ =
                node.compare_exchange(u32::from(seat) + 1, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
        reaped.participants.push((seat, word.pid(), kind));
        self.pending.push((seat, word));
    }

    /// The rest: everything else that names a dead seat, in one walk for all of them.
    fn clean(&mut self, reaped: &mut Reaped) {
        if self.pending.is_empty() {
            return;
        }
        let region = self.region.clone();
        let owners: u64 = self.pending.iter().fold(0, |bits, &(seat, _)| bits | 1 << seat);
        // An owner beyond the last seat is nobody's: no correct process wrote it.
        let is_dead = |owner: u8| {
            let seat = owner.checked_sub(1);
            seat.and_then(|seat| owners.checked_shr(seat.into())).is_some_and(|bits| bits & 1 == 1)
        };
        let mut kept: u64 = 0;
        for slot in 0..region.geometry().slots {
            give_way(slot);
            let Some(row) = region.map.slot(slot) else {
                continue;
            };
            let word = SlotWord(row.word.load(Ordering::Acquire));
            if !is_dead(word.owner()) {
                continue;
            }
            match word.state() {
                Some(SlotState::Claimed) if reclaim_slot(&region, word.owner() - 1, slot) => {
                    reaped.claims += 1;
                    // ORDER bell/3 is the lane's cell, pairs with bell/5.
                    region.ring_queue_of(row);
                }
                Some(SlotState::Reserved) => release_reserved(&region, slot, word),
                _ => {}
            }
        }
        for &(seat, _) in &self.pending {
            if let Some(row) = region.map.participant(seat)
                && !settle_linking(&region, seat, row)
            {
                kept |= 1 << seat;
            }
        }
        let gathered = crate::gather::raise_if_free(&region).to_bits();
        let header = region.header();
        reading::order_after(header);
        let hazards = Hazards::now(&region.map, reading::readers(header));
        let mut restore = false;
        for index in 0..region.map.block_count() {
            give_way(index);
            let Some(block) = region.map.block(index) else {
                continue;
            };
            let word = BlockWord(block.row.word.load(Ordering::Acquire));
            if !is_dead(word.owner()) {
                continue;
            }
            let bit = 1 << (word.owner() - 1);
            match word.state() {
                Some(BlockState::Cached | BlockState::Private) => {
                    pool::free_block(&region.map, index, word);
                }
                Some(BlockState::Retired)
                    if block.row.seq.load(Ordering::Relaxed) <= gathered
                        && !hazards.name(index) =>
                {
                    pool::free_block(&region.map, index, word);
                }
                Some(BlockState::Sending) => {
                    let back = word.next(BlockState::Emitted, 0, word.home());
                    let _ = block.row.word.compare_exchange(
                        word.0,
                        back.0,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                    restore = true;
                }
                Some(BlockState::Linking) => kept |= bit,
                // Its object was claimed by the dead and is given back with the next pass.
                Some(BlockState::Taken) => {
                    inbox::mark(&region.map, index, word, BlockState::Linked, 0);
                    region.look_again(word.home());
                }
                Some(BlockState::Retired) => kept |= bit,
                _ => {}
            }
        }
        let ports = self.pending.iter().any(|&(seat, _)| {
            region
                .map
                .participant(seat)
                .is_some_and(|row| row.kind.load(Ordering::Relaxed) == Kind::Port as u32)
        });
        if restore || ports {
            egress::restore_hints(&region);
            // ORDER bell/3 are the rings' cells, pairs with bell/5.
            for port in 0..region.geometry().ports.len() as u8 {
                region.ring(Bell::Port(PortId(port)));
            }
        }
        pool::restore_hints(&region.map);
        self.pending.retain(|&(seat, word)| {
            if kept >> seat & 1 == 1 {
                reaped.unfinished += 1;
                return true;
            }
            if let Some(row) = region.map.participant(seat) {
                row.active.store(0, Ordering::SeqCst);
                let free = word.with(SeatState::Free);
                // ORDER seat/3 AcqRel, pairs with seat/4.
                let _ =
                    row.word.compare_exchange(word.0, free.0, Ordering::AcqRel, Ordering::Relaxed);
            }
            false
        });
    }
}

/// Lets whoever was woken by what was handed on have the processor, before a long walk and again and again in it:
/// a worker that shares it with the reaper waited for a whole time slice, 4 ms of 5 from a death to the last claim.
fn give_way(at: u32) {
    if at.is_multiple_of(1 << 14) {
        std::thread::yield_now();
    }
}

/// A process that did `exec`, or another process of the same pid: the region is not its business.
pub(crate) fn has_moved_on(region: &Region, pid: u32) -> bool {
    let inode = region.inode();
    inode != 0 && !process::maps_file(pid, inode)
}

/// Finishes what the dead had committed and aborts what it had not.
fn finish_entries(region: &Region, seat: u8, row: &ParticipantRow) {
    let map: &Map = &region.map;
    let end = row.next_position.load(Ordering::SeqCst);
    // Only its latest entry can be unfinished: a participant finishes one before it begins the next.
    let Some(position) = end.checked_sub(1) else {
        return;
    };
    let Some(entry) = map.entry(seat, position) else {
        return;
    };
    let mut word = EntryWord(entry.word.load(Ordering::SeqCst));
    if word.position() != position {
        return;
    }
    if word.state() == Some(EntryState::Drawing) {
        let aborted = word.with(EntryState::Aborted);
        word = match entry.word.compare_exchange(
            word.0,
            aborted.0,
            Ordering::SeqCst,
            Ordering::SeqCst,
        ) {
            Ok(_) => aborted,
            Err(now) => EntryWord(now),
        };
    }
    match word.state() {
        Some(EntryState::Committed) => {
            // ORDER entry/4 SeqCst (the load or the lost swap above), pairs with entry/2 and entry/3.
            let seq = entry.seq.load(Ordering::Relaxed);
            tx::apply(map, seq, tx::steps_of(entry), tx::By::Reaper);
            tx::publish_hints(region, tx::steps_of(entry), tx::By::Reaper);
            // ORDER entry/3 Release, pairs with entry/4.
            entry.word.store(word.with(EntryState::Applied).0, Ordering::Release);
        }
        Some(EntryState::Aborted) => undo_reservations(map, seat),
        _ => {}
    }
}

/// Frees every bucket that an aborted entry of `seat` still holds.
fn undo_reservations(map: &Map, seat: u8) {
    for bucket in 0..map.layout().bucket_count {
        let Some(head) = map.bucket_at(bucket) else {
            continue;
        };
        let word = BucketWord(head.load(Ordering::Relaxed));
        if word.owner() == seat + 1 {
            index::settle(map, bucket, word, true);
        }
    }
}

/// Makes a slot that the dead had claimed ready again, in its lane; true if it was one. The caller rings.
fn reclaim_slot(region: &Region, seat: u8, slot: u32) -> bool {
    let Some(row) = region.map.slot(slot) else {
        return false;
    };
    let word = SlotWord(row.word.load(Ordering::Acquire));
    if !word.is(SlotState::Claimed) || word.owner() != seat + 1 {
        return false;
    }
    inbox::prune(&region.map, slot);
    // Whether it was ready without a message is not known any more: it is tried again.
    match give_back_quietly(region, slot, word, true, true) {
        GivenBack::Parked => {
            region.note_parked(Source::Node, slot);
            if let Some(row) = region.map.participant(seat) {
                row.counters[Counter::Parked as usize].fetch_add(1, Ordering::Relaxed);
            }
        }
        GivenBack::Ready => drop(region.hint_quietly(slot, row)),
        GivenBack::Idle => region.look_again(slot),
    }
    true
}

/// Settles the message that the dead was linking. False: its object is claimed now, look again later.
fn settle_linking(region: &Region, seat: u8, row: &ParticipantRow) -> bool {
    let map: &Map = &region.map;
    // ORDER linking/2 Acquire, pairs with linking/1.
    let hint = row.linking.load(Ordering::Acquire);
    let Some(index) = (hint as u32).checked_sub(1) else {
        return true;
    };
    let slot = (hint >> 32) as u32;
    let (Some(block), Some(slot_row)) = (map.block(index), map.slot(slot)) else {
        return true;
    };
    let word = BlockWord(block.row.word.load(Ordering::Acquire));
    if !word.is(BlockState::Linking) || word.owner() != seat + 1 || word.home() != slot {
        return true;
    }
    let seen = SlotWord(slot_row.word.load(Ordering::Acquire));
    match seen.state() {
        Some(SlotState::Idle | SlotState::Queued | SlotState::Ready | SlotState::Parked) => {}
        Some(SlotState::Claimed) => return false,
        // The object is gone, and its inbox was empty: the message never got in.
        _ => return pool::free_block(map, index, word),
    }
    // Under a claim of the dead seat the chain stands still, but for pushes. (A reaper that dies here is
    // continued by the next: the slot is then found as a claim of this seat.)
    let mine = seen.next(SlotState::Claimed, seat + 1, seen.block());
    if slot_row.word.compare_exchange(seen.0, mine.0, Ordering::SeqCst, Ordering::Relaxed).is_err()
    {
        return false;
    }
    // Taken, worked on and given back between the two looks: then it was in the inbox.
    let still = BlockWord(block.row.word.load(Ordering::Acquire)) == word;
    let head = InboxWord(slot_row.inbox.load(Ordering::SeqCst));
    let incarnation = block.row.incarnation.load(Ordering::Relaxed);
    let there = inbox::Chain::of(map, head).any(|(at, _)| at == index);
    if still {
        if there || inbox::push(map, slot, incarnation, index).is_ok() {
            let dropped = inbox::drop_oldest(map, slot);
            if dropped > 0 {
                row.counters[Counter::DroppedOldest as usize].fetch_add(dropped, Ordering::Relaxed);
            }
            inbox::mark(map, index, word, BlockState::Linked, 0);
        } else {
            pool::free_block(map, index, word);
        }
    }
    // A hint may have been taken and dropped meanwhile: it is given again.
    let state = match seen.state() {
        Some(state @ (SlotState::Ready | SlotState::Parked)) => state,
        _ => SlotState::Idle,
    };
    let after = mine.next(state, 0, seen.block());
    // ORDER ready/3 SeqCst, pairs with ready/2: the look below comes after.
    let _ = slot_row.word.compare_exchange(mine.0, after.0, Ordering::SeqCst, Ordering::Relaxed);
    row.linking.store(0, Ordering::Release);
    if state == SlotState::Ready {
        region.hint(slot, slot_row);
    }
    region.look_again(slot);
    true
}

/// Offers what is ready and has been in no lane for two sweeps: repairs hints lost to a death or a full lane.
pub struct Sweeper {
    region: Region,
    /// The slot that is looked at next.
    next: u32,
    /// Slot words that were ready in the last round, and in this one so far.
    ready: HashMap<u32, u64>,
    found: HashMap<u32, u64>,
}

impl Sweeper {
    /// A sweeper that has seen nothing yet.
    pub fn new(region: Region) -> Self {
        Self { region, next: 0, ready: HashMap::new(), found: HashMap::new() }
    }

    /// Looks at every slot once; call it every 100 ms or so. Returns how many hints it repaired.
    pub fn run_once(&mut self) -> u32 {
        self.next = 0;
        self.found.clear();
        self.run_some(self.region.geometry().slots)
    }

    /// Looks at the next `count` slots, round and round: for who has other things to do that must not wait for a
    /// whole table. Returns how many hints it repaired.
    pub fn run_some(&mut self, count: u32) -> u32 {
        let mut repaired = 0;
        if !self.region.role().serves() {
            (self.next, self.ready, self.found) = Default::default();
            return 0;
        }
        let slots = self.region.geometry().slots;
        let end = self.next.saturating_add(count).min(slots);
        for slot in self.next..end {
            let Some(row) = self.region.map.slot(slot) else {
                continue;
            };
            let word = SlotWord(row.word.load(Ordering::SeqCst));
            // Believed to have its hint: given again if nobody has taken it in two sweeps.
            if word.is(SlotState::Ready) || word.is(SlotState::Queued) {
                if self.ready.get(&slot) == Some(&word.0) {
                    self.region.hint(slot, row);
                    repaired += 1;
                } else {
                    self.found.insert(slot, word.0);
                }
            } else if word.is(SlotState::Idle) && self.region.has_work(slot, word) {
                self.region.look_again(slot);
                repaired += 1;
            }
        }
        self.next = end;
        if end == slots {
            self.next = 0;
            self.ready = std::mem::take(&mut self.found);
        }
        repaired
    }
}
