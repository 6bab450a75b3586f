//! The demo's client: an open-loop load in a process of its own, and a check of every answer.
//!
//! It is told on stdin: `go`; `mark NS SIDE` right after something was killed; `burst TIMES MS`; `round`, to report what has come
//! since the last round and to forget the mark; `end`, to end the load before its time. It
//! reports on stdout, one JSON object a line: `ready`, `progress`, `answered` (after a kill), `round`, `result`.

mod class;
mod latency;
mod ledger;

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use serde_json::json;
use zerocopy::IntoBytes;

use self::class::scattered;
pub(crate) use self::class::{Class, HOT_OBJECTS};
use self::latency::Latency;
use self::ledger::{Ledger, Tally, Target};
use super::wire::Answer;
use crate::clock::monotonic_ns;
use crate::exit::Exit;
use crate::process::{Lines, wait};
use crate::report::{Failure, Outcome};

const SECOND_NS: u64 = 1_000_000_000;
/// One request in this many is for an object of its own.
const KEYLESS_EVERY: u64 = 10;
/// Answers that are noted after a kill, to find the first of the survivor's among them.
const ANSWERS_NOTED: usize = 512;
/// Packets sent before the client looks for answers again.
const BURST: usize = 64;

/// What the client is to do.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Where the service answers.
    #[arg(long)]
    service: SocketAddr,
    /// Requests per second, of each class.
    #[arg(long)]
    rate: u32,
    /// Classes of clients; without any, requests for all objects and some new ones
    #[arg(long, value_delimiter = ',')]
    classes: Vec<Class>,
    /// How long the load lasts.
    #[arg(long)]
    seconds: u32,
    /// Objects with a key.
    #[arg(long)]
    objects: u32,
    /// How long unanswered requests are repeated when the load is over.
    #[arg(long, default_value_t = 10)]
    patience_seconds: u32,
}

/// Runs the load.
pub(crate) fn run(options: &Options) -> Outcome {
    let mut client = Client::open(options)?;

    // Every object exists before the load, so that the load leaves behind what it found.
    client.ask_all();
    client.settle(u64::from(options.patience_seconds) * SECOND_NS);
    client.say(json!({"event": "ready", "unanswered": client.ledger.unanswered()}));
    while !client.go && !client.orphaned() {
        client.turn(monotonic_ns() + SECOND_NS / 10);
    }

    client.load();
    client.settle(u64::from(options.patience_seconds) * SECOND_NS);
    // One last question to each object: what an object lost after its last answer shows here.
    client.latency.pause();
    if client.ledger.unanswered() == 0 {
        client.ask_all();
        client.settle(u64::from(options.patience_seconds) * SECOND_NS);
    }
    client.report();
    Ok(Exit::Ok)
}

struct Client {
    options: Options,
    socket: UdpSocket,
    words: Lines,
    ledger: Ledger,
    latency: Latency,
    go: bool,
    end: bool,
    burst: Option<Burst>,
    /// The answers after the mark were told.
    told: bool,
    killed_side: Option<u8>,
    /// When, by which side, for whom.
    noted: VecDeque<(u64, u8, Class)>,
    gap: Gap,
    /// The same for each class.
    gaps: Vec<(Class, Gap)>,
    /// At the last round.
    reported: Tally,
}

/// More than the ordinary rate, for a while.
#[derive(Clone, Copy, Debug)]
struct Burst {
    times: u64,
    until_ns: u64,
}

/// The longest time without an answer since the mark.
#[derive(Clone, Copy, Debug, Default)]
struct Gap {
    last_ns: u64,
    longest_ns: u64,
}

impl Gap {
    fn mark(&mut self, at_ns: u64) {
        *self = Gap { last_ns: at_ns, longest_ns: 0 };
    }

    fn answer(&mut self, at_ns: u64) {
        if self.last_ns != 0 {
            self.longest_ns = self.longest_ns.max(at_ns.saturating_sub(self.last_ns));
        }
        self.last_ns = at_ns;
    }
}

impl Client {
    fn open(options: &Options) -> Result<Client, Failure> {
        let failed =
            |error: std::io::Error| Failure::new("cannot start the client").caused_by(&error);
        // From any address to the service: on loopback the kernel picks the right one.
        let any: SocketAddr = match options.service {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let stdin: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
        Ok(Client {
            options: options.clone(),
            socket,
            words: Lines::new(stdin).map_err(failed)?,
            ledger: Ledger::new(options.objects, monotonic_ns()),
            latency: Latency::new(),
            go: false,
            end: false,
            burst: None,
            told: true,
            killed_side: None,
            noted: VecDeque::new(),
            gap: Gap::default(),
            gaps: options.classes.iter().map(|class| (*class, Gap::default())).collect(),
            reported: Tally::default(),
        })
    }

    fn ask_all(&mut self) {
        let now_ns = monotonic_ns();
        for object in 0..self.options.objects {
            self.ledger.due(Target::Object(object), now_ns);
        }
    }

    /// Open loop: the schedule does not wait for anybody.
    fn load(&mut self) {
        self.latency.start();
        let start_ns = monotonic_ns();
        let rate = u64::from(self.options.rate.max(1));
        let end_ns = start_ns + SECOND_NS * u64::from(self.options.seconds);
        let mut due_ns = start_ns;
        let mut index = 0;
        let mut progress_ns = start_ns + SECOND_NS;
        while due_ns < end_ns && !self.end && !self.orphaned() {
            let now_ns = monotonic_ns();
            while due_ns < end_ns && due_ns <= now_ns {
                for at in 0..self.options.classes.len() {
                    let target = self.options.classes[at].target(index, self.options.objects);
                    self.ledger.due(target, due_ns);
                }
                if self.options.classes.is_empty() {
                    let target = self.target(index);
                    self.ledger.due(target, due_ns);
                }
                index += 1;
                let burst = self.burst.filter(|burst| due_ns < burst.until_ns);
                due_ns += SECOND_NS / (rate * burst.map_or(1, |burst| burst.times.max(1)));
            }
            if now_ns >= progress_ns {
                self.progress();
                progress_ns += SECOND_NS;
            }
            self.turn(due_ns);
        }
        self.progress();
    }

    fn target(&self, index: u64) -> Target {
        if index % KEYLESS_EVERY == KEYLESS_EVERY - 1 || self.options.objects == 0 {
            return Target::Keyless;
        }
        Target::Object(scattered(index, self.options.objects))
    }

    /// Waits for all answers, but not for ever.
    fn settle(&mut self, patience_ns: u64) {
        let until_ns = monotonic_ns() + patience_ns;
        while self.ledger.unanswered() > 0 && monotonic_ns() < until_ns && !self.orphaned() {
            self.turn(until_ns);
        }
    }

    /// Sends what is due, checks what has come, and sleeps until `wake_ns` or the next event.
    fn turn(&mut self, wake_ns: u64) {
        for _ in 0..BURST {
            let Some(request) = self.ledger.poll_send(monotonic_ns()) else { break };
            // Not sent is like lost on the way: the ledger repeats it.
            let _ = self.socket.send_to(request.as_bytes(), self.options.service);
        }
        let mut packet = [0; 256];
        while let Ok((len, _)) = self.socket.recv_from(&mut packet) {
            if let Some(answer) = Answer::parse(&packet[..len]) {
                self.on_answer(&answer, monotonic_ns());
            }
        }
        let mut wake_ns = wake_ns;
        if let Some(repeat_ns) = self.ledger.next_repeat_ns() {
            wake_ns = wake_ns.min(repeat_ns);
        }
        let sleep = Duration::from_nanos(wake_ns.saturating_sub(monotonic_ns()));
        if self.ledger.has_startable() || sleep.is_zero() {
            self.listen();
            return;
        }
        wait(&[self.socket.as_fd(), self.words.as_fd()], sleep);
        self.listen();
    }

    fn on_answer(&mut self, answer: &Answer, now_ns: u64) {
        let class = Class::of(answer);
        self.note_gaps(class, now_ns);
        if self.noted.len() == ANSWERS_NOTED && self.killed_side.is_none() {
            self.noted.pop_front();
        }
        if self.noted.len() < ANSWERS_NOTED {
            self.noted.push_back((now_ns, answer.side(), class));
            if self.noted.len() == ANSWERS_NOTED {
                self.tell_noted();
            }
        }
        if let Some(answered) = self.ledger.answer(answer) {
            self.latency.record(answered, now_ns);
        }
    }

    fn note_gaps(&mut self, class: Class, at_ns: u64) {
        self.gap.answer(at_ns);
        for (_, gap) in self.gaps.iter_mut().filter(|(of, _)| *of == class) {
            gap.answer(at_ns);
        }
    }

    fn listen(&mut self) {
        for line in self.words.read() {
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("go"), None, None) => self.go = true,
                (Some("mark"), Some(at_ns), Some(side)) => {
                    let Ok(at_ns) = at_ns.parse() else { continue };
                    self.latency.mark(at_ns);
                    self.killed_side = side.bytes().next();
                    self.told = false;
                    self.noted.retain(|(when_ns, _, _)| *when_ns >= at_ns);
                    self.gap.mark(at_ns);
                    self.gaps.iter_mut().for_each(|(_, gap)| gap.mark(at_ns));
                    // Those that came between the kill and this word.
                    for (when_ns, _, class) in self.noted.clone() {
                        self.note_gaps(class, when_ns);
                    }
                }
                (Some("burst"), Some(times), Some(ms)) => {
                    let (Ok(times), Ok(ms)) = (times.parse(), ms.parse::<u64>()) else { continue };
                    let until_ns = monotonic_ns() + ms * 1_000_000;
                    self.burst = Some(Burst { times, until_ns });
                }
                (Some("round"), None, None) => self.round(),
                (Some("end"), None, None) => self.end = true,
                _ => {}
            }
        }
    }

    /// Tells of the answers after a kill, once.
    fn tell_noted(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            self.say(json!({"event": "answered", "answers": self.noted()}));
        }
    }

    /// Whether nobody is left to report to.
    fn orphaned(&self) -> bool {
        self.words.is_closed()
    }

    fn progress(&self) {
        let tally = self.ledger.tally();
        let wrong = tally.lost + tally.duplicated + tally.diverged;
        self.say(json!({
            "event": "progress", "acked": tally.acked, "waiting": self.ledger.unanswered(),
            "wrong": wrong, "p99_us": self.latency.p99_us(),
        }));
    }

    /// The answers since the mark: when, and by whose worker.
    fn noted(&self) -> Vec<serde_json::Value> {
        match self.killed_side {
            Some(_) => self.noted.iter().map(|(at_ns, side, _)| json!([at_ns, side])).collect(),
            None => Vec::new(),
        }
    }

    /// The longest gap since the mark; one that has not ended counts for what it is.
    fn gap_us(&self) -> Option<u64> {
        self.killed_side.map(|_| self.gap.longest_ns / 1_000)
    }

    fn gaps_us(&self) -> serde_json::Map<String, serde_json::Value> {
        let marked = self.gaps.iter().filter(|_| self.killed_side.is_some());
        marked
            .map(|(class, gap)| (class.word().to_owned(), (gap.longest_ns / 1_000).into()))
            .collect()
    }

    fn round(&mut self) {
        let (now, before) = (self.ledger.tally(), self.reported);
        self.say(json!({
            "event": "round", "acked": now.acked - before.acked, "lost": now.lost - before.lost,
            "duplicated": now.duplicated - before.duplicated,
            "diverged": now.diverged - before.diverged, "repeats": now.repeats - before.repeats,
            "unanswered": 0, "gap_us": self.gap_us(), "gaps_us": self.gaps_us(), "answers_after_kill": self.noted(),
        }));
        self.reported = now;
        self.killed_side = None;
    }

    fn report(&mut self) {
        let unanswered = self.ledger.unanswered();
        self.ledger.give_up();
        let tally = self.ledger.tally();
        self.tell_noted();
        let (noted, gap_us) = (self.noted(), self.gap_us());
        self.say(json!({
            "event": "result",
            "acked": tally.acked, "repeats": tally.repeats, "unanswered": unanswered,
            "lost": tally.lost, "duplicated": tally.duplicated, "diverged": tally.diverged,
            "added": tally.added, "withdrawn": tally.withdrawn,
            "objects_served_by_several": self.ledger.served_by_several(),
            "answers_by_worker": self.ledger.by_worker(),
            "latency": self.latency.report(),
            "answers_after_kill": noted,
            "gap_us": gap_us,
            "gaps_us": self.gaps_us(),
        }));
    }

    fn say(&self, line: serde_json::Value) {
        // A reader that is gone is noticed as an end of stdin.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}
