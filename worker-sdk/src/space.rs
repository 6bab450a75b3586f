//! Attaching to a region by its name.

use std::time::{Duration, Instant};

use hotpair_shm::{AttachError, Kind, Participant, Region, RoleEpoch};

use crate::error::Error;
use crate::worker::Worker;

/// By which a node tells its workers of its region.
const VARIABLE: &str = "HOTPAIR_REGION";
/// For a region to be made: some 100 ms a GiB, more where pages are huge.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A node's region, as workers see it. Clones share the mapping.
#[derive(Clone, Debug)]
pub struct Space {
    region: Region,
    name: String,
}

impl Space {
    /// Attaches to the region called `name`, as it is called in the node's configuration.
    pub fn attach(name: &str) -> Result<Space, Error> {
        let region = Region::attach(&Region::path_for(name))
            .map_err(|source| Error::Attach { name: name.to_owned(), source })?;
        Ok(Space { region, name: name.to_owned() })
    }

    /// The region of the node that has started this program, which says so in `HOTPAIR_REGION`. While the node has yet to make it,
    /// this waits.
    ///
    /// # Errors
    /// [`Error::NoNode`]: this was not started by a node. [`Error::Attach`]: there is no such region after 20 seconds, or
    /// one that this build cannot use.
    pub fn from_node() -> Result<Space, Error> {
        let name = std::env::var(VARIABLE).map_err(|_| Error::NoNode { variable: VARIABLE })?;
        let begun = Instant::now();
        loop {
            match Space::attach(&name) {
                Err(Error::Attach { source: AttachError::Missing { .. }, .. })
                    if begun.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(LOOK_EVERY);
                }
                result => return result,
            }
        }
    }

    /// A worker of the queue `queue`. It claims nothing while the node is not primary.
    pub fn worker(&self, queue: &str) -> Result<Worker, Error> {
        Worker::new(self.clone(), queue)
    }

    /// Whether the node is primary at present, and of which epoch.
    pub fn role(&self) -> RoleEpoch {
        self.region.role()
    }

    /// The region underneath.
    pub fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn join(&self, name: &str) -> Result<Participant, Error> {
        self.region
            .join(Kind::Worker, name)
            .map_err(|source| Error::Join { name: self.name.clone(), source })
    }

    /// The region that has taken this one's place, if it was replaced: after a cold start.
    pub(crate) fn successor(&self) -> Option<Space> {
        if self.region.is_current() {
            return None;
        }
        Space::attach(&self.name).ok()
    }
}
