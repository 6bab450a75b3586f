//! A worker of another host in an event loop of one's own.

use std::os::fd::{AsFd, BorrowedFd};

use super::job::RemoteJob;
use super::worker::{RemoteWorker, STOP_CHECK};
use crate::error::Error;
use crate::polled::Events;
use crate::worker::Stopper;

/// A worker of another host whose claims never wait, and whose descriptor an event loop watches, as [`crate::PolledWorker`]
/// does.
///
/// [`RemoteJob::commit`] still waits a round trip for its answer; [`RemoteJob::commit_unanswered`] does not.
#[derive(Debug)]
pub struct PolledRemoteWorker {
    worker: RemoteWorker,
    events: Events,
}

impl PolledRemoteWorker {
    /// Makes `worker` one that is polled.
    ///
    /// # Errors
    /// [`Error::Bell`]: the process has no descriptors left.
    pub fn new(worker: RemoteWorker) -> Result<PolledRemoteWorker, Error> {
        let mut events = Events::new()?;
        events.listen(worker.bell()?)?;
        Ok(PolledRemoteWorker { worker, events })
    }

    /// The next object that has come, or `None`: there is none now, or the worker was stopped. See [`RemoteWorker::claim`] for
    /// errors.
    pub fn claim(&mut self) -> Result<Option<RemoteJob<'_>>, Error> {
        self.events.drain(); // what happens after this rings again
        self.events.rest(STOP_CHECK)?;
        self.worker.claim_come()
    }

    /// A handle by which others stop this worker.
    pub fn stopper(&self) -> Stopper {
        self.worker.stopper()
    }

    /// Whether it was asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.worker.stopper().is_stopped()
    }
}

impl AsFd for PolledRemoteWorker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
