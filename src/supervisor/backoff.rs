//! How soon something that died is started again.

use std::time::Duration;

/// The first restart: at once, but never a storm.
const FIRST: Duration = Duration::from_millis(5);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(2);
/// Whoever lived this long did not die of its start.
const HEALTHY: Duration = Duration::from_secs(5);

/// Doubling pauses between deaths, forgotten after a healthy life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackOff {
    deaths: u32,
}

impl BackOff {
    /// The pause after a life of `lived`.
    pub(crate) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            self.deaths = 0;
        }
        let pause = FIRST.saturating_mul(1 << self.deaths.min(16)).min(LONGEST);
        self.deaths = self.deaths.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_forgotten() {
        let mut back_off = BackOff::default();
        let short = Duration::from_millis(1);
        let millis = |pause: Duration| pause.as_millis();
        assert_eq!([0; 3].map(|_| millis(back_off.after(short))), [5, 10, 20]);
        for _ in 0..40 {
            assert!(back_off.after(short) <= LONGEST);
        }
        assert_eq!(millis(back_off.after(short)), 2_000);
        assert_eq!(millis(back_off.after(HEALTHY)), 5);
    }
}
