//! What the tests of this crate need to see and do that no user of a region has any business with.
//!
//! * [`declare_dead`] makes a *copy* of a region look as the kernel leaves it when a process dies.
//! * [`advance`] lets time pass for timers.
//! * [`waiting`] reads an inbox without claiming its object, [`letter_of`] an object that is a letter.
//! * [`recorder_bytes`] says where in a region times are noted.
//! * [`audit`] compares every word with every other: each block in exactly one place, each key found
//!   exactly where it belongs, nothing in the name of a seat that nobody sits on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::claim::Claim;
use crate::commit::CommitError;
use crate::inbox::Chain;
use crate::index::next_of;
use crate::layout::REBUILDING;
use crate::letter;
use crate::map::Map;
use crate::participant::{Participant, SeatState, SeatWord};
use crate::region::Region;
use crate::sync::{AtomicU64, Ordering};
use crate::value::checksum;
use crate::words::{
    BlockState, BlockWord, BucketWord, EntryState, EntryWord, InboxWord, Seq, SlotState, SlotWord,
};

/// Turns a copy of a region into what it would be if process `pid` died now: its seats name
/// `stand_in`, a process that does not exist, and what its `threads` have locked bears the kernel's mark.
pub fn declare_dead(copy: &Region, pid: u32, threads: &[u32], stand_in: u32) {
    for row in (0..copy.geometry().participants as u8).filter_map(|seat| copy.map.participant(seat))
    {
        let word = SeatWord(row.word.load(Ordering::Acquire));
        if word.pid() == pid
            && let Some(state) = word.state().filter(|state| *state != SeatState::Free)
        {
            let renamed = SeatWord::new(state, word.generation(), stand_in);
            row.word.store(renamed.0, Ordering::Release);
        }
        row.lock.mark_dead(threads);
    }
    copy.header().reap_lock.mark_dead(threads);
}

/// Lets `by` pass for the timers of all objects, and for nothing else: each is due so much earlier. A claim in hand keeps what
/// it saw.
pub fn advance(region: &Region, by: Duration) {
    let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
    for row in (0..region.geometry().slots).filter_map(|slot| region.map.slot(slot)) {
        let word = SlotWord(row.word.load(Ordering::Acquire));
        if let Some(block) = word.block().and_then(|index| region.map.block(index)) {
            let deadline = block.row.deadline.load(Ordering::Relaxed);
            if deadline != 0 {
                block.row.deadline.store(deadline.saturating_sub(by).max(1), Ordering::Relaxed);
            }
        }
    }
}

/// Key and payload of the letter in a value.
pub fn letter_of(value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    letter::Letter::read(value.to_vec())
        .map(|letter| (letter.key().to_vec(), letter.payload().to_vec()))
}

/// Commits, and leaves the letters undelivered.
pub fn commit_and_stop(claim: Claim<'_>) -> Result<Seq, CommitError> {
    claim.commit_undelivered()
}

/// Offers the first delivered letter again, as after the death of its deliverer.
pub fn offer_a_letter(region: &Region) {
    let offer = |slot| region.map.slot(slot).is_some_and(|row| letter::offer(region, slot, row));
    assert!((0..region.geometry().slots).any(offer), "a letter was delivered");
}

/// Delivers every letter that was not delivered yet.
pub fn deliver_letters(by: &mut Participant) {
    let role = by.enter().expect("the region of a test is primary");
    for slot in 0..by.region.geometry().slots {
        if by.region.map.slot(slot).is_some_and(letter::is_letter) {
            by.deliver_letter(role, slot);
        }
    }
    by.leave();
}

/// Where the flight recorder lies in a region.
#[must_use]
pub fn recorder_bytes() -> std::ops::Range<usize> {
    let begin = crate::layout::EVENTS_AT as usize;
    begin..begin + size_of::<crate::events::EventsRow>()
}

/// Whether a rebuild was begun and not finished.
pub fn is_being_rebuilt(region: &Region) -> bool {
    region.header().incompatible.load(Ordering::SeqCst) & REBUILDING != 0
}

/// The messages that wait for the object in `slot`, oldest first, but for those that letters hold. The region
/// must stand still.
pub fn waiting(region: &Region, slot: u32) -> Vec<Vec<u8>> {
    let Some(row) = region.map.slot(slot) else { return Vec::new() };
    let head = InboxWord(row.inbox.load(Ordering::SeqCst));
    let is_copy =
        |index| region.map.block(index).is_some_and(|m| letter::original(m.row).is_some());
    let mut messages: Vec<Vec<u8>> = Chain::of(&region.map, head)
        .filter(|&(index, word)| word.is_waiting_for(slot) && !is_copy(index))
        .map(|(index, _)| region.map.held(index).map_or(Vec::new(), |(_, data)| data.to_vec()))
        .collect();
    messages.reverse();
    messages
}

/// Everything about a region that contradicts something else. Empty: all is well.
///
/// The region must stand still, the dead must be reaped, and what they committed and sent collected by the
/// node, if there is one.
pub fn audit(region: &Region) -> Vec<String> {
    let mut audit = Audit { region, map: &region.map, problems: Vec::new(), live: 0 };
    audit.seats();
    let places = audit.slots();
    audit.blocks(&places);
    audit.letters(&places);
    audit.keys();
    audit.hints();
    audit.problems
}

/// Which slots name a block as their value, and which have it in their inbox.
#[derive(Default)]
struct Places {
    value_of: HashMap<u32, Vec<u32>>,
    waits_in: HashMap<u32, Vec<u32>>,
}

struct Audit<'r> {
    region: &'r Region,
    map: &'r Map,
    problems: Vec<String>,
    /// A bit per seat that somebody sits on.
    live: u64,
}

impl Audit<'_> {
    fn report(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn is_live(&self, owner: u8) -> bool {
        owner > 0 && self.live >> (owner - 1) & 1 == 1
    }

    fn seats(&mut self) {
        for seat in 0..self.map.geometry().participants as u8 {
            let Some(row) = self.map.participant(seat) else { continue };
            let word = SeatWord(row.word.load(Ordering::Acquire));
            match word.state() {
                Some(SeatState::Live) => self.live |= 1 << seat,
                Some(SeatState::Free) => {}
                other => self.report(format!("seat {seat} is {other:?}")),
            }
            let end = row.next_position.load(Ordering::SeqCst);
            let Some(entry) = end.checked_sub(1).and_then(|last| self.map.entry(seat, last)) else {
                continue;
            };
            let entry = EntryWord(entry.word.load(Ordering::SeqCst));
            let settled = matches!(entry.state(), Some(EntryState::Applied | EntryState::Aborted));
            // A position that was drawn and never used: its owner died before the entry said Drawing.
            let unused = entry.state() == Some(EntryState::Idle);
            if word.state() == Some(SeatState::Free)
                && entry.position() + 1 == end
                && !settled
                && !unused
            {
                self.report(format!("seat {seat} is free, its last entry {:?}", entry.state()));
            }
        }
        let (drawn, gathered) = (self.region.commit_seq(), self.region.gathered());
        if gathered > drawn {
            self.report(format!("gathered {gathered:?}, drawn {drawn:?}"));
        }
    }

    fn slots(&mut self) -> Places {
        let mut places = Places::default();
        for slot in 0..self.map.geometry().slots {
            let Some(row) = self.map.slot(slot) else { continue };
            let word = SlotWord(row.word.load(Ordering::SeqCst));
            let (state, owner) = (word.state(), word.owner());
            let owned = matches!(state, Some(SlotState::Reserved | SlotState::Claimed));
            if state.is_none() || owned != (owner != 0) || owned && !self.is_live(owner) {
                self.report(format!("slot {slot} is {state:?} of owner {owner}"));
            }
            if matches!(state, Some(SlotState::Free | SlotState::Reserved) | None) {
                if let Some(block) = word.block() {
                    self.report(format!("slot {slot} is {state:?} and names block {block}"));
                }
                continue;
            }
            let head = InboxWord(row.inbox.load(Ordering::SeqCst));
            let incarnation = row.incarnation.load(Ordering::Relaxed);
            if !head.is_of(incarnation) {
                self.report(format!("slot {slot} has the inbox of another incarnation"));
            }
            let mut length = 0;
            for (index, message) in Chain::of(self.map, head) {
                length += 1;
                if message.is_waiting_for(slot) || message.is_dropped_from(slot) {
                    places.waits_in.entry(index).or_default().push(slot);
                } else if !owned {
                    self.report(format!(
                        "slot {slot} has {message:?} of block {index} in its inbox"
                    ));
                }
            }
            if !owned && (head.is_closed() || head.depth() != length) {
                let (closed, depth) = (head.is_closed(), head.depth());
                self.report(format!(
                    "slot {slot}: closed {closed}, depth {depth}, {length} in its inbox"
                ));
            }
            if let Some(block) = word.block() {
                places.value_of.entry(block).or_default().push(slot);
                self.value(slot, block, incarnation, row.last_seq.load(Ordering::SeqCst));
            }
        }
        places
    }

    fn value(&mut self, slot: u32, index: u32, incarnation: u32, last_seq: u64) {
        let Some(block) = self.map.block(index) else {
            return self.report(format!("slot {slot} names block {index}, which does not exist"));
        };
        let word = BlockWord(block.row.word.load(Ordering::Acquire));
        if !word.is(BlockState::Value) || word.home() != slot || word.owner() != 0 {
            self.report(format!("slot {slot} names block {index}, which is {word:?}"));
        }
        if block.row.incarnation.load(Ordering::Relaxed) != incarnation {
            self.report(format!("slot {slot}: value of another incarnation"));
        }
        if block.row.seq.load(Ordering::Relaxed) > last_seq {
            self.report(format!("slot {slot}: its value is newer than its last change"));
        }
        let sum = self.map.held(index).map(|(key, value)| checksum(key, value));
        if sum != Some(block.row.sum.load(Ordering::Relaxed)) {
            self.report(format!("slot {slot}: the checksum of its value is wrong"));
        }
    }

    fn blocks(&mut self, places: &Places) {
        for index in 0..self.map.block_count() {
            let Some(block) = self.map.block(index) else { continue };
            let word = BlockWord(block.row.word.load(Ordering::Acquire));
            let none = Vec::new();
            let value_of = places.value_of.get(&index).unwrap_or(&none);
            let waits_in = places.waits_in.get(&index).unwrap_or(&none);
            let (values, inboxes) = (value_of.len(), waits_in.len());
            let live = self.is_live(word.owner());
            let fits = match word.state() {
                Some(BlockState::Free) => word.owner() == 0 && values + inboxes == 0,
                Some(
                    BlockState::Cached
                    | BlockState::Private
                    | BlockState::Sending
                    | BlockState::Retired,
                ) => live && values + inboxes == 0,
                Some(BlockState::Value) => values == 1 && inboxes == 0,
                Some(BlockState::Linked | BlockState::Dropped) => {
                    values == 0 && inboxes == 1 && word.owner() == 0
                }
                Some(BlockState::Linking | BlockState::Taken) => live && values == 0,
                Some(BlockState::Emitted) => values + inboxes == 0 && word.owner() == 0,
                // The node has told the back-up, or there is no node to wait for.
                Some(BlockState::Sent) | None => false,
            };
            if !fits {
                let (state, owner, home) = (word.state(), word.owner(), word.home());
                self.report(format!(
                    "block {index} is {state:?} of owner {owner}, home {home}; \
                     value of slots {value_of:?}, in the inboxes of {waits_in:?}"
                ));
            }
        }
    }

    /// A letter that counts as delivered has a copy somewhere, or nobody would ever read it.
    fn letters(&mut self, places: &Places) {
        let copies: HashSet<_> = places
            .waits_in
            .keys()
            .filter_map(|&index| letter::original(self.map.block(index)?.row))
            .collect();
        for slot in 0..self.map.geometry().slots {
            let Some(row) = self.map.slot(slot) else { continue };
            let word = SlotWord(row.word.load(Ordering::SeqCst));
            let named = (slot, row.incarnation.load(Ordering::Relaxed));
            if word.is(SlotState::Idle) && letter::is_letter(row) && !copies.contains(&named) {
                self.report(format!("letter {slot} was delivered and is in no inbox"));
            }
        }
    }

    fn keys(&mut self) {
        let mut chained: BTreeMap<u32, u32> = BTreeMap::new();
        for bucket in 0..self.map.layout().bucket_count {
            let Some(head) = self.map.bucket_at(bucket) else { continue };
            let word = BucketWord(head.load(Ordering::SeqCst));
            if word.owner() != 0 && !self.is_live(word.owner()) {
                self.report(format!("bucket {bucket} is reserved by owner {}", word.owner()));
            }
            let mut next = word.first();
            for _ in 0..=self.map.geometry().slots {
                let Some(row) = next.and_then(|slot| self.map.slot(slot)) else { break };
                if let Some(slot) = next {
                    *chained.entry(slot).or_default() += 1;
                    if self.map.bucket(row.key_hash.load(Ordering::Relaxed)).0 != bucket {
                        self.report(format!("slot {slot} hangs in bucket {bucket}"));
                    }
                }
                next = next_of(row.index_next.load(Ordering::Acquire));
            }
        }
        let mut keyed: BTreeMap<(u8, Vec<u8>), u32> = BTreeMap::new();
        for object in self.region.objects() {
            let found = chained.remove(&object.slot).unwrap_or(0);
            let wanted = u32::from(!object.key.is_empty());
            let slot = object.slot;
            if found != wanted {
                self.report(format!("slot {slot} hangs in {found} chains, not in {wanted}"));
            }
            if wanted == 1
                && let Some(other) = keyed.insert((object.queue.index(), object.key), slot)
            {
                self.report(format!("slots {slot} and {other} bear the same key"));
            }
        }
        for slot in chained.keys() {
            self.report(format!("slot {slot} hangs in a chain and is no object"));
        }
    }

    /// After a recovery nothing that is free may be without its hint: it would never be found again.
    fn hints(&mut self) {
        let is_set = |bitmap: &[AtomicU64], index: u32| {
            bitmap[index as usize / 64].load(Ordering::Relaxed) >> (index % 64) & 1 == 1
        };
        for slot in 0..self.map.geometry().slots {
            let free = self
                .map
                .slot(slot)
                .is_some_and(|row| SlotWord(row.word.load(Ordering::SeqCst)).is(SlotState::Free));
            if free && !is_set(self.map.slot_bitmap(), slot) {
                self.report(format!("slot {slot} is free and has no hint"));
            }
        }
        for index in 0..self.map.block_count() {
            let free = self.map.block(index).is_some_and(|block| {
                BlockWord(block.row.word.load(Ordering::SeqCst)).is(BlockState::Free)
            });
            if free
                && let Some((class, number)) = self.map.class_of(index)
                && !is_set(self.map.class_bitmap(class), number)
            {
                self.report(format!("block {index} is free and has no hint"));
            }
        }
    }
}
