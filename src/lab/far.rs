//! A real host, as the lab sees it: one connection by ssh, with a keeper at its other end.
//!
//! The program is copied over that connection into a directory of its own. The two clocks are compared over it: what happened there
//! is told in the time of this machine.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::keeper::{Order, Word};
use crate::clock::monotonic_ns;
use crate::exit::Exit;
use crate::process::{Child, Program, describe, wait};
use crate::report::Failure;

/// For an answer of the keeper.
const PATIENCE: Duration = Duration::from_secs(20);
/// For everything at its end: killing, removing.
const LEAVE_PATIENCE: Duration = Duration::from_secs(30);
/// The keeper takes a silent lab for dead after some more of these.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// The fastest of so many questions tells most about the clock.
const CLOCK_QUESTIONS: usize = 32;

/// SIZE bytes of the program come first on stdin; the rest is the keeper's. Whatever happens, the directory goes.
const BEGIN: &str = r#"umask 077; d=$(mktemp -d "${TMPDIR:-/tmp}/hotpair-lab.XXXXXXXX") || exit 1; trap 'rm -rf "$d"' EXIT; trap 'exit 1' HUP INT TERM PIPE; head -c SIZE >"$d/hotpair"; [ "$(wc -c <"$d/hotpair")" -eq SIZE ] || exit 1; chmod 700 "$d/hotpair"; echo "dir $d"; "$d/hotpair" lab keep --dir "$d""#;

/// A host that is reached by ssh. Dropping the last handle ends everything there.
#[derive(Debug)]
pub(super) struct Far {
    /// What it is called: a role, and where it is.
    name: String,
    dir: String,
    /// The ports of the connection itself, which no packet filter of ours may cut: the client's and the server's.
    pub(super) ports: Option<(u16, u16)>,
    bell: OwnedFd,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    ssh: Child,
    input: Option<PipeWriter>,
    next: u64,
    children: BTreeMap<u64, Heard>,
    /// Answers to questions of which one is open at a time.
    answers: VecDeque<Word>,
    said: Instant,
    clock: Clock,
    lost: bool,
}

/// How a clock differs from this machine's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    pub(super) ahead_ns: i64,
    /// It may be as much more or less.
    pub(super) give_or_take_ns: u64,
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ahead_us, about_us) = (self.ahead_ns / 1_000, self.give_or_take_ns / 1_000);
        write!(f, "{ahead_us} us ahead, give or take {about_us} us")
    }
}

#[derive(Debug, Default)]
struct Heard {
    lines: Vec<String>,
    ended: Option<i32>,
}

impl Far {
    /// Connects, copies the program, and compares the clocks.
    pub(super) fn reach(ssh: &str, role: &str, to: &str, own: &Path) -> Result<Rc<Far>, Failure> {
        let name = format!("host {role} ({to})");
        let failed = || Failure::new(format!("cannot reach {name}")).exit(Exit::Refused);
        let program = std::fs::read(own).map_err(|error| failed().caused_by(&error))?;
        let begin = BEGIN.replace("SIZE", &program.len().to_string());
        let argv = [
            ssh,
            "-T",
            "-o",
            "BatchMode=yes",
            "-o",
            "ServerAliveInterval=5",
            "-o",
            "ServerAliveCountMax=3",
            to,
            &begin,
        ];
        let (reader, mut input) = std::io::pipe().map_err(|error| failed().caused_by(&error))?;
        let started = Program::foreign(format!("ssh to {to}"), argv).heard();
        let ssh = started.start_with(Stdio::from(reader))?;
        let sent = input.write_all(&program);
        let bell = ssh.lines_fd().and_then(|fd| fd.try_clone_to_owned().ok());
        let bell = bell.ok_or_else(|| failed().because("it said nothing"))?;
        let mut state = State {
            ssh,
            input: Some(input),
            next: 0,
            children: BTreeMap::new(),
            answers: VecDeque::new(),
            said: Instant::now(),
            clock: Clock::default(),
            lost: sent.is_err(),
        };
        let dir = state.directory(bell.as_fd()).ok_or_else(|| {
            let how = state.ssh.ended().map_or("no answer in time".to_owned(), describe);
            failed().because(format!("{}: {how}", argv[0]))
        })?;
        let mut far =
            Far { name: name.clone(), dir, ports: None, bell, state: RefCell::new(state) };
        let Word::Ready { root, connection } = far.answer()? else {
            return Err(failed().because("the keeper speaks another language"));
        };
        if !root {
            return Err(failed().because("the lab changes addresses there, which needs root"));
        }
        far.ports = ports(&connection);
        far.compare_clocks()?;
        Ok(Rc::new(far))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The lab's directory there.
    pub(super) fn dir(&self) -> &str {
        &self.dir
    }

    pub(super) fn program(&self) -> String {
        format!("{}/hotpair", self.dir)
    }

    /// Readable when it has said something.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Whether the connection is gone, and with it everything there.
    pub(super) fn is_lost(&self) -> bool {
        self.state.borrow().lost
    }

    /// Takes what has come, and shows that the lab is there.
    pub(super) fn turn(&self) {
        let mut state = self.state.borrow_mut();
        state.hear();
        if state.said.elapsed() > BEAT_EVERY {
            state.say(&Order::Beat);
        }
    }

    pub(super) fn clock(&self) -> Clock {
        self.state.borrow().clock
    }

    /// Compares the clocks again: they drift.
    pub(super) fn compare_clocks(&self) -> Result<(), Failure> {
        let mut best = Clock { ahead_ns: 0, give_or_take_ns: u64::MAX };
        for _ in 0..CLOCK_QUESTIONS {
            let asked_ns = monotonic_ns();
            self.state.borrow_mut().say(&Order::Clock);
            let Word::Clock { ns } = self.answer()? else {
                return Err(Failure::new(format!("{} does not tell its time", self.name)));
            };
            let answered_ns = monotonic_ns();
            let half_ns = (answered_ns - asked_ns).div_ceil(2);
            if half_ns < best.give_or_take_ns {
                let ahead_ns = ns.wrapping_sub(asked_ns + half_ns) as i64;
                best = Clock { ahead_ns, give_or_take_ns: half_ns };
            }
        }
        self.state.borrow_mut().clock = best;
        Ok(())
    }

    pub(super) fn put(&self, path: &str, text: String) {
        self.state.borrow_mut().say(&Order::Put { path: path.to_owned(), text });
    }

    /// To be run there when everything has ended, however it ends.
    pub(super) fn owe(&self, argv: &[&str]) {
        let argv = argv.iter().map(|&part| part.to_owned()).collect();
        self.state.borrow_mut().say(&Order::Owe { argv });
    }

    pub(super) fn signal(&self, pids: &[i32], signal: Signal) {
        let order = Order::Signal { pids: pids.to_vec(), signal: signal as i32 };
        self.state.borrow_mut().say(&order);
    }

    /// Those processes that still hold anything; of a host that is lost nothing is known.
    pub(super) fn living(&self, pids: &[i32]) -> Vec<i32> {
        self.state.borrow_mut().say(&Order::Living { pids: pids.to_vec() });
        match self.answer() {
            Ok(Word::Living { pids }) => pids,
            _ => Vec::new(),
        }
    }

    pub(super) fn start(self: &Rc<Far>, argv: Vec<String>) -> Result<FarChild, Failure> {
        let what = argv.join(" ");
        let id = {
            let mut state = self.state.borrow_mut();
            state.next += 1;
            let id = state.next;
            state.children.insert(id, Heard::default());
            state.say(&Order::Start { id, argv });
            id
        };
        let failed = |why: String| {
            Failure::new(format!("cannot start {what} on {}", self.name)).because(why)
        };
        match self.answer()? {
            Word::Started { pid, .. } => Ok(FarChild { far: Rc::clone(self), id, pid }),
            Word::Failed { why, .. } => Err(failed(why)),
            other => Err(failed(format!("it answers {other:?}"))),
        }
    }

    /// Runs it to its end; gives what it has said.
    pub(super) fn run(self: &Rc<Far>, argv: Vec<String>) -> Result<(ExitStatus, String), Failure> {
        let what = argv.join(" ");
        let mut child = self.start(argv)?;
        let until = Instant::now() + PATIENCE;
        let mut said = String::new();
        loop {
            let status = child.ended();
            for line in child.lines() {
                said.push_str(&line);
                said.push('\n');
            }
            if let Some(status) = status {
                return Ok((status, said));
            }
            if Instant::now() >= until {
                let late = Failure::new(format!("{what} does not end on {}", self.name));
                return Err(late.exit(Exit::TimedOut));
            }
            wait(&[self.bell()], Duration::from_millis(100));
        }
    }

    fn answer(&self) -> Result<Word, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.turn();
            if let Some(word) = self.state.borrow_mut().answers.pop_front() {
                return Ok(word);
            }
            if self.is_lost() {
                return Err(self.objection());
            }
            if Instant::now() >= until {
                let late = Failure::new(format!("{} does not answer", self.name));
                return Err(late.exit(Exit::TimedOut));
            }
            wait(&[self.bell()], Duration::from_millis(100));
        }
    }

    /// What there is to say about a host that is lost.
    pub(super) fn objection(&self) -> Failure {
        Failure::new(format!("the connection to {} is lost", self.name))
            .because("what ran there has ended: its keeper kills everything")
    }
}

impl State {
    /// The first line of the shell there names the lab's directory; a host may greet before that.
    fn directory(&mut self, bell: BorrowedFd<'_>) -> Option<String> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let mut lines = self.ssh.lines().into_iter();
            let dir = lines.find_map(|line| Some(line.strip_prefix("dir ")?.to_owned()));
            lines.for_each(|line| self.take(&line));
            if dir.is_some() || self.ssh.ended().is_some() {
                return dir;
            }
            wait(&[bell], Duration::from_millis(100));
        }
        None
    }

    fn say(&mut self, order: &Order) {
        let Ok(mut line) = serde_json::to_vec(order) else { return };
        line.push(b'\n');
        self.said = Instant::now();
        if let Some(input) = &mut self.input {
            self.lost |= input.write_all(&line).is_err();
        }
    }

    fn hear(&mut self) {
        for line in self.ssh.lines() {
            self.take(&line);
        }
        self.lost |= self.ssh.ended().is_some();
    }

    fn take(&mut self, line: &str) {
        let Ok(word) = serde_json::from_str(line) else { return };
        match word {
            Word::Line { id, line } => {
                // Nobody listens any more to what was let go of.
                if let Some(heard) = self.children.get_mut(&id) {
                    heard.lines.push(line);
                }
            }
            Word::Ended { id, status } => {
                if let Some(heard) = self.children.get_mut(&id) {
                    heard.ended = Some(status);
                }
            }
            Word::Failed { id: None, why } => {
                eprintln!("lab: {why}");
                self.lost = true;
            }
            answer => self.answers.push_back(answer),
        }
    }
}

impl Drop for Far {
    /// The end of its input is the keeper's sign; it is waited for, so that nothing is left when the lab ends.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        state.input = None;
        let until = Instant::now() + LEAVE_PATIENCE;
        while state.ssh.ended().is_none() && Instant::now() < until {
            state.ssh.lines();
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A process on a real host. Dropping it kills it.
#[derive(Debug)]
pub(super) struct FarChild {
    far: Rc<Far>,
    id: u64,
    pid: i32,
}

impl FarChild {
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.far.bell()
    }

    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.far.turn();
        let state = self.far.state.borrow();
        let ended = state.children.get(&self.id).and_then(|heard| heard.ended);
        // With the connection everything has ended there.
        ended.or(state.lost.then_some(127 << 8)).map(ExitStatus::from_raw)
    }

    /// Whether it has said something that was taken from the connection and not yet from here.
    pub(super) fn has_lines(&self) -> bool {
        let state = self.far.state.borrow();
        state.children.get(&self.id).is_some_and(|heard| !heard.lines.is_empty())
    }

    pub(super) fn lines(&mut self) -> Vec<String> {
        self.far.turn();
        let mut state = self.far.state.borrow_mut();
        state
            .children
            .get_mut(&self.id)
            .map(|heard| std::mem::take(&mut heard.lines))
            .unwrap_or_default()
    }

    pub(super) fn tell(&mut self, line: &str) {
        let order = Order::Tell { id: self.id, line: line.to_owned() };
        self.far.state.borrow_mut().say(&order);
    }
}

impl Drop for FarChild {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.far.state.borrow_mut().say(&Order::End { id: self.id });
            let until = Instant::now() + PATIENCE;
            while self.ended().is_none() && Instant::now() < until {
                wait(&[self.far.bell()], Duration::from_millis(100));
            }
        }
        self.far.state.borrow_mut().children.remove(&self.id);
    }
}

/// Of `SSH_CONNECTION`: client address, client port, server address, server port.
fn ports(connection: &str) -> Option<(u16, u16)> {
    let mut parts = connection.split_ascii_whitespace();
    let client = parts.nth(1)?.parse().ok()?;
    Some((client, parts.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_the_connection_are_found() {
        assert_eq!(ports("192.0.2.9 50123 192.0.2.1 22"), Some((50123, 22)));
        assert_eq!(ports("fe80::1%eth0 50123 fe80::2%eth0 2222"), Some((50123, 2222)));
        for nothing in ["", "192.0.2.9", "192.0.2.9 x 192.0.2.1 22"] {
            assert_eq!(ports(nothing), None, "{nothing}");
        }
    }
}
