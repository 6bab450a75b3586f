//! `delta`: what an object costs each node on its way from one region into the other, the network left out.
//!
//! ```text
//!   node a   commits as gathered ── rows, digest ── rkyv ── crc ──► frame
//!   node b   frame ── crc, bytecheck, ranges ── digest ── apply ──► region
//!   limit    the values, copied
//! ```
//!
//! Batches of 1,000 commits, each of which changes one of 1,000 objects: in a batch every object is once.
//! The dearer of the two nodes is the figure, since it is the one that limits.

use std::hint::black_box;
use std::time::{Duration, Instant};

use hotpair_replica::node::measure::{Applying, Encoding, Received};
use hotpair_shm::{Change, GatheredCommit, Region, Seq};

use crate::histogram::Histogram;
use crate::objects::{self, VALUE_BYTES};
use crate::options::Options;
use crate::registry::{Bench, BenchError};
use crate::report::{LatencyReport, Report, Unit};
use crate::scratch::Scratch;
use crate::slices::{Collected, Span, in_turn};

/// Objects, and commits of a batch.
const OBJECTS: u32 = 1_000;

const SECONDS: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(300);

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let scratch = Scratch::new(bench.name);
    let region = Region::create(&scratch.path, &objects::geometry(OBJECTS, 2))
        .map_err(BenchError::setup("create the region"))?;
    let mut applying =
        Applying::new(region).map_err(BenchError::setup("make the region a back-up"))?;
    let mut encoding = Encoding::new(OBJECTS);
    let mut commits = Commits::new();
    let mut plain = vec![0_u8; commits.values.len() * VALUE_BYTES];

    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let mut sides = in_turn(1, span, |_, sides: &mut Sides| {
        let batch = commits.next();
        let begun = Instant::now();
        let frame = encoding.encode(&batch);
        sides.encode.record(begun.elapsed() / OBJECTS);

        let received = Received::of(&frame);
        let begun = Instant::now();
        let digest = applying.apply(received).map_err(BenchError::setup("apply a batch"))?;
        sides.apply.record(begun.elapsed() / OBJECTS);
        black_box(digest);

        let begun = Instant::now();
        for (copy, value) in plain.chunks_exact_mut(VALUE_BYTES).zip(&commits.values) {
            copy.copy_from_slice(value);
        }
        black_box(&mut plain);
        sides.memcpy.record(begun.elapsed() / OBJECTS);
        Ok(())
    })?;
    let Sides { encode, apply, memcpy } = sides.remove(0);
    let dearer = if encode.summary().p50 > apply.summary().p50 { &encode } else { &apply };
    let report = LatencyReport::new(
        bench.name,
        bench.question,
        Unit::Nanoseconds,
        dearer,
        "memcpy of the values",
        &memcpy,
    );
    let report = report.with_part("encode", Unit::Nanoseconds, &encode);
    Ok(Report::Latency(report.with_part("apply", Unit::Nanoseconds, &apply)))
}

/// Per object, each from one batch.
#[derive(Default)]
struct Sides {
    encode: Histogram,
    apply: Histogram,
    memcpy: Histogram,
}

impl Collected for Sides {
    fn slice_ended(&mut self, from: Duration, to: Duration) {
        for side in [&mut self.encode, &mut self.apply, &mut self.memcpy] {
            side.slice_ended(from, to);
        }
    }
}

/// What a primary would gather.
struct Commits {
    count: u64,
    keys: Vec<[u8; 4]>,
    values: Vec<[u8; VALUE_BYTES]>,
}

impl Commits {
    fn new() -> Self {
        let keys = (0..OBJECTS).map(u32::to_le_bytes).collect();
        let values = (0..OBJECTS).map(|object| [object as u8; VALUE_BYTES]).collect();
        Self { count: 0, keys, values }
    }

    /// A commit of each object.
    fn next(&mut self) -> Vec<GatheredCommit<'_>> {
        let first = self.count + 1;
        self.count += u64::from(OBJECTS);
        let each = (0..OBJECTS).zip(&self.keys).zip(&self.values);
        each.map(|((slot, key), value)| GatheredCommit {
            stamp: 0,
            seq: Seq::new(1, first + u64::from(slot)),
            changes: vec![Change::Put {
                slot,
                incarnation: 1,
                queue: 0,
                priority: 0,
                key,
                value,
                deadline: None,
                ready: false,
                sum: u64::from(slot),
                before: None,
            }],
            emits: Vec::new(),
        })
        .collect()
    }
}
