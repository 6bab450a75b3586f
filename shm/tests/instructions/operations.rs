//! What is executed instruction by instruction: what stands in the region before, what the child does
//! between its marks, and what must be found after its death at the begin and at the end.

use std::time::Duration;

use hotpair_shm::{
    Claim, CommitError, DeliverError, Delivery, Endpoint, Geometry, Kind, Overload, Participant,
    PortId, QueueId, QueuePolicy, QueueSpec, Reaper, Region, Seq, Shares, SizeClass, testing,
};

use super::tracer::mark;
use super::{following, pairs};

/// One operation.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// Fills the region, in a seat that is given up afterwards.
    pub(crate) prepare: fn(&mut Setting),
    /// In the child: everything, with a mark before and after what is to be executed step by step. False:
    /// somebody was faster, or the role had changed, and nothing was done.
    pub(crate) child: fn(&Region) -> bool,
    /// What is found if the child died before its first instruction, and after its last. At every instant
    /// between, it is one of the two, and never the first again once it was the second.
    pub(crate) before: &'static str,
    pub(crate) after: &'static str,
    /// Instants and region images there are at least; fewer mean that something was not looked at.
    pub(crate) least: (u64, u64),
}

/// Just large enough: the whole region is compared after each instruction.
pub(crate) fn tiny() -> Geometry {
    Geometry {
        slots: 16,
        classes: vec![
            // A magazine holds more than one refill of them.
            SizeClass { payload_bytes: 64, count: 320 },
            SizeClass { payload_bytes: 128, count: 8 },
        ],
        queues: vec![
            QueueSpec { name: "work".into(), lanes: 1 },
            QueueSpec { name: "done".into(), lanes: 1 },
        ],
        ports: vec!["out".into()],
        participants: 6,
        tx_entries: 8,
        max_attempts: 3,
        // More than one claim takes.
        inbox_limit: 18,
        // A reserve of so few blocks would have ports refill their magazines by halves.
        shares: Shares { ingest_percent: 100, ..Shares::default() },
    }
}

/// A participant with the names of the geometry at hand.
pub(crate) struct Setting {
    pub(crate) seat: Participant,
    pub(crate) work: QueueId,
    pub(crate) done: QueueId,
    pub(crate) out: PortId,
}

impl Setting {
    pub(crate) fn join(region: &Region, kind: Kind, name: &str) -> Setting {
        Setting {
            seat: region.join(kind, name).expect("a free seat"),
            work: region.queue("work").expect("the queue of the test geometry"),
            done: region.queue("done").expect("the queue of the test geometry"),
            out: region.port("out").expect("the port of the test geometry"),
        }
    }

    fn worker(region: &Region) -> Setting {
        Setting::join(region, Kind::Worker, "stepped")
    }

    pub(crate) fn send(&mut self, key: Option<&str>, message: &str) {
        assert!(self.try_send(key, message), "nobody is in the way");
    }

    /// False if the delivery was refused because somebody is in the way or the role has changed.
    pub(crate) fn try_send(&mut self, key: Option<&str>, message: &str) -> bool {
        let packet = self.seat.packet_of(message.as_bytes(), Endpoint::NONE).expect("a free block");
        let to = Delivery { queue: self.work, key: key.map(str::as_bytes), priority: 0 };
        match self.seat.deliver(to, packet) {
            Ok(_) => true,
            Err((DeliverError::Busy | DeliverError::NotPrimary, packet)) => {
                self.seat.discard(packet);
                false
            }
            Err((error, _)) => panic!("{message}: {error}"),
        }
    }

    pub(crate) fn claim(&mut self) -> Claim<'_> {
        self.seat.claim(self.work).expect("an object is ready")
    }
}

/// Whether a commit happened. It may be refused, but only because of others.
pub(crate) fn is_done(commit: Result<Seq, CommitError>) -> bool {
    match commit {
        Ok(_) => true,
        Err(
            CommitError::Fenced
            | CommitError::NewMessages
            | CommitError::KeyTaken
            | CommitError::Busy,
        ) => false,
        Err(error) => panic!("{error}"),
    }
}

/// An object `a` with the value `old`, in a chain with others, and two messages for it.
fn busy_object(setting: &mut Setting) {
    setting.send(Some("a"), "zero");
    let mut claim = setting.claim();
    for key in ["c", "d", "e"] {
        claim.create(claim_queue(&claim), Some(key.as_bytes()), b"idle", false).expect("room");
    }
    claim.set_value(b"old").expect("a block");
    claim.commit().expect("nobody is in the way");
    setting.send(Some("a"), "one");
    setting.send(Some("a"), "two");
}

/// Two letters for `c`, one for `n` that does not exist: as if their sender had died before it delivered them.
fn letters_under_way(setting: &mut Setting) {
    busy_object(setting);
    let work = setting.work;
    let mut claim = setting.claim();
    claim.set_value(b"new").expect("a block");
    for (key, payload) in [("c", "hello"), ("c", "again"), ("n", "welcome")] {
        claim.send(work, key.as_bytes(), payload.as_bytes()).expect("room");
    }
    testing::commit_and_stop(claim).expect("nobody is in the way");
}

/// The letters for `c`, and a second copy of one, as after the death of a deliverer.
fn letters_delivered_twice(setting: &mut Setting) {
    busy_object(setting);
    let work = setting.work;
    let mut claim = setting.claim();
    claim.set_value(b"new").expect("a block");
    for payload in ["hello", "again"] {
        claim.send(work, b"c", payload.as_bytes()).expect("room");
    }
    claim.commit().expect("nobody is in the way");
    testing::offer_a_letter(setting.seat.region());
    testing::deliver_letters(&mut setting.seat);
}

/// An object `f` with as many messages as may wait, where a newer one drops the oldest.
fn full_object(setting: &mut Setting) {
    let policy = QueuePolicy { overload: Overload::DropOldest, ..Default::default() };
    setting.seat.region().set_policy(setting.work, &policy);
    for number in 1..=tiny().inbox_limit {
        setting.send(Some("f"), &number.to_string());
    }
}

/// An object `m` with more messages than one claim takes.
fn many_messages(setting: &mut Setting) {
    for number in 1..=tiny().inbox_limit {
        setting.send(Some("m"), &number.to_string());
    }
}

/// In the child: a claim, which is in its hands when it dies.
fn claim_one(region: &Region) -> bool {
    let mut worker = Setting::worker(region);
    mark();
    let work = worker.work;
    let claim = worker.seat.claim(work);
    mark();
    claim.is_some()
}

fn claim_queue(claim: &Claim<'_>) -> QueueId {
    claim.participant().region().queue("work").expect("the queue of the test geometry")
}

const HOUR: Duration = Duration::from_secs(3600);

/// In the expectations: the objects that nothing happens to.
pub(crate) const OTHERS: (&str, &str) = ("{others}", "work/c=idle; work/d=idle; work/e=idle; ");

/// All operations on objects and packets.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "claim",
        prepare: busy_object,
        child: claim_one,
        before: "work/a=old ready [one two]; {others}packets []",
        after: "work/a=old ready [one two] failed 1; {others}packets []",
        least: (300, 9),
    },
    Operation {
        name: "commit",
        prepare: busy_object,
        child: |region| {
            let mut worker = Setting::worker(region);
            let mut claim = worker.claim();
            mark();
            claim.set_value(b"new").expect("a block");
            let done = is_done(claim.commit());
            mark();
            done
        },
        before: "work/a=old ready [one two] failed 1; {others}packets []",
        after: "work/a=new; {others}packets []",
        least: (1000, 30),
    },
    Operation {
        name: "commit-all",
        prepare: busy_object,
        child: |region| {
            let mut worker = Setting::worker(region);
            let (done, out) = (worker.done, worker.out);
            let mut claim = worker.claim();
            mark();
            claim.set_value(b"new").expect("a block");
            claim.emit(out, Endpoint::NONE, b"p1").expect("a block");
            claim.emit(out, Endpoint::NONE, b"p2").expect("a block");
            claim.create(done, Some(b"a"), b"record", true).expect("room");
            claim.create(done, None, b"keyless", true).expect("room");
            claim.set_timer(HOUR);
            let done = is_done(claim.commit());
            mark();
            done
        },
        before: "work/a=old ready [one two] failed 1; {others}packets []",
        after: "done/=keyless ready; done/a=record ready; work/a=new timer; {others}packets [p1 p2]",
        least: (3000, 60),
    },
    Operation {
        name: "several",
        prepare: busy_object,
        child: |region| {
            let mut worker = Setting::worker(region);
            let (work, out) = (worker.work, worker.out);
            let mut claim = worker.claim();
            let changed = claim.also(work, b"c").expect("idle");
            let ended = claim.also(work, b"d").expect("idle");
            mark();
            claim.set_value(b"new").expect("a block");
            claim.other(changed).set_value(b"too").expect("a block");
            claim.other(ended).withdraw();
            claim.emit(out, Endpoint::NONE, b"p").expect("a block");
            let done = is_done(claim.commit());
            mark();
            done
        },
        before: "work/a=old ready [one two] failed 1; work/c=idle ready failed 1; \
                 work/d=idle ready failed 1; work/e=idle; packets []",
        after: "work/a=new; work/c=too; work/e=idle; packets [p]",
        least: (3000, 60),
    },
    Operation {
        name: "also",
        prepare: busy_object,
        child: |region| {
            let mut worker = Setting::worker(region);
            let work = worker.work;
            let mut claim = worker.claim();
            mark();
            let done = claim.also(work, b"c").is_ok();
            mark();
            done
        },
        before: "work/a=old ready [one two] failed 1; {others}packets []",
        after: "work/a=old ready [one two] failed 1; work/c=idle ready failed 1; work/d=idle; \
                work/e=idle; packets []",
        least: (200, 2),
    },
    Operation {
        name: "read",
        prepare: busy_object,
        child: |region| {
            let worker = Setting::worker(region);
            mark();
            let reading = worker.seat.read(worker.work, b"a").expect("nobody is in the way");
            let found = reading.is_some_and(|reading| reading.value() == b"old");
            mark();
            found
        },
        before: "work/a=old ready [one two]; {others}packets []",
        after: "work/a=old ready [one two]; {others}packets []",
        least: (200, 4),
    },
    Operation {
        name: "send",
        prepare: busy_object,
        child: |region| {
            let mut worker = Setting::worker(region);
            let work = worker.work;
            let mut claim = worker.claim();
            mark();
            claim.set_value(b"new").expect("a block");
            claim.send(work, b"c", b"hello").expect("room");
            claim.send(work, b"n", b"welcome").expect("room");
            let done = is_done(claim.commit());
            mark();
            done
        },
        before: "work/a=old ready [one two] failed 1; {others}packets []",
        after: "work/a=new; work/c=idle ready [hello]; work/d=idle; work/e=idle; \
                work/n= ready [welcome]; packets []",
        least: (3000, 60),
    },
    Operation {
        name: "deliver-letters",
        prepare: letters_under_way,
        child: |region| {
            let mut worker = Setting::worker(region);
            mark();
            testing::deliver_letters(&mut worker.seat);
            mark();
            true
        },
        before: "work/a=new; work/c=idle ready [hello again]; work/d=idle; work/e=idle; \
                 work/n= ready [welcome]; packets []",
        after: "work/a=new; work/c=idle ready [hello again]; work/d=idle; work/e=idle; \
                work/n= ready [welcome]; packets []",
        least: (2000, 40),
    },
    Operation {
        name: "claim-letters",
        prepare: letters_delivered_twice,
        child: claim_one,
        before: "work/a=new; work/c=idle ready [hello again]; work/d=idle; work/e=idle; packets []",
        after: "work/a=new; work/c=idle ready [hello again] failed 1; work/d=idle; work/e=idle; \
                packets []",
        least: (500, 20),
    },
    Operation {
        name: "commit-letters",
        prepare: letters_delivered_twice,
        child: |region| {
            let mut worker = Setting::worker(region);
            let mut claim = worker.claim();
            mark();
            claim.set_value(b"read").expect("a block");
            let done = is_done(claim.commit());
            mark();
            done
        },
        before: "work/a=new; work/c=idle ready [hello again] failed 1; work/d=idle; work/e=idle; \
                 packets []",
        after: "work/a=new; work/c=read; work/d=idle; work/e=idle; packets []",
        least: (1500, 40),
    },
    Operation {
        name: "withdraw",
        prepare: busy_object,
        child: |region| {
            let mut worker = Setting::worker(region);
            let out = worker.out;
            let mut claim = worker.claim();
            mark();
            claim.emit(out, Endpoint::NONE, b"bye").expect("a block");
            claim.withdraw();
            let done = is_done(claim.commit());
            mark();
            done
        },
        before: "work/a=old ready [one two] failed 1; {others}packets []",
        after: "{others}packets [bye]",
        least: (1000, 30),
    },
    Operation {
        name: "replace",
        prepare: busy_object,
        child: |region| {
            let mut worker = Setting::worker(region);
            let (work, done) = (worker.work, worker.done);
            let mut claim = worker.claim();
            mark();
            claim.create(work, Some(b"new"), b"successor", false).expect("room");
            claim.create(done, Some(b"a"), b"record", false).expect("room");
            claim.withdraw();
            let done = is_done(claim.commit());
            mark();
            done
        },
        before: "work/a=old ready [one two] failed 1; {others}packets []",
        after: "done/a=record; {others}work/new=successor; packets []",
        least: (1000, 40),
    },
    Operation {
        name: "stay-ready",
        prepare: busy_object,
        child: |region| {
            let mut worker = Setting::worker(region);
            let mut claim = worker.claim();
            mark();
            claim.stay_ready();
            let done = is_done(claim.commit());
            mark();
            done
        },
        before: "work/a=old ready [one two] failed 1; {others}packets []",
        after: "work/a=old ready; {others}packets []",
        least: (500, 20),
    },
    Operation {
        name: "give-back",
        prepare: busy_object,
        child: |region| {
            let mut worker = Setting::worker(region);
            let (done, out) = (worker.done, worker.out);
            let mut claim = worker.claim();
            claim.set_value(b"never").expect("a block");
            claim.emit(out, Endpoint::NONE, b"never").expect("a block");
            claim.create(done, Some(b"a"), b"never", true).expect("room");
            mark();
            claim.give_back();
            mark();
            true
        },
        before: "work/a=old ready [one two] failed 1; {others}packets []",
        after: "work/a=old ready [one two]; {others}packets []",
        least: (300, 15),
    },
    Operation {
        name: "fail",
        prepare: busy_object,
        child: |region| {
            let mut worker = Setting::worker(region);
            let claim = worker.claim();
            mark();
            claim.fail();
            mark();
            true
        },
        before: "work/a=old ready [one two] failed 1; {others}packets []",
        after: "work/a=old ready [one two] failed 1; {others}packets []",
        least: (200, 8),
    },
    Operation {
        name: "park",
        prepare: |setting| {
            busy_object(setting);
            setting.claim().fail();
            setting.claim().fail();
        },
        child: |region| {
            let mut worker = Setting::worker(region);
            let claim = worker.claim();
            mark();
            claim.fail();
            mark();
            true
        },
        before: "work/a=old parked [one two] failed 3; {others}packets []",
        after: "work/a=old parked [one two] failed 3; {others}packets []",
        least: (200, 8),
    },
    Operation {
        name: "deliver",
        prepare: busy_object,
        child: |region| {
            let mut port = Setting::join(region, Kind::Port, "stepped");
            mark();
            let done = port.try_send(Some("a"), "three");
            mark();
            done
        },
        before: "work/a=old ready [one two]; {others}packets []",
        after: "work/a=old ready [one two three]; {others}packets []",
        least: (500, 20),
    },
    Operation {
        name: "deliver-full",
        prepare: full_object,
        child: |region| {
            let mut port = Setting::join(region, Kind::Port, "stepped");
            mark();
            let done = port.try_send(Some("f"), "19");
            mark();
            done
        },
        before: "work/f= ready [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18]; packets []",
        after: "work/f= ready [2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19]; packets []",
        least: (500, 20),
    },
    Operation {
        name: "claim-full",
        prepare: |setting| {
            full_object(setting);
            setting.send(Some("f"), "19");
            setting.send(Some("f"), "20");
        },
        child: claim_one,
        before: "work/f= ready [3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20]; packets []",
        after: "work/f= ready [3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20] failed 1; packets []",
        least: (300, 15),
    },
    Operation {
        name: "claim-many",
        prepare: many_messages,
        child: claim_one,
        before: "work/m= ready [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18]; packets []",
        after: "work/m= ready [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18] failed 1; packets []",
        least: (300, 15),
    },
    Operation {
        name: "claim-noted",
        prepare: |setting| {
            many_messages(setting);
            setting.claim().give_back();
        },
        child: claim_one,
        before: "work/m= ready [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18]; packets []",
        after: "work/m= ready [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18] failed 1; packets []",
        least: (300, 15),
    },
    Operation {
        name: "commit-many",
        prepare: many_messages,
        child: |region| {
            let mut worker = Setting::worker(region);
            let mut claim = worker.claim();
            mark();
            claim.set_value(b"new").expect("a block");
            let done = is_done(claim.commit());
            mark();
            done
        },
        before: "work/m= ready [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18] failed 1; packets []",
        after: "work/m=new ready [17 18]; packets []",
        least: (1000, 50),
    },
    Operation {
        name: "deliver-idle",
        prepare: busy_object,
        child: |region| {
            let mut port = Setting::join(region, Kind::Port, "stepped");
            mark();
            let done = port.try_send(Some("c"), "wake");
            mark();
            done
        },
        before: "work/a=old ready [one two]; {others}packets []",
        after: "work/a=old ready [one two]; work/c=idle ready [wake]; \
                work/d=idle; work/e=idle; packets []",
        least: (500, 20),
    },
    Operation {
        name: "deliver-new",
        prepare: busy_object,
        child: |region| {
            let mut port = Setting::join(region, Kind::Port, "stepped");
            mark();
            let done = port.try_send(Some("new"), "first");
            mark();
            done
        },
        before: "work/a=old ready [one two]; {others}packets []",
        after: "work/a=old ready [one two]; {others}work/new= ready [first]; packets []",
        least: (1000, 40),
    },
    Operation {
        name: "deliver-keyless",
        prepare: busy_object,
        child: |region| {
            let mut port = Setting::join(region, Kind::Port, "stepped");
            mark();
            let done = port.try_send(None, "first");
            mark();
            done
        },
        before: "work/a=old ready [one two]; {others}packets []",
        after: "work/= ready [first]; work/a=old ready [one two]; {others}packets []",
        least: (1000, 30),
    },
    Operation {
        name: "keyless",
        prepare: |setting| setting.send(None, "alone"),
        child: |region| {
            let mut worker = Setting::worker(region);
            let out = worker.out;
            let mut claim = worker.claim();
            mark();
            claim.emit(out, Endpoint::NONE, b"answer").expect("a block");
            claim.withdraw();
            let done = is_done(claim.commit());
            mark();
            done
        },
        before: "work/= ready [alone] failed 1; packets []",
        after: "packets [answer]",
        least: (1000, 20),
    },
    Operation {
        name: "egress",
        prepare: packets,
        child: |region| {
            let mut port = Setting::join(region, Kind::Port, "stepped");
            let out = port.out;
            mark();
            let first = port.seat.take_emitted(out);
            let second = port.seat.take_emitted(out);
            let mut done = false;
            if let Some(packet) = first {
                done = port.seat.may_send(&packet);
                if done { port.seat.sent(packet) } else { port.seat.put_back(packet) }
            }
            if let Some(packet) = second {
                port.seat.put_back(packet);
            }
            mark();
            done
        },
        before: "work/a=old; {others}packets [p1 p2]",
        after: "work/a=old; {others}packets [p2]",
        least: (500, 10),
    },
];

/// The object `a` without messages, and two released packets.
fn packets(setting: &mut Setting) {
    busy_object(setting);
    let out = setting.out;
    let mut claim = setting.claim();
    claim.emit(out, Endpoint::NONE, b"p1").expect("a block");
    claim.emit(out, Endpoint::NONE, b"p2").expect("a block");
    let seq = claim.commit().expect("nobody is in the way");
    setting.seat.region().raise_released(seq);
}

/// Sitting down and leaving.
pub(crate) const SEATS: &[Operation] = &[
    Operation {
        name: "join",
        prepare: busy_object,
        child: |region| {
            mark();
            let worker = region.join(Kind::Worker, "stepped").expect("a free seat");
            mark();
            drop(worker);
            true
        },
        before: "work/a=old ready [one two]; {others}packets []",
        after: "work/a=old ready [one two]; {others}packets []",
        least: (3000, 6),
    },
    Operation {
        name: "leave",
        prepare: packets,
        child: |region| {
            let mut port = Setting::join(region, Kind::Port, "stepped");
            let out = port.out;
            // In its hands: free blocks, hints of packets, blocks that its commit retired.
            port.send(Some("a"), "three");
            let mut claim = port.claim();
            claim.set_value(b"new").expect("a block");
            claim.commit().expect("nobody is in the way");
            let packet = port.seat.take_emitted(out).expect("a released packet");
            port.seat.put_back(packet);
            mark();
            drop(port);
            mark();
            true
        },
        before: "work/a=new; {others}packets [p1 p2]",
        after: "work/a=new; {others}packets [p1 p2]",
        least: (1000, 20),
    },
];

/// A rebuild of a region that everybody has left.
pub(crate) const REBUILD: Operation = Operation {
    name: "rebuild",
    prepare: |setting| {
        letters_under_way(setting);
        setting.send(Some("e"), "message");
    },
    child: |region| {
        mark();
        let rebuilt = Region::rebuild(region.path()).expect("nobody lives");
        mark();
        rebuilt.objects > 0
    },
    before: "work/a=new; work/c=idle ready [hello again]; work/d=idle; \
             work/e=idle ready [message]; work/n= ready [welcome]; packets []",
    after: "work/a=new; work/c=idle ready [hello again]; work/d=idle; \
            work/e=idle ready [message]; work/n= ready [welcome]; packets []",
    least: (20_000, 200),
};

/// The reaper itself, at work on whatever the test has left dead in the region.
pub(crate) const REAP: Operation = Operation {
    name: "reap",
    prepare: busy_object,
    child: |region| {
        let mut reaper = Reaper::new(region.clone());
        mark();
        reaper.run_once();
        mark();
        true
    },
    before: "",
    after: "",
    least: (10_000, 10),
};

/// The operation of this name, for the child.
pub(crate) fn by_name(name: &str) -> &'static Operation {
    let all = OPERATIONS.iter().chain(SEATS).chain(pairs::OPERATIONS).chain([&REAP, &REBUILD]);
    let all = all.chain(following::FOLLOWING);
    let mut all = all.filter(|operation| operation.name == name);
    all.next().unwrap_or_else(|| panic!("no operation {name}"))
}
