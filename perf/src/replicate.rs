//! `replicate`: how many objects of 256 B a pair takes into step in a second.
//!
//! ```text
//!   worker        node a                       node b
//!   commits ───►  gather, encode ── stream ──► validate, apply
//!                 released ◄───── datagram ─── ack
//! ```
//!
//! A worker commits as fast as the pair lets it, one object of 256 B a commit, and what is counted is what
//! is released: the back-up holds it. Against it, in alternating slices, a bare QUIC stream between the
//! same cores; the ratio is of bytes of values, so rows and acknowledgements are part of the price, and so
//! is the worker, who has no core of his own where there are two.

use std::time::{Duration, Instant};

use hotpair_shm::{Geometry, Region, Seq, SizeClass};

use crate::echo::certificates;
use crate::helper::Core;
use crate::objects::{self, BLOCK_BYTES, Hand, VALUE_BYTES};
use crate::options::Options;
use crate::pair::Pair;
use crate::registry::{Bench, BenchError};
use crate::report::{RateReport, Report, Stages, Tally};
use crate::slices::{Span, in_turn};
use crate::stream::{self, BareStream};

/// Name of the pair in its certificates.
const CLUSTER: &str = "bench";

const OBJECTS: u32 = 4_096;
const PARTICIPANTS: u16 = 8;

/// Commits that may wait to be gathered: more than a node takes in some turns.
const TX_ENTRIES: u32 = 8_192;

/// Long enough that beginning and end do not count.
const SLICE: Duration = Duration::from_millis(100);
/// About as long.
const SLICE_BYTES: u64 = 64 << 20;

/// Commits between two looks at the clock.
const STRIDE: u32 = 64;

const SECONDS: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_secs(1);

/// Commits that are not released by then never will be.
const RELEASE_MAX: Duration = Duration::from_secs(10);

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let cores = Core::for_hosts();
    let certificates = certificates(CLUSTER)?;
    let pair = Pair::form(bench.name, certificates.path(), &geometry(), cores)?;
    let mut stream = {
        let _pinned = cores[0].map(Core::hold).transpose()?;
        BareStream::start(certificates.path(), CLUSTER, cores[1])?
    };
    let mut hand = Hand::join(pair.region())?;
    hand.create(OBJECTS)?;
    hand.make_ready(0..OBJECTS)?;

    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let sides = in_turn(2, span, |side, tally: &mut Tally| {
        if side == 0 {
            let begun = Instant::now();
            let count = commit_for(&mut hand, SLICE)?;
            wait_for_release(pair.region())?;
            tally.add(count, begun.elapsed().as_nanos() as u64);
        } else {
            let _pinned = cores[0].map(Core::hold).transpose()?;
            let lasted = stream.transfer(SLICE_BYTES)?;
            tally.add(SLICE_BYTES / VALUE_BYTES as u64, lasted.as_nanos() as u64);
        }
        Ok(())
    })?;
    let [ours, bare] = &sides[..] else { unreachable!("as many as were asked for") };
    let report = RateReport::new(bench.name, bench.question, ours, stream::WHAT, bare);
    Ok(Report::Rate(report.with_stages(Stages::of(pair.region()))))
}

fn geometry() -> Geometry {
    let mut spare = 0;
    spare += 2 * TX_ENTRIES; // waits to be gathered, and retired by what was gathered
    spare += u32::from(PARTICIPANTS) * 128; // in the hands of participants
    Geometry {
        classes: vec![SizeClass { payload_bytes: BLOCK_BYTES, count: OBJECTS + spare }],
        tx_entries: TX_ENTRIES,
        ..objects::geometry(OBJECTS, PARTICIPANTS)
    }
}

/// Commits until the time is up; gives how often.
fn commit_for(hand: &mut Hand, time: Duration) -> Result<u64, BenchError> {
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < time {
        for _ in 0..STRIDE {
            hand.turn()?;
        }
        count += u64::from(STRIDE);
    }
    Ok(count)
}

/// Waits until the back-up holds all that was committed. A thread that looks would take the core from the
/// nodes: it sleeps, and a slice is much longer than such a sleep.
pub(crate) fn wait_for_release(region: &Region) -> Result<Seq, BenchError> {
    let begun = Instant::now();
    let last = region.commit_seq();
    while region.released() < last {
        if begun.elapsed() > RELEASE_MAX {
            let what = format!("{last} was not released within {RELEASE_MAX:?}");
            return Err(BenchError::setup("release a commit")(what));
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(last)
}
