//! Death at random instants: eight workers and two ports are killed with SIGKILL again and again while they
//! work, and nothing is lost, doubled or leaked, and no memory grows.
//!
//! The whole is a sequence of rounds. In a round somebody is killed every 50 ms on average; then no new
//! messages come, all that is under way ends, the books are closed and memory is measured.
//!
//! Who is killed, when, and what each message asks for are drawn from a seed. What no seed can replay is
//! where in the victim's code the instant falls.
//!
//! `HOTPAIR_SOAK_SECONDS=600 cargo test --release -p hotpair-shm --test soak -- --nocapture` is the long form.

#[path = "soak/account.rs"]
mod account;
#[path = "soak/cast.rs"]
mod cast;
mod common;
#[path = "soak/ledger.rs"]
mod ledger;
#[path = "soak/processes.rs"]
mod processes;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use account::Account;
use cast::Flaw;
use common::random::Random;
use common::{TestRegion, small};
use hotpair_shm::{Geometry, Mode, QueueSpec, Reaper, Region, testing};
use processes::{Stage, act};

const WORKERS: usize = 8;
const PORTS: usize = 2;

/// Time between two kills, on average.
const BETWEEN_KILLS_MS: u64 = 50;

/// Longest wait for what is bound to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Memory that a process may have more in the last round than in the first: what allocators and stacks take when
/// a rare path is taken for the first time. A leak of 20 bytes a commit is more in half a minute.
const MEMORY_SLACK_KIB: u64 = 512;

/// Not a test of its own: what the processes of the tests below run.
#[test]
fn child() {
    act();
}

#[test]
fn nothing_is_lost_doubled_or_leaked_when_processes_are_killed() {
    let seconds = std::env::var("HOTPAIR_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let duration = Duration::from_secs(seconds.unwrap_or(8));
    let outcome = soak(duration, Flaw::None, seeded("nothing_is_lost"));
    assert!(outcome.problems.is_empty(), "{:#?}", outcome.problems);
    let least = duration.as_millis() as u64 / BETWEEN_KILLS_MS / 10;
    assert!(outcome.kills > least && outcome.messages > 20 * least, "{outcome:?}");
}

#[test]
fn a_worker_that_forgets_a_message_is_noticed() {
    let outcome = soak(Duration::from_secs(2), Flaw::Forgets, seeded("forgets"));
    assert!(outcome.problems.iter().any(|problem| problem.starts_with("lost:")), "{outcome:?}");
}

#[test]
fn a_worker_that_answers_twice_is_noticed() {
    let outcome = soak(Duration::from_secs(2), Flaw::Repeats, seeded("answers_twice"));
    assert!(outcome.problems.iter().any(|problem| problem.starts_with("doubled:")), "{outcome:?}");
}

#[test]
fn a_node_that_hoards_memory_is_noticed() {
    let outcome = soak(Duration::from_secs(4), Flaw::Hoards, seeded("hoards"));
    assert!(outcome.problems.iter().any(|problem| problem.starts_with("grown:")), "{outcome:?}");
}

fn seeded(test: &str) -> Random {
    let command = format!("cargo test -p hotpair-shm --test soak {test} -- --nocapture");
    Random::seeded("HOTPAIR_SOAK_SEED", &command)
}

#[derive(Debug, Default)]
struct Outcome {
    problems: Vec<String>,
    kills: u64,
    messages: u64,
}

fn geometry() -> Geometry {
    let mut geometry = small();
    geometry.max_attempts = 10_000; // the workers are innocent
    geometry.queues = vec![
        QueueSpec { name: "work".into(), lanes: 2 },
        QueueSpec { name: "errands".into(), lanes: 1 },
    ];
    geometry.ports = (0..PORTS).map(|port| format!("port{port}")).collect();
    geometry.slots = 512;
    geometry.participants = 48;
    for class in &mut geometry.classes {
        class.count *= 8;
    }
    geometry
}

fn soak(duration: Duration, flaw: Flaw, mut random: Random) -> Outcome {
    // One at a time: two would only wait for each other's processes.
    static STAGE: Mutex<()> = Mutex::new(());
    let _alone = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let test = TestRegion::new(&geometry());
    let region = &test.region;
    let rounds = (duration.as_secs() / 20).max(2);
    let mut stage = Stage::new(test.path(), flaw, random.next());
    let mut outcome = Outcome::default();
    let mut before = Vec::new();
    let begun = Instant::now();
    for _ in 0..rounds {
        stage.open();
        let round = duration / rounds as u32;
        let seen = kill_for(round, region, &mut stage, &mut random, &mut outcome.kills);
        outcome.problems.extend(seen);
        stage.drain();
        wait_until_calm(region);
        stage.close_ports();
        let memory = stage.memory_kib();
        let problems = stage.close_books(&accounts(region));
        outcome.problems.extend(problems);
        outcome.problems.extend(leaks(region));
        println!(
            "{:4.0} s: {} kills, {:?}, blocks in use {}, KiB of node, workers, ports {memory:?}",
            begun.elapsed().as_secs_f64(),
            outcome.kills,
            stage.totals(),
            region.status().blocks_in_use(),
        );
        before.push(memory);
        if !outcome.problems.is_empty() {
            break;
        }
    }
    outcome.messages = stage.totals().messages;
    stage.end(region);
    outcome.problems.extend(left_behind(region));
    for (role, name) in ["node", "workers", "ports"].into_iter().enumerate() {
        let (first, last) = (before[0][role], before[before.len() - 1][role]);
        if last > first + MEMORY_SLACK_KIB {
            outcome.problems.push(format!("grown: {name} from {first} KiB to {last} KiB"));
        }
    }
    outcome
}

/// One round of kills. Returns what an onlooker found wrong meanwhile.
fn kill_for(
    round: Duration,
    region: &Region,
    stage: &mut Stage,
    random: &mut Random,
    kills: &mut u64,
) -> Vec<String> {
    let mut problems = Vec::new();
    let begun = Instant::now();
    let mut at = Duration::ZERO;
    while at < round {
        at += Duration::from_millis(1 + random.below(2 * BETWEEN_KILLS_MS));
        std::thread::sleep(at.saturating_sub(begun.elapsed()));
        let victim = random.below((WORKERS + PORTS) as u64) as usize;
        stage.kill(victim);
        *kills += 1;
        if kills.is_multiple_of(16) {
            // In the middle of it all, with somebody just killed and not reaped yet.
            let report = region.verify(Mode::Online);
            problems.extend(report.findings.iter().map(|finding| format!("online: {finding:?}")));
        }
        stage.replace(victim);
    }
    problems
}

/// Until no object is ready or claimed or has a timer, and no packet waits.
fn wait_until_calm(region: &Region) {
    let begun = Instant::now();
    loop {
        let status = region.status();
        let busy: u64 = status.queues.iter().map(|q| q.ready + q.claimed + q.waiting).sum();
        if busy + status.packets_waiting == 0
            && region.objects().all(|object| object.deadline.is_none())
            // Not in the middle of a commit that the first look could not see.
            && region.status().commit_seq == status.commit_seq
        {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "never calm: {status:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn accounts(region: &Region) -> Vec<Account> {
    region.objects().map(|object| Account::from_bytes(&object.value)).collect()
}

/// While all is calm: objects without a key are gone, and each object has one block, its value.
fn leaks(region: &Region) -> Vec<String> {
    let (objects, single): (Vec<_>, Vec<_>) =
        region.objects().partition(|object| !object.key.is_empty());
    let in_use = region.status().blocks_in_use();
    let mut problems = Vec::new();
    if !single.is_empty() {
        problems.push(format!("leaked: {} objects without a key", single.len()));
    }
    // The node collects what was sent in its own time.
    let begun = Instant::now();
    while region.status().blocks_in_use() != objects.len() as u64 {
        if begun.elapsed() > PATIENCE {
            problems.push(format!("leaked: {in_use} blocks in use by {} objects", objects.len()));
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    problems
}

/// When everybody is dead and reaped: every block is free or a value, and every word fits every other.
fn left_behind(region: &Region) -> Vec<String> {
    Reaper::new(region.clone()).run_once();
    Reaper::new(region.clone()).run_once();
    let status = region.status();
    let mut problems = testing::audit(region);
    for class in status.classes.iter().filter(|class| class.free + class.in_use != class.total) {
        problems.push(format!("leaked: blocks in dead hands: {class:?}"));
    }
    let report = region.verify(Mode::Strict);
    problems.extend(report.findings.iter().map(|finding| format!("strict: {finding:?}")));
    problems
}
