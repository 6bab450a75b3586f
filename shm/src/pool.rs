//! Free slots and blocks: the words are the truth, a bitmap of hints says where to look.
//!
//! A bit may be set for something that is taken (the taker's swap fails, it looks on) or missing for
//! something free (after a death; [`restore_hints`] sets it again). Each participant keeps a magazine of
//! blocks per class, so that a commit does not touch shared bitmaps.

use crate::layout::ClassPlace;
use crate::map::{BadBlock, Block, Map};
use crate::participant::Kind;
use crate::quota::{Quota, Short};
use crate::reading::{self, Hazards};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::usage::Turn;
use crate::words::{BlockState, BlockWord, SlotState, SlotWord};

/// Blocks fetched at once into an empty magazine.
const REFILL: u32 = 16;

/// Marks everything free in a new region.
pub(crate) fn fill(map: &Map) {
    set_all(map.slot_bitmap(), map.geometry().slots);
    for (at, class) in map.layout().classes.iter().enumerate() {
        set_all(map.class_bitmap(at), class.count);
    }
}

fn set_all(bitmap: &[AtomicU64], bits: u32) {
    for (at, word) in bitmap.iter().enumerate() {
        let left = bits - at as u32 * 64;
        let mask = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
        word.store(mask, Ordering::Relaxed);
    }
}

fn set_bit(bitmap: &[AtomicU64], index: u32) {
    bitmap[index as usize / 64].fetch_or(1 << (index % 64), Ordering::Relaxed);
}

/// Whether the hint of `index` is set.
pub(crate) fn is_marked(bitmap: &[AtomicU64], index: u32) -> bool {
    let word = bitmap.get(index as usize / 64).map_or(0, |word| word.load(Ordering::Relaxed));
    word >> (index % 64) & 1 == 1
}

/// How many of `total` have no hint that they are free.
pub(crate) fn used_bits(bitmap: &[AtomicU64], total: u32) -> u32 {
    let free: u32 = bitmap.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum();
    total.saturating_sub(free)
}

/// How far before the last block that was taken free ones are looked for first: 2,048 blocks. Without it a process goes round
/// the whole class, and finds each block cold.
const LOOK_BACK_WORDS: usize = 32;

/// Clears a set bit and returns its number; looks at each word once, from `cursor` on.
fn take_bit(bitmap: &[AtomicU64], cursor: &mut usize) -> Option<u32> {
    let mut taken = None;
    take_bits(bitmap, cursor, 1, |bit| taken = Some(bit));
    taken
}

/// Clears `count` set bits, if there are so many, and hands over their numbers; looks at each word once, from `cursor` on.
fn take_bits(bitmap: &[AtomicU64], cursor: &mut usize, mut count: u32, mut take: impl FnMut(u32)) {
    let begun = *cursor;
    for step in 0..bitmap.len() {
        let at = (begun + step) % bitmap.len();
        let mut seen = bitmap[at].load(Ordering::Relaxed);
        while seen != 0 && count > 0 {
            let wanted = lowest_bits(seen, count);
            let mut got = bitmap[at].fetch_and(!wanted, Ordering::Relaxed) & wanted;
            seen &= !wanted;
            count -= got.count_ones();
            *cursor = at;
            while got != 0 {
                take(at as u32 * 64 + got.trailing_zeros());
                got &= got - 1;
            }
        }
        if count == 0 {
            return;
        }
    }
}

/// The `count` lowest of the bits that are set.
fn lowest_bits(bits: u64, count: u32) -> u64 {
    let mut others = bits;
    for _ in 0..count.min(bits.count_ones()) {
        others &= others - 1;
    }
    bits & !others
}

/// Sets the hint of everything that is free. Needed after a death only: nothing else loses hints.
pub(crate) fn restore_hints(map: &Map) {
    for index in 0..map.geometry().slots {
        let word = map.slot(index).map(|row| SlotWord(row.word.load(Ordering::Relaxed)));
        if word.is_some_and(|word| word.is(SlotState::Free)) {
            set_bit(map.slot_bitmap(), index);
        }
    }
    for index in 0..map.block_count() {
        let word = map.block(index).map(|block| BlockWord(block.row.word.load(Ordering::Relaxed)));
        if word.is_some_and(|word| word.is(BlockState::Free)) {
            hint_free_block(map, index);
        }
    }
}

pub(crate) fn hint_free_slot(map: &Map, index: u32) {
    if index < map.geometry().slots {
        set_bit(map.slot_bitmap(), index);
    }
}

fn hint_free_block(map: &Map, index: u32) {
    if let Some((class, number)) = map.class_of(index) {
        set_bit(map.class_bitmap(class), number);
    }
}

/// Frees a block that stands at `expected`; false if it has changed meanwhile.
pub(crate) fn free_block(map: &Map, index: u32, expected: BlockWord) -> bool {
    let Some(block) = map.block(index) else {
        return false;
    };
    let free = expected.next(BlockState::Free, 0, 0);
    // ORDER block/1 AcqRel, pairs with block/1 and block/2: the next owner's writes come after our last use.
    let freed = block
        .row
        .word
        .compare_exchange(expected.0, free.0, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok();
    if freed {
        hint_free_block(map, index);
    }
    freed
}

/// No free block of a sufficient size, or no free slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOf {
    /// Every block of every class that is large enough is in use.
    #[error("no free block for {bytes} bytes")]
    Blocks {
        /// Bytes asked for.
        bytes: usize,
    },
    /// There are free blocks, but no more than are kept for commits, and the asker is a port.
    #[error("no block for {bytes} bytes: {free} are free, {reserve} are kept for commits")]
    BlocksReserved {
        /// Bytes asked for.
        bytes: usize,
        /// Free blocks of the class that fits best.
        free: u32,
        /// Blocks of it that ports leave.
        reserve: u32,
    },
    /// Larger than the largest class.
    #[error("{bytes} bytes asked for, the largest block holds {largest}")]
    TooLarge {
        /// Bytes asked for.
        bytes: usize,
        /// Payload of the largest class.
        largest: usize,
    },
    /// The block that was to be used has been damaged since it was written.
    #[error(transparent)]
    Damaged(#[from] BadBlock),
    /// Every slot holds an object.
    #[error("all {slots} objects of the region are in use")]
    Slots {
        /// Slots of the region.
        slots: u32,
    },
    /// There are free slots, but no more than are kept for commits, and the asker is a port.
    #[error("no slot for an object: {free} are free, {reserve} are kept for commits")]
    SlotsReserved {
        /// Free slots.
        free: u32,
        /// Slots that ports leave.
        reserve: u32,
    },
}

/// Where a participant takes one kind of thing from.
#[derive(Debug)]
struct Source {
    cursor: usize,
    turn: Turn,
    quota: Quota,
}

/// A participant's blocks of one class.
#[derive(Debug)]
struct Magazine {
    blocks: Vec<u32>,
    /// So many are kept.
    room: usize,
    /// The most bytes that were asked for in a block of this class.
    largest: usize,
    source: Source,
}

/// A participant's own supply.
#[derive(Debug)]
pub(crate) struct Supply {
    owner: u8,
    kind: Kind,
    magazines: Vec<Magazine>,
    slots: Source,
    /// Blocks that this participant's commits retired, oldest first, with the seq that did it.
    retired: std::collections::VecDeque<(u64, u32)>,
    /// Of these, what was gathered while somebody read it.
    read: Vec<u32>,
    /// Since the present claim was begun there was no free block or slot for it once.
    pub(crate) short: bool,
}

impl Supply {
    pub(crate) fn new(map: &Map, seat: u8, kind: Kind) -> Self {
        let geometry = map.geometry();
        let (shares, seats) = (geometry.shares, geometry.participants);
        let source = |words: usize, total| Source {
            // Participants start looking in different places, so that they rarely meet.
            cursor: words * usize::from(seat) / usize::from(u8::MAX),
            turn: Turn::default(),
            quota: Quota::new(kind, shares, seats, total),
        };
        let magazine = |(at, class): (usize, &ClassPlace)| {
            let room = shares.magazine_of(seats, class.count) as usize;
            Magazine {
                blocks: Vec::with_capacity(room),
                room,
                largest: 0,
                source: source(map.class_bitmap(at).len(), class.count),
            }
        };
        Self {
            owner: seat + 1,
            kind,
            magazines: map.layout().classes.iter().enumerate().map(magazine).collect(),
            slots: source(map.slot_bitmap().len(), geometry.slots),
            retired: std::collections::VecDeque::new(),
            read: Vec::new(),
            short: false,
        }
    }

    /// Takes a private block whose payload holds `bytes`.
    #[inline]
    pub(crate) fn take_block<'m>(
        &mut self,
        map: &'m Map,
        bytes: usize,
    ) -> Result<Block<'m>, OutOf> {
        let classes = &map.layout().classes;
        let Some(fits) = classes.iter().position(|class| class.payload_bytes as usize >= bytes)
        else {
            let largest = classes.last().map_or(0, |class| class.payload_bytes as usize);
            return Err(OutOf::TooLarge { bytes, largest });
        };
        if bytes > self.magazines[fits].largest {
            self.magazines[fits].largest = bytes;
            map.usage().classes[fits].ask(bytes);
        }
        let mut short = None;
        for class in fits..classes.len() {
            if self.magazines[class].blocks.is_empty() {
                let refilled = self.refill(map, class);
                short = short.or(refilled.err());
            }
            while let Some(block) =
                self.magazines[class].blocks.pop().and_then(|index| map.block(index))
            {
                if !self.set_own(block, BlockState::Private) {
                    continue;
                }
                if class > fits {
                    map.usage().classes[fits].spill();
                }
                // ORDER racy/1 Release fence, pairs with racy/2: the words that named this block have moved on
                // before anything is written into it.
                fence(Ordering::Release);
                return Ok(block);
            }
        }
        Err(match short {
            Some(Short { free, reserve }) => OutOf::BlocksReserved { bytes, free, reserve },
            None => OutOf::Blocks { bytes },
        })
    }

    /// Notes that nobody has a block for `bytes`.
    pub(crate) fn refused_block(&mut self, map: &Map, bytes: usize) {
        self.short = true;
        let classes = &map.layout().classes;
        if let Some(fits) = classes.iter().position(|class| class.payload_bytes as usize >= bytes) {
            map.usage().classes[fits].refuse(self.kind);
        }
    }

    /// Whether retired blocks have been gathered that were not taken back yet.
    #[inline]
    pub(crate) fn has_gathered(&self, gathered: u64) -> bool {
        self.retired.front().is_some_and(|&(seq, _)| seq <= gathered)
    }

    /// Whether there might be more once retired blocks are gathered.
    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.is_empty() || !self.read.is_empty()
    }

    /// Gives back a block of this participant that was never published.
    #[inline]
    pub(crate) fn give_block(&mut self, map: &Map, index: u32) {
        let Some((class, _)) = map.class_of(index) else {
            return;
        };
        let Some(block) = map.block(index) else {
            return;
        };
        let magazine = &self.magazines[class];
        if magazine.blocks.len() < magazine.room {
            if self.set_own(block, BlockState::Cached) {
                self.magazines[class].blocks.push(index);
            }
        } else {
            free_own(map, block, self.owner);
        }
    }

    #[inline]
    pub(crate) fn retire(&mut self, seq: u64, index: u32) {
        self.retired.push_back((seq, index));
    }

    /// Blocks that wait to be taken back, the read ones apart.
    #[inline]
    pub(crate) fn retired_count(&self) -> usize {
        self.retired.len()
    }

    /// Takes back what was gathered. Commits of one participant have rising seqs.
    ///
    /// Since what is in here was retired, the caller has swapped `commit_seq`: by drawing his next seq, or by
    /// [`reading::order_after`].
    #[inline]
    pub(crate) fn reclaim(&mut self, map: &Map, gathered: u64) {
        let readers = reading::readers(map.header());
        if readers != 0 || !self.read.is_empty() {
            return self.reclaim_unread(map, gathered, readers);
        }
        while let Some(&(seq, index)) = self.retired.front() {
            if seq > gathered {
                break;
            }
            self.retired.pop_front();
            self.give_block(map, index);
        }
    }

    #[cold]
    fn reclaim_unread(&mut self, map: &Map, gathered: u64, readers: u64) {
        while let Some(&(seq, index)) = self.retired.front()
            && seq <= gathered
        {
            self.retired.pop_front();
            self.read.push(index);
        }
        let hazards = Hazards::now(map, readers);
        let mut at = 0;
        while at < self.read.len() {
            if hazards.name(self.read[at]) {
                at += 1;
            } else {
                let index = self.read.swap_remove(at);
                self.give_block(map, index);
            }
        }
    }

    /// Takes a free slot: `Reserved` to this participant, with the word it now bears.
    pub(crate) fn take_slot(&mut self, map: &Map) -> Result<(u32, SlotWord), OutOf> {
        let (marks, bitmap, total) = (&map.usage().slots, map.slot_bitmap(), map.geometry().slots);
        let Source { cursor, turn, quota } = &mut self.slots;
        if let Err(Short { free, reserve }) = quota.grant(1, marks, bitmap, total) {
            marks.refuse(self.kind);
            self.short = true;
            return Err(OutOf::SlotsReserved { free, reserve });
        }
        while let Some(index) = take_bit(bitmap, cursor) {
            let Some(row) = map.slot(index) else { continue };
            let seen = SlotWord(row.word.load(Ordering::Relaxed));
            if !seen.is(SlotState::Free) {
                continue;
            }
            let mine = seen.next(SlotState::Reserved, self.owner, None);
            // ORDER slot/1 AcqRel, pairs with slot/1: whoever frees, claims or reserves a slot sees
            // all that its last owner wrote into the row.
            if row
                .word
                .compare_exchange(seen.0, mine.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                turn.take(1, marks, bitmap, total);
                // ORDER racy/1 Release fence, pairs with racy/2: Reserved before the row is written.
                fence(Ordering::Release);
                return Ok((index, mine));
            }
        }
        marks.refuse(self.kind);
        self.short = true;
        Err(OutOf::Slots { slots: total })
    }

    /// Puts everything back that can be put back; what waits to be gathered stays with the seat.
    pub(crate) fn empty(&mut self, map: &Map, gathered: u64) {
        reading::order_after(map.header());
        self.reclaim(map, gathered);
        for magazine in &mut self.magazines {
            for index in magazine.blocks.drain(..) {
                if let Some(block) = map.block(index) {
                    free_own(map, block, self.owner);
                }
            }
        }
    }

    fn refill(&mut self, map: &Map, class: usize) -> Result<(), Short> {
        let &ClassPlace { first, count: total, .. } = &map.layout().classes[class];
        let (marks, bitmap) = (&map.usage().classes[class], map.class_bitmap(class));
        let Magazine { blocks, room, source, .. } = &mut self.magazines[class];
        let granted = source.quota.grant(REFILL.min(*room as u32), marks, bitmap, total)?;
        source.turn.take(granted, marks, bitmap, total);
        // What was in use a moment ago is still in the cache.
        source.cursor = source.cursor.saturating_sub(LOOK_BACK_WORDS.min(bitmap.len() / 2));
        let begun = blocks.len();
        take_bits(bitmap, &mut source.cursor, granted, |number| {
            if let Some(block) = map.block(first + number) {
                block.fetch_header();
                blocks.push(block.index);
            }
        });
        let mut kept = begun;
        for at in begun..blocks.len() {
            let index = blocks[at];
            let Some(block) = map.block(index) else {
                continue;
            };
            let seen = BlockWord(block.row.word.load(Ordering::Relaxed));
            if !seen.is(BlockState::Free) {
                continue;
            }
            let cached = seen.next(BlockState::Cached, self.owner, 0);
            // ORDER block/1 AcqRel, pairs with block/1 and block/2.
            if block
                .row
                .word
                .compare_exchange(seen.0, cached.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                blocks[kept] = index;
                kept += 1;
            }
        }
        blocks.truncate(kept);
        Ok(())
    }

    /// A plain store: the block is this participant's, so nobody else swaps its word. False for a block
    /// that bears another name, by damage: it is left to whoever that is.
    #[inline]
    fn set_own(&self, block: Block<'_>, state: BlockState) -> bool {
        let word = BlockWord(block.row.word.load(Ordering::Relaxed));
        let own = word.owner() == self.owner;
        if own {
            block.row.word.store(word.next(state, self.owner, 0).0, Ordering::Relaxed);
        }
        own
    }
}

/// Frees a block unless, by damage, it does not bear its owner's name.
fn free_own(map: &Map, block: Block<'_>, owner: u8) {
    let word = BlockWord(block.row.word.load(Ordering::Relaxed));
    if word.owner() == owner {
        free_block(map, block.index, word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each bit comes out once, also when the last word is not full and the cursor wraps.
    #[test]
    fn bits_come_out_once() {
        let bitmap: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
        set_all(&bitmap, 130);
        let mut cursor = 1;
        let mut seen: Vec<u32> = std::iter::from_fn(|| take_bit(&bitmap, &mut cursor)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..130).collect::<Vec<_>>());
        set_bit(&bitmap, 77);
        assert_eq!(take_bit(&bitmap, &mut cursor), Some(77));
    }
}
