//! Death at every instruction: a child is executed step by step through each operation on the region, and
//! after each instruction the region is recovered as if the child had died there.
//!
//! A death leaves nothing but the bytes of the region. So a copy of them, recovered as after a death, tells
//! what a kill at that instruction would lead to, and an instruction that changed no byte leads to the
//! same as the one before. Samples of real kills confirm that the copies tell the truth.
//!
//! After each recovery: every block is in exactly one place, every message and packet is there once,
//! every commit happened wholly or not at all, a death was counted once, each key leads to its object,
//! each ready object can be claimed, and a second reaper finds nothing to do.
//!
//! A back-up's node dies while it writes a batch, goes back to an older state, or takes in a transfer.
//!
//! Then: the reaper itself dies at each instruction; a process is stopped at random instants while others go
//! on; two processes are executed by turns in random schedules. Not stepped is the keeper thread of a
//! seat, which locks and unlocks one mutex of the C library: it runs freely beside the stepped thread.
//!
//! The long form, with more samples and more schedules:
//! `HOTPAIR_INSTRUCTIONS=all cargo test -p hotpair-shm --test instructions -- --nocapture`

mod common;
#[path = "instructions/copy.rs"]
mod copy;
#[path = "instructions/every.rs"]
mod every;
#[path = "instructions/facts.rs"]
mod facts;
#[path = "instructions/following.rs"]
mod following;
#[path = "instructions/operations.rs"]
mod operations;
#[path = "instructions/pairs.rs"]
mod pairs;
#[path = "instructions/reaping.rs"]
mod reaping;
#[path = "instructions/stopped.rs"]
mod stopped;
#[path = "instructions/tracer.rs"]
mod tracer;

use common::random::Random;
use every::{Company, every_instruction, real_death};
use following::{FOLLOWING, follow_step_by_step};
use hotpair_shm::Region;
use operations::{OPERATIONS, Operation, REAP, REBUILD, SEATS};
use pairs::PAIRS;
use reaping::{count_images, reap_step_by_step};
use stopped::{Ends, Meanwhile, stop_and_go_on};
use tracer::{PROBE, REFUSED, TASK, be_traced, is_permitted, mark, stay_on_one_processor};

/// Not a test of its own: what the children of the tests below run.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (name, path) = task.split_once(' ').expect("an operation and a path");
    be_traced();
    if name == PROBE {
        return mark();
    }
    let region = Region::attach(path.as_ref()).expect("the parent's region");
    if !(operations::by_name(name).child)(&region) {
        std::process::exit(REFUSED);
    }
}

fn seeded(test: &str) -> Random {
    let command = format!("cargo test -p hotpair-shm --test instructions {test}");
    Random::seeded("HOTPAIR_INSTRUCTIONS_SEED", &command)
}

fn is_long() -> bool {
    std::env::var("HOTPAIR_INSTRUCTIONS").is_ok_and(|form| form == "all")
}

fn try_all(operations: &[Operation], company: Company) {
    if !is_permitted() {
        return;
    }
    stay_on_one_processor();
    for operation in operations {
        let tried = every_instruction(operation, company);
        let (instants, images) = (tried.instants, tried.images);
        println!("{} {company:?}: {instants} instants, {images} images", operation.name);
        let samples = if is_long() { 100 } else { 4 };
        for sample in 0..samples {
            real_death(operation, company, instants * sample / samples);
        }
    }
}

#[test]
fn each_instruction_of_each_operation_alone() {
    try_all(OPERATIONS, Company::Solo);
}

#[test]
fn each_instruction_of_each_operation_with_a_node() {
    try_all(OPERATIONS, Company::Node);
}

#[test]
fn each_instruction_of_sitting_down_and_leaving() {
    try_all(SEATS, Company::Solo);
    try_all(SEATS, Company::Node);
}

#[test]
fn each_instruction_of_a_rebuild() {
    if is_permitted() {
        stay_on_one_processor();
        // No sample of real deaths: nobody attaches to a region that is half rebuilt. tests/rebuild.rs has them.
        let tried = every_instruction(&REBUILD, Company::Solo);
        println!("rebuild: {} instants, {} images", tried.instants, tried.images);
    }
}

#[test]
fn each_instruction_of_a_back_up() {
    if is_permitted() {
        stay_on_one_processor();
        for operation in FOLLOWING {
            let tried = follow_step_by_step(operation, is_long());
            let (instants, images) = (tried.instants, tried.images);
            println!("{}: {instants} instants, {images} images", operation.name);
        }
    }
}

#[test]
fn each_instruction_of_the_reaper() {
    if !is_permitted() {
        return;
    }
    stay_on_one_processor();
    for name in ["commit-all", "send", "withdraw", "deliver", "deliver-new", "egress", "leave"] {
        let operation = operations::by_name(name);
        for company in [Company::Solo, Company::Node] {
            // Beside a node the reaper reads through the node's memory map besides: long, and always the same.
            if company == Company::Node && !is_long() && !["withdraw", "egress"].contains(&name) {
                continue;
            }
            let images = count_images(operation, company);
            let victims = if is_long() { 20.min(images) } else { 1 };
            for victim in 1..=victims {
                // In the short form at the same place, about where half has been done.
                let image = images * victim / (victims + 1);
                let tried = reap_step_by_step(operation, company, image);
                println!(
                    "reap {name} {company:?}, dead after image {image} of {images}: \
                     {} instants, {} images",
                    tried.instants, tried.images
                );
            }
        }
    }
}

#[test]
fn a_process_stopped_at_any_instruction_harms_nothing() {
    if !is_permitted() {
        return;
    }
    stay_on_one_processor();
    let mut random = seeded("a_process_stopped");
    let samples = if is_long() { 60 } else { 2 };
    for operation in OPERATIONS {
        let ends = Ends::of(operation);
        let images = count_images(operation, Company::Node);
        for meanwhile in Meanwhile::ALL {
            let refused = (0..samples)
                .filter(|_| stop_and_go_on(operation, images, &ends, meanwhile, &mut random))
                .count();
            let name = operation.name;
            println!("{name} stopped, {meanwhile:?}: {samples} instants, {refused} refused");
        }
    }
}

#[test]
fn two_processes_at_a_time_by_turns() {
    if !is_permitted() {
        return;
    }
    stay_on_one_processor();
    let mut random = seeded("two_processes");
    let schedules = if is_long() { 100 } else { 3 };
    for pair in PAIRS {
        for company in [Company::Solo, Company::Node] {
            // See `each_instruction_of_the_reaper`.
            if company == Company::Node && !is_long() && pair.operations.contains(&REAP.name) {
                continue;
            }
            let steps: u64 = (0..schedules).map(|_| pairs::run(pair, company, &mut random)).sum();
            println!("{} {company:?}: {schedules} schedules, {steps} steps", pair.name);
        }
    }
}
