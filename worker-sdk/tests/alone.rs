//! Workers of a region without a node look after each other.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use hotpair_shm::{Delivery, Endpoint, Geometry, Kind, Region};
use hotpair_worker::{Space, Wait};

/// Names the region of a child of the test below.
const TASK: &str = "HOTPAIR_TEST_ALONE";

/// A region's file, removed with it.
struct File(String);

impl Drop for File {
    fn drop(&mut self) {
        let _ = Region::remove(&Region::path_for(&self.0));
    }
}

/// Not a test of its own: claims an object and holds it until it is killed.
#[test]
fn child() {
    let Ok(name) = std::env::var(TASK) else { return };
    let space = Space::attach(&name).expect("the parent's region");
    let mut worker = space.worker("default").expect("a seat");
    let job = worker.claim(Wait::default()).expect("a ready object").expect("not stopped");
    println!("holds {}", job.slot());
    loop {
        std::thread::park();
    }
}

#[test]
fn what_a_dead_worker_held_goes_to_another() {
    let file = File(format!("test.alone.{}", std::process::id()));
    let path = Region::path_for(&file.0);
    let region = Region::create(&path, &Geometry::for_objects(100)).expect("a new region");
    region.become_primary(1);
    let mut port = region.join(Kind::Port, "port").expect("a seat");
    let queue = region.queue("default").expect("queue");
    let packet = port.packet_of(b"message", Endpoint::NONE).expect("a block");
    port.deliver(Delivery { queue, key: Some(b"a"), priority: 0 }, packet).expect("room");

    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--nocapture"])
        .env(TASK, &file.0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a copy of this test");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let holds = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("holds")));
    assert!(holds.is_some(), "the child claims the object");

    let space = Space::attach(&file.0).expect("the region");
    let mut worker = space.worker("default").expect("a seat");
    // The control: as long as its holder lives, it is nobody else's.
    let shortly = Wait::default().for_at_most(Duration::from_millis(500));
    assert!(worker.claim(shortly).expect("no error").is_none(), "taken from the living");
    child.kill().expect("it lives");
    let long = Wait::default().for_at_most(Duration::from_secs(20));
    let job = worker.claim(long).expect("no error").expect("handed on without a node");
    assert_eq!((job.key(), job.attempts()), (&b"a"[..], 1));
    assert_eq!(job.messages().next().map(|message| message.payload()), Some(&b"message"[..]));
    job.commit().expect("nobody is in the way");
    child.wait().expect("it was killed");
}
