//! Attaching to a region by its name.

use hotpair_shm::{Kind, Participant, Region, RoleEpoch};

use crate::error::Error;
use crate::worker::Worker;

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
