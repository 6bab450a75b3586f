//! A region for the length of a bench.

use std::path::PathBuf;

use hotpair_shm::Region;

/// A region's path under a name of our own; whatever is there is removed at the end.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new(bench: &str) -> Self {
        let path = Region::path_for(&format!("bench-{bench}-{}", std::process::id()));
        // Left by a process of the same pid that was killed.
        let _ = std::fs::remove_file(&path);
        Scratch { path }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
