//! What a region says of itself in terms of its users, and the recovery after a death.

use std::collections::BTreeMap;
use std::fmt;

use hotpair_shm::{
    Change, Delivered, Delivery, Endpoint, Gatherer, Kind, MESSAGES_PER_CLAIM, ObjectState,
    Participant, Reaper, Region, Seq, Sweeper, testing,
};

use super::copy::Window;

/// Everything a user of the region can find out, in an order that does not depend on places.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub(crate) objects: Vec<ObjectFacts>,
    /// Payloads of packets that have not left, in their order.
    pub(crate) packets: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ObjectFacts {
    pub(crate) queue: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) ready: bool,
    pub(crate) parked: bool,
    pub(crate) attempts: u32,
    pub(crate) timer: bool,
    /// Payloads of the messages that wait, in their order.
    pub(crate) messages: Vec<String>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Facts {
    pub(crate) fn of(region: &Region) -> Result<Facts, String> {
        let mut objects: Vec<ObjectFacts> = Vec::new();
        let mut letters = Vec::new();
        for object in region.objects() {
            let queue = &region.geometry().queues[usize::from(object.queue.index())];
            if object.state == ObjectState::Claimed {
                return Err(format!("slot {} is still claimed", object.slot));
            }
            if object.letter {
                let letter = testing::letter_of(&object.value).ok_or("a damaged letter")?;
                letters.push((queue.name.clone(), letter));
                continue;
            }
            objects.push(ObjectFacts {
                queue: queue.name.clone(),
                key: text(&object.key),
                value: text(&object.value),
                ready: object.state == ObjectState::Ready,
                parked: object.state == ObjectState::Parked,
                attempts: object.attempts,
                timer: object.deadline.is_some(),
                messages: testing::waiting(region, object.slot)
                    .iter()
                    .map(|message| text(message))
                    .collect(),
            });
        }
        // Whether a letter was delivered makes no difference to anybody.
        for (queue, (key, payload)) in letters {
            let (key, message) = (text(&key), text(&payload));
            match objects.iter_mut().find(|object| (&object.queue, &object.key) == (&queue, &key)) {
                Some(object) => {
                    object.ready = !object.parked;
                    object.messages.push(message);
                }
                None => objects.push(ObjectFacts {
                    queue,
                    key,
                    value: String::new(),
                    ready: true,
                    parked: false,
                    attempts: 0,
                    timer: false,
                    messages: vec![message],
                }),
            }
        }
        objects.sort_unstable();
        let packets = region.packets().iter().map(|packet| text(&packet.payload)).collect();
        Ok(Facts { objects, packets })
    }
}

/// `work/a=old ready [one two] failed 1 timer; done/b=; packets [hello]`
impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for object in &self.objects {
            write!(f, "{}/{}={}", object.queue, object.key, object.value)?;
            if object.ready {
                f.write_str(" ready")?;
            }
            if object.parked {
                f.write_str(" parked")?;
            }
            if !object.messages.is_empty() {
                write!(f, " [{}]", object.messages.join(" "))?;
            }
            if object.attempts > 0 {
                write!(f, " failed {}", object.attempts)?;
            }
            if object.timer {
                f.write_str(" timer")?;
            }
            f.write_str("; ")?;
        }
        write!(f, "packets [{}]", self.packets.join(" "))
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Lets reapers (and the node, if there is one) do all they have to, and checks what is left.
pub(crate) fn recover(region: &Region) -> Result<Facts, String> {
    if testing::is_being_rebuilt(region) {
        Region::rebuild(region.path()).map_err(|error| format!("the next rebuild: {error}"))?;
    }
    recover_after(region, Replay::new(region))
}

/// The same where the node has gathered before.
pub(crate) fn recover_after(region: &Region, mut replay: Replay) -> Result<Facts, String> {
    let mut reaper = Reaper::new(region.clone());
    let mut passes = 0;
    loop {
        let reaped = reaper.run_once();
        replay.gather();
        passes += 1;
        // What a reaper frees or offers after the node's turn, the node sees in its next.
        if reaped.unfinished == 0 && reaped.participants.is_empty() {
            break;
        }
        ensure(passes < 8, || format!("the reaper is never done: {reaped:?}"))?;
    }
    let mut window = Window::of(region.path());
    let again = Reaper::new(region.clone()).run_once();
    ensure(again.participants.is_empty(), || format!("reaped twice: {again:?}"))?;
    ensure(!window.look(), || "a second reaper changed something".into())?;
    let problems = testing::audit(region);
    ensure(problems.is_empty(), || format!("after the recovery: {problems:#?}"))?;
    replay.compare(region)?;
    Facts::of(region)
}

/// The back-up's view: the state as the effect of all gathered commits, in their order.
pub(crate) struct Replay {
    gatherer: Option<Gatherer>,
    /// Per slot: key, value, whether a timer is set.
    objects: BTreeMap<u32, (Vec<u8>, Vec<u8>, bool)>,
    emitted: usize,
    last: Seq,
    /// How many there were.
    pub(crate) commits: u64,
}

impl Replay {
    pub(crate) fn new(region: &Region) -> Replay {
        let gatherer = region.node_alive().then(|| Gatherer::new(region.clone()));
        Replay { gatherer, objects: BTreeMap::new(), emitted: 0, last: Seq::ZERO, commits: 0 }
    }

    /// Whether an undecided commit holds up the order.
    pub(crate) fn gather(&mut self) -> bool {
        let Some(gatherer) = &mut self.gatherer else { return false };
        let (objects, emitted, last) = (&mut self.objects, &mut self.emitted, &mut self.last);
        let turn = gatherer.gather(usize::MAX, |commit| {
            assert!(commit.seq > *last, "{} after {last}", commit.seq);
            *last = commit.seq;
            *emitted += commit.emits.len();
            for change in &commit.changes {
                match *change {
                    Change::Put { slot, key, value, deadline, .. } => {
                        let object = (key.to_vec(), value.to_vec(), deadline.is_some());
                        objects.insert(slot, object);
                    }
                    Change::Remove { slot, .. } => drop(objects.remove(&slot)),
                }
            }
        });
        gatherer.collect_sent(|_, _| {});
        self.commits += turn.commits as u64;
        gatherer.is_held_up()
    }

    fn compare(&self, region: &Region) -> Result<(), String> {
        if self.gatherer.is_none() {
            return Ok(());
        }
        let here: BTreeMap<_, _> = region
            .objects()
            .map(|object| (object.slot, (object.key, object.value, object.deadline.is_some())))
            .collect();
        ensure(here == self.objects, || {
            format!("the gathered commits make {:?}, the region holds {here:?}", self.objects)
        })?;
        let waiting = region.packets().len();
        ensure(waiting <= self.emitted, || {
            format!("{} packets were gathered, {waiting} wait", self.emitted)
        })
    }
}

/// Works through everything in a recovered region, with processes that know nothing of the past: each
/// object that should be ready is claimed, each message read once, each packet sent once, each key found.
pub(crate) fn work_off(region: &Region, facts: &Facts, keys: &[&str]) -> Result<(), String> {
    let mut everybody = region.join(Kind::Worker, "after").map_err(|error| error.to_string())?;
    testing::deliver_letters(&mut everybody);
    let mut expected = facts.objects.clone();
    let work = region.queue("work").expect("the queue of the test geometry");
    for key in keys {
        let packet = everybody.packet_of(b"probe", Endpoint::NONE).map_err(|e| e.to_string())?;
        let to = Delivery { queue: work, key: Some(key.as_bytes()), priority: 0 };
        let delivered = everybody.deliver(to, packet);
        let object =
            expected.iter_mut().find(|object| object.queue == "work" && object.key == *key);
        match (delivered, object) {
            (Ok(Delivered::ToExisting), Some(object)) => {
                object.ready = !object.parked;
                object.messages.push("probe".into());
            }
            (Ok(Delivered::ToNew), None) => expected.push(ObjectFacts {
                queue: "work".into(),
                key: (*key).into(),
                value: String::new(),
                ready: true,
                parked: false,
                attempts: 0,
                timer: false,
                messages: vec!["probe".into()],
            }),
            (delivered, object) => {
                return Err(format!("a message for {key:?}, {object:?}: {delivered:?}"));
            }
        }
    }
    let mut sweeper = Sweeper::new(region.clone());
    sweeper.run_once();
    sweeper.run_once();
    for queue in 0..region.geometry().queues.len() as u8 {
        claim_all(region, &mut everybody, queue, &mut expected)?;
    }
    expected.retain(|object| object.ready);
    ensure(expected.is_empty(), || format!("never claimed: {expected:#?}"))?;
    send_all(region, &mut everybody, facts)?;
    drop(everybody);
    gather(region);
    Reaper::new(region.clone()).run_once();
    let problems = testing::audit(region);
    ensure(problems.is_empty(), || format!("after all was worked off: {problems:#?}"))
}

/// The node's part, where there is a node: makes room for further commits.
fn gather(region: &Region) {
    if region.node_alive() {
        let mut gatherer = Gatherer::new(region.clone());
        gatherer.gather(usize::MAX, |_| {});
        gatherer.collect_sent(|_, _| {});
    }
}

fn claim_all(
    region: &Region,
    worker: &mut Participant,
    queue: u8,
    expected: &mut Vec<ObjectFacts>,
) -> Result<(), String> {
    let name = region.geometry().queues[usize::from(queue)].name.clone();
    let queue = region.queue_at(queue).expect("a queue of the geometry");
    while let Some(mut claim) = worker.claim(queue) {
        let key = text(claim.key());
        let value = text(claim.value());
        let messages: Vec<String> =
            claim.messages().map(|message| text(message.payload())).collect();
        let at = expected.iter().position(|object| {
            let oldest = object.messages.iter().take(MESSAGES_PER_CLAIM);
            object.ready
                && (&object.queue, &object.key, &object.value) == (&name, &key, &value)
                && oldest.eq(&messages)
        });
        let Some(at) = at else {
            return Err(format!(
                "claimed {name}/{key}={value} {messages:?}, not among {expected:?}"
            ));
        };
        let attempts = claim.attempts();
        let object = &mut expected[at];
        ensure(object.attempts == attempts, || format!("{attempts} attempts, not {object:?}"))?;
        object.messages.drain(..messages.len());
        if object.messages.is_empty() {
            expected.swap_remove(at);
            claim.withdraw();
        } else {
            object.attempts = 0;
        }
        claim.commit().map_err(|error| format!("{name}/{key}: {error}"))?;
        gather(region);
    }
    Ok(())
}

fn send_all(region: &Region, port: &mut Participant, facts: &Facts) -> Result<(), String> {
    region.raise_released(region.commit_seq());
    let out = region.port("out").expect("the port of the test geometry");
    let mut sent = Vec::new();
    while let Some(packet) = port.take_emitted(out) {
        sent.push(text(packet.payload()));
        port.sent(packet);
    }
    ensure(sent == facts.packets, || format!("sent {sent:?}, not {:?}", facts.packets))
}
