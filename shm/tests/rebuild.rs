//! A rebuild that is killed at random instants, again and again, and the one that finishes it.
//!
//! The instant of a kill is what no seed can replay: the test says after how many microseconds it came.

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::{TestRegion, send};
use hotpair_shm::{AttachError, Geometry, Kind, Mode, QueueSpec, Region};

/// Path of the region that a child is to rebuild.
const PATH: &str = "HOTPAIR_REBUILD_PATH";

const KEYS: u32 = 1500;

/// Not a test of its own: what the child of the test below runs.
#[test]
fn child() {
    let Ok(path) = std::env::var(PATH) else { return };
    loop {
        Region::rebuild(path.as_ref()).expect("nobody lives in it");
    }
}

#[test]
fn a_rebuild_that_is_killed_is_finished_by_the_next() {
    let mut geometry = Geometry::for_objects(2000);
    geometry.queues = vec![QueueSpec { name: "work".into(), lanes: 1 }];
    let test = TestRegion::new(&geometry);
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    for key in 0..KEYS {
        send(&mut port, Some(&key.to_le_bytes()), b"one");
        send(&mut port, Some(&key.to_le_bytes()), b"two");
    }
    drop(port);

    let mut half = 0;
    for round in 0..25_u64 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child"])
            .env(PATH, test.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("this test starts again");
        let after = Duration::from_micros(8_000 + round * 1_733);
        std::thread::sleep(after);
        child.kill().expect("own child");
        child.wait().expect("own child");
        println!("round {round}: killed after {} us", after.as_micros());
        match Region::attach(test.path()) {
            Ok(_) => {}
            Err(AttachError::HalfRebuilt { .. }) => half += 1,
            Err(other) => panic!("round {round}: {other}"),
        }
        if round % 5 == 4 {
            let rebuilt = Region::rebuild(test.path()).expect("nobody lives in it");
            let all = u64::from(KEYS);
            assert_eq!((rebuilt.objects, rebuilt.keys, rebuilt.ready), (all, all, all));
            assert_eq!((rebuilt.messages, rebuilt.freed), (2 * all, 0));
            assert_eq!(test.region.verify(Mode::Strict).findings, []);
        }
    }
    println!("{half} of 25 were half-built");

    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    for _ in 0..KEYS {
        let claim = worker.claim(work).expect("each is ready");
        let messages: Vec<&[u8]> = claim.messages().map(|message| message.payload()).collect();
        assert_eq!(messages, [b"one", b"two"]);
        claim.commit().expect("nobody is in the way");
    }
    assert!(worker.claim(work).is_none());
}
