//! Connections and the death of the primary: a whole pair with a tcp port, whose clients have one connection each and come
//! again when it ends.
//!
//! ```text
//!   request  length:2  object:4  number:8
//!   answer   length:2  object:4  number:8  last:8  count:8
//! ```
//! An object applies each number above its last one, and answers with its last one and with how many it has applied. A client
//! that counts upwards and never goes on without an answer therefore sees its own number three times, or something was lost,
//! or told twice.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hotpair_worker::{Space, Stopper, Wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use support::{RegionName, Running, bound, eventually, family, hotpair, loopback};

const CLIENTS: usize = 8;
const ANSWER_BYTES: usize = 2 + 4 + 3 * 8;

/// A pair on this host, with a worker on each side in this process. Everything ends with it.
struct Site {
    ip: String,
    mode: &'static str,
    regions: [RegionName; 2],
    nodes: [Option<Running>; 2],
    workers: [Option<(Stopper, JoinHandle<()>)>; 2],
    _others: Vec<Running>,
    stopped: Vec<i32>,
    /// Goes last: the witness writes into it.
    dir: tempfile::TempDir,
}

impl Site {
    fn start(purpose: u8, mode: &'static str) -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ip = loopback(purpose);
        let path = |name: &str| dir.path().join(name);
        let pki = path("pki");
        hotpair(["pki", "init", "--name", "streams", "--dir", pki.to_str().expect("plain")])
            .exits(0);
        let mut hold = bound();
        hold.args(["hold", "--at"]).arg(path("service.sock"));
        hold.arg(format!("service=tcp:{ip}:7430"));
        let hold = Running::start(hold.stdout(Stdio::null()));
        eventually("the holder listens", || path("service.sock").exists());
        let mut witness = bound();
        witness.args(["witness", "--listen", &format!("{ip}:7400"), "--reinit", "a", "--pki"]);
        witness.arg(&pki).arg("--store").arg(path("witness"));
        let witness = Running::start(witness.stdin(Stdio::null()).stdout(Stdio::null()));
        eventually("the witness listens", || TcpStream::connect((ip.as_str(), 7400)).is_ok());
        let name = |node: &str| RegionName::new(&format!("streams{purpose}-{node}"));
        let mut site = Site {
            mode,
            regions: [name("a"), name("b")],
            nodes: [None, None],
            workers: [None, None],
            _others: vec![hold, witness],
            stopped: Vec::new(),
            ip,
            dir,
        };
        site.start_node(0);
        eventually("node a is primary", || site.status(0)["role"] == "primary");
        site.start_node(1);
        site.is_protected(0);
        (0..2).for_each(|side| site.start_worker(side));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip.parse().expect("an address"), 7430)
    }

    fn start_node(&mut self, side: usize) {
        let (ip, mode, region) = (&self.ip, self.mode, &self.regions[side].0);
        let (node, own, peer) = [("a", 7410, 7420), ("b", 7420, 7410)][side];
        let text = format!(
            r#"pair = {{ name = "streams", node = "{node}" }}
pki = {{ dir = "pki" }}
witness = {{ address = "{ip}:7400" }}
heartbeat = {{ misses = 100000 }}
replication = {{ listen = "{ip}:{own}", peer = "{ip}:{peer}", ack_wait = "60s" }}
[region]
name = "{region}"
slots = 256
tx_entries = 4096
class = [{{ payload_bytes = 256, blocks = 32768 }}]
[[queue]]
name = "calls"
[[port]]
name = "service"
kind = "tcp"
holder = "service.sock"
queue = "calls"
key = {{ bytes = [0, 4] }}
framing = {{ length = 2 }}
packet_bytes_max = 64
mode = "{mode}"
"#
        );
        let path = self.path(&format!("{node}.toml"));
        std::fs::write(&path, text).expect("a writable directory");
        let events = File::create(self.path(&format!("{node}.events"))).expect("the same");
        let mut command = bound();
        command.args(["node", "--json", "--config"]).arg(&path);
        self.nodes[side] = Some(Running::start(command.stdin(Stdio::null()).stdout(events)));
    }

    fn start_worker(&mut self, side: usize) {
        let space = Space::attach(&self.regions[side].0).expect("the region is there");
        let mut worker = space.worker("calls").expect("the queue is there");
        let stopper = worker.stopper();
        let works = std::thread::spawn(move || {
            let ended = worker.run(Wait::default(), |job| {
                let requests: Vec<_> = job
                    .messages()
                    .filter_map(|packet| Some((packet.payload().to_vec(), packet.source()?)))
                    .collect();
                let mut state: [u64; 2] = *job.value_ref::<[u64; 2]>()?.unwrap_or(&[0, 0]);
                for (request, client) in requests {
                    let Some(number) = request.get(4..).and_then(number) else { continue };
                    if number > state[0] {
                        state = [number, state[1] + 1];
                    }
                    let [last, count] = state.map(u64::to_le_bytes);
                    job.emit("service", client, &[&request[..12], &last, &count].concat())?;
                }
                job.set_value(&state.map(u64::to_le_bytes).concat())
            });
            // The side that was killed takes its worker with it.
            drop(ended);
        });
        self.workers[side] = Some((stopper, works));
    }

    fn status(&self, side: usize) -> Value {
        let ended = hotpair(["status", "--json", "--region", &self.regions[side].0]);
        serde_json::from_str(ended.stdout.trim()).unwrap_or_default()
    }

    fn is_protected(&self, primary: usize) {
        eventually("the pair is protected", || {
            let status = self.status(primary);
            status["role"] == "primary" && status["protected"] == true
        });
    }

    /// Stops the node of a side, and its supervisor, which would kill it: nothing is replicated, and what may leave without
    /// that still leaves.
    fn stop_node(&mut self, side: usize) {
        let root = self.nodes[side].as_ref().expect("it was started").pid();
        let is_node = |pid: &i32| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("node-inner")
        };
        self.stopped = [root].into_iter().chain(family(root).into_iter().filter(is_node)).collect();
        assert_eq!(self.stopped.len(), 2, "a supervisor and its node");
        for pid in &self.stopped {
            kill(Pid::from_raw(*pid), Signal::SIGSTOP).expect("our own child");
        }
    }

    /// The region of a side is nobody's any more.
    fn end_worker(&mut self, side: usize) {
        if let Some((stopper, works)) = self.workers[side].take() {
            stopper.stop();
            let _ = works.join();
        }
    }

    /// `kill -9` of everything on a side.
    fn kill(&mut self, side: usize) {
        let Some(mut node) = self.nodes[side].take() else { return };
        self.stopped.clear(); // nobody continues what is dead
        for pid in family(node.pid()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        node.wait();
        self.end_worker(side);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for pid in self.stopped.drain(..).rev() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
        (0..2).for_each(|side| self.end_worker(side));
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// What all clients have seen.
#[derive(Default)]
struct Seen {
    answers: AtomicU64,
    /// Connections that ended and were made again.
    again: AtomicU64,
    /// Answers that say that something was lost, or that came twice.
    wrong: AtomicU64,
    stop: AtomicBool,
}

/// Asks for one number after the other, each until it is answered.
fn client(object: u32, address: SocketAddr, seen: &Seen) {
    let mut connection: Option<TcpStream> = None;
    let mut now = 1_u64;
    while !seen.stop.load(Ordering::Relaxed) {
        let Some(stream) = &mut connection else {
            let Ok(stream) = TcpStream::connect(address) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            stream.set_nodelay(true).expect("an option");
            stream.set_read_timeout(Some(Duration::from_millis(50))).expect("an option");
            connection = Some(stream);
            continue;
        };
        let frame = [&12_u16.to_be_bytes()[..], &object.to_le_bytes(), &now.to_le_bytes()].concat();
        let Some(answer) = stream.write_all(&frame).ok().and_then(|()| answer(stream, seen)) else {
            connection = None;
            seen.again.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let told = [6, 14, 22].map(|at| number(&answer[at..]).unwrap_or(0));
        if told != [now; 3] {
            println!("object {object} asked for {now}, and was told {told:?}");
            seen.wrong.fetch_add(1, Ordering::Relaxed);
            return;
        }
        seen.answers.fetch_add(1, Ordering::Relaxed);
        now += 1;
    }
    // Every request has been answered: what comes now was told twice.
    if let Some(mut stream) = connection
        && matches!(stream.read(&mut [0; 1]), Ok(count) if count > 0)
    {
        println!("object {object} was told something once more");
        seen.wrong.fetch_add(1, Ordering::Relaxed);
    }
}

/// A whole answer; `None` when the connection ends, or the test.
fn answer(stream: &mut TcpStream, seen: &Seen) -> Option<[u8; ANSWER_BYTES]> {
    let (mut answer, mut have) = ([0; ANSWER_BYTES], 0);
    while have < ANSWER_BYTES {
        match stream.read(&mut answer[have..]) {
            Ok(0) => return None,
            Ok(count) => have += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if seen.stop.load(Ordering::Relaxed) {
                    return None;
                }
            }
            Err(_) => return None,
        }
    }
    Some(answer)
}

/// Runs the clients while `happens` does; it is given a function that waits until each of them has been answered often.
fn with_clients(address: SocketAddr, happens: impl FnOnce(&Seen, &dyn Fn())) -> Seen {
    /// Ends the clients, also of a test that fails.
    struct Stopping<'s>(&'s Seen);
    impl Drop for Stopping<'_> {
        fn drop(&mut self) {
            self.0.stop.store(true, Ordering::Relaxed);
        }
    }
    let seen = Seen::default();
    std::thread::scope(|scope| {
        let _stopping = Stopping(&seen);
        for object in 0..CLIENTS as u32 {
            scope.spawn({
                let seen = &seen;
                move || client(object, address, seen)
            });
        }
        happens(&seen, &|| {
            let until = seen.answers.load(Ordering::Relaxed) + 400;
            eventually("the clients are answered", || {
                let wrong = seen.wrong.load(Ordering::Relaxed);
                seen.answers.load(Ordering::Relaxed) >= until || wrong > 0
            });
        });
    });
    seen
}

/// Goal: `kill -9` of everything on the primary's side, each way once: its connections end, every client comes to the other
/// side by itself, and no answer is lost or given twice.
#[test]
fn clients_come_again_and_nothing_they_were_told_is_lost() {
    let mut site = Site::start(40, "sync");
    let seen = with_clients(site.address(), |seen, answered| {
        answered();
        for primary in [0, 1] {
            let before = seen.again.load(Ordering::Relaxed);
            site.kill(primary);
            eventually("all connections have ended", || {
                seen.again.load(Ordering::Relaxed) >= before + CLIENTS as u64
            });
            answered();
            if primary == 0 {
                site.start_node(primary);
                site.is_protected(1);
                site.start_worker(primary);
                answered();
            }
        }
    });
    let count = |number: AtomicU64| number.into_inner();
    println!("{} answers, {} connections made again", count(seen.answers), count(seen.again));
    assert_eq!(count(seen.wrong), 0, "lost, or told twice");
}

/// The control: what leaves before the back-up has it is lost, and the same clients notice.
#[test]
fn the_same_clients_notice_a_loss() {
    let mut site = Site::start(41, "local");
    let seen = with_clients(site.address(), |seen, answered| {
        answered();
        site.stop_node(0);
        answered();
        site.kill(0);
        eventually("somebody notices", || seen.wrong.load(Ordering::Relaxed) > 0);
    });
    assert!(seen.wrong.into_inner() > 0);
}
