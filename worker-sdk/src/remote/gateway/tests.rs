//! The engine without sockets: a region without room, and leases while nobody serves.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hotpair_shm::{
    Delivery, Endpoint, Geometry, InboundPacket, Kind, Participant, QueueSpec, Region, Shares,
    SizeClass,
};

use super::engine::Engine;
use super::session::SessionId;
use super::shares::Host;
use super::{BELL, Limits, RECEIPTS, receipt};
use crate::remote::wire::{
    Effect, Effects, EffectsDraft, Event, Frames, Outcome, Refusal, Request, WireError,
    encode_request,
};

const CLIENT: [u8; 16] = [7; 16];

struct Case {
    region: Region,
    path: PathBuf,
    port: Participant,
    engine: Engine,
    now: Instant,
    taken: Vec<InboundPacket>,
}

/// What a worker is told, as far as these tests care.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Job { job: u64, attempts: u32 },
    Answer(Outcome),
    Revoked(u64),
    Value(bool),
    Other,
}

impl Case {
    fn new(limits: Limits) -> Case {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test.gateway.{}.{number}", std::process::id());
        let queue = |name: &str| QueueSpec { name: name.to_owned(), lanes: 1 };
        let geometry = Geometry {
            slots: 64,
            classes: vec![SizeClass { payload_bytes: 128, count: 600 }],
            queues: vec![queue("work"), queue(RECEIPTS)],
            ports: vec!["out".to_owned(), BELL.to_owned()],
            participants: 8,
            tx_entries: 16,
            max_attempts: 3,
            inbox_limit: 100,
            shares: Shares { ingest_percent: 100, ..Shares::default() },
        };
        let path = Region::path_for(&name);
        let region = Region::create(&path, &geometry).expect("a small region fits");
        region.become_primary(1);
        let port = region.join(Kind::Port, "port").expect("a seat");
        let seat = region.join(Kind::Worker, "gateway").expect("a seat");
        let receipts = region.queue(RECEIPTS).expect("of the geometry");
        let bell = region.port(BELL).expect("of the geometry");
        let engine = Engine::new(seat, receipts, bell, limits, 1);
        Case { region, path, port, engine, now: Instant::now(), taken: Vec::new() }
    }

    fn deliver(&mut self, queue: &str, key: &[u8], data: &[u8]) {
        let queue = self.region.queue(queue).expect("of the geometry");
        let packet = self.port.packet_of(data, Endpoint::NONE).expect("a free block");
        let to = Delivery { queue, key: Some(key), priority: 0 };
        self.port.deliver(to, packet).map_err(|(error, _)| error).expect("room");
    }

    /// Takes every block that there is; those that the gateway keeps for itself are none.
    fn fill(&mut self) {
        while let Ok(packet) = self.port.packet_of(b"x", Endpoint::NONE) {
            self.taken.push(packet);
        }
    }

    fn free(&mut self) {
        self.taken.drain(..).for_each(|packet| self.port.discard(packet));
    }

    fn ask(&mut self, id: SessionId, request: &Request<'_>, effects: &[u8]) {
        let mut out = Vec::new();
        encode_request(&mut out, request, effects);
        self.engine.handle(id, &out[4..], self.now).expect("an honest request");
    }

    /// A worker of `work` with room for so many jobs.
    fn worker(&mut self, credit: u32) -> SessionId {
        let id = self.engine.connect(Host::of(IpAddr::from([10, 0, 0, 1])));
        self.ask(id, &Request::Hello { oldest: 1, newest: 1 }, &[]);
        self.ask(id, &Request::Attach { client: CLIENT, queue: "work", lanes: 4 }, &[]);
        self.ask(id, &Request::Credit { more: credit, reset: false }, &[]);
        id
    }

    fn told(&mut self, id: SessionId) -> Vec<Told> {
        let (out, _) = self.engine.take_out(id).expect("it is connected");
        let mut told = Vec::new();
        let read = Frames::new(usize::MAX).push(&out, |frame| {
            told.push(match Event::decode(frame)? {
                Event::Job(view) => Told::Job { job: view.job, attempts: view.attempts },
                Event::Answer { outcome, .. } => Told::Answer(outcome),
                Event::Revoked { job } => Told::Revoked(job),
                Event::Value { value, .. } => Told::Value(value.is_some()),
                _ => Told::Other,
            });
            Ok::<_, WireError>(())
        });
        read.expect("ours");
        told.retain(|told| *told != Told::Other);
        told
    }

    /// So much later the engine has a turn; how long it would sleep then, if nobody wakes it. `None`: it does not sleep.
    fn turn(&mut self, later: Duration) -> Option<Duration> {
        self.now += later;
        self.region.raise_released(self.region.commit_seq());
        let soon = self.engine.turn(self.now);
        let sleeps = self.engine.arm();
        self.engine.disarm();
        sleeps.then(|| soon.unwrap_or(Duration::MAX))
    }

    fn commit(&mut self, id: SessionId, number: u64, job: u64) {
        let mut draft = EffectsDraft::default();
        draft.push(Effect::Value { of: 0, value: b"new" });
        let effects = Effects::none();
        let request = Request::Commit { lane: 0, number, job, credit: 1, effects };
        self.ask(id, &request, draft.as_bytes());
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Goal: a receipt that cannot be written for want of a block is looked at again after a pause, in which the gateway sleeps and
/// others are served.
#[test]
fn a_receipt_without_a_block_is_no_reason_to_stay_awake() {
    let mut case = Case::new(Limits::default());
    let id = case.worker(0);
    let key = receipt::key(&CLIENT, 3);
    case.deliver("work", b"a", b"go");
    case.deliver(RECEIPTS, &key, &receipt::opener(id));
    case.fill();
    for _ in 0..20 {
        // The pause runs by the clock: on a slow machine it may end within a turn, but not within each.
        let sleep = (0..100).find_map(|_| case.turn(Duration::from_millis(1))).expect("it sleeps");
        assert!(sleep <= Duration::from_millis(12), "and looks again: {sleep:?}");
        case.ask(id, &Request::Read { ask: 1, queue: 0, key: b"a" }, &[]);
        assert_eq!(case.told(id), [Told::Value(true)]);
    }
    case.free();
    let receipts = case.region.queue(RECEIPTS).expect("of the geometry");
    let begun = Instant::now();
    while receipt::Receipt::read(&case.region.find(receipts, &key).expect("made").value).generation
        == 0
    {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody has looked again");
        case.turn(Duration::from_millis(6));
        std::thread::yield_now();
    }
    assert_eq!(case.turn(Duration::ZERO), Some(Duration::MAX));
}

/// Goal: a remote commit that finds no block is refused and counts as no attempt; the object comes again after a pause, by
/// itself, and is committed when there is room.
#[test]
fn a_remote_commit_without_a_block_is_no_failed_attempt() {
    let mut case = Case::new(Limits::default());
    let id = case.worker(1);
    case.deliver("work", b"a", b"go");
    case.turn(Duration::ZERO);
    let [Told::Job { job, attempts: 0 }] = case.told(id)[..] else { panic!("a job") };
    case.commit(id, 1, job);
    case.turn(Duration::ZERO);
    case.turn(Duration::ZERO);
    assert!(matches!(case.told(id)[..], [Told::Answer(Outcome::Committed { .. })]));
    case.deliver("work", b"a", b"go on");
    case.fill();
    // And what the gateway has kept for itself.
    let mut kept = Vec::new();
    while let Ok(packet) = case.engine.seat.packet_of(b"x", Endpoint::NONE) {
        kept.push(packet);
    }
    let mut number = 1;
    for _ in 0..10 {
        let begun = Instant::now();
        let job = loop {
            // Where it does not sleep the object is offered just now.
            let sleep = case.turn(Duration::from_millis(1)).unwrap_or_default();
            match case.told(id)[..] {
                [Told::Job { job, attempts }] => {
                    assert_eq!(attempts, 0);
                    break job;
                }
                _ => assert!(sleep <= Duration::from_millis(12), "and offers it again: {sleep:?}"),
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not come again");
        };
        number += 1;
        case.commit(id, number, job);
        assert_eq!(case.told(id), [Told::Answer(Outcome::Refused(Refusal::OutOf))]);
    }
    kept.into_iter().for_each(|packet| case.engine.seat.discard(packet));
    case.free();
    let begun = Instant::now();
    let job = loop {
        case.turn(Duration::from_millis(1));
        if let [Told::Job { job, .. }] = case.told(id)[..] {
            break job;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not come again");
    };
    case.commit(id, number + 1, job);
    case.turn(Duration::ZERO);
    assert!(matches!(case.told(id)[..], [Told::Answer(Outcome::Committed { .. })]));
}

/// Goal: objects are given back by the end of their leases, and with the role: also while nobody serves.
#[test]
fn leases_end_whoever_serves() {
    let mut case = Case::new(Limits { lease: Duration::from_secs(1), ..Limits::default() });
    let id = case.worker(2);
    case.deliver("work", b"a", b"go");
    case.turn(Duration::ZERO);
    let [Told::Job { job, .. }] = case.told(id)[..] else { panic!("a job") };
    case.turn(Duration::from_millis(900));
    assert_eq!((case.told(id), case.engine.stats().in_hand), (vec![], 1));
    case.turn(Duration::from_millis(200));
    // It is given out again at once: there is nobody else.
    let told = case.told(id);
    assert_eq!(told[0], Told::Revoked(job));
    assert!(matches!(told[1], Told::Job { attempts: 1, .. }), "{told:?}");
    case.region.become_fenced(1);
    case.turn(Duration::ZERO);
    assert_eq!((case.told(id), case.engine.stats().in_hand), (vec![Told::Revoked(0)], 0));
    assert_eq!(case.engine.seat.suspended(), 0);
}

/// Goal: ready objects that nobody here may have do not keep the gateway awake, and go to whoever may have them first.
#[test]
fn a_gateway_sleeps_when_its_workers_have_all_that_they_may() {
    let mut case = Case::new(Limits { claims: 2, ..Limits::default() });
    let id = case.worker(9);
    (0..5_u8).for_each(|object| case.deliver("work", &[object], b"go"));
    assert!(case.turn(Duration::ZERO).is_some(), "it sleeps");
    let told = case.told(id);
    let [Told::Job { job, .. }, Told::Job { .. }] = told[..] else { panic!("two: {told:?}") };
    case.commit(id, 1, job);
    case.turn(Duration::ZERO);
    assert!(case.turn(Duration::ZERO).is_some());
    assert!(matches!(
        case.told(id)[..],
        [Told::Job { .. }, Told::Answer(Outcome::Committed { .. })]
    ));
}

/// Goal: a planned change of roles hands a port its packets a second time while word of the first is on its way. What has not left
/// does not pass for sent, and the port is not sent away.
#[test]
fn word_of_a_packet_is_of_that_packet() {
    let mut case = Case::new(Limits::default());
    let id = case.engine.connect(Host::of(IpAddr::from([10, 0, 0, 1])));
    case.ask(id, &Request::Hello { oldest: 1, newest: 1 }, &[]);
    case.ask(id, &Request::AttachPort { client: CLIENT, port: "out", lanes: 1 }, &[]);
    case.deliver("work", b"a", b"go");
    let mut worker = case.region.join(Kind::Worker, "worker").expect("a seat");
    let queue = case.region.queue("work").expect("of the geometry");
    let out = case.region.port("out").expect("of the geometry");
    let mut claim = worker.claim(queue).expect("ready");
    for payload in [b"1", b"2", b"3", b"4"] {
        claim.emit(out, Endpoint::NONE, payload).expect("a block");
    }
    let seq = claim.commit().expect("alone").to_bits();
    let packets = |case: &Case| case.region.status().packets_waiting;
    case.turn(Duration::ZERO);
    assert_eq!(packets(&case), 4, "handed out, not sent");

    case.region.begin_drain();
    case.turn(Duration::ZERO);
    // Two had left of the first four, and are known when they come again.
    for ordinal in [0, 1, 0, 1] {
        case.ask(id, &Request::Sent { seq, ordinal }, &[]);
    }
    assert_eq!((packets(&case), case.engine.stats().packets), (2, 2), "two have not left");
    case.ask(id, &Request::Sent { seq, ordinal: 9 }, &[]);
    case.ask(id, &Request::Sent { seq, ordinal: 3 }, &[]);
    assert_eq!((packets(&case), case.engine.stats().packets), (0, 4));
}
