//! Claiming a ready object, working on it, and the draft of its commit.
//!
//! ```text
//!              worker: swap                 worker: commit
//!  Idle/Ready ─────────────► Claimed(me) ─────────────────► Idle / Ready / Free
//!      ▲                          │ worker: gives back (drop, panic: attempts + 1)
//!      │                          │ reaper: death confirmed, attempts + 1
//!      └──────────────────────────┴───────────────────────► Parked after `max_attempts`
//! ```
//!
//! **Look again.** An idle object becomes ready by a message or a due timer without any change of its
//! slot word. So whoever makes a slot idle looks at the inbox afterwards, and whoever pushes a message
//! offers the slot to its lane afterwards: one of the two sees the other.

use std::time::Duration;

use crate::bell::Bell;
use crate::counters::Counter;
use crate::endpoint::Endpoint;
use crate::geometry::KEY_BYTES_MAX;
use crate::inbox;
use crate::layout::SlotRow;
use crate::map::Map;
use crate::participant::{Participant, take_block};
use crate::pool::{OutOf, Supply};
use crate::process::monotonic_ns;
use crate::region::{PortId, QueueId, Region};
use crate::sync::Ordering;
use crate::tx::{Draft, Insert, Operation, Refusal, Target};
use crate::words::{BlockState, BlockWord, InboxWord, RoleEpoch, Seq, SlotState, SlotWord};

/// Messages that one claim takes at most.
pub const MESSAGES_PER_CLAIM: usize = 16;

/// Bytes that an emitted packet or a message needs besides its payload.
pub const ENDPOINT_BYTES: usize = 32;

impl Region {
    /// Whether an object in this state can be claimed now.
    fn is_ready(&self, slot: u32, word: SlotWord) -> bool {
        match word.state() {
            Some(SlotState::Ready) => true,
            Some(SlotState::Idle) => inbox::has_waiting(&self.map, slot) || self.timer_is_due(word),
            _ => false,
        }
    }

    fn timer_is_due(&self, word: SlotWord) -> bool {
        let deadline = self.deadline(word);
        deadline != 0 && deadline <= monotonic_ns()
    }

    /// Monotonic nanoseconds at which the object's timer is due, zero for none. A racy read: a hint
    /// unless the caller has claimed the object.
    pub(crate) fn deadline(&self, word: SlotWord) -> u64 {
        word.block()
            .and_then(|block| self.map.block(block))
            .map_or(0, |block| block.row.deadline.load(Ordering::Relaxed))
    }

    /// Offers a slot to its lane if it is ready; to be called after anything that may have made it so.
    pub(crate) fn look_again(&self, slot: u32) {
        let Some(row) = self.map.slot(slot) else {
            return;
        };
        // ORDER ready/1 SeqCst, pairs with ready/2 (inbox push, then hint).
        let word = SlotWord(row.word.load(Ordering::SeqCst));
        if self.is_ready(slot, word) {
            self.offer(slot, row, false);
        }
    }

    /// Puts a slot into its lane unless it is believed to be there (`again`: even then).
    pub(crate) fn offer(&self, slot: u32, row: &SlotRow, again: bool) {
        // ORDER hint/1 SeqCst, pairs with hint/2: set before the push, cleared before the slot is looked at.
        let placing = row.placing.load(Ordering::Relaxed);
        let (queue, priority) = (placing as u8, (placing >> 8) as u8);
        // A hint that an earlier object of the slot left in the same lane serves as well.
        let hint = placing.wrapping_add(1);
        if row.hinted.swap(hint, Ordering::SeqCst) == hint && !again {
            return;
        }
        let Some(lane) = self.map.lane(queue, priority) else {
            return;
        };
        // A full lane: the sweeper offers again.
        let _ = lane.push(slot);
        self.ring(Bell::Queue(QueueId(queue)));
    }
}

/// An object in this participant's hands, and the draft of what its commit will do.
///
/// Dropping it gives the object back as it was; in a panic that counts as a failed attempt.
#[must_use = "a dropped claim changes nothing"]
pub struct Claim<'p> {
    participant: &'p mut Participant,
    slot: u32,
    word: SlotWord,
    was_ready: bool,
    /// State and message words as they are restored if nothing is committed.
    incarnation: u32,
    placing: u32,
    role: RoleEpoch,
    draft: Work,
    settled: bool,
    failed: bool,
}

/// An object that [`Participant::claim_ready`] has claimed and [`Participant::hold`] makes usable.
#[must_use = "the object stays claimed until the participant leaves"]
#[derive(Debug)]
pub struct ReadyObject {
    slot: u32,
    before: SlotWord,
    word: SlotWord,
    role: RoleEpoch,
}

/// What the worker has asked for so far.
#[derive(Default)]
struct Work {
    value: Option<u32>,
    timer: Timer,
    emits: Vec<(PortId, u32)>,
    creates: Vec<Create>,
    withdraw: bool,
    ready: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Timer {
    #[default]
    Untouched,
    Cleared,
    At(u64),
}

struct Create {
    slot: u32,
    word: SlotWord,
    block: Option<u32>,
    queue: QueueId,
    key: Vec<u8>,
    ready: bool,
    incarnation: u32,
}

/// One message of a claim, in the region.
#[derive(Clone, Copy, Debug)]
pub struct Message<'c> {
    source: Endpoint,
    payload: &'c [u8],
    id: u64,
}

impl<'c> Message<'c> {
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
    pub fn claim(&mut self, queue: QueueId) -> Option<Claim<'_>> {
        let ready = self.claim_ready(queue)?;
        Some(self.hold(ready))
    }

    /// The first half of [`claim`](Self::claim), for callers that claim in a loop and cannot keep the
    /// borrow: pass the result to [`hold`](Self::hold) at once.
    pub fn claim_ready(&mut self, queue: QueueId) -> Option<ReadyObject> {
        let role = self.enter()?;
        let lanes = self.region.geometry().queues[usize::from(queue.0)].lanes;
        for priority in 0..lanes {
            // Each hint is taken once, so this ends with the lane.
            while let Some(slot) = self.region.map.lane(queue.0, priority).and_then(|l| l.pop()) {
                if let Some((before, word)) = self.claim_slot(slot) {
                    return Some(ReadyObject { slot, before, word, role });
                }
            }
        }
        self.leave();
        None
    }

    /// The second half of [`claim`](Self::claim).
    pub fn hold(&mut self, ready: ReadyObject) -> Claim<'_> {
        let ReadyObject { slot, before, word, role } = ready;
        self.take_messages(slot);
        self.count(Counter::Claims);
        let row = self.region.map.slot(slot).expect("a claimed slot exists");
        Claim {
            incarnation: row.incarnation.load(Ordering::Relaxed),
            placing: row.placing.load(Ordering::Relaxed),
            slot,
            word,
            was_ready: before.is(SlotState::Ready),
            role,
            draft: Work::default(),
            settled: false,
            failed: false,
            participant: self,
        }
    }

    fn claim_slot(&mut self, slot: u32) -> Option<(SlotWord, SlotWord)> {
        let region = &self.region;
        let row = region.map.slot(slot)?;
        // ORDER hint/2 SeqCst, pairs with hint/1.
        row.hinted.swap(0, Ordering::SeqCst);
        let seen = SlotWord(row.word.load(Ordering::SeqCst));
        if !region.is_ready(slot, seen) {
            return None;
        }
        // The reaper looks here first; a hint that names a slot of somebody else is harmless.
        self.row().claims[0].store(slot + 1, Ordering::Relaxed);
        let mine = seen.next(SlotState::Claimed, self.owner(), seen.block());
        // ORDER slot/1.
        row.word
            .compare_exchange(seen.0, mine.0, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
            .then_some((seen, mine))
    }

    /// Takes the oldest waiting messages of a claimed slot, oldest first.
    fn take_messages(&mut self, slot: u32) {
        self.taken.clear();
        let map: &Map = &self.region.map;
        let Some(row) = map.slot(slot) else { return };
        let owner = self.seat + 1;
        let head = InboxWord(row.inbox.load(Ordering::SeqCst));
        if head.newest().is_none() {
            return;
        }
        self.taken.extend(
            inbox::Chain::of(map, head)
                .filter(|(_, word)| word.is_waiting_for(slot))
                .map(|(index, _)| index),
        );
        self.taken.reverse();
        self.taken.truncate(MESSAGES_PER_CLAIM);
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
                        return true;
                    }
                }
            })
        });
    }
}

impl<'p> Claim<'p> {
    fn map(&self) -> &Map {
        &self.participant.region.map
    }

    /// Number of the slot: the same on both nodes.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Distinguishes the objects that have lived in this slot.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// The seat that holds the claim.
    pub fn participant(&self) -> &Participant {
        self.participant
    }

    /// The object's key; empty if it has none.
    pub fn key(&self) -> &[u8] {
        self.committed().0
    }

    /// The value as it will be committed: the private copy if there is one.
    pub fn value(&self) -> &[u8] {
        match self.draft.value {
            Some(block) => self.map().held(block).map_or(&[], |(_, data)| data),
            None => self.committed().1,
        }
    }

    fn committed(&self) -> (&[u8], &[u8]) {
        self.word.block().and_then(|block| self.map().held(block)).unwrap_or((&[], &[]))
    }

    /// How often in a row an execution of this object has failed.
    pub fn attempts(&self) -> u32 {
        self.row().attempts.load(Ordering::Relaxed) as u32
    }

    fn row(&self) -> &SlotRow {
        self.map().slot(self.slot).expect("a claimed slot exists")
    }

    /// The messages that wait, oldest first; at most [`MESSAGES_PER_CLAIM`]. The commit consumes them.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = Message<'_>> {
        self.participant.taken.iter().map(|&index| {
            let (prefix, payload) = self.map().held(index).unwrap_or((&[], &[]));
            let id = self.map().block(index).map_or(0, |b| b.row.id.load(Ordering::Relaxed));
            Message { source: Endpoint::from_bytes(prefix), payload, id }
        })
    }

    /// Whether the object's timer is due. A commit that does not set it anew clears it.
    pub fn timer_due(&self) -> bool {
        self.participant.region.timer_is_due(self.word)
    }

    /// Time left on the timer as it will be committed; zero if it is due.
    pub fn timer(&self) -> Option<Duration> {
        let deadline = self.deadline();
        (deadline != 0).then(|| Duration::from_nanos(deadline.saturating_sub(monotonic_ns())))
    }

    fn deadline(&self) -> u64 {
        match self.draft.timer {
            Timer::At(deadline) => deadline,
            Timer::Cleared => 0,
            Timer::Untouched if self.timer_due() => 0,
            Timer::Untouched => self.participant.region.deadline(self.word),
        }
    }

    /// Makes the object ready once more after `after`, whatever else happens.
    pub fn set_timer(&mut self, after: Duration) {
        self.draft.timer = Timer::At((monotonic_ns() + after.as_nanos() as u64).max(1));
    }

    /// Stops the timer.
    pub fn clear_timer(&mut self) {
        self.draft.timer = Timer::Cleared;
    }

    /// Makes the object ready again right after the commit.
    pub fn stay_ready(&mut self) {
        self.draft.ready = true;
    }

    /// Ends the object with this commit.
    pub fn withdraw(&mut self) {
        self.draft.withdraw = true;
    }

    /// The value in a private block, to be changed in place. The first call copies.
    pub fn value_mut(&mut self) -> Result<&mut [u8], OutOf> {
        if self.draft.value.is_none() {
            self.write_value(None)?;
        }
        let block = self.draft.value.expect("just written");
        let payload = self.map().private_mut(block).expect("a private block exists");
        // Written by this process, but in memory that others write too.
        let shape = self.map().block(block).map(|block| block.shape()).transpose()?;
        Ok(shape.map_or(&mut [], |shape| &mut payload[shape.data..shape.data + shape.len]))
    }

    /// Replaces the value; its length may change.
    pub fn set_value(&mut self, value: &[u8]) -> Result<(), OutOf> {
        self.write_value(Some(value))
    }

    /// Writes key and `value` (none: the committed one) into a private block.
    fn write_value(&mut self, value: Option<&[u8]>) -> Result<(), OutOf> {
        let Participant { region, supply, .. } = &mut *self.participant;
        let map: &Map = &region.map;
        let (key, committed) =
            self.word.block().and_then(|block| map.held(block)).unwrap_or((&[], &[]));
        let value = value.unwrap_or(committed);
        let block = value_block(region, supply, key, value, self.placing, self.incarnation)?;
        if let Some(old) = self.draft.value.replace(block) {
            supply.give_block(map, old);
        }
        Ok(())
    }

    /// Emits a packet: it leaves when the commit is released.
    pub fn emit(&mut self, port: PortId, to: Endpoint, payload: &[u8]) -> Result<(), OutOf> {
        let block = self.participant.take_block(ENDPOINT_BYTES + payload.len())?;
        fill_block(self.map(), block, &to.to_bytes(), payload);
        self.draft.emits.push((port, block));
        Ok(())
    }

    /// Creates an object with this commit. `ready`: it is ready at once, without a message.
    pub fn create(
        &mut self,
        queue: QueueId,
        key: Option<&[u8]>,
        value: &[u8],
        ready: bool,
    ) -> Result<(), CreateObjectError> {
        let key = key.unwrap_or(&[]);
        if key.len() > KEY_BYTES_MAX {
            return Err(CreateObjectError::KeyTooLong { bytes: key.len() });
        }
        let region = self.participant.region.clone();
        let hash = region.key_hash(queue.0, key);
        if !key.is_empty()
            && matches!(
                crate::index::lookup(&region.map, hash, queue.0, key),
                crate::index::Lookup::Found { .. }
            )
        {
            return Err(CreateObjectError::Exists);
        }
        let reserved = reserve_object(self.participant, queue, hash)?;
        let placing = u32::from(queue.0);
        let block = if key.is_empty() && value.is_empty() {
            None
        } else {
            let supply = &mut self.participant.supply;
            match value_block(&region, supply, key, value, placing, reserved.incarnation) {
                Ok(block) => Some(block),
                Err(out_of) => {
                    release_reserved(&region, reserved.slot, reserved.word);
                    return Err(out_of.into());
                }
            }
        };
        self.draft.creates.push(Create {
            slot: reserved.slot,
            word: reserved.word,
            block,
            queue,
            key: key.to_vec(),
            ready,
            incarnation: reserved.incarnation,
        });
        Ok(())
    }

    /// Ends the claim: everything asked for happens, or nothing.
    pub fn commit(mut self) -> Result<Seq, CommitError> {
        let mut draft = std::mem::take(&mut self.participant.scratch);
        let drafted = self.fill_draft(&mut draft);
        let old = self.word.block();
        let result = drafted.map(|()| self.participant.commit_draft(&draft));
        self.participant.scratch = draft;
        match result? {
            Ok(seq) => {
                self.settled = true;
                self.after_commit(seq, old);
                Ok(seq)
            }
            Err(refusal) => {
                // Drop gives the object and every private block back.
                Err(match refusal {
                    Refusal::Fenced => {
                        self.participant.count(Counter::Fenced);
                        CommitError::Fenced
                    }
                    Refusal::KeyTaken => CommitError::KeyTaken,
                    Refusal::NewMessages => {
                        self.participant.count(Counter::NewMessages);
                        CommitError::NewMessages
                    }
                    Refusal::Busy => CommitError::Busy,
                    Refusal::RingFull => CommitError::RingFull,
                    Refusal::TooLarge => CommitError::TooLarge,
                })
            }
        }
    }

    /// Gives the object back as it was.
    pub fn give_back(self) {}

    /// Gives the object back as a failed attempt; after `max_attempts` in a row it is parked.
    pub fn fail(mut self) {
        self.failed = true;
    }

    fn fill_draft(&mut self, draft: &mut Draft) -> Result<(), CommitError> {
        let keyed = !self.committed().0.is_empty();
        // The timer is part of the value's block.
        let deadline = self.deadline();
        let before = self.participant.region.deadline(self.word);
        if !self.draft.withdraw && self.draft.value.is_none() && deadline != before {
            self.write_value(None).map_err(CommitError::OutOf)?;
        }
        let owner = self.participant.owner();
        let map = self.map();
        draft.restart(self.role, Some(self.slot));
        let block_word =
            |index: u32| map.block(index).map(|b| BlockWord(b.row.word.load(Ordering::Relaxed)));
        let publish = |index: u32, state: BlockState, home: u32| {
            let seen = block_word(index)?;
            Some(Operation::block(index, seen, seen.next(state, 0, home)))
        };
        let retire = |index: u32| {
            let seen = block_word(index)?;
            Some(Operation::block(index, seen, seen.next(BlockState::Retired, owner, 0)))
        };
        if let Some(value) = self.draft.value.filter(|_| !self.draft.withdraw) {
            if let Some(block) = map.block(value) {
                block.row.deadline.store(deadline, Ordering::Relaxed);
                seal(map, value);
            }
            draft.first.extend(publish(value, BlockState::Value, self.slot));
        }
        for &(port, block) in &self.draft.emits {
            draft.first.extend(publish(block, BlockState::Emitted, port.0.into()));
            draft.emits.push(block);
        }
        draft.first.extend(self.participant.taken.iter().filter_map(|&index| retire(index)));
        for create in &self.draft.creates {
            if let Some(block) = create.block {
                seal(map, block);
                draft.first.extend(publish(block, BlockState::Value, create.slot));
            }
            let state = if create.ready { SlotState::Ready } else { SlotState::Idle };
            draft.first.push(Operation {
                target: Target::Slot(create.slot),
                expected: create.word.0,
                new: create.word.next(state, 0, create.block).0,
                incarnation: create.incarnation,
                placing: u32::from(create.queue.0),
            });
            if !create.key.is_empty() {
                draft.inserts.push(Insert {
                    slot: create.slot,
                    queue: create.queue.0,
                    hash: self.participant.region.key_hash(create.queue.0, &create.key),
                    key: create.key.clone(),
                });
            }
        }
        let after = if self.draft.withdraw {
            draft.closes = Some(self.participant.taken.clone());
            draft.removes = keyed.then(|| self.row().key_hash.load(Ordering::Relaxed));
            self.word.next(SlotState::Free, 0, None)
        } else {
            let state = if self.draft.ready { SlotState::Ready } else { SlotState::Idle };
            self.word.next(state, 0, self.draft.value.or(self.word.block()))
        };
        draft.last.push(Operation {
            target: Target::Slot(self.slot),
            expected: self.word.0,
            new: after.0,
            incarnation: self.incarnation,
            placing: self.placing,
        });
        if (self.draft.withdraw || self.draft.value.is_some())
            && let Some(old) = self.word.block()
        {
            draft.last.extend(retire(old));
        }
        Ok(())
    }

    fn after_commit(&mut self, seq: Seq, old: Option<u32>) {
        let participant = &mut *self.participant;
        let replaced = self.draft.withdraw || self.draft.value.is_some();
        for index in participant.taken.drain(..) {
            participant.supply.retire(seq.to_bits(), index);
        }
        if let Some(old) = old.filter(|_| replaced) {
            participant.supply.retire(seq.to_bits(), old);
        }
        let Participant { region, supply, .. } = participant;
        if let Some(unused) = self.draft.value.filter(|_| self.draft.withdraw) {
            supply.give_block(&region.map, unused);
        }
        supply.reclaim(&region.map, region.gathered().to_bits());
        if self.draft.withdraw {
            participant.count(Counter::Withdrawn);
        }
        participant.count(Counter::Commits);
        participant.add(Counter::Created, self.draft.creates.len() as u64);
        participant.row().claims[0].store(0, Ordering::Relaxed);
        participant.leave();
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let failed = self.failed || std::thread::panicking();
        let participant = &mut *self.participant;
        let region = participant.region.clone();
        let private = self.draft.value.into_iter();
        let private = private.chain(self.draft.emits.iter().map(|&(_, block)| block));
        let private = private.chain(self.draft.creates.iter().filter_map(|create| create.block));
        for block in private {
            participant.supply.give_block(&region.map, block);
        }
        for create in &self.draft.creates {
            release_reserved(&region, create.slot, create.word);
        }
        participant.taken.clear();
        let parked = give_back(&region, self.slot, self.word, self.was_ready, failed);
        participant.count(if parked { Counter::Parked } else { Counter::GivenBack });
        participant.row().claims[0].store(0, Ordering::Relaxed);
        participant.leave();
    }
}

/// Makes a claimed object claimable again: by its claimer, or by the reaper in its place. With `failed` the
/// attempt counts, and after `max_attempts` the object is parked: true.
pub(crate) fn give_back(
    region: &Region,
    slot: u32,
    word: SlotWord,
    was_ready: bool,
    failed: bool,
) -> bool {
    let map = &region.map;
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
    let mut attempts = row.attempts.load(Ordering::Relaxed);
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
    let state = match (parked, was_ready) {
        (true, _) => SlotState::Parked,
        (false, true) => SlotState::Ready,
        (false, false) => SlotState::Idle,
    };
    let after = word.next(state, 0, word.block());
    let _ = row.word.compare_exchange(word.0, after.0, Ordering::SeqCst, Ordering::Relaxed);
    region.look_again(slot);
    parked
}

/// A slot that this participant is filling.
pub(crate) struct Reserved {
    pub(crate) slot: u32,
    pub(crate) word: SlotWord,
    pub(crate) incarnation: u32,
}

/// Takes a free slot and gives it its next incarnation, the hash of its key and an empty, open inbox.
pub(crate) fn reserve_object(
    participant: &mut Participant,
    queue: QueueId,
    key_hash: u64,
) -> Result<Reserved, OutOf> {
    let region = participant.region.clone();
    let (slot, word) = participant.supply.take_slot(&region.map)?;
    let row = region.map.slot(slot).expect("a slot just taken exists");
    // The row is this participant's while it is Reserved: plain stores.
    let incarnation = row.incarnation.load(Ordering::Relaxed).wrapping_add(1);
    row.incarnation.store(incarnation, Ordering::Relaxed);
    row.placing.store(queue.0.into(), Ordering::Relaxed);
    row.attempts.store(0, Ordering::Relaxed);
    row.key_hash.store(key_hash, Ordering::Relaxed);
    row.inbox.store(InboxWord::new(incarnation, false, 0, None).0, Ordering::SeqCst);
    Ok(Reserved { slot, word, incarnation })
}

/// Frees a slot that was reserved and not used.
pub(crate) fn release_reserved(region: &Region, slot: u32, word: SlotWord) {
    let Some(row) = region.map.slot(slot) else {
        return;
    };
    let free = word.next(SlotState::Free, 0, None);
    // ORDER slot/1.
    if row.word.compare_exchange(word.0, free.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
        crate::pool::hint_free_slot(&region.map, slot);
    }
}

/// Writes prefix and data into a private block.
pub(crate) fn fill_block(map: &Map, index: u32, prefix: &[u8], data: &[u8]) {
    let (Some(block), Some(payload)) = (map.block(index), map.private_mut(index)) else {
        return;
    };
    let at = prefix.len().next_multiple_of(16);
    payload[..prefix.len()].copy_from_slice(prefix);
    payload[at..at + data.len()].copy_from_slice(data);
    block.row.shape.store(prefix.len() as u32, Ordering::Relaxed);
    block.row.len.store(data.len() as u32, Ordering::Relaxed);
    block.row.deadline.store(0, Ordering::Relaxed);
}

/// A private block that holds a value; `placing` and `incarnation` are its home's.
pub(crate) fn value_block(
    region: &Region,
    supply: &mut Supply,
    key: &[u8],
    value: &[u8],
    placing: u32,
    incarnation: u32,
) -> Result<u32, OutOf> {
    let index = take_block(region, supply, key.len().next_multiple_of(16) + value.len())?;
    let map: &Map = &region.map;
    fill_block(map, index, key, value);
    if let Some(block) = map.block(index) {
        block.row.shape.store(key.len() as u32 | placing << 16, Ordering::Relaxed);
        block.row.incarnation.store(incarnation, Ordering::Relaxed);
    }
    Ok(index)
}

/// Writes the checksum of a value that is complete.
pub(crate) fn seal(map: &Map, index: u32) {
    if let (Some(block), Some((prefix, data))) = (map.block(index), map.held(index)) {
        block.row.crc.store(checksum(prefix, data), Ordering::Relaxed);
    }
}

pub(crate) fn checksum(prefix: &[u8], data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(prefix), data)
}

/// Why an object could not be created; the claim goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateObjectError {
    /// Another object of the queue bears the key.
    #[error("the key belongs to another object of the queue")]
    Exists,
    /// Keys are stored with the value.
    #[error("the key is {bytes} bytes long, at most {KEY_BYTES_MAX} are possible")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// No room.
    #[error(transparent)]
    OutOf(#[from] OutOf),
}

/// Why a commit did not happen. Nothing of it has; the object is ready again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The node changed its role after the claim.
    #[error("the region is not the primary it was when the object was claimed")]
    Fenced,
    /// A message arrived for the object that was to be withdrawn: it is ready again, with all messages.
    #[error("a message arrived for the object that was to be withdrawn")]
    NewMessages,
    /// Somebody else created an object with the key meanwhile.
    #[error("the key of a created object was taken meanwhile")]
    KeyTaken,
    /// Commits of others were in the way for too long.
    #[error("commits of other processes were in the way for too long")]
    Busy,
    /// Nobody gathered this process's commits for seconds.
    #[error("the node has not gathered this process's earlier commits")]
    RingFull,
    /// More emits, messages and creations than one commit can carry.
    #[error("the commit has more steps than an entry holds")]
    TooLarge,
    /// No block for the value.
    #[error(transparent)]
    OutOf(OutOf),
}
