//! The worker: waiting for ready objects, and a loop that contains panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hotpair_shm::{Bell, CommitError, Participant, QueueId, ReadyObject, SLEEP_MAX, Source};

use crate::care::Care;
use crate::error::Error;
use crate::job::Job;
use crate::space::Space;
use crate::wait::Wait;

/// How often a waiting worker looks whether its region was replaced.
pub(crate) const SUCCESSOR_CHECK: Duration = Duration::from_secs(1);

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
    #[cfg(feature = "termination")]
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }

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
        Ok(self.claim_ready(wait)?.map(|ready| self.hold(ready)))
    }

    /// The same; what it gives is passed to [`hold`](Self::hold) at once.
    pub(crate) fn claim_ready(&mut self, wait: Wait) -> Result<Option<ReadyObject>, Error> {
        let begun = Instant::now();
        let mut checked = begun;
        self.care.look(begun);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if let Some(ready) = self.participant.claim_ready(self.queue) {
                return Ok(Some(ready));
            }
            let now = Instant::now();
            self.care.look(now);
            let waited = now - begun;
            let left = match wait.at_most {
                Some(limit) if waited >= limit => return Ok(None),
                Some(limit) => limit - waited,
                None => SLEEP_MAX,
            };
            if !wait.sleep {
                std::hint::spin_loop();
                continue;
            }
            // Whoever shares the core goes first: perhaps the one whose message is awaited.
            if waited < wait.spin && self.participant.give_way(Bell::Queue(self.queue)) {
                continue;
            }
            self.participant.wait_ready(self.queue, left);
            if checked.elapsed() > SUCCESSOR_CHECK {
                checked = Instant::now();
                self.follow_successor()?;
            }
        }
    }

    /// Moves to the region that took this one's place, if there is one; gives whether it did.
    pub(crate) fn follow_successor(&mut self) -> Result<bool, Error> {
        let Some(space) = self.space.successor() else { return Ok(false) };
        let stop = self.stop.clone();
        *self = Worker::new(space, &self.queue_name)?;
        self.stop = stop;
        Ok(true)
    }

    /// Looks once and does not wait; what it gives is passed to [`hold`](Self::hold) at once.
    pub(crate) fn look(&mut self) -> Option<ReadyObject> {
        self.care.look(Instant::now());
        self.participant.claim_ready(self.queue)
    }

    #[inline]
    pub(crate) fn hold(&mut self, ready: ReadyObject) -> Job<'_> {
        Job::new(self.participant.hold(ready))
    }

    /// A descriptor for an event loop of one's own: it is readable when something may be ready for this worker after
    /// [`arm`](Self::arm).
    ///
    /// ```no_run
    /// # use hotpair_worker::{Space, Wait};
    /// # fn poll(_: &std::os::unix::net::UnixDatagram, _: std::time::Duration) {}
    /// let mut worker = Space::attach("demo")?.worker("calls")?;
    /// let bell = worker.bell()?; // among the descriptors of the loop
    /// loop {
    ///     while let Some(job) = worker.claim(Wait::none())? {
    ///         job.commit()?;
    ///     }
    ///     if worker.arm() {
    ///         poll(&bell, worker.rest_at_most()); // poll(2), epoll, io_uring
    ///         worker.disarm();
    ///     }
    /// }
    /// # #[expect(unreachable_code)]
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bell(&mut self) -> std::io::Result<std::os::unix::net::UnixDatagram> {
        self.participant.bell_socket()
    }

    /// To be called before the loop sleeps, when a claim has found nothing. False: something may be ready already.
    pub fn arm(&mut self) -> bool {
        self.participant.arm_bell(Bell::Queue(self.queue))
    }

    /// To be called when the loop has slept: empties the descriptor.
    pub fn disarm(&mut self) {
        self.participant.disarm_bell(Bell::Queue(self.queue));
    }

    /// How long the loop may sleep, at most: objects that were given back with a pause ring no bell, and a stop does not either.
    pub fn rest_at_most(&self) -> Duration {
        self.participant.next_offer().map_or(SLEEP_MAX, |next| next.min(SLEEP_MAX))
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
        // Claims borrow the participant.
        let region = self.participant.region().clone();
        while let Some(mut job) = self.claim(wait)? {
            let slot = job.slot();
            #[cfg(feature = "spans")]
            let _span = tracing::info_span!("job", slot, attempt = job.attempts()).entered();
            // The job is dropped by the unwinding itself, which counts the attempt.
            let handler = &mut handler;
            let outcome = catch_unwind(AssertUnwindSafe(move || match handler(&mut job) {
                Ok(()) => Some(job.commit()),
                Err(error) => {
                    tracing::warn!(slot, %error, "the handler failed");
                    job.note_error(&format!("the handler failed: {error}"));
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
                    other => {
                        tracing::warn!(slot, error = %other, "the commit failed");
                        region.note_error(Source::Worker, &format!("the commit failed: {other}"));
                    }
                },
                Ok(_) => {}
                Err(_) => {
                    tracing::error!(slot, "the handler panicked");
                    region.note_error(Source::Worker, "the handler panicked");
                }
            }
        }
        Ok(())
    }
}
