//! A process that is stopped for a while at any instruction, while others go on: it holds up nobody for
//! ever, harms nothing when it goes on, and what it does then is done wholly or refused.

use std::time::Duration;

use hotpair_shm::{Kind, Reaper, Region, Sweeper};

use super::every::{Company, World};
use super::facts::{Facts, Replay, recover_after};
use super::operations::{Operation, Setting};
use super::reaping::step_images;
use super::tracer::{REFUSED, Stop, Tracee};
use crate::common::random::Random;

/// What happens while the child is stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meanwhile {
    /// Others send, claim, commit and gather.
    Work,
    /// The node changes its role and back. Who holds something then is not left alone: it goes on first,
    /// as a node would wait for it.
    RoleChange,
    /// The same, but who holds something is killed.
    RoleChangeAndDeath,
    /// The same as the first, and the region is made empty between.
    Wipe,
}

impl Meanwhile {
    pub(crate) const ALL: [Meanwhile; 4] =
        [Meanwhile::Work, Meanwhile::RoleChange, Meanwhile::RoleChangeAndDeath, Meanwhile::Wipe];
}

/// What is left in the end, and which messages others have worked on.
#[derive(PartialEq, Eq, Debug)]
struct End {
    facts: Facts,
    consumed: Vec<String>,
}

/// How it ends if the operation is not done, and if it is done, without anybody being stopped.
pub(crate) struct Ends {
    undone: End,
    done: End,
}

impl Ends {
    pub(crate) fn of(operation: &Operation) -> Ends {
        let [undone, done] = [false, true].map(|done| {
            let world = World::new(operation.prepare, Company::Node);
            let mut child = Tracee::start(operation.name, world.test.path());
            if done {
                assert_eq!(child.run(), Stop::Mark, "{}: the end", operation.name);
                assert_eq!(child.run(), Stop::Exit(0), "{}: after the end", operation.name);
            } else {
                child.kill();
            }
            let mut others = Others::new(world.region());
            others.reap();
            others.work(Some("late"));
            others.end()
        });
        Ends { undone, done }
    }
}

/// Everybody else, in one seat.
struct Others {
    region: Region,
    setting: Setting,
    replay: Replay,
    consumed: Vec<String>,
}

impl Others {
    fn new(region: &Region) -> Others {
        Others {
            region: region.clone(),
            setting: Setting::join(region, Kind::Worker, "others"),
            replay: Replay::new(region),
            consumed: Vec::new(),
        }
    }

    fn reap(&self) {
        let mut reaper = Reaper::new(self.region.clone());
        while !reaper.run_once().participants.is_empty() {}
    }

    /// Sends `message` and works on every object that is ready. False if the message was refused.
    fn work(&mut self, message: Option<&str>) -> bool {
        let sent = message.is_none_or(|message| self.setting.try_send(Some("a"), message));
        let mut sweeper = Sweeper::new(self.region.clone());
        sweeper.run_once();
        sweeper.run_once();
        for queue in [self.setting.work, self.setting.done] {
            loop {
                let Some(claim) = self.setting.seat.claim(queue) else { break };
                let messages: Vec<_> = claim
                    .messages()
                    .map(|message| String::from_utf8_lossy(message.payload()).into_owned())
                    .collect();
                claim.commit().expect("nobody changes the role meanwhile");
                self.consumed.extend(messages);
                self.gather();
            }
        }
        self.gather();
        sent
    }

    /// Collects commits until no undecided one holds up the order.
    fn gather(&mut self) {
        while self.replay.gather() {
            std::thread::yield_now();
        }
    }

    fn end(mut self) -> End {
        drop(self.setting);
        let facts = recover_after(&self.region, self.replay).expect("all is well in the end");
        self.consumed.sort_unstable();
        End { facts, consumed: self.consumed }
    }
}

/// Stops a child at a random instruction of `operation`. Returns whether it was refused in the end.
pub(crate) fn stop_and_go_on(
    operation: &Operation,
    images: u64,
    ends: &Ends,
    meanwhile: Meanwhile,
    random: &mut Random,
) -> bool {
    let world = World::new(operation.prepare, Company::Node);
    let region = world.region();
    let mut child = Tracee::start(operation.name, world.test.path());
    // After one of its changes, and up to some instructions further: what it has read may be old then.
    let image = random.below(images + 1);
    let further = random.below(60);
    step_images(&world, &mut child, image);
    for _ in 0..further {
        if child.step() != Stop::Instruction {
            break;
        }
    }
    let context = format!(
        "{} stopped {further} instructions after image {image} {}, {meanwhile:?}",
        operation.name,
        child.place()
    );
    let mut others = Others::new(region);
    let reaped = Reaper::new(region.clone()).run_once();
    let alive = reaped.participants.iter().any(|&(_, pid, _)| pid == child.pid());
    assert!(!alive, "{context}: reaped alive: {reaped:?}");
    let mut child = Some(child);
    let mut code = None;
    let mut sent = false;
    if meanwhile == Meanwhile::Work {
        sent = others.work(Some("late"));
    } else {
        region.begin_change(2);
        // Everything is decided now, and nothing that was not may be decided later.
        others.gather();
        let decided = others.replay.commits;
        if !region.holdouts().is_empty() {
            let child = child.take().expect("nobody has taken it yet");
            match meanwhile {
                Meanwhile::RoleChangeAndDeath => child.kill(),
                _ => code = Some(finish(child)),
            }
        }
        others.reap();
        assert_eq!(region.quiesce(Duration::from_secs(60)), [], "{context}");
        others.gather();
        assert_eq!(others.replay.commits, decided, "{context}: committed after the change");
        region.void_claims();
        if meanwhile == Meanwhile::Wipe {
            region.wipe().expect("random numbers");
            others.replay = Replay::new(region);
        }
        region.become_primary(3);
        sent |= others.work(Some("late"));
    }
    let code = child.map(finish).or(code);
    assert!(matches!(code, None | Some(0 | REFUSED)), "{context}: the child ended with {code:?}");
    others.reap();
    assert!(others.work((!sent).then_some("late")), "{context}: nobody is in the way any more");
    let mut end = others.end();
    if operation.name == "deliver-full" && end.consumed.iter().any(|message| message == "19") {
        // Where others make room in time the oldest need not go for the newest.
        end.consumed.retain(|message| message != "1");
    }
    if meanwhile == Meanwhile::Wipe {
        // What was there before has gone; what came afterwards is there once.
        let late = end.consumed.iter().filter(|message| *message == "late").count();
        assert_eq!(late, 1, "{context}: {end:?}");
    } else {
        // A killed child tells nothing: then either of the two.
        let expected = match code {
            Some(0) => &ends.done,
            None if end == ends.done => &ends.done,
            _ => &ends.undone,
        };
        assert_eq!(&end, expected, "{context}: the child ended with {code:?}");
    }
    code == Some(REFUSED)
}

fn finish(mut child: Tracee) -> i32 {
    loop {
        if let Stop::Exit(code) = child.run() {
            return code;
        }
    }
}
