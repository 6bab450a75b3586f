//! `udp-echo`, `udp-rate`: packets in by a port, through a worker, out by a port.
//!
//! ```text
//!   host of the clients, one core          host of the service, the other core
//!   client ── 64 B ─────────────────────►  port ──► object ──► worker ──► commit ──► node ──► port
//!          ◄──────────────────────────────────────────────────────────────────────────────────┘
//!   client ── 64 B ──► bare echo, or loop                                                 (limit)
//! ```
//!
//! Port and worker are processes of their own, as in a service; nodes are threads of this one. Everybody sleeps in the kernel while
//! there is nothing to do, the bare echo as well. Without `--sync` one node serves alone, and the port's mode is `local`: output leaves
//! as soon as it is committed. With it a second node, on the core of the clients, has each commit before its output leaves; then the
//! limit is the bare echo and a bare QUIC echo, which cross between the same two cores.

mod bare;
mod client;
mod service;
mod wakes;

use std::time::Duration;

use hotpair_ioports::{Family, Sender};
use hotpair_shm::{ENDPOINT_BYTES, Geometry, QueueSpec, Shares, SizeClass};

use crate::echo::{Echo, certificates};
use crate::failover::write_files;
use crate::free_address::free_address;
use crate::helper::{Core, Helper};
use crate::histogram::Histogram;
use crate::options::Options;
use crate::pace::Pace;
use crate::pair::{Pair, Stage};
use crate::proc::Spent;
use crate::registry::{Bench, BenchError};
use crate::report::{LatencyReport, RateReport, Report, Stages, Tally, Unit};
use crate::slices::{Collected, Span, in_turn};
use bare::BATCH;
use client::Client;
use wakes::Wakes;

pub(crate) use bare::{answer, turn_round};
pub(crate) use service::{port, until_told, work};

/// Name of the pair in its certificates.
const CLUSTER: &str = "bench";

/// Bytes of a packet, there and back.
const PACKET_BYTES: usize = 64;

/// Sessions of `udp-rate`: each is an object.
const SESSIONS: u32 = 64;

/// Packets of `udp-rate` that are under way at once: as many as a socket's buffer holds.
const WINDOW: usize = 128;

/// Commits of a participant that may wait to be gathered.
const TX_ENTRIES: u32 = 4_096;

/// Far below what a pair can do, so that nothing queues.
const PERIOD: Duration = Duration::from_millis(1);

/// Operations of the thing, then of each limit.
const SLICE: u32 = 200;

/// Of the rates: long enough that beginning and end do not count.
const RATE_SLICE: Duration = Duration::from_millis(100);

const SECONDS: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(500);

pub(crate) fn echo(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let scene = Scene::set(bench, options, "udp-answer", Together::No)?;
    let _pinned = scene.far.map(Core::hold).transpose()?;
    let mut ours = Client::connect(scene.address)?;
    let mut bare = Client::connect(scene.bare)?;
    let mut quic = match options.sync {
        true => Some(Echo::start(scene.certificates.path(), CLUSTER, scene.near)?),
        false => None,
    };
    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let sides = 2 + usize::from(quic.is_some());
    let wakes = Wakes::of(&scene);
    let sides = in_turn(sides, span, |side, seen: &mut Seen| {
        let before = wakes.look();
        let mut pace = Pace::every(PERIOD);
        for _ in 0..SLICE {
            let due = pace.next();
            match (side, &mut quic) {
                (0, _) => ours.round_trip()?,
                (2, Some(quic)) => quic.round_trip(&mut [7; PACKET_BYTES])?,
                _ => bare.round_trip()?,
            }
            seen.times.record(due.elapsed());
        }
        wakes.add(&before, &mut seen.spent);
        Ok(())
    })?;
    write_files(options, &sides[0].times)?;
    let report = LatencyReport::new(
        bench.name,
        bench.question,
        Unit::Microseconds,
        &sides[0].times,
        "bare UDP echo of 64 B, sleeping",
        &sides[1].times,
    );
    let report = match sides.get(2) {
        Some(quic) => {
            report.with_limit_and("bare quinn echo of 64 B on a stream, sleeping", &quic.times)
        }
        None => report,
    };
    let report = report.with_sheet(wakes.sheet(&sides[0].spent, sides[0].times.len()));
    Ok(Report::Latency(report.with_stages(Stages::of(scene.pair.region()))))
}

/// What a side has seen in its slices.
#[derive(Default)]
struct Seen {
    times: Histogram,
    /// By whom.
    spent: Vec<Spent>,
}

impl Collected for Seen {
    fn slice_ended(&mut self, from: Duration, to: Duration) {
        self.times.slice_ended(from, to);
    }
}

pub(crate) fn rate(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let together = if options.gso { Together::Yes } else { Together::No };
    let scene = Scene::set(bench, options, "udp-turn-round", together)?;
    let _pinned = scene.far.map(Core::hold).transpose()?;
    let mut ours = Client::connect(scene.address)?;
    let mut bare = Client::connect(scene.bare)?;
    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let sides = in_turn(2, span, |side, tally: &mut Tally| {
        let client = if side == 0 { &mut ours } else { &mut bare };
        let (count, lasted) = client.flood(SESSIONS, WINDOW, RATE_SLICE, together)?;
        tally.add(count, lasted.as_nanos() as u64);
        Ok(())
    })?;
    let [thing, limit] = &sides[..] else { unreachable!("as many as were asked for") };
    let limit_is = match together {
        Together::No => format!("a bare loop that receives and sends in batches of {BATCH}"),
        Together::Yes => "a bare loop that receives and sends what came as one as one".to_owned(),
    };
    Ok(Report::Rate(RateReport::new(bench.name, bench.question, thing, &limit_is, limit)))
}

/// Whether packets cross the kernel together: sent as one datagram that it cuts (GSO), received as one that it has put together,
/// or not cut (GRO). The same for the service, the limit and the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Together {
    Yes,
    No,
}

impl Together {
    fn as_argument(self) -> String {
        match self {
            Together::Yes => "together",
            Together::No => "apart",
        }
        .to_owned()
    }

    fn from_argument(text: &str) -> Together {
        if text == "together" { Together::Yes } else { Together::No }
    }

    fn sender(self, family: Family) -> Sender {
        match self {
            Together::Yes => Sender::segmenting(BATCH, family),
            Together::No => Sender::new(BATCH, family),
        }
    }
}

/// Everything but the clients.
struct Scene {
    // Ends first, while the pair is still there.
    /// Port and worker.
    service: [Helper; 2],
    _bare: Helper,
    pair: Pair,
    certificates: tempfile::TempDir,
    address: std::net::SocketAddr,
    bare: std::net::SocketAddr,
    near: Option<Core>,
    far: Option<Core>,
}

impl Scene {
    /// With a bare part of this name.
    fn set(
        bench: &Bench,
        options: &Options,
        bare_part: &str,
        together: Together,
    ) -> Result<Self, BenchError> {
        let [near, far] = Core::for_hosts();
        let certificates = certificates(CLUSTER)?;
        let (path, geometry) = (certificates.path(), geometry());
        let pair = match options.sync {
            true => Pair::form(bench.name, path, &geometry, [near, far])?,
            false => {
                let stage = Stage::new(bench.name, path, &geometry, [near, far])?;
                Pair::alone(stage.with_local_ports(), None)?
            }
        };
        let there = match near {
            Some(core) => core,
            None => Core::any()?,
        };
        let [address, bare] = [free_address()?, free_address()?];
        let region = pair.region_name();
        let start =
            |part: &str, arguments: &[String]| Helper::start(options, there, part, arguments);
        let worker = start("udp-work", std::slice::from_ref(&region))?;
        let together = together.as_argument();
        let port = start("udp-port", &[region, address.to_string(), together.clone()])?;
        let _bare = start(bare_part, &[bare.to_string(), together])?;
        Ok(Scene { service: [port, worker], _bare, pair, certificates, address, bare, near, far })
    }
}

fn geometry() -> Geometry {
    let participants = 8;
    let mut packets = u32::from(participants) * 64; // in hands
    packets += 4 * WINDOW as u32; // come in, or go out
    packets += TX_ENTRIES * 8; // wait to be gathered, or are not known to be sent
    Geometry {
        slots: 4 * SESSIONS,
        classes: vec![SizeClass {
            payload_bytes: (ENDPOINT_BYTES + PACKET_BYTES + 16) as u32,
            count: packets + 8 * SESSIONS,
        }],
        queues: vec![QueueSpec { name: service::QUEUE.to_owned(), lanes: 1 }],
        ports: vec![service::PORT.to_owned()],
        participants,
        tx_entries: TX_ENTRIES,
        max_attempts: 5,
        inbox_limit: 1_000,
        shares: Shares::default(),
    }
}
