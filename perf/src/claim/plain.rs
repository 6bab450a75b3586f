//! The limit of `claim`: the compare-and-swaps that a claim and its commit must do, on memory laid out
//! as the region's, and the same bytes read and written; nothing checked, nothing recoverable.
//!
//! ```text
//!   claim    declare (1)   lane: cell, head (2)   hint (1)   slot word (1)
//!   work     block: cached -> private (1)   copy 256 B, read 256 B, write 256 B
//!   commit   entry: position, drawing, seq, prepared, committed (5)
//!            slot seq (1)   new block, slot word, old block (3)
//!            hint (1)   lane: cell, tail (2)   old block: retired -> cached (1)
//! ```
//!
//! A sequentially consistent store is counted as one: on x86 it is a locked exchange as well.

#![expect(unsafe_code, reason = "tells the kernel of which kind memory is to be")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::objects::{VALUE_BYTES, work};

#[repr(align(64))]
struct Line(AtomicU64);

/// As large as a slot's row.
#[repr(align(64))]
struct Slot {
    word: AtomicU64,
    seq: AtomicU64,
    hinted: AtomicU32,
    block: usize,
}

/// A header's line and a payload.
#[repr(C, align(64))]
struct Block {
    word: AtomicU64,
    payload: [u8; VALUE_BYTES],
}

pub(super) struct Plain {
    active: Line,
    commit_seq: Line,
    position: Line,
    entry: Line,
    head: Line,
    tail: Line,
    lane: Box<[AtomicU64]>,
    /// The slot that each cell of the lane stands for.
    order: Box<[u32]>,
    slots: Box<[Slot]>,
    blocks: Box<[Block]>,
    cached: VecDeque<usize>,
}

fn line() -> Line {
    Line(AtomicU64::new(0))
}

/// The pages of 2 MiB that lie in `memory` as a whole.
fn collapse<T>(memory: &[T]) -> io::Result<()> {
    const HUGE: usize = 2 << 20;
    let range = memory.as_ptr_range();
    let from = range.start.addr().next_multiple_of(HUGE);
    let bytes = (range.end.addr() / HUGE * HUGE).saturating_sub(from);
    let at = range.start.with_addr(from).cast_mut().cast();
    // SAFETY: inside memory that is borrowed here; the advice changes no byte of it.
    match unsafe { libc::madvise(at, bytes, libc::MADV_COLLAPSE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One uncontended compare-and-swap, expected to succeed.
#[inline]
fn swap(word: &AtomicU64) {
    let seen = word.load(SeqCst);
    let swapped = word.compare_exchange(seen, seen.wrapping_add(1), SeqCst, SeqCst);
    debug_assert!(swapped.is_ok(), "there is nobody else");
}

impl Plain {
    /// As many objects as `order` names; they take turns in that order.
    pub(super) fn new(order: &[u32]) -> Self {
        let objects = order.len();
        let slot = |block| Slot {
            word: AtomicU64::new(0),
            seq: AtomicU64::new(0),
            hinted: AtomicU32::new(0),
            block,
        };
        let block = |_| Block { word: AtomicU64::new(0), payload: [0; VALUE_BYTES] };
        Plain {
            active: line(),
            commit_seq: line(),
            position: line(),
            entry: line(),
            head: line(),
            tail: line(),
            lane: (0..objects).map(|slot| AtomicU64::new(slot as u64)).collect(),
            order: order.into(),
            slots: (0..objects).map(slot).collect(),
            // As many spare blocks as a magazine holds.
            blocks: (0..objects + 64).map(block).collect(),
            cached: (objects..objects + 64).collect(),
        }
    }

    /// Moves what is large into huge pages, as the region can be.
    pub(super) fn in_huge_pages(&self) -> io::Result<()> {
        collapse(&self.lane)?;
        collapse(&self.order)?;
        collapse(&self.slots)?;
        collapse(&self.blocks)
    }

    #[inline]
    pub(super) fn turn(&mut self) {
        // Claim.
        self.active.0.store(1, SeqCst);
        let at = self.head.0.load(SeqCst) as usize % self.lane.len();
        swap(&self.lane[at]);
        swap(&self.head.0);
        let slot = &mut self.slots[self.order[at] as usize];
        slot.hinted.swap(0, SeqCst);
        swap(&slot.word);

        // Work in a block of our own.
        let new = self.cached.pop_front().expect("one goes back for each that is taken");
        let old = std::mem::replace(&mut slot.block, new);
        swap(&self.blocks[new].word);
        let value = black_box(self.blocks[old].payload);
        self.blocks[new].payload = value;
        work(&mut self.blocks[new].payload);
        black_box(&self.blocks[new].payload);

        // Commit.
        swap(&self.position.0);
        swap(&self.entry.0);
        let seq = self.commit_seq.0.fetch_add(1, SeqCst);
        swap(&self.entry.0);
        swap(&self.entry.0);
        slot.seq.fetch_max(seq, SeqCst);
        swap(&self.blocks[new].word);
        swap(&slot.word);
        swap(&self.blocks[old].word);
        slot.hinted.swap(1, SeqCst);
        swap(&self.lane[at]);
        swap(&self.tail.0);
        swap(&self.blocks[old].word);
        self.cached.push_back(old);
        self.active.0.store(0, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the limit does the work it claims to do: every object's value changes, no block is lost.
    #[test]
    fn every_turn_writes_the_next_object() {
        let mut plain = Plain::new(&[2, 0, 3, 1]);
        for turn in 1..=400_u64 {
            plain.turn();
            assert_eq!(plain.commit_seq.0.load(SeqCst), turn);
        }
        assert!(plain.slots.iter().all(|slot| slot.seq.load(SeqCst) >= 396));
        let mut blocks: Vec<usize> = plain.slots.iter().map(|slot| slot.block).collect();
        blocks.extend(&plain.cached);
        blocks.sort_unstable();
        assert_eq!(blocks, (0..68).collect::<Vec<_>>());
        let values: Vec<u8> =
            plain.slots.iter().map(|slot| plain.blocks[slot.block].payload[0]).collect();
        assert!(values.iter().all(|value| *value != 0), "{values:?}");
    }
}
