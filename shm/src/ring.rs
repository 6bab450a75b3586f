//! A bounded ring of hints that any process may die in.
//!
//! A cell carries the turn (lap) and the value and is filled or emptied by one compare-and-swap;
//! head and tail are only where to look, and whoever finds them behind pushes them on. So there
//! is no moment at which a dead process blocks the others. After P. Tsigas and Y. Zhang, "A simple,
//! fast and scalable non-blocking concurrent FIFO queue for shared memory multiprocessor systems"
//! (SPAA 2001), with a lap counter in each cell in place of their two null values.
//!
//! ```text
//!            push: CAS                  pop: CAS
//!   (lap, empty) ────────► (lap, value) ────────► (lap + 1, empty)
//! ```

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
    pub(crate) fn new(head: &'m AtomicU64, tail: &'m AtomicU64, cells: &'m [AtomicU64]) -> Self {
        debug_assert!(cells.len().is_power_of_two());
        Self { head, tail, cells }
    }

    fn cell(&self, position: u64) -> &AtomicU64 {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }

    fn lap(&self, position: u64) -> u32 {
        (position >> self.cells.len().trailing_zeros()) as u32
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
    pub(crate) fn push(&self, value: u32) -> Result<(), Full> {
        loop {
            // ORDER ring/1 SeqCst on every access, pairs with ring/1: a sleeper's "is there
            // something" must not pass its own "I sleep", see bell.rs.
            let tail = self.tail.load(Ordering::SeqCst);
            let lap = self.lap(tail);
            let cell = self.cell(tail);
            let seen = cell.load(Ordering::SeqCst);
            if seen == encode(lap, None) {
                let filled = encode(lap, Some(value));
                if cell.compare_exchange(seen, filled, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    self.advance(self.tail, tail);
                    return Ok(());
                }
                continue;
            }
            let seen_lap = (seen >> 32) as u32;
            if seen_lap == lap || seen_lap == lap.wrapping_add(1) {
                // Filled (and perhaps emptied again) by somebody who has not moved the tail yet.
                self.advance(self.tail, tail);
            } else if self.tail.load(Ordering::SeqCst) == tail {
                return Err(Full);
            }
        }
    }

    /// Takes the oldest hint.
    pub(crate) fn pop(&self) -> Option<u32> {
        loop {
            let head = self.head.load(Ordering::SeqCst);
            let lap = self.lap(head);
            let cell = self.cell(head);
            let seen = cell.load(Ordering::SeqCst);
            if (seen >> 32) as u32 == lap {
                let value = (seen as u32).checked_sub(1)?;
                let emptied = encode(lap.wrapping_add(1), None);
                if cell.compare_exchange(seen, emptied, Ordering::SeqCst, Ordering::SeqCst).is_ok()
                {
                    self.advance(self.head, head);
                    return Some(value);
                }
            } else if (seen >> 32) as u32 == lap.wrapping_add(1) {
                self.advance(self.head, head);
            } else if self.head.load(Ordering::SeqCst) == head {
                // A nonsense lap: no correct process wrote it. Nothing can be found here.
                return None;
            }
        }
    }

    /// Whether a pop would find nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::SeqCst);
        let seen = self.cell(head).load(Ordering::SeqCst);
        seen == encode(self.lap(head), None)
    }

    /// How many hints there are, about.
    pub(crate) fn len(&self) -> u64 {
        let head = self.head.load(Ordering::Relaxed);
        self.tail.load(Ordering::Relaxed).saturating_sub(head)
    }

    fn advance(&self, index: &AtomicU64, from: u64) {
        // Whoever loses this race finds the index already moved.
        let _ =
            index.compare_exchange(from, from.wrapping_add(1), Ordering::SeqCst, Ordering::SeqCst);
    }
}

fn encode(lap: u32, value: Option<u32>) -> u64 {
    u64::from(lap) << 32 | value.map_or(0, |value| u64::from(value) + 1)
}

#[cfg(test)]
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

    /// Goal: a process that dies after filling or emptying a cell, before it moves the index, blocks nobody.
    #[test]
    fn an_index_left_behind_is_moved_by_the_next() {
        let backing = Backing::new(2);
        let ring = backing.ring();
        backing.cells[0].store(encode(0, Some(7)), Ordering::SeqCst);
        assert!(!ring.is_empty());
        ring.push(8).expect("one cell is free");
        assert_eq!(ring.push(9), Err(Full));
        backing.cells[0].store(encode(1, None), Ordering::SeqCst);
        assert_eq!(ring.pop(), Some(8));
        assert_eq!(ring.pop(), None);
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
