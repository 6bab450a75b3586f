//! One object: its value, its messages, and what a commit does besides.

use std::net::SocketAddr;
use std::time::Duration;

use hotpair_worker::{CommitError, CreateObjectError, Error, KEY_BYTES_MAX};

use crate::alike;
use crate::place::{LARGEST, PEER, Place, Side, next, until};

alike!(
    a_job_shows_what_waits,
    messages_come_in_their_order_and_are_consumed_once,
    a_value_has_a_type,
    a_value_is_replaced,
    what_is_not_committed_never_was,
    packets_leave_with_the_commit,
    letters_reach_objects_that_are_there_and_new_ones,
    created_objects_are_idle_or_ready,
    a_key_is_taken,
    keys_have_a_length,
    an_object_is_withdrawn,
    a_message_keeps_an_object_from_being_withdrawn,
    names_that_are_not_there,
    another_object_is_read,
    timers_fire,
    a_timer_is_cleared,
    an_object_stays_ready,
    the_urgent_comes_first,
    a_commit_has_a_size,
    a_value_has_a_size,
);

fn peer() -> SocketAddr {
    SocketAddr::from(PEER)
}

fn a_job_shows_what_waits(place: &mut Place) {
    place.send(b"a", b"one");
    let mut worker = place.worker();
    let job = next(&mut *worker);
    assert_eq!((job.key(), job.value(), job.attempts()), (b"a".to_vec(), vec![], 0));
    let messages = job.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].1, &messages[0].2[..]), (Some(peer()), &b"one"[..]));
    assert_eq!((job.timer(), job.timer_due()), (None, false));
    let slot = job.slot();
    job.commit().expect("alone");
    assert_eq!(place.object("work", b"a").expect("it stays").slot, slot);
}

fn messages_come_in_their_order_and_are_consumed_once(place: &mut Place) {
    const MESSAGES: u8 = 40; // more than one claim takes
    (0..MESSAGES).for_each(|number| place.send(b"a", &[number]));
    let mut worker = place.worker();
    let (mut seen, mut ids) = (Vec::new(), Vec::new());
    while seen.len() < usize::from(MESSAGES) {
        let job = next(&mut *worker);
        for (id, _, payload) in job.messages() {
            seen.push(payload[0]);
            ids.push(id);
        }
        job.commit().expect("alone");
    }
    assert_eq!(seen, (0..MESSAGES).collect::<Vec<_>>());
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), usize::from(MESSAGES), "each has a number of its own");
}

fn a_value_has_a_type(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    assert_eq!(job.count().expect("empty"), None);
    assert_eq!(job.add(5).expect("zeroed"), 5);
    assert_eq!(job.count().expect("a number"), Some(5), "one sees what one has written");
    job.stay_ready();
    job.commit().expect("alone");
    let mut job = next(&mut *worker);
    assert_eq!(job.count().expect("a number"), Some(5));
    job.set_value(b"text").expect("room");
    for result in [job.count().map(drop), job.add(1).map(drop)] {
        assert!(matches!(result, Err(Error::ValueShape { found: 4, size: 8, .. })), "{result:?}");
    }
    job.commit().expect("alone");
    assert_eq!(place.object("work", b"a").expect("it stays").value, b"text");
}

fn a_value_is_replaced(place: &mut Place) {
    let mut worker = place.worker();
    for length in [1, 100, 0, LARGEST - 64, 7] {
        let value: Vec<u8> = (0..length).map(|at| at as u8).collect();
        place.send(b"a", b"go");
        let mut job = next(&mut *worker);
        job.set_value(b"no").expect("room");
        job.set_value(&value).expect("room");
        assert_eq!(job.value(), value);
        job.commit().expect("alone");
        assert_eq!(place.object("work", b"a").expect("it stays").value, value);
    }
}

fn what_is_not_committed_never_was(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    job.set_value(b"never").expect("room");
    job.emit("out", peer(), b"never").expect("a port");
    job.send("work", b"b", b"never").expect("a queue");
    job.create("done", Some(b"c"), b"never").expect("a queue");
    job.also("work", b"missing", &mut |_| ()).expect_err("there is none");
    job.withdraw();
    drop(job);
    let job = next(&mut *worker);
    assert_eq!((job.key(), job.value(), job.attempts()), (b"a".to_vec(), vec![], 0));
    assert_eq!(job.messages().len(), 1, "the message waits again");
    job.commit().expect("alone");
    assert_eq!((place.objects_of("work"), place.objects_of("done")), (1, 0));
    assert_eq!(place.packet(), None);
}

fn packets_leave_with_the_commit(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    job.emit("out", peer(), b"first").expect("a port");
    job.emit("out", peer(), b"second").expect("a port");
    assert_eq!(place.packet(), None, "not committed");
    job.commit_released().expect("alone");
    let mut packets = Vec::new();
    until("both packets", || {
        packets.extend(place.packet());
        packets.len() == 2
    });
    let expected = [b"first".to_vec(), b"second".to_vec()].map(|text| (Some(peer()), text));
    assert_eq!(packets, expected);
}

fn letters_reach_objects_that_are_there_and_new_ones(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    job.send("work", b"a", b"to itself").expect("a queue");
    job.send("done", b"new", b"to a new one").expect("a queue");
    job.commit().expect("alone");
    let job = next(&mut *worker);
    assert_eq!(job.key(), b"a");
    let messages = job.messages();
    assert_eq!((messages[0].1, &messages[0].2[..]), (None, &b"to itself"[..]));
    job.commit().expect("alone");
    let mut others = place.worker_of("done").expect("a queue");
    let job = next(&mut *others);
    assert_eq!((job.key(), &job.messages()[0].2[..]), (b"new".to_vec(), &b"to a new one"[..]));
    job.commit().expect("alone");
}

fn created_objects_are_idle_or_ready(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    job.create("work", Some(b"idle"), b"waits").expect("a queue");
    job.create_ready("done", Some(b"ready"), b"goes").expect("a queue");
    job.create_ready("done", None, b"nameless").expect("a queue");
    job.commit().expect("alone");
    let mut others = place.worker_of("done").expect("a queue");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let job = next(&mut *others);
        assert_eq!(job.messages(), []);
        seen.push((job.key(), job.value()));
        job.commit().expect("alone");
    }
    seen.sort();
    let expected: [(&[u8], &[u8]); 2] = [(b"", b"nameless"), (b"ready", b"goes")];
    assert_eq!(seen, expected.map(|(key, value)| (key.to_vec(), value.to_vec())));
    place.send(b"idle", b"now");
    let job = next(&mut *worker);
    assert_eq!((job.key(), job.value()), (b"idle".to_vec(), b"waits".to_vec()));
    job.commit().expect("alone");
}

/// A difference that is wanted: a local worker learns it at once, a remote one by its commit, which then counts as a failed
/// attempt, as the error of a handler does.
fn a_key_is_taken(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    let asked = job.create("work", Some(b"a"), b"twice");
    match place.side {
        Side::Local => {
            let error = asked.expect_err("it is its own key");
            assert!(matches!(error, Error::Create(CreateObjectError::Exists)), "{error}");
            job.fail();
        }
        Side::Remote => {
            asked.expect("it is sent with the commit");
            let error = job.commit().expect_err("it is its own key");
            assert!(matches!(error, Error::Commit(CommitError::KeyTaken)), "{error}");
        }
    }
    let job = next(&mut *worker);
    assert_eq!((job.attempts(), job.messages().len()), (1, 1), "it is ready again");
    job.commit().expect("alone");
    assert_eq!(place.objects_of("work"), 1);
}

fn keys_have_a_length(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    let (long, longest) = ([b'k'; KEY_BYTES_MAX + 1], [b'k'; KEY_BYTES_MAX]);
    for result in [
        job.create("work", Some(&long), b""),
        job.create_ready("work", Some(&long), b""),
        job.send("work", &long, b""),
    ] {
        let is_length = matches!(
            result,
            Err(Error::Create(CreateObjectError::KeyLength { bytes })) if bytes == long.len()
        );
        assert!(is_length, "{result:?}");
    }
    let result = job.send("work", b"", b"");
    let is_length = matches!(result, Err(Error::Create(CreateObjectError::KeyLength { bytes: 0 })));
    assert!(is_length, "{result:?}");
    for key in [&long[..], b""] {
        assert!(job.read("work", key).expect("nobody bears it").is_none());
        let error = job.also("work", key, &mut |_| ()).expect_err("nobody bears it");
        assert!(matches!(error, Error::Also(hotpair_worker::AlsoError::Absent)), "{error}");
    }
    job.create("work", Some(&longest), b"v").expect("just as long as may be");
    job.commit().expect("alone");
    assert_eq!(place.object("work", &longest).expect("created").value, b"v");
}

fn an_object_is_withdrawn(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    job.withdraw();
    job.commit().expect("alone");
    assert!(place.object("work", b"a").is_none());
    place.send(b"a", b"again");
    let job = next(&mut *worker);
    assert_eq!(job.value(), b"", "another object");
    job.commit().expect("alone");
}

fn a_message_keeps_an_object_from_being_withdrawn(place: &mut Place) {
    place.send(b"a", b"one");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    place.send(b"a", b"two");
    job.set_value(b"never").expect("room");
    job.withdraw();
    let error = job.commit().expect_err("a message has come");
    assert!(matches!(error, Error::Commit(CommitError::NewMessages)), "{error}");
    let job = next(&mut *worker);
    assert_eq!((job.value(), job.attempts(), job.messages().len()), (vec![], 0, 2));
    job.commit().expect("alone");
}

fn names_that_are_not_there(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    let queues = [
        job.send("nowhere", b"k", b""),
        job.create("nowhere", None, b""),
        job.create_ready("nowhere", None, b""),
        job.also("nowhere", b"k", &mut |_| ()),
        job.read("nowhere", b"k").map(drop),
    ];
    for result in queues {
        let Err(Error::NoSuchQueue { name, known }) = result else { panic!("{result:?}") };
        assert_eq!(
            (&name[..], &known[..2]),
            ("nowhere", &["work".to_owned(), "done".to_owned()][..])
        );
    }
    let result = job.emit("nowhere", peer(), b"");
    let Err(Error::NoSuchPort { name, known }) = result else { panic!("{result:?}") };
    assert_eq!((&name[..], &known[0][..]), ("nowhere", "out"));
    job.commit().expect("nothing has happened to the job");
}

fn another_object_is_read(place: &mut Place) {
    let mut worker = place.worker();
    place.send(b"a", b"go");
    let mut job = next(&mut *worker);
    job.set_value(b"of a").expect("room");
    job.commit().expect("alone");
    place.send(b"b", b"go");
    let mut job = next(&mut *worker);
    assert_eq!(job.read("work", b"a").expect("still").as_deref(), Some(&b"of a"[..]));
    assert_eq!(job.read("work", b"c").expect("still"), None);
    assert_eq!(job.read("done", b"a").expect("still"), None, "of another queue");
    job.set_value(b"of b").expect("room");
    let own = job.read("work", b"b").expect("still");
    assert_eq!(own.as_deref(), Some(&b""[..]), "what is committed, not what is asked for");
    job.commit().expect("alone");
}

fn timers_fire(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    job.set_timer(Duration::from_secs(3600));
    let left = job.timer().expect("just set");
    assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3000), "{left:?}");
    job.commit().expect("alone");
    place.send(b"a", b"go");
    let mut job = next(&mut *worker);
    let left = job.timer().expect("it stays");
    assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3000), "{left:?}");
    assert!(!job.timer_due());
    job.set_timer(Duration::from_millis(5));
    job.commit().expect("alone");
    let mut job = next(&mut *worker);
    assert!(job.timer_due());
    assert_eq!((job.timer(), job.messages().len()), (None, 0), "the commit clears it");
    job.set_timer(Duration::from_millis(5));
    assert!(job.timer_due(), "it was");
    job.commit().expect("alone");
    let job = next(&mut *worker);
    assert!(job.timer_due(), "set anew");
    job.commit().expect("alone");
    place.send(b"a", b"go");
    let job = next(&mut *worker);
    assert_eq!((job.timer_due(), job.timer(), job.messages().len()), (false, None, 1));
    job.commit().expect("alone");
}

fn a_timer_is_cleared(place: &mut Place) {
    let mut worker = place.worker();
    place.send(b"a", b"go");
    let mut job = next(&mut *worker);
    job.set_timer(Duration::MAX);
    job.commit().expect("alone");
    place.send(b"a", b"go");
    let mut job = next(&mut *worker);
    assert!(job.timer().is_some_and(|left| left > Duration::from_secs(1 << 30)));
    job.clear_timer();
    assert_eq!(job.timer(), None);
    job.commit().expect("alone");
    assert_eq!(place.object("work", b"a").expect("it stays").deadline, None);
}

fn an_object_stays_ready(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    for round in 1..=3 {
        let mut job = next(&mut *worker);
        assert_eq!(job.add(1).expect("a number"), round);
        job.stay_ready();
        job.commit().expect("alone");
    }
    next(&mut *worker).commit().expect("alone");
    place.send(b"b", b"go");
    assert_eq!(next(&mut *worker).key(), b"b", "the other one rests");
}

/// The less urgent has a first look now and then, so that it is not forgotten.
fn the_urgent_comes_first(place: &mut Place) {
    const ROUNDS: usize = 20;
    let mut worker = place.worker();
    place.send(b"patient", b"go");
    let mut job = next(&mut *worker);
    job.set_priority(200); // beyond the queue's lanes: the last one
    job.commit().expect("alone");
    // Both become ready while the worker has something else in its hands.
    let mut first_of_two = |place: &mut Place, urgent_again: bool| {
        place.send(b"meanwhile", b"go");
        let job = next(&mut *worker);
        assert_eq!(job.key(), b"meanwhile");
        place.send(b"patient", b"go");
        place.send_at(b"urgent", b"go", 0);
        job.commit().expect("alone");
        let keys = [(), ()].map(|()| {
            let mut job = next(&mut *worker);
            if urgent_again && job.key() == b"patient" {
                job.set_priority(0);
            }
            let key = job.key();
            job.commit().expect("alone");
            key
        });
        keys[0].clone()
    };
    let urgent = (0..ROUNDS).filter(|_| first_of_two(place, false) == b"urgent").count();
    assert!(urgent > ROUNDS / 2, "only {urgent} of {ROUNDS}");
    first_of_two(place, true);
    assert_eq!(first_of_two(place, false), b"patient", "as urgent as the other, and sent before");
}

fn a_commit_has_a_size(place: &mut Place) {
    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    for _ in 0..100 {
        job.emit("out", peer(), b"").expect("a port");
    }
    let error = job.commit().expect_err("more than an entry holds");
    assert!(matches!(error, Error::Commit(CommitError::TooLarge)), "{error}");
    let job = next(&mut *worker);
    assert_eq!((job.attempts(), job.messages().len()), (0, 1), "it is ready again");
    job.commit().expect("alone");
    assert_eq!(place.packet(), None);
}

/// A difference that is wanted: a local worker gets a block when it asks for one, a remote one when it commits, and a commit
/// that fails so counts as a failed attempt.
fn a_value_has_a_size(place: &mut Place) {
    use hotpair_worker::OutOf;
    use hotpair_worker::remote::RemoteError;

    place.send(b"a", b"go");
    let mut worker = place.worker();
    let mut job = next(&mut *worker);
    let asked = job.set_value(&[1; LARGEST + 1]);
    match place.side {
        Side::Local => {
            let error = asked.expect_err("no block is so large");
            assert!(matches!(error, Error::OutOf(OutOf::TooLarge { .. })), "{error}");
            job.fail();
        }
        Side::Remote => {
            asked.expect("it is sent with the commit");
            let error = job.commit().expect_err("no block is so large");
            assert!(matches!(error, Error::Remote(RemoteError::NoRoom { .. })), "{error}");
            assert!(error.to_string().contains("1024"), "{error}");
        }
    }
    let job = next(&mut *worker);
    assert_eq!((job.attempts(), job.value()), (1, vec![]));
    job.commit().expect("alone");
}
