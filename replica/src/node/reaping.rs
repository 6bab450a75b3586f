//! The thread that notices the death of workers and ports, claims that last too long and drops that begin, and repairs lost hints.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hotpair_shm::{LeaseExpired, LeaseWatch, Reaped, Reaper, Region, Sweeper};
use serde_json::Value;

use super::drops::Drops;

/// How long the thread sleeps at most: newcomers are watched, and a stop is noticed, after this time.
const NAP: Duration = Duration::from_millis(50);
/// Time between two looks at a slot, at least; a lost hint is repaired by the second.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// Slots that are looked at in a row: a death must not wait for a look at a million of them.
const SWEEP_SLOTS: u32 = 8_192;
/// Time between two looks at what ports drop.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Of all time at most one part in so many is spent on looking at slots.
const SWEEP_SHARE: u32 = 100;

/// The running thread. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Reaping {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reaping {
    /// Starts the thread; `tell` hears of every pass that found somebody dead, and `late` of each claim that has outlasted
    /// its lease; `dropping` gets the events of [`Drops`].
    pub(super) fn start(
        region: Region,
        tell: impl FnMut(Reaped) + Send + 'static,
        late: impl FnMut(LeaseExpired) + Send + 'static,
        dropping: impl FnMut(&'static str, Value) + Send + 'static,
    ) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("reaper".to_owned()).spawn({
            let stopping = Arc::clone(&stopping);
            move || run(&region, &stopping, tell, late, dropping)
        })?;
        Ok(Self { stopping, thread: Some(thread) })
    }
}

impl Drop for Reaping {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    region: &Region,
    stopping: &AtomicBool,
    mut tell: impl FnMut(Reaped),
    mut late: impl FnMut(LeaseExpired),
    mut dropping: impl FnMut(&'static str, Value),
) {
    let (mut drops, mut count_at) = (Drops::default(), Instant::now());
    let mut leases = LeaseWatch::new(region.clone());
    let mut look_at = Instant::now();
    let mut reaper = Reaper::new(region.clone());
    let mut sweeper = Sweeper::new(region.clone());
    let pause = SWEEP_EVERY / region.geometry().slots.div_ceil(SWEEP_SLOTS).max(1);
    let mut sweep_at = Instant::now() + SWEEP_EVERY;
    while !stopping.load(Ordering::Acquire) {
        let period = leases.period();
        let sweep_in = sweep_at.saturating_duration_since(Instant::now());
        reaper.wait(period.unwrap_or(NAP).min(NAP).min(sweep_in));
        let reaped = reaper.run_once();
        if !reaped.participants.is_empty() || reaped.claims > 0 {
            tell(reaped);
        }
        let began = Instant::now();
        if let Some(period) = period.filter(|_| began >= look_at) {
            leases.run_once().into_iter().for_each(&mut late);
            look_at = began + period;
        }
        if began >= count_at {
            drops
                .look(&region.participants())
                .into_iter()
                .for_each(|(name, of)| dropping(name, of));
            count_at = began + COUNT_EVERY;
        }
        if began >= sweep_at {
            sweeper.run_some(SWEEP_SLOTS);
            sweep_at = began + pause.max(began.elapsed() * SWEEP_SHARE);
        }
    }
}
