//! What the tests of the region share: a region of their own that disappears with the test.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod random;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use hotpair_shm::{
    Delivered, Delivery, Endpoint, Geometry, Participant, QueueSpec, Region, Shares, SizeClass,
};

/// A primary region under a name of its own; the file is removed on drop, also in a panic.
pub(crate) struct TestRegion {
    pub(crate) region: Region,
    path: PathBuf,
}

impl TestRegion {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Region::path_for(&format!("test.{}.{number}", std::process::id()));
        let region = Region::create(&path, geometry).expect("a small region fits");
        region.become_primary(1);
        Self { region, path }
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Drop for TestRegion {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Small enough to be exhausted, by ports too, large enough to work.
pub(crate) fn small() -> Geometry {
    Geometry {
        slots: 64,
        classes: vec![
            SizeClass { payload_bytes: 128, count: 512 },
            SizeClass { payload_bytes: 1024, count: 256 },
        ],
        queues: vec![
            QueueSpec { name: "work".into(), lanes: 2 },
            QueueSpec { name: "done".into(), lanes: 1 },
        ],
        ports: vec!["out".into()],
        participants: 16,
        tx_entries: 16,
        max_attempts: 3,
        inbox_limit: 100,
        shares: Shares { ingest_percent: 100, ..Shares::default() },
    }
}

/// Sends `data` to the object `key` of queue `work`, or to an object of its own.
pub(crate) fn send(port: &mut Participant, key: Option<&[u8]>, data: &[u8]) -> Delivered {
    let queue = port.region().queue("work").expect("the queue of the test geometry");
    let packet = port.packet_of(data, Endpoint::NONE).expect("a free block");
    port.deliver(Delivery { queue, key, priority: 0 }, packet).expect("room for a message")
}
