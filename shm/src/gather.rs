//! Gathering: the node merges the rings by seq up to a low watermark and copies the bytes out.
//!
//! Entries, and the blocks that they retire, are reused only once `gathered` has reached their seq. While
//! gathering is required only the node raises it; else whoever needs room does, and the seq in each slot
//! is enough to bring a back-up into step later.

use std::collections::HashMap;

use crate::endpoint::Endpoint;
use crate::map::Map;
use crate::process::monotonic_ns;
use crate::region::Region;
use crate::sync::{Ordering, fence};
use crate::tx::{COMMIT_STALL, Target, steps_of};
use crate::value::EMPTY_SUM;
use crate::words::{BlockState, BlockWord, EntryState, EntryWord, Role, Seq, SlotState, SlotWord};

/// Of the next entry: its head, and the steps of a commit of a few messages.
const LINES_AHEAD: usize = 6;

/// The position up to which every commit is decided: nothing at or below it can still appear.
pub(crate) fn watermark(region: &Region) -> Seq {
    let map: &Map = &region.map;
    // ORDER watermark/1 SeqCst, pairs with draw/1 and entry/1: `commit_seq` first, then the entries. Who drew a
    // seq up to the one read here had announced itself before.
    let mut bound = map.header().commit_seq.word.load(Ordering::SeqCst);
    for seat in 0..map.geometry().participants as u8 {
        if let Some((_, entry, word)) = latest(map, seat)
            && word.state() == Some(EntryState::Drawing)
        {
            // Its seq may be drawn already, but not below what was drawn before.
            bound = bound.min(entry.floor.load(Ordering::Relaxed));
        }
    }
    Seq::from_bits(bound).max(region.gathered())
}

/// The only entry of a seat that can be undecided.
fn latest(map: &Map, seat: u8) -> Option<(u64, &crate::layout::EntryRow, EntryWord)> {
    let row = map.participant(seat)?;
    let position = row.next_position.load(Ordering::SeqCst).checked_sub(1)?;
    let entry = map.entry(seat, position)?;
    let word = EntryWord(entry.word.load(Ordering::SeqCst));
    (word.position() == position).then_some((position, entry, word))
}

/// Raises `gathered` to the watermark where nobody gathers; returns what it is afterwards.
pub(crate) fn raise_if_free(region: &Region) -> Seq {
    // In this order: a process that is stopped between the two passes over nothing that was committed
    // after gathering became required, however long it is stopped.
    let free_to = watermark(region);
    // ORDER gathering/2 SeqCst, pairs with gathering/1.
    let required = region.header().gathering.load(Ordering::SeqCst) == 1;
    if required && region.node_alive() {
        return region.gathered();
    }
    // Of a back-up it says how far the batches have been written, and only its node knows: raised by somebody else
    // after the death of that node, half a batch would pass for a whole one.
    if region.role().role() == Role::Backup {
        return region.gathered();
    }
    raise(region, free_to)
}

/// Raises `gathered`, never lowers it.
fn raise(region: &Region, to: Seq) -> Seq {
    // ORDER gathered/1 AcqRel, pairs with gathered/2: all reading of the entries comes before reuse.
    let before = region.header().gathered.word.fetch_max(to.to_bits(), Ordering::AcqRel);
    Seq::from_bits(before).max(to)
}

/// What one commit changed, borrowed from the region until the sink returns.
#[derive(Debug, Default)]
pub struct GatheredCommit<'r> {
    /// Its position.
    pub seq: Seq,
    /// When it was committed, in monotonic nanoseconds, if it is followed through its [stages](crate::Stage); else zero.
    pub stamp: u64,
    /// Objects that it made, changed or ended.
    pub changes: Vec<Change<'r>>,
    /// Packets that it emitted, in order.
    pub emits: Vec<EmitImage<'r>>,
}

/// What became of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'r> {
    /// It holds this object with this value.
    Put {
        /// Number of the slot.
        slot: u32,
        /// Which of the slot's objects.
        incarnation: u32,
        /// Place of the queue in the geometry.
        queue: u8,
        /// Priority lane, with [`LETTER`](crate::LETTER) if it is one.
        priority: u8,
        /// Empty if the object has no key.
        key: &'r [u8],
        /// The committed value.
        value: &'r [u8],
        /// Monotonic nanoseconds of this host at which the timer is due.
        deadline: Option<u64>,
        /// Ready whatever its inbox says.
        ready: bool,
        /// Checksum of key and value, made by who committed them. Of no meaning to an
        /// [`Applier`](crate::Applier), which computes its own.
        sum: u64,
        /// The value that the same object had before the commit, where it is still there. Of no meaning to an applier.
        before: Option<&'r [u8]>,
    },
    /// Its object has ended.
    Remove {
        /// Number of the slot.
        slot: u32,
        /// Which of the slot's objects.
        incarnation: u32,
    },
}

/// A packet that a commit emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmitImage<'r> {
    /// Place of the port in the geometry.
    pub port: u8,
    /// Place among the packets of its commit.
    pub ordinal: u32,
    /// Where it goes.
    pub endpoint: Endpoint,
    /// Its bytes.
    pub payload: &'r [u8],
}

/// Reads commits in their order. One per region, in the node.
pub struct Gatherer {
    region: Region,
    /// Per seat, the first position that was not read yet.
    positions: Vec<u64>,
    /// Per seat, the undecided entry last seen and since when.
    undecided: HashMap<u8, (u64, u64)>,
    found: Vec<(u64, u8, u64)>,
    /// Where the last turn ended.
    last: Seq,
}

/// What a turn of gathering found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatherTurn {
    /// Everything up to here has been handed to the sink.
    pub upto: Seq,
    /// Commits handed over in this turn.
    pub commits: usize,
    /// Commits were overwritten before they were read: the state must be copied afresh.
    pub gap: bool,
}

impl Gatherer {
    /// Starts at what has been gathered so far.
    pub fn new(region: Region) -> Self {
        let seats = usize::from(region.geometry().participants);
        Self {
            positions: vec![0; seats],
            undecided: HashMap::new(),
            found: Vec::new(),
            last: region.gathered(),
            region,
        }
    }

    /// Hands every commit up to the watermark to `sink`, in order, then lets the entries be reused.
    /// At most `limit` commits.
    pub fn gather(
        &mut self,
        limit: usize,
        mut sink: impl FnMut(&GatheredCommit<'_>),
    ) -> GatherTurn {
        let region = self.region.clone();
        let before = region.gathered();
        self.abort_stalled();
        let mut upto = watermark(&region);
        // While nobody was required to gather, somebody made room for himself.
        let gap = before > self.last;
        self.last = before;
        if upto <= before {
            return GatherTurn { upto: before, commits: 0, gap };
        }
        self.found.clear();
        for seat in 0..region.geometry().participants as u8 {
            self.read_seat(seat, before, upto, limit);
        }
        self.found.sort_unstable();
        if self.found.len() > limit {
            self.found.truncate(limit);
            upto = Seq::from_bits(self.found.last().map_or(before.to_bits(), |last| last.0));
        }
        let mut commit = GatheredCommit::default();
        for (at, &(seq, seat, position)) in self.found.iter().enumerate() {
            if let Some(&(_, seat, position)) = self.found.get(at + 1)
                && let Some(next) = region.map.entry(seat, position)
            {
                next.fetch_to_read(LINES_AHEAD);
            }
            if let Some(entry) = region.map.entry(seat, position) {
                commit.read(&region.map, Seq::from_bits(seq), entry, Before::IsThere);
                sink(&commit);
            }
            self.positions[usize::from(seat)] = position + 1;
        }
        raise(&region, upto);
        self.last = upto;
        GatherTurn { upto, commits: self.found.len(), gap }
    }

    /// Collects the committed entries of one seat between two positions of the order: the oldest, and one more
    /// than a turn takes, if there are so many. They have rising seqs, so whatever is behind them is newer than all
    /// that the turn takes.
    fn read_seat(&mut self, seat: u8, above: Seq, upto: Seq, limit: usize) {
        let map: &Map = &self.region.map;
        let Some(row) = map.participant(seat) else {
            return;
        };
        let end = row.next_position.load(Ordering::SeqCst);
        let oldest = end.saturating_sub(u64::from(map.geometry().tx_entries));
        let enough = self.found.len().saturating_add(limit).saturating_add(1);
        for position in self.positions[usize::from(seat)].max(oldest)..end {
            let Some(entry) = map.entry(seat, position) else {
                break;
            };
            // ORDER entry/4 SeqCst, pairs with entry/2 and entry/3: the steps and the seq of what is decided.
            let word = EntryWord(entry.word.load(Ordering::SeqCst));
            if word.position() > position {
                continue; // reused, so it was gathered
            }
            match word.state() {
                Some(EntryState::Committed | EntryState::Applied)
                    if word.position() == position =>
                {
                    let seq = entry.seq.load(Ordering::Relaxed);
                    // ORDER reuse/2 Acquire, pairs with reuse/1: that seq was this position's.
                    fence(Ordering::Acquire);
                    if entry.word.load(Ordering::Relaxed) >> 6 != position {
                        continue;
                    }
                    if seq > upto.to_bits() {
                        break;
                    }
                    if seq > above.to_bits() {
                        self.found.push((seq, seat, position));
                        if self.found.len() >= enough {
                            break;
                        }
                    } else {
                        self.positions[usize::from(seat)] = position + 1;
                    }
                }
                Some(EntryState::Aborted) if word.position() == position => {}
                _ => break,
            }
        }
    }

    /// Aborts an entry of a living process that has been undecided for too long: nothing and nobody may
    /// hold up the order.
    fn abort_stalled(&mut self) {
        let map: &Map = &self.region.map;
        for seat in 0..map.geometry().participants as u8 {
            let Some((position, entry, word)) = latest(map, seat) else {
                continue;
            };
            if word.state() != Some(EntryState::Drawing) {
                self.undecided.remove(&seat);
                continue;
            }
            let now = monotonic_ns();
            let since = match self.undecided.get(&seat) {
                Some(&(seen, since)) if seen == position => since,
                _ => {
                    self.undecided.insert(seat, (position, now));
                    continue;
                }
            };
            if now - since > COMMIT_STALL.as_nanos() as u64 {
                let aborted = word.with(EntryState::Aborted);
                let _ = entry.word.compare_exchange(
                    word.0,
                    aborted.0,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                );
            }
        }
    }

    /// Hands over the commits that their owners have not applied yet, gathered or not: the slots do not
    /// show them. A copier of all slots calls this once, first, when gathering is required already.
    pub fn unapplied(&self, mut sink: impl FnMut(&GatheredCommit<'_>)) {
        let map: &Map = &self.region.map;
        let mut commit = GatheredCommit::default();
        for seat in 0..map.geometry().participants as u8 {
            // ORDER entry/4 SeqCst (in `latest`), pairs with entry/2.
            if let Some((position, entry, word)) = latest(map, seat)
                && word.state() == Some(EntryState::Committed)
            {
                // Its blocks stay: what replaces them is retired, and waits to be gathered.
                let seq = Seq::from_bits(entry.seq.load(Ordering::Relaxed));
                commit.read(map, seq, entry, Before::MayBeGone);
                // ORDER reuse/2 Acquire, pairs with reuse/1: if it was gathered before, its owner may go on and
                // use the entry again. Then the slots show it.
                fence(Ordering::Acquire);
                if entry.word.load(Ordering::Relaxed) >> 6 == position {
                    sink(&commit);
                }
            }
        }
    }

    /// Whether an undecided entry holds up the order: then gather again soon.
    pub fn is_held_up(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// Takes the packets that ports have sent: each once, with the seq and ordinal that name it. Their
    /// blocks are free afterwards.
    pub fn collect_sent(&mut self, mut sink: impl FnMut(Seq, u32)) {
        let map: &Map = &self.region.map;
        let ring = map.sent_ring();
        let overflowed = ring.len() >= u64::from(map.layout().sent_ring.capacity) / 2;
        let (gathered, mut early) = (self.region.gathered(), Vec::new());
        let mut collect = |index: u32| {
            let Some(block) = map.block(index) else {
                return;
            };
            let word = BlockWord(block.row.word.load(Ordering::Acquire));
            if !word.is(BlockState::Sent) {
                return;
            }
            let seq = Seq::from_bits(block.row.seq.load(Ordering::Relaxed));
            if seq > gathered {
                // Of a port that waits for nobody: the commit is still to be read, and its packet with it.
                early.push(index);
                return;
            }
            let ordinal = block.row.id.load(Ordering::Relaxed) as u32;
            if crate::pool::free_block(map, index, word) {
                sink(seq, ordinal);
            }
        };
        while let Some(index) = ring.pop() {
            collect(index);
        }
        if overflowed {
            // Some may have found the ring full: they have no hint.
            (0..map.block_count()).for_each(collect);
        }
        for index in early {
            let _ = ring.push(index);
        }
    }
}

/// Whether a packet's block is what the commit `seq` made of it, or is about to. One that was gathered
/// before may have been sent since, and its block used again.
fn is_still_there(row: &crate::layout::BlockRow, expected: u64, seq: Seq) -> bool {
    let word = BlockWord(row.word.load(Ordering::Acquire));
    let emitted =
        matches!(word.state(), Some(BlockState::Emitted | BlockState::Sending | BlockState::Sent));
    word.0 == expected || emitted && row.seq.load(Ordering::Relaxed) == seq.to_bits()
}

/// What has become of the blocks that a commit replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Retired by it at the earliest, and it is being gathered.
    IsThere,
    /// It was gathered, perhaps.
    MayBeGone,
}

impl<'r> GatheredCommit<'r> {
    /// Reads a committed entry. Its blocks, and those that it replaces, are not reused before `gathered` reaches its seq.
    fn read(&mut self, map: &'r Map, seq: Seq, entry: &crate::layout::EntryRow, before: Before) {
        self.seq = seq;
        self.stamp = entry.stamp.load(Ordering::Relaxed);
        self.changes.clear();
        self.emits.clear();
        let commit = self;
        // The worker has just written them.
        for operation in steps_of(entry) {
            if let Target::Block(index) = operation.target
                && BlockWord(operation.new).is(BlockState::Emitted)
                && let Some(block) = map.block(index)
            {
                block.fetch_to_read();
            }
        }
        for operation in steps_of(entry) {
            match operation.target {
                Target::Slot(slot) => {
                    let incarnation = operation.incarnation;
                    let new = SlotWord(operation.new);
                    commit.changes.push(if new.is(SlotState::Free) {
                        Change::Remove { slot, incarnation }
                    } else {
                        let block = new.block().and_then(|index| map.block(index));
                        let (deadline, sum) = block.map_or((0, EMPTY_SUM), |block| {
                            let row = block.row;
                            (row.deadline.load(Ordering::Relaxed), row.sum.load(Ordering::Relaxed))
                        });
                        let (key, value) =
                            block.and_then(|block| map.held_in(block)).unwrap_or((&[], &[]));
                        let old = SlotWord(operation.expected);
                        let before = (before == Before::IsThere && !old.is(SlotState::Free))
                            .then(|| map.held_in(map.block(old.block()?)?))
                            .flatten();
                        Change::Put {
                            slot,
                            incarnation,
                            queue: operation.placing as u8,
                            priority: (operation.placing >> 8) as u8,
                            key,
                            value,
                            deadline: (deadline != 0).then_some(deadline),
                            ready: new.is(SlotState::Ready),
                            sum,
                            before: before.map(|(_, value)| value),
                        }
                    });
                }
                Target::Block(index) => {
                    let new = BlockWord(operation.new);
                    if new.is(BlockState::Emitted)
                        && let (Some(block), Some((prefix, payload))) =
                            (map.block(index), map.held(index))
                        && is_still_there(block.row, operation.expected, seq)
                    {
                        commit.emits.push(EmitImage {
                            port: new.home() as u8,
                            ordinal: block.row.id.load(Ordering::Relaxed) as u32,
                            endpoint: Endpoint::from_bytes(prefix),
                            payload,
                        });
                    }
                }
                _ => {}
            }
        }
    }
}
