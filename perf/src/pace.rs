//! An open loop: operations are due at fixed times, whether or not the one before has ended.

use std::time::{Duration, Instant};

/// The last stretch before an operation is due is spent spinning: a sleep would end 50 to 100 us late,
/// and that would be counted against the thing that is measured.
const SPIN: Duration = Duration::from_micros(150);

/// A schedule of operations.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    period: Duration,
    due: Instant,
}

impl Pace {
    /// One operation each `period`, the first one now.
    pub(crate) fn every(period: Duration) -> Self {
        Pace { period, due: Instant::now() }
    }

    /// Waits until the next operation is due and returns when that is, which may be long ago.
    pub(crate) fn next(&mut self) -> Instant {
        let due = self.due;
        self.due += self.period;
        if let Some(early) = due.checked_duration_since(Instant::now())
            && early > SPIN
        {
            std::thread::sleep(early - SPIN);
        }
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an operation that takes long does not shift those that follow.
    #[test]
    fn a_slow_operation_delays_but_shifts_nothing() {
        let period = Duration::from_millis(2);
        let mut pace = Pace::every(period);
        let first = pace.next();
        std::thread::sleep(period * 3);
        for number in 1..6 {
            assert_eq!(pace.next(), first + period * number);
            assert!(Instant::now() >= first + period * number, "never early");
        }
    }
}
