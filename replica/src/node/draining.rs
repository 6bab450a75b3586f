//! The host's part of a planned change: first what is here is finished, then the region stands still.
//!
//! Nobody is killed for it, and the loop never waits: each turn looks once. What takes too long ends with the core's
//! patience, and the service goes on.

use std::time::Duration;

use hotpair_shm::{LeftToDo, Region};

use crate::protocol::{Seq, Tick};

/// Between two looks, each at every block.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(1);

/// So long is waited for a moment in which no packet waits.
const PACKETS_WAIT: Duration = Duration::from_millis(100);

/// A region on its way out of service.
#[derive(Debug)]
pub(super) struct Draining {
    stage: Stage,
    begun: Tick,
    look_at: Tick,
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
        Self { stage: Stage::Emptying, begun: now, look_at: now, busy: Busy::default() }
    }

    /// Since when nothing is read.
    pub(super) fn begun(&self) -> Tick {
        self.begun
    }

    /// When to look again, while there is something to look for.
    pub(super) fn wake_at(&self) -> Option<Tick> {
        (self.stage != Stage::Quiet).then_some(self.look_at)
    }

    /// One look, after a turn of gathering. The position up to which everything was gathered, once the region is quiet.
    pub(super) fn look(&mut self, region: &Region, now: Tick) -> Option<Seq> {
        if self.stage == Stage::Quiet || now < self.look_at {
            return None;
        }
        self.look_at = now.after(LOOK_EVERY);
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
                self.look_at = now;
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
