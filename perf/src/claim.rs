//! `claim`: what one claim, read, write of 256 B and commit cost one hot worker.
//!
//! The region is primary and nothing else works on it; nobody waits for anybody. So this is the price
//! of the machinery itself, in instructions and cache misses, and not a latency of a service: the loop
//! is closed, and each value includes one reading of the clock (about 25 ns), as the limit's do.

mod plain;

use std::hint::black_box;
use std::time::{Duration, Instant};

use hotpair_shm::{
    Delivery, Endpoint, Geometry, Kind, Participant, QueueId, QueueSpec, Region, SizeClass,
};

use crate::failover::write_files;
use crate::histogram::Histogram;
use crate::options::Options;
use crate::registry::{Bench, BenchError};
use crate::report::{LatencyReport, Report, Unit};
use crate::scratch::Scratch;
use plain::Plain;

/// Objects that take turns: few enough to stay in the cache, as a hot worker's do.
const OBJECTS: u32 = 64;

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 256;

/// Operations of the thing, then of the limit, before it is the other's turn again: long enough to
/// be hot, short enough to share every mood of the machine.
const SLICE: u32 = 2_000;

const SECONDS: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(300);

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let scratch = Scratch::new(bench.name);
    let mut hot = HotWorker::new(&scratch)?;
    let mut plain = Plain::new(OBJECTS);
    let (mut thing, mut limit) = (Histogram::new(), Histogram::new());

    let measure = options.seconds.unwrap_or(SECONDS);
    let begun = Instant::now();
    let mut warm = false;
    while begun.elapsed() < WARM_UP + measure {
        if !warm && begun.elapsed() >= WARM_UP {
            warm = true;
            (thing, limit) = (Histogram::new(), Histogram::new());
        }
        slice(&mut thing, || hot.turn())?;
        slice(&mut limit, || {
            plain.turn();
            Ok(())
        })?;
    }
    write_files(options, &thing)?;
    Ok(Report::Latency(LatencyReport::new(
        bench.name,
        bench.question,
        Unit::Nanoseconds,
        &thing,
        "the same bytes and compare-and-swaps in plain code",
        &limit,
    )))
}

fn slice(
    histogram: &mut Histogram,
    mut turn: impl FnMut() -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    let mut before = Instant::now();
    for _ in 0..SLICE {
        turn()?;
        let now = Instant::now();
        histogram.record(now - before);
        before = now;
    }
    Ok(())
}

/// The useful work, the same for both: read all of the value, write all of it.
fn work(value: &mut [u8]) {
    let sum = value.chunks_exact(8).fold(0_u64, |sum, word| {
        sum.wrapping_add(u64::from_le_bytes(word.try_into().expect("chunks of eight bytes")))
    });
    let next = black_box(sum).wrapping_add(1).to_le_bytes();
    value.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&next));
}

/// A primary region of objects that are always ready, and a worker.
struct HotWorker {
    worker: Participant,
    queue: QueueId,
}

impl HotWorker {
    fn new(scratch: &Scratch) -> Result<Self, BenchError> {
        let geometry = Geometry {
            slots: OBJECTS * 4,
            classes: vec![SizeClass { payload_bytes: 512, count: 8192 }],
            queues: vec![QueueSpec { name: "hot".to_owned(), lanes: 1 }],
            ports: Vec::new(),
            participants: 4,
            // Entries and the blocks that they retire are reused once the ring is full, since no node
            // gathers: a larger ring would measure the cache that it does not fit into.
            tx_entries: 64,
            max_attempts: 5,
            inbox_limit: 1000,
        };
        let region = Region::create(&scratch.path, &geometry)
            .map_err(BenchError::setup("create the region"))?;
        region.become_primary(1);
        let queue = region.queue("hot").expect("named in the geometry above");
        let worker =
            region.join(Kind::Worker, "bench").map_err(BenchError::setup("join the region"))?;
        let mut hot = HotWorker { worker, queue };
        for object in 0..OBJECTS {
            hot.create(object)?;
        }
        for _ in 0..OBJECTS {
            hot.first_turn()?;
        }
        Ok(hot)
    }

    fn create(&mut self, object: u32) -> Result<(), BenchError> {
        let message = self
            .worker
            .packet_of(b"begin", Endpoint::NONE)
            .map_err(BenchError::setup("take a block"))?;
        let to = Delivery { queue: self.queue, key: Some(&object.to_le_bytes()) };
        self.worker
            .deliver(to, message)
            .map_err(|(error, _)| BenchError::setup("create an object")(error))?;
        Ok(())
    }

    /// Gives the next object its value, and keeps it ready without a message.
    fn first_turn(&mut self) -> Result<(), BenchError> {
        let mut claim = self.worker.claim(self.queue).ok_or_else(nothing_ready)?;
        claim.set_value(&[1; VALUE_BYTES]).map_err(BenchError::setup("take a block"))?;
        claim.stay_ready();
        claim.commit().map_err(BenchError::setup("commit"))?;
        Ok(())
    }

    #[inline]
    fn turn(&mut self) -> Result<(), BenchError> {
        let mut claim = self.worker.claim(self.queue).ok_or_else(nothing_ready)?;
        work(claim.value_mut().map_err(BenchError::setup("take a block"))?);
        claim.stay_ready();
        claim.commit().map_err(BenchError::setup("commit"))?;
        Ok(())
    }
}

fn nothing_ready() -> BenchError {
    BenchError::setup("claim")("no object is ready, although all were made so")
}
