//! How full a region has been: what its next geometry should be made from.
//!
//! Nobody counts blocks one by one: a commit would pay for it. Whoever refills a magazine or takes a slot
//! now and then counts the free bits of the bitmap instead, so often that a word of it is read per
//! block taken. The greatest figure stays in the region. It is a hint like the bitmap: sampled, and
//! magazines and what waits to be gathered count as used, because they have to be there.

use crate::geometry::BLOCK_STEP;
use crate::map::Map;
use crate::participant::Kind;
use crate::pool;
use crate::region::Region;
use crate::sync::{AtomicU64, Ordering};

/// Words of a bitmap that one take may pay for.
const WORDS_PER_TAKE: u32 = 1;

/// Marks of one class, or of the slots; on a cache line of its own.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Marks {
    /// The most that was seen in use.
    high: AtomicU64,
    /// Takes of ports that were refused.
    refused_ports: AtomicU64,
    /// Takes of others that were refused: commits, for want of anything left.
    refused: AtomicU64,
    /// Blocks: takes that had to make do with a larger class.
    spilled: AtomicU64,
    /// Blocks: the most bytes that were asked for.
    largest: AtomicU64,
    _pad: [u64; 3],
}

/// Every class's marks, and those of the slots.
#[repr(C)]
pub(crate) struct UsageRow {
    pub(crate) slots: Marks,
    pub(crate) classes: [Marks; crate::geometry::Geometry::CLASSES_MAX],
}

impl Marks {
    /// Notes how many of `total` are in use, by counting the hints of what is free. So many they are.
    pub(crate) fn sample(&self, bitmap: &[AtomicU64], total: u32) -> u32 {
        let used = pool::used_bits(bitmap, total);
        if u64::from(used) > self.high.load(Ordering::Relaxed) {
            self.high.fetch_max(used.into(), Ordering::Relaxed);
        }
        used
    }

    /// Notes a take that was refused to a participant of `kind`.
    pub(crate) fn refuse(&self, kind: Kind) {
        let refused = if kind == Kind::Port { &self.refused_ports } else { &self.refused };
        refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how many bytes somebody wants in a block.
    #[cold]
    pub(crate) fn ask(&self, bytes: usize) {
        self.largest.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    /// Notes a take that found nothing left in its class, but in a larger one.
    pub(crate) fn spill(&self) {
        self.spilled.fetch_add(1, Ordering::Relaxed);
    }
}

/// Says when it is a participant's turn to count.
#[derive(Debug, Default)]
pub(crate) struct Turn(u32);

impl Turn {
    /// After `taken` more, of those that `bitmap` shows.
    pub(crate) fn take(&mut self, taken: u32, marks: &Marks, bitmap: &[AtomicU64], total: u32) {
        self.0 += taken * WORDS_PER_TAKE;
        if self.0 as usize >= bitmap.len() {
            self.0 = 0;
            marks.sample(bitmap, total);
        }
    }
}

/// How full one class, or the state table, has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Bytes of payload; zero for slots.
    pub payload_bytes: u32,
    /// There are so many.
    pub total: u32,
    /// So many of them ports leave to commits.
    pub reserve: u32,
    /// The most bytes that were asked for in one; zero for slots, and where nobody asked.
    pub largest: u32,
    /// The most that was seen in use, magazines and what waits to be gathered included.
    pub high: u32,
    /// Takes that were refused to ports, which must leave the reserve.
    pub refused_ports: u64,
    /// Takes that were refused to others, commits above all.
    pub refused: u64,
    /// Takes that had to make do with a larger class.
    pub spilled: u64,
}

impl Level {
    /// How many there should be: a quarter more than was needed and the reserve on top, and half more than
    /// there are where that was not enough. A multiple of 64, and at least that.
    pub fn suggested(&self) -> u32 {
        let wanted = if self.refused + self.refused_ports + self.spilled > 0 {
            u64::from(self.total) * 3 / 2
        } else {
            let (total, for_ports) = (u64::from(self.total), u64::from(self.total - self.reserve));
            (u64::from(self.high) * 5 / 4 * total).div_ceil(for_ports.max(1))
        };
        let limit = u64::from(crate::words::INDEX_LIMIT) / 64 * 64;
        wanted.max(1).next_multiple_of(64).min(limit) as u32
    }

    /// How large they should be: what was asked for, in steps of 16 bytes; as they are if nobody asked.
    pub fn suggested_bytes(&self) -> u32 {
        match self.largest {
            0 => self.payload_bytes,
            largest => largest.next_multiple_of(BLOCK_STEP).min(self.payload_bytes),
        }
    }
}

/// How full a region has been since it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Its slots.
    pub slots: Level,
    /// Its classes, by size.
    pub classes: Vec<Level>,
}

impl Region {
    /// How full the region has been, and is. Works on a mapping for looking only.
    pub fn usage(&self) -> Usage {
        let map: &Map = &self.map;
        let row = map.usage();
        let level = |marks: &Marks, bitmap: &[AtomicU64], payload_bytes, total: u32| {
            let high = marks.high.load(Ordering::Relaxed).min(total.into()) as u32;
            let refused = marks.refused.load(Ordering::Relaxed);
            let now = pool::used_bits(bitmap, total);
            Level {
                payload_bytes,
                total,
                reserve: map.geometry().shares.reserve(total),
                largest: marks.largest.load(Ordering::Relaxed).min(payload_bytes.into()) as u32,
                refused_ports: marks.refused_ports.load(Ordering::Relaxed),
                high: high.max(now).max(if refused > 0 { total } else { 0 }),
                refused,
                spilled: marks.spilled.load(Ordering::Relaxed),
            }
        };
        let classes = map.layout().classes.iter().zip(&row.classes).enumerate();
        Usage {
            slots: level(&row.slots, map.slot_bitmap(), 0, map.geometry().slots),
            classes: classes
                .map(|(at, (class, marks))| {
                    level(marks, map.class_bitmap(at), class.payload_bytes, class.count)
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_has_a_quarter_to_spare_and_grows_where_it_was_not_enough() {
        #[rustfmt::skip]
        let cases = [
            // why                  total  reserve   high  ports  refused  spilled  suggested
            ("never used",           4096,       0,     0,     0,       0,       0,        64),
            ("less than there is",   4096,       0,  1000,     0,       0,       0,      1280),
            ("all, but enough",      1024,       0,  1024,     0,       0,       0,      1280),
            ("the reserve on top",   4096,    1024,  1000,     0,       0,       0,      1728),
            ("not enough",           1024,     256,  1024,     0,       1,       0,      1536),
            ("not enough for ports", 1024,     256,   768,     3,       0,       0,      1536),
            ("larger ones helped",   1000,     250,   900,     0,       0,       7,      1536),
        ];
        for (why, total, reserve, high, refused_ports, refused, spilled, suggested) in cases {
            let (payload_bytes, largest) = (64, 0);
            let level = Level {
                payload_bytes,
                total,
                reserve,
                largest,
                high,
                refused_ports,
                refused,
                spilled,
            };
            assert_eq!(level.suggested(), suggested, "{why}");
        }
    }

    #[test]
    fn sizes_are_suggested_in_steps_of_16() {
        for (largest, suggested) in [(0, 320), (1, 16), (272, 272), (273, 288), (320, 320)] {
            let level = Level {
                payload_bytes: 320,
                total: 64,
                reserve: 0,
                largest,
                high: 0,
                refused_ports: 0,
                refused: 0,
                spilled: 0,
            };
            assert_eq!(level.suggested_bytes(), suggested, "{largest}");
        }
    }
}
