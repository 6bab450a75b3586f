//! `contend`: what a second worker on the same queue adds.
//!
//! ```text
//!   one worker    this process ── claim, 1 us of work, commit ──► 64 objects, always ready
//!   two workers   this process and the helper, the same, each on its core
//! ```
//!
//! One and two take turns in slices of the same length, with and without work: with it the question is
//! whether two get twice as much done; without it they only meet, and that is for the record.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hotpair_shm::{Region, monotonic_ns};

use crate::helper::{Core, Helper, obey};
use crate::objects::{Hand, geometry};
use crate::options::Options;
use crate::page::Page;
use crate::registry::{Bench, BenchError};
use crate::report::{RateReport, Report, Tally};
use crate::scratch::Scratch;
use crate::slices::{Span, in_turn};

const OBJECTS: u32 = 64;

/// What each claim is held for.
const WORK_NS: u64 = 1_000;

/// Long enough that beginning and end do not count.
const SLICE_NS: u64 = 10_000_000;

const SECONDS: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(300);

/// The orders to the helper.
pub(crate) const WITH_WORK: u8 = 1;
pub(crate) const WITHOUT_WORK: u8 = 2;

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let [here, there] = Core::two()?;
    let _pinned = here.hold()?;
    let scratch = Scratch::new(bench.name);
    let region = Region::create(&scratch.path, &geometry(OBJECTS, 4))
        .map_err(BenchError::setup("create the region"))?;
    region.become_primary(1);
    let mut hand = Hand::join(&region)?;
    hand.create(OBJECTS)?;
    hand.make_ready(0..OBJECTS)?;
    let path = scratch.path.display().to_string();
    let mut helper = Helper::start(options, there, "work", &[path])?;

    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let sides = in_turn(4, span, |side, tally: &mut Tally| {
        let work = if side < 2 { WORK_NS } else { 0 };
        let together = side.is_multiple_of(2);
        let begun = monotonic_ns();
        let until = begun + SLICE_NS;
        if together {
            helper.page().until.store(until, Ordering::Relaxed);
            helper.order(if work > 0 { WITH_WORK } else { WITHOUT_WORK });
        }
        let mut count = toil(&mut hand, work, until)?;
        let lasted = monotonic_ns() - begun;
        if together {
            helper.finish()?;
            count += helper.page().count.load(Ordering::Relaxed);
        }
        tally.add(count, lasted);
        Ok(())
    })?;
    let [two, one, two_bare, one_bare] = &sides[..] else {
        unreachable!("as many as were asked for");
    };
    let report = RateReport::new(bench.name, bench.question, two, "one worker", one);
    Ok(Report::Rate(report.with_bare(two_bare, one_bare)))
}

/// Claims, works and commits until the time is up; gives how often.
fn toil(hand: &mut Hand, work_ns: u64, until: u64) -> Result<u64, BenchError> {
    let mut count = 0;
    while monotonic_ns() < until {
        hand.turn_with(|| {
            if work_ns > 0 {
                let through = monotonic_ns() + work_ns;
                while monotonic_ns() < through {
                    std::hint::spin_loop();
                }
            }
        })?;
        count += 1;
    }
    Ok(count)
}

/// The helper's part: `REGION`.
pub(crate) fn work_along(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let [path] = arguments else {
        return Err(BenchError::setup("work")("the region is not named"));
    };
    let region =
        Region::attach(path.as_ref()).map_err(BenchError::setup("attach to the region"))?;
    let mut hand = Hand::join(&region)?;
    obey(page, |order| {
        let work = if order == WITH_WORK { WORK_NS } else { 0 };
        let count = toil(&mut hand, work, page.until.load(Ordering::Relaxed))?;
        page.count.store(count, Ordering::Relaxed);
        Ok(())
    })
}
