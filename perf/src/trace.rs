//! How a run went: what each of its slices looked like.
//!
//! A histogram has no time in it. Beside it stand a few points a slice, made of that slice's values after it has
//! ended, so that the path that is measured pays for one more store.

use std::time::Duration;

/// Values of one slice that are kept until it ends; of a longer slice the first ones stand for all.
const RECENT_MAX: usize = 4_096;

/// Values of a point, unless a slice has so many that it is a few points all the same.
const POINT_VALUES: usize = 50;
const POINTS_OF_A_SLICE: usize = 8;

/// Points of a run; a run that is longer than anybody waits for keeps its beginning.
const POINTS_MAX: usize = 100_000;

/// A part of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// Its middle, since the measurement began.
    pub(crate) at: Duration,
    /// Half of its values are not above this, in nanoseconds.
    pub(crate) p50: u64,
    /// Its largest value, in nanoseconds.
    pub(crate) max: u64,
}

/// The slices of a run, in order.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    recent: Vec<u64>,
    /// The largest of those that found no room there.
    rest_max: u64,
    points: Vec<Point>,
}

impl Trace {
    /// Without values. The memory for those of a slice is taken here.
    pub(crate) fn new() -> Self {
        Trace { recent: Vec::with_capacity(RECENT_MAX), rest_max: 0, points: Vec::new() }
    }

    /// Adds a value to the slice that runs.
    #[inline]
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        if self.recent.len() < RECENT_MAX {
            self.recent.push(nanoseconds);
        } else {
            self.rest_max = self.rest_max.max(nanoseconds);
        }
    }

    /// Makes points of the values since the last slice. This one lasted from `from` to `to` since the measurement began; its values
    /// are taken to lie evenly in it.
    pub(crate) fn slice_ended(&mut self, from: Duration, to: Duration) {
        let parts = (self.recent.len() / POINT_VALUES).clamp(1, POINTS_OF_A_SLICE);
        let length = self.recent.len().div_ceil(parts).max(1);
        for (part, values) in self.recent.chunks_mut(length).enumerate() {
            if self.points.len() == POINTS_MAX {
                break;
            }
            values.sort_unstable();
            let own = values.last().copied().unwrap_or_default();
            let last = part + 1 == parts;
            self.points.push(Point {
                at: from + to.saturating_sub(from).mul_f64((part as f64 + 0.5) / parts as f64),
                p50: values[values.len() / 2],
                max: if last { own.max(self.rest_max) } else { own },
            });
        }
        self.recent.clear();
        self.rest_max = 0;
    }

    /// What was seen over time; empty where a run has no slices.
    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    /// The values that belong to no slice, in the order in which they came.
    pub(crate) fn loose(&self) -> &[u64] {
        &self.recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_slice_is_a_point_of_its_own_values() {
        let mut trace = Trace::new();
        for (slice, values) in [[5, 1, 3], [2, 900, 4]].iter().enumerate() {
            values.iter().for_each(|value| trace.record(*value));
            trace.slice_ended(SECOND * 2 * slice as u32, SECOND * 2 * (slice as u32 + 1));
        }
        trace.slice_ended(SECOND * 9, SECOND * 9);
        trace.record(7);
        let point = |secs, p50, max| Point { at: SECOND * secs, p50, max };
        assert_eq!(trace.points(), [point(1, 3, 5), point(3, 4, 900)]);
        assert_eq!(trace.loose(), [7]);
    }

    #[test]
    fn a_slice_of_many_values_is_several_points_in_order() {
        let mut trace = Trace::new();
        (0..200).for_each(|value| trace.record(value));
        trace.slice_ended(SECOND * 8, SECOND * 16);
        let at: Vec<_> = trace.points().iter().map(|point| point.at.as_secs()).collect();
        assert_eq!(at, [9, 11, 13, 15]);
        assert!(trace.points().is_sorted_by_key(|point| point.p50), "{:?}", trace.points());
    }

    /// Goal: a slice of any length costs the same memory, and its largest value is never lost.
    #[test]
    fn a_long_slice_keeps_its_largest_value() {
        let mut trace = Trace::new();
        (0..3 * RECENT_MAX as u64).for_each(|value| trace.record(value));
        assert_eq!(trace.loose().len(), RECENT_MAX);
        trace.slice_ended(Duration::ZERO, SECOND);
        assert_eq!(trace.points().len(), POINTS_OF_A_SLICE);
        assert_eq!(trace.points().last().map(|point| point.max), Some(3 * RECENT_MAX as u64 - 1));
    }
}
