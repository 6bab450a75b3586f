//! A region and its oracle, asked the same and compared after every request.

use std::path::PathBuf;
use std::time::Duration;

use hotpair_shm::{
    AlsoError, Claim, CommitError, CreateObjectError, DeliverError, Delivered, Delivery, Endpoint,
    Gatherer, Geometry, Kind, Mode, ObjectState, OutOf, Participant, QueueSpec, Reaper, Region,
    Shares, SizeClass, Sweeper, testing,
};

use super::ops::{Op, Timer};
use super::oracle::{Draft, Object, Oracle, Refused};

const FAR: Duration = Duration::from_secs(100_000);
const SLOTS: u32 = 24;
const INBOX_LIMIT: u16 = 18;
const MAX_ATTEMPTS: u16 = 3;
/// Messages and packets at once: so many that blocks never run out.
const UNDER_WAY: usize = 150;
/// Larger than the kernel ever numbers processes: a process that does not exist.
const NOBODY: u32 = 1 << 30;

/// How a claim's frame ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// The requests go on.
    Goes,
    /// Every process has died: `World::next` is what they left.
    Crashed,
}

/// Everybody who uses the region.
struct Crew {
    node: Option<Participant>,
    port: Option<Participant>,
    workers: [Option<Participant>; 2],
    gatherer: Gatherer,
    reaper: Reaper,
    sweeper: Sweeper,
}

impl Crew {
    fn of(region: &Region) -> Crew {
        let join = |kind, name| Some(region.join(kind, name).expect("a seat"));
        Crew {
            node: join(Kind::Node, "node"),
            port: join(Kind::Port, "port"),
            workers: [join(Kind::Worker, "one"), join(Kind::Worker, "two")],
            gatherer: Gatherer::new(region.clone()),
            reaper: Reaper::new(region.clone()),
            sweeper: Sweeper::new(region.clone()),
        }
    }
}

pub(crate) struct World {
    name: String,
    region: Region,
    path: PathBuf,
    crew: Crew,
    oracle: Oracle,
    /// Ordinal of everything that has to be told apart: messages, values, packets.
    number: u64,
    /// A hint may be owed: somebody died, or gave something back that comes again later.
    owed: bool,
    /// What the dead have left.
    next: Option<(Region, PathBuf)>,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        if let Some((_, path)) = &self.next {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl World {
    /// An empty region at a path of its own.
    pub(crate) fn new(name: &str) -> World {
        let path = Region::path_for(name);
        let geometry = Geometry {
            slots: SLOTS,
            classes: vec![
                SizeClass { payload_bytes: 128, count: 512 },
                SizeClass { payload_bytes: 1024, count: 256 },
            ],
            queues: vec![
                QueueSpec { name: "work".into(), lanes: 2 },
                QueueSpec { name: "done".into(), lanes: 2 },
            ],
            ports: vec!["out".into()],
            participants: 8,
            tx_entries: 8,
            max_attempts: MAX_ATTEMPTS,
            inbox_limit: INBOX_LIMIT,
            shares: Shares { ingest_percent: 100, ..Shares::default() },
        };
        let region = Region::create(&path, &geometry).expect("a small region fits");
        region.become_primary(1);
        region.set_gathering(true);
        let oracle = Oracle::new(1);
        let crew = Crew::of(&region);
        World {
            name: name.to_owned(),
            region,
            path,
            crew,
            oracle,
            number: 0,
            owed: false,
            next: None,
        }
    }

    /// Asks everything in turn. Panics at the first difference.
    pub(crate) fn run(&mut self, ops: &[Op]) {
        let mut at = 0;
        while at < ops.len() {
            if self.frame(ops, &mut at, None) == Flow::Crashed {
                self.recover();
            }
        }
        assert!(self.crew.workers.iter().all(Option::is_some), "no claim is open");
    }

    /// A message that the oracle does not hear of.
    #[allow(dead_code, reason = "the fuzz target has no use for it")]
    pub(crate) fn deliver_unnoticed(&mut self, queue: u8, key: u8) {
        let before = self.oracle.clone();
        self.deliver(queue, Some(key));
        self.oracle = before;
    }

    /// Requests up to the end of the innermost claim.
    fn frame(
        &mut self,
        ops: &[Op],
        at: &mut usize,
        mut claim: Option<(&mut Claim<'_>, &mut Draft)>,
    ) -> Flow {
        while let Some(&op) = ops.get(*at) {
            *at += 1;
            let open = claim.is_some();
            match op {
                Op::Commit | Op::GiveBack | Op::Fail if open => {
                    *at -= 1; // whoever opened the claim ends it
                    return Flow::Goes;
                }
                Op::Claim { worker, queue } => {
                    if self.open(ops, at, worker, queue) == Flow::Crashed {
                        return Flow::Crashed;
                    }
                }
                Op::Deliver { queue, key } => self.deliver(queue, key),
                Op::Release => {
                    self.region.raise_released(self.region.gathered());
                    self.oracle.released = self.oracle.packets.len();
                }
                Op::Egress { put_back } => self.send(put_back),
                Op::Sweep => {
                    self.crew.sweeper.run_once();
                }
                Op::Reap => {
                    let reaped = self.crew.reaper.run_once();
                    assert!(reaped.participants.is_empty(), "nobody is dead: {reaped:?}");
                }
                Op::Change => self.change(open),
                Op::Crash => {
                    self.crash();
                    return Flow::Crashed;
                }
                Op::Rebuild if !open => self.rebuild(),
                _ => {
                    if let Some((claim, draft)) = &mut claim {
                        self.on_claim(op, claim, draft);
                    }
                }
            }
            self.check();
        }
        Flow::Goes
    }

    fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn value(&mut self, size: u8) -> Vec<u8> {
        let mut value = self.number().to_le_bytes().to_vec();
        value.resize(8 + [0, 8, 90, 700][usize::from(size) % 4], size);
        value
    }

    fn deliver(&mut self, queue: u8, key: Option<u8>) {
        let waiting: usize = self.oracle.objects.values().map(|object| object.inbox.len()).sum();
        if waiting + self.oracle.packets.len() > UNDER_WAY {
            return;
        }
        let number = self.number();
        let key = key.map(|key| vec![key]);
        let to = Delivery {
            queue: self.region.queue_at(queue).expect("one of two"),
            key: key.as_deref(),
            priority: 0,
        };
        let port = self.crew.port.as_mut().expect("always there");
        let packet = port.packet_of(&number.to_le_bytes(), Endpoint::NONE).expect("enough blocks");
        let result = port.deliver(to, packet).map_err(|(error, packet)| {
            port.discard(packet);
            error
        });
        let key = key.unwrap_or_default();
        let found = self.oracle.find(queue, &key);
        let full = self.oracle.objects.len() + self.oracle.reserved == SLOTS as usize;
        let expected = match found {
            _ if !self.oracle.primary => Err(DeliverError::NotPrimary),
            Some(id) if self.oracle.objects[&id].inbox.len() == usize::from(INBOX_LIMIT) => {
                Err(DeliverError::InboxFull)
            }
            Some(_) => Ok(Delivered::ToExisting),
            None if full => Err(DeliverError::OutOf(OutOf::Slots { slots: SLOTS })),
            None => Ok(Delivered::ToNew),
        };
        assert_eq!(result, expected, "delivery of message {number}");
        if result.is_ok() {
            match found {
                Some(id) => {
                    self.oracle.objects.get_mut(&id).expect("found").inbox.push_back(number);
                }
                None => {
                    let inbox = [number].into();
                    self.oracle.add(Object { queue, key, inbox, ..Object::default() });
                    self.gather(1, 0);
                }
            }
        }
    }

    /// One claim, from its begin to its end.
    fn open(&mut self, ops: &[Op], at: &mut usize, worker: u8, queue: u8) -> Flow {
        let Some(mut participant) = self.crew.workers[usize::from(worker)].take() else {
            return Flow::Goes; // it has a claim
        };
        let flow = self.claim(ops, at, &mut participant, queue);
        if flow == Flow::Goes {
            self.crew.workers[usize::from(worker)] = Some(participant);
            self.check();
        }
        flow
    }

    fn claim(&mut self, ops: &[Op], at: &mut usize, worker: &mut Participant, queue: u8) -> Flow {
        let id = self.region.queue_at(queue).expect("one of two");
        let ready = |object: &&Object| object.queue == queue && object.is_ready();
        let wanted = self.oracle.primary && self.oracle.objects.values().any(|o| ready(&o));
        self.owed &= self.oracle.objects.values().any(Object::is_ready);
        let mut tries = if wanted && self.owed { 2000 } else { 1 };
        let object = loop {
            tries -= 1;
            match worker.claim_ready(id) {
                None if tries > 0 => {
                    // A hint that is owed comes after its pause, or by two sweeps.
                    self.crew.sweeper.run_once();
                    std::thread::sleep(Duration::from_micros(50));
                }
                other => break other,
            }
        };
        assert_eq!(object.is_some(), wanted, "whether something is ready in queue {queue}");
        let Some(object) = object else { return Flow::Goes };
        let mut claim = worker.hold(object);
        let messages: Vec<u64> = claim
            .messages()
            .map(|message| u64::from_le_bytes(message.payload().try_into().expect("a number")))
            .collect();
        let same = |id: &u64, object: &Object| {
            ready(&object)
                && object.key == claim.key()
                && object.value == claim.value()
                && object.attempts == claim.attempts()
                && self.oracle.takes(*id) == messages
                && (object.timer == Some(true)) == claim.timer_due()
        };
        let found = self.oracle.objects.iter().find(|&(id, object)| same(id, object));
        let Some((&id, _)) = found else {
            panic!(
                "claimed from queue {queue} what should not be there: key {:?}, value {:?}, attempts {}, messages \
                 {messages:?}, timer due {}; expected one of {:#?}",
                claim.key(),
                claim.value(),
                claim.attempts(),
                claim.timer_due(),
                self.oracle.objects
            );
        };
        let mut draft = self.oracle.claim(id);
        self.check();
        if self.frame(ops, at, Some((&mut claim, &mut draft))) == Flow::Crashed {
            return Flow::Crashed; // and the claim belongs to a region that nobody looks at any more
        }
        self.owed |= draft.later;
        match ops.get(*at) {
            Some(Op::Commit) => self.commit(claim, draft),
            Some(Op::Fail) => {
                claim.fail();
                self.oracle.give_back(&draft, true, MAX_ATTEMPTS.into());
            }
            _ => {
                claim.give_back();
                self.oracle.give_back(&draft, false, MAX_ATTEMPTS.into());
            }
        }
        *at += 1;
        Flow::Goes
    }

    fn commit(&mut self, claim: Claim<'_>, draft: Draft) {
        let expected = self.oracle.refusal(&draft);
        match claim.commit() {
            Ok(seq) => {
                assert_eq!(expected, None, "committed as {seq:?}: {draft:#?}");
                let changes = 1 + draft.others.len() + draft.creates.len();
                let emits = draft.emits.len();
                self.oracle.commit(draft);
                self.gather(changes, emits);
            }
            Err(error) => {
                let error = match error {
                    CommitError::Fenced => Refused::Fenced,
                    CommitError::NewMessages => Refused::NewMessages,
                    CommitError::KeyTaken => Refused::KeyTaken,
                    other => panic!("{other}: {draft:#?}"),
                };
                assert_eq!(Some(error), expected, "{draft:#?}");
                self.oracle.give_back(&draft, false, MAX_ATTEMPTS.into());
            }
        }
    }

    fn on_claim(&mut self, op: Op, claim: &mut Claim<'_>, draft: &mut Draft) {
        match op {
            Op::SetValue { size } => {
                let value = self.value(size);
                claim.set_value(&value).expect("enough blocks");
                draft.main.value = Some(value);
            }
            Op::Set { timer } => {
                match after(timer) {
                    Some(after) => claim.set_timer(after),
                    None => claim.clear_timer(),
                }
                draft.main.timer = Some(timer);
            }
            Op::StayReady => {
                claim.stay_ready();
                draft.main.stay_ready = true;
            }
            Op::Priority { lane } => {
                claim.set_priority(lane);
                draft.lane = Some(lane);
            }
            Op::Withdraw => {
                claim.withdraw();
                draft.main.withdraw = true;
            }
            Op::Emit if draft.emits.len() < 3 => {
                let number = self.number();
                let out = self.region.port("out").expect("port");
                claim.emit(out, Endpoint::NONE, &number.to_le_bytes()).expect("enough blocks");
                draft.emits.push(number);
            }
            Op::Create { queue, key, ready } if draft.creates.len() < 2 => {
                self.create(claim, draft, queue, key, ready);
            }
            Op::Also { queue, key } if draft.others.len() < 3 => {
                self.also(claim, draft, queue, &[key]);
            }
            Op::OtherValue { .. } | Op::OtherTimer { .. } | Op::OtherWithdraw => {
                self.on_other(op, claim, draft);
            }
            _ => {}
        }
    }

    fn create(
        &mut self,
        claim: &mut Claim<'_>,
        draft: &mut Draft,
        queue: u8,
        key: Option<u8>,
        ready: bool,
    ) {
        let value = self.value(0);
        let key: Vec<u8> = key.into_iter().collect();
        let id = self.region.queue_at(queue).expect("one of two");
        let given = (!key.is_empty()).then_some(&key[..]);
        let created = claim.create(id, given, &value, ready);
        let full = self.oracle.objects.len() + self.oracle.reserved == SLOTS as usize;
        let expected = match self.oracle.find(queue, &key) {
            Some(_) => Err(CreateObjectError::Exists),
            None if full => Err(OutOf::Slots { slots: SLOTS }.into()),
            None => Ok(()),
        };
        assert_eq!(created, expected, "creation of {key:?} in queue {queue}");
        draft.later |= matches!(created, Err(CreateObjectError::OutOf(_)));
        if created.is_ok() {
            self.oracle.reserved += 1;
            draft.creates.push(Object { queue, key, value, ready, ..Object::default() });
        }
    }

    fn also(&mut self, claim: &mut Claim<'_>, draft: &mut Draft, queue: u8, key: &[u8]) {
        let id = self.region.queue_at(queue).expect("one of two");
        let taken = claim.also(id, key);
        let found = self.oracle.find(queue, key);
        let mine = |id: u64| draft.others.iter().chain([&draft.main]).any(|held| held.id == id);
        let expected = match found {
            None => Err(AlsoError::Absent),
            Some(id) if mine(id) => Err(AlsoError::Held),
            Some(id) if self.oracle.objects[&id].parked => Err(AlsoError::Parked),
            Some(id) if self.oracle.objects[&id].claimed => Err(AlsoError::Conflict),
            Some(_) => Ok(()),
        };
        assert_eq!(taken.map(drop), expected, "also {key:?} of queue {queue}");
        match (taken, found) {
            (Ok(other), Some(id)) => {
                let mut held = self.oracle.hold(id);
                held.handle = Some(other);
                assert_eq!(claim.other(other).value(), self.oracle.objects[&id].value);
                draft.others.push(held);
            }
            _ => draft.later |= taken == Err(AlsoError::Conflict),
        }
    }

    fn on_other(&mut self, op: Op, claim: &mut Claim<'_>, draft: &mut Draft) {
        let Some(held) = draft.others.last_mut() else { return };
        let mut other = claim.other(held.handle.expect("of a further object"));
        match op {
            Op::OtherValue { size } => {
                let value = self.value(size);
                other.set_value(&value).expect("enough blocks");
                held.value = Some(value);
            }
            Op::OtherTimer { timer } => {
                match after(timer) {
                    Some(after) => other.set_timer(after),
                    None => other.clear_timer(),
                }
                held.timer = Some(timer);
            }
            _ => {
                other.withdraw();
                held.withdraw = true;
            }
        }
    }

    /// Everything is gathered at once: exactly one commit, if there was one.
    fn gather(&mut self, changes: usize, emits: usize) {
        let mut commits = Vec::new();
        let turn = self.crew.gatherer.gather(usize::MAX, |commit| {
            commits.push((commit.changes.len(), commit.emits.len()));
        });
        assert_eq!((commits, turn.gap), (vec![(changes, emits)], false), "what the node reads");
    }

    fn send(&mut self, put_back: bool) {
        let out = self.region.port("out").expect("port");
        let port = self.crew.port.as_mut().expect("always there");
        let packet = port.take_emitted(out);
        let number = packet.as_ref().map(|packet| packet.payload().to_vec());
        let may = self.oracle.primary && self.oracle.released > 0;
        let expected = self.oracle.packets.front().filter(|_| may);
        assert_eq!(number, expected.map(|number| number.to_le_bytes().to_vec()), "the next packet");
        let Some(packet) = packet else { return };
        assert!(port.may_send(&packet));
        if put_back {
            return port.put_back(packet);
        }
        let id = (packet.seq(), packet.ordinal());
        port.sent(packet);
        let mut sent = Vec::new();
        self.crew.gatherer.collect_sent(|seq, ordinal| sent.push((seq, ordinal)));
        assert_eq!(sent, [id], "what the node is told of");
        self.oracle.packets.pop_front();
        self.oracle.released -= 1;
    }

    fn change(&mut self, open: bool) {
        if self.oracle.primary {
            self.region.begin_change(self.oracle.epoch + 1);
            self.oracle.primary = false;
            self.oracle.epoch += 1;
        } else if !open {
            assert_eq!(self.region.holdouts(), [], "nobody holds anything");
            self.region.become_primary(self.oracle.epoch);
            // The new epoch's order begins behind the old one's.
            self.crew.gatherer = Gatherer::new(self.region.clone());
            self.oracle.primary = true;
        }
    }

    /// Notes what every process leaves if it dies now.
    fn crash(&mut self) {
        let number = self.number();
        let path = Region::path_for(&format!("{}.{number}", self.name));
        std::fs::copy(&self.path, &path).expect("room for a copy");
        let copy = Region::attach(&path).expect("a copy of a region");
        let tasks = std::fs::read_dir("/proc/self/task").expect("there is a /proc").flatten();
        let threads: Vec<u32> = tasks
            .filter_map(|task| task.file_name().to_str().and_then(|name| name.parse().ok()))
            .collect();
        testing::declare_dead(&copy, std::process::id(), &threads, NOBODY);
        self.next = Some((copy, path));
    }

    /// Goes on where everybody has died.
    fn recover(&mut self) {
        let (region, path) = self.next.take().expect("noted by the crash");
        let _ = std::fs::remove_file(std::mem::replace(&mut self.path, path));
        let mut reaper = Reaper::new(region.clone());
        let reaped = reaper.run_once();
        assert_eq!(reaped.unfinished, 0, "all was gathered");
        assert_eq!(testing::audit(&region), Vec::<String>::new());
        self.crew = Crew::of(&region);
        self.region = region;
        self.oracle.crash(MAX_ATTEMPTS.into());
        self.check();
    }

    fn rebuild(&mut self) {
        let Crew { node, port, workers, .. } = &mut self.crew;
        drop((node.take(), port.take(), workers.each_mut().map(Option::take)));
        let rebuilt = Region::rebuild(&self.path).expect("nobody lives in it");
        let objects = &self.oracle.objects;
        let keys = objects.values().filter(|object| !object.key.is_empty()).count() as u64;
        let messages: usize = objects.values().map(|object| object.inbox.len()).sum();
        assert_eq!((rebuilt.objects, rebuilt.keys), (objects.len() as u64, keys));
        assert_eq!((rebuilt.messages, rebuilt.duplicates), (messages as u64, 0));
        assert_eq!((rebuilt.freed, rebuilt.released, rebuilt.unfinished), (0, 0, 0));
        assert_eq!(rebuilt.packets, self.oracle.packets.len() as u64);
        assert_eq!(self.region.verify(Mode::Strict).findings, []);
        self.crew = Crew::of(&self.region);
        self.owed = false;
    }

    /// Compares everything with everything: after each request, so that a failure points at the one that
    /// broke it.
    fn check(&mut self) {
        let mut there: Vec<_> = self
            .region
            .objects()
            .map(|object| {
                let claimed = object.state == ObjectState::Claimed;
                let parked = object.state == ObjectState::Parked;
                let placing = (object.queue.index(), object.priority);
                let facts = (object.waiting, object.attempts, object.deadline.is_some());
                // Of a claimed one the state word says that it is claimed, and nothing else.
                let ready = object.ready && !claimed;
                (placing, object.key, object.value, facts, ready, claimed, parked)
            })
            .collect();
        let mut wanted: Vec<_> = self
            .oracle
            .objects
            .values()
            .map(|object| {
                let facts = (object.inbox.len() as u32, object.attempts, object.timer.is_some());
                let ready = object.ready && !object.claimed;
                let (key, value) = (object.key.clone(), object.value.clone());
                let placing = (object.queue, object.lane);
                (placing, key, value, facts, ready, object.claimed, object.parked)
            })
            .collect();
        there.sort();
        wanted.sort();
        assert_eq!(
            there, wanted,
            "(queue, lane), key, value, (waiting, attempts, timer), ready, claimed, parked"
        );
        let objects = self.oracle.objects.values();
        let blocks: usize = objects.map(|o| usize::from(o.has_block()) + o.inbox.len()).sum();
        let blocks = (blocks + self.oracle.packets.len()) as u64;
        assert_eq!(self.region.status().blocks_in_use(), blocks, "blocks in use");
        assert_eq!(self.region.verify(Mode::Online).findings, []);
    }
}

fn after(timer: Timer) -> Option<Duration> {
    match timer {
        Timer::Due => Some(Duration::ZERO),
        Timer::Far => Some(FAR),
        Timer::Cleared => None,
    }
}
