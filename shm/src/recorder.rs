//! The flight recorder: a ring of small records that every process of a side writes, and that is read when all of them are dead.
//!
//! ```text
//!   next ──► 7      ┌──────┬──────┬──────┬──────┐
//!                   │ 4    │ 5    │ 6    │ 3    │      a place holds the newest record that fell to it
//!                   │ text │ text │ open │ text │      open: being written, or its writer died meanwhile
//!                   └──────┴──────┴──────┴──────┘
//!
//!   write:  position = next++  ─►  word: open, mine  ─►  contents  ─►  word: whole
//!   read:   word is whole      ─►  contents          ─►  word is the same: believed
//! ```
//!
//! A place is written by one process alone: who finds it open, or newer than what it brings, leaves it and draws another position.
//! An open place whose writer is dead is written again. So a death costs one record, and a stalled writer one place while it
//! stalls. Everything here is a hint: nothing depends on it, and nobody waits for it.

use crate::sync::{AtomicU64, Ordering, fence, unchanged};

/// Bits of a process id: Linux has none above 2^22.
const PROCESS_BITS: u32 = 23;

/// A reader that is overtaken so often in one place lets it be: it is written all the time.
const LOOKS: u32 = 3;

/// `position:40 | process:23 | open:1`; zero: never written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct RecordWord(u64);

impl RecordWord {
    const fn whole(position: u64, process: u32) -> Self {
        let process = process as u64 & ((1 << PROCESS_BITS) - 1);
        Self(position << (PROCESS_BITS + 1) | process << 1)
    }

    const fn open(self) -> Self {
        Self(self.0 | 1)
    }

    const fn is_open(self) -> bool {
        self.0 & 1 != 0
    }

    const fn position(self) -> u64 {
        self.0 >> (PROCESS_BITS + 1)
    }

    const fn process(self) -> u32 {
        (self.0 >> 1) as u32 & ((1 << PROCESS_BITS) - 1)
    }
}

/// One place of the ring.
#[repr(C)]
pub(crate) struct Record<const WORDS: usize> {
    word: AtomicU64,
    contents: [AtomicU64; WORDS],
}

/// What a place holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Written<const WORDS: usize> {
    /// Its place in the order of all records, from 1 on.
    pub(crate) position: u64,
    /// Who wrote it.
    pub(crate) process: u32,
    pub(crate) contents: [u64; WORDS],
}

impl<const WORDS: usize> Record<WORDS> {
    #[cfg(all(test, loom))]
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { word: zero(), contents: std::array::from_fn(|_| zero()) }
    }

    /// Writes the record of `position`, which is this caller's alone. False: somebody else is writing here, or has written something
    /// newer.
    pub(crate) fn write(
        &self,
        position: u64,
        process: u32,
        contents: &[u64; WORDS],
        is_dead: impl FnOnce(u32) -> bool,
    ) -> bool {
        let seen = RecordWord(self.word.load(Ordering::Relaxed));
        let refused = match seen.is_open() {
            true => seen.position() > position || !is_dead(seen.process()),
            false => seen.position() >= position,
        };
        if refused {
            return false;
        }
        let whole = RecordWord::whole(position, process);
        // ORDER record/1 Acquire swap, pairs with record/2: this place's last writer has stored before us.
        let swapped = self.word.compare_exchange(
            seen.0,
            whole.open().0,
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        if swapped.is_err() {
            return false;
        }
        // ORDER racy/1 Release fence, pairs with racy/2: who reads a word of ours sees the place open.
        fence(Ordering::Release);
        for (word, &value) in self.contents.iter().zip(contents) {
            word.store(value, Ordering::Relaxed);
        }
        // ORDER record/2 Release, pairs with record/1 and record/3: who sees it whole sees all of it.
        self.word.store(whole.0, Ordering::Release);
        true
    }

    /// A copy, if it is whole.
    pub(crate) fn read(&self) -> Option<Written<WORDS>> {
        for _ in 0..LOOKS {
            // ORDER record/3 Acquire, pairs with record/2.
            let seen = RecordWord(self.word.load(Ordering::Acquire));
            if seen.position() == 0 || seen.is_open() {
                return None;
            }
            let contents = std::array::from_fn(|at| self.contents[at].load(Ordering::Relaxed));
            if unchanged(&self.word, seen.0) {
                let (position, process) = (seen.position(), seen.process());
                return Some(Written { position, process, contents });
            }
        }
        None
    }
}

/// Draws positions until one can be written; false if too many places are taken. `next` counts the positions drawn.
pub(crate) fn append<const WORDS: usize>(
    next: &AtomicU64,
    ring: &[Record<WORDS>],
    process: u32,
    contents: &[u64; WORDS],
    is_dead: impl Fn(u32) -> bool,
) -> bool {
    /// More than a few open places in a row are many stalled processes, or damage.
    const TRIES: u32 = 4;
    (0..TRIES).any(|_| {
        let position = next.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let place = &ring[(position % ring.len() as u64) as usize];
        place.write(position, process, contents, &is_dead)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOBODY_DIED: fn(u32) -> bool = |_| false;

    fn ring<const PLACES: usize>() -> [Record<2>; PLACES] {
        let zero = || AtomicU64::new(0);
        std::array::from_fn(|_| Record { word: zero(), contents: [zero(), zero()] })
    }

    fn all(ring: &[Record<2>]) -> Vec<(u64, u64)> {
        let mut seen: Vec<_> = ring.iter().filter_map(Record::read).collect();
        seen.sort_by_key(|record| record.position);
        assert!(seen.iter().all(|record| record.contents[0] == record.contents[1]));
        seen.iter().map(|record| (record.position, record.contents[0])).collect()
    }

    #[test]
    fn the_newest_records_are_kept() {
        let (next, ring) = (AtomicU64::new(0), ring::<4>());
        for value in 1..=7 {
            assert!(append(&next, &ring, 9, &[value; 2], NOBODY_DIED));
        }
        assert_eq!(all(&ring), [(4, 4), (5, 5), (6, 6), (7, 7)]);
        assert_eq!(ring[0].read().map(|record| record.process), Some(9));
    }

    /// Goal: who died half-way leaves nothing to be read, and its place to the next one; who lives keeps it.
    #[test]
    fn an_open_place_is_left_alone_until_its_writer_is_dead() {
        let (next, ring) = (AtomicU64::new(0), ring::<2>());
        let half = RecordWord::whole(1, 77).open();
        ring[1].word.store(half.0, Ordering::Relaxed);
        ring[1].contents[0].store(5, Ordering::Relaxed);
        next.store(1, Ordering::Relaxed);
        for value in 2..=4 {
            assert!(append(&next, &ring, 9, &[value; 2], NOBODY_DIED));
        }
        assert_eq!(all(&ring), [(6, 4)], "positions 3 and 5 fell to the open place");
        assert!(append(&next, &ring, 9, &[8; 2], |pid| pid == 77));
        assert_eq!(all(&ring), [(6, 4), (7, 8)]);
    }

    #[test]
    fn where_all_places_are_taken_the_record_is_lost() {
        let (next, ring) = (AtomicU64::new(0), ring::<2>());
        for place in &ring {
            place.word.store(RecordWord::whole(1, 77).open().0, Ordering::Relaxed);
        }
        assert!(!append(&next, &ring, 9, &[1; 2], NOBODY_DIED));
        assert_eq!(all(&ring), []);
    }

    #[test]
    fn what_is_older_than_the_place_is_not_written() {
        let ring = ring::<1>();
        assert!(ring[0].write(5, 9, &[5; 2], NOBODY_DIED));
        assert!(!ring[0].write(4, 9, &[4; 2], NOBODY_DIED));
        assert_eq!(all(&ring), [(5, 5)]);
    }

    /// Goal: whatever several writers do at once, no reader sees half of a record, and none is written twice.
    #[test]
    fn several_writers_and_a_reader() {
        let (next, ring) = (AtomicU64::new(0), ring::<3>());
        std::thread::scope(|scope| {
            let (next, ring) = (&next, &ring);
            for writer in 0..3_u64 {
                scope.spawn(move || {
                    for value in 0..5_000 {
                        append(next, ring, writer as u32, &[value; 2], NOBODY_DIED);
                    }
                });
            }
            for _ in 0..5_000 {
                let seen = all(ring);
                assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "{seen:?}");
            }
        });
        assert_eq!(all(&ring).len(), 3);
    }
}
