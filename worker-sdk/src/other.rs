//! A further object of a job, changed by the same commit.

use std::time::Duration;

use hotpair_shm::{Other, OtherObject};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::error::Error;
use crate::job::{Job, shape};

impl<'w> Job<'w> {
    /// Takes the object of `queue` that bears `key` into the same commit: all of it happens, or nothing.
    ///
    /// Tries and never waits. After a conflict ([`AlsoError::Conflict`](hotpair_shm::AlsoError)) return the
    /// error: everything is given back, no attempt is counted, and the object is offered again after a short
    /// pause.
    pub fn also(&mut self, queue: &str, key: &[u8]) -> Result<Other, Error> {
        let queue = self.queue(queue)?;
        Ok(self.claim.also(queue, key)?)
    }

    /// An object that [`also`](Self::also) has taken.
    pub fn other(&mut self, other: Other) -> OtherJob<'_> {
        OtherJob { object: self.claim.other(other) }
    }
}

/// A further object in this worker's hands.
pub struct OtherJob<'j> {
    object: OtherObject<'j>,
}

impl<'j> OtherJob<'j> {
    /// Number of the object's slot.
    pub fn slot(&self) -> u32 {
        self.object.slot()
    }

    /// The object's key.
    pub fn key(&self) -> &[u8] {
        self.object.key()
    }

    /// The value's bytes.
    pub fn value(&self) -> &[u8] {
        self.object.value()
    }

    /// The value as a `T`, to be changed in place. An empty value becomes a zeroed `T`.
    pub fn value_mut<T: FromBytes + IntoBytes + KnownLayout>(mut self) -> Result<&'j mut T, Error> {
        if self.object.value().is_empty() {
            self.object.set_value(&vec![0; size_of::<T>()])?;
        }
        let bytes = self.object.value_mut()?;
        let found = bytes.len();
        T::mut_from_bytes(bytes).map_err(|_| shape::<T>(found))
    }

    /// Replaces the value; its length may change.
    pub fn set_value(&mut self, value: &[u8]) -> Result<(), Error> {
        Ok(self.object.set_value(value)?)
    }

    /// See [`Job::timer`].
    pub fn timer(&self) -> Option<Duration> {
        self.object.timer()
    }

    /// See [`Job::set_timer`].
    pub fn set_timer(&mut self, after: Duration) {
        self.object.set_timer(after);
    }

    /// See [`Job::clear_timer`].
    pub fn clear_timer(&mut self) {
        self.object.clear_timer();
    }

    /// See [`Job::stay_ready`].
    pub fn stay_ready(&mut self) {
        self.object.stay_ready();
    }

    /// See [`Job::set_priority`].
    pub fn set_priority(&mut self, priority: u8) {
        self.object.set_priority(priority);
    }

    /// Ends the object with the commit, which is refused if a message waits for the object.
    pub fn withdraw(&mut self) {
        self.object.withdraw();
    }
}
