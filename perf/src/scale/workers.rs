//! How many processes work on one queue.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hotpair_shm::{Region, monotonic_ns};

use crate::contend::{WITH_WORK, WITHOUT_WORK};
use crate::helper::{Core, Helper};
use crate::objects::{Hand, geometry};
use crate::options::Options;
use crate::registry::BenchError;
use crate::report::Sheet;
use crate::scratch::Scratch;

const COUNTS: [usize; 6] = [1, 2, 3, 4, 6, 8];
const OBJECTS: u32 = 64;

/// Several turns of the kernel's scheduler, where workers share a core.
const SLICE: Duration = Duration::from_millis(100);

pub(super) fn curve(options: &Options, each: Duration) -> Result<Sheet, BenchError> {
    let columns = [
        ("1 us of work", "ns"),
        ("no work", "ns"),
        ("1 us of work, a second", "per_s"),
        ("no work, a second", "per_s"),
    ];
    let question = "by how many processes work on one queue; time of the cores that they have, for each commit";
    let mut sheet = Sheet::new("workers", question, "workers", &columns);
    let cores = Core::two()?;
    let scratch = Scratch::new("scale");
    let region = Region::create(&scratch.path, &geometry(OBJECTS, 16))
        .map_err(BenchError::setup("create the region"))?;
    region.become_primary(1);
    let mut hand = Hand::join(&region)?;
    hand.create(OBJECTS)?;
    hand.make_ready(0..OBJECTS)?;
    let path = scratch.path.display().to_string();
    let mut workers: Vec<Helper> = Vec::new();
    for count in COUNTS {
        while workers.len() < count {
            let core = cores[workers.len() % cores.len()];
            workers.push(Helper::start(options, core, "work", std::slice::from_ref(&path))?);
        }
        let cores_used = count.min(cores.len()) as f64;
        let rates =
            [measure(&mut workers, WITH_WORK, each)?, measure(&mut workers, WITHOUT_WORK, each)?];
        let cost = rates.map(|per_s| 1e9 * cores_used / per_s.max(f64::MIN_POSITIVE));
        sheet.at(count as u64, count.to_string(), vec![cost[0], cost[1], rates[0], rates[1]]);
    }
    Ok(sheet)
}

/// Commits a second, of all together.
fn measure(workers: &mut [Helper], order: u8, time: Duration) -> Result<f64, BenchError> {
    let mut rates = Vec::new();
    let until = monotonic_ns() + time.as_nanos() as u64;
    while rates.is_empty() || monotonic_ns() < until {
        let begun = monotonic_ns();
        let end = begun + SLICE.as_nanos() as u64;
        for worker in &mut *workers {
            worker.page().until.store(end, Ordering::Relaxed);
            worker.order(order);
        }
        // Their cores are theirs meanwhile.
        std::thread::sleep(SLICE);
        let mut count = 0;
        for worker in &mut *workers {
            worker.finish()?;
            count += worker.page().count.load(Ordering::Relaxed);
        }
        rates.push(count as f64 * 1e9 / (end - begun) as f64);
    }
    rates.sort_unstable_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}
