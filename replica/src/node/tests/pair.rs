//! Two nodes and a witness in this process: they form a pair, one ends, the other carries on, the
//! first comes back.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hotpair_shm::{Delivery, Endpoint, Pages, Participant, QueueSpec, Shares, SizeClass};
use serde_json::Value;

use super::super::*;
use crate::free_address::free_address;
use crate::pki::tests::TestPair;
use crate::protocol::{Control, Limits, Mode, Timing};
use crate::tripwire::TripwireClient;
use crate::witness::{Register, WitnessServer};

/// Longer than anything takes here, shorter than anybody's patience with a hanging test.
const HANGS_AFTER: Duration = Duration::from_secs(30);

fn geometry() -> Geometry {
    Geometry {
        slots: 1_024,
        classes: vec![
            SizeClass { payload_bytes: 256, count: 8_192 },
            SizeClass { payload_bytes: 2_048, count: 256 },
        ],
        queues: vec![QueueSpec { name: "work".into(), lanes: 1 }],
        ports: vec!["out".into()],
        participants: 16,
        tx_entries: 64,
        max_attempts: 3,
        inbox_limit: 100,
        shares: Shares::default(),
    }
}

/// Everything that outlives the nodes.
struct Stage {
    pki: TestPair,
    running_witness: Option<WitnessServer>,
    register: tempfile::TempDir,
    witness: SocketAddr,
    sides: [Side; 2],
}

struct Side {
    member: &'static str,
    listen: SocketAddr,
    heartbeat: SocketAddr,
    region: PathBuf,
}

impl Side {
    fn new(member: &'static str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test.node.{}.{number}", std::process::id());
        Self {
            member,
            listen: free_address(),
            heartbeat: free_address(),
            region: Region::path_for(&name),
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.region);
    }
}

impl Stage {
    fn new() -> Self {
        let mut stage = Self {
            witness: free_address(),
            running_witness: None,
            register: tempfile::tempdir().expect("a directory"),
            pki: TestPair::new("demo"),
            sides: [Side::new("node-a"), Side::new("node-b")],
        };
        stage.start_witness();
        stage
    }

    fn start_witness(&mut self) {
        let register = Register::open(self.register.path(), self.pki.cluster.id).expect("intact");
        // One node may begin alone: the other comes later in these tests.
        let register = register.believing(NodeId(1));
        let witness = WitnessServer::start(self.witness, register, &self.pki.of("witness"))
            .expect("a free port");
        self.running_witness = Some(witness);
    }

    fn start(&self, side: usize, launch: u64) -> Running {
        let (ours, theirs) = (&self.sides[side], &self.sides[1 - side]);
        let (read, write) = std::io::pipe().expect("a pipe");
        let config = NodeConfig {
            credentials: self.pki.of(ours.member),
            peer_member: theirs.member.to_owned(),
            listen: ours.listen,
            peer: theirs.listen,
            heartbeat_listen: ours.heartbeat,
            heartbeat_peer: theirs.heartbeat,
            more_links: Vec::new(),
            heartbeat_period: Duration::from_millis(5),
            // No false alarm on a loaded machine: here a death is announced by the tripwire.
            heartbeat_missed: 2_000,
            arbiter: ArbiterConfig::Witness(self.witness),
            region: ours.region.clone(),
            geometry: geometry(),
            policies: Vec::new(),
            port_modes: Vec::new(),
            pages: Pages::default(),
            first: side == 0,
            mode: Mode::Sync,
            timing: Timing { ack_wait: Duration::from_secs(5), ..Timing::default() },
            limits: Limits::default(),
            control: Control::default(),
            launch,
            page: None,
            events: Some(write.into()),
            mtu: None,
            role_change_max: Duration::from_millis(100),
            divergences: self.pki.dir.path().join("divergent"),
            journal: None,
            busy_poll: false,
            spin_percent: SPIN_PERCENT,
        };
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let node = Node::start(config).expect("everything is free");
            tell.send((node.stopper(), node.region().clone())).expect("the test waits");
            node.run().expect("the kernel watches bells");
        });
        let (stop, region) = told.recv().expect("it starts");
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            for text in BufReader::new(read).lines().map_while(Result::ok) {
                let _ = line.send(serde_json::from_str(&text).expect("JSON"));
            }
        });
        let supervisor =
            TripwireClient::start(theirs.listen, &self.pki.of(ours.member), theirs.member)
                .expect("credentials");
        Running { stop, thread: Some(thread), region, lines, supervisor: Some(supervisor) }
    }
}

struct Running {
    stop: NodeStop,
    thread: Option<JoinHandle<()>>,
    region: Region,
    lines: Receiver<Value>,
    supervisor: Option<TripwireClient>,
}

impl Running {
    fn wait_for(&self, event: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(HANGS_AFTER).unwrap_or_else(|error| {
                panic!("no event {event:?}: {error}");
            });
            println!("{line}");
            if line["event"] == event {
                return line;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        // As if both had been killed at once.
        self.supervisor = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the node panicked");
        }
    }
}

/// A port and a worker in one.
struct Service {
    port: Participant,
    worker: Participant,
}

impl Service {
    fn on(region: &Region) -> Self {
        Self {
            port: region.join(Kind::Port, "port").expect("a seat"),
            worker: region.join(Kind::Worker, "worker").expect("a seat"),
        }
    }

    /// Appends to the object `key` and emits what it holds then; a keyless one is withdrawn.
    fn serve(&mut self, key: Option<&[u8]>, text: &str) {
        let queue = self.port.region().queue("work").expect("of the geometry");
        let out = self.port.region().port("out").expect("of the geometry");
        let packet = self.port.packet_of(text.as_bytes(), Endpoint::NONE).expect("a block");
        self.port.deliver(Delivery { queue, key, priority: 0 }, packet).expect("room");
        let mut claim = self.worker.claim(queue).expect("one is ready");
        let mut value = claim.value().to_vec();
        value.extend_from_slice(text.as_bytes());
        claim.set_value(&value).expect("a block");
        claim.emit(out, Endpoint::NONE, &value).expect("a block");
        if key.is_none() {
            claim.withdraw();
        }
        claim.commit().expect("nobody is in the way");
    }

    /// Waits for one released packet and sends it.
    fn send_one(&mut self) -> Vec<u8> {
        let out = self.port.region().port("out").expect("of the geometry");
        let began = Instant::now();
        loop {
            if let Some(packet) = self.port.take_emitted(out) {
                let payload = packet.payload().to_vec();
                self.port.sent(packet);
                return payload;
            }
            assert!(began.elapsed() < HANGS_AFTER, "nothing is released");
            thread::yield_now();
        }
    }
}

/// The two nodes report the same digest of a table that is not empty.
fn wait_for_equal_digests(a: &Region, b: &Region) {
    let began = Instant::now();
    loop {
        let (ours, theirs) = (a.report(), b.report());
        if ours.digest != 0 && ours.digest == theirs.digest {
            return;
        }
        assert!(began.elapsed() < HANGS_AFTER, "{ours:?} {theirs:?}");
        thread::yield_now();
    }
}

/// Some of a few hundred commits were followed from the claim to the sending, through node and back-up.
fn every_stage_was_measured(region: &Region) {
    use hotpair_shm::Stage;
    for stage in Stage::ALL {
        let seen = region.time_in(stage);
        // Only ports with a socket measure what is before the inbox.
        assert_eq!(seen.is_empty(), stage == Stage::Receive, "{stage:?}: {seen:?}");
        assert!(seen.max() < HANGS_AFTER.as_nanos() as u64, "{stage:?}: {seen:?}");
    }
}

#[test]
fn a_pair_survives_the_end_of_its_primary_and_takes_it_back() {
    let mut stage = Stage::new();
    let a = stage.start(0, 1);
    a.wait_for("promoted");
    let mut on_a = Service::on(&a.region);
    // Solo: what was there before the back-up must reach it as well.
    for _ in 0..50 {
        on_a.serve(Some(b"old"), ".");
        on_a.send_one();
    }
    let b = stage.start(1, 1);
    a.wait_for("admitted");
    assert_eq!(b.region.role().role(), Role::Backup);

    for round in 0..300_u32 {
        on_a.serve(Some(&(round % 7).to_le_bytes()), "x");
        assert!(on_a.send_one().starts_with(b"x"), "released, so the back-up has it");
        if round % 10 == 0 {
            on_a.serve(None, "alone");
            on_a.send_one();
        }
    }
    let objects = |region: &Region| {
        let strip = |object: hotpair_shm::ObjectImage| (object.slot, object.key, object.value);
        region.objects().map(strip).collect::<Vec<_>>()
    };
    let on_the_primary = objects(&a.region);
    assert_eq!(on_the_primary.len(), 8);
    assert_eq!(objects(&b.region), on_the_primary, "all of it was released");
    wait_for_equal_digests(&a.region, &b.region);
    every_stage_was_measured(&a.region);
    // Emitted and not sent: it leaves from the survivor.
    on_a.serve(Some(b"last"), "words");
    let began = Instant::now();
    while objects(&b.region).len() < 9 {
        assert!(began.elapsed() < HANGS_AFTER, "it is shipped without being waited for");
        thread::yield_now();
    }

    while a.supervisor.as_ref().is_some_and(|supervisor| !supervisor.is_armed()) {
        thread::yield_now();
    }
    drop(a);
    let promoted = b.wait_for("promoted");
    assert_eq!(promoted["cause"], "tripwire");
    assert_eq!(b.region.role().role(), Role::Primary);
    let mut on_b = Service::on(&b.region);
    assert_eq!(on_b.send_one(), b"words");
    on_b.serve(Some(b"old"), "!");
    assert_eq!(on_b.send_one(), [&b".".repeat(50)[..], b"!"].concat());

    drop(on_a);
    let a = stage.start(0, 2);
    b.wait_for("admitted");
    a.wait_for("in_sync");
    on_b.serve(Some(b"old"), "?");
    on_b.send_one();
    assert_eq!(objects(&a.region), objects(&b.region), "and the pair is one again");
    wait_for_equal_digests(&a.region, &b.region);

    // Both end while nobody can change the view, so both are in it. The back-up alone returns.
    stage.running_witness = None;
    let last = objects(&b.region);
    drop((on_b, a, b));
    stage.start_witness();
    let a = stage.start(0, 3);
    let promoted = a.wait_for("promoted");
    assert_eq!(promoted["cause"], "started");
    assert_eq!(objects(&a.region), last, "with everything that was released");
    Service::on(&a.region).serve(Some(b"old"), "+");
}

#[test]
fn a_region_whose_node_died_within_a_batch_counts_for_nothing() {
    let side = Side::new("node-a");
    let region = Region::create(&side.region, &geometry()).expect("room in /dev/shm");
    region.begin_change(1);
    region.become_backup(1);
    let incarnation = region.incarnation();
    let applier = hotpair_shm::Applier::new(&region);
    let seq = hotpair_shm::Seq::new(1, 5);
    applier.begin(&region, seq);
    applier.set_applied(&region, seq);
    let settle = || {
        let seat = region.join(Kind::Node, "node-a").expect("a seat");
        drop(settle_past(&region, seat, Duration::ZERO).expect("it is quiet"));
    };
    settle();
    assert_eq!(region.incarnation(), incarnation, "whole batches are kept");
    applier.begin(&region, hotpair_shm::Seq::new(1, 6));
    settle();
    assert_ne!(region.incarnation(), incarnation, "this one was not staged");
}
