//! Many runs, on all processors: each is a world of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::ledger::Violation;
use super::machine::Setup;
use super::world::{Report, World};

const FAULTS_MS: u64 = 2_500;
const HEAL_MS: u64 = 8_000;

/// Seeds that failed once, each with what was wrong. They are tried before all others.
const REGRESSIONS: &str = include_str!("regressions.txt");

/// Runs one seed.
pub(crate) fn run(seed: u64, setup: &Setup, tracing: bool) -> Result<Report, Violation> {
    World::new(seed, setup.clone(), tracing).run(FAULTS_MS, HEAL_MS)
}

/// Runs one seed, and lets the clients' histories alone say whether anything is wrong.
pub(crate) fn run_for_histories(seed: u64, setup: &Setup) -> Result<Report, Violation> {
    World::new(seed, setup.clone(), false).run_for_histories(FAULTS_MS)
}

/// Seeds to try: `SEED` alone, or the regressions and the first `SEEDS`.
pub(crate) fn seeds(ordinary: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| parse(&text));
    match number("SEED") {
        Some(seed) => vec![seed],
        None => regressions().into_iter().chain(0..number("SEEDS").unwrap_or(ordinary)).collect(),
    }
}

/// The seeds of the file: the first word of each line that is no comment.
fn regressions() -> Vec<u64> {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#'));
    let words = lines.filter_map(|line| line.split_whitespace().next());
    words.map(|word| parse(word).unwrap_or_else(|| panic!("{word} is no seed"))).collect()
}

fn parse(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// What each seed's run came to, in the order of the seeds. After a failure no more are begun.
pub(crate) fn sweep<T: Send>(
    seeds: &[u64],
    run: impl Fn(u64) -> Result<T, Violation> + Sync,
) -> Vec<(u64, Result<T, Violation>)> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed) as usize;
            let Some(&seed) = seeds.get(at) else { return done };
            let result = run(seed);
            if result.is_err() {
                next.store(seeds.len() as u64, Ordering::Relaxed);
            }
            done.push((at, seed, result));
        }
    };
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    let mut done = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let done = workers.into_iter().map(|worker| worker.join().expect("runs do not panic"));
        done.flatten().collect::<Vec<_>>()
    });
    done.sort_by_key(|(at, ..)| *at);
    done.into_iter().map(|(_, seed, result)| (seed, result)).collect()
}
