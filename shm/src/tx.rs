//! The commit: a tx entry is redo log, commit point and delta in one.
//!
//! ```text
//!            owner                 owner                owner               owner or reaper
//!   ┌──────┐       ┌─────────┐ seq ┌──────────┐  point  ┌───────────┐      ┌─────────┐
//!   │ Idle ├──────►│ Drawing ├────►│ Prepared ├────────►│ Committed ├─────►│ Applied │
//!   └──────┘       └────┬────┘     └────┬─────┘         └───────────┘      └─────────┘
//!                       │               │   owner; reaper after a confirmed death; a gatherer or a
//!                       └───────────────┴─► Aborted   rival if the owner stalls; a change of role
//! ```
//!
//! Every operation's expected word names the committer as owner, so that after the commit point no swap
//! can fail for another reason than that it was done already: applying is a replay.

use std::time::Duration;

use crate::gather;
use crate::inbox;
use crate::index::{self, chain_word, next_of};
use crate::layout::{EntryRow, OPERATIONS_MAX};
use crate::map::Map;
use crate::participant::Participant;
use crate::process::monotonic_ns;
use crate::sync::Ordering;
use crate::words::{
    BlockState, BlockWord, BucketWord, EntryState, EntryWord, RoleEpoch, Seq, SlotState, SlotWord,
};

/// How long an undecided entry of a live process may hold up others.
pub(crate) const COMMIT_STALL: Duration = Duration::from_millis(2);

/// How long a commit waits for room in its ring before it is refused.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Commits that were aborted as stalled are drawn again, not for ever.
const DRAWS_MAX: u32 = 100;

/// A word that a commit changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Slot(u32),
    Block(u32),
    Bucket(u32),
    /// The chain word of a slot.
    Next(u32),
}

impl Target {
    fn to_bits(self) -> u32 {
        match self {
            Target::Slot(index) => index,
            Target::Block(index) => 1 << 30 | index,
            Target::Bucket(index) => 2 << 30 | index,
            Target::Next(index) => 3 << 30 | index,
        }
    }

    fn from_bits(bits: u32) -> Self {
        let index = bits & ((1 << 30) - 1);
        match bits >> 30 {
            0 => Target::Slot(index),
            1 => Target::Block(index),
            2 => Target::Bucket(index),
            _ => Target::Next(index),
        }
    }
}

/// One step of a commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) target: Target,
    pub(crate) expected: u64,
    pub(crate) new: u64,
    pub(crate) incarnation: u32,
    pub(crate) placing: u32,
}

impl Operation {
    pub(crate) fn block(index: u32, expected: BlockWord, new: BlockWord) -> Self {
        let target = Target::Block(index);
        Self { target, expected: expected.0, new: new.0, incarnation: 0, placing: 0 }
    }

    pub(crate) fn read(entry: &EntryRow, at: usize) -> Option<Self> {
        let row = entry.operations.get(at)?;
        Some(Self {
            target: Target::from_bits(row.target.load(Ordering::Relaxed)),
            expected: row.expected.load(Ordering::Relaxed),
            new: row.new.load(Ordering::Relaxed),
            incarnation: row.incarnation.load(Ordering::Relaxed),
            placing: row.placing.load(Ordering::Relaxed) as u32,
        })
    }

    fn write(self, entry: &EntryRow, at: usize) {
        let row = &entry.operations[at];
        row.target.store(self.target.to_bits(), Ordering::Relaxed);
        row.expected.store(self.expected, Ordering::Relaxed);
        row.new.store(self.new, Ordering::Relaxed);
        row.incarnation.store(self.incarnation, Ordering::Relaxed);
        row.placing.store(self.placing.into(), Ordering::Relaxed);
    }
}

/// A new object's key, to be reserved.
#[derive(Debug)]
pub(crate) struct Insert {
    pub(crate) slot: u32,
    pub(crate) queue: u8,
    pub(crate) hash: u64,
    pub(crate) key: Vec<u8>,
}

/// A commit before it has an entry.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) role: RoleEpoch,
    /// The claimed slot.
    pub(crate) slot: Option<u32>,
    /// Steps before those of the key index: blocks, created slots.
    pub(crate) first: Vec<Operation>,
    /// Steps after those of the key index: the claimed slot, its old value.
    pub(crate) last: Vec<Operation>,
    pub(crate) inserts: Vec<Insert>,
    /// The withdrawn object's hash, if it has a key.
    pub(crate) removes: Option<u64>,
    /// For a withdrawal: the messages it consumes; its inbox is closed unless more wait.
    pub(crate) closes: Option<Vec<u32>>,
    /// Emitted packets in the order in which they leave.
    pub(crate) emits: Vec<u32>,
}

impl Draft {
    pub(crate) fn new(role: RoleEpoch, slot: Option<u32>) -> Self {
        Self { role, slot, ..Self::default() }
    }

    /// Empties the draft and keeps its room.
    pub(crate) fn restart(&mut self, role: RoleEpoch, slot: Option<u32>) {
        (self.role, self.slot) = (role, slot);
        self.first.clear();
        self.last.clear();
        self.inserts.clear();
        (self.removes, self.closes) = (None, None);
        self.emits.clear();
    }
}

/// Why a commit did not happen. Nothing of it has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The role under which the claim began has ended.
    Fenced,
    /// A key that was to be created belongs to another object.
    KeyTaken,
    /// The object to be withdrawn got another message.
    NewMessages,
    /// Another undecided commit holds a bucket.
    Busy,
    /// The ring stayed full of commits that nobody gathered.
    RingFull,
    /// More steps than an entry has room for.
    TooLarge,
}

/// Reservations of one entry: what has to be undone if it is aborted.
#[derive(Default)]
struct Prepared {
    buckets: Vec<Bucket>,
    closed: Option<u32>,
}

struct Bucket {
    index: u32,
    word: BucketWord,
    chain: Vec<u32>,
    removed: Option<u32>,
    inserted: Vec<u32>,
}

impl Prepared {
    fn undo(self, map: &Map) {
        for bucket in &self.buckets {
            if let Some(head) = map.bucket_at(bucket.index) {
                let undone = bucket.word.next(bucket.word.first(), 0);
                // ORDER bucket/2. Somebody who waited may have undone it already.
                let _ = head.compare_exchange(
                    bucket.word.0,
                    undone.0,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                );
            }
        }
        if let Some(slot) = self.closed {
            inbox::reopen(map, slot);
        }
    }
}

impl Participant {
    /// Carries a draft through to `Applied`.
    pub(crate) fn commit_draft(&self, draft: &Draft) -> Result<Seq, Refusal> {
        if draft.first.len() + draft.last.len() + 2 * draft.inserts.len() + 3 > OPERATIONS_MAX {
            return Err(Refusal::TooLarge);
        }
        let map: &Map = &self.region.map;
        for _ in 0..DRAWS_MAX {
            let (entry, position) = self.begin_entry(map, draft)?;
            let word = EntryWord::new(position, EntryState::Drawing);
            let mut prepared = Prepared::default();
            match self.draw(map, draft, entry, word, &mut prepared) {
                Ok(Some(seq)) => {
                    apply(map, entry, By::Owner);
                    publish_hints(&self.region, entry);
                    let applied = word.with(EntryState::Applied);
                    // ORDER entry/3 Release, pairs with entry/4: the reaper sees all steps done.
                    entry.word.store(applied.0, Ordering::Release);
                    return Ok(seq);
                }
                // Aborted by somebody whom it held up: once more, with a new position.
                Ok(None) => prepared.undo(map),
                Err(refusal) => {
                    let aborted = word.with(EntryState::Aborted);
                    entry.word.store(aborted.0, Ordering::SeqCst);
                    prepared.undo(map);
                    return Err(refusal);
                }
            }
        }
        Err(Refusal::Busy)
    }

    /// Fills the next entry of the ring, up to `Drawing`.
    fn begin_entry<'m>(&self, map: &'m Map, draft: &Draft) -> Result<(&'m EntryRow, u64), Refusal> {
        let row = map.participant(self.seat).expect("a participant's own seat exists");
        let position = row.next_position.load(Ordering::Relaxed);
        let entry = map.entry(self.seat, position).expect("a participant's own ring exists");
        self.wait_for_room(entry)?;
        let idle = EntryWord::new(position, EntryState::Idle);
        entry.word.store(idle.0, Ordering::Release);
        entry.role.store(draft.role.0, Ordering::Relaxed);
        entry.slot.store(draft.slot.map_or(0, |slot| slot + 1), Ordering::Relaxed);
        entry.operation_count.store(0, Ordering::Relaxed);
        entry.seq.store(0, Ordering::Relaxed);
        let header = map.header();
        entry.floor.store(header.commit_seq.word.load(Ordering::SeqCst), Ordering::Relaxed);
        // ORDER entry/1 SeqCst, pairs with watermark/1: position, then Drawing, then the seq is drawn.
        // A gatherer that read `commit_seq` first and still finds the old position knows that this
        // entry's seq lies above what it read.
        row.next_position.store(position.wrapping_add(1), Ordering::SeqCst);
        entry.word.store(idle.with(EntryState::Drawing).0, Ordering::SeqCst);
        Ok((entry, position))
    }

    /// From `Drawing` to `Committed`. `None`: somebody aborted the entry.
    fn draw(
        &self,
        map: &Map,
        draft: &Draft,
        entry: &EntryRow,
        drawing: EntryWord,
        prepared: &mut Prepared,
    ) -> Result<Option<Seq>, Refusal> {
        // ORDER role/3 SeqCst, pairs with role/1: a change of role either is seen here, or sees Drawing.
        if self.region.role() != draft.role {
            return Err(Refusal::Fenced);
        }
        if let (Some(slot), Some(taken)) = (draft.slot, &draft.closes) {
            if !inbox::close(map, slot, taken) {
                return Err(Refusal::NewMessages);
            }
            prepared.closed = Some(slot);
        }
        self.reserve_keys(map, draft, prepared)?;
        let mut at = 0;
        let mut write = |operation: Operation| {
            operation.write(entry, at);
            at += 1;
        };
        draft.first.iter().copied().for_each(&mut write);
        prepared.buckets.iter().for_each(|bucket| bucket.operations(map, &mut write));
        draft.last.iter().copied().for_each(&mut write);
        entry.operation_count.store(at as u32, Ordering::Relaxed);

        let drawn = map.header().commit_seq.word.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        let seq = Seq::from_bits(drawn);
        if seq.epoch() != draft.role.epoch() {
            return Err(Refusal::Fenced);
        }
        entry.seq.store(drawn, Ordering::Relaxed);
        stamp_blocks(map, draft, drawn);
        let ready = drawing.with(EntryState::Prepared);
        let point = drawing.with(EntryState::Committed);
        // ORDER entry/2 SeqCst, pairs with entry/4: who sees Committed sees seq, steps and blocks.
        for (from, to) in [(drawing, ready), (ready, point)] {
            if entry
                .word
                .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst)
                .is_err()
            {
                return Ok(None);
            }
        }
        Ok(Some(seq))
    }

    fn wait_for_room(&self, entry: &EntryRow) -> Result<(), Refusal> {
        let used = entry.seq.load(Ordering::Relaxed);
        let committed =
            EntryWord(entry.word.load(Ordering::Relaxed)).state() == Some(EntryState::Applied);
        // A position that nobody has drawn is damage, and nothing to wait for.
        let nonsense = used > self.region.commit_seq().to_bits();
        if !committed || used <= self.region.gathered().to_bits() || nonsense {
            return Ok(());
        }
        let begun = monotonic_ns();
        let mut held = false;
        loop {
            if gather::raise_if_free(&self.region) >= Seq::from_bits(used) {
                return Ok(());
            }
            if !held {
                self.count(crate::counters::Counter::RingHeld);
                held = true;
            }
            let waited = monotonic_ns() - begun;
            if waited > ROOM_WAIT.as_nanos() as u64 {
                return Err(Refusal::RingFull);
            }
            if waited < 50_000 {
                std::hint::spin_loop();
            } else {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }

    fn reserve_keys(
        &self,
        map: &Map,
        draft: &Draft,
        prepared: &mut Prepared,
    ) -> Result<(), Refusal> {
        if let (Some(slot), Some(hash)) = (draft.slot, draft.removes) {
            let bucket = self.reserve(map, hash, prepared)?;
            bucket.removed = Some(slot);
        }
        for insert in &draft.inserts {
            let bucket = self.reserve(map, insert.hash, prepared)?;
            let taken = bucket
                .chain
                .iter()
                .any(|&slot| Some(slot) != bucket.removed && bears_key(map, slot, insert));
            let twice = draft.inserts.iter().any(|other| {
                other.slot != insert.slot && other.queue == insert.queue && other.key == insert.key
            });
            if taken || twice {
                return Err(Refusal::KeyTaken);
            }
            bucket.inserted.push(insert.slot);
        }
        Ok(())
    }

    /// Makes this participant the owner of a bucket, or finds that it is.
    fn reserve<'p>(
        &self,
        map: &Map,
        hash: u64,
        prepared: &'p mut Prepared,
    ) -> Result<&'p mut Bucket, Refusal> {
        let (index, head) = map.bucket(hash);
        if let Some(at) = prepared.buckets.iter().position(|bucket| bucket.index == index) {
            return Ok(&mut prepared.buckets[at]);
        }
        let begun = monotonic_ns();
        loop {
            let seen = BucketWord(head.load(Ordering::SeqCst));
            if seen.owner() == 0 {
                let word = seen.next(seen.first(), self.owner());
                // ORDER bucket/2 SeqCst, pairs with bucket/1.
                if head.compare_exchange(seen.0, word.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
                {
                    let chain = chain_of(map, word).ok_or(Refusal::Busy);
                    let chain = chain.inspect_err(|_| {
                        let undone = word.next(word.first(), 0);
                        let _ = head.compare_exchange(
                            word.0,
                            undone.0,
                            Ordering::SeqCst,
                            Ordering::SeqCst,
                        );
                    })?;
                    let bucket = Bucket { index, word, chain, removed: None, inserted: Vec::new() };
                    prepared.buckets.push(bucket);
                    return Ok(prepared.buckets.last_mut().expect("just pushed"));
                }
                continue;
            }
            let waited = monotonic_ns() - begun;
            let stalled = waited > COMMIT_STALL.as_nanos() as u64;
            if waited > 4 * COMMIT_STALL.as_nanos() as u64 {
                // Its entry is committed, so its owner (or the reaper) will finish it, not we.
                return Err(Refusal::Busy);
            }
            index::settle(map, index, seen, stalled);
            std::hint::spin_loop();
        }
    }
}

impl Bucket {
    /// The steps that turn the reserved chain into the new one.
    fn operations(&self, map: &Map, write: &mut impl FnMut(Operation)) {
        let mut first = self.word.first();
        if let Some(removed) = self.removed
            && let Some(at) = self.chain.iter().position(|&slot| slot == removed)
        {
            let behind = self.chain.get(at + 1).copied();
            match at.checked_sub(1).map(|before| self.chain[before]) {
                None => first = behind,
                Some(before) => {
                    let expected =
                        map.slot(before).map_or(0, |row| row.index_next.load(Ordering::Relaxed));
                    let new = chain_word(expected, behind);
                    let target = Target::Next(before);
                    write(Operation { target, expected, new, incarnation: 0, placing: 0 });
                }
            }
        }
        for &slot in &self.inserted {
            // The new slots are reserved by this process: nobody else writes their rows.
            if let Some(row) = map.slot(slot) {
                let before = row.index_next.load(Ordering::Relaxed);
                row.index_next.store(chain_word(before, first), Ordering::Relaxed);
            }
            first = Some(slot);
        }
        let target = Target::Bucket(self.index);
        let new = self.word.next(first, 0).0;
        write(Operation { target, expected: self.word.0, new, incarnation: 0, placing: 0 });
    }
}

/// The slots of a chain that nobody else may change now.
fn chain_of(map: &Map, word: BucketWord) -> Option<Vec<u32>> {
    let mut chain = Vec::new();
    let mut next = word.first();
    while let Some(slot) = next {
        if chain.len() > map.geometry().slots as usize {
            return None;
        }
        chain.push(slot);
        next = next_of(map.slot(slot)?.index_next.load(Ordering::Acquire));
    }
    Some(chain)
}

fn bears_key(map: &Map, slot: u32, insert: &Insert) -> bool {
    let Some(row) = map.slot(slot) else {
        return false;
    };
    if row.key_hash.load(Ordering::Relaxed) != insert.hash
        || row.placing.load(Ordering::Relaxed) as u8 != insert.queue
    {
        return false;
    }
    loop {
        let seen = row.word.load(Ordering::Acquire);
        let same = SlotWord(seen)
            .block()
            .and_then(|block| map.block(block))
            .is_some_and(|block| block.prefix_is_racy(&insert.key));
        if row.word.load(Ordering::Acquire) == seen {
            return same;
        }
    }
}

/// Values and packets bear the seq of the commit that made them.
fn stamp_blocks(map: &Map, draft: &Draft, seq: u64) {
    for operation in draft.first.iter().chain(&draft.last) {
        if let Target::Block(index) = operation.target
            && BlockWord(operation.new).is(BlockState::Value)
            && let Some(block) = map.block(index)
        {
            block.row.seq.store(seq, Ordering::Relaxed);
        }
    }
    for (ordinal, &index) in draft.emits.iter().enumerate() {
        if let Some(block) = map.block(index) {
            block.row.seq.store(seq, Ordering::Relaxed);
            block.row.id.store(ordinal as u64, Ordering::Relaxed);
        }
    }
}

/// Who carries out the steps of a committed entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The committer, alive: what names it as owner is its own, so blocks need no swap.
    Owner,
    /// The reaper, once the owner's death is confirmed, and perhaps for the second time.
    Reaper,
}

/// Carries out the steps of a committed entry; may be repeated from any point.
pub(crate) fn apply(map: &Map, entry: &EntryRow, by: By) {
    let seq = entry.seq.load(Ordering::Relaxed);
    let claimed = entry.slot.load(Ordering::Relaxed).checked_sub(1);
    let count = (entry.operation_count.load(Ordering::Relaxed) as usize).min(OPERATIONS_MAX);
    for at in 0..count {
        let Some(operation) = Operation::read(entry, at) else { continue };
        let word = match operation.target {
            Target::Block(index) => {
                let Some(block) = map.block(index) else { continue };
                let word = &block.row.word;
                if word.load(Ordering::Relaxed) != operation.expected {
                    continue; // done before: the expected word names the committer
                }
                if BlockWord(operation.new).is(BlockState::Retired) {
                    block.row.seq.store(seq, Ordering::Relaxed);
                }
                if by == By::Owner {
                    // ORDER block/2 Release, pairs with the swaps and loads of block/1.
                    word.store(operation.new, Ordering::Release);
                    continue;
                }
                word
            }
            Target::Slot(index) => {
                let Some(row) = map.slot(index) else { continue };
                if row.word.load(Ordering::Relaxed) == operation.expected {
                    if claimed == Some(index) {
                        inbox::prune(map, index);
                        row.attempts.store(0, Ordering::Relaxed);
                    }
                    // ORDER last_seq/1 Release, pairs with last_seq/2: before the slot word changes. Only
                    // whoever holds the slot writes it, so there is nobody to race with.
                    if row.last_seq.load(Ordering::Relaxed) < seq {
                        row.last_seq.store(seq, Ordering::Release);
                    }
                }
                &row.word
            }
            Target::Bucket(index) => {
                let Some(head) = map.bucket_at(index) else { continue };
                head
            }
            Target::Next(index) => {
                let Some(row) = map.slot(index) else { continue };
                &row.index_next
            }
        };
        // A failure means that it was done before: the expected word names the committer.
        let _ = word.compare_exchange(
            operation.expected,
            operation.new,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
    }
}

/// Tells the outside where to look after a commit: lanes, ports, free slots. Hints only.
pub(crate) fn publish_hints(region: &Region, entry: &EntryRow) {
    let map = &region.map;
    let count = (entry.operation_count.load(Ordering::Relaxed) as usize).min(OPERATIONS_MAX);
    for at in 0..count {
        let Some(operation) = Operation::read(entry, at) else {
            continue;
        };
        match operation.target {
            Target::Slot(index) => match SlotWord(operation.new).state() {
                Some(SlotState::Free) => crate::pool::hint_free_slot(map, index),
                _ => region.look_again(index),
            },
            Target::Block(index) => {
                let new = BlockWord(operation.new);
                if new.is(BlockState::Emitted)
                    && let Some(ring) = map.port_ring(new.home())
                {
                    // A full ring: the port's own scan finds what has no hint.
                    let _ = ring.push(index);
                }
            }
            _ => {}
        }
    }
    region.ring(crate::bell::Bell::Node);
}

use crate::region::Region;
