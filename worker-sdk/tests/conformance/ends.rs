//! How jobs end that are not committed: given back, failed, dropped, in a panic; and what becomes of their objects.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use hotpair_worker::remote::RemoteError;
use hotpair_worker::{AlsoError, CreateObjectError, Error, OutOf, Wait};

use crate::alike;
use crate::place::{ATTEMPTS_MAX, Place, Side, next, until};

alike!(
    what_is_given_back_has_not_failed,
    failures_count_until_the_object_is_parked,
    a_commit_forgets_failures,
    a_panic_is_a_failure,
    run_commits_and_contains_panics,
    a_handler_that_fails_again_and_again_parks_its_object,
    there_is_no_room,
    a_worker_that_leaves_gives_back,
);

fn what_is_given_back_has_not_failed(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    for _ in 0..2 * ATTEMPTS_MAX {
        let job = next(&mut *worker);
        assert_eq!((job.attempts(), job.messages().len()), (0, 1));
        job.give_back();
    }
}

fn failures_count_until_the_object_is_parked(place: &mut Place) {
    place.send(b"a", b"go");
    place.send(b"b", b"go");
    let mut worker = place.worker();
    let mut attempts = 0;
    while attempts < ATTEMPTS_MAX {
        let job = next(&mut *worker);
        if job.key() == b"a" {
            assert_eq!(job.attempts(), attempts);
            attempts += 1;
            job.fail();
        } else {
            job.give_back();
        }
    }
    until("it to be parked", || {
        place.object("work", b"a").is_some_and(|object| object.state.to_string() == "parked")
    });
    let mut job = next(&mut *worker);
    assert_eq!(job.key(), b"b", "nobody gets the other one any more");
    let error = job.also("work", b"a", &mut |_| ()).expect_err("it is parked");
    assert!(matches!(error, Error::Also(AlsoError::Parked)), "{error}");
    job.commit().expect("alone");
    let nothing = worker.claim(Wait::none()).expect("a region or a gateway");
    assert!(nothing.is_none());
}

fn a_commit_forgets_failures(place: &mut Place) {
    let mut worker = place.worker();
    for _ in 0..ATTEMPTS_MAX {
        place.send(b"a", b"go");
        next(&mut *worker).fail();
        let job = next(&mut *worker);
        assert_eq!(job.attempts(), 1);
        job.commit().expect("alone");
    }
}

fn a_panic_is_a_failure(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut job = next(&mut *worker);
        job.set_value(b"half").expect("room");
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(panicked.is_err());
    let job = next(&mut *worker);
    assert_eq!((job.attempts(), job.value(), job.messages().len()), (1, vec![], 1));
    job.commit().expect("alone");
}

fn run_commits_and_contains_panics(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let stopper = worker.stopper();
    let mut calls = 0;
    let ended = worker.run(Wait::default(), &mut |job| {
        calls += 1;
        match calls {
            1 => std::panic::resume_unwind(Box::new("on purpose")),
            2 => {
                assert_eq!(job.attempts(), 1);
                job.set_value(b"never").expect("room");
                Err(Error::NoSuchPort { name: "an error".to_owned(), known: vec![] })
            }
            _ => {
                assert_eq!((job.attempts(), job.value()), (2, vec![]));
                job.set_value(b"done").expect("room");
                stopper();
                Ok(())
            }
        }
    });
    ended.expect("stopped");
    assert_eq!(calls, 3);
    // Of a remote worker the last commits are answered when it ends.
    assert_eq!(place.object("work", b"a").expect("it stays").value, b"done");
    assert!(worker.claim(Wait::default()).expect("stopped").is_none(), "once stopped, always");
}

fn a_handler_that_fails_again_and_again_parks_its_object(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let stopper = worker.stopper();
    let mut calls = 0;
    let ended = worker.run(Wait::default(), &mut |_| {
        calls += 1;
        if calls == ATTEMPTS_MAX {
            stopper();
        }
        Err(Error::NoSuchPort { name: "an error".to_owned(), known: vec![] })
    });
    ended.expect("stopped");
    until("it to be parked", || {
        place.object("work", b"a").is_some_and(|object| object.state.to_string() == "parked")
    });
}

/// A difference that is wanted: a local worker learns it from the call, a remote one from its commit.
fn there_is_no_room(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut created = 0;
    // A commit of many objects, until there is no slot for one more.
    let error = loop {
        let mut job = next(&mut *worker);
        job.stay_ready();
        let asked = (0..8).try_for_each(|_| job.create("done", None, b"x"));
        match asked.and_then(|()| job.commit()) {
            Ok(_) => created += 8,
            Err(error) => break error,
        }
    };
    let expected = match place.side {
        Side::Local => matches!(
            error,
            Error::Create(CreateObjectError::OutOf(
                OutOf::Slots { .. } | OutOf::SlotsReserved { .. }
            ))
        ),
        Side::Remote => matches!(error, Error::Remote(RemoteError::NoRoom { .. })),
    };
    assert!(expected, "{error:?}");
    assert!(created > 0);
    assert_eq!(place.objects_of("done"), created, "all of a commit, or nothing");
    let mut job = next(&mut *worker);
    job.set_value(b"goes on").expect("room");
    job.commit().expect("alone");
}

fn a_worker_that_leaves_gives_back(place: &mut Place) {
    place.send(b"a", b"go");
    let mut first = place.worker();
    drop(next(&mut *first));
    drop(first);
    let mut second = place.worker();
    let job = next(&mut *second);
    assert_eq!((job.key(), job.attempts()), (b"a".to_vec(), 0));
    job.commit().expect("alone");
    let shortly = Wait::default().for_at_most(Duration::from_millis(1));
    assert!(second.claim(shortly).expect("a region or a gateway").is_none());
}
