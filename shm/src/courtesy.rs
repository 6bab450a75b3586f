//! Letting others on the core go first, unless one of them keeps it.
//!
//! To take things one by one, each with a sleep and a wake-up, costs more than they do, and whoever makes them is often on the same
//! core: so whoever is about to sleep lets him go first when that brings more with it. A stranger on the core who has something to
//! compute would make each thing wait for as long as the kernel lets him compute, some milliseconds: who sleeps is woken in his place.
//! So who took long, and meanwhile little came, is not let go first again for a while.

use std::time::Duration;

use crate::bell::Bell;
use crate::participant::Participant;
use crate::process::monotonic_ns;
use crate::region::{QueueId, Region};

/// Whoever makes something sleeps before that, or makes much more.
const LONG: Duration = Duration::from_micros(500);
/// One thing in each of these is worth a long wait.
const WORTH: Duration = Duration::from_micros(20);
/// What a stranger costs: one long wait in so much time, and in twice as much when he is found again, up to the longest.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Courtesy {
    /// Monotonic nanoseconds.
    not_before: u64,
    /// The next one.
    pause: Duration,
}

impl Participant {
    /// Lets whoever shares the core go first, who may bring more of what the bell rings for: in place of a sleep, or before that is
    /// taken which is there.
    ///
    /// False, and nothing of it, if that was not wise lately: somebody kept the core for long, and little came.
    pub fn give_way(&mut self, bell: Bell) -> bool {
        let begun = monotonic_ns();
        if !self.courtesy.is_wise(begun) {
            return false;
        }
        let region = self.region();
        let before = made(region, bell);
        std::thread::yield_now();
        let made = made(region, bell).saturating_sub(before);
        self.courtesy.learn(begun, monotonic_ns(), made);
        true
    }

    /// Whether [`give_way`](Self::give_way) is wise now.
    pub fn may_give_way(&self) -> bool {
        self.courtesy.is_wise(monotonic_ns())
    }
}

/// What others do for whom the bell would ring, counted from somewhere.
fn made(region: &Region, bell: Bell) -> u64 {
    match bell {
        Bell::Queue(QueueId(queue)) => (0..region.map.lane_count(queue))
            .filter_map(|lane| region.map.lane(queue, lane))
            .map(|lane| lane.len())
            .sum(),
        Bell::Port(_) | Bell::Node => region.commit_seq().count(),
    }
}

impl Courtesy {
    pub(crate) const fn new() -> Self {
        Self { not_before: 0, pause: PAUSE }
    }

    fn is_wise(&self, now: u64) -> bool {
        now >= self.not_before
    }

    /// Others had the core between the two, and made so much meanwhile.
    fn learn(&mut self, begun: u64, ended: u64, made: u64) {
        let took = Duration::from_nanos(ended.saturating_sub(begun));
        let worth = u32::try_from(made).map_or(Duration::MAX, |count| WORTH.saturating_mul(count));
        if took > LONG && worth < took {
            self.not_before = ended + self.pause.as_nanos() as u64;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        } else {
            self.pause = PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> u64 {
        us * 1_000
    }

    #[test]
    fn a_stranger_who_keeps_the_core_is_not_let_go_first_again_for_a_while() {
        let mut courtesy = Courtesy::new();
        assert!(courtesy.is_wise(at(1)));
        courtesy.learn(at(1_000), at(4_000), 3);
        assert!(!courtesy.is_wise(at(4_001)), "3 ms for three things");
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
    fn who_makes_much_is_let_go_first_however_long_he_takes() {
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
