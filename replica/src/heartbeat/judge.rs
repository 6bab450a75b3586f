//! When silence is the peer's, and when it is our own. Owns no clock.

use std::time::{Duration, Instant};

/// Tells silence from lateness.
#[derive(Debug)]
pub(super) struct Judge {
    period: Duration,
    silent_after: Duration,
    /// The last heartbeat, or the last moment at which this thread had an excuse.
    /// Nothing is judged before the first heartbeat.
    heard: Option<Instant>,
    suspected: bool,
}

impl Judge {
    pub(super) fn new(period: Duration, missed: u32) -> Self {
        Self { period, silent_after: period * missed.max(1), heard: None, suspected: false }
    }

    /// A turn that was planned for `planned` begins. Returns whether it is late by a period: then
    /// nobody is accused until a full span of silence was watched from here.
    pub(super) fn wake(&mut self, now: Instant, planned: Instant) -> bool {
        let late = now.saturating_duration_since(planned) > self.period;
        if late && !self.suspected && self.heard.is_some() {
            self.heard = Some(now);
        }
        late
    }

    /// A heartbeat was found. Returns whether that ends a silence that was reported.
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        self.heard = Some(now);
        std::mem::take(&mut self.suspected)
    }

    /// How long the peer has been silent, once when it becomes too long.
    pub(super) fn silence(&mut self, now: Instant) -> Option<Duration> {
        let lasted = now.saturating_duration_since(self.heard?);
        if self.suspected || lasted < self.silent_after {
            return None;
        }
        self.suspected = true;
        Some(lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(5);

    /// Turns on time from `from`, `count` of them; the silence reported, if any.
    fn turns(judge: &mut Judge, from: Instant, count: u32) -> Option<Duration> {
        (0..count).find_map(|turn| {
            let now = from + PERIOD * turn;
            assert!(!judge.wake(now, now));
            judge.silence(now)
        })
    }

    #[test]
    fn silence_is_reported_once_and_ends_with_a_heartbeat() {
        let mut judge = Judge::new(PERIOD, 8);
        let start = Instant::now();
        assert_eq!(turns(&mut judge, start, 100), None, "nobody was ever heard");
        assert!(!judge.heard(start));
        assert_eq!(turns(&mut judge, start, 8), None, "seven periods are not eight");
        assert_eq!(judge.silence(start + PERIOD * 8), Some(PERIOD * 8));
        assert_eq!(turns(&mut judge, start + PERIOD * 9, 100), None, "it was said");
        assert!(judge.heard(start + PERIOD * 200), "the silence is over");
        assert_eq!(turns(&mut judge, start + PERIOD * 200, 9), Some(PERIOD * 8));
    }

    #[test]
    fn a_late_thread_accuses_nobody() {
        let mut judge = Judge::new(PERIOD, 8);
        let start = Instant::now();
        judge.heard(start);
        // Stopped for a second. The socket may hold nothing because the peer saw us silent.
        let woke = start + Duration::from_secs(1);
        assert!(judge.wake(woke, start + PERIOD));
        assert_eq!(judge.silence(woke), None);
        assert_eq!(turns(&mut judge, woke, 8), None, "a whole span is watched first");
        assert_eq!(judge.silence(woke + PERIOD * 8), Some(PERIOD * 8));
    }

    #[test]
    fn a_thread_that_is_always_late_never_accuses() {
        let mut judge = Judge::new(PERIOD, 8);
        let start = Instant::now();
        judge.heard(start);
        for turn in 1..100 {
            let now = start + PERIOD * 3 * turn;
            assert!(judge.wake(now, now - PERIOD * 2));
            assert_eq!(judge.silence(now), None);
        }
    }
}
