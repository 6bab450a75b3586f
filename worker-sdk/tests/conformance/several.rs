//! Commits over several objects, and workers that are in each other's way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hotpair_worker::{AlsoError, Error, Wait};

use crate::alike;
use crate::place::{Place, Side, next, until};

alike!(
    another_object_is_changed_with_the_own,
    everything_can_be_done_to_another_object,
    another_object_is_not_to_be_had,
    as_many_objects_as_a_commit_takes,
    a_conflict_is_no_attempt,
    transfers_of_many_workers_keep_the_sum,
);

/// Creates an idle object of the queue `done`.
fn with_object(place: &mut Place, key: &[u8], value: &[u8]) {
    with_objects(place, &[key], value);
}

fn with_objects(place: &mut Place, keys: &[&[u8]], value: &[u8]) {
    let mut worker = place.worker();
    for key in keys {
        place.send(b"maker", b"go");
        let mut job = next(&mut *worker);
        job.create("done", Some(key), value).expect("a new key");
        job.withdraw();
        job.commit().expect("alone");
    }
}

fn another_object_is_changed_with_the_own(place: &mut Place) {
    with_object(place, b"other", &7_u64.to_le_bytes());
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    job.add(1).expect("a number");
    assert_eq!(job.also_add("done", b"other", 3).expect("idle"), 10);
    drop(job);
    let value = |key: &[u8]| place.object("done", key).expect("there").value;
    assert_eq!(value(b"other"), 7_u64.to_le_bytes(), "nothing of what is not committed");
    let mut job = next(&mut *worker);
    job.add(1).expect("a number");
    assert_eq!(job.also_add("done", b"other", 3).expect("idle"), 10);
    job.commit().expect("alone");
    assert_eq!(value(b"other"), 10_u64.to_le_bytes());
    assert_eq!(place.object("work", b"a").expect("there").value, 1_u64.to_le_bytes());
}

fn everything_can_be_done_to_another_object(place: &mut Place) {
    with_object(place, b"other", b"before");
    let mut worker = place.worker();
    place.send(b"a", b"go");
    let mut job = next(&mut *worker);
    let slot = place.object("done", b"other").expect("there").slot;
    job.also("done", b"other", &mut |other| {
        assert_eq!((other.key(), other.value()), (b"other".to_vec(), b"before".to_vec()));
        assert_eq!(other.slot(), slot);
        other.set_value(b"after").expect("room");
        assert_eq!(other.value(), b"after");
        other.set_timer(Duration::from_secs(3600));
        other.stay_ready();
        other.set_priority(1);
    })
    .expect("idle");
    job.commit().expect("alone");
    let found = place.object("done", b"other").expect("there");
    assert_eq!((&found.value[..], found.deadline.is_some()), (&b"after"[..], true));
    let mut others = place.worker_of("done").expect("a queue");
    let job = next(&mut *others);
    assert_eq!((job.key(), job.messages().len()), (b"other".to_vec(), 0), "it was made ready");
    job.commit().expect("alone");
    place.send(b"a", b"go");
    let mut job = next(&mut *worker);
    job.also("done", b"other", &mut |other| other.clear_timer()).expect("idle");
    job.commit().expect("alone");
    assert_eq!(place.object("done", b"other").expect("there").deadline, None);
    place.send(b"a", b"go");
    let mut job = next(&mut *worker);
    job.also("done", b"other", &mut |other| other.withdraw()).expect("idle");
    job.commit().expect("alone");
    assert!(place.object("done", b"other").is_none());
}

fn another_object_is_not_to_be_had(place: &mut Place) {
    with_object(place, b"other", b"");
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    let refused = |result: Result<(), Error>| match result {
        Err(Error::Also(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(job.also("work", b"missing", &mut |_| ())), AlsoError::Absent);
    assert_eq!(refused(job.also("work", b"a", &mut |_| ())), AlsoError::Held);
    job.also("done", b"other", &mut |_| ()).expect("idle");
    assert_eq!(refused(job.also("done", b"other", &mut |_| ())), AlsoError::Held);
    job.set_value(b"goes on").expect("room");
    job.commit().expect("none of that was in the way");
}

fn as_many_objects_as_a_commit_takes(place: &mut Place) {
    const MOST: u8 = 15;
    let keys: Vec<[u8; 2]> = (0..=MOST).map(|key| [b'k', key]).collect();
    with_objects(place, &keys.iter().map(|key| &key[..]).collect::<Vec<_>>(), b"");
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    // A remote commit takes its receipt along: one less.
    let refused = (0..=MOST).find_map(|key| {
        let result = job.also("done", &[b'k', key], &mut |other| {
            other.set_value(&[key]).expect("room");
        });
        result.err().map(|error| (key, error))
    });
    let (taken, error) = refused.expect("there is an end");
    assert!(matches!(error, Error::Also(AlsoError::TooMany)), "{error}");
    let most = if place.side == Side::Local { MOST } else { MOST - 1 };
    assert_eq!(taken, most);
    job.commit().expect("as many as may be");
    for key in 0..=MOST {
        let value = place.object("done", &[b'k', key]).expect("there").value;
        assert_eq!(value, if key < taken { vec![key] } else { vec![] });
    }
}

fn a_conflict_is_no_attempt(place: &mut Place) {
    place.send(b"a", b"go");
    let (mut first, mut second) = (place.worker(), place.worker());
    let held = next(&mut *first);
    assert_eq!(held.key(), b"a");
    place.send(b"b", b"go");
    for _ in 0..5 {
        let mut job = next(&mut *second);
        assert_eq!((job.key(), job.attempts()), (b"b".to_vec(), 0));
        let error = job.also("work", b"a", &mut |_| ()).expect_err("another worker has it");
        assert!(matches!(error, Error::Also(AlsoError::Conflict)), "{error}");
        job.fail(); // as `run` does with a handler's error
    }
    held.commit().expect("nobody was in its way");
    drop(first); // a remote one would be given the next object ahead
    let mut job = next(&mut *second);
    assert_eq!((job.key(), job.attempts()), (b"b".to_vec(), 0), "offered again");
    job.also("work", b"a", &mut |_| ()).expect("it is free");
    job.commit().expect("alone");
}

fn transfers_of_many_workers_keep_the_sum(place: &mut Place) {
    const ACCOUNTS: u8 = 4;
    const EACH: u64 = 1_000;
    const TRANSFERS: u64 = 100;
    (0..ACCOUNTS).for_each(|key| place.send(&[key], b"open"));
    let mut worker = place.worker();
    for _ in 0..ACCOUNTS {
        let mut job = next(&mut *worker);
        job.add(EACH).expect("a number");
        job.commit().expect("alone");
    }
    drop(worker); // a remote one would be given the next object ahead
    (0..ACCOUNTS).for_each(|key| place.send(&[key], b"go"));
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let workers: Vec<_> = (0..3).map(|_| place.worker()).collect();
    std::thread::scope(|scope| {
        for mut worker in workers {
            let (stop, done) = (&stop, &done);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let wait = Wait::default().for_at_most(Duration::from_millis(20));
                    let claimed = worker.claim(wait).expect("a region or a gateway");
                    let Some(mut job) = claimed else { continue };
                    let to = (job.key()[0] + 1) % ACCOUNTS;
                    let count = job.count().expect("a number").expect("opened");
                    job.stay_ready();
                    if count == 0 {
                        let _ = job.commit();
                        continue;
                    }
                    job.set_value(&(count - 1).to_le_bytes()).expect("room");
                    if job.also_add("work", &[to], 1).is_ok() && job.commit().is_ok() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        until("transfers", || done.load(Ordering::Relaxed) >= TRANSFERS);
        stop.store(true, Ordering::Relaxed);
    });
    let balance = |key: u8| {
        let value = place.object("work", &[key]).expect("there").value;
        u64::from_le_bytes(value.try_into().expect("a number"))
    };
    assert_eq!((0..ACCOUNTS).map(balance).sum::<u64>(), EACH * u64::from(ACCOUNTS));
}
