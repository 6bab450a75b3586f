//! The remote worker: waiting for ready objects, and a loop that contains panics.

use std::os::unix::net::UnixDatagram;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::io::Shared;
use super::job::{OwnedJob, RemoteJob};
use super::network::Network;
use super::session::{Counts, Purpose, Session, Told};
use super::{RemoteConfig, RemoteError};
use crate::error::Error;
use crate::wait::Wait;
use crate::worker::Stopper;

/// How often a waiting worker looks whether it was stopped.
pub(crate) const STOP_CHECK: Duration = Duration::from_millis(100);

/// Claims ready objects of one queue, of whichever node is primary.
pub struct RemoteWorker {
    network: Network,
    patience: Duration,
    stop: Arc<AtomicBool>,
}

impl std::fmt::Debug for RemoteWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteWorker").finish_non_exhaustive()
    }
}

impl RemoteWorker {
    pub(super) fn new(config: RemoteConfig, queue: &str) -> Result<RemoteWorker, Error> {
        if queue.is_empty() {
            return Err(Error::NoSuchQueue { name: String::new(), known: Vec::new() });
        }
        let patience = config.patience;
        let network = Network::start(config, Purpose::Worker(queue.to_owned()))?;
        Ok(RemoteWorker { network, patience, stop: Arc::new(AtomicBool::new(false)) })
    }

    /// A handle by which other threads stop this worker.
    pub fn stopper(&self) -> Stopper {
        Stopper::of(Arc::clone(&self.stop))
    }

    /// What has happened to it.
    pub fn counts(&self) -> Counts {
        self.network.shared().with(|session| session.counts)
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(self.network.shared())
    }

    #[cfg(feature = "tokio")]
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// The next ready object, whichever it is. `None` when the wait is over or the worker was stopped.
    ///
    /// While no node that it reaches is primary this waits. When a server is lost, it goes on with the other. That there is no
    /// such queue is found out here, when a gateway has been reached.
    pub fn claim(&mut self, wait: Wait) -> Result<Option<RemoteJob<'_>>, Error> {
        let begun = Instant::now();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                self.network.shared().with(Session::rest);
                return Ok(None);
            }
            let left = wait.at_most.map(|limit| limit.saturating_sub(begun.elapsed()));
            let now = left.map_or(STOP_CHECK, |left| left.min(STOP_CHECK));
            let found = self.network.shared().wait(Some(now), look);
            match found {
                Some(Ok(job)) => return Ok(Some(RemoteJob::new(self, job))),
                Some(Err(error)) => return Err(error),
                None if left.is_some_and(|left| left <= now) => {
                    // However short the wait was: what is ready is seen. It takes a round trip, or ends with the path.
                    let shared = self.network.shared();
                    let last = shared.with(Session::ask_for_last).and_then(|asked| {
                        shared.wait(None, |session| session.last_job(asked)).flatten()
                    });
                    if let Some(job) = last {
                        return Ok(Some(RemoteJob::new(self, job)));
                    }
                    self.network.shared().with(Session::rest);
                    return Ok(None);
                }
                None => {}
            }
        }
    }

    /// What has come already; asks nobody and does not wait.
    pub(crate) fn claim_come(&mut self) -> Result<Option<RemoteJob<'_>>, Error> {
        if self.stop.load(Ordering::Relaxed) {
            self.network.shared().with(Session::rest);
            return Ok(None);
        }
        match self.network.shared().with(look) {
            Some(Ok(job)) => Ok(Some(RemoteJob::new(self, job))),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }

    /// Rings whenever something has come.
    pub(crate) fn bell(&self) -> Result<UnixDatagram, Error> {
        self.network.shared().open_bell().map_err(Error::Bell)
    }

    /// Works until stopped: `handler` gets each ready object, `Ok` commits it; see [`crate::Worker::run`].
    ///
    /// Commits are not waited for one by one: while they travel, the next object is worked on. A commit that does not happen
    /// leaves its object ready, for whichever worker.
    pub fn run<E: std::fmt::Display>(
        &mut self,
        wait: Wait,
        mut handler: impl FnMut(&mut RemoteJob<'_>) -> Result<(), E>,
    ) -> Result<(), Error> {
        while let Some(mut job) = self.claim(wait)? {
            let slot = job.slot();
            #[cfg(feature = "spans")]
            let _span = tracing::info_span!("job", slot, attempt = job.attempts()).entered();
            // The job is dropped by the unwinding itself, which counts the attempt.
            let handler = &mut handler;
            let outcome = catch_unwind(AssertUnwindSafe(move || match handler(&mut job) {
                Ok(()) => Some(job.commit_unanswered()),
                Err(error) => {
                    tracing::warn!(slot, %error, "the handler failed");
                    job.fail();
                    None
                }
            }));
            match outcome {
                // The object is ready again.
                Ok(Some(Err(error))) => tracing::debug!(slot, %error, "the commit did not happen"),
                Ok(_) => {}
                Err(_) => tracing::error!(slot, "the handler panicked"),
            }
        }
        let quiet = |session: &mut Session| session.is_quiet().then_some(());
        match self.network.shared().wait(Some(self.patience), quiet) {
            Some(()) => Ok(()),
            None => Err(RemoteError::Unanswered { waited: self.patience }.into()),
        }
    }

    pub(super) fn wait_told(&self, ask: u32) -> Result<Told, Error> {
        match self.network.shared().wait(Some(self.patience), |session| session.take_told(ask)) {
            Some(told) => Ok(told),
            None => {
                self.network.shared().with(|session| session.forget_ask(ask));
                Err(RemoteError::Unanswered { waited: self.patience }.into())
            }
        }
    }

    pub(super) fn queue_index(&self, name: &str) -> Result<u8, Error> {
        let find = |session: &mut Session| index(&session.queues, name);
        self.network
            .shared()
            .with(find)
            .map_err(|known| Error::NoSuchQueue { name: name.to_owned(), known })
    }

    pub(super) fn port_index(&self, name: &str) -> Result<u8, Error> {
        let find = |session: &mut Session| index(&session.ports, name);
        self.network
            .shared()
            .with(find)
            .map_err(|known| Error::NoSuchPort { name: name.to_owned(), known })
    }
}

/// An object that has come, or why none will.
pub(super) fn look(session: &mut Session) -> Option<Result<OwnedJob, Error>> {
    match &session.refused {
        Some(text) if !session.is_active() => {
            let text = text.clone();
            session.refused = None;
            Some(Err(Error::from(RemoteError::Refused { text })))
        }
        _ => match session.lacks_queue() {
            Some(known) => {
                let name = session.queue().unwrap_or_default().to_owned();
                Some(Err(Error::NoSuchQueue { name, known }))
            }
            None => session.next_job().map(Ok),
        },
    }
}

/// The place of a name, or the names that there are. Those of the gateway itself are nobody else's.
pub(super) fn index(names: &[String], name: &str) -> Result<u8, Vec<String>> {
    let ours = |known: &&String| !known.starts_with("hotpair.");
    match names.iter().position(|known| known == name && ours(&known)) {
        Some(at) => Ok(at as u8),
        None => Err(names.iter().filter(ours).cloned().collect()),
    }
}

impl Drop for RemoteWorker {
    fn drop(&mut self) {
        self.network.shared().with(Session::rest);
    }
}
