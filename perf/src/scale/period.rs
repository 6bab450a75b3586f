//! How often a batch is closed, in a pair whose commits nobody waits for.
//!
//! A packet or a caller that waits closes a batch at once, whatever the period: this is about the rest.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hotpair_shm::{Geometry, SizeClass};

use crate::echo::certificates;
use crate::helper::Core;
use crate::histogram::Histogram;
use crate::objects::{self, Hand, MESSAGE_BYTES};
use crate::pair::{Pair, Stage};
use crate::registry::BenchError;
use crate::replicate::wait_for_release;
use crate::report::Sheet;

/// Name of the pair in its certificates.
const CLUSTER: &str = "bench";

const PERIODS_US: [u64; 5] = [100, 400, 1_000, 4_000, 16_000];

const OBJECTS: u32 = 1_024;
const PARTICIPANTS: u16 = 8;
const TX_ENTRIES: u32 = 4_096;

/// 10,000 commits a second, in small steps.
const STEP: Duration = Duration::from_micros(200);
const A_STEP: u32 = 2;

pub(super) fn curve(each: Duration) -> Result<Sheet, BenchError> {
    let columns = [
        ("to released, p50", "ns"),
        ("p99", "ns"),
        ("node a's processor, a commit", "ns"),
        ("node b's processor, a commit", "ns"),
        ("on the wire, a commit", "bytes"),
        ("datagrams a commit", ""),
    ];
    let question = "by the period at which batches are closed, 10,000 commits of 256 B a second that nobody waits for; from a commit until the back-up has it";
    let mut sheet = Sheet::new("period", question, "period, us", &columns);
    let certificates = certificates(CLUSTER)?;
    let cores = Core::for_hosts();
    for period in PERIODS_US {
        let stage = Stage::new("scale", certificates.path(), &geometry(), cores)?;
        let stage = stage.counted()?.with_period(Duration::from_micros(period));
        let pair = Pair::on(stage)?;
        let mut hand = Hand::join(pair.region())?;
        hand.create(OBJECTS)?;
        hand.make_ready(0..OBJECTS)?;
        load(&pair, &mut hand, each / 4)?;
        let nodes = [0, 1].map(|side| pair.watched(side));
        let look = || (nodes.each_ref().map(|node| node.spent()), pair.passed()[0]);
        let (spent, passed) = look();
        let (times, commits) = load(&pair, &mut hand, each)?;
        let (spent_now, passed_now) = look();
        let cpu = |node: usize| spent_now[node].since(spent[node]).cpu_ns as f64 / commits;
        let passed = passed_now.since(passed);
        let seen = times.summary();
        let row = vec![
            seen.p50 as f64,
            seen.p99 as f64,
            cpu(0),
            cpu(1),
            passed.bytes as f64 / commits,
            passed.datagrams as f64 / commits,
        ];
        sheet.at(period, super::grouped(period as u32), row);
    }
    Ok(sheet)
}

fn geometry() -> Geometry {
    let mut geometry = objects::geometry(OBJECTS, PARTICIPANTS);
    geometry.classes[0].count += 2 * TX_ENTRIES;
    geometry.tx_entries = TX_ENTRIES;
    geometry.classes.push(SizeClass { payload_bytes: MESSAGE_BYTES, count: 4 * OBJECTS });
    geometry
}

/// Commits for so long; gives how long each took to be released, to a step's length, and how many there were.
fn load(pair: &Pair, hand: &mut Hand, time: Duration) -> Result<(Histogram, f64), BenchError> {
    let mut times = Histogram::new();
    let mut waiting = VecDeque::new();
    let (begun, mut due, mut commits) = (Instant::now(), Instant::now(), 0.0);
    while commits == 0.0 || begun.elapsed() < time {
        for _ in 0..A_STEP {
            hand.turn()?;
            waiting.push_back((pair.region().commit_seq(), Instant::now()));
            commits += 1.0;
        }
        due += STEP;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let released = pair.region().released();
        while let Some((_, since)) = waiting.pop_front_if(|(seq, _)| *seq <= released) {
            times.record(since.elapsed());
        }
    }
    wait_for_release(pair.region())?;
    waiting.drain(..).for_each(|(_, since)| times.record(since.elapsed()));
    Ok((times, commits))
}
