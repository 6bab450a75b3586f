//! Claiming ready objects and working on them.
//!
//! ```text
//!                     worker: swap                 worker: commit
//!  Idle/Queued/Ready ─────────────► Claimed(me) ─────────────────► Idle / Ready / Free
//!      ▲                          │ worker: gives back (drop, panic: attempts + 1)
//!      │                          │ reaper: death confirmed, attempts + 1
//!      └──────────────────────────┴───────────────────────► Parked after `max_attempts`
//! ```

use std::time::Duration;

use crate::counters::Counter;
use crate::endpoint::Endpoint;
use crate::geometry::KEY_BYTES_MAX;
use crate::held::{Held, Timer, deadline_after};
use crate::inbox;
use crate::index::{self, Lookup};
use crate::layout::{CLAIM_HINTS, OPERATIONS_MAX, SlotRow};
use crate::letter::{self, is_letter, lane_of};
use crate::map::{Block, Map};
use crate::object::{lane_within, placing_of, release_reserved, reserve_object};
use crate::participant::Participant;
use crate::pool::OutOf;
use crate::region::{PortId, QueueId, Region};
use crate::sync::Ordering;
use crate::value::{ENDPOINT_BYTES, fill_block, value_block};
use crate::words::{BlockState, BlockWord, InboxWord, RoleEpoch, SlotState, SlotWord};

/// Messages that one claim takes at most.
pub const MESSAGES_PER_CLAIM: usize = 16;

/// Of an entry: its head, and the steps of the object and its value.
const ENTRY_LINES: usize = 2;

/// Of so many claims of a worker one begins with another lane than the most urgent, each lane in its turn: so
/// the first object of any lane waits for at most `TURNS_PER_LANE * lanes` claims of each worker.
pub const TURNS_PER_LANE: u32 = 16;

/// What a worker has asked for in the claim that it holds; kept by the participant, so that a claim
/// allocates nothing.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) others: Vec<Held>,
    pub(crate) emits: Vec<(PortId, u32)>,
    pub(crate) creates: Vec<Create>,
}

impl Work {
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.others.clear();
        self.emits.clear();
        self.creates.clear();
    }
}

pub(crate) struct Create {
    pub(crate) slot: u32,
    pub(crate) word: SlotWord,
    pub(crate) block: Option<u32>,
    pub(crate) queue: QueueId,
    pub(crate) placing: u32,
    pub(crate) key: Vec<u8>,
    pub(crate) ready: bool,
    pub(crate) incarnation: u32,
}

/// An object in this participant's hands, and the draft of what its commit will do.
///
/// Dropping it gives the object back as it was; in a panic that counts as a failed attempt.
#[must_use = "a dropped claim changes nothing"]
pub struct Claim<'p> {
    pub(crate) participant: &'p mut Participant,
    pub(crate) role: RoleEpoch,
    pub(crate) held: Held,
    /// Where the reaper's hints of this claim begin.
    pub(crate) hint: u8,
    pub(crate) settled: bool,
    failed: bool,
    pub(crate) conflict: bool,
}

/// An object that [`Participant::claim_ready`] has claimed and [`Participant::hold`] makes usable.
#[must_use = "the object stays claimed until the participant leaves"]
#[derive(Debug)]
pub struct ReadyObject {
    slot: u32,
    before: SlotWord,
    word: SlotWord,
    role: RoleEpoch,
    hint: u8,
}

/// One message of a claim, in the region.
#[derive(Clone, Copy, Debug)]
pub struct Message<'c> {
    source: Endpoint,
    payload: &'c [u8],
    id: u64,
}

impl<'c> Message<'c> {
    /// One that came over a network from where the region is.
    pub fn from_afar(id: u64, source: Endpoint, payload: &'c [u8]) -> Self {
        Self { source, payload, id }
    }

    /// The bytes that arrived.
    pub fn payload(&self) -> &'c [u8] {
        self.payload
    }

    /// Where they came from.
    pub fn source(&self) -> Endpoint {
        self.source
    }

    /// A number that no other message of this region has had.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Participant {
    /// Takes a ready object of `queue`, or `None` if there is none or this region is not primary.
    /// Never waits.
    #[inline]
    pub fn claim(&mut self, queue: QueueId) -> Option<Claim<'_>> {
        let ready = self.claim_ready(queue)?;
        Some(self.hold(ready))
    }

    /// The first half of [`claim`](Self::claim), for callers that claim in a loop and cannot keep the
    /// borrow: pass the result to [`hold`](Self::hold) at once.
    #[inline]
    pub fn claim_ready(&mut self, queue: QueueId) -> Option<ReadyObject> {
        self.begin_search();
        let role = self.enter()?;
        if !self.conflicts.is_empty() {
            self.conflicts.hint_due(&self.region);
        }
        let lanes = self.region.map.lane_count(queue.0);
        let first = if lanes > 1 { self.first_lane(lanes) } else { 0 };
        for step in 0..lanes {
            let priority = (first + step) % lanes;
            // Each hint is taken once, so this ends with the lane.
            while let Some(slot) = self.region.map.lane(queue.0, priority).and_then(|l| l.pop()) {
                let Some((before, word)) = self.claim_slot(role, queue, slot) else { continue };
                if self.take_work(role, slot, before, word) {
                    let hint = self.next_hint;
                    self.next_hint = hint.wrapping_add(1);
                    return Some(ReadyObject { slot, before, word, role, hint });
                }
            }
        }
        self.leave();
        self.take_back_gathered();
        None
    }

    /// Where to look first: in the most urgent lane, but for every [`TURNS_PER_LANE`]th claim, which begins
    /// with another lane each time.
    #[inline]
    fn first_lane(&mut self, lanes: u8) -> u8 {
        self.lane_turn = self.lane_turn.wrapping_add(1);
        match self.lane_turn.is_multiple_of(TURNS_PER_LANE) {
            true => (self.lane_turn / TURNS_PER_LANE % u32::from(lanes)) as u8,
            false => 0,
        }
    }

    /// The second half of [`claim`](Self::claim).
    // Always: as a call of its own it passes two structures through memory, 12 ns of 140.
    #[inline(always)]
    pub fn hold(&mut self, ready: ReadyObject) -> Claim<'_> {
        let ReadyObject { slot, before, word, role, hint } = ready;
        self.count(Counter::Claims);
        let placing = self.region.map.slot(slot).map(|row| row.placing.load(Ordering::Relaxed));
        // Before there is a `held`: one whose address is taken is built on the stack and copied from there.
        self.begin_watch(placing.unwrap_or(0) as u8, word);
        self.supply.short = false;
        self.fetch_entry();
        let row = self.region.map.slot(slot).expect("a claimed slot exists");
        let mut held = Held::new(&self.region, row, slot, word, before.is(SlotState::Ready));
        held.look_at_timer();
        Claim {
            held,
            role,
            hint,
            settled: false,
            failed: false,
            conflict: false,
            participant: self,
        }
    }

    /// Asks for the entry of the claim's commit: it was last used when the ring came round, and read by the node since.
    #[inline(always)]
    fn fetch_entry(&self) {
        let position = self.row().next_position.load(Ordering::Relaxed);
        if let Some(entry) = self.region.map.entry(self.seat, position) {
            // A step is half a line; a message is one, and its answer another.
            entry.fetch(ENTRY_LINES + self.taken.len());
        }
    }

    /// Takes a slot that a hint in a lane of `queue` has named, if it is ready; delivers it, if it is a letter.
    #[inline]
    fn claim_slot(
        &mut self,
        role: RoleEpoch,
        queue: QueueId,
        slot: u32,
    ) -> Option<(SlotWord, SlotWord)> {
        let region = &self.region;
        let row = region.map.slot(slot)?;
        let seen = SlotWord(row.word.load(Ordering::SeqCst));
        // A hint may outlive its object: the next one in the slot has a hint of its own, where it belongs. (Read
        // after the word: if it is another object's by now, so is the word, and the swap below fails.)
        let (of, _) = lane_of(row.placing.load(Ordering::Relaxed));
        if of != queue.0 {
            return None;
        }
        if is_letter(row) {
            self.deliver_letter(role, slot);
            return None;
        }
        if !region.is_ready(slot, seen) {
            if seen.is(SlotState::Queued) && seen.block().is_none() {
                // For `take_work` to end.
                return self.take_slot(row, slot, self.next_hint, seen).map(|mine| (seen, mine));
            }
            if seen.is(SlotState::Queued) {
                // ORDER ready/3 SeqCst, pairs with ready/1 and ready/2. Its hint is gone now: whoever gives it
                // something to do must see that.
                let idle = seen.next(SlotState::Idle, 0, seen.block());
                let _ =
                    row.word.compare_exchange(seen.0, idle.0, Ordering::SeqCst, Ordering::Relaxed);
                region.look_again(slot);
            }
            return None;
        }
        self.take_slot(row, slot, self.next_hint, seen).map(|mine| (seen, mine))
    }

    /// The claim itself: one swap.
    #[inline]
    pub(crate) fn take_slot(
        &self,
        row: &SlotRow,
        slot: u32,
        hint: u8,
        seen: SlotWord,
    ) -> Option<SlotWord> {
        // The reaper looks here first; a hint that names a slot of somebody else is harmless.
        let hint = &self.row().claims[usize::from(hint) % CLAIM_HINTS];
        hint.store(slot + 1, Ordering::Relaxed);
        let mine = seen.next(SlotState::Claimed, self.owner(), seen.block());
        // ORDER slot/1 SeqCst, pairs with slot/1.
        let swapped =
            row.word.compare_exchange(seen.0, mine.0, Ordering::SeqCst, Ordering::Relaxed);
        swapped.is_ok().then_some(mine)
    }

    /// Takes what waits for a slot just claimed. False if that was nothing, and it was given back.
    #[inline]
    fn take_work(&mut self, role: RoleEpoch, slot: u32, before: SlotWord, word: SlotWord) -> bool {
        self.taken.clear();
        let map: &Map = &self.region.map;
        let Some(row) = map.slot(slot) else { return false };
        let head = InboxWord(row.inbox.load(Ordering::SeqCst));
        if head.newest().is_some() {
            self.take_chain(slot, head);
        }
        !self.taken.is_empty() || before.is(SlotState::Ready) || self.is_due(role, slot, word)
    }

    /// Without a message only a timer is left: or the hint was about what is gone, as copies of letters are that were
    /// read before. What is in the inbox even so is for the claim to find out.
    fn is_due(&mut self, role: RoleEpoch, slot: u32, word: SlotWord) -> bool {
        if self.region.timer_is_due(word) {
            return true;
        }
        inbox::prune(&self.region.map, slot);
        let found = inbox::has_waiting(&self.region.map, slot);
        if !found && word.block().is_none() {
            self.end_unreachable(role, slot, word);
        } else if !found {
            give_back(&self.region, slot, word, false, false);
            self.forget_claims(self.next_hint, 0);
        }
        found
    }

    /// Withdraws a claimed object that has neither key nor value, and for which nothing waits: nobody can reach it any more. Its
    /// packet was lost with the server that had received it, or was dropped.
    #[cold]
    fn end_unreachable(&mut self, role: RoleEpoch, slot: u32, word: SlotWord) {
        let Some(row) = self.region.map.slot(slot) else { return };
        let held = Held::new(&self.region, row, slot, word, false);
        // The caller goes on under the role that it has entered, which the end of this claim would leave.
        self.suspended += 1;
        let mut claim = Claim::again(self, role, held, self.next_hint, false);
        claim.withdraw();
        let _ = claim.commit(); // or it is given back as it was
        self.suspended -= 1;
    }

    /// Takes the oldest waiting messages, oldest first.
    fn take_chain(&mut self, slot: u32, head: InboxWord) {
        let map: &Map = &self.region.map;
        let owner = self.seat + 1;
        let mut letters = false;
        let mut dropped = false;
        inbox::noted(map, slot, MESSAGES_PER_CLAIM, &mut self.taken);
        if self.taken.is_empty() {
            let mut length = 0;
            self.taken.extend(
                inbox::Chain::to_take(map, head)
                    .inspect(|(_, word)| {
                        length += 1;
                        dropped |= word.is_dropped_from(slot);
                    })
                    .filter(|(_, word)| word.is_waiting_for(slot))
                    .map(|(index, _)| index),
            );
            self.taken.reverse();
            if self.taken.len() > MESSAGES_PER_CLAIM && self.taken.len() == length {
                inbox::note(map, slot, &self.taken);
            }
            self.taken.truncate(MESSAGES_PER_CLAIM);
        }
        for &index in &self.taken {
            map.block(index).iter().for_each(Block::fetch_payload);
        }
        self.taken.retain(|&index| {
            map.block(index).is_some_and(|block| {
                // A pusher may be turning Linking into Linked right now: look until it stands still.
                loop {
                    let seen = BlockWord(block.row.word.load(Ordering::Acquire));
                    // Taken by us already: the chain was scribbled into a circle.
                    let twice = seen.is(BlockState::Taken) && seen.owner() == owner;
                    if twice || !seen.is_waiting_for(slot) {
                        return false;
                    }
                    if inbox::mark(map, index, seen, BlockState::Taken, owner) {
                        letters |= letter::original(block.row).is_some();
                        return true;
                    }
                }
            })
        });
        if dropped {
            self.clear_dropped(slot, head);
        }
        if letters {
            self.take_letters(slot);
        }
    }

    /// Takes what was dropped out of the chain of a claimed slot, and its blocks into this participant's hands. First they
    /// bear its name: if it dies, the reaper prunes the chain before it frees them.
    #[cold]
    fn clear_dropped(&mut self, slot: u32, head: InboxWord) {
        let map: &Map = &self.region.map;
        let own = |&(index, word): &(u32, BlockWord)| {
            word.is_dropped_from(slot)
                && inbox::mark(map, index, word, BlockState::Private, self.seat + 1)
        };
        let dropped: Vec<_> = inbox::Chain::of(map, head).filter(own).collect();
        inbox::prune(map, slot);
        for (index, _) in dropped {
            self.supply.give_block(map, index);
        }
    }
}

impl<'p> Claim<'p> {
    /// One that was suspended.
    pub(crate) fn again(
        participant: &'p mut Participant,
        role: RoleEpoch,
        held: Held,
        hint: u8,
        conflict: bool,
    ) -> Self {
        Self { participant, role, held, hint, settled: false, failed: false, conflict }
    }

    fn map(&self) -> &Map {
        &self.participant.region.map
    }

    /// Number of the slot: the same on both nodes.
    pub fn slot(&self) -> u32 {
        self.held.slot
    }

    /// Distinguishes the objects that have lived in this slot.
    pub fn incarnation(&self) -> u32 {
        self.held.incarnation
    }

    /// The seat that holds the claim.
    pub fn participant(&self) -> &Participant {
        self.participant
    }

    /// The object's key; empty if it has none.
    pub fn key(&self) -> &[u8] {
        self.held.committed(self.map()).0
    }

    /// The value as it will be committed: the private copy if there is one.
    pub fn value(&self) -> &[u8] {
        self.held.value(self.map())
    }

    /// How often in a row an execution of this object has failed.
    pub fn attempts(&self) -> u32 {
        let row = self.map().slot(self.held.slot).expect("a claimed slot exists");
        row.attempts.load(Ordering::Relaxed) as u32
    }

    /// The messages that wait, oldest first; at most [`MESSAGES_PER_CLAIM`]. The commit consumes them.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = Message<'_>> {
        self.participant.taken.iter().map(|&index| {
            let (prefix, payload) = self.map().held(index).unwrap_or((&[], &[]));
            let id = self.map().block(index).map_or(0, |b| b.row.id.load(Ordering::Relaxed));
            Message { source: Endpoint::from_bytes(prefix), payload, id }
        })
    }

    /// Whether the object's timer was due when it was claimed. A commit that does not set it anew clears it;
    /// a timer that comes due during the claim makes the object ready after it.
    pub fn timer_due(&self) -> bool {
        self.held.timer_due
    }

    /// Time left on the timer as it will be committed; zero if it has come due since the claim.
    pub fn timer(&self) -> Option<Duration> {
        self.held.time_left()
    }

    /// Makes the object ready once more after `after`, whatever else happens.
    pub fn set_timer(&mut self, after: Duration) {
        self.held.set_timer(after);
    }

    /// Stops the timer.
    pub fn clear_timer(&mut self) {
        self.held.timer = Timer::Cleared;
    }

    /// Makes the object ready again right after the commit.
    #[inline]
    pub fn stay_ready(&mut self) {
        self.held.stay_ready = true;
    }

    /// Puts the object into another priority lane of its queue, from this commit on: 0 is the most urgent. A
    /// priority beyond the queue's lanes means the last one.
    pub fn set_priority(&mut self, priority: u8) {
        self.held.set_priority(&self.participant.region.map, priority);
    }

    /// Ends the object with this commit.
    pub fn withdraw(&mut self) {
        self.held.withdraw = true;
    }

    /// The value in a private block, to be changed in place. The first call copies.
    #[inline]
    pub fn value_mut(&mut self) -> Result<&mut [u8], OutOf> {
        let Participant { region, supply, .. } = &mut *self.participant;
        self.held.value_mut(region, supply)
    }

    /// Replaces the value; its length may change.
    #[inline]
    pub fn set_value(&mut self, value: &[u8]) -> Result<(), OutOf> {
        let Participant { region, supply, .. } = &mut *self.participant;
        self.held.write_value(region, supply, Some(value)).map(drop)
    }

    /// Emits a packet: it leaves when the commit is released.
    pub fn emit(&mut self, port: PortId, to: Endpoint, payload: &[u8]) -> Result<(), OutOf> {
        let block = self.participant.take_block(ENDPOINT_BYTES + payload.len())?;
        fill_block(self.map(), block, &to.to_bytes(), payload);
        self.participant.work.emits.push((port, block));
        Ok(())
    }

    /// Creates an object with this commit, in the most urgent lane. `ready`: it is ready at once, without a
    /// message.
    pub fn create(
        &mut self,
        queue: QueueId,
        key: Option<&[u8]>,
        value: &[u8],
        ready: bool,
    ) -> Result<(), CreateObjectError> {
        self.create_in(queue, 0, key, value, ready)
    }

    /// The same, in the lane of `priority`; see [`set_priority`](Self::set_priority).
    pub fn create_in(
        &mut self,
        queue: QueueId,
        priority: u8,
        key: Option<&[u8]>,
        value: &[u8],
        ready: bool,
    ) -> Result<(), CreateObjectError> {
        self.create_timed(queue, priority, key, value, ready, None)
    }

    /// The same; a timer makes the object ready after `timer`.
    pub fn create_timed(
        &mut self,
        queue: QueueId,
        priority: u8,
        key: Option<&[u8]>,
        value: &[u8],
        ready: bool,
        timer: Option<Duration>,
    ) -> Result<(), CreateObjectError> {
        let key = key.unwrap_or(&[]);
        let priority = lane_within(&self.participant.region.map, queue, priority);
        if key.len() > KEY_BYTES_MAX {
            return Err(CreateObjectError::KeyLength { bytes: key.len() });
        }
        let region = self.participant.region.clone();
        let hash = region.key_hash(queue.0, key);
        if !key.is_empty()
            && matches!(index::lookup(&region.map, hash, queue.0, key), Lookup::Found { .. })
        {
            return Err(CreateObjectError::Exists);
        }
        let reserved = reserve_object(self.participant, queue, priority, hash)?;
        let placing = placing_of(queue, priority);
        let block = if key.is_empty() && value.is_empty() && timer.is_none() {
            None
        } else {
            let supply = &mut self.participant.supply;
            match value_block(&region, supply, key, value, placing, reserved.incarnation) {
                Ok(block) => {
                    if let Some(after) = timer {
                        block.row.deadline.store(deadline_after(after), Ordering::Relaxed);
                    }
                    Some(block.index)
                }
                Err(out_of) => {
                    release_reserved(&region, reserved.slot, reserved.word);
                    return Err(out_of.into());
                }
            }
        };
        self.participant.work.creates.push(Create {
            slot: reserved.slot,
            word: reserved.word,
            block,
            queue,
            placing,
            key: key.to_vec(),
            ready,
            incarnation: reserved.incarnation,
        });
        Ok(())
    }

    /// Gives the object back as it was.
    pub fn give_back(self) {}

    /// Gives the object back as a failed attempt; after `max_attempts` in a row it is parked. After a
    /// conflict, or when there was no free block or slot for what it asked, it is given back as it was: nothing is wrong
    /// with it.
    pub fn fail(mut self) {
        self.failed = true;
    }
}

impl Drop for Claim<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.settled {
            self.let_go();
        }
    }
}

impl Claim<'_> {
    /// Whether there was no free block or slot for what was asked. Of a draft that no commit can carry, that says nothing:
    /// it takes all there is, whenever it is tried.
    pub(crate) fn is_short(&self) -> bool {
        let Participant { supply, work, .. } = &*self.participant;
        let taken = work.emits.len() + work.creates.len() + work.others.len();
        supply.short && taken < OPERATIONS_MAX
    }

    fn let_go(&mut self) {
        // Not at once again: whatever is in the way is still there.
        let short = self.is_short();
        let later = self.conflict || short;
        let failed = (self.failed || std::thread::panicking()) && !later;
        let Participant { region, supply, work, conflicts, .. } = &mut *self.participant;
        let held = std::iter::once(&self.held).chain(&work.others);
        let private = held.filter_map(|held| held.value);
        let private = private.chain(work.emits.iter().map(|&(_, block)| block));
        let private = private.chain(work.creates.iter().filter_map(|create| create.block));
        for block in private {
            supply.give_block(&region.map, block);
        }
        for create in &work.creates {
            release_reserved(region, create.slot, create.word);
        }
        for other in &work.others {
            give_back(region, other.slot, other.word, other.was_ready, false);
        }
        let others = work.others.len();
        work.clear();
        let Held { slot, word, was_ready, .. } = self.held;
        let parked = if later {
            let deferred = hand_back(region, slot, word, was_ready, SlotState::Queued);
            if deferred {
                conflicts.defer(slot);
            }
            false
        } else {
            give_back(region, slot, word, was_ready, failed)
        };
        self.participant.taken.clear();
        if self.conflict {
            self.participant.count(Counter::Conflicts);
        } else if short {
            self.participant.count(Counter::OutOfRoom);
        }
        if parked {
            self.participant.region.note_parked(self.participant.source(), slot);
        }
        self.participant.count(if parked { Counter::Parked } else { Counter::GivenBack });
        self.participant.forget_claims(self.hint, others);
        self.participant.leave();
        self.participant.end_watch();
    }
}

impl Participant {
    /// Takes the names of the claim's objects out of the reaper's list.
    #[inline]
    pub(crate) fn forget_claims(&self, first: u8, others: usize) {
        for at in 0..=others {
            let place = (usize::from(first) + at) % CLAIM_HINTS;
            self.row().claims[place].store(0, Ordering::Relaxed);
        }
    }
}

/// What has become of an object that was given back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenBack {
    /// It failed too often.
    Parked,
    /// Its hint is owed.
    Ready,
    /// It may have something to do.
    Idle,
}

/// Makes a claimed object claimable again, and offers it if it has something to do. True: it is parked.
pub(crate) fn give_back(
    region: &Region,
    slot: u32,
    word: SlotWord,
    was_ready: bool,
    failed: bool,
) -> bool {
    let outcome = give_back_quietly(region, slot, word, was_ready, failed);
    match region.map.slot(slot) {
        Some(row) if outcome == GivenBack::Ready => region.hint(slot, row),
        _ => region.look_again(slot),
    }
    outcome == GivenBack::Parked
}

/// The same without a hint: by the claimer, or by the reaper in its place. With `failed` the attempt counts, and
/// after `max_attempts` the object is parked.
pub(crate) fn give_back_quietly(
    region: &Region,
    slot: u32,
    word: SlotWord,
    was_ready: bool,
    failed: bool,
) -> GivenBack {
    let Some(row) = region.map.slot(slot) else {
        return GivenBack::Idle;
    };
    let mut attempts = row.attempts.load(Ordering::Relaxed);
    // A letter does not fail: its addressee does.
    let failed = failed && !is_letter(row);
    if failed && attempts >> 32 != word.generation() {
        // Tagged with the claim's generation: the same failure is counted once, whoever counts.
        let counted = word.generation() << 32 | u64::from((attempts as u32).saturating_add(1));
        if row
            .attempts
            .compare_exchange(attempts, counted, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            attempts = counted;
        }
    }
    let parked = failed && attempts as u32 >= u32::from(region.geometry().max_attempts);
    if parked {
        hand_back(region, slot, word, false, SlotState::Parked);
        GivenBack::Parked
    } else if hand_back(region, slot, word, was_ready, SlotState::Idle) && was_ready {
        GivenBack::Ready
    } else {
        GivenBack::Idle
    }
}

/// Lets go of the messages and the slot word; false if somebody else has done it.
fn hand_back(
    region: &Region,
    slot: u32,
    word: SlotWord,
    was_ready: bool,
    otherwise: SlotState,
) -> bool {
    let map: &Map = &region.map;
    let Some(row) = map.slot(slot) else {
        return false;
    };
    inbox::reopen(map, slot);
    let head = InboxWord(row.inbox.load(Ordering::SeqCst));
    for (index, seen) in inbox::Chain::of(map, head) {
        if seen.is(BlockState::Taken) && seen.owner() == word.owner() {
            inbox::mark(map, index, seen, BlockState::Linked, 0);
        }
    }
    let state = if was_ready { SlotState::Ready } else { otherwise };
    let after = word.next(state, 0, word.block());
    // ORDER ready/3 SeqCst, pairs with ready/1 and ready/2: the caller looks into the inbox after it.
    row.word.compare_exchange(word.0, after.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}

/// Why an object could not be created; the claim goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateObjectError {
    /// Another object of the queue bears the key.
    #[error("the key belongs to another object of the queue")]
    Exists,
    /// Keys are stored with the value; only an object with a key can be sent to.
    #[error("the key is {bytes} bytes long, it must be 1 to {KEY_BYTES_MAX}")]
    KeyLength {
        /// Its length.
        bytes: usize,
    },
    /// No room.
    #[error(transparent)]
    OutOf(#[from] OutOf),
}
