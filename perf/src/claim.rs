//! `claim`, `claim-cold`, `claim-cold-4k`: what one claim, read, write of 256 B and commit cost one worker.
//!
//! The region is primary and nothing else works on it; nobody waits for anybody. So this is the price
//! of the machinery itself, in instructions and cache misses, and not a latency of a service: the loop
//! is closed, and each value includes one reading of the clock (about 25 ns), as the limit's do.
//!
//! Hot, a few objects take turns and stay in the cache. Cold, a million come in random order, so that
//! each claim meets a slot and a value that are in no cache. `claim-cold` asks for huge pages, as
//! `huge_pages = "try"` does; where the kernel does not give them for everything it says so. In pages of 4 KiB
//! slot and value are mostly in no TLB either. The limit's memory is made the same.

mod plain;

use std::time::Duration;

use hotpair_shm::{Pages, Region, SizeClass};

use crate::failover::write_files;
use crate::histogram::Histogram;
use crate::objects::{Hand, MESSAGE_BYTES, geometry};
use crate::options::Options;
use crate::peers::lmdb;
use crate::registry::{Bench, BenchError};
use crate::report::{LatencyReport, Report, Unit};
use crate::scratch::Scratch;
use crate::slices::{Span, closed_loop, in_turn};
use plain::Plain;

/// Objects that take turns when hot: few enough to stay in the cache.
const HOT_OBJECTS: u32 = 64;

/// Objects when cold: far more than any cache holds.
const COLD_OBJECTS: u32 = 1_000_000;

/// Operations of the thing, then of the limit, before it is the other's turn again: long enough to
/// be hot, short enough to share every mood of the machine.
const SLICE: u32 = 2_000;

const SECONDS: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(300);

pub(crate) fn hot(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let order: Vec<u32> = (0..HOT_OBJECTS).collect();
    let limit = "the same bytes and compare-and-swaps in plain code";
    measure(bench, options, &order, false, limit)
}

pub(crate) fn cold(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let order = shuffled(options.objects.unwrap_or(COLD_OBJECTS));
    let limit = "the same bytes and compare-and-swaps at random in plain code";
    measure(bench, options, &order, true, limit)
}

pub(crate) fn cold_small(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let _small = SmallPages::only()?;
    let order = shuffled(options.objects.unwrap_or(COLD_OBJECTS));
    let limit = "the same bytes and compare-and-swaps at random in plain code, 4 KiB pages";
    measure(bench, options, &order, false, limit)
}

fn measure(
    bench: &Bench,
    options: &Options,
    order: &[u32],
    huge: bool,
    limit_is: &str,
) -> Result<Report, BenchError> {
    let Place { scratch, region, mut hand, mut plain } = Place::set(bench.name, order, huge)?;
    let mut peer = lmdb::Objects::create(&scratch.path, order)?;
    let limit_is =
        if huge { format!("{limit_is}, {}", same(&region, &plain)?) } else { limit_is.into() };

    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let sides = 2 + usize::from(peer.is_some());
    let sides = in_turn(sides, span, |side, histogram: &mut Histogram| match (side, &mut peer) {
        (0, _) => closed_loop(histogram, SLICE, || hand.turn()),
        (2, Some(peer)) => closed_loop(histogram, SLICE, || peer.turn()),
        _ => closed_loop(histogram, SLICE, || {
            plain.turn();
            Ok(())
        }),
    })?;
    write_files(options, &sides[0])?;
    let report = LatencyReport::new(
        bench.name,
        bench.question,
        Unit::Nanoseconds,
        &sides[0],
        &limit_is,
        &sides[1],
    );
    let peer_is = lmdb::name();
    Ok(Report::Latency(report.with_peer(sides.get(2).map(|peer| (peer_is.as_str(), peer)))))
}

/// Objects, a worker that claims them in turn, and the plain code that does as much.
struct Place {
    scratch: Scratch,
    region: Region,
    hand: Hand,
    plain: Plain,
}

impl Place {
    fn set(bench: &str, order: &[u32], huge: bool) -> Result<Self, BenchError> {
        let scratch = Scratch::new(bench);
        let objects = order.len() as u32;
        let mut geometry = geometry(objects, 4);
        if objects > HOT_OBJECTS {
            // Each is made ready by a message before the first is claimed.
            geometry.classes.push(SizeClass { payload_bytes: MESSAGE_BYTES, count: objects });
        }
        let pages = Pages { huge, ..Pages::default() };
        let region = Region::create_with(&scratch.path, &geometry, pages)
            .map_err(BenchError::setup("create the region"))?;
        region.become_primary(1);
        let mut hand = Hand::join(&region)?;
        hand.create(objects)?;
        hand.make_ready(order.iter().copied())?;
        Ok(Place { scratch, region, hand, plain: Plain::new(order) })
    }
}

/// Nanoseconds of a turn at random among so many objects, and of one of plain code: p50.
pub(crate) fn cold_turns(
    bench: &str,
    objects: u32,
    huge: bool,
    time: Duration,
) -> Result<[u64; 2], BenchError> {
    let mut place = Place::set(bench, &shuffled(objects), huge)?;
    if huge {
        same(&place.region, &place.plain)?;
    }
    let span = Span { warm_up: WARM_UP.min(time), measure: time };
    let sides = in_turn(2, span, |side, histogram: &mut Histogram| match side {
        0 => closed_loop(histogram, SLICE, || place.hand.turn()),
        _ => closed_loop(histogram, SLICE, || {
            place.plain.turn();
            Ok(())
        }),
    })?;
    Ok([0, 1].map(|side| sides[side].summary().p50))
}

/// Gives the limit huge pages too if the region has them, and says what both have.
fn same(region: &Region, plain: &Plain) -> Result<String, BenchError> {
    let huge = region.huge_bytes().map_err(BenchError::setup("look at the region's pages"))?;
    Ok(match region.shortfalls() {
        [] => {
            let refused = plain.in_huge_pages().err();
            let but =
                refused.map_or(String::new(), |error| format!(", the limit's not all: {error}"));
            format!("{} MiB of the region in huge pages{but}", huge >> 20)
        }
        [missing, ..] => format!("4 KiB pages: {missing}"),
    })
}

/// All numbers below `count` in an order that no prefetcher guesses, the same in each run.
pub(crate) fn shuffled(count: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..order.len()).rev() {
        // xorshift64: the quality of the numbers does not matter, only that nobody foresees them.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, (state % (at as u64 + 1)) as usize);
    }
    order
}

/// While it lives, this process gets no huge pages: the limit's heap would, the region would not.
pub(crate) struct SmallPages {
    disabled_before: bool,
}

impl SmallPages {
    pub(crate) fn only() -> Result<Self, BenchError> {
        let failed = || BenchError::setup("do without huge pages");
        let disabled_before = nix::sys::prctl::get_thp_disable().map_err(failed())?;
        nix::sys::prctl::set_thp_disable(true).map_err(failed())?;
        Ok(SmallPages { disabled_before })
    }
}

impl Drop for SmallPages {
    fn drop(&mut self) {
        let _ = nix::sys::prctl::set_thp_disable(self.disabled_before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffling_keeps_every_number_and_few_neighbours() {
        let order = shuffled(10_000);
        let neighbours = order.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 8).count();
        assert!(neighbours < 100, "{neighbours}");
        let mut sorted = order;
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(at, number)| at as u32 == *number));
    }
}
