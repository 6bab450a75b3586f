//! `claim().await` and `commit().await` of a worker of another host, on tokio.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use hotpair_shm::Seq;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use super::RemoteError;
use super::io::Shared;
use super::job::{RemoteJob, outcome_of};
use super::session::{Session, Ticket};
use super::worker::{RemoteWorker, STOP_CHECK, look};
use crate::error::Error;
use crate::worker::Stopper;

/// A worker of another host whose claims and commits are awaited; see [`RemoteSpace::async_worker`](super::RemoteSpace::async_worker).
#[derive(Debug)]
pub struct AsyncRemoteWorker {
    worker: RemoteWorker,
    bell: UnixDatagram,
}

/// An object in its hands: every call of [`RemoteJob`], and commits that are awaited.
#[must_use = "a dropped job changes nothing"]
pub struct AsyncRemoteJob<'w> {
    job: RemoteJob<'w>,
    bell: &'w UnixDatagram,
}

impl<'w> Deref for AsyncRemoteJob<'w> {
    type Target = RemoteJob<'w>;

    fn deref(&self) -> &RemoteJob<'w> {
        &self.job
    }
}

impl<'w> DerefMut for AsyncRemoteJob<'w> {
    fn deref_mut(&mut self) -> &mut RemoteJob<'w> {
        &mut self.job
    }
}

impl AsyncRemoteWorker {
    pub(super) fn new(worker: RemoteWorker) -> Result<AsyncRemoteWorker, Error> {
        let shared = worker.shared();
        let bell = shared.open_bell().and_then(UnixDatagram::from_std).map_err(Error::Bell)?;
        Ok(AsyncRemoteWorker { worker, bell })
    }

    /// A handle by which others stop this worker.
    pub fn stopper(&self) -> Stopper {
        self.worker.stopper()
    }

    /// The next ready object. `None` when the worker was stopped. See [`RemoteWorker::claim`].
    ///
    /// It may be dropped at any time. An object that comes when nobody waits is the next claim's.
    pub async fn claim(&mut self) -> Result<Option<AsyncRemoteJob<'_>>, Error> {
        let shared = self.worker.shared();
        loop {
            if self.worker.is_stopped() {
                shared.with(Session::rest);
                return Ok(None);
            }
            drain(&self.bell);
            if let Some(found) = shared.with(look) {
                let job = RemoteJob::new(&mut self.worker, found?);
                return Ok(Some(AsyncRemoteJob { job, bell: &self.bell }));
            }
            rung(&self.bell).await;
        }
    }
}

impl AsyncRemoteJob<'_> {
    /// See [`RemoteJob::commit`]. Dropped before it returns, the commit may happen all the same.
    pub async fn commit(mut self) -> Result<Seq, Error> {
        let ticket = self.job.begin_commit(false)?;
        let (shared, patience) = (self.job.worker().shared(), self.job.worker().patience());
        let mut waiting = Waiting { shared, ticket: Some(ticket) };
        let begun = Instant::now();
        loop {
            drain(self.bell);
            if let Some((outcome, text)) =
                waiting.shared.with(|session| session.take_answer(ticket))
            {
                waiting.ticket = None;
                return outcome_of(outcome, text);
            }
            if begun.elapsed() > patience {
                return Err(RemoteError::Unanswered { waited: patience }.into());
            }
            rung(self.bell).await;
        }
    }

    /// Gives the object back as it was.
    pub fn give_back(self) {
        self.job.give_back();
    }

    /// Gives the object back as a failed attempt.
    pub fn fail(self) {
        self.job.fail();
    }
}

/// An answer that is waited for; if it is not any more, its lane is free when it comes.
struct Waiting {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.with(|session| session.forget(ticket));
        }
    }
}

/// Takes every ring out. What happens after this rings again.
fn drain(bell: &UnixDatagram) {
    while bell.try_recv(&mut [0; 8]).is_ok() {}
}

async fn rung(bell: &UnixDatagram) {
    let _ = timeout(STOP_CHECK, bell.readable()).await; // late is no harm
}
