//! A bounded ring of hints that any process may die in.
//!
//! A cell carries the turn (lap) and the value and is filled or emptied by one compare-and-swap, so there
//! is no moment at which a dead process blocks the others. After P. Tsigas and Y. Zhang, "A simple, fast
//! and scalable non-blocking concurrent FIFO queue for shared memory multiprocessor systems" (SPAA 2001),
//! with a lap counter in each cell in place of their two null values.
//!
//! ```text
//!            push: CAS                  pop: CAS
//!   (lap, empty) ────────► (lap, value) ────────► (lap + 1, empty)
//! ```
//!
//! Head and tail are only where to look first. They are written by plain stores, so a process that was
//! stopped for long may set one far back; never ahead of the truth, because each writer has seen the cell
//! before it in its next state. Whoever finds an index behind walks on, and the laps let him skip whole
//! rounds: at most one round of the ring is walked.

use crate::sync::{AtomicU64, Ordering};

pub(crate) struct Ring<'m> {
    head: &'m AtomicU64,
    tail: &'m AtomicU64,
    cells: &'m [AtomicU64],
}

/// The ring has no free cell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl<'m> Ring<'m> {
    /// `cells.len()` is a power of two; zeroed memory is an empty ring.
    #[inline]
    pub(crate) fn new(head: &'m AtomicU64, tail: &'m AtomicU64, cells: &'m [AtomicU64]) -> Self {
        debug_assert!(cells.len().is_power_of_two());
        Self { head, tail, cells }
    }

    #[inline]
    fn cell(&self, position: u64) -> &AtomicU64 {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }

    /// How many laps the cell is ahead of `position`; negative if behind.
    #[inline]
    fn ahead(&self, position: u64, seen: u64) -> i32 {
        let lap = (position >> self.cells.len().trailing_zeros()) as u32;
        ((seen >> 32) as u32).wrapping_sub(lap) as i32
    }

    /// The position that follows the one `laps` rounds after `position`.
    #[inline]
    fn after(&self, position: u64, laps: i32) -> u64 {
        position.wrapping_add((laps as u64).wrapping_mul(self.cells.len() as u64)).wrapping_add(1)
    }

    /// Makes the ring as empty as a new one, while nobody else uses it.
    pub(crate) fn clear(&self) {
        self.words().for_each(|word| word.store(0, Ordering::SeqCst));
    }

    /// Everything that the ring consists of.
    pub(crate) fn words(&self) -> impl Iterator<Item = &'m AtomicU64> {
        self.cells.iter().chain([self.head, self.tail])
    }

    /// Adds a hint. `value` is below `u32::MAX`.
    #[inline]
    pub(crate) fn push(&self, value: u32) -> Result<(), Full> {
        // ORDER ring/1 SeqCst on every access to a cell, pairs with ring/1: a sleeper's "is there
        // something" must not pass its own "I sleep", see bell.rs. The indexes are hints: any order.
        let mut tail = self.tail.load(Ordering::Relaxed);
        let mut left = 2 * self.cells.len() + TRIES;
        loop {
            let cell = self.cell(tail);
            let seen = cell.load(Ordering::SeqCst);
            let ahead = self.ahead(tail, seen);
            if ahead == 0 && is_empty(seen) {
                let filled = seen | (u64::from(value) + 1);
                if cell.compare_exchange(seen, filled, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    self.tail.store(tail.wrapping_add(1), Ordering::Relaxed);
                    return Ok(());
                }
            } else if ahead < 0 {
                return Err(Full); // still filled in the lap before
            } else {
                // Filled in its lap, or emptied in the lap before: the tail is behind that.
                tail = self.after(tail, ahead - i32::from(is_empty(seen)));
            }
            // Never more than one round of walking, unless the cells are nonsense.
            left = left.checked_sub(1).ok_or(Full)?;
        }
    }

    /// Takes the oldest hint.
    #[inline]
    pub(crate) fn pop(&self) -> Option<u32> {
        let begun = self.head.load(Ordering::Relaxed);
        let mut head = begun;
        let mut left = 2 * self.cells.len() + TRIES;
        loop {
            let cell = self.cell(head);
            let seen = cell.load(Ordering::SeqCst);
            let ahead = self.ahead(head, seen);
            if ahead > 0 {
                // Emptied in the lap before the one it shows, or filled again since.
                head = self.after(head, ahead - 1);
            } else if ahead < 0 || is_empty(seen) {
                if head != begun {
                    self.head.store(head, Ordering::Relaxed);
                }
                return None;
            } else {
                let emptied = ((seen >> 32) + 1) << 32;
                if cell.compare_exchange(seen, emptied, Ordering::SeqCst, Ordering::SeqCst).is_ok()
                {
                    self.head.store(head.wrapping_add(1), Ordering::Relaxed);
                    return (seen as u32).checked_sub(1);
                }
            }
            left = left.checked_sub(1)?;
        }
    }

    /// Whether a pop would find nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let mut head = self.head.load(Ordering::Relaxed);
        for _ in 0..2 * self.cells.len() {
            let seen = self.cell(head).load(Ordering::SeqCst);
            match self.ahead(head, seen) {
                ahead @ 1.. => head = self.after(head, ahead - 1),
                0 => return is_empty(seen),
                _ => return true,
            }
        }
        true
    }

    /// How many hints there are, about.
    pub(crate) fn len(&self) -> u64 {
        let head = self.head.load(Ordering::Relaxed);
        self.tail.load(Ordering::Relaxed).saturating_sub(head)
    }
}

/// Swaps lost to others before a push or a pop gives up; each of them was another's success.
const TRIES: usize = 1000;

fn is_empty(cell: u64) -> bool {
    cell as u32 == 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    struct Backing {
        head: AtomicU64,
        tail: AtomicU64,
        cells: Vec<AtomicU64>,
    }

    impl Backing {
        fn new(cells: usize) -> Self {
            let cells = (0..cells).map(|_| AtomicU64::new(0)).collect();
            Self { head: AtomicU64::new(0), tail: AtomicU64::new(0), cells }
        }

        fn ring(&self) -> Ring<'_> {
            Ring::new(&self.head, &self.tail, &self.cells)
        }
    }

    /// Goal: first in, first out over many laps, full and empty told apart.
    #[test]
    fn behaves_like_a_bounded_queue() {
        let backing = Backing::new(4);
        let ring = backing.ring();
        let mut oracle = VecDeque::new();
        for step in 0..10_000_u32 {
            if step % 7 < 4 {
                let pushed = ring.push(step).is_ok();
                assert_eq!(pushed, oracle.len() < 4, "step {step}");
                if pushed {
                    oracle.push_back(step);
                }
            } else {
                assert_eq!(ring.pop(), oracle.pop_front(), "step {step}");
            }
            assert_eq!(ring.is_empty(), oracle.is_empty(), "step {step}");
        }
    }

    fn filled(lap: u64, value: u64) -> u64 {
        lap << 32 | (value + 1)
    }

    /// Goal: a process that dies after filling or emptying a cell, before it moves the index, blocks nobody.
    #[test]
    fn an_index_left_behind_is_moved_by_the_next() {
        let backing = Backing::new(2);
        let ring = backing.ring();
        backing.cells[0].store(filled(0, 7), Ordering::SeqCst);
        assert!(!ring.is_empty());
        ring.push(8).expect("one cell is free");
        assert_eq!(ring.push(9), Err(Full));
        backing.cells[0].store(1 << 32, Ordering::SeqCst);
        assert_eq!(ring.pop(), Some(8));
        assert_eq!(ring.pop(), None);
    }

    /// Goal: an index set back by a process that slept for many laps hides nothing and doubles nothing.
    #[test]
    fn an_index_set_far_back_finds_its_way() {
        let backing = Backing::new(4);
        let ring = backing.ring();
        for lap in 0..1_000_u32 {
            for value in 0..3 {
                ring.push(lap * 3 + value).expect("there is room for four");
            }
            let stale = u64::from(lap % 7);
            backing.head.store(stale.min(backing.head.load(Ordering::SeqCst)), Ordering::SeqCst);
            assert!(!ring.is_empty());
            backing.tail.store(stale.min(backing.tail.load(Ordering::SeqCst)), Ordering::SeqCst);
            for value in 0..3 {
                assert_eq!(ring.pop(), Some(lap * 3 + value));
            }
            assert_eq!((ring.pop(), ring.is_empty()), (None, true));
        }
    }

    /// Goal: cells and indexes that no correct process wrote end every call.
    #[test]
    fn nonsense_ends() {
        let backing = Backing::new(4);
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..10_000 {
            for word in backing.cells.iter().chain([&backing.head, &backing.tail]) {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                word.store(noise, Ordering::SeqCst);
            }
            let ring = backing.ring();
            let _ = (ring.push(1), ring.pop(), ring.is_empty(), ring.len());
        }
    }

    /// Goal: each hint comes out once, however many push and pop.
    #[test]
    fn threads_lose_and_double_nothing() {
        const EACH: u32 = 50_000;
        let backing = Backing::new(64);
        let seen: Vec<AtomicU64> = (0..2 * EACH).map(|_| AtomicU64::new(0)).collect();
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for producer in 0..2 {
                let backing = &backing;
                scope.spawn(move || {
                    for n in 0..EACH {
                        while backing.ring().push(producer * EACH + n).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < u64::from(2 * EACH) {
                        match backing.ring().pop() {
                            Some(value) => {
                                seen[value as usize].fetch_add(1, Ordering::SeqCst);
                                taken.fetch_add(1, Ordering::SeqCst);
                            }
                            None => std::thread::yield_now(),
                        }
                    }
                });
            }
        });
        assert!(seen.iter().all(|count| count.load(Ordering::SeqCst) == 1));
    }
}
