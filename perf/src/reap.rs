//! `reap`: from the kill of a worker to the moment at which others can take everything it held.
//!
//! ```text
//!   helper     attach, join, 100 claims ─────── killed
//!   reaper                    asleep ───────────┴ notice, confirm, hand on
//!   this one                  asleep on the queue's bell ─────────┴ 100 claims
//! ```
//!
//! The region has a slot for each of a million objects, all in use, and is 1 GiB in pages of 4 KiB: a
//! kernel that takes the victim apart needs tens of milliseconds for it, and tells by pidfd only then. The
//! clock stops when this process, a worker of the same queue, has claimed the hundredth. The reaper is a
//! thread, as it is in a node. The limit is the kernel's notice itself: a process that maps the same region
//! is killed while it holds a robust mutex, and somebody sleeps on its futex.

mod notice;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_shm::{Geometry, Participant, ReadyObject, Reaper, Region, SizeClass, monotonic_ns};

use crate::failover::write_files;
use crate::helper::{Core, Helper, obey_asleep};
use crate::histogram::Histogram;
use crate::objects::{Hand, MESSAGE_BYTES, geometry, nothing_ready};
use crate::options::Options;
use crate::page::Page;
use crate::registry::{Bench, BenchError};
use crate::report::{LatencyReport, Report, Unit};
use crate::scratch::Scratch;

const RUNS: u32 = 20;

const OBJECTS: u32 = 1_000_000;

/// What the victim holds.
const CLAIMS: u32 = 100;

/// A million blocks of this size make the region 1 GiB, whatever part of them the values need.
const BLOCK_BYTES: u32 = 960;

/// How long the reaper sleeps before it looks who is new, as in a node.
const NAP: Duration = Duration::from_millis(50);

/// What is not ready by then never will be.
const READY_MAX: Duration = Duration::from_secs(10);

fn roomy(objects: u32) -> Geometry {
    Geometry {
        classes: vec![
            SizeClass { payload_bytes: MESSAGE_BYTES, count: 8 * 1024 }, // messages
            SizeClass { payload_bytes: BLOCK_BYTES, count: objects + 1024 },
        ],
        max_attempts: 10_000, // the objects are innocent
        ..geometry(objects, 8)
    }
}

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let [here, there] = Core::two()?;
    // The kernel's work on the dead is done on the core of the dead.
    let _pinned = here.hold()?;
    let scratch = Scratch::new(bench.name);
    let objects = options.objects.unwrap_or(OBJECTS);
    let region = Region::create(&scratch.path, &roomy(objects))
        .map_err(BenchError::setup("create the region"))?;
    region.become_primary(1);
    let mut hand = Hand::join(&region)?;
    hand.create(objects)?;
    let _reaping = Reaping::start(&region)?;

    let (mut thing, mut limit) = (Histogram::new(), Histogram::new());
    for _ in 0..options.runs.unwrap_or(RUNS) {
        hand.make_ready(0..CLAIMS)?;
        thing.record_ns(reaped(options, there, &scratch.path, &mut hand)?);
        limit.record_ns(noticed(options, there, &scratch.path)?);
    }
    write_files(options, &thing)?;
    Ok(Report::Latency(LatencyReport::new(
        bench.name,
        bench.question,
        Unit::Microseconds,
        &thing,
        "the kernel's notice by robust futex, the same region mapped",
        &limit,
    )))
}

/// One death of a worker; gives nanoseconds until all that it held is in the hands of `hand`.
fn reaped(
    options: &Options,
    there: Core,
    region: &Path,
    hand: &mut Hand,
) -> Result<u64, BenchError> {
    let mut victim = Helper::start(options, there, "hold", &[region.display().to_string()])?;
    if hand.worker.claim_ready(hand.queue).is_some() {
        return Err(BenchError::setup("leave nothing to others")("the worker claimed too little"));
    }
    // The reaper has seen the newcomer, and everybody sleeps.
    std::thread::sleep(NAP * 2);
    let killed = monotonic_ns();
    victim.kill()?;
    let mut held = Vec::with_capacity(CLAIMS as usize);
    let begun = Instant::now();
    while held.len() < CLAIMS as usize {
        match hand.worker.claim_ready(hand.queue) {
            Some(ready) => held.push(ready),
            None if begun.elapsed() > READY_MAX => {
                let what = format!("{} of {CLAIMS} after {READY_MAX:?}", held.len());
                return Err(BenchError::setup("take over the claims")(what));
            }
            None => {
                hand.worker.wait_ready(hand.queue, NAP);
            }
        }
    }
    let lasted = monotonic_ns() - killed;
    settle(&mut hand.worker, held)?;
    victim.bury()?;
    Ok(lasted)
}

/// Ends claims with commits, after which the objects have nothing to do.
fn settle(worker: &mut Participant, held: Vec<ReadyObject>) -> Result<(), BenchError> {
    for ready in held {
        worker.hold(ready).commit().map_err(BenchError::setup("commit"))?;
    }
    Ok(())
}

/// One death of a process that only maps; gives nanoseconds until the kernel's notice.
fn noticed(options: &Options, there: Core, region: &Path) -> Result<u64, BenchError> {
    let mut victim = Helper::start(options, there, "map", &[region.display().to_string()])?;
    std::thread::sleep(NAP * 2);
    let page = victim.share();
    let killed = monotonic_ns();
    victim.kill()?;
    let begun = Instant::now();
    while !notice::wait(&page, NAP) {
        if begun.elapsed() > READY_MAX {
            return Err(BenchError::setup("hear of a death")("the kernel said nothing"));
        }
    }
    let lasted = monotonic_ns() - killed;
    victim.bury()?;
    Ok(lasted)
}

/// The victim's part: `REGION`. Claims everything that is ready and holds it.
pub(crate) fn hold(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let region = attach(arguments)?;
    let mut hand = Hand::join(&region)?;
    let mut held = Vec::new();
    while held.len() < CLAIMS as usize {
        let ready = hand.worker.claim_ready(hand.queue);
        held.push(ready.ok_or_else(nothing_ready)?);
    }
    idle(page)?;
    settle(&mut hand.worker, held)
}

/// The other victim's part: `REGION`. Maps it and holds a robust mutex.
pub(crate) fn map(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let _region = attach(arguments)?;
    notice::hold(page)?;
    idle(page)
}

fn attach(arguments: &[String]) -> Result<Region, BenchError> {
    let [path] = arguments else {
        return Err(BenchError::setup("attach")("the region is not named"));
    };
    Region::attach(path.as_ref()).map_err(BenchError::setup("attach to the region"))
}

/// Sleeps until killed, or until the bench is over.
fn idle(page: &Page) -> Result<(), BenchError> {
    obey_asleep(page)
}

/// The thread that reaps, as a node's does. Dropping it stops it.
struct Reaping {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reaping {
    fn start(region: &Region) -> Result<Self, BenchError> {
        let stopping = Arc::new(AtomicBool::new(false));
        let run = {
            let (stopping, region) = (Arc::clone(&stopping), region.clone());
            move || {
                let mut reaper = Reaper::new(region);
                while !stopping.load(Ordering::Acquire) {
                    reaper.wait(NAP);
                    reaper.run_once();
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("reaper".to_owned())
            .spawn(run)
            .map_err(BenchError::setup("start the reaper"))?;
        Ok(Reaping { stopping, thread: Some(thread) })
    }
}

impl Drop for Reaping {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
