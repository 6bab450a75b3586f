//! How workers wait, and how they stop.

use std::time::{Duration, Instant};

use hotpair_worker::{Error, Wait};

use crate::alike;
use crate::place::{PATIENCE, Place, Side, next, until};

alike!(
    nothing_is_ready,
    one_look_is_enough,
    each_way_of_waiting_finds_what_comes,
    a_waiting_worker_is_stopped,
    a_commit_is_released_when_it_says_so,
    two_workers_never_have_the_same_object,
    a_queue_that_is_not_there,
    while_nobody_serves_a_worker_waits,
);

fn nothing_is_ready(place: &mut Place) {
    let mut worker = place.worker();
    for wait in [Wait::none(), Wait::poll(), Wait::sleep(), Wait::default()] {
        let limit = Duration::from_millis(5);
        let begun = Instant::now();
        let wait = if wait == Wait::none() { wait } else { wait.for_at_most(limit) };
        assert!(worker.claim(wait).expect("a region or a gateway").is_none());
        assert!(wait == Wait::none() || begun.elapsed() >= limit, "{:?}", begun.elapsed());
    }
}

/// Goal: however short the wait is, what is ready is found, also by who has a network in between.
fn one_look_is_enough(place: &mut Place) {
    let mut worker = place.worker();
    place.send(b"a", b"go");
    next(&mut *worker).commit().expect("alone"); // it is connected
    for round in 0..20_u8 {
        place.send(b"a", &[round]);
        let job = worker.claim(Wait::none()).expect("a region or a gateway").expect("one is ready");
        assert_eq!(job.messages()[0].2, [round]);
        job.commit().expect("alone");
        assert!(worker.claim(Wait::none()).expect("a region or a gateway").is_none());
    }
}

fn each_way_of_waiting_finds_what_comes(place: &mut Place) {
    let mut worker = place.worker();
    for wait in [Wait::poll(), Wait::sleep(), Wait::default()] {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let job = worker.claim(wait.for_at_most(PATIENCE)).expect("a region or a gateway");
                job.expect("it comes").commit().expect("alone");
            });
            place.send(b"a", b"go");
            waiting.join().expect("it found the object");
        });
    }
}

fn a_waiting_worker_is_stopped(place: &mut Place) {
    let mut worker = place.worker();
    let stopper = worker.stopper();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| worker.claim(Wait::default()).expect("stopped").is_none());
        stopper();
        assert!(waiting.join().expect("it ends"));
    });
    place.send(b"a", b"go");
    assert!(worker.claim(Wait::default()).expect("stopped").is_none(), "once stopped, always");
}

fn a_commit_is_released_when_it_says_so(place: &mut Place) {
    let mut worker = place.worker();
    for _ in 0..20 {
        place.send(b"a", b"go");
        let mut job = next(&mut *worker);
        job.add(1).expect("a number");
        let seq = job.commit_released().expect("alone");
        assert!(place.region.released() >= seq);
        assert_eq!(place.object("work", b"a").expect("there").seq, seq, "it is this commit");
    }
}

fn two_workers_never_have_the_same_object(place: &mut Place) {
    let (mut first, mut second) = (place.worker(), place.worker());
    place.send(b"a", b"go");
    let job = next(&mut *first);
    place.send(b"a", b"more");
    let shortly = Wait::default().for_at_most(Duration::from_millis(20));
    assert!(second.claim(shortly).expect("a region or a gateway").is_none());
    job.commit().expect("alone");
    drop(first); // a remote one would be given the next object ahead
    let job = next(&mut *second);
    assert_eq!((job.key(), job.messages().len()), (b"a".to_vec(), 1));
    job.commit().expect("alone");
}

/// A difference that is wanted: a remote worker is made before it has spoken to anybody, and learns it when it claims.
fn a_queue_that_is_not_there(place: &mut Place) {
    let made = place.worker_of("nowhere");
    let error = match (place.side, made) {
        (Side::Local, made) => made.err().expect("there is no such queue"),
        (Side::Remote, made) => {
            let mut worker = made.expect("nobody was asked");
            let claimed = worker.claim(Wait::default().for_at_most(PATIENCE));
            claimed.err().expect("there is no such queue")
        }
    };
    let Error::NoSuchQueue { name, known } = &error else { panic!("{error}") };
    assert_eq!((&name[..], &known[..2]), ("nowhere", &["work".to_owned(), "done".to_owned()][..]));
    assert!(place.worker_of("").is_err());
}

fn while_nobody_serves_a_worker_waits(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    next(&mut *worker).give_back();
    place.region.become_fenced(1);
    let shortly = Wait::default().for_at_most(Duration::from_millis(20));
    until("the worker to notice", || {
        worker.claim(shortly).expect("a region or a gateway").is_none()
    });
    place.region.begin_change(3);
    place.region.void_claims();
    place.region.become_primary(3);
    let job = next(&mut *worker);
    assert_eq!((job.key(), job.messages().len()), (b"a".to_vec(), 1));
    job.commit().expect("alone");
}
