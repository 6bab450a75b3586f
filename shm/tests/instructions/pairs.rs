//! Two processes in one operation each, executed step by step by turns, one or both of them killed on the
//! way: what one does is there or not, whatever the other was doing at the time.

use hotpair_shm::{Endpoint, Kind, Reaper, Region};

use super::every::{Company, World};
use super::facts::{Facts, ObjectFacts, recover, work_off};
use super::operations::{Operation, Setting, is_done};
use super::tracer::{REFUSED, Stop, Tracee, mark};
use crate::common::random::Random;

/// Two operations at a time.
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    pub(crate) operations: [&'static str; 2],
    prepare: fn(&mut Setting),
    check: fn(&Facts, [Fate; 2]) -> bool,
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Done,
    Refused,
    /// Killed: it has happened or not.
    Killed,
}

impl Fate {
    /// Whether this end allows that the operation has `happened`.
    fn fits(self, happened: bool) -> bool {
        match self {
            Fate::Done => happened,
            Fate::Refused => !happened,
            Fate::Killed => true,
        }
    }
}

fn count(messages: &[String], message: &str) -> usize {
    messages.iter().filter(|other| *other == message).count()
}

fn object<'f>(facts: &'f Facts, key: &str) -> Option<&'f ObjectFacts> {
    facts.objects.iter().find(|object| object.key == key)
}

/// Each of two messages is in the object `key` once, if its delivery has happened.
fn both_delivered(facts: &Facts, key: &str, fates: [Fate; 2]) -> bool {
    let messages = object(facts, key).map_or(&[][..], |object| &object.messages);
    ["left", "right"].iter().zip(fates).all(|(message, fate)| {
        let there = count(messages, message);
        there <= 1 && fate.fits(there == 1)
    })
}

/// Two messages wait for `a`, which has been worked on before.
fn worked_on(setting: &mut Setting) {
    setting.send(Some("a"), "zero");
    let mut claim = setting.claim();
    claim.set_value(b"old").expect("a block");
    claim.commit().expect("nobody is in the way");
    setting.send(Some("a"), "one");
    setting.send(Some("a"), "two");
}

pub(crate) const PAIRS: &[Pair] = &[
    Pair {
        name: "two commits in one queue",
        operations: ["pair-work", "pair-work"],
        prepare: |setting| {
            setting.send(Some("a"), "m");
            setting.send(Some("b"), "m");
        },
        check: |facts, fates| {
            let whole = facts.objects.iter().all(|object| {
                let done = object.value == "done";
                object.messages == (if done { &[][..] } else { &["m"][..] })
                    && count(&facts.packets, &object.key) == usize::from(done)
            });
            let done = facts.packets.len();
            let least = fates.iter().filter(|fate| **fate == Fate::Done).count();
            let most = fates.iter().filter(|fate| **fate != Fate::Refused).count();
            whole && facts.objects.len() == 2 && (least..=most).contains(&done)
        },
    },
    Pair {
        name: "two claims of one object",
        operations: ["pair-work", "pair-work"],
        prepare: |setting| setting.send(Some("a"), "m"),
        check: |facts, fates| {
            let done = facts.packets.len();
            let least = fates.iter().filter(|fate| **fate == Fate::Done).count();
            let most = fates.iter().filter(|fate| **fate != Fate::Refused).count();
            let object = &facts.objects[0];
            done <= 1
                && (least..=most).contains(&done)
                && (object.value == "done") == (done == 1)
                && object.messages.len() == 1 - done
        },
    },
    Pair {
        name: "two messages for one object",
        operations: ["pair-left", "pair-right"],
        prepare: worked_on,
        check: |facts, fates| both_delivered(facts, "a", fates),
    },
    Pair {
        name: "two messages for a new key",
        operations: ["pair-new-left", "pair-new-right"],
        prepare: worked_on,
        check: |facts, fates| both_delivered(facts, "new", fates),
    },
    Pair {
        name: "a commit and a message",
        operations: ["commit", "pair-right"],
        prepare: worked_on,
        check: |facts, fates| {
            let object = object(facts, "a").expect("nobody ends it");
            let done = object.value == "new";
            let right = count(&object.messages, "right");
            let others = object.messages.len() - right;
            fates[0].fits(done)
                && others == (if done { 0 } else { 2 })
                && right <= 1
                && fates[1].fits(right == 1)
        },
    },
    Pair {
        name: "a withdrawal and a message",
        operations: ["withdraw", "pair-right"],
        prepare: worked_on,
        check: |facts, fates| {
            let messages = object(facts, "a").map_or(&[][..], |object| &object.messages);
            let right = count(messages, "right");
            let ended = facts.packets == ["bye"];
            let old = object(facts, "a").is_some_and(|object| object.value == "old");
            fates[0].fits(ended)
                && ended != old
                && messages.len() - right == (if ended { 0 } else { 2 })
                && right <= 1
                && fates[1].fits(right == 1)
        },
    },
    Pair {
        name: "a creation by a commit and one by a message",
        operations: ["replace", "pair-new-right"],
        prepare: worked_on,
        check: |facts, fates| {
            let Some(new) = object(facts, "new") else {
                return fates.iter().all(|fate| *fate != Fate::Done)
                    && object(facts, "a").is_some_and(|object| object.value == "old");
            };
            let done = new.value == "successor";
            let record = facts.objects.iter().any(|object| object.queue == "done");
            fates[0].fits(done)
                && record == done
                && fates[1].fits(count(&new.messages, "right") == 1)
                && new.messages.len() <= 1
        },
    },
    Pair {
        name: "a commit and the reaper",
        operations: ["commit-all", "reap"],
        prepare: worked_on,
        check: |facts, fates| {
            let done = facts.packets == ["p1", "p2"];
            fates[0].fits(done) && (facts.objects.len() == 3) == done
        },
    },
    Pair {
        name: "a port sends, another process leaves",
        operations: ["egress", "leave"],
        prepare: |setting| {
            worked_on(setting);
            let out = setting.out;
            let mut claim = setting.claim();
            for packet in ["p1", "p2", "p3"] {
                claim.emit(out, Endpoint::NONE, packet.as_bytes()).expect("a block");
            }
            let seq = claim.commit().expect("nobody is in the way");
            setting.seat.region().raise_released(seq);
        },
        check: |facts, fates| {
            let left = facts.packets.len();
            left + 1 >= 3 && left <= 3 && fates[0].fits(left == 2)
        },
    },
];

/// What only pairs do. What is found afterwards is the pair's business.
pub(crate) const OPERATIONS: &[Operation] = &[
    of_a_pair("pair-work", |region| {
        let mut worker = Setting::join(region, Kind::Worker, "stepped");
        let (work, out) = (worker.work, worker.out);
        mark();
        let mut done = false;
        if let Some(mut claim) = worker.seat.claim(work) {
            let key = claim.key().to_vec();
            claim.set_value(b"done").expect("a block");
            claim.emit(out, Endpoint::NONE, &key).expect("a block");
            done = is_done(claim.commit());
        }
        mark();
        done
    }),
    of_a_pair("pair-left", |region| deliver(region, "a", "left")),
    of_a_pair("pair-right", |region| deliver(region, "a", "right")),
    of_a_pair("pair-new-left", |region| deliver(region, "new", "left")),
    of_a_pair("pair-new-right", |region| deliver(region, "new", "right")),
];

const fn of_a_pair(name: &'static str, child: fn(&Region) -> bool) -> Operation {
    Operation { name, prepare: |_| {}, child, before: "", after: "", least: (0, 0) }
}

fn deliver(region: &Region, key: &str, message: &str) -> bool {
    let mut port = Setting::join(region, Kind::Port, "stepped");
    mark();
    let done = port.try_send(Some(key), message);
    mark();
    done
}

/// Executes both operations by turns; `random` says how many steps at a time, and who dies when.
/// Returns how many instructions were executed.
pub(crate) fn run(pair: &Pair, company: Company, random: &mut Random) -> u64 {
    let world = World::new(pair.prepare, company);
    let region = world.region();
    let mut children = pair.operations.map(|name| Some(Tracee::start(name, world.test.path())));
    let mut fates = [Fate::Killed; 2];
    // None, either or both of them die at some step.
    let mut deaths = [0, 1].map(|_| match random.below(2) {
        0 => u64::MAX,
        _ => random.below(8_000),
    });
    let mut stepping = [true; 2];
    let mut steps = [0_u64; 2];
    while stepping.contains(&true) {
        let turn = random.below(2) as usize;
        let Some(child) = children[turn].as_mut().filter(|_| stepping[turn]) else { continue };
        // Mostly a few, so that the other comes between two accesses; else nothing meets.
        let most = [4, 30, 400][random.below(3) as usize];
        let burst = 1 + random.below(most);
        for _ in 0..burst {
            if steps[turn] >= deaths[turn] {
                deaths[turn] = u64::MAX;
                stepping[turn] = false;
                break;
            }
            steps[turn] += 1;
            match child.step() {
                Stop::Instruction => {}
                Stop::Mark => {
                    stepping[turn] = false;
                    fates[turn] = Fate::Done;
                    break;
                }
                Stop::Exit(code) => panic!("{}: a child ended with {code}", pair.name),
            }
        }
        if !stepping[turn] && fates[turn] == Fate::Killed {
            children[turn].take().expect("it has just been stepped").kill();
            if random.below(2) == 0 {
                Reaper::new(region.clone()).run_once();
            }
        }
    }
    let context = format!("{}, {company:?}, {steps:?} steps", pair.name);
    for (child, fate) in children.iter_mut().zip(&mut fates) {
        let Some(child) = child else { continue };
        *fate = match child.run() {
            Stop::Exit(0) => Fate::Done,
            Stop::Exit(REFUSED) => Fate::Refused,
            other => panic!("{context}: a child ended by {other:?}"),
        };
    }
    drop(children);
    let checked = recover(region).and_then(|facts| {
        if !(pair.check)(&facts, fates) {
            return Err(format!("{fates:?} and {facts}"));
        }
        work_off(region, &facts, &["a", "b", "new"])
    });
    checked.unwrap_or_else(|error| panic!("{context}: {error}"));
    steps.iter().sum()
}
