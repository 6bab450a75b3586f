//! A region with everything that either kind of worker needs, and a port by which messages come.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_replica::pki;
use hotpair_replica::tls::Credentials;
use hotpair_shm::{
    Delivery, Endpoint, Geometry, Kind, ObjectImage, Participant, QueueSpec, Reaper, Region,
    Shares, SizeClass, Sweeper,
};
use hotpair_worker::remote::gateway::{self, GatewayConfig, GatewayStopper, Limits};
use hotpair_worker::remote::{RemoteConfig, RemoteNode, RemoteSpace};
use hotpair_worker::{Error, Space, Wait};

use crate::sdk::{AnyJob, AnyWorker};

/// For what must happen: much longer than it takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Attempts before an object is parked.
pub(crate) const ATTEMPTS_MAX: u32 = 3;

/// Largest payload of a block.
pub(crate) const LARGEST: usize = 1024;

/// Where a message comes from.
pub(crate) const PEER: ([u8; 4], u16) = ([127, 0, 0, 1], 5060);

/// Which workers a place has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Local,
    Remote,
}

/// See the module.
pub(crate) struct Place {
    pub(crate) side: Side,
    pub(crate) region: Region,
    name: String,
    path: PathBuf,
    pki: tempfile::TempDir,
    gateway: Option<(SocketAddr, GatewayStopper, JoinHandle<()>)>,
    port: Option<Participant>,
    node: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Place {
    pub(crate) fn new(side: Side) -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test.alike.{}.{number}", std::process::id());
        let path = Region::path_for(&name);
        let queue = |name: &str, lanes| QueueSpec { name: name.to_owned(), lanes };
        let geometry = Geometry {
            slots: 64,
            classes: vec![
                SizeClass { payload_bytes: 128, count: 512 },
                SizeClass { payload_bytes: LARGEST as u32, count: 64 },
            ],
            queues: vec![queue("work", 2), queue("done", 1), queue(gateway::RECEIPTS, 1)],
            ports: vec!["out".to_owned(), gateway::BELL.to_owned()],
            participants: 16,
            tx_entries: 64,
            max_attempts: ATTEMPTS_MAX as u16,
            inbox_limit: 100,
            shares: Shares { ingest_percent: 100, ..Shares::default() },
        };
        let region = Region::create(&path, &geometry).expect("room in shared memory");
        region.become_primary(1);
        let port = Some(region.join(Kind::Port, "in").expect("a seat"));
        let pki = tempfile::tempdir().expect("a directory");
        let node = Some(tend(&region));
        let mut place = Place { side, region, name, path, pki, gateway: None, port, node };
        if side == Side::Remote {
            place.open();
        }
        place
    }

    fn open(&mut self) {
        pki::create(self.pki.path(), "test").expect("an empty directory");
        let config = GatewayConfig {
            region: self.name.clone(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            credentials: Credentials::from_dir(self.pki.path(), "node-a").expect("just made"),
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
        let address = told.recv_timeout(PATIENCE).expect("it listens");
        self.gateway = Some((address, stopper, thread));
    }

    /// A worker of this place's kind.
    pub(crate) fn worker_of(&self, queue: &str) -> Result<Box<dyn AnyWorker + Send>, Error> {
        match &self.gateway {
            None => Ok(Box::new(Space::attach(&self.name)?.worker(queue)?)),
            Some((address, ..)) => {
                let worker = Credentials::from_dir(self.pki.path(), "worker").expect("just made");
                let node = RemoteNode { member: "node-a".to_owned(), addresses: vec![*address] };
                let mut config = RemoteConfig::new(worker, vec![node]);
                config.patience = PATIENCE;
                config.prefetch = 1;
                Ok(Box::new(RemoteSpace::new(config).worker(queue)?))
            }
        }
    }

    pub(crate) fn worker(&self) -> Box<dyn AnyWorker + Send> {
        self.worker_of("work").expect("a seat, or a thread")
    }

    /// A message to an object of the queue `work`.
    pub(crate) fn send(&mut self, key: &[u8], text: &[u8]) {
        self.send_at(key, text, 0);
    }

    /// The same, to one that is created with this priority if there is none.
    pub(crate) fn send_at(&mut self, key: &[u8], text: &[u8], priority: u8) {
        let queue = self.region.queue("work").expect("of the geometry");
        let port = self.port.as_mut().expect("until the end");
        let source = Endpoint::from(SocketAddr::from(PEER));
        let packet = port.packet_of(text, source).expect("a free block");
        let to = Delivery { queue, key: Some(key), priority };
        port.deliver(to, packet).map_err(|(error, _)| error).expect("room");
    }

    /// The next packet that leaves by the port `out`.
    pub(crate) fn packet(&mut self) -> Option<(Option<SocketAddr>, Vec<u8>)> {
        let out = self.region.port("out").expect("of the geometry");
        let port = self.port.as_mut().expect("until the end");
        let packet = port.take_emitted(out)?;
        let found = (packet.endpoint().to_socket_addr(), packet.payload().to_vec());
        port.sent(packet);
        Some(found)
    }

    /// An object, as the region holds it.
    pub(crate) fn object(&self, queue: &str, key: &[u8]) -> Option<ObjectImage> {
        self.region.find(self.region.queue(queue).expect("of the geometry"), key)
    }

    /// Objects of a queue that are no messages on their way.
    pub(crate) fn objects_of(&self, queue: &str) -> usize {
        let queue = self.region.queue(queue).expect("of the geometry");
        self.region.objects().filter(|object| object.queue == queue && !object.letter).count()
    }
}

/// What a node does for its region: it releases, fires timers and hands on.
fn tend(region: &Region) -> (Arc<AtomicBool>, JoinHandle<()>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (asked, region) = (Arc::clone(&stop), region.clone());
    let (mut reaper, mut sweeper) = (Reaper::new(region.clone()), Sweeper::new(region.clone()));
    let thread = std::thread::spawn(move || {
        while !asked.load(Ordering::Relaxed) {
            region.raise_released(region.commit_seq());
            reaper.run_once();
            sweeper.run_once();
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    (stop, thread)
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((_, stopper, thread)) = self.gateway.take() {
            stopper.stop();
            let _ = thread.join(); // its panic has failed the test already
        }
        if let Some((stop, thread)) = self.node.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
        self.port = None;
        let _ = std::fs::remove_file(&self.path);
    }
}

/// An object that is bound to be ready.
#[track_caller]
pub(crate) fn next(worker: &mut (dyn AnyWorker + Send)) -> Box<dyn AnyJob + '_> {
    let wait = Wait::default().for_at_most(PATIENCE);
    worker.claim(wait).expect("a region or a gateway").expect("a ready object")
}

#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
