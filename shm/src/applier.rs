//! The back-up's side: writing what the primary changed to the same slot, as a checked copy.
//!
//! While a region is a back-up only its node changes objects, so there is nobody to race with; the words
//! are swapped all the same, and the hints kept up, so that a promotion finds everything in its place.

use std::collections::HashMap;

use crate::endpoint::Endpoint;
use crate::gather::Change;
use crate::index::{chain_word, next_of};
use crate::layout::SlotRow;
use crate::map::{Block, Map};
use crate::participant::Participant;
use crate::pool::{self, OutOf, Supply};
use crate::reading;
use crate::region::{PortId, Region};
use crate::sync::{Ordering, fence, unchanged};
use crate::value::{EMPTY_SUM, ENDPOINT_BYTES, checksum, edit, fill_block, value_block};
use crate::words::{BlockState, BlockWord, BucketWord, InboxWord, Seq, SlotState, SlotWord};

/// Why a change could not be written. The back-up is not in step any more: it needs the state afresh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The primary's region is larger than ours, or the change is damaged.
    #[error("slot {slot} is outside of the region's {slots} slots")]
    NoSuchSlot {
        /// As shipped.
        slot: u32,
        /// Slots there are.
        slots: u32,
    },
    /// The geometries differ, or the change is damaged.
    #[error("{what} {index} does not exist in this region")]
    NoSuchName {
        /// Queue or port.
        what: &'static str,
        /// As shipped.
        index: u8,
    },
    /// The slot is in a state that cannot be while this region is a back-up.
    #[error("slot {slot} is in use by a process of this host")]
    SlotInUse {
        /// Number of the slot.
        slot: u32,
    },
    /// The change is one of another value than the one that is here.
    #[error("slot {slot} does not hold what the change is to be made to")]
    OtherBase {
        /// Number of the slot.
        slot: u32,
    },
    /// No room.
    #[error("slot {slot} cannot be written")]
    OutOf {
        /// Number of the slot.
        slot: u32,
        /// What is missing.
        source: OutOf,
    },
}

/// What a commit changed of a value that the back-up has.
#[derive(Debug, Clone, Copy)]
pub struct Patch<'r> {
    /// Number of the slot.
    pub slot: u32,
    /// Which of the slot's objects: the one that it holds.
    pub incarnation: u32,
    /// Place of the queue in the geometry.
    pub queue: u8,
    /// Priority lane, with [`LETTER`](crate::LETTER) if it is one.
    pub priority: u8,
    /// Monotonic nanoseconds of this host at which the timer is due.
    pub deadline: Option<u64>,
    /// Ready whatever its inbox says.
    pub ready: bool,
    /// Lower half of the checksum that key and value have afterwards.
    pub check: u32,
    /// The parts that differ from the value before.
    pub edits: &'r [Edit<'r>],
}

/// A part of a value that is another one than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit<'r> {
    /// Where it begins, in bytes from the beginning of the value.
    pub at: usize,
    /// What is there now.
    pub bytes: &'r [u8],
}

/// Writes a primary's changes into a back-up's region.
#[derive(Default)]
pub struct Applier {
    /// Packets not known to be sent, by seq and ordinal.
    pending: HashMap<(u64, u32), u32>,
    /// During a transfer of state: what it has written so far. `None`: the region follows.
    transfer: Option<Written>,
}

/// A bit per slot that a transfer has written. What a slot held before counts for nothing: its seq may be of
/// a history that ended, and higher than all that comes.
#[derive(Debug, Default)]
struct Written(Vec<u64>);

impl Written {
    fn new(slots: u32) -> Self {
        Self(vec![0; slots.div_ceil(64) as usize])
    }

    /// Notes a slot; true if it was noted before.
    fn note(&mut self, slot: u32) -> bool {
        let Some(word) = self.0.get_mut(slot as usize / 64) else { return false };
        let bit = 1 << (slot % 64);
        let before = *word & bit != 0;
        *word |= bit;
        before
    }

    fn has(&self, slot: u32) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|word| word & 1 << (slot % 64) != 0)
    }
}

/// Where a change comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A commit. It counts unless the slot has a newer one.
    Commit,
    /// The copy of a slot. It counts only if it is newer than what the slot has: a slot's seq is raised just before
    /// its word changes, so a copy may name a commit whose effect it does not show.
    Copy,
}

impl Applier {
    /// Starts with the pending packets that the region holds.
    pub fn new(region: &Region) -> Self {
        let mut pending = HashMap::new();
        for index in 0..region.map.block_count() {
            let Some(block) = region.map.block(index) else {
                continue;
            };
            if BlockWord(block.row.word.load(Ordering::Acquire)).is(BlockState::Emitted) {
                let seq = block.row.seq.load(Ordering::Relaxed);
                pending.insert((seq, block.row.id.load(Ordering::Relaxed) as u32), index);
            }
        }
        Self { pending, transfer: None }
    }

    /// A transfer of state begins: of each slot the first change that comes counts, whatever the slot holds.
    pub fn begin_transfer(&mut self, region: &Region) {
        self.pending.clear();
        self.transfer = Some(Written::new(region.geometry().slots));
    }

    /// The transfer is complete: from here on the region follows.
    pub fn end_transfer(&mut self) {
        self.transfer = None;
    }

    /// Whether a transfer is under way: the region is not a state that ever was.
    pub fn is_in_transfer(&self) -> bool {
        self.transfer.is_some()
    }

    /// Whether a change of `seq` to this slot counts.
    fn counts(&self, origin: Origin, slot: u32, seq: u64, held: u64) -> bool {
        let first = self.transfer.as_ref().is_some_and(|written| !written.has(slot));
        first
            || match origin {
                Origin::Commit => seq >= held,
                Origin::Copy => seq > held,
            }
    }

    /// Packets that this back-up would send again on promotion.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Writes one change made at `seq`. Gives the checksum of what the slot holds now; of a free slot that is zero. A change that does not count is skipped: `None`.
    pub fn apply(
        &mut self,
        node: &mut Participant,
        seq: Seq,
        origin: Origin,
        change: &Change<'_>,
    ) -> Result<Option<u64>, ApplyError> {
        let (Change::Put { slot, .. } | Change::Remove { slot, .. }) = *change;
        let owner = node.owner();
        let Participant { region, supply, .. } = node;
        let slots = region.geometry().slots;
        let row = region.map.slot(slot).ok_or(ApplyError::NoSuchSlot { slot, slots })?;
        let held = row.last_seq.load(Ordering::Acquire);
        if !self.counts(origin, slot, seq.to_bits(), held) {
            return Ok(None);
        }
        self.raise_seq(row, slot, seq, held);
        let sum = match *change {
            Change::Remove { incarnation, .. } => {
                retire_value(region, owner, supply, remove(region, slot)?);
                // The next object here must be told apart from those that we never saw.
                row.incarnation.fetch_max(incarnation, Ordering::Relaxed);
                EMPTY_SUM
            }
            Change::Put { incarnation, queue, priority, key, value, deadline, ready, .. } => {
                let placing = placing(region, queue, priority)?;
                let seen = SlotWord(row.word.load(Ordering::SeqCst));
                if !seen.is(SlotState::Free)
                    && row.incarnation.load(Ordering::Relaxed) != incarnation
                {
                    retire_value(region, owner, supply, remove(region, slot)?);
                }
                let out_of = |source| ApplyError::OutOf { slot, source };
                let (block, sum) = if key.is_empty() && value.is_empty() && deadline.is_none() {
                    (None, EMPTY_SUM)
                } else {
                    // Over what came, not over the copy: that would wait for memory that is only being written.
                    let sum = checksum(key, value);
                    let block = value_block(region, supply, key, value, placing, incarnation)
                        .map_err(out_of)?;
                    block.row.deadline.store(deadline.unwrap_or(0), Ordering::Relaxed);
                    block.row.seq.store(seq.to_bits(), Ordering::Relaxed);
                    block.row.sum.store(sum, Ordering::Relaxed);
                    (Some(block.index), sum)
                };
                let old = put(region, slot, incarnation, placing, key, block, ready)?;
                retire_value(region, owner, supply, old);
                sum
            }
        };
        lower_seq(row, seq, held);
        Ok(Some(sum))
    }

    /// Writes what a commit at `seq` changed of the value that a slot holds. Gives the checksum of what it holds now. A
    /// patch that does not count is skipped: `None`.
    pub fn patch(
        &mut self,
        node: &mut Participant,
        seq: Seq,
        patch: &Patch<'_>,
    ) -> Result<Option<u64>, ApplyError> {
        let Patch { slot, incarnation, queue, priority, deadline, ready, .. } = *patch;
        let owner = node.owner();
        let Participant { region, supply, .. } = node;
        let slots = region.geometry().slots;
        let row = region.map.slot(slot).ok_or(ApplyError::NoSuchSlot { slot, slots })?;
        let held = row.last_seq.load(Ordering::Acquire);
        if !self.counts(Origin::Commit, slot, seq.to_bits(), held) {
            return Ok(None);
        }
        let placing = placing(region, queue, priority)?;
        let Some((block, sum)) = patched(region, supply, row, placing, patch)? else {
            // In a transfer: the slot was copied later than this, and its object was gone by then.
            return self.transfer.is_some().then_some(None).ok_or(ApplyError::OtherBase { slot });
        };
        block.row.deadline.store(deadline.unwrap_or(0), Ordering::Relaxed);
        block.row.seq.store(seq.to_bits(), Ordering::Relaxed);
        block.row.sum.store(sum, Ordering::Relaxed);
        self.raise_seq(row, slot, seq, held);
        // It holds the object already, so its key is in its chain.
        let old = put(region, slot, incarnation, placing, &[], Some(block.index), ready)?;
        retire_value(region, owner, supply, old);
        lower_seq(row, seq, held);
        Ok(Some(sum))
    }

    /// Only this node changes the slots of a back-up. A seq that rises does so before the slot changes, one that
    /// falls (in a transfer, from what this node did by itself) after: whatever a death leaves in between is newer
    /// than what both nodes have in common, so the next rewind names it, and it is sent again.
    fn raise_seq(&mut self, row: &SlotRow, slot: u32, seq: Seq, held: u64) {
        if seq.to_bits() >= held {
            row.last_seq.store(seq.to_bits(), Ordering::Release);
        }
        if let Some(written) = &mut self.transfer {
            written.note(slot);
        }
    }

    /// Makes the blocks that were replaced free again, as far as nobody reads them: after some changes.
    pub fn give_back(&mut self, node: &mut Participant) {
        let Participant { region, supply, .. } = node;
        give_back(region, supply);
    }

    /// Keeps a packet that the primary may not have sent yet.
    pub fn emit(
        &mut self,
        node: &mut Participant,
        seq: Seq,
        ordinal: u32,
        port: u8,
        endpoint: Endpoint,
        payload: &[u8],
    ) -> Result<(), ApplyError> {
        let region = node.region.clone();
        let port: PortId =
            region.port_at(port).ok_or(ApplyError::NoSuchName { what: "port", index: port })?;
        if self.pending.contains_key(&(seq.to_bits(), ordinal)) {
            return Ok(()); // applied before, and applied again after a restart
        }
        let bytes = ENDPOINT_BYTES + payload.len();
        let index =
            node.take_block(bytes).map_err(|source| ApplyError::OutOf { slot: 0, source })?;
        fill_block(&region.map, index, &endpoint.to_bytes(), payload);
        if let Some(block) = region.map.block(index) {
            block.row.seq.store(seq.to_bits(), Ordering::Relaxed);
            block.row.id.store(ordinal.into(), Ordering::Relaxed);
            block.row.stamp.store(0, Ordering::Relaxed);
            let seen = BlockWord(block.row.word.load(Ordering::Relaxed));
            let emitted = seen.next(BlockState::Emitted, 0, port.0.into());
            block.row.word.store(emitted.0, Ordering::Release);
        }
        self.pending.insert((seq.to_bits(), ordinal), index);
        Ok(())
    }

    /// Forgets a packet that the primary has sent.
    pub fn sent(&mut self, region: &Region, seq: Seq, ordinal: u32) {
        if let Some(index) = self.pending.remove(&(seq.to_bits(), ordinal))
            && let Some(block) = region.map.block(index)
        {
            let word = BlockWord(block.row.word.load(Ordering::Acquire));
            pool::free_block(&region.map, index, word);
        }
    }

    /// Forgets every packet: before the state is copied afresh.
    pub fn clear(&mut self) {
        self.pending.clear();
    }

    /// Offers the packets not known to be sent to their ports, oldest first: on promotion.
    pub fn hand_over(&mut self, region: &Region) -> usize {
        let mut packets: Vec<_> = self.pending.drain().collect();
        packets.sort_unstable();
        for &(_, index) in &packets {
            if let Some(block) = region.map.block(index) {
                let word = BlockWord(block.row.word.load(Ordering::Relaxed));
                if let Some(ring) = region.map.port_ring(word.home()) {
                    let _ = ring.push(index);
                }
            }
        }
        packets.len()
    }

    /// Records that a batch up to `seq` is about to be written: until [`set_applied`](Self::set_applied)
    /// the region holds it in part, and says so by [`Region::is_torn`] if this process dies.
    pub fn begin(&self, region: &Region, seq: Seq) {
        region.header().commit_seq.word.fetch_max(seq.to_bits(), Ordering::SeqCst);
    }

    /// Records that everything up to `seq` is here; the seq of the next promotion starts above it.
    pub fn set_applied(&self, region: &Region, seq: Seq) {
        let header = region.header();
        header.commit_seq.word.fetch_max(seq.to_bits(), Ordering::SeqCst);
        header.gathered.word.fetch_max(seq.to_bits(), Ordering::SeqCst);
    }
}

fn placing(region: &Region, queue: u8, priority: u8) -> Result<u32, ApplyError> {
    region.queue_at(queue).ok_or(ApplyError::NoSuchName { what: "queue", index: queue })?;
    Ok(u32::from(queue) | u32::from(priority) << 8)
}

/// See [`Applier::raise_seq`].
fn lower_seq(row: &SlotRow, seq: Seq, held: u64) {
    if seq.to_bits() < held {
        row.last_seq.store(seq.to_bits(), Ordering::Release);
    }
}

/// A block with the value that a slot holds and these edits, and its checksum. `None`: it holds another object, or
/// not the value that was edited, as the checksum shows.
fn patched<'m>(
    region: &'m Region,
    supply: &mut Supply,
    row: &SlotRow,
    placing: u32,
    patch: &Patch<'_>,
) -> Result<Option<(Block<'m>, u64)>, ApplyError> {
    let Patch { slot, incarnation, edits, check, .. } = *patch;
    let map: &Map = &region.map;
    let seen = SlotWord(row.word.load(Ordering::SeqCst));
    if seen.is(SlotState::Free) || row.incarnation.load(Ordering::Relaxed) != incarnation {
        return Ok(None);
    }
    let held = seen.block().and_then(|index| map.held(index));
    let Some((key, value)) = held else { return Ok(None) };
    if edits.iter().any(|edit| value.len() < edit.at + edit.bytes.len()) {
        return Ok(None);
    }
    let block = value_block(region, supply, key, value, placing, incarnation)
        .map_err(|source| ApplyError::OutOf { slot, source })?;
    edits.iter().for_each(|part| edit(map, block, part.at, part.bytes));
    let sum = map.held_in(block).map_or(EMPTY_SUM, |(key, value)| checksum(key, value));
    if sum as u32 == check {
        return Ok(Some((block, sum)));
    }
    supply.give_block(map, block.index);
    Ok(None)
}

fn put(
    region: &Region,
    slot: u32,
    incarnation: u32,
    placing: u32,
    key: &[u8],
    block: Option<u32>,
    ready: bool,
) -> Result<Option<u32>, ApplyError> {
    let map: &Map = &region.map;
    let row = map.slot(slot).ok_or(ApplyError::SlotInUse { slot })?;
    let seen = SlotWord(row.word.load(Ordering::SeqCst));
    let is_new = seen.is(SlotState::Free);
    if !is_new && !seen.is_claimable() && !seen.is(SlotState::Parked) {
        return Err(ApplyError::SlotInUse { slot });
    }
    if is_new {
        // ORDER racy/1 Release fence, pairs with racy/2: Free before the row is written.
        fence(Ordering::Release);
        row.incarnation.store(incarnation, Ordering::Relaxed);
        row.placing.store(placing, Ordering::Relaxed);
        row.attempts.store(0, Ordering::Relaxed);
        row.key_hash.store(region.key_hash(placing as u8, key), Ordering::Relaxed);
        row.inbox.store(InboxWord::new(incarnation, false, 0, None).0, Ordering::SeqCst);
    }
    if let Some(new) = block.and_then(|block| map.block(block)) {
        let private = BlockWord(new.row.word.load(Ordering::Relaxed));
        new.row.word.store(private.next(BlockState::Value, 0, slot).0, Ordering::Release);
    }
    // A hint that stands in the lane stays there until somebody claims: the next state must know of it.
    row.placing.store(placing, Ordering::Relaxed);
    let hinted =
        is_hinted(seen) || row.left_hint.load(Ordering::Relaxed) == placing.wrapping_add(1);
    row.left_hint.store(0, Ordering::Relaxed);
    let state = match (ready, hinted) {
        (true, _) => SlotState::Ready,
        (false, true) => SlotState::Queued,
        (false, false) => SlotState::Idle,
    };
    swap(row, slot, seen, seen.next(state, 0, block))?;
    if is_new && !key.is_empty() {
        link(map, slot, row);
    }
    match state {
        SlotState::Ready if !hinted => region.hint(slot, row),
        _ => region.look_again(slot),
    }
    Ok(seen.block())
}

/// Whether a hint of the slot stands in its lane.
fn is_hinted(word: SlotWord) -> bool {
    word.is(SlotState::Ready) || word.is(SlotState::Queued)
}

fn swap(row: &SlotRow, slot: u32, from: SlotWord, to: SlotWord) -> Result<(), ApplyError> {
    row.word
        .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed)
        .map(|_| ())
        .map_err(|_| ApplyError::SlotInUse { slot })
}

/// Puts a slot into its key's chain.
pub(crate) fn link(map: &Map, slot: u32, row: &SlotRow) {
    let (_, head) = map.bucket(row.key_hash.load(Ordering::Relaxed));
    let seen = BucketWord(head.load(Ordering::SeqCst));
    let chain = row.index_next.load(Ordering::Relaxed);
    row.index_next.store(chain_word(chain, seen.first()), Ordering::Relaxed);
    head.store(seen.next(Some(slot), 0).0, Ordering::SeqCst);
}

/// Returns the block that is not needed any more.
pub(crate) fn remove(region: &Region, slot: u32) -> Result<Option<u32>, ApplyError> {
    let map: &Map = &region.map;
    let row = map.slot(slot).ok_or(ApplyError::SlotInUse { slot })?;
    let seen = SlotWord(row.word.load(Ordering::SeqCst));
    if seen.is(SlotState::Free) {
        return Ok(None);
    }
    if !seen.is_claimable() && !seen.is(SlotState::Parked) {
        return Err(ApplyError::SlotInUse { slot });
    }
    let keyed =
        seen.block().and_then(|block| map.held(block)).is_some_and(|(key, _)| !key.is_empty());
    if keyed {
        unlink(map, slot, row.key_hash.load(Ordering::Relaxed));
    }
    if is_hinted(seen) {
        let left = row.placing.load(Ordering::Relaxed).wrapping_add(1);
        row.left_hint.store(left, Ordering::Relaxed);
    }
    swap(row, slot, seen, seen.next(SlotState::Free, 0, None))?;
    pool::hint_free_slot(map, slot);
    Ok(seen.block())
}

/// Replaced blocks that wait to be given back together: to ask once whether anybody reads them.
const RETIRED_MAX: usize = 32;

/// Takes over the block that a slot has named. As in a commit, it belongs to this process until nobody reads it in
/// place, and is most likely the next one to be written.
fn retire_value(region: &Region, owner: u8, supply: &mut Supply, old: Option<u32>) {
    let Some(index) = old else { return };
    let map: &Map = &region.map;
    let Some(block) = map.block(index) else { return };
    let word = BlockWord(block.row.word.load(Ordering::Acquire));
    // Zero: there is nothing to gather.
    block.row.seq.store(0, Ordering::Relaxed);
    let retired = word.next(BlockState::Retired, owner, 0);
    let order = (Ordering::AcqRel, Ordering::Relaxed);
    if block.row.word.compare_exchange(word.0, retired.0, order.0, order.1).is_ok() {
        supply.retire(0, index);
    }
    if supply.retired_count() >= RETIRED_MAX {
        give_back(region, supply);
    }
}

fn give_back(region: &Region, supply: &mut Supply) {
    if supply.retired_count() > 0 {
        let map: &Map = &region.map;
        reading::order_after(map.header());
        supply.reclaim(map, 0);
    }
}

/// Takes a slot out of its key's chain.
fn unlink(map: &Map, slot: u32, hash: u64) {
    let (_, head) = map.bucket(hash);
    let seen = BucketWord(head.load(Ordering::SeqCst));
    let behind = map.slot(slot).and_then(|row| next_of(row.index_next.load(Ordering::Relaxed)));
    let mut first = seen.first();
    if first == Some(slot) {
        first = behind;
    } else {
        let mut at = first;
        for _ in 0..map.geometry().slots {
            let Some(row) = at.and_then(|at| map.slot(at)) else {
                break;
            };
            let word = row.index_next.load(Ordering::Relaxed);
            if next_of(word) == Some(slot) {
                row.index_next.store(chain_word(word, behind), Ordering::SeqCst);
                break;
            }
            at = next_of(word);
        }
    }
    head.store(seen.next(first, 0).0, Ordering::SeqCst);
}

impl Region {
    /// Whether the node of this back-up died while it wrote a batch: a part of a commit may be missing.
    pub fn is_torn(&self) -> bool {
        self.commit_seq() > self.gathered()
    }

    /// Whether the checksum of the value in `slot` is right; `None` if there is no value.
    pub fn value_is_intact(&self, slot: u32) -> Option<bool> {
        let row = self.map.slot(slot)?;
        let (mut prefix, mut data) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let seen = SlotWord(row.word.load(Ordering::Acquire));
            let block = self.map.block(seen.block()?)?;
            let sum = block.row.sum.load(Ordering::Relaxed);
            prefix.clear();
            data.clear();
            let copied = block.copy_racy(&mut prefix, &mut data);
            if unchanged(&row.word, seen.0) {
                return Some(copied.is_ok() && checksum(&prefix, &data) == sum);
            }
        }
        None
    }
}
