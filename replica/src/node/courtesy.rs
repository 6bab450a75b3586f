//! Letting others on the core go first, unless one of them keeps it.
//!
//! To gather commits one by one costs more than they do, and whoever makes them is often on the same core: so the loop lets him go
//! first when that brings more with it. A stranger on the core who has something to compute would make each commit wait for as long as the
//! kernel lets him compute, some milliseconds: asleep, the node is woken in his place. So who took long, and meanwhile little was
//! committed, is not let go first again for a while.

use std::time::Duration;

use hotpair_shm::Region;

use super::now;
use crate::protocol::Tick;

/// Whoever commits something sleeps before that, or commits much more.
const LONG: Duration = Duration::from_micros(500);
/// A commit in each of these is worth a long wait.
const WORTH: Duration = Duration::from_micros(20);
/// What a stranger costs: one long wait in so much time, and in twice as much when he is found again, up to the longest.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Courtesy {
    not_before: Tick,
    /// The next one.
    pause: Duration,
}

impl Courtesy {
    pub(super) const fn new() -> Self {
        Self { not_before: Tick::ZERO, pause: PAUSE }
    }

    /// Lets whoever shares the core go first; false if that was not wise lately.
    pub(super) fn give_way(&mut self, region: &Region) -> bool {
        let begun = now();
        if !self.is_wise(begun) {
            return false;
        }
        let before = region.commit_seq().count();
        std::thread::yield_now();
        let commits = region.commit_seq().count().saturating_sub(before);
        self.learn(begun, now(), commits);
        true
    }

    fn is_wise(&self, now: Tick) -> bool {
        now >= self.not_before
    }

    /// Others had the core between the two, and so much was committed meanwhile.
    fn learn(&mut self, begun: Tick, ended: Tick, commits: u64) {
        let took = ended.since(begun);
        let worth =
            u32::try_from(commits).map_or(Duration::MAX, |count| WORTH.saturating_mul(count));
        if took > LONG && worth < took {
            self.not_before = Tick::from_nanos(ended.as_nanos() + self.pause.as_nanos() as u64);
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        } else {
            self.pause = PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Tick {
        Tick::from_nanos(us * 1_000)
    }

    #[test]
    fn a_stranger_who_keeps_the_core_is_not_let_go_first_again_for_a_while() {
        let mut courtesy = Courtesy::new();
        assert!(courtesy.is_wise(at(1)));
        courtesy.learn(at(1_000), at(4_000), 3);
        assert!(!courtesy.is_wise(at(4_001)), "3 ms for three commits");
        assert!(!courtesy.is_wise(at(23_999)));
        assert!(courtesy.is_wise(at(24_000)));
        courtesy.learn(at(30_000), at(33_000), 3);
        assert!(!courtesy.is_wise(at(72_999)), "found again");
        assert!(courtesy.is_wise(at(73_000)));
        for _ in 0..20 {
            courtesy.learn(at(80_000), at(83_000), 3);
        }
        assert!(courtesy.is_wise(at(1_083_000)), "not for ever");
        courtesy.learn(at(1_090_000), at(1_090_010), 1);
        courtesy.learn(at(1_100_000), at(1_103_000), 3);
        assert!(courtesy.is_wise(at(1_123_000)), "he had been gone");
    }

    #[test]
    fn who_commits_much_is_let_go_first_however_long_he_takes() {
        let mut courtesy = Courtesy::new();
        courtesy.learn(at(1_000), at(4_000), 150);
        assert!(courtesy.is_wise(at(4_001)));
        courtesy.learn(at(5_000), at(8_000), u64::MAX);
        assert!(courtesy.is_wise(at(8_001)));
    }

    #[test]
    fn a_short_wait_needs_no_reason() {
        let mut courtesy = Courtesy::new();
        courtesy.learn(at(1_000), at(1_500), 0);
        assert!(courtesy.is_wise(at(1_501)));
    }
}
