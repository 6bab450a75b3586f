//! What programs that are not workers look at: states of objects, told when they are released.
//!
//! ```text
//!   Get, Watch ──► read ──► held until released ≥ its seq ──► told
//!                   ▲                                          │ Watch
//!                   └───────── released has moved on ◄─────────┘
//! ```
//! One look at the region serves all watchers. It follows a release, and the next one comes a millisecond later at the
//! earliest: of the states that an object had in between, the last is told. Everything is forgotten when the node ceases to
//! serve; clients ask again, whoever serves then.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hotpair_shm::{Participant, QueueId, ReadError, Reading, Region, RoleEpoch, Seq};

use super::Limits;
use super::engine::{Broken, Engine, OUT_BYTES_MAX};
use super::session::{Session, SessionId};
use crate::remote::wire::{Event, GETS_MAX, Refusal};

/// Shortest time between two looks at all that is watched, and so much more for each watch: a tenth of the time goes into it.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const LOOK_EVERY_MORE: Duration = Duration::from_micros(2);

/// An object that somebody looks at.
#[derive(Debug)]
struct Look {
    ask: u32,
    /// It ends with its first answer.
    once: bool,
    queue: QueueId,
    key: Vec<u8>,
    /// The state that was read last.
    read: Option<Mark>,
    held: Option<Held>,
    /// It is to be read whether or not anything was released.
    due: bool,
    over: bool,
}

/// What tells two states of an object apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Absent,
    Written(Seq),
}

/// A state that is not released yet.
#[derive(Debug)]
struct Held {
    until: Seq,
    seq: Seq,
    value: Option<Vec<u8>>,
}

impl Held {
    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Vec::len)
    }
}

/// Everything that is looked at by way of this gateway.
#[derive(Debug, Default)]
pub(super) struct Looks {
    of: BTreeMap<SessionId, VecDeque<Look>>,
    watches: usize,
    /// What was released at the last turn.
    known: Seq,
    /// What was released when everything was looked at.
    looked: Seq,
    next: Option<Instant>,
    /// The next release is news.
    listens: bool,
}

impl Looks {
    /// Whether the bell of releases is to be heard.
    pub(super) fn listen(&self) -> bool {
        self.listens
    }

    /// Whether something was released since the last turn that somebody waits for.
    pub(super) fn is_due(&self, released: Seq) -> bool {
        self.listens && released != self.known
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, id: SessionId) {
        let gone = self.of.remove(&id).unwrap_or_default();
        self.watches -= gone.iter().filter(|look| !look.once).count();
        self.listens &= !self.of.is_empty();
    }

    /// The node serves no more, or in another epoch.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, id: SessionId, ask: u32) {
        let Some(looks) = self.of.get_mut(&id) else { return };
        if let Some(at) = looks.iter().position(|look| look.ask == ask)
            && let Some(look) = looks.remove(at)
        {
            self.watches -= usize::from(!look.once);
        }
    }
}

impl Engine {
    /// A question about an object, to be answered once or after each change.
    pub(super) fn begin_look(
        &mut self,
        id: SessionId,
        ask: u32,
        (queue, key): (u8, &[u8]),
        once: bool,
    ) -> Result<(), Broken> {
        if !self.role.serves() {
            // The client is being told, and asks the other node.
            return Ok(());
        }
        let receipts = self.receipts;
        let Some(queue) = self.region.queue_at(queue).filter(|&queue| queue != receipts) else {
            return Err(Broken(format!("there is no queue {queue} to look at")));
        };
        self.looks.remove(id, ask);
        let looks = self.looks.of.entry(id).or_default();
        let gets = looks.iter().filter(|look| look.once).count();
        if once && gets >= GETS_MAX {
            return Err(Broken(format!("a client has at most {GETS_MAX} unanswered gets")));
        }
        let (own, all) = (looks.len() - gets, self.looks.watches);
        let Limits { watches, watches_all, .. } = self.limits;
        if !once && (own >= watches as usize || all >= watches_all as usize) {
            if let Some(session) = self.sessions.get_mut(&id) {
                let refusal = Some(Refusal::TooMany);
                session.tell(&Event::State { ask, refusal, seq: 0, value: None });
                self.speak.push(id);
            }
            return Ok(());
        }
        let key = key.to_vec();
        let (read, held, due, over) = (None, None, true, false);
        looks.push_back(Look { ask, once, queue, key, read, held, due, over });
        self.looks.watches += usize::from(!once);
        Ok(())
    }

    /// Nobody wants to know any more.
    pub(super) fn end_look(&mut self, id: SessionId, ask: u32) {
        self.looks.remove(id, ask);
    }

    /// Tells what is released, and reads what may have changed. Says when it wants to be called again at the latest.
    pub(super) fn look(&mut self, now: Instant) -> Option<Duration> {
        let looks = &mut self.looks;
        looks.listens = false;
        looks.of.retain(|_, looks| !looks.is_empty());
        if looks.of.is_empty() {
            return None;
        }
        let released = self.region.released();
        if self.region.role() != self.role {
            // What another epoch has released says nothing about what was read in this one.
            return None;
        }
        let everything = looks.looked != released && looks.next.is_none_or(|next| next <= now);
        let eyes =
            Eyes { seat: &self.seat, region: &self.region, role: self.role, released, everything };
        let (mut holds, mut again) = (false, false);
        for (&id, looks) in &mut looks.of {
            let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.over) else {
                continue;
            };
            let before = session.out.len();
            let seen = eyes.look_for(session, looks);
            if session.out.len() > before {
                self.speak.push(id);
            }
            match seen {
                Ok(seen) => again |= seen,
                Err(RoleChanged) => return None,
            }
            looks.retain(|look| !look.over);
            holds |= looks.iter().any(|look| look.held.is_some());
        }
        let looks = &mut self.looks;
        looks.known = released;
        if everything {
            looks.looked = released;
            looks.next = Some(now + LOOK_EVERY + LOOK_EVERY_MORE * looks.watches as u32);
        }
        let waits = looks.looked != released;
        looks.listens = holds || !waits;
        let left = looks.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
        (waits || again).then_some(if waits { left } else { LOOK_EVERY })
    }
}

/// The role has changed while something was read: it may have been read out of what is being emptied.
struct RoleChanged;

/// What one turn looks with.
struct Eyes<'e> {
    seat: &'e Participant,
    region: &'e Region,
    role: RoleEpoch,
    released: Seq,
    everything: bool,
}

impl Eyes<'_> {
    /// All looks of one connection, as far as there is room for what they see. True: something could not be read.
    fn look_for(
        &self,
        session: &mut Session,
        looks: &mut VecDeque<Look>,
    ) -> Result<bool, RoleChanged> {
        for look in looks.iter_mut() {
            if let Some(held) = look.held.take_if(|held| held.until <= self.released) {
                look.tell(session, held.seq, held.value.as_deref());
            }
        }
        let mut waiting: usize =
            looks.iter().filter_map(|look| Some(look.held.as_ref()?.bytes())).sum();
        let (mut first_left, mut again) = (None, false);
        for (at, look) in looks.iter_mut().enumerate() {
            if look.over || look.held.is_some() || !(look.due || self.everything) {
                continue;
            }
            look.due = true;
            if session.out.len() + waiting >= OUT_BYTES_MAX {
                first_left.get_or_insert(at);
                continue;
            }
            match self.read(session, look)? {
                Ok(bytes) => waiting += bytes,
                Err(_) => again = true,
            }
        }
        // Whoever found no room is the first to find some.
        looks.rotate_left(first_left.unwrap_or(0));
        Ok(again)
    }

    /// Reads the object, and tells its state or holds it back. How many bytes are held.
    fn read(
        &self,
        session: &mut Session,
        look: &mut Look,
    ) -> Result<Result<usize, ReadError>, RoleChanged> {
        // An object that is not there has ended by a commit up to the second number, and begins by one after the first.
        let before = self.region.commit_seq();
        let reading = match self.seat.read(look.queue, &look.key) {
            Ok(reading) => reading,
            Err(error) => return Ok(Err(error)),
        };
        let after = self.region.commit_seq();
        if self.region.role() != self.role {
            return Err(RoleChanged);
        }
        look.due = false;
        let (mark, seq, until) = match &reading {
            Some(reading) => {
                let written = reading.written();
                (Mark::Written(written), written, reading.seq())
            }
            None => (Mark::Absent, before, after),
        };
        if look.read == Some(mark) {
            return Ok(Ok(0));
        }
        look.read = Some(mark);
        let value = reading.as_ref().map(Reading::value);
        if until <= self.released {
            look.tell(session, seq, value);
            return Ok(Ok(0));
        }
        let held = Held { until, seq, value: value.map(<[u8]>::to_vec) };
        let bytes = held.bytes();
        look.held = Some(held);
        Ok(Ok(bytes))
    }
}

impl Look {
    fn tell(&mut self, session: &mut Session, seq: Seq, value: Option<&[u8]>) {
        let (ask, seq) = (self.ask, seq.to_bits());
        session.tell(&Event::State { ask, refusal: None, seq, value });
        self.over = self.once;
    }
}

#[cfg(test)]
mod tests;
