//! Two looks at a region, one after the other: what is between them makes rates.

use std::time::{Duration, SystemTime};

use hotpair_shm::{Noted, ParticipantStatus, Region, RegionStatus, Times, monotonic_ns};

use crate::cli::RegionChoice;
use crate::command::observe;
use crate::command::status::takeover::{self, Takeover};
use crate::report::Failure;

/// Two looks that are nearer to each other make no rate: one message would be thousands a second.
const NEAREST: Duration = Duration::from_millis(10);
/// The newest events that are shown.
const EVENTS: usize = 12;

/// The region of a name, from one of its lives to the next.
pub(super) struct Watch {
    choice: RegionChoice,
    region: Region,
    before: Sample,
    now: Sample,
}

/// One look.
pub(super) struct Sample {
    pub(super) name: String,
    /// Whether the name still leads to the region.
    pub(super) current: bool,
    /// Nanoseconds since 1970.
    pub(super) wall: u64,
    at: u64,
    pub(super) status: RegionStatus,
    pub(super) times: Times,
    pub(super) events: Vec<Noted>,
    pub(super) promotion: Option<Takeover>,
}

/// The last two.
pub(super) struct Looks<'a> {
    pub(super) before: &'a Sample,
    pub(super) now: &'a Sample,
}

impl Watch {
    pub(super) fn begin(choice: &RegionChoice) -> Result<Watch, Failure> {
        let region = observe(choice)?;
        let (before, now) = (Sample::take(&region), Sample::take(&region));
        Ok(Watch { choice: choice.clone(), region, before, now })
    }

    /// Looks once more. A successor of the region takes its place.
    pub(super) fn look(&mut self) {
        if !self.region.is_current()
            && let Ok(successor) = observe(&self.choice)
        {
            self.region = successor;
            // What counts anew makes no rates with what was counted before.
            self.now = Sample::take(&self.region);
        }
        self.before = std::mem::replace(&mut self.now, Sample::take(&self.region));
    }

    pub(super) fn looks(&self) -> Looks<'_> {
        Looks { before: &self.before, now: &self.now }
    }
}

impl Sample {
    fn take(region: &Region) -> Sample {
        let mut events = region.events();
        let promotion = takeover::last(&events);
        events.drain(..events.len().saturating_sub(EVENTS));
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Sample {
            name: region.name(),
            current: region.is_current(),
            wall: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
            at: monotonic_ns(),
            status: region.status(),
            times: region.times(),
            events,
            promotion,
        }
    }
}

impl Looks<'_> {
    /// So many a second.
    pub(super) fn rate(&self, now: u64, before: u64) -> f64 {
        let between = Duration::from_nanos(self.now.at.saturating_sub(self.before.at));
        if between < NEAREST {
            return 0.0;
        }
        now.saturating_sub(before) as f64 / between.as_secs_f64()
    }

    /// Of what a process counts. One that was not there before has counted from zero.
    pub(super) fn rate_of(
        &self,
        seat: &ParticipantStatus,
        count: &dyn Fn(&ParticipantStatus) -> u64,
    ) -> f64 {
        let mut earlier = self.before.status.participants.iter();
        let before = earlier.find(|other| other.seat == seat.seat && other.pid == seat.pid);
        self.rate(count(seat), before.map_or(0, count))
    }

    /// Commits; they are counted anew in each epoch.
    pub(super) fn commits(&self) -> f64 {
        let (now, before) = (self.now.status.commit_seq, self.before.status.commit_seq);
        let same = now.epoch() == before.epoch();
        self.rate(now.count(), if same { before.count() } else { 0 })
    }
}
