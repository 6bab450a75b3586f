//! `resync`: a back-up that has nothing takes all state over while the primary serves.
//!
//! ```text
//!   node a   1,000,000 objects, alone │ copies slots ──────────────────────► │ in step
//!   node b                            │ starts, empty │ applies              │ admitted
//!   worker   10,000 commits a second, before ─────────┼ during ──────────────┼ after
//! ```
//!
//! The figure is from the transfer's start to the back-up's admission, by the primary's own events. Against
//! it, after each transfer: the same bytes (keys and values alone) over a bare QUIC stream between the same
//! cores. Beside it stands what the worker saw: from a commit to its release, while the primary was alone
//! (released at once), while the transfer ran (the same), and when the back-up was in step.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use hotpair_shm::{Bell, Endpoint, Geometry, Kind, Participant, PortId, Region, Seq, SizeClass};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use serde::Deserialize;

use crate::bell;
use crate::echo::certificates;
use crate::failover::write_files;
use crate::helper::Core;
use crate::histogram::Histogram;
use crate::objects::{self, BLOCK_BYTES, Hand, VALUE_BYTES, nothing_ready};
use crate::options::Options;
use crate::pair::{Pair, Stage};
use crate::registry::{Bench, BenchError};
use crate::report::{LatencyReport, Report, Unit};
use crate::stream::{self, BareStream};

/// Name of the pair in its certificates.
const CLUSTER: &str = "bench";

const OBJECTS: u32 = 1_000_000;
/// Of them, those that the worker changes.
const HOT: u32 = 4_096;
const PARTICIPANTS: u16 = 8;
const TX_ENTRIES: u32 = 8_192;
const KEY_BYTES: u64 = 4;
const PORT: &str = "out";

const RUNS: u32 = 3;

/// 10,000 commits a second.
const PERIOD: Duration = Duration::from_micros(100);
/// How long is looked before the transfer, and after it.
const ASIDE: Duration = Duration::from_millis(500);

/// A back-up that is not in step by then never will be.
const TRANSFER_MAX: Duration = Duration::from_secs(120);

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let objects = options.objects.unwrap_or(OBJECTS);
    let cores = Core::for_hosts();
    let certificates = certificates(CLUSTER)?;
    let stage = Stage::new(bench.name, certificates.path(), &geometry(objects), cores)?;
    let (events, tell) = std::io::pipe().map_err(BenchError::setup("make a pipe"))?;
    let mut events = BufReader::new(events);
    let mut pair = Pair::alone(stage, Some(tell.into()))?;
    let mut load = Load::join(pair.region())?;
    load.hand.create(objects)?;
    load.hand.make_ready(0..objects.min(HOT))?;
    let mut stream = {
        let _pinned = cores[0].map(Core::hold).transpose()?;
        BareStream::start(certificates.path(), CLUSTER, cores[1])?
    };

    let bytes = u64::from(objects) * (KEY_BYTES + VALUE_BYTES as u64);
    let mut seen = Seen::default();
    for _ in 0..options.runs.unwrap_or(RUNS) {
        load.run_until(&mut seen.alone, after(ASIDE))?;
        pair.start_backup()?;
        let begun = Instant::now();
        load.run_until(&mut seen.during, |region| {
            if begun.elapsed() > TRANSFER_MAX {
                let what = format!("it is not after {TRANSFER_MAX:?}");
                return Err(BenchError::setup("bring the back-up into step")(what));
            }
            Ok(region.report().protected)
        })?;
        seen.transfer.record(transfer_time(&mut events)?);
        load.run_until(&mut seen.in_step, after(ASIDE))?;
        pair.lose_backup()?;
        let _pinned = cores[0].map(Core::hold).transpose()?;
        seen.bare.record(stream.transfer(bytes)?);
    }
    write_files(options, &seen.transfer)?;
    let (unit, latency) = (Unit::Milliseconds, Unit::Microseconds);
    let report = LatencyReport::new(
        bench.name,
        bench.question,
        unit,
        &seen.transfer,
        stream::WHAT,
        &seen.bare,
    );
    let report = report.with_part("commit_ack_alone", latency, &seen.alone);
    let report = report.with_part("commit_ack_during", latency, &seen.during);
    Ok(Report::Latency(report.with_part("commit_ack_in_step", latency, &seen.in_step)))
}

fn geometry(objects: u32) -> Geometry {
    let mut spare = 0;
    spare += 2 * TX_ENTRIES; // waits to be gathered, and retired by what was gathered
    spare += 2 * TX_ENTRIES; // packets that are not released, or not known to be sent
    spare += u32::from(PARTICIPANTS) * 128; // in the hands of participants
    Geometry {
        classes: vec![SizeClass { payload_bytes: BLOCK_BYTES, count: objects + spare }],
        tx_entries: TX_ENTRIES,
        ports: vec![PORT.to_owned()],
        ..objects::geometry(objects, PARTICIPANTS)
    }
}

/// Of all runs.
#[derive(Default)]
struct Seen {
    transfer: Histogram,
    bare: Histogram,
    alone: Histogram,
    during: Histogram,
    in_step: Histogram,
}

fn after(time: Duration) -> impl FnMut(&Region) -> Result<bool, BenchError> {
    let until = Instant::now() + time;
    move |_| Ok(Instant::now() >= until)
}

/// Worker and port in one thread: it commits in an open loop, and sleeps on the port's bell in between.
struct Load {
    hand: Hand,
    port: Participant,
    out: PortId,
    bell: OwnedFd,
    /// It was rung, and is readable until it is quietened.
    rung: bool,
    /// When the commits were due that are not released.
    waiting: VecDeque<(Seq, Instant)>,
}

impl Load {
    fn join(region: &Region) -> Result<Self, BenchError> {
        let mut port = region
            .join(Kind::Port, "bench-port")
            .map_err(BenchError::setup("join the primary's region"))?;
        Ok(Load {
            hand: Hand::join(region)?,
            bell: bell::of(&mut port).map_err(BenchError::setup("open the bell"))?,
            port,
            out: region.port(PORT).expect("named in the geometry above"),
            rung: false,
            waiting: VecDeque::new(),
        })
    }

    /// Commits until `done`, and records how long each commit took to be released.
    fn run_until(
        &mut self,
        histogram: &mut Histogram,
        mut done: impl FnMut(&Region) -> Result<bool, BenchError>,
    ) -> Result<(), BenchError> {
        let mut due = Instant::now();
        while !done(self.port.region())? {
            self.commit(due)?;
            due += PERIOD;
            loop {
                self.take_released(histogram);
                let Some(left) = due.checked_duration_since(Instant::now()) else { break };
                self.sleep(left)?;
            }
        }
        let begun = Instant::now();
        while !self.waiting.is_empty() {
            self.sleep(PERIOD)?;
            self.take_released(histogram);
            if begun.elapsed() > TRANSFER_MAX {
                return Err(BenchError::setup("release a commit")("it is not released"));
            }
        }
        Ok(())
    }

    fn commit(&mut self, due: Instant) -> Result<(), BenchError> {
        let Hand { worker, queue } = &mut self.hand;
        let mut claim = worker.claim(*queue).ok_or_else(nothing_ready)?;
        claim.set_value(&[7; VALUE_BYTES]).map_err(BenchError::setup("take a block"))?;
        claim.emit(self.out, Endpoint::NONE, b"done").map_err(BenchError::setup("take a block"))?;
        claim.stay_ready();
        let seq = claim.commit().map_err(BenchError::setup("commit"))?;
        self.waiting.push_back((seq, due));
        Ok(())
    }

    fn take_released(&mut self, histogram: &mut Histogram) {
        while let Some(packet) = self.port.take_emitted(self.out) {
            while let Some(&(seq, due)) = self.waiting.front()
                && seq <= packet.seq()
            {
                self.waiting.pop_front();
                histogram.record(due.elapsed());
            }
            self.port.sent(packet);
        }
    }

    fn sleep(&mut self, left: Duration) -> Result<(), BenchError> {
        let bell = Bell::Port(self.out);
        if std::mem::take(&mut self.rung) {
            self.port.disarm_bell(bell);
        }
        if !self.port.arm_bell(bell) {
            return Ok(());
        }
        let mut fds = [PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        let slept = match ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(BenchError::setup("sleep")(errno)),
        };
        self.rung = fds[0].any().unwrap_or(true);
        self.port.cancel_bell(bell);
        slept
    }
}

/// What we read of a node's events.
#[derive(Debug, Deserialize)]
struct Event {
    event: String,
    t_ns: u64,
}

/// From the start of a transfer to the admission, as the primary tells it.
fn transfer_time(events: &mut BufReader<PipeReader>) -> Result<Duration, BenchError> {
    let mut started = None;
    let mut line = String::new();
    loop {
        line.clear();
        let count = events.read_line(&mut line).map_err(BenchError::setup("hear the node"))?;
        let event: Event = match serde_json::from_str(&line) {
            Ok(event) => event,
            Err(error) if count == 0 => return Err(BenchError::setup("hear the node")(error)),
            Err(error) => return Err(BenchError::setup("understand the node")(error)),
        };
        match (event.event.as_str(), started) {
            // One that was broken off is begun again.
            ("transfer_started", _) => started = Some(event.t_ns),
            ("admitted", Some(began)) => return Ok(Duration::from_nanos(event.t_ns - began)),
            _ => {}
        }
    }
}
