//! A region's name, looked at again and again.

use hotpair_shm::Region;

use crate::cli::RegionChoice;
use crate::command::observe;
use crate::looks::{Looks, Sample};
use crate::report::Failure;

/// The region of a name, from one of its lives to the next.
pub(super) struct Watch {
    choice: RegionChoice,
    region: Region,
    before: Sample,
    now: Sample,
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
