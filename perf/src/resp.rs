//! `resp`: the store of `examples/resp` under `redis-benchmark`, beside Redis with a replica.
//!
//! ```text
//!   core of the first host                     core of the second
//!   node a, port `resp port`, `resp worker`    node b, witness, redis-benchmark       SET, GET
//!   redis-server                               its replica, redis-benchmark           SET, GET
//!   redis-server                               its replica, a crowd of ours           SET, WAIT 1
//! ```
//!
//! Each has the same connections, keys, values and cores, and their slices take turns. A `SET` of ours is answered when the
//! back-up has it, so what is like it in Redis is a `SET` with `WAIT 1` behind it: `redis-benchmark` sends commands of one kind, so a
//! crowd of our own sends those. After each slice the pair has to be protected still, or nothing of this would be true.

mod benchmark;
mod crowd;
mod keys;

use std::path::PathBuf;
use std::time::Duration;

use benchmark::{Benchmark, Found};
use crowd::Crowd;

use crate::helper::Core;
use crate::options::Options;
use crate::proc::{Spent, spent};
use crate::processes::{Configuration, Processes, Side};
use crate::redis::Redis;
use crate::registry::{Bench, BenchError};
use crate::report::{RateReport, Report, Sheet, Tally};
use crate::slices::{Collected, Span, in_turn};

/// Connections of the load.
const CONNECTIONS: usize = 50;

/// Node, port, worker of the connections, worker of the keys.
const SEATS: usize = 4;

const SECONDS: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(100);

/// A slice is meant to take so long, by what the one before took.
const SLICE: Duration = Duration::from_millis(250);
/// The first one, of which nobody knows what it will take.
const FIRST_REQUESTS: u64 = 2_000;

const MEASURE: &str = "measure the store";

/// The sides, in their turns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Set,
    Get,
    RedisSet,
    RedisGet,
    RedisSetAndWait,
}

const TURNS: [Turn; 5] =
    [Turn::Set, Turn::Get, Turn::RedisSet, Turn::RedisGet, Turn::RedisSetAndWait];

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let cores = Core::for_hosts();
    let pipeline = options.inflight.unwrap_or(1);
    let load = Benchmark::find(cores[1], CONNECTIONS, pipeline)?;
    let store = store(options)?;
    let pair = Processes::start(bench.name, options, SEATS, |side| configuration(side, &store))?;
    let region = pair.observe()?;
    let service = pair.services[0];
    let redis = Redis::start(cores)?;
    let _pinned = cores[1].map(Core::hold).transpose()?;
    let failed = || BenchError::setup(MEASURE);
    Crowd::connect(service, 1).and_then(|mut one| one.fill()).map_err(failed())?;
    let mut waiting = match &redis {
        None => None,
        Some(redis) => {
            Crowd::connect(redis.address(), 1).and_then(|mut one| one.fill()).map_err(failed())?;
            Some(Crowd::connect(redis.address(), CONNECTIONS).map_err(failed())?)
        }
    };

    let mut parties = pair.parties();
    parties.extend(redis.iter().flat_map(Redis::parties));
    let turns = if redis.is_some() { &TURNS[..] } else { &TURNS[..2] };
    let mut requests = [FIRST_REQUESTS; TURNS.len()];
    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let sides = in_turn(turns.len(), span, |side, seen: &mut Seen| {
        let count = requests[side];
        let before = look(&parties);
        let address = match turns[side] {
            Turn::Set | Turn::Get => service,
            _ => redis.as_ref().expect("it has turns").address(),
        };
        let found = match (turns[side], &mut waiting) {
            (Turn::RedisSetAndWait, Some(crowd)) => crowd.set_and_wait(count).map_err(failed())?,
            (Turn::Set | Turn::RedisSet, _) => load.run(address, "set", count)?,
            _ => load.run(address, "get", count)?,
        };
        seen.add(found, &before, &look(&parties));
        let protected = region.report().protected;
        if address == service && !protected {
            let why = "the back-up was given up meanwhile: what was answered was on one side only";
            return Err(BenchError::setup(MEASURE)(why));
        }
        requests[side] = ((found.per_s * SLICE.as_secs_f64()) as u64).max(FIRST_REQUESTS);
        Ok(())
    })?;
    Ok(Report::Rate(report(bench, redis.as_ref(), &sides, &parties)))
}

fn report(
    bench: &Bench,
    redis: Option<&Redis>,
    sides: &[Seen],
    parties: &[(u32, String)],
) -> RateReport {
    let set = &sides[0];
    let sheets = vec![commands(sides), costs(set, sides.get(2), parties)];
    let beside = redis.zip(sides.get(2)).zip(sides.get(4));
    let beside = beside.map(|((redis, plain), waited)| {
        ((redis.name_without_wait(), &plain.tally), (redis.name(), &waited.tally))
    });
    match beside {
        None => RateReport::alone(bench.name, bench.question, &set.tally),
        Some(((limit_is, limit), (peer_is, peer))) => {
            RateReport::new(bench.name, bench.question, &set.tally, &limit_is, limit)
                .with_peer(&set.tally, &peer_is, peer)
        }
    }
    .with_sheets(sheets)
}

/// What each side has seen in its slices.
#[derive(Default)]
struct Seen {
    tally: Tally,
    requests: u64,
    /// Microseconds of a request, of each slice.
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    /// By whom.
    spent: Vec<Spent>,
}

impl Collected for Seen {
    fn slice_ended(&mut self, from: Duration, to: Duration) {
        self.tally.slice_ended(from, to);
    }
}

impl Seen {
    fn add(&mut self, found: Found, before: &[Spent], after: &[Spent]) {
        self.tally.add(found.requests, (found.requests as f64 / found.per_s * 1e9) as u64);
        self.requests += found.requests;
        self.p50_us.push(found.p50_us);
        self.p99_us.push(found.p99_us);
        self.spent.resize(before.len(), Spent::default());
        for ((sum, now), then) in self.spent.iter_mut().zip(after).zip(before) {
            *sum = sum.and(now.since(*then));
        }
    }
}

fn look(parties: &[(u32, String)]) -> Vec<Spent> {
    parties.iter().map(|(pid, _)| spent(*pid).unwrap_or_default()).collect()
}

/// Each command, ours beside Redis where it is installed.
fn commands(sides: &[Seen]) -> Sheet {
    let ours = [("hotpair", "per_s"), ("p50", "us"), ("p99", "us")];
    let theirs = [("Redis", "per_s"), ("its p50", "us"), ("its p99", "us"), ("ratio", "")];
    let with_redis = sides.len() > 2;
    let columns = [&ours[..], if with_redis { &theirs[..] } else { &[] }].concat();
    let question =
        "by command: times of a request as redis-benchmark saw them, a whole pipeline of it";
    let mut sheet = Sheet::new("commands", question, "command", &columns);
    let figures =
        |seen: &Seen| vec![seen.tally.per_s(), middle(&seen.p50_us), middle(&seen.p99_us)];
    for (label, ours, theirs) in [("SET", 0, 2), ("GET", 1, 3), ("SET; Redis: and WAIT 1", 0, 4)] {
        let mut row = figures(&sides[ours]);
        if let Some(theirs) = sides.get(theirs) {
            row.extend(figures(theirs));
            row.push(sides[ours].tally.per_s() / theirs.tally.per_s().max(f64::MIN_POSITIVE));
        } else if theirs == 4 {
            continue;
        }
        sheet.named(label.to_owned(), row);
    }
    sheet
}

/// That of the slice in the middle, as for rates.
fn middle(of_slices: &[f64]) -> f64 {
    let mut sorted = of_slices.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// What a `SET` costs each process, as far as it takes part in it.
fn costs(ours: &Seen, redis: Option<&Seen>, parties: &[(u32, String)]) -> Sheet {
    let columns = [("wake-ups", ""), ("processor", "us")];
    let question = "what a SET costs each process: wake-ups, time on the processor";
    let mut sheet = Sheet::new("costs", question, "process", &columns);
    for (at, (_, name)) in parties.iter().enumerate() {
        let seen = if name.starts_with("Redis") { redis } else { Some(ours) };
        let Some(seen) = seen else { continue };
        let each = |sum: u64| sum as f64 / seen.requests.max(1) as f64;
        let spent = seen.spent.get(at).copied().unwrap_or_default();
        let (wakes, us) = (each(spent.wakes), each(spent.cpu_ns) / 1e3);
        if us >= 0.05 {
            sheet.named(name.clone(), vec![wakes, us]);
        }
    }
    sheet
}

/// The program of the store: an example, which a build puts beside this program.
fn store(options: &Options) -> Result<PathBuf, BenchError> {
    let program = options.program()?;
    let directory = program.parent().unwrap_or(&program);
    let places = [directory.join("examples").join("resp"), directory.join("resp")];
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        BenchError::setup("find the store")(format!(
            "neither {} nor {} is there: build it as this program was built, with `cargo build --example resp`",
            places[0].display(),
            places[1].display()
        ))
    })
}

fn configuration(side: &Side<'_>, store: &std::path::Path) -> Configuration {
    let service = side.service;
    let region = format!(
        r#"slots = 65536
# Connections, answers that say OK; values; batches of commands and their answers.
[[region.class]]
payload_bytes = 128
blocks = 65536
[[region.class]]
payload_bytes = 512
blocks = 65536
[[region.class]]
payload_bytes = 16384
blocks = 2048
[[queue]]
name = "connections"
overload = "hold"
[[queue]]
name = "keys"
[[port]]
name = "store"
kind = "tcp"
queue = "connections"
bind = "{service}"
# The port of the service cuts the stream itself.
framing = "pieces"
command = [{store:?}, "port", "--socket", "{service}"]
[[worker]]
queue = "connections"
command = [{store:?}, "worker"]
[[worker]]
queue = "keys"
command = [{store:?}, "expire"]
"#
    );
    // Nobody dies here, and a load that keeps both cores busy must not look like it.
    let replication = "ack_wait = \"5s\"\n[heartbeat]\nmisses = 400";
    Configuration { replication, region }
}
