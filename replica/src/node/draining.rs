//! The host's part of a planned change: first what is here is finished, then the region stands still.
//!
//! Nobody is killed for it, and the loop never waits: each turn looks once. What takes too long ends with the core's
//! patience, and the service goes on.

use std::time::{Duration, Instant};

use hotpair_shm::{LeftToDo, Region};

use crate::protocol::{Seq, Tick};

/// A look is taken at least this often.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(1);
/// And, where something happened, a commit or an ack, this long after the one before.
pub(super) const LOOK_AGAIN: Duration = Duration::from_micros(100);
/// For so long after the beginning nobody waits for a timer, which ticks in milliseconds: most regions are quiet by then. Ports
/// do not say that a packet has left.
const HURRY: Duration = Duration::from_millis(10);
/// Each looks at every block: of a large region that takes a while, and others want the core too.
const COST_SHARE: u32 = 4;

/// So long is waited for a moment in which no packet waits.
const PACKETS_WAIT: Duration = Duration::from_millis(100);

/// A region on its way out of service.
#[derive(Debug)]
pub(super) struct Draining {
    stage: Stage,
    begun: Tick,
    /// Not before this.
    look_at: Tick,
    /// Then, whether something happened or not.
    wake_at: Tick,
    /// What kept it busy when it was looked at last.
    pub(super) busy: Busy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Ports send and workers finish; nothing is read.
    Emptying,
    /// Nobody begins anything.
    Quieting,
    Quiet,
}

/// Why a region is not quiet yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) left: LeftToDo,
    pub(super) holdouts: usize,
}

impl Busy {
    /// Nobody has anything in hand, and nothing is left to do or to tell.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Busy::default()
    }
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LeftToDo { messages, unsent, untold } = self.left;
        write!(
            f,
            "{messages} messages not worked on, {unsent} packets not sent, {untold} not accounted for, \
             {} processes with something in hand",
            self.holdouts
        )
    }
}

impl Draining {
    pub(super) fn begin(region: &Region, now: Tick) -> Self {
        region.begin_drain();
        let busy = Busy::default();
        Self { stage: Stage::Emptying, begun: now, look_at: now, wake_at: now, busy }
    }

    /// Since when nothing is read.
    pub(super) fn begun(&self) -> Tick {
        self.begun
    }

    /// When to look again, while there is something to look for.
    pub(super) fn wake_at(&self) -> Option<Tick> {
        (self.stage != Stage::Quiet).then_some(self.wake_at)
    }

    /// Whether to look as often as looks may be.
    pub(super) fn hurries(&self, now: Tick) -> bool {
        self.stage != Stage::Quiet && now.since(self.begun) < HURRY
    }

    /// One look, after a turn of gathering. The position up to which everything was gathered, once the region is quiet.
    pub(super) fn look(&mut self, region: &Region, now: Tick) -> Option<Seq> {
        if self.stage == Stage::Quiet || now < self.look_at {
            return None;
        }
        let begun = Instant::now();
        let before = self.stage;
        let mut through = self.look_once(region, now);
        if self.stage != before && through.is_none() {
            // Who begins something from here on sees the new word. What had begun before is looked for at once: a timer's
            // next tick may be a millisecond away.
            through = self.look_once(region, now);
        }
        let took = begun.elapsed();
        self.look_at = now.after(took + LOOK_AGAIN.max(took * COST_SHARE));
        self.wake_at = now.after(took + LOOK_EVERY.max(took * COST_SHARE));
        through
    }

    fn look_once(&mut self, region: &Region, now: Tick) -> Option<Seq> {
        self.busy.holdouts = region.holdouts().len();
        if self.busy.holdouts > 0 {
            return None;
        }
        self.busy.left = region.left_to_do();
        let LeftToDo { messages, unsent, untold } = self.busy.left;
        match self.stage {
            // Packets that timers go on to bring about: what is left of them the successor sends.
            Stage::Emptying
                if messages == 0
                    && (unsent + untold == 0 || now.since(self.begun) >= PACKETS_WAIT) =>
            {
                region.begin_change(region.role().epoch());
                self.stage = Stage::Quieting;
                None
            }
            // A timer may have brought about a packet in between: nobody has sent it, and nobody does here.
            Stage::Quieting if untold == 0 && region.gathered() == region.commit_seq() => {
                self.stage = Stage::Quiet;
                Some(Seq::from_raw(region.commit_seq().to_bits()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use hotpair_shm::{Delivery, Endpoint, Geometry, Kind};

    use super::*;

    const MS: u64 = 1_000_000;

    struct Removed(std::path::PathBuf);

    impl Drop for Removed {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// Goal: a region in which nothing is under way is quiet at the first look, without another tick of a timer; one with a message
    /// is not, and is looked at without one for a while.
    #[test]
    fn a_quiet_region_is_found_quiet_at_once() {
        let path = Region::path_for(&format!("test.draining.{}", std::process::id()));
        let _removed = Removed(path.clone());
        let geometry = Geometry { ports: vec!["in".to_owned()], ..Geometry::for_objects(100) };
        let region = Region::create(&path, &geometry).expect("room in shared memory");
        region.become_primary(1);
        let mut draining = Draining::begin(&region, Tick::from_nanos(MS));
        let quiet = draining.look(&region, Tick::from_nanos(MS));
        assert_eq!(quiet, Some(Seq::from_raw(region.commit_seq().to_bits())));
        assert_eq!(draining.wake_at(), None);

        region.become_primary(1);
        let mut port = region.join(Kind::Port, "in").expect("a seat");
        let queue = region.queue_at(0).expect("the first queue");
        let message = port.packet_of(b"in", Endpoint::NONE).expect("room");
        let to = Delivery { queue, key: Some(b"object"), priority: 0 };
        port.deliver(to, message).map_err(|(error, _)| error).expect("room");
        let mut draining = Draining::begin(&region, Tick::from_nanos(MS));
        assert_eq!(draining.look(&region, Tick::from_nanos(MS)), None);
        assert_eq!(draining.busy.left.messages, 1, "{}", draining.busy);
        assert!(draining.hurries(Tick::from_nanos(2 * MS)), "nobody waits for the timer");
        assert!(!draining.hurries(Tick::from_nanos(MS).after(HURRY)), "nor is it hurried for ever");
    }
}
