//! Requests to a region against its oracle, chosen by the fuzzer: four bytes each. See `shm/tests/model.rs`.

#![no_main]

#[path = "../../shm/tests/model/ops.rs"]
mod ops;
#[path = "../../shm/tests/model/oracle.rs"]
mod oracle;
#[path = "../../shm/tests/model/world.rs"]
mod world;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let name = format!("fuzz.{}", std::process::id());
    world::World::new(&name).run(&ops::Op::all_of(bytes));
});
