//! Clients that count: each increments a counter of its own, several commands at a time, and notes what was answered.
//!
//! What was sent and not answered may have happened or not. So at the end a counter must stand between what was acknowledged
//! and that plus what is unknown; below is a loss, above a command that happened twice.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Commands that a client sends at once.
const PIPELINE: u64 = 8;
/// How long a client waits for an answer before it connects again.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long it takes for granted that somebody will serve.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&to, ANSWER_WAIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// One command of words without blanks, and the line that it is answered.
    pub(crate) fn ask(&mut self, line: &str) -> std::io::Result<String> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.line()
    }
}

/// What became of one counter's increments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    /// Increments that were answered.
    pub(crate) acknowledged: u64,
    /// Sent and never answered.
    pub(crate) unknown: u64,
    /// Answers that were not the next number.
    pub(crate) wrong: u64,
}

/// See the module.
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Count>>,
}

impl Crowd {
    /// `find` says where the store is, again and again.
    pub(crate) fn start(
        clients: usize,
        find: impl Fn() -> Option<SocketAddr> + Clone + Send + 'static,
    ) -> Crowd {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..clients).map(|number| {
            let (stop, answered, find) = (stop.clone(), answered.clone(), find.clone());
            thread::spawn(move || count(number, &stop, &answered, find))
        });
        let clients = clients.collect();
        Crowd { stop, answered, clients }
    }

    /// Answers so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits for so many answers more than now.
    pub(crate) fn wait_for(&self, more: u64) {
        let (from, begun) = (self.answered(), Instant::now());
        while self.answered() < from + more {
            assert!(begun.elapsed() < PATIENCE, "{} of {more} answers", self.answered() - from);
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the clients.
    pub(crate) fn end(self) -> Vec<Count> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().expect("a client")).collect()
    }
}

fn count(
    number: usize,
    stop: &AtomicBool,
    answered: &AtomicU64,
    find: impl Fn() -> Option<SocketAddr>,
) -> Count {
    let mut count = Count::default();
    let batch = format!("INCR counter{number}\r\n").repeat(PIPELINE as usize);
    let (mut client, mut last, mut open) = (None, 0, 0);
    while !stop.load(Ordering::Relaxed) {
        let Some(connected) = &mut client else {
            client = find().and_then(|at| Client::connect(at).ok());
            if client.is_none() {
                thread::sleep(Duration::from_millis(5));
            }
            continue;
        };
        let sent = connected.send(batch.as_bytes());
        let mut missing = PIPELINE;
        while sent.is_ok() && missing > 0 {
            let Ok(line) = connected.line() else { break };
            let Some(value) = line.strip_prefix(':').and_then(|value| value.parse::<u64>().ok())
            else {
                // An error: the store is there and will not do it, as one that is no primary any more.
                break;
            };
            missing -= 1;
            // The next one, or later by those of which nobody knows.
            count.wrong += u64::from(!(last + 1..=last + open + 1).contains(&value));
            (last, open) = (value, 0);
            count.acknowledged += 1;
            answered.fetch_add(1, Ordering::Relaxed);
        }
        if missing > 0 {
            count.unknown += missing;
            open += missing;
            client = None;
        }
    }
    count
}

/// What the counters say in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) acknowledged: u64,
    /// Acknowledged, and gone.
    pub(crate) lost: u64,
    /// Done more often than asked for.
    pub(crate) twice: u64,
    /// Answers that were not the next number.
    pub(crate) wrong: u64,
}

/// Compares the counters at `at` with what was answered.
pub(crate) fn verdict(at: SocketAddr, counts: &[Count]) -> Verdict {
    let mut client = Client::connect(at).expect("somebody serves");
    let mut verdict = Verdict::default();
    for (number, count) in counts.iter().enumerate() {
        let length = client.ask(&format!("GET counter{number}")).expect("an answer");
        let value = match length.as_str() {
            "$-1" => 0,
            _ => client.line().expect("a value").parse::<u64>().expect("a number"),
        };
        verdict.acknowledged += count.acknowledged;
        verdict.lost += count.acknowledged.saturating_sub(value);
        verdict.twice += value.saturating_sub(count.acknowledged + count.unknown);
        verdict.wrong += count.wrong;
    }
    verdict
}
