//! `remote`: a worker of another host claims an object, commits it, and is told when the back-up has it.
//!
//! ```text
//!   host c             host a: gateway, node          host b
//!   commit ── stream ─► claim's commit ── stream ──►  validate, apply
//!   next job ◄──────── the object, claimed again
//!   answer ◄────────── released ◄──────── datagram ── ack
//! ```
//!
//! Two round trips: one to the gateway, which brings the commit there and the next object back, and one to the back-up.
//! Against them one round trip of a bare QUIC echo of as many bytes, in the same rhythm and in alternating slices. Nothing is
//! prefetched: the worker has one object at a time.
//!
//! With `--inflight N` the worker has N objects in hand and N commits unanswered, of 64 B each, and what is counted is commits a
//! second; against them as many echoes of 64 B at once.
//!
//! Host a has a core, hosts b and c share the other, where there are two.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_replica::tls::Credentials;
use hotpair_shm::{Geometry, Kind, QueueSpec, Region, Shares, SizeClass};
use hotpair_worker::Wait;
use hotpair_worker::remote::gateway::{self, GatewayConfig, GatewayStopper, Limits};
use hotpair_worker::remote::{RemoteConfig, RemoteNode, RemoteSpace, RemoteWorker};

use crate::echo::{Echo, certificates};
use crate::failover::write_files;
use crate::helper::Core;
use crate::histogram::Histogram;
use crate::objects::{VALUE_BYTES, send};
use crate::options::Options;
use crate::pace::Pace;
use crate::pair::Pair;
use crate::registry::{Bench, BenchError};
use crate::report::{LatencyReport, RateReport, Report, Tally, Unit};
use crate::slices::{Span, in_turn};

/// Name of the pair in its certificates.
const CLUSTER: &str = "bench";
const QUEUE: &str = "hot";

/// Far below what the pair can do, so that nothing queues.
const PERIOD: Duration = Duration::from_millis(1);
/// Operations of the thing, then of the limit.
const SLICE: u32 = 200;
/// Of the rates: long enough that beginning and end do not count.
const RATE_SLICE: Duration = Duration::from_millis(100);
/// Bytes of a value where many are in flight.
const SMALL_BYTES: usize = 64;

const SECONDS: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_secs(1);
/// What has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let inflight = options.inflight.unwrap_or(1).max(1);
    let [near, far] = Core::for_hosts();
    let certificates = certificates(CLUSTER)?;
    let pair = Pair::form(bench.name, certificates.path(), &geometry(inflight), [near, far])?;
    let gateway = Gateway::start(pair.region(), pair.region_name(), certificates.path(), near)?;
    // Host c.
    let _pinned = far.map(Core::hold).transpose()?;
    let mut echo = Echo::start(certificates.path(), CLUSTER, near)?;
    make_ready(pair.region(), inflight)?;
    let worker = gateway.worker(certificates.path(), inflight)?;
    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    if inflight > 1 {
        rate(bench, span, worker, &mut echo, inflight)
    } else {
        latency(bench, options, span, worker, &mut echo)
    }
}

fn latency(
    bench: &Bench,
    options: &Options,
    span: Span,
    mut worker: RemoteWorker,
    echo: &mut Echo,
) -> Result<Report, BenchError> {
    let sides = in_turn(2, span, |side, histogram: &mut Histogram| {
        let mut pace = Pace::every(PERIOD);
        for _ in 0..SLICE {
            let due = pace.next();
            if side == 0 {
                claim_and_commit(&mut worker)?;
            } else {
                echo.round_trip(&mut [7; VALUE_BYTES])?;
            }
            histogram.record(due.elapsed());
        }
        Ok(())
    })?;
    write_files(options, &sides[0])?;
    Ok(Report::Latency(LatencyReport::new(
        bench.name,
        bench.question,
        Unit::Microseconds,
        &sides[0],
        "bare quinn echo of 256 B on a stream, same settings, sleeping",
        &sides[1],
    )))
}

fn claim_and_commit(worker: &mut RemoteWorker) -> Result<(), BenchError> {
    let job = worker.claim(Wait::default().for_at_most(PATIENCE));
    let mut job = job
        .map_err(BenchError::setup("claim"))?
        .ok_or_else(|| BenchError::setup("claim")("the object did not come"))?;
    job.set_value(&[7; VALUE_BYTES]).map_err(BenchError::setup("set a value"))?;
    job.stay_ready();
    job.commit().map(drop).map_err(BenchError::setup("commit"))
}

/// A worker in a thread of its own, which works whenever the gate is open.
struct Crew {
    gate: Arc<Gate>,
    thread: Option<JoinHandle<Result<(), hotpair_worker::Error>>>,
    stopper: hotpair_worker::Stopper,
}

#[derive(Default)]
struct Gate {
    open: AtomicBool,
    over: AtomicBool,
    done: AtomicU64,
}

impl Gate {
    /// Called for each object: one more commit, when the gate is open.
    fn pass(&self) {
        while !self.open.load(Ordering::Acquire) && !self.over.load(Ordering::Acquire) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Crew {
    fn start(mut worker: RemoteWorker) -> Result<Self, BenchError> {
        let (gate, stopper) = (Arc::new(Gate::default()), worker.stopper());
        let theirs = Arc::clone(&gate);
        let thread = std::thread::Builder::new()
            .name("bench-worker".to_owned())
            .spawn(move || {
                worker.run(Wait::default(), |job| {
                    theirs.pass();
                    job.stay_ready();
                    job.set_value(&[7; SMALL_BYTES])
                })
            })
            .map_err(BenchError::setup("start a worker"))?;
        Ok(Self { gate, thread: Some(thread), stopper })
    }

    /// How many commits there are in a slice of time, and how long it was.
    fn work_for(&self, time: Duration) -> (u64, Duration) {
        let (begun, before) = (Instant::now(), self.gate.done.load(Ordering::Relaxed));
        self.gate.open.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        std::thread::sleep(time);
        let (done, lasted) = (self.gate.done.load(Ordering::Relaxed) - before, begun.elapsed());
        self.gate.open.store(false, Ordering::Release);
        (done, lasted)
    }

    fn end(mut self) -> Result<(), BenchError> {
        self.stop().unwrap_or(Ok(())).map_err(BenchError::setup("work"))
    }

    fn stop(&mut self) -> Option<Result<(), hotpair_worker::Error>> {
        self.gate.over.store(true, Ordering::Release);
        self.stopper.stop();
        self.thread.take()?.join().ok()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn rate(
    bench: &Bench,
    span: Span,
    worker: RemoteWorker,
    echo: &mut Echo,
    inflight: u16,
) -> Result<Report, BenchError> {
    let crew = Crew::start(worker)?;
    let sides = in_turn(2, span, |side, tally: &mut Tally| {
        let (count, lasted) = if side == 0 {
            let slice = crew.work_for(RATE_SLICE);
            // What was under way is at rest before the other side has its turn.
            std::thread::sleep(Duration::from_millis(5));
            slice
        } else {
            echo.many(SMALL_BYTES, inflight.into(), RATE_SLICE)?
        };
        tally.add(count, lasted.as_nanos() as u64);
        Ok(())
    })?;
    crew.end()?;
    let [ours, bare] = &sides[..] else { unreachable!("as many as were asked for") };
    let limit = format!("bare quinn echo of 64 B, {inflight} in flight on a stream");
    Ok(Report::Rate(RateReport::new(bench.name, bench.question, ours, &limit, bare)))
}

fn geometry(inflight: u16) -> Geometry {
    let objects = 4 * u32::from(inflight) + 16;
    let receipts = u32::from(inflight) + 64;
    let queue = |name: &str| QueueSpec { name: name.to_owned(), lanes: 1 };
    Geometry {
        // Of all objects at most a quarter are receipts, and half of these those of one host.
        slots: objects + 8 * receipts,
        classes: vec![SizeClass { payload_bytes: 512, count: objects + receipts + 16 * 1024 }],
        queues: vec![queue(QUEUE), queue(gateway::RECEIPTS)],
        ports: vec![gateway::BELL.to_owned()],
        participants: 8,
        tx_entries: 4096,
        max_attempts: 5,
        inbox_limit: 1000,
        shares: Shares::default(),
    }
}

/// Makes objects ready: their commits leave them so.
fn make_ready(region: &Region, inflight: u16) -> Result<(), BenchError> {
    let queue = region.queue(QUEUE).expect("named in the geometry above");
    let mut port =
        region.join(Kind::Port, "bench-port").map_err(BenchError::setup("join the region"))?;
    (0..2 * u32::from(inflight)).try_for_each(|object| send(&mut port, queue, object, b"begin"))
}

/// A gateway beside the primary, in a thread of its own. Dropping it stops it.
struct Gateway {
    address: std::net::SocketAddr,
    stopper: GatewayStopper,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    fn start(
        region: &Region,
        name: String,
        certificates: &Path,
        core: Option<Core>,
    ) -> Result<Self, BenchError> {
        debug_assert!(region.queue(gateway::RECEIPTS).is_some());
        let config = GatewayConfig {
            region: name,
            listen: vec![([127, 0, 0, 1], 0).into()],
            credentials: Credentials::from_dir(certificates, "node-a")
                .map_err(BenchError::setup("load a certificate"))?,
            limits: Limits::default(),
        };
        let (tell, told) = mpsc::channel();
        let stopper = GatewayStopper::default();
        // Threads begin on the core of the one that starts them.
        let _pinned = core.map(Core::hold).transpose()?;
        let thread = std::thread::Builder::new()
            .name("gateway".to_owned())
            .spawn({
                let stopper = stopper.clone();
                move || {
                    let ready = |addresses: &[std::net::SocketAddr]| {
                        let _ = tell.send(addresses[0]);
                    };
                    // Who waits for an address finds that there is none.
                    let _ = gateway::run(&config, &stopper, ready);
                }
            })
            .map_err(BenchError::setup("start a gateway"))?;
        let address = told
            .recv_timeout(PATIENCE)
            .map_err(|_| BenchError::setup("start a gateway")("it does not listen"))?;
        Ok(Self { address, stopper, thread: Some(thread) })
    }

    fn worker(&self, certificates: &Path, inflight: u16) -> Result<RemoteWorker, BenchError> {
        let credentials = Credentials::from_dir(certificates, "worker")
            .map_err(BenchError::setup("load a certificate"))?;
        let node = RemoteNode { member: "node-a".to_owned(), addresses: vec![self.address] };
        let mut config = RemoteConfig::new(credentials, vec![node]);
        config.prefetch = inflight.into();
        config.unanswered = inflight;
        RemoteSpace::new(config).worker(QUEUE).map_err(BenchError::setup("start a worker"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
