//! Asking the witness: a thread with a warm connection, and an answer to every question.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::{FRAME_BYTES_MAX, FrameError, PROTOCOL, decode_answer, encode_question};
use crate::pki::Expect;
use crate::protocol::{Answer, Request, RequestId};
use crate::tls::{Channel, ChannelError, Credentials};

/// An idle connection is tried so often: a failover must not begin by finding out that it is dead.
const KEEP_WARM: Duration = Duration::from_secs(5);
/// How long such a trial may hold up a question that arrives meanwhile.
const TRIAL: Duration = Duration::from_millis(250);
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

struct Job {
    id: RequestId,
    request: Request,
    deadline: Instant,
}

/// A node's connection to the witness. Dropping it ends the thread.
#[derive(Debug)]
pub struct WitnessClient {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl WitnessClient {
    /// Starts a thread that keeps a connection to the witness at `address` warm and calls `answers`
    /// exactly once for each question, in the order in which they were asked.
    ///
    /// # Errors
    /// When the credentials are of no use, or no thread can be had.
    pub fn start(
        address: SocketAddr,
        credentials: &Credentials,
        answers: impl FnMut(RequestId, Answer) + Send + 'static,
    ) -> Result<Self, ChannelError> {
        let tls = |source| ChannelError::Tls { source };
        let config = credentials.client_config(Expect::witness(), PROTOCOL).map_err(tls)?;
        let asking = Asking {
            address,
            config: Arc::new(config),
            name: credentials.server_name("witness").map_err(tls)?,
            channel: None,
            pause: RETRY_MIN,
            complaint: String::new(),
        };
        let (jobs, queue) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("witness-client".to_owned())
            .spawn(move || asking.run(&queue, answers))
            .map_err(|source| ChannelError::Io { action: "start a thread", source })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Asks. Where nothing answers until `deadline`, the answer is [`Answer::NoAnswer`].
    ///
    /// A question whose connection broke is sent again unchanged, as [`Request`] allows.
    pub fn ask(&self, id: RequestId, request: Request, deadline: Instant) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only when this sender is dropped.
            let _ = jobs.send(Job { id, request, deadline });
        }
    }
}

impl Drop for WitnessClient {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Asking {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    channel: Option<Channel>,
    pause: Duration,
    /// The last trouble that was logged: each is told once, not at every attempt.
    complaint: String,
}

impl Asking {
    fn run(mut self, queue: &Receiver<Job>, mut answers: impl FnMut(RequestId, Answer)) {
        self.try_connection();
        loop {
            let wait = if self.channel.is_some() { KEEP_WARM } else { self.pause };
            match queue.recv_timeout(wait) {
                Ok(job) => {
                    let answer = self.answer(&job);
                    answers(job.id, answer);
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
            match self.attempt(job.id, &job.request, job.deadline) {
                Ok(answer) => return answer,
                Err(error) => self.complain(&error),
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
        match self.attempt(RequestId(u64::MAX), &Request::Read, Instant::now() + TRIAL) {
            Ok(_) => self.pause = RETRY_MIN,
            Err(error) => {
                self.complain(&error);
                self.pause = (self.pause * 2).min(RETRY_MAX);
            }
        }
    }

    /// One attempt. A connection that did not answer is dropped: a late answer has nowhere to go.
    fn attempt(
        &mut self,
        id: RequestId,
        request: &Request,
        deadline: Instant,
    ) -> Result<Answer, AskError> {
        let mut channel = match self.channel.take() {
            Some(channel) => channel,
            None => Channel::connect(
                self.address,
                Arc::clone(&self.config),
                self.name.clone(),
                FRAME_BYTES_MAX,
                deadline,
            )?,
        };
        channel.send(&encode_question(id, request), deadline)?;
        let frame =
            channel.receive(deadline, deadline.saturating_duration_since(Instant::now()))?;
        let (found, answer) = decode_answer(&frame)?;
        if found != id {
            return Err(FrameError::OtherAnswer { expected: id.0, found: found.0 }.into());
        }
        self.channel = Some(channel);
        if !self.complaint.is_empty() {
            self.complaint.clear();
            tracing::info!(witness = %self.address, "the witness answers again");
        }
        Ok(answer)
    }

    fn complain(&mut self, error: &AskError) {
        let mut text = error.to_string();
        let mut next = std::error::Error::source(error);
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        if text != self.complaint {
            tracing::warn!(witness = %self.address, "no answer from the witness: {text}");
            self.complaint = text;
        }
    }
}
