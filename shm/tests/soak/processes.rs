//! Starting, killing and replacing the processes of the soak, and reading what the ports report.

use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_shm::{Reaper, Region};
use nix::sys::signal::Signal;

use super::account::Account;
use super::cast::{self, Flaw, REPORTS};
use super::ledger::{Ledger, Record, Totals};
use super::{PATIENCE, PORTS, WORKERS};

/// What a child is to do: `PATH FLAW worker LUCK`, `PATH FLAW port INDEX SEED FIRST`, `PATH FLAW node`.
const ROLE: &str = "HOTPAIR_SOAK_ROLE";

/// Numbers of one life of a port.
const LIFE: u64 = 1 << 24;

/// Plays the part that the environment gives to this process, if it does.
pub(crate) fn act() {
    let Ok(role) = std::env::var(ROLE) else { return };
    // Also if the test is killed itself: by the end of the thread that runs it.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("a signal that exists");
    let words: Vec<&str> = role.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().expect("a number");
    let region = Region::attach(words[0].as_ref()).expect("the test's region");
    let flaw = Flaw::ALL.iter().find(|(_, name)| *name == words[1]).expect("a flaw").0;
    match words[2] {
        "worker" => cast::work(&region, flaw, number(3)),
        "port" => {
            let first = (words[5] != "none").then(|| number(5));
            cast::receive_and_send(&region, number(3) as u8, number(4), first);
        }
        "node" => cast::keep(&region, flaw),
        other => panic!("unknown part {other}"),
    }
}

/// One process; killed when the test is over, whatever its end.
struct Actor {
    child: Child,
    name: String,
    reader: Option<JoinHandle<()>>,
}

impl Actor {
    /// Its anonymous memory. An error if it has ended by itself.
    fn memory_kib(&mut self) -> u64 {
        let ended = self.child.try_wait().expect("own child");
        assert!(ended.is_none(), "{} ended by itself: {ended:?}", self.name);
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it is not waited for yet");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        // A process that is ending has no memory any more.
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    fn kill(&mut self) {
        self.child.kill().expect("own child");
        self.child.wait().expect("own child");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader ends with the pipe");
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All processes of a soak. The first [`WORKERS`] are workers, then come the ports, then the node.
pub(crate) struct Stage {
    path: String,
    flaw: &'static str,
    seed: u64,
    actors: Vec<Option<Actor>>,
    ledger: Arc<Mutex<Ledger>>,
    lives: u64,
    draining: bool,
    /// The most that a worker and a port had, in this round.
    peaks: [u64; 2],
}

const NODE: usize = WORKERS + PORTS;

impl Stage {
    pub(crate) fn new(path: &Path, flaw: Flaw, seed: u64) -> Stage {
        let mut stage = Stage {
            path: path.display().to_string(),
            flaw: Flaw::ALL.iter().find(|(known, _)| *known == flaw).expect("one of all").1,
            seed,
            actors: (0..=NODE).map(|_| None).collect(),
            ledger: Arc::default(),
            lives: 1,
            draining: false,
            peaks: [0; 2],
        };
        stage.replace(NODE);
        (0..WORKERS).for_each(|worker| stage.replace(worker));
        stage
    }

    /// New messages come, and the figures of a round begin.
    pub(crate) fn open(&mut self) {
        self.draining = false;
        self.peaks = [0; 2];
        (WORKERS..NODE).for_each(|port| self.replace(port));
    }

    /// No new messages come; what is under way goes on.
    pub(crate) fn drain(&mut self) {
        self.close_ports();
        self.draining = true;
        (WORKERS..NODE).for_each(|port| self.replace(port));
    }

    /// Ends the ports; all that they have reported is in the books then.
    pub(crate) fn close_ports(&mut self) {
        (WORKERS..NODE).for_each(|port| self.kill(port));
    }

    pub(crate) fn kill(&mut self, who: usize) {
        if let Some(mut actor) = self.actors[who].take() {
            if who < NODE {
                let peak = &mut self.peaks[usize::from(who >= WORKERS)];
                *peak = actor.memory_kib().max(*peak);
            }
            actor.kill();
        }
    }

    /// Starts one in the place of one that was killed.
    pub(crate) fn replace(&mut self, who: usize) {
        let part = match who {
            NODE => "node".to_owned(),
            port if port >= WORKERS => {
                let first = self.lives * LIFE;
                self.lives += 1;
                let first = if self.draining { "none".to_owned() } else { first.to_string() };
                format!("port {} {} {first}", port - WORKERS, self.seed)
            }
            _ => {
                self.lives += 1;
                format!("worker {}", self.seed ^ self.lives)
            }
        };
        let is_port = (WORKERS..NODE).contains(&who);
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child", "--nocapture"])
            .env(ROLE, format!("{} {} {part}", self.path, self.flaw))
            .stdout(if is_port { Stdio::piped() } else { Stdio::null() })
            .spawn()
            .expect("this test starts again");
        let reader = child.stdout.take().map(|pipe| {
            let ledger = self.ledger.clone();
            std::thread::spawn(move || read_reports(pipe, &ledger))
        });
        self.actors[who] = Some(Actor { child, name: part, reader });
    }

    /// Anonymous memory of the node, and the most that a worker and a port had in this round.
    pub(crate) fn memory_kib(&mut self) -> [u64; 3] {
        let workers = self.actors[..WORKERS].iter_mut().flatten().map(Actor::memory_kib).max();
        let node = self.actors[NODE].as_mut().map_or(0, Actor::memory_kib);
        [node, self.peaks[0].max(workers.unwrap_or(0)), self.peaks[1]]
    }

    /// To be called while all is calm and the ports have ended.
    pub(crate) fn close_books(&mut self, left: &[Account]) -> Vec<String> {
        self.ledger.lock().expect("no reader panicked").close(left, self.lives * LIFE)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.ledger.lock().expect("no reader panicked").totals
    }

    /// Kills everybody; the node last, when it has reaped the others.
    pub(crate) fn end(&mut self, region: &Region) {
        (0..NODE).for_each(|who| self.kill(who));
        let begun = Instant::now();
        while region.participants().len() > 1 {
            assert!(begun.elapsed() < PATIENCE, "not reaped: {:#?}", region.participants());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.kill(NODE);
        Reaper::new(region.clone()).run_once();
    }
}

/// Enters what a port reports until it dies. A kill leaves whole records.
fn read_reports(mut pipe: ChildStdout, ledger: &Mutex<Ledger>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1 << 14];
    let mut begun = false;
    loop {
        let read = pipe.read(&mut chunk).expect("a pipe");
        bytes.extend_from_slice(&chunk[..read]);
        if !begun {
            let start = bytes.windows(REPORTS.len()).position(|window| window == REPORTS);
            begun = start.is_some();
            bytes.drain(..start.map_or(0, |start| start + REPORTS.len()));
        }
        if begun {
            let whole = bytes.len() / Record::BYTES * Record::BYTES;
            let mut ledger = ledger.lock().expect("no reader panicked");
            for record in bytes[..whole].as_chunks::<{ Record::BYTES }>().0 {
                ledger.enter(Record::from_bytes(record).expect("a record of a port"));
            }
            bytes.drain(..whole);
        }
        if read == 0 {
            assert!(bytes.is_empty() || !begun, "half a record");
            return;
        }
    }
}
