//! Two regions with a gateway beside each. The tests stand in for the nodes: they say what is shipped and released, and who
//! serves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_replica::pki;
use hotpair_replica::tls::Credentials;
use hotpair_shm::{
    Applier, Delivery, Endpoint, Gatherer, Geometry, Kind, Origin, Participant, QueueSpec, Region,
};
use hotpair_worker::remote::gateway::{self, GatewayConfig, GatewayStopper, Limits};
use hotpair_worker::remote::{RemoteClient, RemoteConfig, RemoteNode, RemoteSpace};

/// For what must happen: much longer than it takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A region, its gateway, and a seat by which the test changes it.
pub(crate) struct Host {
    member: &'static str,
    pub(crate) region: Region,
    path: PathBuf,
    pki: PathBuf,
    address: SocketAddr,
    gateway: Option<(GatewayStopper, JoinHandle<()>)>,
}

impl Host {
    fn new(member: &'static str, pki: &std::path::Path) -> Host {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Region::path_for(&format!("test.clients.{}.{number}", std::process::id()));
        let queue = |name: &str| QueueSpec { name: name.to_owned(), lanes: 1 };
        let geometry = Geometry {
            queues: vec![queue("work"), queue(gateway::RECEIPTS)],
            ports: vec!["out".to_owned(), gateway::BELL.to_owned()],
            ..Geometry::for_objects(2_000)
        };
        let region = Region::create(&path, &geometry).expect("room in shared memory");
        let (pki, address) = (pki.to_owned(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut host = Host { member, region, path, pki, address, gateway: None };
        host.start();
        host
    }

    /// Starts the gateway, at the address that it had before.
    pub(crate) fn start(&mut self) {
        let file = self.path.file_name().expect("a file").to_string_lossy().into_owned();
        let config = GatewayConfig {
            region: file.trim_start_matches("hotpair.").to_owned(),
            listen: vec![self.address],
            credentials: Credentials::from_dir(&self.pki, self.member).expect("just made"),
            limits: Limits::default(),
        };
        let stopper = GatewayStopper::default();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn({
            let stopper = stopper.clone();
            move || {
                let ready = |addresses: &[SocketAddr]| {
                    let _ = tell.send(addresses[0]);
                };
                gateway::run(&config, &stopper, ready).expect("a gateway");
            }
        });
        self.address = told.recv_timeout(PATIENCE).expect("it listens");
        self.gateway = Some((stopper, thread));
    }

    pub(crate) fn stop(&mut self) {
        if let Some((stopper, thread)) = self.gateway.take() {
            stopper.stop();
            thread.join().expect("it ends");
        }
    }

    /// A seat in the region.
    pub(crate) fn seat(&self) -> Participant {
        self.region.join(Kind::Worker, "test").expect("a seat")
    }

    /// What an object counts.
    pub(crate) fn count(&self, key: &[u8]) -> u64 {
        let work = self.region.queue("work").expect("of the geometry");
        self.region.find(work, key).map_or(0, |object| number(&object.value))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Both, of which the first serves.
pub(crate) struct Pair {
    pub(crate) a: Host,
    pub(crate) b: Host,
    /// Goes last: the gateways read it when they start.
    pki: tempfile::TempDir,
}

impl Pair {
    pub(crate) fn new() -> Pair {
        let pki = tempfile::tempdir().expect("a directory");
        pki::create(pki.path(), "test").expect("an empty directory");
        let (a, b) = (Host::new("node-a", pki.path()), Host::new("node-b", pki.path()));
        a.region.become_primary(1);
        a.region.raise_released(a.region.commit_seq());
        Pair { a, b, pki }
    }

    pub(crate) fn client(&self) -> RemoteClient {
        let credentials = Credentials::from_dir(self.pki.path(), "worker").expect("just made");
        let node = |host: &Host| RemoteNode {
            member: host.member.to_owned(),
            addresses: vec![host.address],
        };
        let mut config = RemoteConfig::new(credentials, vec![node(&self.a), node(&self.b)]);
        config.patience = PATIENCE;
        RemoteSpace::new(config).client().expect("a thread")
    }

    /// The first is lost, the second serves with what it has.
    pub(crate) fn fail_over(&mut self) {
        self.a.region.become_fenced(1);
        self.a.stop();
        self.b.region.begin_change(2);
        self.b.region.void_claims();
        self.b.region.become_primary(2);
        self.b.region.raise_released(self.b.region.commit_seq());
    }
}

/// Does a node's part again and again.
pub(crate) struct Node {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// It has no back-up: what is committed is released.
    pub(crate) fn alone(region: &Region) -> Node {
        let region = region.clone();
        Node::of(move || region.raise_released(region.commit_seq()))
    }

    /// What is committed is released when the other has it.
    pub(crate) fn shipping(from: &Region, to: &Region) -> Node {
        to.begin_change(1);
        to.wipe().expect("randomness");
        to.become_backup(1);
        from.set_gathering(true);
        let (from, to) = (from.clone(), to.clone());
        let primary = from.join(Kind::Node, "primary").expect("a seat");
        let mut seat = to.join(Kind::Node, "back-up").expect("a seat");
        let (mut gatherer, mut applier) = (Gatherer::new(from.clone()), Applier::new(&to));
        Node::of(move || {
            let _keeps_its_seat = &primary;
            let turn = gatherer.gather(usize::MAX, |commit| {
                for change in &commit.changes {
                    applier
                        .apply(&mut seat, commit.seq, Origin::Commit, change)
                        .expect("the same geometry");
                }
            });
            applier.give_back(&mut seat);
            applier.set_applied(&to, turn.upto);
            from.raise_released(turn.upto);
        })
    }

    fn of(mut turn: impl FnMut() + Send + 'static) -> Node {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    turn();
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        Node { stop, thread: Some(thread) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the node's part");
        }
    }
}

/// A message to an object.
pub(crate) fn send(seat: &mut Participant, key: &[u8]) {
    let queue = seat.region().queue("work").expect("of the geometry");
    let packet = seat.packet_of(b"go", Endpoint::NONE).expect("a free block");
    let to = Delivery { queue, key: Some(key), priority: 0 };
    seat.deliver(to, packet).map_err(|(error, _)| error).expect("room");
}

/// Commits a value, or the end of the object. False: the region serves no more.
pub(crate) fn set(seat: &mut Participant, key: &[u8], value: Option<&[u8]>) -> bool {
    let queue = seat.region().queue("work").expect("of the geometry");
    if !seat.region().role().serves() {
        return false;
    }
    send(seat, key);
    let Some(mut claim) = seat.claim(queue) else { return false };
    assert_eq!(claim.key(), key, "nobody else works here");
    match value {
        Some(value) => claim.set_value(value).expect("a block"),
        None => claim.withdraw(),
    }
    claim.commit().is_ok()
}

pub(crate) fn number(value: &[u8]) -> u64 {
    value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
