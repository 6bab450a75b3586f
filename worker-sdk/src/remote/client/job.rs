//! A claimed object that came over the network, and the draft of its commit.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hotpair_shm::{
    AlsoError, CommitError, Endpoint, KEY_BYTES_MAX, Message, OTHERS_PER_CLAIM, ReadError, Seq,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::super::wire::{Effect, EffectsDraft, JobView, Outcome, PAYLOAD_BYTES_MAX, Refusal};
use super::RemoteError;
use super::session::{Ticket, Told};
use super::worker::RemoteWorker;
use crate::error::Error;
use crate::job::{Packet, shape};

/// A job as it came.
#[derive(Debug)]
pub(super) struct OwnedJob {
    pub(super) job: u64,
    pub(super) activation: u64,
    node: String,
    slot: u32,
    attempts: u32,
    timer_due: bool,
    /// When it is due.
    timer: Option<Instant>,
    key: Vec<u8>,
    value: Aligned,
    messages: Vec<(u64, Endpoint, Aligned)>,
}

/// Bytes that start at a multiple of 16, as in the region, so that they can be looked at as a type.
#[derive(Clone, Debug, Default)]
struct Aligned {
    words: Vec<u128>,
    len: usize,
}

impl Aligned {
    fn new(bytes: &[u8]) -> Self {
        let mut this = Self { words: vec![0; bytes.len().div_ceil(16)], len: bytes.len() };
        this.bytes_mut().copy_from_slice(bytes);
        this
    }

    fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.words.as_mut_bytes()[..self.len]
    }
}

impl OwnedJob {
    pub(super) fn new(view: &JobView<'_>, activation: u64, node: String) -> Self {
        let messages = view.messages.iter();
        Self {
            job: view.job,
            activation,
            node,
            slot: view.slot,
            attempts: view.attempts,
            timer_due: view.timer_due,
            timer: view.timer.and_then(|left| Instant::now().checked_add(left)),
            key: view.key.to_vec(),
            value: Aligned::new(view.value),
            messages: messages.map(|m| (m.id, m.source, Aligned::new(m.payload))).collect(),
        }
    }
}

/// A value that the commit replaces, if it was touched.
#[derive(Debug)]
struct Value {
    bytes: Aligned,
    changed: bool,
}

impl Value {
    fn typed<T: FromBytes + IntoBytes + KnownLayout>(&mut self) -> Result<&mut T, Error> {
        if self.bytes.len == 0 {
            self.bytes = Aligned::new(&vec![0; size_of::<T>()]);
        }
        self.changed = true;
        let found = self.bytes.len;
        T::mut_from_bytes(self.bytes.bytes_mut()).map_err(|_| shape::<T>(found))
    }

    fn set(&mut self, value: &[u8]) -> Result<(), Error> {
        limit(value)?;
        *self = Self { bytes: Aligned::new(value), changed: true };
        Ok(())
    }
}

/// An object that [`RemoteJob::also`] has taken.
#[derive(Debug)]
struct Taken {
    slot: u32,
    key: Vec<u8>,
    value: Value,
}

/// A ready object in this worker's hands.
///
/// Dropping it gives the object back as it was; in a panic that counts as a failed attempt.
#[must_use = "a dropped job changes nothing"]
pub struct RemoteJob<'w> {
    worker: &'w mut RemoteWorker,
    job: OwnedJob,
    value: Value,
    others: Vec<Taken>,
    effects: EffectsDraft,
    settled: bool,
    failed: bool,
}

/// The committed value of another object, as it was when it was asked for.
#[derive(Clone, Debug)]
pub struct RemoteReading {
    key: Vec<u8>,
    value: Aligned,
}

impl RemoteReading {
    /// The value's bytes.
    pub fn value(&self) -> &[u8] {
        self.value.bytes()
    }

    /// The object's key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl<'w> RemoteJob<'w> {
    pub(super) fn new(worker: &'w mut RemoteWorker, mut job: OwnedJob) -> Self {
        let value = Value { bytes: std::mem::take(&mut job.value), changed: false };
        let effects = EffectsDraft::default();
        Self { worker, job, value, others: Vec::new(), effects, settled: false, failed: false }
    }

    /// See [`crate::Job::key`].
    pub fn key(&self) -> &[u8] {
        &self.job.key
    }

    /// The node whose object it is: `node-a`, `node-b`.
    pub fn node(&self) -> &str {
        &self.job.node
    }

    /// See [`crate::Job::slot`].
    pub fn slot(&self) -> u32 {
        self.job.slot
    }

    /// See [`crate::Job::attempts`].
    pub fn attempts(&self) -> u32 {
        self.job.attempts
    }

    /// See [`crate::Job::messages`].
    pub fn messages(&self) -> impl ExactSizeIterator<Item = Packet<'_>> {
        self.job.messages.iter().map(|(id, source, payload)| {
            Packet::new(Message::from_afar(*id, *source, payload.bytes()))
        })
    }

    /// See [`crate::Job::value`].
    pub fn value(&self) -> &[u8] {
        self.value.bytes.bytes()
    }

    /// See [`crate::Job::value_ref`].
    pub fn value_ref<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<Option<&T>, Error> {
        let bytes = self.value();
        if bytes.is_empty() {
            return Ok(None);
        }
        T::ref_from_bytes(bytes).map(Some).map_err(|_| shape::<T>(bytes.len()))
    }

    /// See [`crate::Job::value_mut`].
    pub fn value_mut<T: FromBytes + IntoBytes + KnownLayout>(&mut self) -> Result<&mut T, Error> {
        self.value.typed()
    }

    /// See [`crate::Job::value_bytes_mut`].
    pub fn value_bytes_mut(&mut self) -> Result<&mut [u8], Error> {
        self.value.changed = true;
        Ok(self.value.bytes.bytes_mut())
    }

    /// See [`crate::Job::read`]. Costs a round trip, and is a copy.
    pub fn read(&self, queue: &str, key: &[u8]) -> Result<Option<RemoteReading>, Error> {
        let queue = self.worker.queue_index(queue)?;
        if limit_key(key).is_err() {
            return Ok(None); // nobody bears it
        }
        let shared = self.worker.shared();
        let Some(ask) = shared.with(|session| session.read(queue, key)) else {
            return Err(RemoteError::Stale.into());
        };
        match self.worker.wait_told(ask)? {
            Told::Value { refusal: None, value } => {
                Ok(value
                    .map(|value| RemoteReading { key: key.to_vec(), value: Aligned::new(&value) }))
            }
            Told::Value { refusal: Some(_), .. } => Err(Error::Read(ReadError::NeverStill)),
            _ => Err(RemoteError::Stale.into()),
        }
    }

    /// See [`crate::Job::set_value`].
    pub fn set_value(&mut self, value: &[u8]) -> Result<(), Error> {
        self.value.set(value)
    }

    /// See [`crate::Job::emit`].
    pub fn emit(&mut self, port: &str, to: SocketAddr, payload: &[u8]) -> Result<(), Error> {
        limit(payload)?;
        let port = self.worker.port_index(port)?;
        self.effects.push(Effect::Emit { port, to: Endpoint::from(to), payload });
        Ok(())
    }

    /// See [`crate::Job::send`].
    pub fn send(&mut self, queue: &str, key: &[u8], payload: &[u8]) -> Result<(), Error> {
        limit(payload)?;
        limit_key(key)?;
        let queue = self.worker.queue_index(queue)?;
        self.effects.push(Effect::Send { queue, key, payload });
        Ok(())
    }

    /// See [`crate::Job::create`]. That the key is another object's is found out by the commit.
    pub fn create(&mut self, queue: &str, key: Option<&[u8]>, value: &[u8]) -> Result<(), Error> {
        self.create_as(queue, key, value, false)
    }

    /// See [`crate::Job::create_ready`].
    pub fn create_ready(
        &mut self,
        queue: &str,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<(), Error> {
        self.create_as(queue, key, value, true)
    }

    fn create_as(
        &mut self,
        queue: &str,
        key: Option<&[u8]>,
        value: &[u8],
        ready: bool,
    ) -> Result<(), Error> {
        limit(value)?;
        let key = key.unwrap_or(&[]);
        if !key.is_empty() {
            limit_key(key)?;
        }
        let queue = self.worker.queue_index(queue)?;
        self.effects.push(Effect::Create { queue, key, value, ready });
        Ok(())
    }

    /// See [`crate::Job::set_priority`].
    pub fn set_priority(&mut self, priority: u8) {
        self.effects.push(Effect::Priority { of: 0, priority });
    }

    /// See [`crate::Job::withdraw`].
    pub fn withdraw(&mut self) {
        self.effects.push(Effect::Withdraw { of: 0 });
    }

    /// See [`crate::Job::set_timer`]. It runs from the commit.
    pub fn set_timer(&mut self, after: Duration) {
        self.job.timer = Instant::now().checked_add(after);
        self.effects.push(Effect::Timer { of: 0, after });
    }

    /// See [`crate::Job::clear_timer`].
    pub fn clear_timer(&mut self) {
        self.job.timer = None;
        self.effects.push(Effect::ClearTimer { of: 0 });
    }

    /// See [`crate::Job::timer`].
    pub fn timer(&self) -> Option<Duration> {
        self.job.timer.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// See [`crate::Job::timer_due`].
    pub fn timer_due(&self) -> bool {
        self.job.timer_due
    }

    /// See [`crate::Job::stay_ready`].
    pub fn stay_ready(&mut self) {
        self.effects.push(Effect::StayReady { of: 0 });
    }

    /// See [`crate::Job::also`]. Costs a round trip.
    pub fn also(&mut self, queue: &str, key: &[u8]) -> Result<RemoteOther, Error> {
        let queue = self.worker.queue_index(queue)?;
        if limit_key(key).is_err() {
            return Err(AlsoError::Absent.into());
        }
        let shared = self.worker.shared();
        let Some(ask) = shared.with(|session| session.also(&self.job, queue, key)) else {
            return Err(RemoteError::Stale.into());
        };
        match self.worker.wait_told(ask)? {
            Told::Taken { refusal: None, slot, value } if self.others.len() < OTHERS_PER_CLAIM => {
                let value = Value { bytes: Aligned::new(&value), changed: false };
                self.others.push(Taken { slot, key: key.to_vec(), value });
                Ok(RemoteOther(self.others.len() - 1))
            }
            Told::Taken { refusal: Some(refusal), .. } => match refusal {
                Refusal::Absent => Err(AlsoError::Absent.into()),
                Refusal::Held => Err(AlsoError::Held.into()),
                Refusal::Parked => Err(AlsoError::Parked.into()),
                Refusal::TooMany => Err(AlsoError::TooMany.into()),
                Refusal::Conflict => Err(AlsoError::Conflict.into()),
                _ => Err(RemoteError::Stale.into()),
            },
            _ => Err(RemoteError::Stale.into()),
        }
    }

    /// An object that [`also`](Self::also) has taken.
    ///
    /// # Panics
    /// If `other` comes from another job that had taken more objects.
    pub fn other(&mut self, other: RemoteOther) -> RemoteOtherJob<'_> {
        let of = other.0 as u8 + 1;
        RemoteOtherJob { of, taken: &mut self.others[other.0], effects: &mut self.effects }
    }

    /// Does all that was asked for in one step, or nothing, and returns when the outside may know.
    ///
    /// If the server was lost meanwhile, the other one is asked what has become of the commit: it is then either done
    /// (and the position is one that is not before it), or it never happens ([`RemoteError::Stale`]).
    pub fn commit(mut self) -> Result<Seq, Error> {
        let ticket = self.begin_commit(false)?;
        let shared = self.worker.shared();
        let patience = self.worker.patience();
        match shared.wait(Some(patience), |session| session.take_answer(ticket)) {
            Some((outcome, text)) => outcome_of(outcome, text),
            None => {
                shared.with(|session| session.forget(ticket));
                Err(RemoteError::Unanswered { waited: patience }.into())
            }
        }
    }

    /// The same: what a remote worker is told is released.
    pub fn commit_released(self) -> Result<Seq, Error> {
        self.commit()
    }

    #[cfg(feature = "tokio")]
    pub(super) fn worker(&self) -> &RemoteWorker {
        self.worker
    }

    /// Asks for the commit and does not wait for its answer: one that does not happen leaves the object ready, for whichever
    /// worker.
    pub fn commit_unanswered(mut self) -> Result<(), Error> {
        self.begin_commit(true).map(drop)
    }

    pub(super) fn begin_commit(&mut self, forget: bool) -> Result<Ticket, Error> {
        self.settled = true;
        let own = std::iter::once((0, &self.value));
        let others = self.others.iter().zip(1..).map(|(taken, of)| (of, &taken.value));
        for (of, value) in own.chain(others).filter(|(_, value)| value.changed) {
            self.effects.push(Effect::Value { of, value: value.bytes.bytes() });
        }
        let shared = self.worker.shared();
        let patience = self.worker.patience();
        let sent = shared.wait(Some(patience), |session| {
            let may = session.has_lane() || !session.is_current(self.job.activation);
            may.then(|| session.commit(&self.job, &self.effects, forget))
        });
        match sent {
            Some(Some(ticket)) => Ok(ticket),
            Some(None) => Err(RemoteError::Stale.into()),
            None => {
                // Nothing was sent: it has not happened.
                shared.with(|session| session.give_back(&self.job, false));
                Err(RemoteError::Unanswered { waited: patience }.into())
            }
        }
    }

    /// Gives the object back as it was.
    pub fn give_back(self) {}

    /// Gives the object back as a failed attempt.
    pub fn fail(mut self) {
        self.failed = true;
    }
}

impl Drop for RemoteJob<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let failed = self.failed || std::thread::panicking();
            self.worker.shared().with(|session| session.give_back(&self.job, failed));
        }
    }
}

/// Names an object that [`RemoteJob::also`] has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteOther(usize);

/// A further object in this worker's hands; see [`crate::OtherJob`].
pub struct RemoteOtherJob<'j> {
    of: u8,
    taken: &'j mut Taken,
    effects: &'j mut EffectsDraft,
}

impl<'j> RemoteOtherJob<'j> {
    /// Number of the object's slot.
    pub fn slot(&self) -> u32 {
        self.taken.slot
    }

    /// The object's key.
    pub fn key(&self) -> &[u8] {
        &self.taken.key
    }

    /// The value's bytes.
    pub fn value(&self) -> &[u8] {
        self.taken.value.bytes.bytes()
    }

    /// The value as a `T`, to be changed in place. An empty value becomes a zeroed `T`.
    pub fn value_mut<T: FromBytes + IntoBytes + KnownLayout>(self) -> Result<&'j mut T, Error> {
        self.taken.value.typed()
    }

    /// Replaces the value; its length may change.
    pub fn set_value(&mut self, value: &[u8]) -> Result<(), Error> {
        self.taken.value.set(value)
    }

    /// See [`RemoteJob::set_timer`].
    pub fn set_timer(&mut self, after: Duration) {
        self.effects.push(Effect::Timer { of: self.of, after });
    }

    /// See [`RemoteJob::clear_timer`].
    pub fn clear_timer(&mut self) {
        self.effects.push(Effect::ClearTimer { of: self.of });
    }

    /// See [`RemoteJob::stay_ready`].
    pub fn stay_ready(&mut self) {
        self.effects.push(Effect::StayReady { of: self.of });
    }

    /// See [`RemoteJob::set_priority`].
    pub fn set_priority(&mut self, priority: u8) {
        self.effects.push(Effect::Priority { of: self.of, priority });
    }

    /// Ends the object with the commit, which is refused if a message waits for the object.
    pub fn withdraw(&mut self) {
        self.effects.push(Effect::Withdraw { of: self.of });
    }
}

pub(super) fn outcome_of(outcome: Outcome, text: String) -> Result<Seq, Error> {
    match outcome {
        Outcome::Committed { seq } | Outcome::AlreadyCommitted { seq } => Ok(Seq::from_bits(seq)),
        Outcome::Stale => Err(RemoteError::Stale.into()),
        Outcome::Refused(refusal) => Err(match refusal {
            Refusal::Fenced => CommitError::Fenced.into(),
            Refusal::NewMessages => CommitError::NewMessages.into(),
            Refusal::KeyTaken => CommitError::KeyTaken.into(),
            Refusal::Busy => CommitError::Busy.into(),
            Refusal::RingFull => CommitError::RingFull.into(),
            Refusal::TooLarge => CommitError::TooLarge.into(),
            Refusal::OutOf => RemoteError::NoRoom { text }.into(),
            Refusal::Conflict => AlsoError::Conflict.into(),
            Refusal::Parked => AlsoError::Parked.into(),
            _ => RemoteError::Refused { text }.into(),
        }),
    }
}

pub(super) fn limit(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() <= PAYLOAD_BYTES_MAX {
        return Ok(());
    }
    let text = format!("{} bytes are more than {PAYLOAD_BYTES_MAX}", bytes.len());
    Err(RemoteError::NoRoom { text }.into())
}

/// What an object can be found by.
pub(super) fn limit_key(key: &[u8]) -> Result<(), Error> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(hotpair_shm::CreateObjectError::KeyLength { bytes: key.len() }.into())
}
