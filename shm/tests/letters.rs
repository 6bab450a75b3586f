//! Messages from object to object: part of a commit, delivered once, whoever dies.

mod common;

use std::net::SocketAddr;

use common::{TestRegion, send, small};
use hotpair_shm::{
    Applier, Claim, CommitError, CreateObjectError, DeliverError, Delivered, Delivery, Endpoint,
    Gatherer, Geometry, KEY_BYTES_MAX, Kind, Message, ObjectState, Origin, OutOf, Participant,
    QueueId, Region, Sweeper,
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

/// Two regions, the second a back-up that applies what it is sent.
struct Pair {
    a: TestRegion,
    b: TestRegion,
    gatherer: Gatherer,
    applier: Applier,
    _primary: Participant,
    node: Participant,
}

impl Pair {
    fn new() -> Pair {
        let (a, b) = (TestRegion::new(&small()), TestRegion::new(&small()));
        let primary = a.region.join(Kind::Node, "primary").expect("a seat");
        b.region.begin_change(1);
        b.region.wipe().expect("randomness");
        b.region.become_backup(1);
        a.region.set_gathering(true);
        let gatherer = Gatherer::new(a.region.clone());
        let node = b.region.join(Kind::Node, "back-up").expect("a seat");
        let applier = Applier::new(&b.region);
        Pair { a, b, gatherer, applier, _primary: primary, node }
    }

    /// Ships what was committed.
    fn ship(&mut self) {
        let (applier, node) = (&mut self.applier, &mut self.node);
        let turn = self.gatherer.gather(usize::MAX, |commit| {
            for change in &commit.changes {
                let applied = applier.apply(node, commit.seq, Origin::Commit, change);
                assert!(applied.expect("the same geometry").is_some());
            }
        });
        applier.set_applied(&self.b.region, turn.upto);
    }

    /// The second one takes over: what its worker reads, by object. Each object ends with what it has read.
    fn read_by_survivor(&self, work: QueueId) -> Vec<(Vec<u8>, Vec<String>)> {
        self.b.region.begin_change(2);
        self.b.region.become_primary(2);
        let mut survivor = self.b.region.join(Kind::Worker, "survivor").expect("a seat");
        let mut read = Vec::new();
        while let Some(mut claim) = survivor.claim(work) {
            read.push((claim.key().to_vec(), payloads(&claim)));
            claim.withdraw();
            claim.commit().expect("nothing else waits");
        }
        read.sort();
        read
    }
}

/// Goal: what was sent and not read when the primary dies is read on the survivor; what was read, is not.
#[test]
fn letters_survive_a_failover_once() {
    let mut pair = Pair::new();
    let work = pair.a.region.queue("work").expect("queue");
    let mut port = pair.a.region.join(Kind::Port, "in").expect("a seat");
    let mut worker = pair.a.region.join(Kind::Worker, "worker").expect("a seat");

    send(&mut port, Some(b"a"), b"go");
    send_from_a(&mut worker, work, &[("b", "read"), ("c", "unread")]);
    let claim = worker.claim(work).expect("b");
    assert_eq!((claim.key(), payloads(&claim)), (&b"b"[..], vec!["read".to_owned()]));
    claim.commit().expect("alone");
    pair.ship();
    let image = |region: &Region| {
        let letters = region.objects().filter(|object| object.letter);
        letters.map(|l| (l.slot, l.incarnation, l.ready, l.value)).collect::<Vec<_>>()
    };
    let images = (image(&pair.a.region), image(&pair.b.region));
    assert_eq!(images.0, images.1, "delivered or not, it travels as undelivered");

    let read = pair.read_by_survivor(work);
    assert_eq!(read, [(b"c".to_vec(), vec!["unread".to_owned()])]);
    let states: Vec<_> = pair.b.region.objects().map(|object| (object.key, object.state)).collect();
    let idle = |key: &[u8]| (key.to_vec(), ObjectState::Idle);
    assert_eq!(states, [idle(b"a"), idle(b"b")], "the letters are gone");
}

fn take_in(port: &mut Participant, key: Option<&[u8]>, payload: &str) -> Delivered {
    let queue = port.region().queue("work").expect("queue");
    let source = SocketAddr::from(([192, 0, 2, 7], 9));
    let packet = port.packet_of(payload.as_bytes(), source.into()).expect("room");
    port.take_in(Delivery { queue, key, priority: 0 }, packet).expect("room for it")
}

/// Goal: a packet that was taken in and not read when the primary dies is read by the survivor, once, with its source, also one
/// that a worker has in its hands; what was merely delivered is gone.
#[test]
fn what_was_taken_in_survives_a_failover_once() {
    let mut pair = Pair::new();
    let work = pair.a.region.queue("work").expect("queue");
    let mut port = pair.a.region.join(Kind::Port, "in").expect("a seat");
    let mut worker = pair.a.region.join(Kind::Worker, "worker").expect("a seat");

    assert_eq!(take_in(&mut port, Some(b"a"), "read"), Delivered::ToNew);
    let mut claim = worker.claim(work).expect("a");
    assert_eq!(payloads(&claim), ["read"]);
    let source = claim.messages().next().expect("one").source().to_socket_addr();
    assert_eq!(source, Some(SocketAddr::from(([192, 0, 2, 7], 9))));
    claim.value_mut().expect("room");
    claim.commit().expect("alone");

    assert_eq!(take_in(&mut port, Some(b"a"), "in hands"), Delivered::ToExisting);
    let held_back = worker.claim(work).expect("a");
    assert_eq!(payloads(&held_back), ["in hands"]);
    take_in(&mut port, Some(b"a"), "waits");
    take_in(&mut port, None, "nameless");
    take_in(&mut port, None, "another");
    send(&mut port, Some(b"a"), b"volatile");
    pair.ship();
    assert_eq!(
        port.region()
            .participants()
            .iter()
            .flat_map(|seat| &seat.counters)
            .filter(|(name, _)| *name == "taken_in")
            .map(|(_, count)| count)
            .sum::<u64>(),
        5
    );

    let read = pair.read_by_survivor(work);
    let (named, nameless): (Vec<_>, Vec<_>) = read.into_iter().partition(|(key, _)| key == b"a");
    assert_eq!(named, [(b"a".to_vec(), vec!["in hands".to_owned(), "waits".to_owned()])]);
    assert_ne!(nameless[0].0, nameless[1].0, "an object of its own for each");
    let mut nameless: Vec<_> = nameless.into_iter().map(|(_, payloads)| payloads).collect();
    nameless.sort();
    assert_eq!(nameless, [["another".to_owned()], ["nameless".to_owned()]]);
    assert_eq!(letters_in(&pair.b.region), 0, "all are read");
    drop(held_back);
}

/// Goal: what there is no room for is refused before it is committed, and nothing of it stays.
#[test]
fn what_has_no_room_is_not_taken_in() {
    let test = TestRegion::new(&Geometry { inbox_limit: 8, ..small() });
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "in").expect("a seat");
    let limit = usize::from(test.region.geometry().inbox_limit);
    for at in 0..limit {
        take_in(&mut port, Some(b"a"), &at.to_string());
    }
    let refuse = |port: &mut Participant, key: &[u8], payload: &[u8]| {
        let packet = port.packet_of(payload, Endpoint::NONE).expect("room");
        let to = Delivery { queue: work, key: Some(key), priority: 0 };
        let (error, packet) = port.take_in(to, packet).expect_err("no room");
        assert_eq!(packet.data(), payload, "it comes back");
        port.discard(packet);
        error
    };
    assert_eq!(refuse(&mut port, b"a", b"more"), DeliverError::InboxFull);
    let longest = [b'x'; KEY_BYTES_MAX + 1];
    let bytes = longest.len();
    assert_eq!(refuse(&mut port, &longest, b""), DeliverError::KeyTooLong { bytes });
    let largest = test.region.geometry().classes.iter().map(|class| class.payload_bytes).max();
    let room = largest.expect("classes") as usize - hotpair_shm::ENDPOINT_BYTES;
    let error = refuse(&mut port, &longest[1..], &vec![b'y'; room]);
    assert!(matches!(error, DeliverError::OutOf(OutOf::TooLarge { .. })), "{error:?}");
    take_in(&mut port, Some(&longest[1..]), &"z".repeat(room - hotpair_shm::TAKEN_IN_BYTES));
    assert_eq!(letters_in(&test.region), limit + 1, "and no more");
    test.region.begin_change(2);
    let packet = port.packet_of(b"late", Endpoint::NONE).expect("room");
    let to = Delivery { queue: work, key: Some(b"a"), priority: 0 };
    let (error, packet) = port.take_in(to, packet).expect_err("not primary");
    assert_eq!(error, DeliverError::NotPrimary);
    port.discard(packet);
}
