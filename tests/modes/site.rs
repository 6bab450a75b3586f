//! A pair on this host whose one service is there three times: behind a sync, a bounded and a local port.
//!
//! ```text
//!   request  port:1  object:4  number:8      number 0 asks and changes nothing
//!   answer   port:1  object:4  number:8  last:8  count:8
//! ```
//! An object applies each number above its last one, and answers with its last one and with how many it
//! has applied.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_worker::{Space, Stopper, Wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{RegionName, Running, bound, eventually, family, hotpair, loopback};

/// Ports by the first letter of their requests, with the last number of their addresses.
const PORTS: [(char, &str, u16); 3] =
    [('s', "waits", 7430), ('b', "ahead", 7431), ('l', "alone", 7432)];

/// What differs between the tests.
pub(crate) struct Knobs {
    /// Lines of `[replication]`.
    pub(crate) replication: &'static str,
    /// Missing heartbeats that are silence: many, so that it is not heartbeats that decide.
    pub(crate) misses: u32,
    /// Of the bounded port.
    pub(crate) bound: &'static str,
}

/// The pair. Everything ends with it.
pub(crate) struct Site {
    ip: String,
    pub(crate) regions: [RegionName; 2],
    knobs: Knobs,
    nodes: [Option<Running>; 2],
    workers: Vec<(Stopper, JoinHandle<()>)>,
    others: Vec<Running>,
    stopped: Vec<i32>,
    /// Goes last: the witness writes into it.
    dir: tempfile::TempDir,
}

impl Site {
    /// A pair in step, node a primary, with a worker on each side in this process.
    pub(crate) fn start(purpose: u8, knobs: Knobs) -> Site {
        let name = |node: &str| RegionName::new(&format!("modes{purpose}-{node}"));
        let mut site = Site {
            dir: tempfile::tempdir().expect("a temporary directory"),
            ip: loopback(purpose),
            regions: [name("a"), name("b")],
            knobs,
            nodes: [None, None],
            workers: Vec::new(),
            others: Vec::new(),
            stopped: Vec::new(),
        };
        let pki = site.path("pki");
        hotpair(["pki", "init", "--name", "modes", "--dir", pki.to_str().expect("plain")]).exits(0);
        site.start_others();
        site.start_node(0);
        eventually("node a is primary", || site.status(0)["role"] == "primary");
        site.start_node(1);
        eventually("the pair is protected", || site.status(0)["protected"] == true);
        let ports = |side| site.status(side)["ports"].as_array().map_or(0, Vec::len);
        eventually("all ports are there", || ports(0) == 3 && ports(1) == 3);
        for side in 0..2 {
            site.start_worker(side);
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start_others(&mut self) {
        let mut hold = bound();
        hold.args(["hold", "--at"]).arg(self.path("service.sock"));
        hold.args(PORTS.map(|(_, port, number)| format!("{port}={}:{number}", self.ip)));
        let hold = Running::start(hold.stdout(Stdio::null()));
        eventually("the holder listens", || self.path("service.sock").exists());
        let mut witness = bound();
        witness.args(["witness", "--listen", &format!("{}:7400", self.ip), "--pki"]);
        witness.arg(self.path("pki")).arg("--store").arg(self.path("witness"));
        witness.args(["--reinit", "a"]); // node a may begin without the other
        let witness = Running::start(witness.stdin(Stdio::null()).stdout(Stdio::null()));
        eventually("the witness listens", || TcpStream::connect((self.ip.as_str(), 7400)).is_ok());
        self.others.extend([hold, witness]);
    }

    fn start_node(&mut self, side: usize) {
        let node = ["a", "b"][side];
        let path = self.path(&format!("{node}.toml"));
        std::fs::write(&path, self.configuration(side)).expect("a writable directory");
        let events = File::create(self.path(&format!("{node}.events"))).expect("the same");
        let mut command = bound();
        command.args(["node", "--json", "--config"]).arg(&path);
        self.nodes[side] = Some(Running::start(command.stdin(Stdio::null()).stdout(events)));
    }

    fn configuration(&self, side: usize) -> String {
        let (ip, region) = (&self.ip, &self.regions[side].0);
        let (own, peer) = [(7410, 7420), (7420, 7410)][side];
        let Knobs { replication, misses, bound } = &self.knobs;
        let mut text = format!(
            r#"pair = {{ name = "modes", node = "{node}" }}
pki = {{ dir = "pki" }}
witness = {{ address = "{ip}:7400" }}
heartbeat = {{ misses = {misses} }}
[replication]
listen = "{ip}:{own}"
peer = "{ip}:{peer}"
{replication}
[region]
name = "{region}"
slots = 256
inbox_limit = 1000
tx_entries = 4096
class = [{{ payload_bytes = 256, blocks = 32768 }}]
[[queue]]
name = "calls"
"#,
            node = ["a", "b"][side],
        );
        for (letter, port, _) in PORTS {
            let mode = match letter {
                's' => "\"sync\"".to_owned(),
                'b' => format!("{{ bounded = {bound} }}"),
                _ => "\"local\"".to_owned(),
            };
            text.push_str(&format!(
                r#"[[port]]
name = "{port}"
kind = "udp"
holder = "service.sock"
queue = "calls"
key = {{ bytes = [0, 5] }}
packet_bytes_max = 64
mode = {mode}
"#
            ));
        }
        text
    }

    fn start_worker(&mut self, side: usize) {
        let space = Space::attach(&self.regions[side].0).expect("the region is there");
        let mut worker = space.worker("calls").expect("the queue is there");
        let stopper = worker.stopper();
        let works = std::thread::spawn(move || {
            let ended = worker.run(Wait::default(), |job| {
                let packets: Vec<_> = job
                    .messages()
                    .filter_map(|packet| Some((packet.payload().to_vec(), packet.source()?)))
                    .collect();
                let mut state: [u64; 2] = *job.value_ref::<[u64; 2]>()?.unwrap_or(&[0, 0]);
                for (request, client) in packets {
                    let Some((port, number)) = parse(&request) else { continue };
                    if number > state[0] {
                        state = [number, state[1] + 1];
                    }
                    let answer = [&request[..13], &bytes(state[0]), &bytes(state[1])].concat();
                    job.emit(port, client, &answer)?;
                }
                job.set_value(&[bytes(state[0]), bytes(state[1])].concat())
            });
            // The side that was killed takes its worker with it.
            drop(ended);
        });
        self.workers.push((stopper, works));
    }

    pub(crate) fn client(&self) -> Client {
        Client {
            socket: UdpSocket::bind((self.ip.as_str(), 0)).expect("any port"),
            ip: self.ip.clone(),
            sent: BTreeMap::new(),
            answered: BTreeMap::new(),
        }
    }

    pub(crate) fn status(&self, side: usize) -> Value {
        let ended = hotpair(["status", "--json", "--region", &self.regions[side].0]);
        serde_json::from_str(ended.stdout.trim()).unwrap_or_default()
    }

    /// What `status` says of the gate of the port with this letter.
    pub(crate) fn gate(&self, side: usize, letter: char) -> Value {
        let at = PORTS.iter().position(|port| port.0 == letter).expect("a port");
        self.status(side)["gates"][at].clone()
    }

    /// Events of a node, by name.
    pub(crate) fn events(&self, side: usize, name: &str) -> Vec<Value> {
        let path = self.path(["a.events", "b.events"][side]);
        let text = std::fs::read_to_string(path).expect("the node writes it");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|event| event["event"] == name).collect()
    }

    /// Stops a side's node, and its supervisor, which would kill it.
    pub(crate) fn stop(&mut self, side: usize) {
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

    /// Lets what was stopped go on; the node first, so that nobody finds it silent.
    pub(crate) fn go_on(&mut self) {
        for pid in self.stopped.drain(..).rev() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
    }

    /// Kills everything on a side.
    pub(crate) fn kill(&mut self, side: usize) {
        let Some(mut node) = self.nodes[side].take() else { return };
        self.stopped.clear(); // nobody continues what is dead
        for pid in family(node.pid()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        node.wait();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.go_on();
        for (stopper, works) in self.workers.drain(..) {
            stopper.stop();
            let _ = works.join();
        }
    }
}

fn bytes(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

/// Port and number of a request.
fn parse(request: &[u8]) -> Option<(&'static str, u64)> {
    let letter = char::from(*request.first()?);
    let (_, port, _) = PORTS.iter().find(|port| port.0 == letter)?;
    let number = request.get(5..13)?.try_into().ok()?;
    Some((port, u64::from_le_bytes(number)))
}

/// Asks all ports, and remembers what it was told.
pub(crate) struct Client {
    socket: UdpSocket,
    ip: String,
    sent: BTreeMap<char, u64>,
    /// The last number that each port answered, and when.
    pub(crate) answered: BTreeMap<char, (u64, Instant)>,
}

impl Client {
    fn request(&self, letter: char, number: u64) {
        let port = PORTS.iter().find(|port| port.0 == letter).expect("a port").2;
        let request = [&[letter as u8][..], b"obj1", &bytes(number)].concat();
        self.socket.send_to(&request, (self.ip.as_str(), port)).expect("loopback");
    }

    /// Sends the next number to a port.
    pub(crate) fn send(&mut self, letter: char) {
        let number = self.sent.entry(letter).or_default();
        *number += 1;
        let number = *number;
        self.request(letter, number);
    }

    /// Sends the last number once more: it is answered again, and applied once.
    pub(crate) fn repeat(&self, letter: char) {
        self.request(letter, self.sent.get(&letter).copied().unwrap_or(0));
    }

    /// Takes answers in for a while.
    pub(crate) fn listen(&mut self, span: Duration) {
        let until = Instant::now() + span;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.socket
                .set_read_timeout(Some(left.max(Duration::from_micros(1))))
                .expect("more than 0");
            if let Some((letter, number, _, _)) = self.receive() {
                let now = Instant::now();
                let answered = self.answered.entry(letter).or_insert((0, now));
                if number > answered.0 {
                    *answered = (number, now);
                }
            }
        }
    }

    fn receive(&self) -> Option<(char, u64, u64, u64)> {
        let mut answer = [0; 64];
        let len = self.socket.recv(&mut answer).ok().filter(|len| *len == 29)?;
        let number =
            |at: usize| answer[at..len].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Some((char::from(answer[0]), number(5), number(13), number(21)))
    }

    pub(crate) fn last(&self, letter: char) -> u64 {
        self.answered.get(&letter).map_or(0, |(number, _)| *number)
    }

    /// What the object of a port has now: its last number, and how many it applied.
    pub(crate) fn ask(&mut self, letter: char) -> (u64, u64) {
        let mut found = None;
        eventually("the port answers", || {
            self.request(letter, 0);
            self.socket.set_read_timeout(Some(Duration::from_millis(50))).expect("more than 0");
            while let Some((from, number, last, count)) = self.receive() {
                if from == letter && number == 0 {
                    found = Some((last, count));
                }
            }
            found.is_some()
        });
        found.expect("it has just been found")
    }
}
