//! Further objects of a claim: all of them change in one commit, or none.
//!
//! Nobody waits for an object while he holds another: two that did would wait for each other. Who meets a
//! conflict gives everything back; [`crate::conflict`] says when it is offered again.

use std::time::Duration;

use crate::claim::Claim;
use crate::held::{Held, Timer};
use crate::index::{self, Lookup};
use crate::participant::Participant;
use crate::pool::{OutOf, Supply};
use crate::region::{QueueId, Region};
use crate::sync::Ordering;
use crate::words::{SlotState, SlotWord};

/// Objects that one commit can change besides the one that was ready; messages from other objects count, up to eight.
pub const OTHERS_PER_CLAIM: usize = 15;

impl Claim<'_> {
    /// Takes the object of `queue` that bears `key` into the same commit: all of it happens, or nothing.
    ///
    /// Tries and never waits: two workers that waited for each other's object would wait for ever. After
    /// [`AlsoError::Conflict`] let go of the claim; everything is given back, and the object that was ready
    /// is offered again after a pause that grows with each conflict in a row. That counts as no attempt.
    ///
    /// What would have made the other object ready is not taken: it is ready afterwards if messages wait, if its
    /// timer is due, or if it was ready without either.
    pub fn also(&mut self, queue: QueueId, key: &[u8]) -> Result<Other, AlsoError> {
        let place = self.participant.work.others.len();
        if place == OTHERS_PER_CLAIM {
            return Err(AlsoError::TooMany);
        }
        match self.take_other(queue, key, self.hint.wrapping_add(place as u8 + 1)) {
            Ok(held) => {
                self.participant.work.others.push(held);
                Ok(Other(place))
            }
            Err(error) => {
                self.conflict |= error == AlsoError::Conflict;
                Err(error)
            }
        }
    }

    fn take_other(&self, queue: QueueId, key: &[u8], hint: u8) -> Result<Held, AlsoError> {
        let participant = &*self.participant;
        let region = &participant.region;
        let hash = region.key_hash(queue.0, key);
        let (slot, incarnation) = match index::lookup(&region.map, hash, queue.0, key) {
            Lookup::Found { slot, incarnation } => (slot, incarnation),
            Lookup::Absent { .. } => return Err(AlsoError::Absent),
            Lookup::Undecided { .. } | Lookup::Unstable => return Err(AlsoError::Conflict),
        };
        let mine = std::iter::once(&self.held).chain(&participant.work.others);
        if mine.into_iter().any(|held| held.slot == slot) {
            return Err(AlsoError::Held);
        }
        let row = region.map.slot(slot).ok_or(AlsoError::Conflict)?;
        let seen = SlotWord(row.word.load(Ordering::SeqCst));
        if seen.is(SlotState::Parked) {
            return Err(AlsoError::Parked);
        }
        // The incarnation is read after the word: if it is another, so is the word by now.
        if !seen.is_claimable() || row.incarnation.load(Ordering::Acquire) != incarnation {
            return Err(AlsoError::Conflict);
        }
        let word = participant.take_slot(row, slot, hint, seen).ok_or(AlsoError::Conflict)?;
        let mut held = Held::new(region, row, slot, word, seen.is(SlotState::Ready));
        held.stay_ready = held.was_ready;
        Ok(held)
    }

    /// An object that [`also`](Self::also) has taken.
    ///
    /// # Panics
    /// If `other` comes from another claim that had taken more objects.
    pub fn other(&mut self, other: Other) -> OtherObject<'_> {
        let Participant { region, work, supply, .. } = &mut *self.participant;
        OtherObject { held: &mut work.others[other.0], region, supply }
    }
}

/// Names an object that [`Claim::also`] has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Other(usize);

/// A further object of a claim: like the claim itself, but for messages and emitted packets.
pub struct OtherObject<'c> {
    held: &'c mut Held,
    region: &'c Region,
    supply: &'c mut Supply,
}

impl<'c> OtherObject<'c> {
    /// Number of the slot: the same on both nodes.
    pub fn slot(&self) -> u32 {
        self.held.slot
    }

    /// The object's key.
    pub fn key(&self) -> &[u8] {
        self.held.committed(&self.region.map).0
    }

    /// The value as it will be committed.
    pub fn value(&self) -> &[u8] {
        self.held.value(&self.region.map)
    }

    /// The value in a private block, to be changed in place. The first call copies.
    pub fn value_mut(self) -> Result<&'c mut [u8], OutOf> {
        self.held.value_mut(self.region, self.supply)
    }

    /// Replaces the value; its length may change.
    pub fn set_value(&mut self, value: &[u8]) -> Result<(), OutOf> {
        self.held.write_value(self.region, self.supply, Some(value)).map(drop)
    }

    /// See [`Claim::timer`].
    pub fn timer(&self) -> Option<Duration> {
        self.held.time_left()
    }

    /// See [`Claim::set_timer`].
    pub fn set_timer(&mut self, after: Duration) {
        self.held.set_timer(after);
    }

    /// See [`Claim::clear_timer`].
    pub fn clear_timer(&mut self) {
        self.held.timer = Timer::Cleared;
    }

    /// See [`Claim::stay_ready`].
    pub fn stay_ready(&mut self) {
        self.held.stay_ready = true;
    }

    /// See [`Claim::set_priority`].
    pub fn set_priority(&mut self, priority: u8) {
        self.held.set_priority(&self.region.map, priority);
    }

    /// See [`Claim::withdraw`]; the commit is refused if a message waits for the object.
    pub fn withdraw(&mut self) {
        self.held.withdraw = true;
    }
}

/// Why another object could not be taken into the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AlsoError {
    /// Somebody else works on it: let go of the claim, it is offered again after a pause.
    #[error("another worker has the object; the claim is to be given back and tried again later")]
    Conflict,
    /// No object of the queue bears the key.
    #[error("no object of the queue bears the key")]
    Absent,
    /// This claim holds it already.
    #[error("the object is part of this claim already")]
    Held,
    /// It failed too often.
    #[error("the object is parked")]
    Parked,
    /// One commit carries no more.
    #[error("a claim takes at most {OTHERS_PER_CLAIM} further objects")]
    TooMany,
}
