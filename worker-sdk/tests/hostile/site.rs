//! A region with its gateway, the node's part, and a well-behaved worker.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_replica::pki;
use hotpair_replica::tls::Credentials;
use hotpair_shm::{
    Delivery, Endpoint, Geometry, Kind, Mode, ObjectImage, ObjectState, QueueSpec, Region,
    SizeClass, Sweeper,
};
use hotpair_worker::Wait;
use hotpair_worker::remote::gateway::{self, GatewayConfig, GatewayStopper, Limits, Stats};
use hotpair_worker::remote::{RemoteConfig, RemoteNode, RemoteSpace, RemoteWorker};

/// For what must happen: much longer than it takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Objects of the queue `work`, always ready.
pub(crate) const OBJECTS: u32 = 32;

/// The largest value.
pub(crate) const BIG_BYTES: usize = (1 << 20) - 256;

/// Limits that show within a second.
pub(crate) fn tight() -> Limits {
    Limits {
        lease: Duration::from_millis(100),
        receipts_kept: Duration::from_millis(300),
        patience: Duration::from_millis(300),
        ..Limits::default()
    }
}

pub(crate) struct Site {
    pub(crate) region: Region,
    pub(crate) address: SocketAddr,
    pub(crate) pki: tempfile::TempDir,
    path: PathBuf,
    gateway: Option<(GatewayStopper, JoinHandle<()>)>,
    node: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
    /// What well-behaved workers were told has happened.
    told: u64,
}

fn geometry() -> Geometry {
    let queue = |name: &str| QueueSpec { name: name.to_owned(), lanes: 1 };
    let class = |payload_bytes, count| SizeClass { payload_bytes, count };
    Geometry {
        slots: 1024,
        classes: vec![class(256, 8192), class(2048, 1024), class(BIG_BYTES as u32 + 256, 64)],
        queues: vec![queue("work"), queue("other"), queue("big"), queue(gateway::RECEIPTS)],
        ports: vec!["out".to_owned(), gateway::BELL.to_owned()],
        ..Geometry::for_objects(100)
    }
}

impl Site {
    pub(crate) fn new(limits: Limits) -> Site {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test.hostile.{}.{number}", std::process::id());
        let path = Region::path_for(&name);
        let region = Region::create(&path, &geometry()).expect("room in shared memory");
        region.become_primary(1);
        let pki = tempfile::tempdir().expect("a directory");
        pki::create(pki.path(), "test").expect("an empty directory");
        let config = GatewayConfig {
            region: name,
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            credentials: Credentials::from_dir(pki.path(), "node-a").expect("just made"),
            limits,
        };
        let stopper = GatewayStopper::default();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn({
            let stopper = stopper.clone();
            move || {
                let ready = |addresses: &[SocketAddr]| {
                    let _ = tell.send(addresses[0].port());
                };
                gateway::run(&config, &stopper, ready).expect("a gateway");
            }
        });
        let port = told.recv_timeout(PATIENCE).expect("it listens");
        let mut site = Site {
            node: Some(node(&region)),
            region,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            pki,
            path,
            gateway: Some((stopper, thread)),
            told: 0,
        };
        (0..OBJECTS).for_each(|object| site.send("work", object));
        site
    }

    /// A message to an object, which is made if there is none.
    pub(crate) fn send(&mut self, queue: &str, object: u32) {
        let mut port = self.region.join(Kind::Port, "in").expect("a seat");
        let queue = self.region.queue(queue).expect("of the geometry");
        let packet = port.packet_of(b"go", Endpoint::NONE).expect("a free block");
        let key = object.to_le_bytes();
        let to = Delivery { queue, key: Some(&key), priority: 0 };
        port.deliver(to, packet).map_err(|(error, _)| error).expect("room");
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::from_dir(self.pki.path(), "worker").expect("just made")
    }

    pub(crate) fn worker(&self) -> RemoteWorker {
        self.worker_as("worker", "work")
    }

    /// One that shows another certificate of the pair, or is for another queue.
    pub(crate) fn worker_as(&self, member: &str, queue: &str) -> RemoteWorker {
        let credentials = Credentials::from_dir(self.pki.path(), member).expect("just made");
        let node = RemoteNode { member: "node-a".to_owned(), addresses: vec![self.address] };
        let mut config = RemoteConfig::new(credentials, vec![node]);
        config.patience = PATIENCE;
        RemoteSpace::new(config).worker(queue).expect("a thread")
    }

    /// Does so many commits, one after the other, and tells how long each took.
    pub(crate) fn work(&mut self, commits: usize) -> Vec<Duration> {
        let mut worker = self.worker();
        let mut took = Vec::with_capacity(commits);
        let begun = Instant::now();
        while took.len() < commits {
            assert!(begun.elapsed() < PATIENCE, "{} of {commits} commits", took.len());
            let from = Instant::now();
            let wait = Wait::default().for_at_most(Duration::from_millis(100));
            let Some(mut job) = worker.claim(wait).expect("certificates that fit") else {
                continue;
            };
            *job.value_mut::<u64>().expect("a counter") += 1;
            job.stay_ready();
            if job.commit().is_ok() {
                self.told += 1;
                took.push(from.elapsed());
            }
        }
        took.sort_unstable();
        took
    }

    pub(crate) fn stats(&self) -> Stats {
        self.gateway.as_ref().map(|(stopper, _)| stopper.stats()).expect("it runs")
    }

    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut(&Stats) -> bool) {
        let begun = Instant::now();
        while !holds(&self.stats()) {
            assert!(begun.elapsed() < PATIENCE, "waited for {what}: {:?}", self.stats());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the objects of `work` count, together.
    pub(crate) fn total(&self) -> u64 {
        let work = self.region.queue("work").expect("of the geometry");
        let ours = self.region.objects().filter(|object| object.queue == work);
        ours.map(|object| object.value.first_chunk().map_or(0, |v| u64::from_le_bytes(*v))).sum()
    }

    /// Nothing is left of those who have gone: no claim, no receipt, no byte, no block; nothing is parked, and every commit that
    /// was told is there once. `others`: commits of others in `work`.
    pub(crate) fn expect_clean(mut self, others: u64) {
        self.until("everything to be given back", |stats| {
            (stats.connections, stats.in_hand, stats.receipts, stats.bytes) == (0, 0, 0, 0)
        });
        let (stopper, thread) = self.gateway.take().expect("it runs");
        stopper.stop();
        thread.join().expect("it ends");
        let (stop, thread) = self.node.take().expect("it runs");
        stop.store(true, Ordering::Relaxed);
        thread.join().expect("it ends");
        assert_eq!(self.total(), self.told + others);
        let report = self.region.verify(Mode::Strict);
        assert!(report.is_clean(), "{:?}", report.findings);
        let work = self.region.queue("work").expect("of the geometry");
        let parked =
            |object: &ObjectImage| object.queue == work && object.state == ObjectState::Parked;
        assert_eq!(self.region.objects().filter(parked).count(), 0);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some((stopper, thread)) = self.gateway.take() {
            stopper.stop();
            let _ = thread.join();
        }
        if let Some((stop, thread)) = self.node.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Does the node's part for a region that has no back-up: what is committed is released, and timers come due.
fn node(region: &Region) -> (Arc<AtomicBool>, JoinHandle<()>) {
    let (stop, region) = (Arc::new(AtomicBool::new(false)), region.clone());
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        let mut sweeper = Sweeper::new(region.clone());
        while !stopped.load(Ordering::Relaxed) {
            region.raise_released(region.commit_seq());
            sweeper.run_some(64);
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    (stop, thread)
}
