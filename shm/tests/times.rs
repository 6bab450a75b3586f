//! Histograms that stand in the region: what they hold, that they outlive every process, and deadlines.

mod common;

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{TestRegion, send, small};
use hotpair_shm::{Counter, Kind, QueuePolicy, Region, SAMPLE_EVERY, monotonic_ns};

const TASK: &str = "HOTPAIR_TIMES_TASK";

/// Not a test of its own: the worker that is killed below.
#[test]
fn child() {
    let Ok(path) = std::env::var(TASK) else { return };
    let region = Region::attach(path.as_ref()).expect("the parent's region");
    let work = region.queue("work").expect("queue");
    let mut worker = region.join(Kind::Worker, "child").expect("a seat");
    for _ in 0..2 * SAMPLE_EVERY {
        send(&mut worker, Some(b"a"), b"x");
        worker.claim(work).expect("ready").commit().expect("nobody is in the way");
    }
    println!("ready");
    loop {
        std::thread::park();
    }
}

/// Goal: one in `SAMPLE_EVERY` claims is measured, with the true age of its oldest message.
#[test]
fn samples_have_the_age_of_the_oldest_message() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let before = monotonic_ns();
    send(&mut port, Some(b"a"), b"oldest");
    let sent = monotonic_ns();
    std::thread::sleep(Duration::from_millis(3));
    send(&mut port, Some(b"a"), b"newer");
    let claiming = monotonic_ns();
    let claim = worker.claim(work).expect("ready");
    let claimed = monotonic_ns();
    std::thread::sleep(Duration::from_millis(2));
    claim.commit().expect("nobody is in the way");
    let ended = monotonic_ns();
    let times = test.region.times_of(worker.index()).expect("a seat");
    assert_eq!((times.age.len(), times.claim.len(), times.late.len()), (1, 1, 0));
    assert!((claiming - sent..=claimed - before).contains(&times.age.max()), "{times:?}");
    assert!((2_000_000..=ended - claiming).contains(&times.claim.max()), "{times:?}");
    for _ in 0..10 * SAMPLE_EVERY {
        send(&mut port, Some(b"a"), b"x");
        worker.claim(work).expect("ready").give_back();
        worker.claim(work).expect("ready").commit().expect("nobody is in the way");
    }
    let times = test.region.times();
    assert_eq!((times.age.len(), times.claim.len()), (21, 21));
}

/// Goal: a timer's age counts from when it was due.
#[test]
fn a_timer_is_as_old_as_it_is_overdue() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut worker, Some(b"a"), b"x");
    let mut claim = worker.claim(work).expect("ready");
    let slot = claim.slot();
    claim.set_timer(Duration::from_millis(1));
    claim.commit().expect("nobody is in the way");
    let due = test.region.find(work, b"a").expect("the object").deadline.expect("its timer");
    while monotonic_ns() < due + 2_000_000 {
        std::thread::yield_now();
    }
    test.region.timer_due(slot);
    let policy = QueuePolicy { deadline: Some(Duration::from_millis(1)), ..Default::default() };
    test.region.set_policy(work, &policy);
    drop(worker.claim(work).expect("the timer is due"));
    let now = monotonic_ns();
    let late = test.region.times().late;
    assert_eq!(late.len(), 1);
    assert!((1_000_000..=now - due).contains(&late.max()), "{late:?}");
}

/// Goal: each claim beyond the deadline is counted, with how much too late it was, and no other.
#[test]
fn missed_deadlines_are_counted_each() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let deadline = Duration::from_millis(4);
    let policy = QueuePolicy { deadline: Some(deadline), ..Default::default() };
    test.region.set_policy(work, &policy);
    assert_eq!(test.region.policy(work), policy);
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let mut missed = 0;
    for round in 0..40 {
        let before = monotonic_ns();
        send(&mut port, Some(b"a"), b"x");
        let sent = monotonic_ns();
        if round % 4 == 0 {
            std::thread::sleep(deadline);
        }
        let claiming = monotonic_ns();
        let claim = worker.claim(work).expect("ready");
        let claimed = monotonic_ns();
        claim.commit().expect("nobody is in the way");
        let counted = test.region.times().late.len();
        let limit = deadline.as_nanos() as u64;
        // Between the two this thread may have been stopped: then either is right.
        if claiming - sent > limit {
            assert_eq!(counted, missed + 1, "round {round}");
        } else if claimed - before <= limit {
            assert_eq!(counted, missed, "round {round}");
        }
        missed = counted;
    }
    assert!(missed >= 10, "{missed}");
    let seen = test.region.participants();
    let of_worker = seen.iter().find(|seat| seat.name == "worker").expect("seated");
    assert_eq!(of_worker.counter(Counter::DeadlineMissed), missed);
    drop(worker);
    let later = test.region.join(Kind::Worker, "later").expect("a seat");
    assert_eq!(test.region.times().late.len(), missed, "{later:?} adds, and clears nothing");
}

/// Goal: what a killed worker has measured can be read when every process is dead.
#[test]
fn histograms_outlive_every_process() {
    let test = TestRegion::new(&small());
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--nocapture"])
        .env(TASK, test.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a copy of this test");
    let mut out = child.stdout.take().expect("piped");
    let mut said = Vec::new();
    while !said.ends_with(b"ready\n") {
        let mut byte = [0];
        if out.read(&mut byte).expect("a pipe") == 0 {
            break;
        }
        said.push(byte[0]);
    }
    child.kill().expect("own child");
    child.wait().expect("own child");
    assert!(said.ends_with(b"ready\n"), "{}", String::from_utf8_lossy(&said));
    let observed = Region::observe(test.path()).expect("nobody has to live");
    assert!(observed.participants().iter().all(|seat| !seat.alive));
    let times = observed.times();
    assert_eq!((times.age.len(), times.claim.len()), (2, 2));
    assert!(times.claim.max() > 0 && times.age.max() > 0);
    // Whoever sits down on the same seat adds to it.
    let mut next = test.region.join(Kind::Worker, "next").expect("a seat");
    let work = test.region.queue("work").expect("queue");
    send(&mut next, Some(b"b"), b"x");
    next.claim(work).expect("ready").commit().expect("nobody is in the way");
    assert_eq!(observed.times().claim.len(), 3);
}

/// Goal: a timer beyond all days is a very long one, whoever asks for it.
#[test]
fn the_longest_timer_is_not_due() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"x");
    for after in [Duration::MAX, Duration::from_nanos(u64::MAX)] {
        let mut claim = worker.claim(work).expect("ready");
        claim.set_timer(after);
        claim.stay_ready();
        claim.commit().expect("nobody is in the way");
        let deadline = test.region.find(work, b"a").expect("the object").deadline;
        assert!(deadline.is_some_and(|at| at > u64::MAX / 8), "{deadline:?}");
    }
    assert!(!worker.claim(work).expect("it stays ready").timer_due());
}
