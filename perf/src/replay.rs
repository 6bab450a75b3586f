//! `replay`: a capture file through a port, a worker and the same port into another file.
//!
//! ```text
//!   in.pcap ─► port ─► 64 flows, an object each ─► worker ─► commit ─► node ─► port ─► out.pcap
//!   in.pcap ─► read and write record by record ─► out.pcap                           (limit)
//! ```
//!
//! The port is a thread beside the node's, on the other core than the worker, a process of its own. A file waits, so nothing may
//! be missing: each run is compared with what it was given, frame by frame, and fails if it is not the same.

mod frames;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hotpair_ioports::{ByFlow, Counters, PortConfig, SocketSource, Speed, Stop};
use hotpair_shm::{ENDPOINT_BYTES, Geometry, Overload, QueuePolicy, QueueSpec, Shares, SizeClass};
use hotpair_worker::{Error, Job, Space, Wait};

use crate::echo::certificates;
use crate::helper::{Core, Helper};
use crate::options::Options;
use crate::page::Page;
use crate::pair::{Pair, Stage};
use crate::registry::{Bench, BenchError};
use crate::report::{RateReport, Report, Tally};
use crate::slices::{Span, in_turn};
use crate::udp::until_told;
use frames::FRAME_BYTES;

/// Name of the pair in its certificates.
const CLUSTER: &str = "bench";

const QUEUE: &str = "flows";
const PORT: &str = "capture";

/// Frames of the file, unless it is told otherwise.
const FRAMES: u32 = 1_000_000;
/// Their flows: each is an object.
const FLOWS: u32 = 64;
/// Commits of a participant that may wait to be gathered.
const TX_ENTRIES: u32 = 4_096;

/// The whole file, each time.
const SECONDS: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(50);

/// A run that has not ended by then will not.
const PATIENCE: Duration = Duration::from_secs(60);

const RUN: &str = "replay a capture file";

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let [near, far] = Core::for_hosts();
    let dir = certificates(CLUSTER)?;
    let stage = Stage::new(bench.name, dir.path(), &geometry(), [near, far])?;
    let pair = Pair::alone(stage, None)?;
    let region = pair.region();
    let queue = region.queue(QUEUE).expect("in the geometry");
    region.set_policy(queue, &QueuePolicy { overload: Overload::Hold, ..QueuePolicy::default() });
    let there = match far {
        Some(core) => core,
        None => Core::any()?,
    };
    let _worker = Helper::start(options, there, "replay-work", &[pair.region_name()])?;
    let _pinned = near.map(Core::hold).transpose()?;
    let (input, output) = (dir.path().join("in.pcap"), dir.path().join("out.pcap"));
    let count = options.objects.unwrap_or(FRAMES);
    let given = frames::file(count, FLOWS);
    fs::write(&input, &given).map_err(BenchError::setup("write a capture file"))?;
    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let sides = in_turn(2, span, |side, tally: &mut Tally| {
        // A new file, whose pages are new to both.
        match fs::remove_file(&output) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BenchError::setup("remove a capture file")(error));
            }
            _ => {}
        }
        let lasted = match side {
            0 => through_the_port(&pair, count, &input, &output)?,
            _ => {
                let begun = Instant::now();
                frames::copy(&input, &output).map_err(BenchError::setup("copy records"))?;
                begun.elapsed()
            }
        };
        let written = fs::read(&output).map_err(BenchError::setup("read a capture file"))?;
        frames::compare(&given, &written, FLOWS).map_err(BenchError::setup("find all frames"))?;
        tally.add(count.into(), lasted.as_nanos() as u64);
        Ok(())
    })?;
    let [thing, limit] = &sides[..] else { unreachable!("as many as were asked for") };
    let limit_is = "a loop that reads the same records and writes them";
    Ok(Report::Rate(RateReport::new(bench.name, bench.question, thing, limit_is, limit)))
}

/// From the start of the port until it has written the last frame.
fn through_the_port(
    pair: &Pair,
    count: u32,
    input: &Path,
    output: &Path,
) -> Result<Duration, BenchError> {
    let files =
        SocketSource::Capture { replay: Some(input.to_owned()), write: Some(output.to_owned()) };
    let config = PortConfig::capture(PORT, QUEUE, files, Speed::Max);
    let stop = Stop::new().map_err(BenchError::setup(RUN))?;
    let counters = Counters::new();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let (path, counters, stopping) = (pair.region().path().to_owned(), &counters, &stop);
        let port = scope.spawn(move || {
            let classifier = &mut ByFlow { both_ways: true };
            hotpair_ioports::run(&path, &config, classifier, counters, stopping)
        });
        while counters.snapshot().sent < count.into()
            && !port.is_finished()
            && begun.elapsed() < PATIENCE
        {
            std::thread::sleep(Duration::from_micros(500));
        }
        let lasted = begun.elapsed();
        stop.stop();
        port.join().expect("a port does not panic").map_err(BenchError::setup(RUN))?;
        Ok(lasted)
    })
}

/// A helper's part, `REGION`: a worker that sends each frame on.
pub(crate) fn work(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let [region] = arguments else {
        return Err(BenchError::setup(RUN)("the worker's region is not given"));
    };
    let space = Space::attach(region).map_err(BenchError::setup(RUN))?;
    let mut worker = space.worker(QUEUE).map_err(BenchError::setup(RUN))?;
    let stopper = worker.stopper();
    until_told(page, || stopper.stop(), || worker.run(Wait::sleep(), send_on))
        .map_err(BenchError::setup(RUN))
}

/// The object counts its frames.
fn send_on(job: &mut Job<'_>) -> Result<(), Error> {
    let frames = job.messages().filter_map(|frame| {
        Some((frame.source()?, <[u8; FRAME_BYTES]>::try_from(frame.payload()).ok()?))
    });
    let frames: Vec<_> = frames.collect();
    *job.value_mut::<u64>()? += frames.len() as u64;
    for (from, frame) in frames {
        job.emit(PORT, from, &frame)?;
    }
    Ok(())
}

fn geometry() -> Geometry {
    Geometry {
        slots: 4 * FLOWS,
        classes: vec![SizeClass {
            payload_bytes: (ENDPOINT_BYTES + FRAME_BYTES + 16) as u32,
            count: 65_536,
        }],
        queues: vec![QueueSpec { name: QUEUE.to_owned(), lanes: 1 }],
        ports: vec![PORT.to_owned()],
        participants: 8,
        tx_entries: TX_ENTRIES,
        max_attempts: 5,
        inbox_limit: 1_000,
        shares: Shares::default(),
    }
}
