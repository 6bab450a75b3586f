//! Random sequences of requests to a region, in one process, against an oracle that does the same in the
//! obvious way: maps and queues.
//!
//! Each sequence comes from a seed; one that fails is cut down to a short one that fails the same way.
//! `HOTPAIR_MODEL_RUNS=20000 cargo test --release -p hotpair-shm --test model` tries more of them. The same
//! requests are the input of `fuzz/fuzz_targets/region_ops.rs`.

mod common;
#[path = "model/ops.rs"]
mod ops;
#[path = "model/oracle.rs"]
mod oracle;
#[path = "model/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use common::random::Random;
use ops::Op;
use world::World;

/// Requests of one sequence.
const LENGTH: usize = 300;

/// Tries that cutting a failed sequence down may take.
const CUTS_MAX: usize = 3000;

#[test]
fn a_region_does_what_its_oracle_does() {
    let runs = std::env::var("HOTPAIR_MODEL_RUNS").ok().and_then(|text| text.parse().ok());
    let command = "cargo test -p hotpair-shm --test model a_region_does";
    let mut random = Random::seeded("HOTPAIR_MODEL_SEED", command);
    for _ in 0..runs.unwrap_or(50) {
        let bytes: Vec<u8> =
            (0..LENGTH).flat_map(|_| (random.next() as u32).to_le_bytes()).collect();
        let ops = Op::all_of(&bytes);
        if let Err(reason) = outcome(&ops) {
            let short = cut_down(ops);
            panic!("{reason}\nthe shortest that was found to fail:\n{short:#?}");
        }
    }
}

/// Goal: the comparison looks at what it says. A region whose oracle missed one request differs.
#[test]
fn a_request_that_only_the_region_got_is_noticed() {
    let ops =
        [Op::Deliver { queue: 1, key: Some(1) }, Op::Claim { worker: 0, queue: 1 }, Op::Commit];
    let mut world = World::new(&name());
    world.run(&ops);
    world.deliver_unnoticed(1, 1);
    assert!(catch_unwind(AssertUnwindSafe(|| world.run(&[Op::Sweep]))).is_err());
}

fn name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("model.{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// What was different, if anything was.
fn outcome(ops: &[Op]) -> Result<(), String> {
    let run = AssertUnwindSafe(|| World::new(&name()).run(ops));
    catch_unwind(run).map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast::<&str>().map_or_else(|_| "a panic".into(), |t| t.to_string()),
    })
}

/// Takes requests out as long as the rest still fails: first many at once, then few.
fn cut_down(mut ops: Vec<Op>) -> Vec<Op> {
    std::panic::set_hook(Box::new(|_| {})); // thousands of the same
    let mut cuts = 0;
    let mut width = ops.len().div_ceil(2);
    while width > 0 {
        let mut at = 0;
        while at < ops.len() && cuts < CUTS_MAX {
            let mut shorter = ops.clone();
            shorter.drain(at..(at + width).min(ops.len()));
            cuts += 1;
            match outcome(&shorter) {
                Err(_) => ops = shorter,
                Ok(()) => at += width,
            }
        }
        width /= 2;
    }
    let _ = std::panic::take_hook();
    ops
}
