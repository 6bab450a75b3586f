//! What a region should be, kept in the obvious way.

use std::collections::{BTreeMap, VecDeque};

use super::ops::Timer;

/// Messages that one claim takes at most.
const PER_CLAIM: usize = hotpair_shm::MESSAGES_PER_CLAIM;

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Object {
    pub(crate) queue: u8,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) inbox: VecDeque<u64>,
    /// Ready whatever its inbox says.
    pub(crate) ready: bool,
    /// Whether it is due.
    pub(crate) timer: Option<bool>,
    pub(crate) attempts: u32,
    pub(crate) lane: u8,
    pub(crate) claimed: bool,
    pub(crate) parked: bool,
    /// Its timer was set once: it is kept in the value's block.
    pub(crate) timed: bool,
}

impl Object {
    /// Key, value and timer lie in a block, if there is anything to keep.
    pub(crate) fn has_block(&self) -> bool {
        self.timed || !self.key.is_empty() || !self.value.is_empty()
    }

    pub(crate) fn is_ready(&self) -> bool {
        let work = self.ready || !self.inbox.is_empty() || self.timer == Some(true);
        work && !self.claimed && !self.parked
    }

    fn set_timer(&mut self, timer: Option<Timer>, was_due: bool) {
        self.timed |= matches!(timer, Some(Timer::Due | Timer::Far));
        match timer {
            Some(Timer::Due) => self.timer = Some(true),
            Some(Timer::Far) => self.timer = Some(false),
            Some(Timer::Cleared) => self.timer = None,
            None if was_due => self.timer = None,
            None => {}
        }
    }
}

/// What a claim will do, and what it was when it began.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) main: Held,
    pub(crate) others: Vec<Held>,
    pub(crate) emits: Vec<u64>,
    pub(crate) creates: Vec<Object>,
    pub(crate) lane: Option<u8>,
    /// Somebody else had an object that was asked for, or there was no room for another: given back, it comes again after a
    /// pause, and no attempt is counted.
    pub(crate) later: bool,
    pub(crate) epoch: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) id: u64,
    /// Of a further object.
    pub(crate) handle: Option<hotpair_shm::Other>,
    pub(crate) taken: Vec<u64>,
    pub(crate) due: bool,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) timer: Option<Timer>,
    pub(crate) withdraw: bool,
    pub(crate) stay_ready: bool,
    was_ready: bool,
}

/// Why a commit should be refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    Fenced,
    NewMessages,
    KeyTaken,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Oracle {
    pub(crate) objects: BTreeMap<u64, Object>,
    /// Packets in the order in which they leave; the released ones come first.
    pub(crate) packets: VecDeque<u64>,
    pub(crate) released: usize,
    pub(crate) epoch: u16,
    pub(crate) primary: bool,
    /// Slots that open claims have reserved.
    pub(crate) reserved: usize,
    next_id: u64,
}

impl Oracle {
    pub(crate) fn new(epoch: u16) -> Oracle {
        Oracle { epoch, primary: true, ..Oracle::default() }
    }

    pub(crate) fn add(&mut self, object: Object) {
        self.next_id += 1;
        self.objects.insert(self.next_id, object);
    }

    pub(crate) fn find(&self, queue: u8, key: &[u8]) -> Option<u64> {
        let matches = |object: &Object| object.queue == queue && object.key == key;
        let mut found = self.objects.iter().filter(|(_, object)| matches(object));
        found.next().filter(|_| !key.is_empty()).map(|(id, _)| *id)
    }

    /// The messages that a claim would take now.
    pub(crate) fn takes(&self, id: u64) -> Vec<u64> {
        self.objects[&id].inbox.iter().take(PER_CLAIM).copied().collect()
    }

    pub(crate) fn claim(&mut self, id: u64) -> Draft {
        let mut main = self.hold(id);
        main.taken = self.takes(id);
        main.due = self.objects[&id].timer == Some(true);
        Draft {
            main,
            others: Vec::new(),
            emits: Vec::new(),
            creates: Vec::new(),
            lane: None,
            later: false,
            epoch: self.epoch,
        }
    }

    /// Takes an object into a claim.
    pub(crate) fn hold(&mut self, id: u64) -> Held {
        let object = self.objects.get_mut(&id).expect("it exists");
        object.claimed = true;
        Held {
            id,
            handle: None,
            taken: Vec::new(),
            due: false,
            value: None,
            timer: None,
            withdraw: false,
            stay_ready: false,
            was_ready: object.ready,
        }
    }

    /// Everything as it was; `failed`: an attempt more, and at the limit parked.
    pub(crate) fn give_back(&mut self, draft: &Draft, failed: bool, max_attempts: u32) {
        for held in draft.others.iter().chain([&draft.main]) {
            self.objects.get_mut(&held.id).expect("it exists").claimed = false;
        }
        self.reserved -= draft.creates.len();
        if failed && !draft.later {
            self.fail(draft.main.id, max_attempts);
        }
    }

    pub(crate) fn fail(&mut self, id: u64, max_attempts: u32) {
        let object = self.objects.get_mut(&id).expect("it exists");
        object.attempts += 1;
        if object.attempts >= max_attempts {
            object.parked = true;
            object.ready = false;
        }
    }

    pub(crate) fn refusal(&self, draft: &Draft) -> Option<Refused> {
        if !self.primary || self.epoch != draft.epoch {
            return Some(Refused::Fenced);
        }
        let held = || draft.others.iter().chain([&draft.main]);
        let waits = |held: &Held| self.objects[&held.id].inbox.len() > held.taken.len();
        if held().any(|held| held.withdraw && waits(held)) {
            return Some(Refused::NewMessages);
        }
        let ends = |id: u64| held().any(|held| held.withdraw && held.id == id);
        let taken = |at: usize, object: &Object| {
            let same = |other: &Object| other.queue == object.queue && other.key == object.key;
            !object.key.is_empty()
                && (draft.creates[..at].iter().any(same)
                    || self.find(object.queue, &object.key).is_some_and(|id| !ends(id)))
        };
        let mut creates = draft.creates.iter().enumerate();
        creates.any(|(at, object)| taken(at, object)).then_some(Refused::KeyTaken)
    }

    pub(crate) fn commit(&mut self, draft: Draft) {
        self.reserved -= draft.creates.len();
        let main = draft.main.id;
        for held in draft.others.into_iter().chain([draft.main]) {
            if held.withdraw {
                self.objects.remove(&held.id);
                continue;
            }
            let object = self.objects.get_mut(&held.id).expect("it exists");
            object.inbox.drain(..held.taken.len());
            object.set_timer(held.timer, held.due);
            if let Some(value) = held.value {
                object.value = value;
            }
            // Only whoever claims an object because it is ready uses that up.
            object.ready = held.stay_ready || held.was_ready && held.id != main;
            object.attempts = 0;
            object.claimed = false;
            if held.id == main {
                object.lane = draft.lane.unwrap_or(object.lane);
            }
        }
        self.packets.extend(draft.emits);
        draft.creates.into_iter().for_each(|object| self.add(object));
    }

    /// Every process dies: what was claimed has failed once, and is tried again whatever its inbox says.
    pub(crate) fn crash(&mut self, max_attempts: u32) {
        let claimed: Vec<u64> =
            self.objects.iter().filter(|(_, object)| object.claimed).map(|(id, _)| *id).collect();
        for id in claimed {
            let object = self.objects.get_mut(&id).expect("it exists");
            object.claimed = false;
            object.ready = true;
            self.fail(id, max_attempts);
        }
        self.reserved = 0;
    }
}
