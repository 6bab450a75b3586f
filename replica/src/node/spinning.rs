//! Looking for an acknowledgement that is about to come, instead of sleeping until it has.
//!
//! To wake a sleeper costs some 30 microseconds here, as much as the acknowledgement itself takes between two hosts of
//! one rack. A commit whose output waits has its batch on the wire, and the answer comes after about the time that the ones before
//! took: so the loop goes on turning for that long, and lets others run between two turns. Nothing of it happens where
//! nobody waits, where the way is long, or when the time that it may take of a core is used up.

use std::time::Duration;

use crate::protocol::Tick;

/// A longer way is slept through: to wake is little beside it.
const TRIP_MAX: Duration = Duration::from_micros(300);
/// So many usual trips after the batch has left the answer is late, and nobody knows for how long.
const TRIPS: u32 = 2;
/// What may be saved up.
const SAVED_MAX: Duration = Duration::from_millis(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Spinning {
    percent: u8,
    /// In nanoseconds; a debt if it is negative.
    saved: i64,
    /// Until when the savings are counted.
    counted: Tick,
    /// Since then the loop has been turning for nothing.
    since: Option<Tick>,
    /// What a batch with its acknowledgement takes usually, once there was one.
    usual: Option<Duration>,
}

impl Spinning {
    /// At most so many percent of a core.
    pub(super) fn new(percent: u8) -> Self {
        Self { percent: percent.min(100), saved: 0, counted: Tick::ZERO, since: None, usual: None }
    }

    /// A batch was acknowledged so long after it had left.
    pub(super) fn note_trip(&mut self, took: Duration) {
        // One that took very long, since a host stood still, says little about the next.
        let took = took.min(TRIP_MAX * 2);
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
    }

    /// Whether to turn again instead of sleeping; to be asked in each turn. `left`: when the oldest batch left for whose
    /// acknowledgement somebody waits.
    pub(super) fn goes_on(&mut self, left: Option<Tick>, now: Tick) -> bool {
        let nanos = |from: Tick| i64::try_from(now.since(from).as_nanos()).unwrap_or(i64::MAX);
        let earned = nanos(self.counted) / 100 * i64::from(self.percent);
        self.counted = now;
        self.saved = self.saved.saturating_add(earned).min(SAVED_MAX.as_nanos() as i64);
        if let Some(since) = self.since.take() {
            self.saved -= nanos(since);
        }
        let usual = self.usual.filter(|usual| *usual <= TRIP_MAX);
        let due = left.zip(usual).is_some_and(|(left, usual)| now.since(left) < usual * TRIPS);
        if !due || self.saved <= 0 {
            return false;
        }
        self.since = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1_000;

    fn at(us: u64) -> Tick {
        Tick::from_nanos(10_000_000_000 + us * US)
    }

    fn spinning(percent: u8) -> Spinning {
        let mut spinning = Spinning::new(percent);
        assert!(!spinning.goes_on(None, at(0)), "nobody waits");
        assert!(!spinning.goes_on(Some(at(0)), at(1)), "nobody knows for how long");
        spinning.note_trip(Duration::from_micros(100));
        spinning
    }

    #[test]
    fn the_answer_is_awaited_for_about_as_long_as_it_takes() {
        let mut spinning = spinning(10);
        assert!(spinning.goes_on(Some(at(1_000)), at(1_010)));
        assert!(spinning.goes_on(Some(at(1_000)), at(1_199)));
        assert!(!spinning.goes_on(Some(at(1_000)), at(1_200)), "it is late");
        assert!(!spinning.goes_on(None, at(1_201)), "it came");
    }

    #[test]
    fn a_long_way_is_slept_through() {
        let mut spinning = spinning(10);
        for _ in 0..20 {
            spinning.note_trip(Duration::from_millis(5));
        }
        assert!(!spinning.goes_on(Some(at(1_000)), at(1_001)));
        for _ in 0..20 {
            spinning.note_trip(Duration::from_micros(60));
        }
        assert!(spinning.goes_on(Some(at(2_000)), at(2_001)), "it has become short again");
    }

    /// Goal: however much is under way, no more of a core is spent than was allowed.
    #[test]
    fn it_costs_what_it_may_cost() {
        for percent in [0, 5, 10, 50] {
            let mut spinning = spinning(percent);
            let mut spent = 0;
            // A second in turns of a microsecond, with a batch always just sent.
            for us in 1_000..1_001_000 {
                spent += u64::from(spinning.goes_on(Some(at(us - 1)), at(us)));
            }
            let most = u64::from(percent) * 10_000 + SAVED_MAX.as_micros() as u64;
            assert!(spent <= most, "{percent} %: {spent} of {most} us");
            assert!(spent >= u64::from(percent) * 9_000, "{percent} %: only {spent} us");
        }
    }
}
