//! `status`: how long somebody waits who asks how a large region stands.
//!
//! ```text
//!   this process   region of 1,000,000 objects
//!   hotpair status --region …   ──► attach, count, print, end
//!   hotpair --version           ──► print, end                    (limit)
//! ```
//!
//! As a user does it: a program that is started, and is over when it has printed. The region has no node, which the program finds
//! worth an exit code, and which changes nothing in what it reads.

use std::process::{Command, Stdio};
use std::time::Instant;

use hotpair_shm::{Region, SizeClass};

use crate::failover::write_files;
use crate::histogram::Histogram;
use crate::objects::{Hand, MESSAGE_BYTES, geometry};
use crate::options::Options;
use crate::registry::{Bench, BenchError};
use crate::report::{LatencyReport, Report, Unit};
use crate::scratch::Scratch;

const OBJECTS: u32 = 1_000_000;
const RUNS: u32 = 20;

/// What fails if it does not.
const RUN: &str = "run the program";

/// As the program says that there is no node.
const NO_NODE: i32 = 3;

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let scratch = Scratch::new(bench.name);
    let objects = options.objects.unwrap_or(OBJECTS);
    let mut geometry = geometry(objects, 4);
    geometry.classes.push(SizeClass { payload_bytes: MESSAGE_BYTES, count: 8 * 1024 });
    let region =
        Region::create(&scratch.path, &geometry).map_err(BenchError::setup("create the region"))?;
    region.become_primary(1);
    Hand::join(&region)?.create(objects)?;
    let name = scratch.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.trim_start_matches("hotpair.");

    let program = options.program()?;
    let call = |arguments: &[&str], expected: &[i32]| -> Result<u64, BenchError> {
        let begun = Instant::now();
        let output = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(BenchError::setup(RUN))?;
        let lasted = begun.elapsed();
        match output.status.code() {
            Some(code) if expected.contains(&code) => Ok(lasted.as_nanos() as u64),
            _ => Err(BenchError::setup(RUN)(format!(
                "{arguments:?} ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ))),
        }
    };
    let (mut thing, mut limit) = (Histogram::new(), Histogram::new());
    call(&["--version"], &[0])?; // the program is in the page cache
    for _ in 0..options.runs.unwrap_or(RUNS) {
        thing.record_ns(call(&["status", "--region", name], &[0, NO_NODE])?);
        limit.record_ns(call(&["--version"], &[0])?);
    }
    write_files(options, &thing)?;
    Ok(Report::Latency(LatencyReport::new(
        bench.name,
        bench.question,
        Unit::Milliseconds,
        &thing,
        "`hotpair --version`: the same program, started and ended",
        &limit,
    )))
}
