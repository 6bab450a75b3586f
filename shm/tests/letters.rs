//! Messages from object to object: part of a commit, delivered once, whoever dies.

mod common;

use std::net::SocketAddr;

use common::{TestRegion, send, small};
use hotpair_shm::{
    Applier, Claim, CommitError, CreateObjectError, Endpoint, Gatherer, KEY_BYTES_MAX, Kind,
    Message, ObjectState, Origin, OutOf, Participant, QueueId, Region, Sweeper,
};

fn payloads(claim: &Claim<'_>) -> Vec<String> {
    claim.messages().map(|m| String::from_utf8_lossy(m.payload()).into_owned()).collect()
}

/// Claims the object `a`, made ready by a message, and sends from it.
fn send_from_a(worker: &mut Participant, work: QueueId, letters: &[(&str, &str)]) {
    let mut claim = worker.claim(work).expect("ready");
    for (key, payload) in letters {
        claim.send(work, key.as_bytes(), payload.as_bytes()).expect("room");
    }
    claim.commit().expect("nobody is in the way");
}

fn letters_in(region: &Region) -> usize {
    region.objects().filter(|object| object.letter).count()
}

#[test]
fn a_commit_sends_to_an_object_and_to_one_that_is_yet_to_come() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"b"), b"packet");
    worker.claim(work).expect("ready").commit().expect("alone");
    let before = test.region.status().blocks_in_use();

    send(&mut port, Some(b"a"), b"go");
    send_from_a(&mut worker, work, &[("b", "one"), ("b", "two"), ("new", "three")]);
    assert_eq!(letters_in(&test.region), 3, "kept until they are read");

    let claim = worker.claim(work).expect("b is ready");
    assert_eq!((claim.key(), payloads(&claim)), (&b"b"[..], vec!["one".into(), "two".into()]));
    drop(claim);
    let mut seen = Vec::new();
    while let Some(mut claim) = worker.claim(work) {
        seen.push((claim.key().to_vec(), payloads(&claim)));
        claim.withdraw();
        claim.commit().expect("nothing else waits");
    }
    seen.sort();
    let all = |of: &[&str]| of.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(seen, [(b"b".to_vec(), all(&["one", "two"])), (b"new".to_vec(), all(&["three"]))]);
    assert_eq!(letters_in(&test.region), 0, "read");
    drop((port, worker));
    assert!(test.region.status().blocks_in_use() <= before, "no block is left behind");
}

/// Goal: a letter that stands for a packet tells whom the answer is for, and the longest key leaves room for it.
#[test]
fn a_letter_keeps_the_address_that_it_came_from() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"go");
    let longest = [7; KEY_BYTES_MAX];
    let sources = ["192.0.2.1:5060", "[2001:db8::1%3]:9"]
        .map(|text| Endpoint::from(text.parse::<SocketAddr>().expect("a literal address")));
    let mut claim = worker.claim(work).expect("ready");
    claim.send_from(work, b"b", b"from afar", sources[0]).expect("room");
    claim.send_from(work, &longest, b"", sources[1]).expect("room");
    claim.send(work, &longest, b"from here").expect("room");
    claim.commit().expect("alone");
    let mut seen = Vec::new();
    while let Some(claim) = worker.claim(work) {
        let of = |m: Message<'_>| (claim.key().to_vec(), m.payload().to_vec(), m.source());
        seen.extend(claim.messages().map(of));
        claim.commit().expect("alone");
    }
    seen.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let long = longest.to_vec();
    assert_eq!(
        seen,
        [
            (long.clone(), b"".to_vec(), sources[1]),
            (long, b"from here".to_vec(), Endpoint::NONE),
            (b"b".to_vec(), b"from afar".to_vec(), sources[0]),
        ]
    );
    assert_eq!(letters_in(&test.region), 0, "read");
}

#[test]
fn nothing_is_sent_by_a_claim_that_is_dropped_or_refused() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"one");
    let mut claim = worker.claim(work).expect("ready");
    claim.send(work, b"b", b"never").expect("room");
    drop(claim);
    let mut claim = worker.claim(work).expect("ready");
    claim.send(work, b"b", b"never").expect("room");
    claim.withdraw();
    send(&mut port, Some(b"a"), b"two");
    assert_eq!(claim.commit(), Err(CommitError::NewMessages));
    assert!(test.region.find(work, b"b").is_none());
    assert_eq!(letters_in(&test.region), 0);
    let mut claim = worker.claim(work).expect("ready");
    // It would fit as a letter, and not as the message that it becomes.
    let refused = claim.send(work, b"b", &[0; 1020]);
    let too_large = OutOf::TooLarge { bytes: 1052, largest: 1024 };
    assert_eq!(refused, Err(CreateObjectError::OutOf(too_large)));
    let refused = claim.send(work, b"", b"to nobody");
    assert_eq!(refused, Err(CreateObjectError::KeyLength { bytes: 0 }));
}

/// Goal: a full inbox holds a letter, and neither loses it nor keeps its worker.
#[test]
fn a_letter_waits_while_the_inbox_is_full() {
    let test = TestRegion::new(&hotpair_shm::Geometry { inbox_limit: 2, ..small() });
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"go");
    let mut claim = worker.claim(work).expect("ready");
    send(&mut port, Some(b"full"), b"1");
    send(&mut port, Some(b"full"), b"2");
    claim.send(work, b"full", b"3").expect("room");
    claim.commit().expect("alone");
    let mut read = Vec::new();
    let mut sweeper = Sweeper::new(test.region.clone());
    for _ in 0..1000 {
        while let Some(claim) = worker.claim(work) {
            read.extend(payloads(&claim));
            claim.commit().expect("alone");
        }
        if read.len() == 3 {
            break;
        }
        worker.wait_ready(work, std::time::Duration::from_millis(10));
        sweeper.run_once();
    }
    assert_eq!(read, ["1", "2", "3"]);
    let held = worker.index();
    let status = test.region.participants();
    let seat = status.iter().find(|seat| seat.seat == held).expect("seated");
    let held = seat.counters.iter().find(|(name, _)| *name == "letters_held");
    assert!(held.expect("a counter").1 > 0, "it was held at least once");
}

/// Goal: an object cannot end while a letter waits for it; after it has ended, a letter makes a new one.
#[test]
fn a_letter_survives_the_end_of_its_object() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut one = test.region.join(Kind::Worker, "one").expect("a seat");
    let mut two = test.region.join(Kind::Worker, "two").expect("a seat");
    send(&mut port, Some(b"b"), b"first");
    let mut ending = one.claim(work).expect("b");
    send(&mut port, Some(b"a"), b"go");
    send_from_a(&mut two, work, &[("b", "letter")]);
    ending.withdraw();
    assert_eq!(ending.commit(), Err(CommitError::NewMessages));
    let mut ending = one.claim(work).expect("b");
    assert_eq!(payloads(&ending), ["first", "letter"]);
    ending.withdraw();
    ending.commit().expect("both are read");

    send(&mut port, Some(b"a"), b"go");
    send_from_a(&mut two, work, &[("b", "again")]);
    let claim = one.claim(work).expect("a new b");
    assert_eq!((claim.value(), payloads(&claim)), (&b""[..], vec!["again".to_owned()]));
}

/// Goal: what was sent and not read when the primary dies is read on the survivor; what was read, is not.
#[test]
fn letters_survive_a_failover_once() {
    let (a, b) = (TestRegion::new(&small()), TestRegion::new(&small()));
    let work = a.region.queue("work").expect("queue");
    let mut port = a.region.join(Kind::Port, "in").expect("a seat");
    let mut worker = a.region.join(Kind::Worker, "worker").expect("a seat");
    let _node = a.region.join(Kind::Node, "primary").expect("a seat");
    b.region.begin_change(1);
    b.region.wipe().expect("randomness");
    b.region.become_backup(1);
    a.region.set_gathering(true);
    let mut gatherer = Gatherer::new(a.region.clone());
    let mut node = b.region.join(Kind::Node, "back-up").expect("a seat");
    let mut applier = Applier::new(&b.region);

    send(&mut port, Some(b"a"), b"go");
    send_from_a(&mut worker, work, &[("b", "read"), ("c", "unread")]);
    let claim = worker.claim(work).expect("b");
    assert_eq!((claim.key(), payloads(&claim)), (&b"b"[..], vec!["read".to_owned()]));
    claim.commit().expect("alone");
    let turn = gatherer.gather(usize::MAX, |commit| {
        for change in &commit.changes {
            assert!(
                applier
                    .apply(&mut node, commit.seq, Origin::Commit, change)
                    .expect("the same geometry")
                    .is_some()
            );
        }
    });
    applier.set_applied(&b.region, turn.upto);
    let image = |region: &Region| {
        let letters = region.objects().filter(|object| object.letter);
        letters.map(|l| (l.slot, l.incarnation, l.ready, l.value)).collect::<Vec<_>>()
    };
    assert_eq!(image(&a.region), image(&b.region), "delivered or not, it travels as undelivered");

    b.region.begin_change(2);
    b.region.become_primary(2);
    let mut survivor = b.region.join(Kind::Worker, "survivor").expect("a seat");
    let mut read = Vec::new();
    while let Some(mut claim) = survivor.claim(work) {
        read.push((claim.key().to_vec(), payloads(&claim)));
        claim.withdraw();
        claim.commit().expect("nothing else waits");
    }
    assert_eq!(read, [(b"c".to_vec(), vec!["unread".to_owned()])]);
    let states: Vec<_> = b.region.objects().map(|object| (object.key, object.state)).collect();
    let idle = |key: &[u8]| (key.to_vec(), ObjectState::Idle);
    assert_eq!(states, [idle(b"a"), idle(b"b")], "the letters are gone");
}
