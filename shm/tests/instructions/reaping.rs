//! Death of the reaper at every instruction, while it hands on what another death has left.

use super::copy::{Copy, Window};
use super::every::{Company, Tried, World, step_through};
use super::facts::recover;
use super::operations::{Operation, REAP};
use super::tracer::{Stop, Tracee};

/// How many images of the region `operation` goes through.
pub(crate) fn count_images(operation: &Operation, company: Company) -> u64 {
    let world = World::new(operation.prepare, company);
    let mut victim = Tracee::start(operation.name, world.test.path());
    step_images(&world, &mut victim, u64::MAX)
}

/// Executes steps until the region has changed `images` times, or to the end of the operation.
pub(crate) fn step_images(world: &World, victim: &mut Tracee, images: u64) -> u64 {
    let mut window = Window::of(world.test.path());
    let mut seen = 0;
    while seen < images && victim.step() == Stop::Instruction {
        seen += u64::from(window.look());
    }
    seen
}

/// Kills a child after the `image`th change that its operation makes, and steps through the reaper that
/// finds it: whatever the instant of the reaper's own death, the next reaper comes to the same end.
pub(crate) fn reap_step_by_step(operation: &Operation, company: Company, image: u64) -> Tried {
    let world = World::new(operation.prepare, company);
    let mut victim = Tracee::start(operation.name, world.test.path());
    step_images(&world, &mut victim, image);
    victim.kill();
    let copy = Copy::of(world.test.path());
    let expected = recover(&copy.region).expect("one reaper recovers").to_string();
    drop(copy);
    let mut reaper = Tracee::start(REAP.name, world.test.path());
    let tried = step_through(&REAP, &world, &mut reaper, &[expected.clone(), expected]);
    assert_eq!(reaper.run(), Stop::Exit(0), "the reaper, after its last mark");
    let (instants, images) = REAP.least;
    assert!(
        tried.instants >= instants && tried.images >= images,
        "reap {}: only {} instants and {} images of the region",
        operation.name,
        tried.instants,
        tried.images
    );
    tried
}
