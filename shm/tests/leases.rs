//! Leases of claims: who holds an object for too long is reported, or killed, and nobody else is.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{TestRegion, send, small};
use hotpair_shm::{
    Kind, LeaseAction, LeaseExpired, LeaseWatch, OnLeaseExpiry, Participant, QueueId, QueuePolicy,
    Reaper, Region,
};

/// `HOW PATH`: what a child does with the object it claims.
const TASK: &str = "HOTPAIR_LEASES_TASK";

/// No test waits longer for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Not a test of its own: the worker that is watched below.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (how, path) = task.split_once(' ').expect("two words");
    let region = Region::attach(path.as_ref()).expect("the parent's region");
    let work = region.queue("work").expect("queue");
    let mut worker = region.join(Kind::Worker, "child").expect("a seat");
    if how == "busy" {
        println!("claimed");
        return keep_busy(&mut worker, work);
    }
    let _claim = worker.claim(work).expect("ready");
    println!("claimed");
    if how == "stopped" {
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP).expect("own process");
    }
    loop {
        std::hint::spin_loop();
    }
}

/// Has an object in hands at nearly all times, each time for a small part of the lease.
fn keep_busy(worker: &mut Participant, work: QueueId) {
    while let Some(mut claim) = worker.claim(work) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        claim.stay_ready();
        claim.commit().expect("nobody is in the way");
    }
}

struct Watched(Child);

impl Watched {
    /// Starts a child and waits until it has claimed.
    fn start(how: &str, test: &TestRegion) -> Watched {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child", "--nocapture"])
            .env(TASK, format!("{how} {}", test.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("a copy of this test");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let watched = Watched(child);
        let claimed = out.lines().map_while(Result::ok).any(|line| line.ends_with("claimed"));
        assert!(claimed, "the child claims");
        watched
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn with_lease(lease: Duration, on_lease_expiry: OnLeaseExpiry) -> (TestRegion, QueueId) {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let policy = QueuePolicy { lease: Some(lease), on_lease_expiry, ..Default::default() };
    test.region.set_policy(work, &policy);
    (test, work)
}

/// Looks until a claim has expired.
fn expired(watch: &mut LeaseWatch) -> LeaseExpired {
    let begun = Instant::now();
    loop {
        match watch.run_once().as_slice() {
            [] => thread::sleep(watch.period().expect("there is a lease")),
            [one] => return *one,
            more => panic!("one claim stands, not {more:?}"),
        }
        assert!(begun.elapsed() < PATIENCE, "nothing expires");
    }
}

/// Goal: a worker that hangs is killed, and another one gets its object: a lease and two looks after the first look.
#[test]
fn a_hanging_worker_is_killed_and_its_object_worked_on() {
    for how in ["stopped", "endless"] {
        let lease = Duration::from_millis(200);
        let (test, work) = with_lease(lease, OnLeaseExpiry::Kill);
        let mut worker = test.region.join(Kind::Worker, "heir").expect("a seat");
        send(&mut worker, Some(b"a"), b"one");
        let child = Watched::start(how, &test);
        let begun = Instant::now();
        assert!(worker.claim(work).is_none(), "{how}: it is in the child's hands");
        let mut watch = LeaseWatch::new(test.region.clone());
        let found = expired(&mut watch);
        assert_eq!((found.pid, found.action), (child.0.id(), LeaseAction::Killed), "{how}");
        // Each look adds at most two periods.
        let latest = lease + 2 * watch.period().expect("there is a lease");
        assert!((lease..=latest).contains(&found.age), "{how}: {found:?}");
        let mut reaper = Reaper::new(test.region.clone());
        let claim = loop {
            reaper.wait(Duration::from_millis(50));
            reaper.run_once();
            if let Some(ready) = worker.claim_ready(work) {
                break worker.hold(ready);
            }
            assert!(begun.elapsed() < PATIENCE, "{how}: the object is never handed on");
        };
        let messages: Vec<_> = claim.messages().map(|message| message.payload().to_vec()).collect();
        assert_eq!((claim.attempts(), messages), (1, vec![b"one".to_vec()]), "{how}");
        claim.commit().expect("nobody is in the way");
        println!("{how}: worked on {:?} after the claim, lease {lease:?}", begun.elapsed());
        assert_eq!(test.region.status().queues[0].leases_expired, 1);
    }
}

/// Goal: with `report` a hanging worker is told of once, and keeps its object.
#[test]
fn a_hanging_worker_is_reported_once_and_keeps_its_object() {
    let (test, work) = with_lease(Duration::from_millis(100), OnLeaseExpiry::Report);
    let mut worker = test.region.join(Kind::Worker, "other").expect("a seat");
    send(&mut worker, Some(b"a"), b"one");
    let mut child = Watched::start("endless", &test);
    let mut watch = LeaseWatch::new(test.region.clone());
    let found = expired(&mut watch);
    assert_eq!((found.pid, found.action), (child.0.id(), LeaseAction::Reported));
    let mut reaper = Reaper::new(test.region.clone());
    for _ in 0..20 {
        thread::sleep(watch.period().expect("there is a lease"));
        assert_eq!(watch.run_once(), []);
        assert_eq!(reaper.run_once().claims, 0);
        assert!(worker.claim(work).is_none());
    }
    assert!(child.0.try_wait().expect("own child").is_none(), "it lives");
    assert_eq!(test.region.status().queues[0].leases_expired, 1);
}

/// Goal: a worker that always has an object in hands, each for less than the lease, is never told of.
#[test]
fn a_busy_worker_is_never_reported() {
    let lease = Duration::from_secs(1);
    let (test, _) = with_lease(lease, OnLeaseExpiry::Kill);
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    send(&mut port, Some(b"a"), b"x");
    send(&mut port, Some(b"b"), b"x");
    let mut child = Watched::start("busy", &test);
    let mut watch = LeaseWatch::new(test.region.clone());
    let begun = Instant::now();
    let mut claimed = 0;
    while begun.elapsed() < 3 * lease {
        assert_eq!(watch.run_once(), []);
        claimed += test.region.status().queues[0].claimed;
        thread::sleep(watch.period().expect("there is a lease"));
    }
    assert!(child.0.try_wait().expect("own child").is_none(), "it lives");
    assert!(claimed > 5, "it was seen at work {claimed} times");
}

/// Goal: a looker that was away counts little of the time that it did not look.
#[test]
fn who_was_late_accuses_nobody() {
    let lease = Duration::from_millis(200);
    let (test, work) = with_lease(lease, OnLeaseExpiry::Kill);
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut worker, Some(b"a"), b"x");
    let mut watch = LeaseWatch::new(test.region.clone());
    let claim = worker.claim(work).expect("ready");
    assert_eq!(watch.run_once(), []);
    thread::sleep(2 * lease);
    assert_eq!(watch.run_once(), [], "two periods of time are believed");
    thread::sleep(lease);
    let found = watch.run_once();
    assert_eq!((found.len(), found[0].slot, found[0].queue), (1, claim.slot(), work));
    assert_eq!(found[0].action, LeaseAction::Reported, "the looker does not kill itself");
    claim.commit().expect("nobody is in the way");
    test.region.set_policy(work, &QueuePolicy::default());
    assert_eq!((watch.period(), watch.run_once()), (None, vec![]));
}
