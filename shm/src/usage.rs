//! How full a region has been: what its next geometry should be made from.
//!
//! Nobody counts blocks one by one: a commit would pay for it. Whoever refills a magazine or takes a slot
//! now and then counts the free bits of the bitmap instead, so often that a word of it is read per
//! block taken. The greatest figure stays in the region. It is a hint like the bitmap: sampled, and
//! magazines and what waits to be gathered count as used, because they have to be there.

use crate::map::Map;
use crate::pool;
use crate::region::Region;
use crate::sync::{AtomicU64, Ordering};

/// Words of a bitmap that one take may pay for.
const WORDS_PER_TAKE: usize = 1;

/// Marks of one class, or of the slots; on a cache line of its own.
#[repr(C, align(64))]
pub(crate) struct Marks {
    /// The most that was seen in use.
    high: AtomicU64,
    /// Takes that were refused because there was nothing left.
    refused: AtomicU64,
    /// Blocks: takes that had to make do with a larger class.
    spilled: AtomicU64,
    _pad: [u64; 5],
}

/// Every class's marks, and those of the slots.
#[repr(C)]
pub(crate) struct UsageRow {
    pub(crate) slots: Marks,
    pub(crate) classes: [Marks; crate::geometry::Geometry::CLASSES_MAX],
}

impl Marks {
    /// Notes how many of `total` are in use, by counting the hints of what is free.
    fn sample(&self, bitmap: &[AtomicU64], total: u32) {
        let used = u64::from(pool::used_bits(bitmap, total));
        if used > self.high.load(Ordering::Relaxed) {
            self.high.fetch_max(used, Ordering::Relaxed);
        }
    }

    /// Notes a take that found nothing left.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a take that found nothing left in its class, but in a larger one.
    pub(crate) fn spill(&self) {
        self.spilled.fetch_add(1, Ordering::Relaxed);
    }
}

impl UsageRow {
    /// Notes that nobody has a block for `bytes`.
    pub(crate) fn refuse_block(&self, map: &Map, bytes: usize) {
        let classes = &map.layout().classes;
        if let Some(fits) = classes.iter().position(|class| class.payload_bytes as usize >= bytes) {
            self.classes[fits].refuse();
        }
    }
}

/// Says when it is a participant's turn to count.
#[derive(Debug, Default)]
pub(crate) struct Turn(usize);

impl Turn {
    /// After `taken` more, of those that `bitmap` shows.
    pub(crate) fn take(&mut self, taken: usize, marks: &Marks, bitmap: &[AtomicU64], total: u32) {
        self.0 += taken * WORDS_PER_TAKE;
        if self.0 >= bitmap.len() {
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
    /// The most that was seen in use, magazines and what waits to be gathered included.
    pub high: u32,
    /// Takes that were refused.
    pub refused: u64,
    /// Takes that had to make do with a larger class.
    pub spilled: u64,
}

impl Level {
    /// How many there should be: a quarter more than was needed, and half more than there are where that
    /// was not enough. A multiple of 64, and at least that.
    pub fn suggested(&self) -> u32 {
        let wanted = if self.refused + self.spilled > 0 {
            u64::from(self.total) * 3 / 2
        } else {
            u64::from(self.high) * 5 / 4
        };
        let limit = u64::from(crate::words::INDEX_LIMIT) / 64 * 64;
        wanted.max(1).next_multiple_of(64).min(limit) as u32
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
            // why                  total   high  refused  spilled  suggested
            ("never used",           4096,     0,       0,       0,        64),
            ("less than there is",   4096,  1000,       0,       0,      1280),
            ("all, but enough",      1024,  1024,       0,       0,      1280),
            ("not enough",           1024,  1024,       1,       0,      1536),
            ("larger ones helped",   1000,   900,       0,       7,      1536),
        ];
        for (why, total, high, refused, spilled, suggested) in cases {
            let level = Level { payload_bytes: 64, total, high, refused, spilled };
            assert_eq!(level.suggested(), suggested, "{why}");
        }
    }
}
