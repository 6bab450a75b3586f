//! What bindings for other languages are made of: a worker, local or remote, with at most one object in its hands, in one value
//! that borrows nothing. Not for Rust programs, and not stable.

mod fork;
mod held;
mod nodes;
mod polled;

use std::net::SocketAddr;
use std::time::Duration;

use hotpair_shm::{Other, Seq};

use crate::error::Error;
use crate::job::Packet;
use crate::remote::{RemoteOther, RemoteSpace, RemoteWorker};
use crate::space::Space;
use crate::wait::Wait;
use crate::worker::{Stopper, Worker};
use held::Held;
pub use nodes::{RemoteOptions, remote_config};
use polled::Polled;

/// Why a call of a binding failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoundError {
    /// As in Rust.
    #[error(transparent)]
    Sdk(#[from] Error),
    /// What the language of Rust refuses at compile time.
    #[error("an object is in hand: commit it or give it back first")]
    InHand,
    /// The same.
    #[error("no object is in hand: it was committed or given back, or never claimed")]
    NothingInHand,
    /// A child has no part in its parent's seat.
    #[error("this worker belongs to the process that made it, and this is a fork of that process")]
    Forked,
    /// The value is there, and not as long as it should be.
    #[error("the object's value is {found} bytes, {wanted} were asked for")]
    Length {
        /// Its length.
        found: usize,
        /// As asked for.
        wanted: usize,
    },
    /// None of those that were taken.
    #[error("{count} further objects are in hand, and this is number {number}")]
    NoSuchOther {
        /// As asked for.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// Names, addresses or files that make no sense.
    #[error("{0}")]
    Options(String),
}

enum Kind {
    Local(Held<Worker>),
    Remote(Held<RemoteWorker>),
    /// Left to the process that made it.
    Gone,
}

#[derive(Clone, Copy)]
enum Taken {
    Local(Other),
    Remote(RemoteOther),
}

/// See the module. One thread at a time uses it; it may move between threads.
pub struct Bound {
    kind: Kind,
    others: Vec<Taken>,
    stopper: Stopper,
    process: u64,
    polled: Option<Polled>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("in_hand", &self.is_in_hand()).finish_non_exhaustive()
    }
}

/// The job in hand, whichever it is.
macro_rules! with_job {
    ($self:ident, $job:ident => $do:expr) => {
        match &$self.kind {
            Kind::Local(held) => match held.job() {
                Some($job) => $do,
                None => return Err(BoundError::NothingInHand),
            },
            Kind::Remote(held) => match held.job() {
                Some($job) => $do,
                None => return Err(BoundError::NothingInHand),
            },
            Kind::Gone => return Err(BoundError::Forked),
        }
    };
}

macro_rules! with_job_mut {
    ($self:ident, $job:ident => $do:expr) => {
        match &mut $self.kind {
            Kind::Local(held) => match held.job_mut() {
                Some($job) => $do,
                None => return Err(BoundError::NothingInHand),
            },
            Kind::Remote(held) => match held.job_mut() {
                Some($job) => $do,
                None => return Err(BoundError::NothingInHand),
            },
            Kind::Gone => return Err(BoundError::Forked),
        }
    };
}

/// One of the further objects of the job in hand.
macro_rules! with_other {
    ($self:ident, $number:expr, $object:ident => $do:expr) => {{
        let count = $self.others.len();
        let taken = $self.others.get($number).copied();
        match (&mut $self.kind, taken) {
            (Kind::Local(held), Some(Taken::Local(other))) => match held.job_mut() {
                Some(job) => {
                    #[allow(unused_mut, reason = "some calls change the object")]
                    let mut $object = job.other(other);
                    $do
                }
                None => return Err(BoundError::NothingInHand),
            },
            (Kind::Remote(held), Some(Taken::Remote(other))) => match held.job_mut() {
                Some(job) => {
                    #[allow(unused_mut, reason = "some calls change the object")]
                    let mut $object = job.other(other);
                    $do
                }
                None => return Err(BoundError::NothingInHand),
            },
            (Kind::Gone, _) => return Err(BoundError::Forked),
            _ => return Err(BoundError::NoSuchOther { number: $number, count }),
        }
    }};
}

type Bounded<T> = Result<T, BoundError>;

#[allow(
    missing_docs,
    reason = "each call is the one of the same name of `Job`, `OtherJob` or `Worker`"
)]
impl Bound {
    /// A worker in the region `space` of this host.
    pub fn local(space: &str, queue: &str) -> Bounded<Bound> {
        let worker = Space::attach(space)?.worker(queue)?;
        let stopper = worker.stopper();
        Ok(Self::of(Kind::Local(Held::new(worker)), stopper))
    }

    /// A worker of another host.
    pub fn remote(options: &RemoteOptions<'_>, queue: &str) -> Bounded<Bound> {
        let worker = RemoteSpace::new(remote_config(options)?).worker(queue)?;
        let stopper = worker.stopper();
        Ok(Self::of(Kind::Remote(Held::new(worker)), stopper))
    }

    fn of(kind: Kind, stopper: Stopper) -> Self {
        Self { kind, others: Vec::new(), stopper, process: fork::generation(), polled: None }
    }

    /// By which other threads stop it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Whether this is another process than the one that made it.
    #[inline]
    pub fn is_forked(&self) -> bool {
        self.process != fork::now()
    }

    /// To be called before anything else in each call.
    #[inline]
    pub fn check(&self) -> Bounded<()> {
        if self.is_forked() { Err(BoundError::Forked) } else { Ok(()) }
    }

    #[inline]
    pub fn is_in_hand(&self) -> bool {
        match &self.kind {
            Kind::Local(held) => held.job().is_some(),
            Kind::Remote(held) => held.job().is_some(),
            Kind::Gone => false,
        }
    }

    /// Whether it was asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.stopper.is_stopped()
    }

    /// Whether it is now an object in hand.
    #[inline]
    pub fn claim(&mut self, wait: Wait) -> Bounded<bool> {
        self.check()?;
        if self.is_in_hand() {
            return Err(BoundError::InHand);
        }
        self.others.clear();
        if self.polled.is_some() {
            return self.claim_polled(wait);
        }
        match &mut self.kind {
            Kind::Local(held) => Ok(held.claim(wait)?),
            Kind::Remote(held) => Ok(held.claim(wait)?),
            Kind::Gone => Err(BoundError::Forked),
        }
    }

    #[inline]
    pub fn key(&self) -> Bounded<&[u8]> {
        Ok(with_job!(self, job => job.key()))
    }

    pub fn slot(&self) -> Bounded<u32> {
        Ok(with_job!(self, job => job.slot()))
    }

    pub fn attempts(&self) -> Bounded<u32> {
        Ok(with_job!(self, job => job.attempts()))
    }

    #[inline]
    pub fn message_count(&self) -> Bounded<usize> {
        Ok(with_job!(self, job => job.messages().len()))
    }

    #[inline]
    pub fn message(&self, number: usize) -> Bounded<Option<Packet<'_>>> {
        Ok(with_job!(self, job => job.messages().nth(number)))
    }

    #[inline]
    pub fn value(&self) -> Bounded<&[u8]> {
        Ok(with_job!(self, job => job.value()))
    }

    /// The value, to be changed in place. An empty one becomes `length` zeros.
    #[inline]
    pub fn value_mut(&mut self, length: usize) -> Bounded<&mut [u8]> {
        let found = self.value()?.len();
        if found == 0 && length > 0 {
            self.set_value(&vec![0; length])?;
        } else if found != length {
            return Err(BoundError::Length { found, wanted: length });
        }
        Ok(with_job_mut!(self, job => job.value_bytes_mut()?))
    }

    #[inline]
    pub fn set_value(&mut self, value: &[u8]) -> Bounded<()> {
        with_job_mut!(self, job => job.set_value(value)?);
        Ok(())
    }

    pub fn read(&self, queue: &str, key: &[u8]) -> Bounded<Option<Vec<u8>>> {
        Ok(with_job!(self, job => job.read(queue, key)?.map(|found| found.value().to_vec())))
    }

    pub fn emit(&mut self, port: &str, to: SocketAddr, payload: &[u8]) -> Bounded<()> {
        with_job_mut!(self, job => job.emit(port, to, payload)?);
        Ok(())
    }

    pub fn send(&mut self, queue: &str, key: &[u8], payload: &[u8]) -> Bounded<()> {
        with_job_mut!(self, job => job.send(queue, key, payload)?);
        Ok(())
    }

    pub fn create(
        &mut self,
        queue: &str,
        key: Option<&[u8]>,
        value: &[u8],
        ready: bool,
    ) -> Bounded<()> {
        with_job_mut!(self, job => if ready {
            job.create_ready(queue, key, value)?;
        } else {
            job.create(queue, key, value)?;
        });
        Ok(())
    }

    pub fn set_priority(&mut self, priority: u8) -> Bounded<()> {
        with_job_mut!(self, job => job.set_priority(priority));
        Ok(())
    }

    pub fn withdraw(&mut self) -> Bounded<()> {
        with_job_mut!(self, job => job.withdraw());
        Ok(())
    }

    pub fn set_timer(&mut self, after: Duration) -> Bounded<()> {
        with_job_mut!(self, job => job.set_timer(after));
        Ok(())
    }

    pub fn clear_timer(&mut self) -> Bounded<()> {
        with_job_mut!(self, job => job.clear_timer());
        Ok(())
    }

    pub fn timer(&self) -> Bounded<Option<Duration>> {
        Ok(with_job!(self, job => job.timer()))
    }

    pub fn timer_due(&self) -> Bounded<bool> {
        Ok(with_job!(self, job => job.timer_due()))
    }

    #[inline]
    pub fn stay_ready(&mut self) -> Bounded<()> {
        with_job_mut!(self, job => job.stay_ready());
        Ok(())
    }

    /// The number by which the further object is named from now on.
    pub fn also(&mut self, queue: &str, key: &[u8]) -> Bounded<usize> {
        let taken = match &mut self.kind {
            Kind::Local(held) => {
                let job = held.job_mut().ok_or(BoundError::NothingInHand)?;
                Taken::Local(job.also(queue, key)?)
            }
            Kind::Remote(held) => {
                let job = held.job_mut().ok_or(BoundError::NothingInHand)?;
                Taken::Remote(job.also(queue, key)?)
            }
            Kind::Gone => return Err(BoundError::Forked),
        };
        self.others.push(taken);
        Ok(self.others.len() - 1)
    }

    pub fn other_slot(&mut self, number: usize) -> Bounded<u32> {
        Ok(with_other!(self, number, object => object.slot()))
    }

    /// Calls `look` with key and value.
    pub fn other_look<T>(
        &mut self,
        number: usize,
        look: impl FnOnce(&[u8], &[u8]) -> T,
    ) -> Bounded<T> {
        Ok(with_other!(self, number, object => look(object.key(), object.value())))
    }

    pub fn other_set_value(&mut self, number: usize, value: &[u8]) -> Bounded<()> {
        with_other!(self, number, object => object.set_value(value)?);
        Ok(())
    }

    pub fn other_set_timer(&mut self, number: usize, after: Duration) -> Bounded<()> {
        with_other!(self, number, object => object.set_timer(after));
        Ok(())
    }

    pub fn other_clear_timer(&mut self, number: usize) -> Bounded<()> {
        with_other!(self, number, object => object.clear_timer());
        Ok(())
    }

    pub fn other_stay_ready(&mut self, number: usize) -> Bounded<()> {
        with_other!(self, number, object => object.stay_ready());
        Ok(())
    }

    pub fn other_set_priority(&mut self, number: usize, priority: u8) -> Bounded<()> {
        with_other!(self, number, object => object.set_priority(priority));
        Ok(())
    }

    pub fn other_withdraw(&mut self, number: usize) -> Bounded<()> {
        with_other!(self, number, object => object.withdraw());
        Ok(())
    }

    #[inline]
    pub fn commit(&mut self) -> Bounded<Seq> {
        let done = match &mut self.kind {
            Kind::Local(held) => held.end(|job| job.commit()),
            Kind::Remote(held) => held.end(|job| job.commit()),
            Kind::Gone => return Err(BoundError::Forked),
        };
        Ok(done.ok_or(BoundError::NothingInHand)??)
    }

    pub fn commit_released(&mut self) -> Bounded<Seq> {
        let done = match &mut self.kind {
            Kind::Local(held) => held.end(|job| job.commit_released()),
            Kind::Remote(held) => held.end(|job| job.commit_released()),
            Kind::Gone => return Err(BoundError::Forked),
        };
        Ok(done.ok_or(BoundError::NothingInHand)??)
    }

    /// `failed`: as a failed attempt.
    pub fn give_back(&mut self, failed: bool) -> Bounded<()> {
        let done = match &mut self.kind {
            Kind::Local(held) => held.end(|job| if failed { job.fail() } else { job.give_back() }),
            Kind::Remote(held) => held.end(|job| if failed { job.fail() } else { job.give_back() }),
            Kind::Gone => return Err(BoundError::Forked),
        };
        done.ok_or(BoundError::NothingInHand)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.is_forked() {
            // Its seat, its object and its connections are the parent's.
            std::mem::forget(std::mem::replace(&mut self.kind, Kind::Gone));
        }
    }
}
