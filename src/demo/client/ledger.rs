//! What the client knows for sure: which effects it was told of, and so must find again.
//!
//! ```text
//!   due ──► waiting ──► in flight ──► answered ──► the next of the same object
//!                          │  ▲
//!                          └──┘ unanswered: again, under the same number
//! ```
//!
//! One request of an object is in flight at a time, so the number that it bears is the number of
//! effects before it plus one, and its answer must tell exactly the history that the ledger keeps.
//! Latency counts from the moment a request was due, so a request that waits behind an unanswered
//! one is charged for the wait.
//!
//! Takes times as arguments and does no input or output: everything here can be tested by table.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

use crate::demo::wire::{Answer, History, KEYLESS, Request};

/// An unanswered request is repeated after this time, then after twice as much, and so on.
const REPEAT_AFTER_NS: u64 = 20_000_000;
/// The longest time between repeats.
const REPEAT_AFTER_NS_MAX: u64 = 160_000_000;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The object with this number.
    Object(u32),
    /// A new object that lives for this one request.
    Keyless,
}

/// A request that was answered just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// When it was to be sent.
    pub(crate) due_ns: u64,
    /// When it was sent for the first time.
    pub(crate) sent_ns: u64,
}

/// Everything that went wrong, and how much went right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests that were answered.
    pub(crate) acked: u64,
    /// Packets sent beyond the first of each request.
    pub(crate) repeats: u64,
    /// Acknowledged effects that are gone.
    pub(crate) lost: u64,
    /// Effects that took place more often than they were asked for.
    pub(crate) duplicated: u64,
    /// Histories of the right length and another content.
    pub(crate) diverged: u64,
    /// Objects without a key that were asked for.
    pub(crate) added: u64,
    /// Of these, those that reported that they are gone again.
    pub(crate) withdrawn: u64,
}

#[derive(Debug, Default)]
struct Object {
    acked: History,
    /// Of the answer that brought `acked` about; a late double of it must say the same.
    acked_number: u64,
    waiting: VecDeque<u64>,
    flight: Option<Flight>,
    served_by: Option<u32>,
    served_by_several: bool,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    request: Request,
    due_ns: u64,
    sent_ns: u64,
    times: u32,
}

/// Which request a repeat is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    object: u32,
    number: u64,
}

/// The client's memory. See the module's head.
#[derive(Debug)]
pub(crate) struct Ledger {
    objects: Vec<Object>,
    keyless: HashMap<u64, Flight>,
    keyless_numbers: u64,
    startable: VecDeque<Ticket>,
    repeats: BinaryHeap<Reverse<(u64, Ticket)>>,
    random: u64,
    tally: Tally,
    by_worker: BTreeMap<u32, u64>,
}

impl Ledger {
    /// A ledger for `objects` objects; `seed` decides what the requests contain.
    pub(crate) fn new(objects: u32, seed: u64) -> Ledger {
        Ledger {
            objects: (0..objects).map(|_| Object::default()).collect(),
            keyless: HashMap::new(),
            keyless_numbers: 0,
            startable: VecDeque::new(),
            repeats: BinaryHeap::new(),
            random: seed,
            tally: Tally::default(),
            by_worker: BTreeMap::new(),
        }
    }

    /// A request for `target` is due.
    pub(crate) fn due(&mut self, target: Target, due_ns: u64) {
        match target {
            Target::Object(index) => {
                self.objects[index as usize].waiting.push_back(due_ns);
                self.start_next(index);
            }
            Target::Keyless => {
                self.keyless_numbers += 1;
                self.tally.added += 1;
                let ticket = Ticket { object: KEYLESS, number: self.keyless_numbers };
                let request = Request::new(KEYLESS, ticket.number, self.nonce());
                let flight = Flight { request, due_ns, sent_ns: 0, times: 0 };
                self.keyless.insert(ticket.number, flight);
                self.startable.push_back(ticket);
            }
        }
    }

    /// The next packet to send, if there is one now.
    pub(crate) fn poll_send(&mut self, now_ns: u64) -> Option<Request> {
        let ticket = match self.startable.pop_front() {
            Some(ticket) => ticket,
            None => loop {
                let Reverse((at_ns, ticket)) = *self.repeats.peek()?;
                if at_ns > now_ns {
                    return None;
                }
                self.repeats.pop();
                if self.flight(ticket).is_some() {
                    self.tally.repeats += 1;
                    break ticket;
                }
            },
        };
        let flight = self.flight(ticket).expect("a startable ticket's request is in flight");
        if flight.times == 0 {
            flight.sent_ns = now_ns;
        }
        let after = REPEAT_AFTER_NS << flight.times.min(8);
        flight.times += 1;
        let request = flight.request;
        self.repeats.push(Reverse((now_ns + after.min(REPEAT_AFTER_NS_MAX), ticket)));
        Some(request)
    }

    /// Whether a request waits to be sent for the first time.
    pub(crate) fn has_startable(&self) -> bool {
        !self.startable.is_empty()
    }

    /// When [`poll_send`](Self::poll_send) may have a packet to repeat.
    pub(crate) fn next_repeat_ns(&self) -> Option<u64> {
        self.repeats.peek().map(|Reverse((at_ns, _))| *at_ns)
    }

    /// Checks an answer. `None` when it answers nothing that is in flight.
    pub(crate) fn answer(&mut self, answer: &Answer) -> Option<Answered> {
        if answer.object() == KEYLESS {
            let flight = self.keyless.remove(&answer.number())?;
            let expected = History::default().with(answer.number(), flight.request.nonce());
            self.judge(answer.history(), expected);
            self.tally.acked += 1;
            self.tally.withdrawn += 1;
            return Some(Answered { due_ns: flight.due_ns, sent_ns: flight.sent_ns });
        }

        let object = self.objects.get_mut(answer.object() as usize)?;
        let flight = object.flight.filter(|flight| flight.request.number() == answer.number());
        let Some(flight) = flight else {
            // Packets that the back-up did not know to be sent come twice, and say the same twice.
            if answer.number() == object.acked_number && answer.history() != object.acked {
                let (told, acked) = (answer.history(), object.acked);
                self.judge(told, acked);
            }
            return None;
        };

        let expected = object.acked.with(answer.number(), flight.request.nonce());
        // What it tells now is what it must build on: one fault is counted once.
        object.acked = answer.history();
        object.acked_number = answer.number();
        object.flight = None;
        object.served_by_several |= object.served_by.is_some_and(|pid| pid != answer.pid());
        object.served_by = Some(answer.pid());
        *self.by_worker.entry(answer.pid()).or_default() += 1;
        self.judge(answer.history(), expected);
        self.tally.acked += 1;
        self.start_next(answer.object());
        Some(Answered { due_ns: flight.due_ns, sent_ns: flight.sent_ns })
    }

    /// Requests that are in flight or wait for one that is.
    pub(crate) fn unanswered(&self) -> u64 {
        let objects = self.objects.iter();
        let keyed: usize =
            objects.map(|object| object.waiting.len() + usize::from(object.flight.is_some())).sum();
        (keyed + self.keyless.len()) as u64
    }

    /// Counts as lost what an object was known to hold and does not answer for any more.
    pub(crate) fn give_up(&mut self) {
        for object in &self.objects {
            if object.flight.is_some() {
                self.tally.lost += object.acked.count;
            }
        }
    }

    /// Objects that at least two processes served.
    pub(crate) fn served_by_several(&self) -> u64 {
        self.objects.iter().filter(|object| object.served_by_several).count() as u64
    }

    /// Requests for objects with a key that each process has answered.
    pub(crate) fn by_worker(&self) -> &BTreeMap<u32, u64> {
        &self.by_worker
    }

    /// The counts so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    fn judge(&mut self, told: History, expected: History) {
        if told.count < expected.count {
            self.tally.lost += expected.count - told.count;
        } else if told.count > expected.count {
            self.tally.duplicated += told.count - expected.count;
        } else if told.hash != expected.hash {
            self.tally.diverged += 1;
        }
    }

    fn start_next(&mut self, index: u32) {
        let nonce = self.nonce();
        let object = &mut self.objects[index as usize];
        if object.flight.is_some() {
            return;
        }
        if let Some(due_ns) = object.waiting.pop_front() {
            let number = object.acked_number + 1;
            let request = Request::new(index, number, nonce);
            object.flight = Some(Flight { request, due_ns, sent_ns: 0, times: 0 });
            self.startable.push_back(Ticket { object: index, number });
        }
    }

    fn flight(&mut self, ticket: Ticket) -> Option<&mut Flight> {
        if ticket.object == KEYLESS {
            return self.keyless.get_mut(&ticket.number);
        }
        let flight = self.objects[ticket.object as usize].flight.as_mut();
        flight.filter(|flight| flight.request.number() == ticket.number)
    }

    /// xorshift64*: the requests only have to differ.
    fn nonce(&mut self) -> u64 {
        self.random |= 1;
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests;
