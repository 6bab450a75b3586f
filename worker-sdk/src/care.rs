//! What a node does for its region and any worker does where there is no node: handing on what the dead held, and
//! giving hints that were lost.

use std::time::{Duration, Instant};

use hotpair_shm::{Reaper, Region, Sweeper};

/// Time between two looks at a slot, at least.
const EVERY: Duration = Duration::from_millis(100);

/// Slots that are looked at in a row: a claim waits so long.
const SLOTS: u32 = 8_192;

/// Of all time at most one part in so many goes into looks.
const SHARE: u32 = 100;

/// Looks after a region while nobody else does.
pub(crate) struct Care {
    region: Region,
    reaper: Reaper,
    sweeper: Sweeper,
    due: Instant,
    pause: Duration,
}

impl Care {
    pub(crate) fn new(region: &Region) -> Self {
        Self {
            region: region.clone(),
            reaper: Reaper::new(region.clone()),
            sweeper: Sweeper::new(region.clone()),
            due: Instant::now() + EVERY,
            pause: EVERY / region.geometry().slots.div_ceil(SLOTS).max(1),
        }
    }

    /// Looks, if it is time to and there is no node. Workers that do so at once do not disturb each other.
    pub(crate) fn look(&mut self, now: Instant) {
        if now < self.due {
            return;
        }
        if !self.region.node_alive() {
            self.reaper.run_once();
            self.sweeper.run_some(SLOTS);
        }
        self.due = now + self.pause.max(now.elapsed() * SHARE);
    }
}

impl std::fmt::Debug for Care {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Care").finish_non_exhaustive()
    }
}
