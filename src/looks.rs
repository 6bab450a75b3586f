//! One look at a region, and two of them, one after the other: what is between them makes rates. `hotpair top` and the dashboard
//! show these.

use std::time::{Duration, SystemTime};

use hotpair_shm::{Counter, Noted, ParticipantStatus, Region, RegionStatus, Times, monotonic_ns};

use crate::command::status::drops_of;
use crate::command::status::takeover::{self, Takeover};

/// Two looks that are nearer to each other make no rate: one message would be thousands a second.
const NEAREST: Duration = Duration::from_millis(10);

/// One look.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    /// Whether the name still leads to the region.
    pub(crate) current: bool,
    /// Nanoseconds since 1970.
    pub(crate) wall: u64,
    at: u64,
    pub(crate) status: RegionStatus,
    pub(crate) times: Times,
    /// The newest last.
    pub(crate) events: Vec<Noted>,
    pub(crate) promotion: Option<Takeover>,
}

/// The last two.
pub(crate) struct Looks<'a> {
    pub(crate) before: &'a Sample,
    pub(crate) now: &'a Sample,
}

/// What a port has dropped for one reason.
#[derive(Debug)]
pub(crate) struct Drops<'a> {
    pub(crate) port: &'a str,
    /// In words.
    pub(crate) reason: String,
    /// In all.
    pub(crate) count: u64,
    /// A second.
    pub(crate) rate: f64,
}

impl Sample {
    pub(crate) fn take(region: &Region) -> Sample {
        let events = region.events();
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Sample {
            name: region.name(),
            current: region.is_current(),
            wall: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
            at: monotonic_ns(),
            status: region.status(),
            times: region.times(),
            promotion: takeover::last(&events),
            events,
        }
    }
}

impl<'a> Looks<'a> {
    /// So many a second.
    pub(crate) fn rate(&self, now: u64, before: u64) -> f64 {
        let between = Duration::from_nanos(self.now.at.saturating_sub(self.before.at));
        if between < NEAREST {
            return 0.0;
        }
        now.saturating_sub(before) as f64 / between.as_secs_f64()
    }

    /// Of what a process counts. One that was not there before has counted from zero.
    pub(crate) fn rate_of(
        &self,
        seat: &ParticipantStatus,
        count: &dyn Fn(&ParticipantStatus) -> u64,
    ) -> f64 {
        let mut earlier = self.before.status.participants.iter();
        let before = earlier.find(|other| other.seat == seat.seat && other.pid == seat.pid);
        self.rate(count(seat), before.map_or(0, count))
    }

    /// Of what all processes count.
    pub(crate) fn rate_of_all(&self, which: Counter) -> f64 {
        let seats = self.now.status.participants.iter();
        seats.map(|seat| self.rate_of(seat, &|seat| seat.counter(which))).sum()
    }

    /// Commits; they are counted anew in each epoch.
    pub(crate) fn commits(&self) -> f64 {
        let (now, before) = (self.now.status.commit_seq, self.before.status.commit_seq);
        let same = now.epoch() == before.epoch();
        self.rate(now.count(), if same { before.count() } else { 0 })
    }

    /// Deadlines that were missed.
    pub(crate) fn missed(&self) -> f64 {
        self.rate(self.now.times.late.len(), self.before.times.late.len())
    }

    /// What ports dropped, by reason.
    pub(crate) fn drops(&self) -> Vec<Drops<'a>> {
        let mut drops = Vec::new();
        for port in &self.now.status.participants {
            for (reason, count) in drops_of(port) {
                let of_reason = |seat: &ParticipantStatus| {
                    drops_of(seat).iter().find(|(other, _)| *other == reason).map_or(0, |(_, n)| *n)
                };
                let rate = self.rate_of(port, &of_reason);
                let reason = reason.trim_start_matches("dropped_").replace('_', " ");
                drops.push(Drops { port: &port.name, reason, count, rate });
            }
        }
        drops
    }
}
