//! How often somebody may do something: a bucket that fills with time.

use std::time::{Duration, Instant};

/// So many a second, and as many at once after a second of silence.
#[derive(Debug)]
pub(crate) struct Pace {
    every: Duration,
    burst: u32,
    /// When the bucket was, or will be, empty by what was taken from it.
    taken_until: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(per_second: u32) -> Self {
        Self { every: Duration::from_secs(1) / per_second, burst: per_second, taken_until: None }
    }

    /// Takes one; says how long to wait before it is used.
    pub(crate) fn take(&mut self, now: Instant) -> Duration {
        let full = now.checked_sub(self.every * self.burst).unwrap_or(now);
        let taken = self.taken_until.map_or(full, |until| until.max(full)) + self.every;
        self.taken_until = Some(taken);
        taken.saturating_duration_since(now)
    }

    /// Takes one if it may be used now.
    pub(crate) fn try_take(&mut self, now: Instant) -> bool {
        let before = self.taken_until;
        let free = self.take(now).is_zero();
        if !free {
            self.taken_until = before;
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_share_however_it_is_taken() {
        let (mut pace, began) = (Pace::new(10), Instant::now());
        let taken = (0..100).filter(|_| pace.try_take(began)).count();
        assert_eq!(taken, 10, "a burst");
        let taken =
            (0..300).filter(|ms| pace.try_take(began + Duration::from_millis(10 * ms))).count();
        assert!((29..=30).contains(&taken), "three seconds: {taken}");
        let mut waiting = Pace::new(10);
        let waits: Vec<_> = (0..12).map(|_| waiting.take(began)).collect();
        assert_eq!(waits[9], Duration::ZERO);
        assert_eq!(waits[11], Duration::from_millis(200), "two too many");
    }
}
