//! Death of a back-up's node at every instruction: while it writes a staged batch, while it goes back to an older state,
//! while it takes in a transfer.
//!
//! After each, a copy is recovered as the node's next process does it. A batch that was cut short is written once more,
//! so the state is the one before it or the one after it. What was cut short on the way back, or in a transfer, is gone
//! back from once more, and names every slot that has to be sent again; then the whole of the primary's state is there.

use hotpair_shm::{
    Applier, Change, Endpoint, Kind, Origin, Participant, Reaper, Region, Role, Seq, testing,
};

use super::copy::{Copy, Window};
use super::every::{Company, Tried, World};
use super::operations::{Operation, Setting};
use super::tracer::{Stop, Tracee, mark};

/// What both have in common.
const COMMON: Seq = Seq::new(1, 10);
const STAGED: &[u8] = b"the bytes of the batch";

/// One slot as it is to be: key, value, incarnation, the seq of its last change.
type Row = (u32, Option<(&'static str, &'static str)>, u32, Seq);

/// What both had at [`COMMON`].
const BASE: &[Row] = &[
    (0, Some(("a", "old")), 1, Seq::new(1, 1)),
    (1, Some(("b", "old")), 1, Seq::new(1, 2)),
    (2, Some(("c", "old")), 1, Seq::new(1, 3)),
    (3, Some(("d", "old")), 1, Seq::new(1, 4)),
];

/// A batch of the primary: a key moves, a value changes, an object ends, one begins. First what ends, as the node does it.
const BATCH: &[Row] = &[
    (3, None, 1, Seq::new(1, 12)),
    (0, Some(("d", "moved")), 2, Seq::new(1, 13)),
    (1, Some(("b", "new")), 1, Seq::new(1, 14)),
    (5, Some(("e", "born")), 1, Seq::new(1, 15)),
];
const BATCH_LAST: Seq = Seq::new(1, 20);

/// What this node did by itself after [`COMMON`].
const DIVERGED: &[Row] = &[
    (1, None, 1, Seq::new(1, 11)),
    (0, Some(("a", "mine")), 1, Seq::new(1, 12)),
    (6, Some(("mine", "too")), 1, Seq::new(1, 13)),
];

/// What is sent of these slots: the primary's state, whatever its seq.
const WANTED: &[Row] = &[
    (0, Some(("a", "old")), 1, Seq::new(1, 1)),
    (1, Some(("b", "old")), 1, Seq::new(1, 2)),
    (2, Some(("c", "theirs")), 1, Seq::new(2, 1)),
    (3, Some(("d", "old")), 1, Seq::new(1, 4)),
    (6, None, 0, Seq::ZERO),
    (7, Some(("f", "theirs")), 1, Seq::new(2, 2)),
];

fn change(row: &Row) -> Change<'static> {
    let &(slot, content, incarnation, _) = row;
    match content {
        None => Change::Remove { slot, incarnation },
        Some((key, value)) => Change::Put {
            slot,
            incarnation,
            queue: 0,
            priority: 0,
            key: key.as_bytes(),
            value: value.as_bytes(),
            deadline: None,
            ready: false,
            sum: 0,
            before: None,
        },
    }
}

/// A node with what it writes with.
struct Node {
    seat: Participant,
    applier: Applier,
}

impl Node {
    fn new(region: &Region) -> Node {
        let seat = region.join(Kind::Node, "node").expect("a free seat");
        Node { seat, applier: Applier::new(region) }
    }

    fn write(&mut self, rows: &[Row], origin: Origin) {
        for row in rows {
            self.applier.apply(&mut self.seat, row.3, origin, &change(row)).expect("it fits");
        }
        self.applier.give_back(&mut self.seat);
    }

    fn emit(&mut self, seq: Seq, payload: &[u8]) {
        self.applier.emit(&mut self.seat, seq, 0, 0, Endpoint::NONE, payload).expect("room");
    }

    /// What a batch does to slots and packets.
    fn write_batch(&mut self, region: &Region) {
        self.write(BATCH, Origin::Commit);
        self.emit(Seq::new(1, 14), b"p2");
        self.applier.sent(region, Seq::new(1, 2), 0);
    }

    /// A back-up with what both have in common, and a packet that is not known to be sent.
    fn at_common(region: &Region) -> Node {
        region.begin_change(1);
        region.become_backup(1);
        let mut node = Node::new(region);
        node.write(BASE, Origin::Commit);
        node.emit(Seq::new(1, 2), b"p1");
        node.applier.set_applied(region, COMMON);
        node
    }

    /// The same after changes of its own, on its way to follow another primary.
    fn diverged(region: &Region) -> Node {
        let mut node = Node::at_common(region);
        node.write(DIVERGED, Origin::Commit);
        node.applier.set_applied(region, Seq::new(1, 13));
        region.begin_change(2);
        node
    }

    fn go_back(&mut self, region: &Region) -> Vec<u32> {
        self.applier.begin_transfer(region);
        let lost = region.rewind(COMMON);
        region.become_backup(2);
        lost
    }

    /// A transfer of the slots that either has changed.
    fn take_in(&mut self, lost: &[u32]) {
        let wanted = |row: &&Row| lost.contains(&row.0) || row.3 > COMMON;
        let rows: Vec<Row> = WANTED.iter().filter(wanted).copied().collect();
        self.write(&rows, Origin::Copy);
    }

    fn end_transfer(&mut self, region: &Region) {
        self.applier.set_applied(region, Seq::new(2, 2));
        self.applier.end_transfer();
    }
}

fn nothing(_: &mut Setting) {}

/// Their `before` and `after` are what the recovery leads to.
pub(crate) const FOLLOWING: &[Operation] = &[
    Operation {
        name: "apply",
        prepare: nothing,
        child: |region| {
            let mut node = Node::at_common(region);
            mark();
            assert!(region.stage(COMMON, BATCH_LAST, STAGED));
            node.applier.begin(region, BATCH_LAST);
            node.write_batch(region);
            node.applier.set_applied(region, BATCH_LAST);
            mark();
            true
        },
        before: "0.1 a=old; 1.1 b=old; 2.1 c=old; 3.1 d=old; packets [p1] at 1.10",
        after: "0.2 d=moved; 1.1 b=new; 2.1 c=old; 5.1 e=born; packets [p2] at 1.20",
        least: (2_000, 60),
    },
    Operation {
        name: "rewind",
        prepare: nothing,
        child: |region| {
            let mut node = Node::diverged(region);
            mark();
            node.go_back(region);
            mark();
            true
        },
        before: SHARED,
        after: SHARED,
        least: (10_000, 12),
    },
    Operation {
        name: "transfer",
        prepare: nothing,
        child: |region| {
            let mut node = Node::diverged(region);
            let lost = node.go_back(region);
            mark();
            node.take_in(&lost);
            node.end_transfer(region);
            mark();
            true
        },
        before: SHARED,
        after: SHARED,
        least: (2_000, 40),
    },
];

/// The primary's state.
const SHARED: &str =
    "0.1 a=old; 1.1 b=old; 2.1 c=theirs; 3.1 d=old; 7.1 f=theirs; packets [] at 2.2";

/// Slots and packets, and the end of the state.
fn state(region: &Region) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut found = String::new();
    for object in region.objects() {
        let (key, value) = (text(&object.key), text(&object.value));
        found += &format!("{}.{} {key}={value}; ", object.slot, object.incarnation);
    }
    let packets: Vec<_> = region.packets().iter().map(|packet| text(&packet.payload)).collect();
    found + &format!("packets [{}] at {}", packets.join(" "), region.gathered())
}

fn reap(region: &Region) {
    let mut reaper = Reaper::new(region.clone());
    while !reaper.run_once().participants.is_empty() || !reaper.has_handed_on() {}
}

/// What the next process of the node does. `reaped`: others have been quicker to reap the dead one.
fn recover(region: &Region, name: &str, reaped: bool) -> Result<String, String> {
    if reaped {
        reap(region);
    }
    let mut node = Node::new(region);
    if region.role().role() == Role::Backup && region.is_torn() {
        match region.staged() {
            Some(staged) => {
                if (staged.prev, staged.last, &staged.bytes[..]) != (COMMON, BATCH_LAST, STAGED) {
                    return Err(format!("another batch: {staged:?}"));
                }
                region.mend_torn();
                node.write_batch(region);
                node.applier.set_applied(region, BATCH_LAST);
            }
            None if name == "apply" => return Err("torn, and there is no staged batch".into()),
            // At the very end of a transfer: nothing is known, and the primary ships all.
            None => {
                region.begin_change(2);
                region.wipe().map_err(|error| error.to_string())?;
                node.applier.begin_transfer(region);
                region.become_backup(2);
                let all: Vec<_> = WANTED.iter().filter(|row| row.1.is_some()).copied().collect();
                node.write(&all, Origin::Copy);
                node.end_transfer(region);
            }
        }
    }
    reap(region);
    if name != "apply" {
        // The node asks, and the primary ships from the common position again, unless all had come.
        if region.gathered() != Seq::new(2, 2) {
            region.begin_change(2);
            let lost = node.go_back(region);
            node.take_in(&lost);
            node.end_transfer(region);
        }
    }
    if region.is_torn() || region.commit_seq() != region.gathered() {
        return Err(format!("still torn: {} and {}", region.commit_seq(), region.gathered()));
    }
    drop(node);
    reap(region);
    let problems = testing::audit(region);
    if problems.is_empty() { Ok(state(region)) } else { Err(format!("{problems:#?}")) }
}

/// Steps through an operation and recovers a copy after each instruction that changed something; in the long form once
/// as the node finds it, and once after others have reaped it.
pub(crate) fn follow_step_by_step(operation: &Operation, is_long: bool) -> Tried {
    let world = World::new(operation.prepare, Company::Solo);
    let mut tracee = Tracee::start(operation.name, world.test.path());
    let copy = Copy::of(world.test.path());
    let mut window = Window::of(world.test.path());
    let mut tried = Tried { instants: 0, images: 0 };
    let (mut failures, mut happened, mut last) = (Vec::new(), false, String::new());
    loop {
        if window.look() || tried.instants == 0 {
            tried.images += 1;
            let by_turns = tried.images.is_multiple_of(2);
            for reaped in [by_turns, !by_turns].into_iter().take(if is_long { 2 } else { 1 }) {
                copy.load(&window.bytes, &[&tracee]);
                let found = recover(&copy.region, operation.name, reaped);
                let is_after = found.as_deref() == Ok(operation.after);
                if !is_after && (happened || found.as_deref() != Ok(operation.before)) {
                    let (instant, place) = (tried.instants, tracee.place());
                    failures.push(format!("instruction {instant} {place}: {found:?}"));
                }
                happened |= is_after && operation.before != operation.after;
                last = found.unwrap_or_default();
            }
        }
        tried.instants += 1;
        match tracee.step() {
            Stop::Instruction => {}
            Stop::Mark => break,
            Stop::Exit(code) => panic!("{}: the child ended with {code}", operation.name),
        }
    }
    let (name, images) = (operation.name, tried.images);
    let told = failures.iter().take(3).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{name}: {} of {images} images fail\n{told}", failures.len());
    assert_eq!(last, operation.after, "{name}: at its end");
    let (least_instants, least_images) = operation.least;
    assert!(
        tried.instants >= least_instants && images >= least_images,
        "{name}: only {} instants and {images} images",
        tried.instants
    );
    assert_eq!(tracee.run(), Stop::Exit(0), "{name}: after its last mark");
    tried
}
