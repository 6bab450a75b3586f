//! `commit-ack`: from the start of a commit to the moment its output may leave.
//!
//! ```text
//!   worker      node a                       node b
//!   commit ───► gather, encode ── stream ──► validate, apply
//!               released ◄───── datagram ─── ack
//!   port wakes ◄┘
//! ```
//!
//! A commit of 256 B emits a small packet, because a waiting packet is what makes a batch leave at
//! once. The measuring thread is worker and port: it commits, sleeps on the port's bell, and stops the
//! clock when it has the packet in its hands. Against it: a bare QUIC echo of 256 B in the same rhythm,
//! and Redis with a replica where it is installed, in alternating slices. The two extra wake-ups (node a
//! by the commit, the port by the release) are part of the price.
//!
//! Each side has one core, as if it were a host of its own: the measuring thread, node a, the echo's
//! client and Redis on the one, node b, the echo and the replica on the other. With `--busy-poll` both
//! nodes poll, and so does the measuring thread; in the slices of the others the nodes sleep.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use hotpair_shm::{
    Bell, Delivery, Endpoint, Geometry, Kind, Participant, PortId, QueueId, QueueSpec, Region,
    Shares, SizeClass,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::bell;
use crate::echo::{Echo, certificates};
use crate::failover::write_files;
use crate::helper::Core;
use crate::histogram::Histogram;
use crate::objects::VALUE_BYTES;
use crate::options::Options;
use crate::pace::Pace;
use crate::pair::Pair;
use crate::redis::Redis;
use crate::registry::{Bench, BenchError};
use crate::report::{LatencyReport, Report, Stages, Unit};
use crate::slices::{Span, in_turn};

/// Name of the pair in its certificates.
const CLUSTER: &str = "bench";

/// Far below what the pair can do, so that nothing queues.
const PERIOD: Duration = Duration::from_millis(1);

/// Operations of the thing, then of the limit.
const SLICE: u32 = 200;

const SECONDS: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_secs(1);

/// The longest sleep that a bell allows.
const SLEEP_MS_MAX: u16 = 100;

/// A commit that is not released by then never will be.
const RELEASE_MAX: Duration = Duration::from_secs(10);

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let cores = Core::for_hosts();
    let _pinned = cores[0].map(Core::hold).transpose()?;
    let certificates = certificates(CLUSTER)?;
    let pair = Pair::form(bench.name, certificates.path(), &geometry(), cores)?;
    let mut echo = Echo::start(certificates.path(), CLUSTER, cores[1])?;
    let mut redis = Redis::start(cores)?;
    let mut service = Service::new(pair.region(), options.busy_poll)?;

    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let count = 2 + usize::from(redis.is_some());
    let sides = in_turn(count, span, |side, histogram: &mut Histogram| match (side, &mut redis) {
        (0, _) => {
            pair.set_busy_poll(options.busy_poll);
            let measured = open_loop(histogram, || service.commit_and_wait());
            pair.set_busy_poll(false);
            measured
        }
        (2, Some(redis)) => open_loop(histogram, || redis.set_and_wait()),
        _ => open_loop(histogram, || echo.round_trip(&mut [7; VALUE_BYTES])),
    })?;
    let peer = redis.as_ref().map(Redis::name);
    write_files(options, &sides[0])?;
    let report = LatencyReport::new(
        bench.name,
        bench.question,
        Unit::Microseconds,
        &sides[0],
        "bare quinn echo of 256 B on a stream, same settings, sleeping",
        &sides[1],
    );
    let report = report.with_peer(peer.as_deref().zip(sides.get(2)));
    Ok(Report::Latency(report.with_stages(Stages::of(pair.region()))))
}

fn open_loop(
    histogram: &mut Histogram,
    mut operation: impl FnMut() -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    let mut pace = Pace::every(PERIOD);
    for _ in 0..SLICE {
        let due = pace.next();
        operation()?;
        histogram.record(due.elapsed());
    }
    Ok(())
}

fn geometry() -> Geometry {
    Geometry {
        slots: 64,
        classes: vec![SizeClass { payload_bytes: 512, count: 4096 }],
        queues: vec![QueueSpec { name: "hot".to_owned(), lanes: 1 }],
        ports: vec!["out".to_owned()],
        participants: 8,
        tx_entries: 256,
        max_attempts: 5,
        inbox_limit: 1000,
        shares: Shares::default(),
    }
}

/// Worker and port in one thread, with one object that is always ready.
struct Service {
    worker: Participant,
    port: Participant,
    queue: QueueId,
    out: PortId,
    /// The port's bell.
    bell: OwnedFd,
    /// It was rung, and is readable until it is quietened.
    rung: bool,
    busy_poll: bool,
}

impl Service {
    fn new(region: &Region, busy_poll: bool) -> Result<Self, BenchError> {
        let join = |kind, name| {
            region.join(kind, name).map_err(BenchError::setup("join the primary's region"))
        };
        let mut port = join(Kind::Port, "bench-port")?;
        let mut service = Service {
            bell: bell::of(&mut port).map_err(BenchError::setup("open the bell"))?,
            port,
            worker: join(Kind::Worker, "bench-worker")?,
            queue: region.queue("hot").expect("named in the geometry above"),
            out: region.port("out").expect("named in the geometry above"),
            rung: false,
            busy_poll,
        };
        let message = service
            .port
            .packet_of(b"begin", Endpoint::NONE)
            .map_err(BenchError::setup("take a block"))?;
        let to = Delivery { queue: service.queue, key: Some(b"object"), priority: 0 };
        service
            .port
            .deliver(to, message)
            .map_err(|(error, _)| BenchError::setup("create an object")(error))?;
        Ok(service)
    }

    fn commit_and_wait(&mut self) -> Result<(), BenchError> {
        let mut claim = self
            .worker
            .claim(self.queue)
            .ok_or_else(|| BenchError::setup("claim")("the object is not ready"))?;
        claim.set_value(&[7; VALUE_BYTES]).map_err(BenchError::setup("take a block"))?;
        claim.emit(self.out, Endpoint::NONE, b"done").map_err(BenchError::setup("take a block"))?;
        claim.stay_ready();
        let seq = claim.commit().map_err(BenchError::setup("commit"))?;

        let begun = Instant::now();
        loop {
            if let Some(packet) = self.port.take_emitted(self.out) {
                let released = packet.seq() == seq;
                self.port.sent(packet);
                if released {
                    return Ok(());
                }
            } else if self.busy_poll {
                // The node polls on the same core.
                std::thread::yield_now();
            } else {
                self.sleep()?;
            }
            if begun.elapsed() > RELEASE_MAX {
                let what = format!("commit {seq} was not released within {RELEASE_MAX:?}");
                return Err(BenchError::setup("release a commit")(what));
            }
        }
    }

    /// Sleeps until the port's bell rings, as a port does that has no packets to receive.
    fn sleep(&mut self) -> Result<(), BenchError> {
        let bell = Bell::Port(self.out);
        if std::mem::take(&mut self.rung) {
            self.port.disarm_bell(bell);
        }
        if !self.port.arm_bell(bell) {
            return Ok(());
        }
        let mut fds = [PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        let slept = match poll(&mut fds, SLEEP_MS_MAX) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(BenchError::setup("sleep")(errno)),
        };
        self.rung = fds[0].any().unwrap_or(true);
        self.port.cancel_bell(bell);
        slept
    }
}
