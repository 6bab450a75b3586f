//! Arbiters: one register with a compare-and-set, wherever it is kept, and the thread that asks it.
//!
//! ```text
//!   node's loop ── ask ──► thread ── attempt, again until the deadline ──► witness or etcd
//!               ◄─ answer ─┘
//! ```
//!
//! An [`Arbiter`] makes one attempt to get one question answered. Everything else is here, once:
//! every question is answered, if only by [`Answer::NoAnswer`]; a question whose attempt failed is
//! sent again unchanged, as [`Request`] allows; a connection is kept warm, because a failover must
//! not begin by finding out that it is dead. What keeps it warm is a read, which tells an arbiter
//! that lost its memory what this node knows.

use std::error::Error;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use crate::frames::Question;
use crate::protocol::{Answer, Request, RequestId, Testimony};

/// An idle connection is tried so often.
const KEEP_WARM: Duration = Duration::from_secs(5);
/// An arbiter that has forgotten waits for what the nodes know: they ask soon again.
const REMIND: Duration = Duration::from_millis(250);
/// How long such a trial may hold up a question that arrives meanwhile.
const TRIAL: Duration = Duration::from_millis(250);
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Why an attempt failed. Whether a compare-and-set landed is unknown then.
pub type AttemptError = Box<dyn Error + Send + Sync>;

/// A place where the pair's view is kept.
pub trait Arbiter: Send {
    /// Tries once to get an answer, until `deadline`.
    ///
    /// # Errors
    /// Whenever there is no answer that can be relied on. A late answer must not be taken for one to
    /// the next question.
    fn attempt(&mut self, question: &Question, deadline: Instant) -> Result<Answer, AttemptError>;

    /// Whether the next attempt needs no new connection.
    fn is_connected(&self) -> bool;

    /// Whether it is to be told of each view that this node learns of.
    fn keeps(&self) -> bool {
        false
    }

    /// Which one it is, for messages.
    fn name(&self) -> String;
}

struct Job {
    question: Question,
    deadline: Instant,
}

/// A node's connection to its arbiter. Dropping it ends the thread.
#[derive(Debug)]
pub struct ArbiterClient {
    jobs: Option<Sender<Job>>,
    keeps: bool,
    testimony: Arc<Mutex<Testimony>>,
    thread: Option<JoinHandle<()>>,
}

impl ArbiterClient {
    /// Starts a thread that calls `answers` exactly once for each question, in the order in which
    /// they were asked.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(
        arbiter: Box<dyn Arbiter>,
        testimony: Testimony,
        answers: impl FnMut(RequestId, Answer) + Send + 'static,
    ) -> io::Result<Self> {
        let keeps = arbiter.keeps();
        let testimony = Arc::new(Mutex::new(testimony));
        let asking = Asking {
            arbiter,
            testimony: Arc::clone(&testimony),
            pause: RETRY_MIN,
            complaint: String::new(),
            forgotten: false,
        };
        let (jobs, queue) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("arbiter".to_owned())
            .spawn(move || asking.run(&queue, answers))?;
        Ok(Self { jobs: Some(jobs), keeps, testimony, thread: Some(thread) })
    }

    /// Asks. Where nothing answers until `deadline`, the answer is [`Answer::NoAnswer`].
    pub fn ask(&self, question: Question, deadline: Instant) {
        self.knows(question.testimony);
        if let Some(jobs) = &self.jobs {
            // The thread ends only when this sender is dropped.
            let _ = jobs.send(Job { question, deadline });
        }
    }

    /// Makes an arbiter that keeps what this node knows ([`Arbiter::keeps`]) write it down soon. The answer bears a number
    /// that no question of a node has.
    pub fn note(&self, testimony: Testimony, deadline: Instant) {
        if self.keeps {
            let question = Question { id: RequestId(u64::MAX), testimony, request: Request::Read };
            self.ask(question, deadline);
        }
    }

    /// What this node knows by now, to be told to an arbiter that has forgotten.
    pub fn knows(&self, testimony: Testimony) {
        know(&self.testimony, testimony);
    }
}

impl Drop for ArbiterClient {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Knowledge only grows: what the thread heard last may be news to the loop.
fn know(known: &Mutex<Testimony>, testimony: Testimony) -> Testimony {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known =
        matches!(testimony, Testimony::Known(_)) || !matches!(*known, Testimony::Known(_));
    if is_known && testimony.number() >= known.number() {
        *known = testimony;
    }
    *known
}

struct Asking {
    arbiter: Box<dyn Arbiter>,
    testimony: Arc<Mutex<Testimony>>,
    pause: Duration,
    /// The last trouble that was logged: each is told once, not at every attempt.
    complaint: String,
    forgotten: bool,
}

impl Asking {
    fn run(mut self, queue: &Receiver<Job>, mut answers: impl FnMut(RequestId, Answer)) {
        self.try_connection();
        loop {
            let wait = match self.arbiter.is_connected() {
                true if self.forgotten => REMIND,
                true => KEEP_WARM,
                false => self.pause,
            };
            match queue.recv_timeout(wait) {
                Ok(job) => {
                    let answer = self.answer(&job);
                    answers(job.question.id, answer);
                }
                Err(RecvTimeoutError::Timeout) => self.try_connection(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn answer(&mut self, job: &Job) -> Answer {
        // A question does not wait out a pause that idleness has grown.
        self.pause = RETRY_MIN;
        loop {
            match self.attempt(&job.question, job.deadline) {
                Ok(answer) => return answer,
                Err(error) => self.complain(&*error),
            }
            let left = job.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Answer::NoAnswer;
            }
            thread::sleep(self.pause.min(left));
            self.pause = (self.pause * 2).min(RETRY_MAX);
        }
    }

    fn try_connection(&mut self) {
        // The number of a trial is never seen by a node.
        let (id, testimony) = (RequestId(u64::MAX), know(&self.testimony, Testimony::Nothing));
        let question = Question { id, testimony, request: Request::Read };
        match self.attempt(&question, Instant::now() + TRIAL) {
            Ok(_) => self.pause = RETRY_MIN,
            Err(error) => {
                self.complain(&*error);
                self.pause = (self.pause * 2).min(RETRY_MAX);
            }
        }
    }

    fn attempt(&mut self, question: &Question, until: Instant) -> Result<Answer, AttemptError> {
        let answer = self.arbiter.attempt(question, until)?;
        // Before the loop hears of it, or this thread could go on telling of an older view. A trial
        // alone makes no witness of a process that has not asked.
        if let Answer::Won(view) | Answer::Lost(Some(view)) | Answer::Current(Some(view)) = answer
            && question.id != RequestId(u64::MAX)
        {
            know(&self.testimony, Testimony::Known(view));
        }
        self.forgotten = answer == Answer::Forgotten;
        if !self.complaint.is_empty() {
            self.complaint.clear();
            tracing::info!(arbiter = self.arbiter.name(), "the arbiter answers again");
        }
        Ok(answer)
    }

    fn complain(&mut self, error: &(dyn Error + 'static)) {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        if text != self.complaint {
            tracing::warn!(arbiter = self.arbiter.name(), "no answer from the arbiter: {text}");
            self.complaint = text;
        }
    }
}
