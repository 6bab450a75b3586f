//! A claimed object with the names and types of the application.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hotpair_shm::{Claim, Endpoint, Message, PortId, QueueId, Reading, Seq, Source};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::Error;

/// How long [`Job::commit_released`] waits.
pub(crate) const RELEASE_WAIT: Duration = Duration::from_secs(10);

/// A ready object in this worker's hands.
///
/// Dropping it gives the object back as it was; in a panic that counts as a failed attempt.
#[must_use = "a dropped job changes nothing"]
pub struct Job<'w> {
    pub(crate) claim: Claim<'w>,
}

/// A message that waited for the object.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'j> {
    message: Message<'j>,
}

impl<'j> Packet<'j> {
    #[cfg(feature = "remote")]
    pub(crate) fn new(message: Message<'j>) -> Self {
        Self { message }
    }

    /// The bytes that arrived, in place.
    pub fn payload(&self) -> &'j [u8] {
        self.message.payload()
    }

    /// Where they came from; `None` if from no socket.
    pub fn source(&self) -> Option<SocketAddr> {
        self.message.source().to_socket_addr()
    }

    /// A number that no other message of this region has had.
    pub fn id(&self) -> u64 {
        self.message.id()
    }
}

impl<'w> Job<'w> {
    #[inline]
    pub(crate) fn new(claim: Claim<'w>) -> Self {
        Self { claim }
    }

    /// The object's key; empty if it has none.
    pub fn key(&self) -> &[u8] {
        self.claim.key()
    }

    /// Number of the object's slot.
    pub fn slot(&self) -> u32 {
        self.claim.slot()
    }

    /// How often in a row work on this object has failed.
    pub fn attempts(&self) -> u32 {
        self.claim.attempts()
    }

    /// The messages that wait, oldest first. The commit consumes them.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = Packet<'_>> {
        self.claim.messages().map(|message| Packet { message })
    }

    /// Keeps the oldest `count` messages and leaves the others to the next claim of the object, which is ready again after the
    /// commit: for more work than one commit carries. See [`Claim::leave_messages`](hotpair_shm::Claim::leave_messages).
    pub fn leave_messages(&mut self, count: usize) -> bool {
        self.claim.leave_messages(count)
    }

    /// The value's bytes.
    pub fn value(&self) -> &[u8] {
        self.claim.value()
    }

    /// The value as a `T`; `None` while it is empty, as in a new object.
    pub fn value_ref<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<Option<&T>, Error> {
        let bytes = self.claim.value();
        if bytes.is_empty() {
            return Ok(None);
        }
        T::ref_from_bytes(bytes).map(Some).map_err(|_| shape::<T>(bytes.len()))
    }

    /// The value as a `T`, to be changed in place. An empty value becomes a zeroed `T`.
    pub fn value_mut<T: FromBytes + IntoBytes + KnownLayout>(&mut self) -> Result<&mut T, Error> {
        if self.claim.value().is_empty() {
            self.claim.set_value(&vec![0; size_of::<T>()])?;
        }
        let bytes = self.claim.value_mut()?;
        let found = bytes.len();
        T::mut_from_bytes(bytes).map_err(|_| shape::<T>(found))
    }

    /// The value's bytes, to be changed in place; their number stays.
    pub fn value_bytes_mut(&mut self) -> Result<&mut [u8], Error> {
        Ok(self.claim.value_mut()?)
    }

    /// The committed value of another object, in place, without claiming it; `None` if there is none. See
    /// [`Participant::read`](hotpair_shm::Participant::read).
    pub fn read(&self, queue: &str, key: &[u8]) -> Result<Option<Reading<'_>>, Error> {
        let queue = self.queue(queue)?;
        Ok(self.claim.participant().read(queue, key)?)
    }

    /// Replaces the value; its length may change.
    pub fn set_value(&mut self, value: &[u8]) -> Result<(), Error> {
        Ok(self.claim.set_value(value)?)
    }

    /// Sends a packet through the port `port` when the commit is released.
    pub fn emit(&mut self, port: &str, to: SocketAddr, payload: &[u8]) -> Result<(), Error> {
        let port = self.port(port)?;
        Ok(self.claim.emit(port, Endpoint::from(to), payload)?)
    }

    /// Sends a message with the commit to the object of `queue` that bears `key`, or to a new one if there is
    /// none: as a packet would, but it is part of the commit. Neither a death nor a failover loses or
    /// doubles it.
    pub fn send(&mut self, queue: &str, key: &[u8], payload: &[u8]) -> Result<(), Error> {
        let queue = self.queue(queue)?;
        Ok(self.claim.send(queue, key, payload)?)
    }

    /// Creates an object with the commit. It is idle until it gets a message.
    pub fn create(&mut self, queue: &str, key: Option<&[u8]>, value: &[u8]) -> Result<(), Error> {
        let queue = self.queue(queue)?;
        Ok(self.claim.create(queue, key, value, false)?)
    }

    /// Creates an object with the commit that becomes ready by its timer, after `timer`.
    pub fn create_timed(
        &mut self,
        queue: &str,
        key: Option<&[u8]>,
        value: &[u8],
        timer: Duration,
    ) -> Result<(), Error> {
        let queue = self.queue(queue)?;
        Ok(self.claim.create_timed(queue, 0, key, value, false, Some(timer))?)
    }

    /// Creates an object with the commit that is ready at once.
    pub fn create_ready(
        &mut self,
        queue: &str,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<(), Error> {
        let queue = self.queue(queue)?;
        Ok(self.claim.create(queue, key, value, true)?)
    }

    /// Puts the object into another priority lane of its queue, from the commit on: 0 is the most urgent, and
    /// a priority beyond the queue's lanes means the last one.
    pub fn set_priority(&mut self, priority: u8) {
        self.claim.set_priority(priority);
    }

    /// Ends the object with the commit.
    pub fn withdraw(&mut self) {
        self.claim.withdraw();
    }

    /// Makes the object ready again after `after`; replaces the timer it has. The deadline travels with
    /// the object: it fires on the survivor.
    pub fn set_timer(&mut self, after: Duration) {
        self.claim.set_timer(after);
    }

    /// Stops the timer.
    pub fn clear_timer(&mut self) {
        self.claim.clear_timer();
    }

    /// Time left on the timer as it will be committed.
    pub fn timer(&self) -> Option<Duration> {
        self.claim.timer()
    }

    /// Whether the timer is due. A commit that does not set it anew clears it.
    pub fn timer_due(&self) -> bool {
        self.claim.timer_due()
    }

    /// Makes the object ready again right after the commit.
    pub fn stay_ready(&mut self) {
        self.claim.stay_ready();
    }

    /// Does all that was asked for in one step, or nothing.
    ///
    /// Its return promises nothing to the outside: what the outside can see waits for the release.
    pub fn commit(self) -> Result<Seq, Error> {
        Ok(self.claim.commit()?)
    }

    /// Commits, and returns when the outside may know: the back-up holds the commit.
    pub fn commit_released(self) -> Result<Seq, Error> {
        let region = self.claim.participant().region().clone();
        let seq = self.claim.commit()?;
        let begun = Instant::now();
        while region.released() < seq {
            let waited = begun.elapsed();
            if waited > RELEASE_WAIT {
                return Err(Error::NotReleased { seq, waited });
            }
            if waited < Duration::from_micros(200) {
                std::hint::spin_loop();
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(seq)
    }

    /// Gives the object back as it was.
    pub fn give_back(self) {
        self.claim.give_back();
    }

    /// Notes that something went wrong: `hotpair errors` counts it under this text, which should tell errors apart and no more.
    pub fn note_error(&self, text: &str) {
        self.claim.participant().region().note_error(Source::Worker, text);
    }

    /// Gives the object back as a failed attempt.
    pub fn fail(self) {
        self.claim.fail();
    }

    fn port(&self, name: &str) -> Result<PortId, Error> {
        let region = self.claim.participant().region();
        region.port(name).ok_or_else(|| Error::NoSuchPort {
            name: name.to_owned(),
            known: region.geometry().ports.clone(),
        })
    }

    pub(crate) fn queue(&self, name: &str) -> Result<QueueId, Error> {
        let region = self.claim.participant().region();
        region.queue(name).ok_or_else(|| Error::NoSuchQueue {
            name: name.to_owned(),
            known: region.geometry().queues.iter().map(|queue| queue.name.clone()).collect(),
        })
    }
}

pub(crate) fn shape<T>(found: usize) -> Error {
    Error::ValueShape { found, wanted: std::any::type_name::<T>(), size: size_of::<T>() }
}
