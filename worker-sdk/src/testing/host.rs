//! One of the hosts of a pair: a region of its own, removed with it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use hotpair_shm::{Geometry, Kind, Participant, QueueSpec, Region};

use crate::space::Space;

/// See the module.
pub struct Host {
    pub(super) region: Region,
    name: String,
    path: PathBuf,
    #[cfg(feature = "gateway")]
    pub(super) gateway: Option<super::gateways::Gateway>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A small region with these queues, of one lane each, and ports.
pub fn geometry(queues: &[&str], ports: &[&str]) -> Geometry {
    let queue = |name: &&str| QueueSpec { name: (*name).to_owned(), lanes: 1 };
    Geometry {
        queues: queues.iter().map(queue).collect(),
        ports: ports.iter().map(|&port| port.to_owned()).collect(),
        ..Geometry::for_objects(2_000)
    }
}

impl Host {
    /// A region with a name that nobody else has. It serves when [`Region::become_primary`] says so. With the feature `gateway` it
    /// has what a gateway needs besides.
    pub fn new(geometry: &Geometry) -> Host {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test.kit.{}.{number}", std::process::id());
        let path = Region::path_for(&name);
        #[cfg(feature = "gateway")]
        let geometry = &super::gateways::with_gateway(geometry);
        let region = Region::create(&path, geometry).expect("room in shared memory");
        Host {
            region,
            name,
            path,
            #[cfg(feature = "gateway")]
            gateway: None,
        }
    }

    /// Its name, for [`Space::attach`] and programs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The region as workers see it.
    pub fn space(&self) -> Space {
        Space::attach(&self.name).expect("a region that is there")
    }

    /// A seat in the region, for tests that look and do below the SDK.
    pub fn seat(&self) -> Participant {
        self.region.join(Kind::Worker, "test").expect("a seat")
    }

    /// Stops to serve, as who learns that another node is primary of `epoch`.
    pub fn fence(&self, epoch: u16) {
        self.region.become_fenced(epoch);
    }

    /// Serves from now on, with what it has, as the primary of `epoch`.
    pub fn take_over(&self, epoch: u16) {
        self.region.begin_change(epoch);
        self.region.void_claims();
        self.region.become_primary(epoch);
        self.region.raise_released(self.region.commit_seq());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        #[cfg(feature = "gateway")]
        self.close();
        let _ = std::fs::remove_file(&self.path);
    }
}
