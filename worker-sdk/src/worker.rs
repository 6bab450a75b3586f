//! The worker: waiting for ready objects, and a loop that contains panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hotpair_shm::{CommitError, Participant, QueueId};

use crate::care::Care;
use crate::error::Error;
use crate::job::Job;
use crate::space::Space;
use crate::wait::Wait;

/// How often a waiting worker looks whether its region was replaced.
const SUCCESSOR_CHECK: Duration = Duration::from_secs(1);

/// Claims ready objects of one queue.
#[derive(Debug)]
pub struct Worker {
    participant: Participant,
    care: Care,
    space: Space,
    queue: QueueId,
    queue_name: String,
    stop: Arc<AtomicBool>,
}

/// Asks a worker to stop after the object in its hands.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<AtomicBool>);

impl Stopper {
    #[cfg(feature = "remote")]
    pub(crate) fn of(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    /// The worker's next claim is `None`. A sleeping worker notices within 100 ms.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has asked it to.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Worker {
    pub(crate) fn new(space: Space, queue: &str) -> Result<Worker, Error> {
        let id = space.region().queue(queue).ok_or_else(|| Error::NoSuchQueue {
            name: queue.to_owned(),
            known: space.region().geometry().queues.iter().map(|q| q.name.clone()).collect(),
        })?;
        let participant = space.join(queue)?;
        let queue_name = queue.to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let care = Care::new(participant.region());
        Ok(Worker { participant, care, space, queue: id, queue_name, stop })
    }

    /// A handle by which other threads stop this worker.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// The space this worker is attached to.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The next ready object, whichever it is. `None` when the wait is over or the worker was stopped.
    ///
    /// Where the region has no node, workers look after each other: what a dead one held is ready again after 100 ms or so.
    /// While the node is a back-up this waits: it wakes within microseconds of a promotion.
    pub fn claim(&mut self, wait: Wait) -> Result<Option<Job<'_>>, Error> {
        let begun = Instant::now();
        let mut checked = begun;
        self.care.look(begun);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if let Some(ready) = self.participant.claim_ready(self.queue) {
                return Ok(Some(Job::new(self.participant.hold(ready))));
            }
            let now = Instant::now();
            self.care.look(now);
            let waited = now - begun;
            let left = match wait.at_most {
                Some(limit) if waited >= limit => return Ok(None),
                Some(limit) => limit - waited,
                None => hotpair_shm::SLEEP_MAX,
            };
            if !wait.sleep || waited < wait.spin {
                std::hint::spin_loop();
                continue;
            }
            self.participant.wait_ready(self.queue, left);
            if checked.elapsed() > SUCCESSOR_CHECK {
                checked = Instant::now();
                self.follow_successor()?;
            }
        }
    }

    /// Moves to the region that took this one's place, if there is one.
    fn follow_successor(&mut self) -> Result<(), Error> {
        if let Some(space) = self.space.successor() {
            let stop = self.stop.clone();
            *self = Worker::new(space, &self.queue_name)?;
            self.stop = stop;
        }
        Ok(())
    }

    /// Works until stopped: `handler` gets each ready object, `Ok` commits it.
    ///
    /// An error gives the object back as a failed attempt. So does a panic, which ends here. After the
    /// region's `max_attempts` failures in a row the object is parked, and `hotpair status` shows it.
    pub fn run<E: std::fmt::Display>(
        &mut self,
        wait: Wait,
        mut handler: impl FnMut(&mut Job<'_>) -> Result<(), E>,
    ) -> Result<(), Error> {
        while let Some(mut job) = self.claim(wait)? {
            let slot = job.slot();
            // The job is dropped by the unwinding itself, which counts the attempt.
            let handler = &mut handler;
            let outcome = catch_unwind(AssertUnwindSafe(move || match handler(&mut job) {
                Ok(()) => Some(job.commit()),
                Err(error) => {
                    tracing::warn!(slot, %error, "the handler failed");
                    job.fail();
                    None
                }
            }));
            match outcome {
                Ok(Some(Err(error))) => match error {
                    // The object is ready again; the next execution sees what was in the way.
                    Error::Commit(
                        CommitError::Fenced
                        | CommitError::NewMessages
                        | CommitError::KeyTaken
                        | CommitError::Busy,
                    ) => tracing::debug!(slot, %error, "the commit is tried again"),
                    other => tracing::warn!(slot, error = %other, "the commit failed"),
                },
                Ok(_) => {}
                Err(_) => tracing::error!(slot, "the handler panicked"),
            }
        }
        Ok(())
    }
}
