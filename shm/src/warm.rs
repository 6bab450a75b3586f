//! Bringing near what is about to be used: in a table that is larger than the caches each step from slot to block to
//! bytes waits for memory, and these waits add up.
//!
//! Loads that do not depend on each other wait together. So for some objects at once: all slots first, then all their
//! blocks, then all their bytes. Nothing that is read here is believed; it only lies in the cache afterwards.

use std::hint::black_box;
use std::ops::Range;

use crate::region::Region;
use crate::sync::Ordering;
use crate::words::SlotWord;

/// As many objects at once as a processor has loads under way, about; a few dozen cache lines.
pub const WARM_MAX: usize = 16;

/// Of a value only its beginning is worth it: what follows the processor fetches ahead by itself.
const BYTES_MAX: u32 = 512;
const LINE_BYTES: u32 = 64;

impl Region {
    /// Before [`image`](Self::image) of these slots, one after the other; of the first [`WARM_MAX`] of them.
    pub fn warm(&self, slots: Range<u32>) {
        let mut blocks = [None; WARM_MAX];
        for (slot, block) in slots.zip(&mut blocks) {
            let row = self.map.slot(slot);
            *block = row.and_then(|row| SlotWord(row.word.load(Ordering::Relaxed)).block());
        }
        let mut lines = [0; WARM_MAX];
        for (&block, lines) in blocks.iter().zip(&mut lines) {
            if let Some(block) = block.and_then(|index| self.map.block(index)) {
                let len = block.row.len.load(Ordering::Relaxed).min(BYTES_MAX);
                *lines = len.div_ceil(LINE_BYTES);
            }
        }
        let mut all = 0;
        for (&block, &lines) in blocks.iter().zip(&lines) {
            if let Some(block) = block.and_then(|index| self.map.block(index)) {
                all ^= block.touch(lines as usize);
            }
        }
        black_box(all);
    }

    /// Before an [`Applier`](crate::Applier) writes these objects, each a slot, a queue and a key; of the first
    /// [`WARM_MAX`] of them.
    pub fn warm_for_writing<'k>(&self, objects: impl Iterator<Item = (u32, u8, &'k [u8])>) {
        let (mut olds, mut heads) = ([None; WARM_MAX], [None; WARM_MAX]);
        for (((slot, queue, key), old), head) in objects.zip(&mut olds).zip(&mut heads) {
            let row = self.map.slot(slot);
            *old = row.and_then(|row| SlotWord(row.word.load(Ordering::Relaxed)).block());
            if old.is_none() && !key.is_empty() {
                // A new one, most likely: its key's chain.
                *head = Some(self.map.bucket(self.key_hash(queue, key)).1);
            }
        }
        // Nothing but loads: what stands between them keeps them from overlapping.
        let mut all = 0;
        for head in heads.into_iter().flatten() {
            all ^= head.load(Ordering::Relaxed);
        }
        for block in olds.into_iter().flatten().filter_map(|index| self.map.block(index)) {
            all ^= block.row.word.load(Ordering::Relaxed);
        }
        black_box(all);
    }
}
