//! `status`: how long somebody waits who asks how a large region stands.
//!
//! ```text
//!   this process   region of 1,000,000 objects, its pages as a node makes them
//!   hotpair status --region …   ──► attach, count, print, end
//!   the same, of a region in small pages
//!   hotpair --version           ──► print, end                    (limit)
//! ```
//!
//! As a user does it: a program that is started, and is over when it has printed. The region has no node, which the program finds
//! worth an exit code, and which changes nothing in what it reads. A node makes its region huge pages where the kernel gives them,
//! unless it is told not to.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use hotpair_shm::{Pages, Region, SizeClass};

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
    let objects = options.objects.unwrap_or(OBJECTS);
    let large = Full::of(bench.name, objects, true)?;
    let small = Full::of("status-small", objects, false)?;
    let program = options.program()?;
    let version = || call(&program, &["--version"], &[0]);
    let status = |full: &Full| call(&program, &["status", "--region", full.name()], &[0, NO_NODE]);

    let [mut thing, mut other, mut limit] = [(); 3].map(|()| Histogram::new());
    version()?; // the program is in the page cache
    for _ in 0..options.runs.unwrap_or(RUNS) {
        thing.record_ns(status(&large)?);
        other.record_ns(status(&small)?);
        limit.record_ns(version()?);
    }
    write_files(options, &thing)?;
    let limit_is = format!(
        "`hotpair --version`: the same program, started and ended; {} in huge pages",
        large.in_huge_pages()?
    );
    let report = LatencyReport::new(
        bench.name,
        bench.question,
        Unit::Milliseconds,
        &thing,
        &limit_is,
        &limit,
    );
    Ok(Report::Latency(report.with_peer(Some(("status of a region in 4 KiB pages", &other)))))
}

/// Nanoseconds from the start of the program to its end.
fn call(program: &Path, arguments: &[&str], expected: &[i32]) -> Result<u64, BenchError> {
    let begun = Instant::now();
    let output = Command::new(program)
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
}

/// A region with as many objects as it was made for.
struct Full {
    scratch: Scratch,
    region: Region,
}

impl Full {
    fn of(name: &str, objects: u32, huge: bool) -> Result<Full, BenchError> {
        let scratch = Scratch::new(name);
        let mut geometry = geometry(objects, 4);
        geometry.classes.push(SizeClass { payload_bytes: MESSAGE_BYTES, count: 8 * 1024 });
        let pages = Pages { huge, ..Pages::default() };
        let region = Region::create_with(&scratch.path, &geometry, pages)
            .map_err(BenchError::setup("create the region"))?;
        region.become_primary(1);
        Hand::join(&region)?.create(objects)?;
        Ok(Full { scratch, region })
    }

    fn name(&self) -> &str {
        let file = self.scratch.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        file.trim_start_matches("hotpair.")
    }

    fn in_huge_pages(&self) -> Result<String, BenchError> {
        let huge = self.region.huge_bytes().map_err(BenchError::setup("look at its pages"))?;
        let all = std::fs::metadata(&self.scratch.path).map_err(BenchError::setup("look at it"))?;
        Ok(format!("{} of {} MiB of the region", huge >> 20, all.len() >> 20))
    }
}
