//! The commit: a tx entry is redo log, commit point and delta in one.
//!
//! ```text
//!            owner          owner: draws the seq,          owner or reaper
//!   ┌──────┐       ┌─────────┐  then the point  ┌───────────┐      ┌─────────┐
//!   │ Idle ├──────►│ Drawing ├─────────────────►│ Committed ├─────►│ Applied │
//!   └──────┘       └────┬────┘                  └───────────┘      └─────────┘
//!                       │  owner; reaper after a confirmed death; a gatherer or a
//!                       └─► Aborted   rival if the owner stalls; a change of role
//! ```
//!
//! Every operation's expected word names the committer as owner, so that after the commit point nobody else
//! changes it: the owner applies by plain stores, and the reaper's swaps can fail for no other reason than
//! that the step was done already. Applying is a replay.
//!
//! One counter orders everything. An entry goes to `Drawing` before its seq is drawn by a read-modify-write
//! of `commit_seq`; so whoever reads that counter afterwards, or swaps it himself, sees the entry.

use std::cell::Cell;
use std::time::Duration;

use crate::counters::Counter;
use crate::gather;
use crate::inbox;
use crate::keys::{Insert, Prepared, reserve_keys};
use crate::layout::{EntryRow, OPERATIONS_MAX, ParticipantRow, SlotRow};
use crate::letter::is_letter;
use crate::map::Map;
use crate::process::monotonic_ns;
use crate::region::Region;
use crate::sync::{Ordering, fence};
use crate::words::{
    BlockState, BlockWord, EntryState, EntryWord, InboxWord, RoleEpoch, Seq, SlotState, SlotWord,
};

/// How long an undecided entry of a live process may hold up others.
pub(crate) const COMMIT_STALL: Duration = Duration::from_millis(2);

/// How long a commit waits for room in its ring before it is refused.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Commits that were aborted as stalled are drawn again, not for ever.
pub(crate) const DRAWS_MAX: u32 = 100;

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
    pub(crate) fn to_bits(self) -> u32 {
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

    #[inline]
    pub(crate) fn write(self, entry: &EntryRow, at: usize) {
        let row = &entry.operations[at];
        row.target.store(self.target.to_bits(), Ordering::Relaxed);
        row.expected.store(self.expected, Ordering::Relaxed);
        row.new.store(self.new, Ordering::Relaxed);
        row.incarnation.store(self.incarnation, Ordering::Relaxed);
        row.placing.store(self.placing.into(), Ordering::Relaxed);
    }
}

/// A commit before it has an entry.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) role: RoleEpoch,
    /// Steps before those of the key index: blocks, created slots.
    pub(crate) first: Vec<Operation>,
    /// Steps after those of the key index: the claimed slots, their old values.
    pub(crate) last: Vec<Operation>,
    pub(crate) inserts: Vec<Insert>,
    /// Withdrawn objects that have a key: slot and hash.
    pub(crate) removes: Vec<(u32, u64)>,
    /// Withdrawn objects: their inboxes are closed unless more messages wait than are consumed.
    pub(crate) closes: Vec<u32>,
    /// The messages that it consumes, if it withdraws anything.
    pub(crate) consumed: Vec<u32>,
    /// Emitted packets in the order in which they leave.
    pub(crate) emits: Vec<u32>,
    /// All steps in their order, once the key index is reserved.
    steps: Vec<Operation>,
    /// It is followed through its stages.
    pub(crate) followed: bool,
    /// When it was decided, if it is followed.
    pub(crate) decided: Cell<u64>,
}

impl Draft {
    pub(crate) fn new(role: RoleEpoch) -> Self {
        Self { role, ..Self::default() }
    }

    /// Empties the draft and keeps its room.
    #[inline]
    pub(crate) fn restart(&mut self, role: RoleEpoch) {
        self.role = role;
        self.first.clear();
        self.last.clear();
        self.inserts.clear();
        self.removes.clear();
        self.closes.clear();
        self.consumed.clear();
        self.emits.clear();
        self.followed = false;
    }

    /// Adds the step that publishes a private block.
    #[inline]
    pub(crate) fn publish(&mut self, map: &Map, index: u32, state: BlockState, home: u32) {
        if let Some(block) = map.block(index) {
            let seen = BlockWord(block.row.word.load(Ordering::Relaxed));
            self.first.push(Operation::block(index, seen, seen.next(state, 0, home)));
        }
    }

    /// Steps at most: each key adds one for its bucket and one for a neighbour in the chain.
    fn steps_max(&self) -> usize {
        self.first.len() + self.last.len() + 2 * (self.inserts.len() + self.removes.len())
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

/// Carries a draft through to `Applied`. `seat` is the caller's own.
#[inline]
pub(crate) fn commit(region: &Region, seat: u8, draft: &mut Draft) -> Result<Seq, Refusal> {
    if draft.steps_max() > OPERATIONS_MAX {
        return Err(Refusal::TooLarge);
    }
    let map: &Map = &region.map;
    for _ in 0..DRAWS_MAX {
        let (entry, drawing) = begin_entry(region, seat, draft.role)?;
        let mut prepared = Prepared::default();
        match draw(region, seat, draft, entry, drawing, &mut prepared) {
            Ok(Some(seq)) => {
                apply(map, seq.to_bits(), draft.steps.iter().copied(), By::Owner);
                publish_hints(region, draft.steps.iter().copied(), By::Owner);
                finish_entry(entry, drawing);
                return Ok(seq);
            }
            // Aborted by somebody whom it held up: once more, with a new position.
            Ok(None) => prepared.undo(map),
            Err(refusal) => {
                // Whoever met a prepared word reads here that it does not count: before it is undone.
                abort_entry(region, entry, drawing);
                prepared.undo(map);
                return Err(refusal);
            }
        }
    }
    Err(Refusal::Busy)
}

/// All steps are done, and all hints given.
#[inline]
pub(crate) fn finish_entry(entry: &EntryRow, drawing: EntryWord) {
    // ORDER entry/3 Release, pairs with entry/4: the reaper sees all steps done.
    entry.word.store(drawing.with(EntryState::Applied).0, Ordering::Release);
}

/// The owner gives up before the commit point.
#[cold]
pub(crate) fn abort_entry(region: &Region, entry: &EntryRow, drawing: EntryWord) {
    // ORDER entry/2 SeqCst, pairs with entry/4.
    entry.word.store(drawing.with(EntryState::Aborted).0, Ordering::SeqCst);
    // ORDER bell/3 is the store above, pairs with bell/5. The node may have found commits of others that had to wait
    // for this one to be decided, and sleep.
    region.ring(crate::bell::Bell::Node);
}

/// Fills the next entry of the ring, up to `Drawing`.
#[inline]
pub(crate) fn begin_entry(
    region: &Region,
    seat: u8,
    role: RoleEpoch,
) -> Result<(&EntryRow, EntryWord), Refusal> {
    let map: &Map = &region.map;
    let row = map.participant(seat).expect("a participant's own seat exists");
    let position = row.next_position.load(Ordering::Relaxed);
    let entry = map.entry(seat, position).expect("a participant's own ring exists");
    wait_for_room(region, row, entry)?;
    let drawing = EntryWord::new(position, EntryState::Drawing);
    entry.word.store(drawing.with(EntryState::Idle).0, Ordering::Relaxed);
    // ORDER reuse/1 Release, pairs with reuse/2: who reads the new contents does not find the old word again.
    fence(Ordering::Release);
    entry.role.store(role.0, Ordering::Relaxed);
    entry.operation_count.store(0, Ordering::Relaxed);
    entry.seq.store(0, Ordering::Relaxed);
    entry.stamp.store(0, Ordering::Relaxed);
    let floor = map.header().commit_seq.word.load(Ordering::SeqCst);
    entry.floor.store(floor, Ordering::Relaxed);
    // ORDER entry/1 Release, pairs with watermark/1 and role/4 through the swap that draws the seq (draw/1):
    // whoever reads a `commit_seq` that includes this seq sees the position and the state.
    row.next_position.store(position.wrapping_add(1), Ordering::Release);
    entry.word.store(drawing.0, Ordering::Release);
    Ok((entry, drawing))
}

/// From `Drawing` to `Committed`. `None`: somebody aborted the entry.
#[inline]
fn draw(
    region: &Region,
    seat: u8,
    draft: &mut Draft,
    entry: &EntryRow,
    drawing: EntryWord,
    prepared: &mut Prepared,
) -> Result<Option<Seq>, Refusal> {
    let map: &Map = &region.map;
    // Nothing is prepared, and no seq is drawn, under a role that is known to have ended.
    if region.role() != draft.role {
        return Err(Refusal::Fenced);
    }
    draft.steps.clear();
    draft.steps.extend_from_slice(&draft.first);
    if !draft.closes.is_empty() || !draft.inserts.is_empty() {
        for &slot in &draft.closes {
            if !inbox::close(map, slot, &draft.consumed) {
                return Err(Refusal::NewMessages);
            }
            prepared.closed.push(slot);
        }
        reserve_keys(map, seat, draft, prepared)?;
        let steps = &mut draft.steps;
        prepared.buckets.iter().for_each(|bucket| bucket.operations(map, &mut |o| steps.push(o)));
    }
    draft.steps.extend_from_slice(&draft.last);
    for (at, operation) in draft.steps.iter().enumerate() {
        operation.write(entry, at);
    }
    entry.operation_count.store(draft.steps.len() as u64, Ordering::Relaxed);

    decide(region, draft.role, entry, drawing, |seq| stamp_blocks(map, draft, entry, seq))
}

/// Draws the seq, lets the caller stamp it on the blocks, and takes the commit point. `None`: somebody has
/// aborted the entry.
#[inline]
pub(crate) fn decide(
    region: &Region,
    role: RoleEpoch,
    entry: &EntryRow,
    drawing: EntryWord,
    stamp: impl FnOnce(u64),
) -> Result<Option<Seq>, Refusal> {
    // ORDER draw/1 SeqCst, pairs with watermark/1 and role/4: one order of all swaps of this word.
    let drawn = region.map.header().commit_seq.word.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
    let seq = Seq::from_bits(drawn);
    // ORDER role/3 SeqCst, pairs with role/4: a change of role that swapped `commit_seq` before us is seen
    // here; one that swaps it after us sees Drawing.
    if region.role() != role || seq.epoch() != role.epoch() {
        return Err(Refusal::Fenced);
    }
    entry.seq.store(drawn, Ordering::Relaxed);
    stamp(drawn);
    // ORDER entry/2 SeqCst, pairs with entry/4: who sees Committed sees seq, steps and blocks.
    let point = drawing.with(EntryState::Committed);
    let swapped =
        entry.word.compare_exchange(drawing.0, point.0, Ordering::SeqCst, Ordering::SeqCst);
    Ok(swapped.is_ok().then_some(seq))
}

#[inline]
fn wait_for_room(region: &Region, row: &ParticipantRow, entry: &EntryRow) -> Result<(), Refusal> {
    let used = entry.seq.load(Ordering::Relaxed);
    let committed =
        EntryWord(entry.word.load(Ordering::Relaxed)).state() == Some(EntryState::Applied);
    if !committed || used <= region.gathered().to_bits() {
        return Ok(());
    }
    if used > region.commit_seq().to_bits() {
        return Ok(()); // a position that nobody has drawn is damage, and nothing to wait for
    }
    wait_for_gatherer(region, row, used)
}

#[cold]
fn wait_for_gatherer(region: &Region, row: &ParticipantRow, used: u64) -> Result<(), Refusal> {
    let begun = monotonic_ns();
    let mut held = false;
    loop {
        if gather::raise_if_free(region) >= Seq::from_bits(used) {
            return Ok(());
        }
        if !held {
            let count = &row.counters[Counter::RingHeld as usize];
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
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

/// Values and packets bear the seq of the commit that made them.
#[inline]
fn stamp_blocks(map: &Map, draft: &Draft, entry: &EntryRow, seq: u64) {
    let decided = stamp_entry(entry, draft.followed);
    draft.decided.set(decided);
    for operation in &draft.steps {
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
            block.row.stamp.store(decided, Ordering::Relaxed);
        }
    }
}

/// Notes when a commit is decided, if it is followed through its stages. What it noted, or zero.
#[inline]
pub(crate) fn stamp_entry(entry: &EntryRow, followed: bool) -> u64 {
    if !followed {
        return 0;
    }
    let now = monotonic_ns();
    entry.stamp.store(now, Ordering::Relaxed);
    now
}

/// Who carries out the steps of a committed entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The committer, alive, for the first time: all that the steps expect stands there, and nobody else
    /// changes what names it as owner.
    Owner,
    /// The reaper, once the owner's death is confirmed, from any point, and perhaps for the second time.
    Reaper,
}

/// Carries out the steps of a committed entry.
#[inline]
pub(crate) fn apply(map: &Map, seq: u64, steps: impl Iterator<Item = Operation>, by: By) {
    for operation in steps {
        let word = match operation.target {
            Target::Block(index) => {
                let Some(block) = map.block(index) else { continue };
                if by == By::Reaper && block.row.word.load(Ordering::Relaxed) != operation.expected
                {
                    continue; // done before: the expected word names the committer
                }
                if BlockWord(operation.new).is(BlockState::Retired) {
                    block.row.seq.store(seq, Ordering::Relaxed);
                }
                &block.row.word
            }
            Target::Slot(index) => {
                let Some(row) = map.slot(index) else { continue };
                if by == By::Reaper && row.word.load(Ordering::Relaxed) != operation.expected {
                    continue;
                }
                if SlotWord(operation.expected).is(SlotState::Claimed) {
                    settle_claim(map, index, row);
                }
                raise_last_seq(row, seq);
                place(row, operation.placing);
                if by == By::Owner {
                    publish_slot(row, SlotWord(operation.new));
                    continue;
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
        match by {
            // ORDER block/2 Release, pairs with block/1.
            // ORDER bucket/2 Release, pairs with bucket/1: the chain words come before their bucket.
            By::Owner => word.store(operation.new, Ordering::Release),
            // A failure means that it was done before: the expected word names the committer.
            By::Reaper => {
                let _ = word.compare_exchange(
                    operation.expected,
                    operation.new,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                );
            }
        }
    }
}

/// What ends with a claim besides the slot word: consumed messages leave the chain, failures are forgotten.
#[inline]
pub(crate) fn settle_claim(map: &Map, slot: u32, row: &SlotRow) {
    let inbox = InboxWord(row.inbox.load(Ordering::SeqCst));
    if inbox.newest().is_some() || inbox.depth() > 0 {
        inbox::prune(map, slot);
    }
    if row.attempts.load(Ordering::Relaxed) != 0 {
        row.attempts.store(0, Ordering::Relaxed);
    }
}

#[inline]
pub(crate) fn raise_last_seq(row: &SlotRow, seq: u64) {
    // ORDER last_seq/1 Release, pairs with last_seq/2: before the slot word changes. Only whoever holds the
    // slot writes it, so there is nobody to race with.
    if row.last_seq.load(Ordering::Relaxed) < seq {
        row.last_seq.store(seq, Ordering::Release);
    }
}

/// The object is in this lane from now on. Only whoever holds the slot writes it.
#[inline]
pub(crate) fn place(row: &SlotRow, placing: u32) {
    if row.placing.load(Ordering::Relaxed) != placing {
        row.placing.store(placing, Ordering::Relaxed);
    }
}

/// The owner's last step on a slot: a plain store, since nobody else changes a word that names it.
#[inline]
pub(crate) fn publish_slot(row: &SlotRow, word: SlotWord) {
    if word.is(SlotState::Idle) {
        // ORDER ready/3 SeqCst, pairs with ready/1 and ready/2: the look into the inbox comes after.
        row.word.store(word.0, Ordering::SeqCst);
    } else {
        // ORDER slot/1 Release, pairs with slot/1.
        row.word.store(word.0, Ordering::Release);
    }
}

/// The steps that a decided entry holds.
pub(crate) fn steps_of(entry: &EntryRow) -> impl Iterator<Item = Operation> {
    let count = (entry.operation_count.load(Ordering::Relaxed) as usize).min(OPERATIONS_MAX);
    (0..count).map_while(|at| Operation::read(entry, at))
}

/// Tells the outside where to look after a commit: lanes, ports, free slots. Hints only.
#[inline]
pub(crate) fn publish_hints(region: &Region, steps: impl Iterator<Item = Operation>, by: By) {
    let map = &region.map;
    for operation in steps {
        match operation.target {
            Target::Slot(index) => match SlotWord(operation.new).state() {
                Some(SlotState::Free) => crate::pool::hint_free_slot(map, index),
                Some(SlotState::Ready) => {
                    // A letter needs no hint while its sender lives: it delivers it next.
                    if let Some(row) = map.slot(index)
                        && !(by == By::Owner && is_letter(row))
                    {
                        region.hint(index, row);
                    }
                }
                _ => region.look_again(index),
            },
            Target::Block(index) => {
                let new = BlockWord(operation.new);
                if new.is(BlockState::Emitted) {
                    region.hint_packet(new.home(), index);
                }
            }
            _ => {}
        }
    }
    // ORDER bell/3 is the commit point, pairs with bell/5.
    region.ring(crate::bell::Bell::Node);
}
