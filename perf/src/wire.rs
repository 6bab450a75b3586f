//! `wire`: how many bytes pass between the nodes of a pair for each byte that a worker has changed.
//!
//! ```text
//!   worker        node a                     relay                  node b
//!   commits ───►  gather, encode, seal ──►  counts datagrams  ──►  apply
//!                                      ◄──  and their bytes   ◄──  acknowledge
//! ```
//!
//! Headers of IP and UDP, rows, encryption and acknowledgements are part of the price. What a commit costs in bytes depends on how
//! many share a batch and its packets: with one at a time a batch has one.

use std::time::{Duration, Instant};

use hotpair_shm::{Geometry, SizeClass};

use crate::echo::certificates;
use crate::helper::Core;
use crate::objects::{self, Hand, touch};
use crate::options::Options;
use crate::pair::{Pair, Stage};
use crate::registry::{Bench, BenchError};
use crate::replicate::wait_for_release;
use crate::report::{Report, Sheet, SheetReport};

/// Name of the pair in its certificates.
const CLUSTER: &str = "bench";

const OBJECTS: u32 = 256;
const PARTICIPANTS: u16 = 8;
const TX_ENTRIES: u32 = 512;

const SMALL: usize = 256;
const LARGE: usize = 64 << 10;
/// Bytes of a piece that is changed.
const PIECE: usize = 64;

const SECONDS: Duration = Duration::from_secs(4);

/// Bursts before anything counts.
const WARM_UP: u32 = 20;

/// What a worker does to its values.
struct Load {
    label: &'static str,
    /// Commits that are under way at once.
    burst: u32,
    /// Pieces that change in each value; all of it without.
    pieces: Option<usize>,
}

const fn load(label: &'static str, burst: u32, pieces: Option<usize>) -> Load {
    Load { label, burst, pieces }
}

/// The first one is the figure.
const WHOLE: &[Load] = &[
    load("256 B, all of it, 100 commits at once", 100, None),
    load("256 B, all of it, 10 at once", 10, None),
    load("256 B, all of it, one at a time", 1, None),
    load("256 B, 64 B of it, 100 at once", 100, Some(1)),
];
const FEW: &[Load] = &[
    load("64 KiB, 4 pieces of 64 B, one at a time", 1, Some(4)),
    load("64 KiB, 1 piece of 64 B, one at a time", 1, Some(1)),
    load("64 KiB, 64 pieces of 64 B, one at a time", 1, Some(64)),
    load("64 KiB, all of it, one at a time", 1, None),
];

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let (value_bytes, loads) = if options.few { (LARGE, FEW) } else { (SMALL, WHOLE) };
    let cores = Core::for_hosts();
    let certificates = certificates(CLUSTER)?;
    let stage = Stage::new(bench.name, certificates.path(), &geometry(value_bytes), cores)?;
    let pair = Pair::on(stage.counted()?)?;
    let mut hand = Hand::join(pair.region())?;
    hand.create_with(OBJECTS, &vec![1; value_bytes])?;
    hand.make_ready(0..OBJECTS)?;

    let columns = [
        ("a changed byte", "bytes"),
        ("a byte of value", "bytes"),
        ("a commit", "bytes"),
        ("datagrams a commit", ""),
        ("heartbeats, a second", "bytes"),
    ];
    let mut sheet =
        Sheet::new("wire", "bytes between the nodes, both ways", "what is committed", &columns);
    let each = options.seconds.unwrap_or(SECONDS) / loads.len() as u32;
    for load in loads {
        let seen = measure(&pair, &mut hand, load, each)?;
        let changed = load.pieces.map_or(value_bytes, |pieces| pieces * PIECE) as f64;
        let row = vec![
            seen.bytes / changed,
            seen.bytes / value_bytes as f64,
            seen.bytes,
            seen.datagrams,
            seen.heartbeats,
        ];
        sheet.named(load.label.to_owned(), row);
    }
    let first = sheet.rows[0].seen.clone().unwrap_or_default();
    let (figure, limit) = match options.few {
        true => (
            ("a byte of 64 KiB values, of which 4 pieces of 64 B change", first[1]),
            ("the changed bytes", 4.0 * PIECE as f64 / LARGE as f64),
        ),
        false => (
            ("a changed byte, values of 256 B, 100 commits at once", first[0]),
            ("the changed bytes", 1.0),
        ),
    };
    let (name, question) = (bench.name, bench.question);
    Ok(Report::Sheet(SheetReport::new(name, question, bench.unit, figure, limit, vec![sheet])))
}

fn geometry(value_bytes: usize) -> Geometry {
    let mut geometry = objects::geometry_of(OBJECTS, PARTICIPANTS, value_bytes);
    let SizeClass { count, .. } = &mut geometry.classes[0];
    *count += 2 * TX_ENTRIES; // waits to be gathered, and retired by what was gathered
    geometry.tx_entries = TX_ENTRIES;
    // Messages, by which objects come into being, are short.
    geometry.classes.push(SizeClass { payload_bytes: objects::MESSAGE_BYTES, count: 4 * OBJECTS });
    geometry
}

/// For each commit; heartbeats for each second.
struct Seen {
    bytes: f64,
    datagrams: f64,
    heartbeats: f64,
}

fn measure(pair: &Pair, hand: &mut Hand, load: &Load, time: Duration) -> Result<Seen, BenchError> {
    for _ in 0..WARM_UP {
        burst(pair, hand, load)?;
    }
    let ([changes, heartbeats], begun) = (pair.passed(), Instant::now());
    let mut commits = 0.0;
    while commits == 0.0 || begun.elapsed() < time {
        burst(pair, hand, load)?;
        commits += f64::from(load.burst);
    }
    let ([changes_now, heartbeats_now], lasted) = (pair.passed(), begun.elapsed().as_secs_f64());
    let passed = changes_now.since(changes);
    Ok(Seen {
        bytes: passed.bytes as f64 / commits,
        datagrams: passed.datagrams as f64 / commits,
        heartbeats: heartbeats_now.since(heartbeats).bytes as f64 / lasted,
    })
}

/// Some commits, and the back-up has them.
fn burst(pair: &Pair, hand: &mut Hand, load: &Load) -> Result<(), BenchError> {
    for _ in 0..load.burst {
        match load.pieces {
            None => hand.turn()?,
            Some(pieces) => hand.turn_on(|value| touch(value, pieces))?,
        }
    }
    wait_for_release(pair.region()).map(drop)
}
