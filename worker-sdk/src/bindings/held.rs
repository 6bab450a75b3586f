//! A worker and the job that borrows it, in one value.

#![expect(unsafe_code, reason = "a job and the worker that it borrows live in one value")]

use std::ptr::NonNull;

use crate::error::Error;
use crate::job::Job;
use crate::remote::{RemoteJob, RemoteWorker};
use crate::wait::Wait;
use crate::worker::Worker;

/// What gives jobs that borrow it.
pub(super) trait Claims: 'static {
    type Job<'w>;

    fn claim(&mut self, wait: Wait) -> Result<Option<Self::Job<'_>>, Error>;

    /// What is here already.
    fn claim_now(&mut self) -> Result<Option<Self::Job<'_>>, Error> {
        self.claim(Wait::none())
    }
}

impl Claims for Worker {
    type Job<'w> = Job<'w>;

    // Here, so that the job is made where it is kept.
    #[inline]
    fn claim(&mut self, wait: Wait) -> Result<Option<Job<'_>>, Error> {
        Ok(self.claim_ready(wait)?.map(|ready| self.hold(ready)))
    }
}

impl Claims for RemoteWorker {
    type Job<'w> = RemoteJob<'w>;

    fn claim(&mut self, wait: Wait) -> Result<Option<RemoteJob<'_>>, Error> {
        RemoteWorker::claim(self, wait)
    }

    fn claim_now(&mut self) -> Result<Option<RemoteJob<'_>>, Error> {
        self.claim_come()
    }
}

/// See the module. While there is a job nothing but the job uses the worker.
pub(super) struct Held<W: Claims> {
    /// Borrows `*worker`; never leaves this value but by [`end`](Self::end).
    job: Option<W::Job<'static>>,
    /// From a box, and this value's alone.
    worker: NonNull<W>,
}

// SAFETY:
// - the worker is owned like one in a box, and the job is the only one that points to it: both move together, and either may
//   move by itself.
unsafe impl<W: Claims + Send> Send for Held<W> where W::Job<'static>: Send {}

impl<W: Claims> Held<W> {
    pub(super) fn new(worker: W) -> Self {
        Self { job: None, worker: NonNull::from(Box::leak(Box::new(worker))) }
    }

    /// The worker; `None` while there is a job.
    pub(super) fn worker(&mut self) -> Option<&mut W> {
        if self.job.is_some() {
            return None;
        }
        // SAFETY:
        // - valid: it came from a box that `drop` alone takes back;
        // - not aliased: there is no job, and `&mut self` is the only way here.
        Some(unsafe { self.worker.as_mut() })
    }

    /// Claims; gives whether there is a job. The one in hand, if any, is given back first.
    #[inline]
    pub(super) fn claim(&mut self, wait: Wait) -> Result<bool, Error> {
        self.claim_by(|worker| worker.claim(wait))
    }

    /// The same, of what is here already.
    pub(super) fn claim_now(&mut self) -> Result<bool, Error> {
        self.claim_by(W::claim_now)
    }

    #[inline]
    fn claim_by(
        &mut self,
        claim: impl for<'w> FnOnce(&'w mut W) -> Result<Option<W::Job<'w>>, Error>,
    ) -> Result<bool, Error> {
        self.job = None;
        // SAFETY:
        // - valid: as above, and the job that borrows it for `'static` is gone before it: `drop` sees to the order, and
        //   nothing takes the job out but `end`, whose closure cannot keep it;
        // - not aliased: `worker` and this refuse, or end the job first.
        let worker: &'static mut W = unsafe { &mut *self.worker.as_ptr() };
        self.job = claim(worker)?;
        Ok(self.job.is_some())
    }

    /// The job in hand.
    #[inline]
    pub(super) fn job(&self) -> Option<&W::Job<'static>> {
        self.job.as_ref()
    }

    /// The same, to be changed in place; it must not be moved out of it.
    #[inline]
    pub(super) fn job_mut(&mut self) -> Option<&mut W::Job<'static>> {
        self.job.as_mut()
    }

    /// Ends the job in hand as `act` does.
    #[inline]
    pub(super) fn end<T>(&mut self, act: impl for<'w> FnOnce(W::Job<'w>) -> T) -> Option<T> {
        self.job.take().map(act)
    }
}

impl<W: Claims> Drop for Held<W> {
    fn drop(&mut self) {
        self.job = None;
        // SAFETY:
        // - it came from a box, and nobody has taken it back: a value is dropped once;
        // - not aliased: the job is gone.
        drop(unsafe { Box::from_raw(self.worker.as_ptr()) });
    }
}
