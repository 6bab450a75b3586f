//! Recovery at every instruction of an operation, and real deaths that confirm what the copies tell.

use std::collections::HashMap;

use hotpair_shm::{Kind, Participant, Region, testing};

use crate::common::TestRegion;

use super::copy::{Copy, NOBODY, Window};
use super::facts::{Facts, recover, work_off};
use super::operations::{OTHERS, Operation, Setting, tiny};
use super::tracer::{Stop, Tracee};

/// Keys that are looked for after each recovery.
const KEYS: &[&str] = &["a", "c", "e", "new"];

/// Failures that are told in full.
const TOLD: usize = 3;

/// Who else is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Company {
    /// No node: whoever needs room makes it.
    Solo,
    /// A living node that gathers all commits.
    Node,
}

/// A region in which an operation can begin.
pub(crate) struct World {
    pub(crate) test: TestRegion,
    /// Its seat; it gathers on the copies only.
    _node: Option<Participant>,
}

impl World {
    pub(crate) fn new(prepare: fn(&mut Setting), company: Company) -> World {
        let test = TestRegion::new(&tiny());
        let node = (company == Company::Node).then(|| {
            test.region.set_gathering(true);
            test.region.join(Kind::Node, "node").expect("a free seat")
        });
        prepare(&mut Setting::join(&test.region, Kind::Other, "before"));
        World { test, _node: node }
    }

    pub(crate) fn region(&self) -> &Region {
        &self.test.region
    }
}

/// What was tried.
pub(crate) struct Tried {
    pub(crate) instants: u64,
    pub(crate) images: u64,
}

/// Executes `operation` step by step in `tracee`. After each instruction the region is compared with
/// what it was; where it differs, a copy is recovered as if the child had died there.
pub(crate) fn every_instruction(operation: &Operation, company: Company) -> Tried {
    let world = World::new(operation.prepare, company);
    let mut tracee = Tracee::start(operation.name, world.test.path());
    let expect = [operation.before, operation.after].map(|text| text.replace(OTHERS.0, OTHERS.1));
    let tried = step_through(operation, &world, &mut tracee, &expect);
    assert_eq!(tracee.run(), Stop::Exit(0), "{}: after its last mark", operation.name);
    let (instants, images) = operation.least;
    assert!(
        tried.instants >= instants && tried.images >= images,
        "{}: only {} instants and {} images of the region",
        operation.name,
        tried.instants,
        tried.images
    );
    tried
}

pub(crate) fn step_through(
    operation: &Operation,
    world: &World,
    tracee: &mut Tracee,
    [before, after]: &[String; 2],
) -> Tried {
    let copy = Copy::of(world.test.path());
    let mut window = Window::of(world.test.path());
    let mut tried = Tried { instants: 0, images: 0 };
    let mut failures = Vec::new();
    let mut happened = false;
    let mut last = Facts { objects: Vec::new(), packets: Vec::new() };
    let mut stepped = 0;
    loop {
        // The state before the first instruction is an instant like any other.
        if window.look() || tried.instants == 0 {
            tried.images += 1;
            let found = recover_copy(&copy, &window.bytes, tracee).and_then(|facts| {
                let text = facts.to_string();
                last = facts;
                let is_after = text == *after;
                let sound = is_after || text == *before && (!happened || before == after);
                happened |= is_after;
                if sound { Ok(()) } else { Err(format!("found {text}, happened: {happened}")) }
            });
            if let Err(failure) = found {
                let instant = tried.instants;
                failures.push(format!("instruction {instant} {}: {failure}", tracee.place()));
            }
        }
        tried.instants += 1;
        match tracee.step() {
            Stop::Instruction => stepped += 1,
            Stop::Mark => break,
            Stop::Exit(code) => panic!("{}: the child ended with {code}", operation.name),
        }
    }
    let told = failures.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(
        failures.is_empty(),
        "{}: {} of {} images of the region do not recover to\n  {before}\nor\n  {after}\n{told}",
        operation.name,
        failures.len(),
        tried.images
    );
    assert_eq!(last.to_string(), *after, "{}: at its end", operation.name);
    assert_eq!(tried.instants, stepped + 1, "{}: each instruction was tried", operation.name);
    tried
}

fn recover_copy(copy: &Copy, bytes: &[u8], dead: &Tracee) -> Result<Facts, String> {
    copy.load(bytes, &[dead]);
    let facts = recover(&copy.region)?;
    work_off(&copy.region, &facts, KEYS)?;
    Ok(facts)
}

/// Kills the child for real after `steps` instructions: the region must recover to the same bytes as a
/// copy that was taken just before.
pub(crate) fn real_death(operation: &Operation, company: Company, steps: u64) {
    let world = World::new(operation.prepare, company);
    let mut tracee = Tracee::start(operation.name, world.test.path());
    for _ in 0..steps {
        if tracee.step() != Stop::Instruction {
            break;
        }
    }
    let copy = Copy::of(world.test.path());
    let mut window = Window::of(world.test.path());
    copy.load(&window.bytes, &[&tracee]);
    let place = tracee.place();
    let context = |error| format!("{} {company:?} after {steps} {place}: {error}", operation.name);
    let foretold = recover(&copy.region).map_err(context).expect("the copy recovers");
    let pid = tracee.pid();
    tracee.kill();
    let found = recover(world.region()).map_err(context).expect("the region recovers");
    assert_eq!(found, foretold, "{}", context("they differ".into()));
    window.look();
    let copied = Window::of(copy.region.path());
    let mut names = HashMap::new();
    for (at, (real, foretold)) in words(&window.bytes).zip(words(&copied.bytes)).enumerate() {
        // The seat still bears the name of the one who sat there.
        let renamed =
            real >> 32 == foretold >> 32 && real as u32 == pid && foretold as u32 == NOBODY;
        // What was noted bears the time at which it was.
        let noted = testing::recorder_bytes().contains(&(at * 8));
        if real != foretold && !renamed && !noted {
            names.insert(at * 8, (real, foretold));
        }
    }
    assert!(names.is_empty(), "{}", context(format!("bytes differ: {names:x?}")));
    work_off(world.region(), &found, KEYS).map_err(context).expect("work goes on");
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk))
}
