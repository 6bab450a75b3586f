//! Programs that are not workers, at two gateways, of which the first is lost.

mod changes;
mod pair;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hotpair_worker::remote::{RemoteError, RemoteWatch, Seen};
use hotpair_worker::{CreateObjectError, Error, Wait};
use pair::{Node, PATIENCE, Pair, count, number, set, until};

fn next(watch: &mut RemoteWatch<'_>) -> Seen {
    let wait = Wait::default().for_at_most(PATIENCE);
    watch.next(wait).expect("not refused").expect("a state")
}

/// Goal: the present state, and then each later one; also of an object that begins and ends.
#[test]
fn a_client_sees_what_there_is() {
    let pair = Pair::new();
    let _node = Node::alone(pair.a.region());
    let (client, mut seat) = (pair.client(), pair.a.seat());
    let mut watch = client.watch("work", b"a").expect("a queue");
    assert_eq!(next(&mut watch).value(), None);
    assert_eq!(client.get("work", b"a").expect("an answer").value(), None);
    for value in [&b"one"[..], b"", b"two"] {
        assert!(set(&mut seat, b"a", Some(value)));
        let seen = next(&mut watch);
        // An object begins with its first message, before it has a value.
        let seen = if seen.value() == Some(value) { seen } else { next(&mut watch) };
        assert_eq!(seen.value(), Some(value));
        let got = client.get("work", b"a").expect("an answer");
        assert_eq!((got.value(), got.seq()), (Some(value), seen.seq()));
    }
    let mut second = client.watch("work", b"a").expect("a queue");
    assert_eq!(next(&mut second).value(), Some(&b"two"[..]), "the present state first");
    assert!(set(&mut seat, b"a", None));
    for watch in [&mut watch, &mut second] {
        assert_eq!(next(watch).value(), None);
        let nothing = watch.next(Wait::none()).expect("not refused");
        assert_eq!(nothing, None, "nothing has changed");
    }
    assert!(set(&mut seat, b"a", Some(b"again")));
    until("it to be seen", || next(&mut watch).value() == Some(&b"again"[..]));
}

#[test]
fn what_there_is_not_is_an_error() {
    let pair = Pair::new();
    let _node = Node::alone(pair.a.region());
    let client = pair.client();
    for queue in ["nowhere", "hotpair.receipts"] {
        let error = client.get(queue, b"a").expect_err("no such queue");
        let Error::NoSuchQueue { name, known } = &error else { panic!("{error}") };
        assert_eq!((&name[..], &known[..]), (queue, &["work".to_owned()][..]));
        assert!(client.watch(queue, b"a").is_err());
    }
    for key in [&b""[..], &[0; 129]] {
        let error = client.get("work", key).expect_err("no key");
        assert!(matches!(error, Error::Create(CreateObjectError::KeyLength { .. })), "{error}");
    }
}

/// What a client gets that has asked while the first node had committed `lost` and had not released it: from the other one
/// after the loss, or from the first if it could still release.
fn asked_before_the_release(released_in_time: bool) -> Option<Vec<u8>> {
    let mut pair = Pair::new();
    let (client, mut seat) = (pair.client(), pair.a.seat());
    let node = Node::shipping(pair.a.region(), pair.b.region());
    assert!(set(&mut seat, b"a", Some(b"kept")));
    assert!(set(&mut seat, b"b", Some(b"kept")));
    let kept = pair.a.region().commit_seq();
    until("the release", || pair.a.region().released() >= kept);
    drop(node);
    assert!(set(&mut seat, b"a", Some(b"lost")));
    let mut watch = client.watch("work", b"a").expect("a queue");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.get("work", b"a").expect("an answer"));
        // Asked after the watch had begun, on the same connection: by its answer, the gateway has looked at both.
        assert_eq!(client.get("work", b"b").expect("released").value(), Some(&b"kept"[..]));
        assert_eq!(watch.next(Wait::none()).expect("not refused"), None, "it is not released");
        if released_in_time {
            pair.a.region().raise_released(pair.a.region().commit_seq());
        } else {
            drop(seat);
            pair.fail_over();
        }
        let got = asking.join().expect("an answer");
        assert_eq!(next(&mut watch).value(), got.value());
        got.into_value()
    })
}

/// Goal: what may be lost is not shown, however long it takes.
#[test]
fn nobody_is_shown_what_may_be_lost() {
    assert_eq!(asked_before_the_release(false).as_deref(), Some(&b"kept"[..]));
}

/// Goal: the control of the test before it: the same question is answered with what was committed, once that is released.
#[test]
fn what_is_released_is_shown() {
    assert_eq!(asked_before_the_release(true).as_deref(), Some(&b"lost"[..]));
}

/// What the watches and gets of one object show while it counts, and the first node is lost with what it had not shipped:
/// how often a count went down, the last count seen, and what the object counts in the end.
fn count_through_a_loss(careless: bool) -> (u64, u64, u64) {
    let mut pair = Pair::new();
    let client = pair.client();
    let node = Node::shipping(pair.a.region(), pair.b.region());
    let (seen, went_down) = (AtomicU64::new(0), AtomicU64::new(0));
    let note = |last: &mut u64, now: u64| {
        went_down.fetch_add(u64::from(now < *last), Ordering::Relaxed);
        *last = now;
        seen.fetch_max(now, Ordering::Relaxed);
    };
    let stop = AtomicBool::new(false);
    let stopping = Stopping(&stop);
    // Counts on in a region as long as it serves, or until it is stopped.
    let counting = |mut seat: hotpair_shm::Participant, from: u64, halt: &AtomicBool| {
        let mut count = from;
        while !halt.load(Ordering::Relaxed)
            && set(&mut seat, b"a", Some(&(count + 1).to_le_bytes()))
        {
            count += 1;
            std::thread::sleep(Duration::from_micros(50));
        }
    };
    let last = std::thread::scope(|scope| {
        let stopping = stopping;
        let watching = scope.spawn(|| {
            let mut watch = client.watch("work", b"a").expect("a queue");
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                let wait = Wait::default().for_at_most(Duration::from_millis(20));
                if let Some(state) = watch.next(wait).expect("not refused") {
                    note(&mut last, state.value().map_or(0, number));
                }
            }
            // What comes last is seen, whoever serves.
            let end = pair_end(&client);
            while last != end {
                note(&mut last, next(&mut watch).value().map_or(0, number));
            }
            last
        });
        scope.spawn(|| {
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                let state = client.get("work", b"a").expect("an answer");
                note(&mut last, state.value().map_or(0, number));
            }
        });
        let halt = AtomicBool::new(false);
        let halting = Stopping(&halt);
        std::thread::scope(|inner| {
            let halting = halting;
            let seat = pair.a.seat();
            inner.spawn(|| counting(seat, 0, &halt));
            until("some counts to be seen", || seen.load(Ordering::Relaxed) > 200);
            // Nothing is shipped any more, and the first node does not know.
            drop(node);
            if careless {
                // It has told of what it has not shipped.
                let _alone = Node::alone(pair.a.region());
                let told = count(&pair.a, b"a") + 100;
                until("more counts to be seen", || seen.load(Ordering::Relaxed) >= told);
            } else {
                let told = count(&pair.a, b"a") + 20;
                until("counts that are lost", || count(&pair.a, b"a") > told);
            }
            drop(halting);
        });
        pair.fail_over();
        let _node = Node::alone(pair.b.region());
        let (seat, from) = (pair.b.seat(), count(&pair.b, b"a"));
        let halt = AtomicBool::new(false);
        let halting = Stopping(&halt);
        std::thread::scope(|inner| {
            let halting = halting;
            inner.spawn(|| counting(seat, from, &halt));
            let goal = count(&pair.a, b"a") + 200;
            until("the counts to go on", || count(&pair.b, b"a") > goal);
            until("them to be seen", || seen.load(Ordering::Relaxed) > goal);
            drop(halting);
        });
        drop(stopping);
        watching.join().expect("it ends at the last count")
    });
    (went_down.into_inner(), last, count(&pair.b, b"a"))
}

/// Ends the threads of a test, also one that fails.
struct Stopping<'s>(&'s AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The last count, by another way.
fn pair_end(client: &hotpair_worker::remote::RemoteClient) -> u64 {
    client.get("work", b"a").expect("an answer").value().map_or(0, number)
}

/// Goal: gets and watches go on with the other node, what they show never goes back, and they end at the last state.
#[test]
fn what_clients_see_never_goes_back() {
    for round in 0..3 {
        let (went_down, last, end) = count_through_a_loss(false);
        assert_eq!((went_down, last), (0, end), "round {round}");
    }
}

/// Goal: the control: a node that releases what it has not shipped is found out.
#[test]
fn a_node_that_releases_too_early_is_found_out() {
    let (went_down, last, end) = count_through_a_loss(true);
    assert_eq!(last, end);
    assert!(went_down > 0, "nothing was shown that was lost");
}

/// Goal: one client has so many watches and no more, also after it has let go of some; nobody else pays for it.
#[test]
fn watches_are_limited() {
    let pair = Pair::new();
    let _node = Node::alone(pair.a.region());
    let (client, other) = (pair.client(), pair.client());
    let key = |at: u32| at.to_le_bytes();
    let mut watches: Vec<_> =
        (0..256).map(|at| client.watch("work", &key(at)).expect("a queue")).collect();
    watches.iter_mut().for_each(|watch| assert_eq!(next(watch).value(), None));
    let mut beyond = client.watch("work", b"beyond").expect("a queue");
    let wait = Wait::default().for_at_most(PATIENCE);
    for _ in 0..2 {
        let error = beyond.next(wait).expect_err("one too many");
        assert!(matches!(error, Error::Remote(RemoteError::Refused { .. })), "{error}");
    }
    drop(beyond);
    assert_eq!(client.get("work", b"a").expect("no watch").value(), None);
    assert_eq!(next(&mut other.watch("work", b"a").expect("a queue")).value(), None);
    watches.pop();
    assert_eq!(next(&mut client.watch("work", b"within").expect("a queue")).value(), None);
}

/// Goal: more threads than a gateway has places for the questions of a client: they take turns.
#[test]
fn many_threads_ask_at_once() {
    let pair = Pair::new();
    let _node = Node::alone(pair.a.region());
    let mut seat = pair.a.seat();
    for at in 0..100_u32 {
        assert!(set(&mut seat, &at.to_le_bytes(), Some(&at.to_be_bytes())));
    }
    let client = pair.client();
    std::thread::scope(|scope| {
        for at in 0..100_u32 {
            let client = &client;
            scope.spawn(move || {
                for _ in 0..20 {
                    let seen = client.get("work", &at.to_le_bytes()).expect("an answer");
                    assert_eq!(seen.value(), Some(&at.to_be_bytes()[..]));
                }
            });
        }
    });
}
