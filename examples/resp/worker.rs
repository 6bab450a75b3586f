//! The worker of connections: carries out what they have sent, and answers, in one commit.
//!
//! ```text
//!   messages of one connection ─► commands, in order ─► drafts of their keys, answers
//!                                    │ the commit is full: what is left stays in the inbox
//!                                    ▼
//!                one commit: keys, answers, messages consumed, how far the next one is done
//! ```
//!
//! So what was carried out and what is still to be are told apart by the commit itself: no death makes a command happen
//! twice, and an answer leaves when the back-up has what it tells.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use hotpair_ioports::Connection;
use hotpair_shm::{ENDPOINT_BYTES, Region};
use hotpair_worker::{CreateObjectError, Error, Job, Space, Wait};

use crate::commands::{self, Context, Words};
use crate::protocol;
use crate::reply::Reply;
use crate::session::Session;
use crate::store::{Drafts, Limits, Store, Trouble};

/// The longest packet of answers; the class of its blocks is the largest that is not larger.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// For so long after the region had no room for a key, commands that need some are refused.
const FULL_FOR: Duration = Duration::from_secs(1);

/// What lasts from one claim to the next: memory, and nothing about any connection or key.
pub(crate) struct Server<'a> {
    port: &'a str,
    keys: &'a str,
    block_bytes: usize,
    full_until: Option<Instant>,
    input: Vec<u8>,
    messages: Vec<(u64, Range<usize>)>,
    words: Vec<Range<usize>>,
    drafts: Drafts,
    reply: Reply,
}

/// Serves the connections of `queue` until the process is ended.
pub(crate) fn run(space: &str, queue: &str, keys: &str, port: &str) -> anyhow::Result<()> {
    let space = attach(space)?;
    let mut worker = space.worker(queue)?;
    let mut server = Server::new(&space, keys, port);
    Ok(worker.run(Wait::default(), |job| server.serve(job))?)
}

/// Ends the keys of `queue` whose time is over, until the process is ended.
pub(crate) fn expire(space: &str, queue: &str) -> anyhow::Result<()> {
    let mut worker = attach(space)?.worker(queue)?;
    Ok(worker.run(Wait::default(), |job| {
        if job.timer_due() {
            job.withdraw();
        }
        Ok::<_, Error>(())
    })?)
}

/// The node builds the region while its workers start. A file of that name is a finished region.
fn attach(space: &str) -> Result<Space, Error> {
    while !Region::path_for(space).exists() {
        thread::sleep(Duration::from_millis(10));
    }
    Space::attach(space)
}

impl<'a> Server<'a> {
    pub(crate) fn new(space: &Space, keys: &'a str, port: &'a str) -> Self {
        let classes = &space.region().geometry().classes;
        let largest = classes.iter().map(|class| class.payload_bytes as usize).max();
        Server {
            port,
            keys,
            block_bytes: largest.unwrap_or(0),
            full_until: None,
            input: Vec::new(),
            messages: Vec::new(),
            words: Vec::new(),
            drafts: Drafts::default(),
            reply: Reply::default(),
        }
    }

    /// One claim; what it asks of the job is committed when it returns.
    pub(crate) fn serve(&mut self, job: &mut Job<'_>) -> Result<(), Error> {
        let Some((peer, ended)) = self.receive(job) else {
            // Nothing but a hint that came late.
            return Ok(());
        };
        let before = Session::of(job.value());
        let mut session = before;
        let consumed = self.carry_out(job, &mut session)?;
        let all = consumed == self.messages.len();
        if !all {
            job.leave_messages(consumed);
        }
        let answer_bytes = self.answer_bytes();
        for answer in self.reply.bytes.chunks(answer_bytes) {
            job.emit(self.port, peer.address(), answer)?;
        }
        if ended && all {
            job.withdraw();
            return Ok(());
        }
        if session.quits && !before.quits {
            job.emit(self.port, peer.end(), b"")?;
        }
        if session != before {
            job.set_value(&session.value())?;
        }
        Ok(())
    }

    /// Copies what has come; says by which connection, and whether it has ended.
    fn receive(&mut self, job: &Job<'_>) -> Option<(Connection, bool)> {
        self.input.clear();
        self.messages.clear();
        let mut peer = None;
        let mut ended = false;
        for message in job.messages() {
            let begin = self.input.len();
            self.input.extend_from_slice(message.payload());
            self.messages.push((message.id(), begin..self.input.len()));
            let connection = message.source().and_then(Connection::of);
            ended |= connection.is_some_and(|connection| connection.is_end());
            // The end bears no port, and answers go to whom it is the end of all the same.
            peer = peer.or(connection);
        }
        Some((peer?, ended))
    }

    /// Carries commands out as long as one commit takes them; gives how many messages are done with.
    fn carry_out(&mut self, job: &mut Job<'_>, session: &mut Session) -> Result<usize, Error> {
        self.reply.bytes.clear();
        self.reply.resp3 = session.resp3;
        let full = self.full_until.is_some_and(|until| Instant::now() < until);
        let limits = Limits { block_bytes: self.block_bytes, full };
        let answer_bytes = self.answer_bytes();
        let mut store = Store::new(job, &mut self.drafts, self.keys, limits);
        let mut consumed = 0;
        'messages: for (id, range) in &self.messages {
            if self.reply.bytes.len() > answer_bytes || !store.takes_message() {
                break;
            }
            let message = &self.input[range.clone()];
            let mut at = session.done_of(*id).min(message.len());
            while !session.quits && at < message.len() {
                let rest = &message[at..];
                self.words.clear();
                let words = &mut self.words;
                // The port lets whole commands pass, and nothing else.
                let Ok(Some(length)) = protocol::command(rest, |word| words.push(word)) else {
                    break;
                };
                let answered = self.reply.bytes.len();
                let words = Words { bytes: rest, ranges: &self.words };
                let mut context = Context { store: &mut store, reply: &mut self.reply, session };
                let outcome = match words.len() {
                    0 => Ok(()),
                    _ => commands::run(&mut context, words),
                };
                // A long answer, as only what reads has: it is asked for again, with a commit of its own.
                let too_long =
                    !store.takes_answers(self.reply.bytes.len().div_ceil(answer_bytes) + 1);
                match outcome {
                    Ok(()) if too_long && answered == 0 => {
                        self.reply.bytes.clear();
                        self.reply.error("ERR the answer is longer than one commit carries");
                    }
                    Ok(()) if !too_long => {}
                    Ok(()) | Err(Trouble::Full) => {
                        self.reply.bytes.truncate(answered);
                        session.in_part = Some((*id, at as u32));
                        break 'messages;
                    }
                    Err(Trouble::Failed(error)) => return Err(error),
                    Err(Trouble::Say(_)) => unreachable!("it is said"),
                }
                at += length;
                if self.reply.bytes.len() > answer_bytes && at < message.len() {
                    session.in_part = Some((*id, at as u32));
                    break 'messages;
                }
            }
            consumed += 1;
            session.in_part = None;
        }
        let flushed = store.flush();
        if matches!(&flushed, Err(Error::OutOf(_) | Error::Create(CreateObjectError::OutOf(_)))) {
            // The claim is given back; what is said of the commands when it comes again is that there is no room.
            self.full_until = Some(Instant::now() + FULL_FOR);
        }
        flushed.map(|()| consumed)
    }

    /// What one packet carries.
    fn answer_bytes(&self) -> usize {
        ANSWER_BYTES_MAX.min(self.block_bytes) - ENDPOINT_BYTES
    }
}
