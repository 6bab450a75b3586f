//! How long things took: histograms of fixed size that stand in the region, some for each seat.
//!
//! ```text
//!   bucket   0 … 15 │ 16 … 31 │ 32 … 47 │ …  │ 512 … 527
//!   ns       0 … 15 │ 16 … 31 │ 32 … 63 │ …  │ 2^35 … 2^36 - 1, and whatever is more
//!   width         1 │       1 │       2 │ …  │ 2^31
//! ```
//!
//! Each power of two is divided into 16 buckets, so a value is known to one part in 16. The scale is that of HdrHistogram
//! (Tene), whose readers take [`Distribution::buckets`].
//!
//! A histogram belongs to a seat, not to a process: whoever sits down next adds to it, nobody clears it, and it can be read
//! when every process is dead. Its words are stored by the seat's owner alone, without a locked instruction: a death
//! between two of them costs one value.

use crate::counters::Counter;
use crate::map::Map;
use crate::participant::Participant;
use crate::process::monotonic_ns;
use crate::region::Region;
use crate::stages::Stage;
use crate::sync::{AtomicU64, Ordering};
use crate::words::SlotWord;

/// One in so many claims of a participant is measured: reading the clock twice costs a good part of a claim. A prime, so
/// that it does not beat with [`TURNS_PER_LANE`](crate::TURNS_PER_LANE).
pub const SAMPLE_EVERY: u32 = 127;

/// Buckets per power of two, as a power of two.
const SUB_BITS: u32 = 4;
const SUB: u64 = 1 << SUB_BITS;

/// The first power of two, in nanoseconds, that has no buckets any more: a good minute.
const TOP_BITS: u32 = 36;

const BUCKETS: usize = ((TOP_BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// One histogram in the region.
#[repr(C, align(64))]
pub(crate) struct HistogramRow {
    /// The largest value, exactly.
    max: AtomicU64,
    _pad: [u64; 7],
    counts: [AtomicU64; BUCKETS],
}

/// The histograms of one seat.
#[repr(C)]
pub(crate) struct TimesRow {
    age: HistogramRow,
    claim: HistogramRow,
    late: HistogramRow,
}

const fn bucket_of(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let power = value.ilog2();
    if power >= TOP_BITS {
        return BUCKETS - 1;
    }
    let within = value >> (power - SUB_BITS) & (SUB - 1);
    (((power - SUB_BITS + 1) as usize) << SUB_BITS) + within as usize
}

/// The least and the greatest value of a bucket.
const fn range_of(bucket: usize) -> (u64, u64) {
    let within = bucket as u64 & (SUB - 1);
    match (bucket >> SUB_BITS) as u32 {
        0 => (within, within),
        step => {
            let low = (SUB + within) << (step - 1);
            (low, low + (1 << (step - 1)) - 1)
        }
    }
}

impl HistogramRow {
    /// By the owner of the seat.
    fn record(&self, value: u64) {
        let count = &self.counts[bucket_of(value)];
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if value > self.max.load(Ordering::Relaxed) {
            self.max.store(value, Ordering::Relaxed);
        }
    }

    /// By anybody: where the histogram is of no seat.
    pub(crate) fn record_shared(&self, value: u64) {
        self.counts[bucket_of(value)].fetch_add(1, Ordering::Relaxed);
        self.max.fetch_max(value, Ordering::Relaxed);
    }

    pub(crate) fn copy(&self) -> Distribution {
        Distribution {
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            max: self.max.load(Ordering::Relaxed),
        }
    }
}

/// A copy of one histogram. Values are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    counts: Vec<u64>,
    max: u64,
}

impl Distribution {
    /// How many values.
    pub fn len(&self) -> u64 {
        self.counts.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
    }

    /// The largest value, exactly.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// A value that the part `quantile` (0 to 1) of all does not exceed: the upper end of its bucket. Zero if there is none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = (self.len() as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0_u64;
        for (_, greatest, count) in self.buckets() {
            seen = seen.saturating_add(count);
            if seen >= rank {
                return greatest;
            }
        }
        self.max
    }

    /// The buckets that are not empty, in rising order: least value, greatest value, count. The greatest value of the
    /// last one is [`max`](Self::max).
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let last = self.counts.iter().rposition(|&count| count > 0);
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(at, &count)| {
            let (least, greatest) = range_of(at);
            let greatest = if Some(at) == last { self.max.max(least) } else { greatest };
            (least, greatest, count)
        })
    }

    /// Adds a value.
    pub fn record(&mut self, value: u64) {
        self.counts.resize(BUCKETS, 0);
        self.counts[bucket_of(value)] += 1;
        self.max = self.max.max(value);
    }

    /// What came after `earlier`, an older copy of the same histogram. Its largest value is known to the width of its bucket,
    /// unless it is the largest of all.
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let of = |at: usize| earlier.counts.get(at).copied().unwrap_or(0);
        let counts: Vec<u64> =
            self.counts.iter().enumerate().map(|(at, &now)| now.saturating_sub(of(at))).collect();
        let last = counts.iter().rposition(|&count| count > 0);
        let max = last.map_or(0, |at| range_of(at).1.min(self.max));
        Distribution { counts, max }
    }

    /// Adds all values of `other`.
    pub fn add(&mut self, other: &Distribution) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.max = self.max.max(other.max);
    }
}

/// What is known of how long things took at one seat, or at several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From the arrival of an object's oldest message, or from when its timer was due, to its claim. Of one in
    /// [`SAMPLE_EVERY`] claims; an object that was ready by itself has no age.
    pub age: Distribution,
    /// From a claim to its end. Of one in [`SAMPLE_EVERY`] claims.
    pub claim: Distribution,
    /// By how much claims missed their queue's deadline. Of every miss.
    pub late: Distribution,
}

impl Times {
    /// Adds those of another seat.
    pub fn add(&mut self, other: &Times) {
        self.age.add(&other.age);
        self.claim.add(&other.claim);
        self.late.add(&other.late);
    }
}

impl Region {
    /// How long things took at a seat, whoever sat there, since the region was made.
    pub fn times_of(&self, seat: u8) -> Option<Times> {
        let row = self.map.times(seat)?;
        Some(Times { age: row.age.copy(), claim: row.claim.copy(), late: row.late.copy() })
    }

    /// How long things took at all seats since the region was made.
    pub fn times(&self) -> Times {
        let mut all = Times::default();
        for seat in 0..self.geometry().participants as u8 {
            if let Some(times) = self.times_of(seat) {
                all.add(&times);
            }
        }
        all
    }
}

/// Which claims are measured, and the one that is.
pub(crate) struct Watch {
    /// Claims until the next one that is measured.
    left: u32,
    /// When the search for it began, if the next claim is measured.
    sought: u64,
    /// When the claim in hand began, if it is measured.
    begun: u64,
    /// When its work was done and its commit began.
    worked: u64,
}

impl Default for Watch {
    /// The first claim is measured: there may be few.
    fn default() -> Self {
        Self { left: 1, sought: 0, begun: 0, worked: 0 }
    }
}

impl Participant {
    /// To be called before an object is looked for.
    #[inline]
    pub(crate) fn begin_search(&mut self) {
        if self.watch.left == 1 {
            self.watch.sought = monotonic_ns();
        }
    }

    /// To be called before a commit. True: it is followed through its stages.
    #[inline]
    pub(crate) fn end_work(&mut self) -> bool {
        if self.watch.begun != 0 {
            self.watch_work();
        }
        self.watch.begun != 0
    }

    /// To be called after a commit that is followed.
    #[cold]
    pub(crate) fn watch_commit(&mut self) {
        let decided = self.draft.decided.get();
        self.region.record(Stage::Commit, decided.saturating_sub(self.watch.worked));
    }

    /// To be called once a claim, on an object of `queue`, has its messages.
    #[inline]
    pub(crate) fn begin_watch(&mut self, queue: u8, word: SlotWord) {
        self.watch.left -= 1;
        let deadline = self.region.map.policy(queue).map_or(0, |row| row.deadline());
        if self.watch.left == 0 || deadline != 0 {
            self.watch_claim(word, deadline);
        }
    }

    /// To be called when a claim has ended.
    #[inline]
    pub(crate) fn end_watch(&mut self) {
        if self.watch.begun != 0 {
            self.watch_end();
        }
    }

    /// The claim in hand is not measured: who suspends it does not work on it.
    pub(crate) fn forget_watch(&mut self) {
        self.watch.begun = 0;
    }

    #[cold]
    fn watch_claim(&mut self, word: SlotWord, deadline: u64) {
        let now = monotonic_ns();
        let map: &Map = &self.region.map;
        let Some(times) = map.times(self.seat) else { return };
        let oldest = self.taken.first().and_then(|&index| map.block(index));
        let arrived = oldest.map_or(0, |message| message.row.stamp.load(Ordering::Relaxed));
        let due = self.region.deadline(word);
        let since = [arrived, due].into_iter().filter(|&at| at != 0 && at <= now).min();
        let age = since.map(|at| now - at);
        if self.watch.left == 0 {
            let sought = std::mem::take(&mut self.watch.sought);
            if sought != 0 {
                self.region.record(Stage::Claim, now.saturating_sub(sought));
            }
            self.watch = Watch { left: SAMPLE_EVERY, sought: 0, begun: now, worked: 0 };
            if let Some(age) = age {
                times.age.record(age);
            }
        }
        if let Some(age) = age.filter(|&age| deadline != 0 && age > deadline) {
            times.late.record(age - deadline);
            self.count(Counter::DeadlineMissed);
        }
    }

    #[cold]
    fn watch_work(&mut self) {
        self.watch.worked = monotonic_ns();
        self.region.record(Stage::Work, self.watch.worked.saturating_sub(self.watch.begun));
    }

    #[cold]
    fn watch_end(&mut self) {
        let begun = std::mem::take(&mut self.watch.begun);
        if let Some(times) = self.region.map.times(self.seat) {
            times.claim.record(monotonic_ns().saturating_sub(begun));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: buckets follow each other without gaps, and each value is in the bucket whose range holds it.
    #[test]
    fn buckets_cover_every_value_once() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let (least, greatest) = range_of(bucket);
            assert_eq!(least, next, "bucket {bucket}");
            assert_eq!((bucket_of(least), bucket_of(greatest)), (bucket, bucket));
            assert!((greatest - least) * SUB <= least, "bucket {bucket}: {least} to {greatest}");
            next = greatest + 1;
        }
        assert_eq!(next, 1 << TOP_BITS);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_values_to_one_part_in_sixteen() {
        let mut half = Distribution::default();
        let mut values: Vec<u64> = (0..10_000_u64).map(|n| n * n * 37 + 11).collect();
        values.iter().for_each(|&value| half.record(value));
        values.sort_unstable();
        let max = values[values.len() - 1];
        let mut seen = Distribution::default();
        seen.add(&half);
        seen.add(&half);
        assert_eq!((seen.len(), seen.quantile(1.0), seen.max()), (20_000, max, max));
        for quantile in [0.0, 0.1, 0.5, 0.99, 0.999] {
            let exact = values[((values.len() as f64 * quantile).ceil() as usize).max(1) - 1];
            let found = seen.quantile(quantile);
            assert!(found >= exact && found - exact <= exact / SUB, "{quantile}: {found}, {exact}");
        }
        assert_eq!(Distribution::default().quantile(0.5), 0);
    }
}
