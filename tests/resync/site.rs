//! A pair on this host with the demo's ports and workers, whose sides are killed and started again, and a load that keeps
//! count of every answer, however long nobody answers.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_replica::tls::Credentials;
use hotpair_worker::remote::{RemoteConfig, RemoteNode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{
    Ended, HOTPAIR, PATIENCE, RegionName, Running, bound, eventually, family, hotpair, loopback,
    runs,
};

/// Objects that are asked.
const OBJECTS: u32 = 32;
/// A request without answer is repeated after this time, then after twice as much, and so on.
const REPEAT_AFTER: Duration = Duration::from_millis(20);
const REPEAT_AFTER_MAX: Duration = Duration::from_millis(160);

/// Where a side's gateway listens, if it has one.
pub(crate) fn gateway(purpose: u8, side: usize) -> SocketAddr {
    SocketAddr::new(loopback(purpose).parse().expect("an address"), [7510, 7520][side])
}

/// Lines for a side with a gateway. On a machine that is busy with other things nobody is taken for lost who is not.
pub(crate) fn with_gateway(purpose: u8, side: usize) -> String {
    let listen = gateway(purpose, side);
    format!("heartbeat = {{ misses = 400 }}\ngateway = {{ listen = [\"{listen}\"] }}")
}

/// The pair. Everything ends with it.
pub(crate) struct Site {
    ip: String,
    pub(crate) regions: [RegionName; 2],
    /// Lines for the nodes' configuration, by side.
    more: fn(side: usize) -> String,
    /// A clean stop leaves the regions.
    pub(crate) keep: bool,
    nodes: [Option<Running>; 2],
    others: Vec<Running>,
    stopped: Vec<i32>,
    /// Goes last: others write into it.
    dir: tempfile::TempDir,
}

impl Site {
    /// A holder and a witness, and no node yet.
    pub(crate) fn new(purpose: u8, more: fn(side: usize) -> String) -> Site {
        let name = |node: &str| RegionName::new(&format!("resync{purpose}-{node}"));
        let mut site = Site {
            dir: tempfile::tempdir().expect("a temporary directory"),
            ip: loopback(purpose),
            regions: [name("a"), name("b")],
            more,
            keep: false,
            nodes: [None, None],
            others: Vec::new(),
            stopped: Vec::new(),
        };
        hotpair(["pki", "init", "--name", "resync", "--dir", &text(&site.path("pki"))]).exits(0);
        let mut hold = bound();
        hold.args(["hold", "--at"]).arg(site.path("service.sock"));
        hold.arg(format!("service={}:7430", site.ip));
        site.others.push(Running::start(hold.stdout(Stdio::null())));
        eventually("the holder listens", || site.path("service.sock").exists());
        let mut witness = bound();
        witness.args(["witness", "--listen", &format!("{}:7400", site.ip), "--pki"]);
        witness.arg(site.path("pki")).arg("--store").arg(site.path("witness"));
        witness.args(["--reinit", "a"]); // node a may begin without the other
        site.others.push(Running::start(witness.stdin(Stdio::null()).stdout(Stdio::null())));
        eventually("the witness listens", || TcpStream::connect((site.ip.as_str(), 7400)).is_ok());
        site
    }

    /// The same with both nodes, in step, node a primary.
    pub(crate) fn paired(purpose: u8, more: fn(side: usize) -> String) -> Site {
        let mut site = Site::new(purpose, more);
        site.start(0);
        eventually("node a is primary", || site.status(0)["role"] == "primary");
        site.start(1);
        site.protected_by(0);
        site
    }

    /// Both gateways, for who comes from another host.
    pub(crate) fn remote(&self, purpose: u8) -> RemoteConfig {
        let credentials = Credentials::from_dir(&self.path("pki"), "worker");
        let node = |side: usize| RemoteNode {
            member: ["node-a", "node-b"][side].to_owned(),
            addresses: vec![gateway(purpose, side)],
        };
        RemoteConfig::new(credentials.expect("pki init made it"), vec![node(0), node(1)])
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self, side: usize) -> PathBuf {
        let (ip, region) = (&self.ip, &self.regions[side].0);
        let (node, own, peer) = [("a", 7410, 7420), ("b", 7420, 7410)][side];
        let configuration = format!(
            r#"pair = {{ name = "resync", node = "{node}" }}
pki = {{ dir = "pki" }}
witness = {{ address = "{ip}:7400" }}
{more}
[region]
name = "{region}"
keep = {keep}
slots = 512
participants = 16
tx_entries = 512
class = [{{ payload_bytes = 256, blocks = 16384 }}]
[[queue]]
name = "objects"
[[queue]]
name = "counters"
[[port]]
name = "service"
kind = "udp"
holder = "service.sock"
queue = "objects"
command = [{HOTPAIR:?}, "demo-port"]
packet_bytes_max = 128
[[worker]]
queue = "objects"
command = [{HOTPAIR:?}, "demo-worker", "--side", "{node}"]
count = 2
[replication]
listen = "{ip}:{own}"
peer = "{ip}:{peer}"
divergences = "{divergent}"
ack_wait = "60s"
"#,
            keep = self.keep,
            more = (self.more)(side),
            divergent = self.path("divergent").display(),
        );
        let path = self.path(&format!("{node}.toml"));
        std::fs::write(&path, configuration).expect("a writable directory");
        path
    }

    /// Starts a side. What it says in all its lives is in one file.
    pub(crate) fn start(&mut self, side: usize) {
        let append = |kind: &str| {
            let path = self.path(&format!("{side}.{kind}"));
            OpenOptions::new().append(true).create(true).open(path).expect("writable")
        };
        let mut command = bound();
        command.args(["node", "--json", "--config"]).arg(self.config(side));
        command.stdin(Stdio::null()).stdout(append("events")).stderr(append("errors"));
        self.nodes[side] = Some(Running::start(&mut command));
    }

    pub(crate) fn status(&self, side: usize) -> Value {
        let ended = hotpair(["status", "--json", "--region", &self.regions[side].0]);
        serde_json::from_str(ended.stdout.trim()).unwrap_or_default()
    }

    /// The last commit that a region holds, as events and journals write it.
    pub(crate) fn position(&self, side: usize) -> Option<String> {
        Some(self.status(side)["commit_seq"].as_str()?.replace('.', ":"))
    }

    #[track_caller]
    pub(crate) fn protected_by(&self, primary: usize) {
        eventually("the pair is protected", || {
            let status = self.status(primary);
            status["role"] == "primary" && status["protected"] == true
        });
        assert_eq!(self.status(1 - primary)["role"], "backup");
    }

    #[track_caller]
    pub(crate) fn serves(&self, side: usize) {
        eventually("it is primary", || self.status(side)["role"] == "primary");
    }

    /// Events of a node, in all its lives.
    pub(crate) fn told(&self, side: usize, event: &str) -> Vec<Value> {
        let lines = std::fs::read_to_string(self.path(&format!("{side}.events")));
        let lines = lines.unwrap_or_default();
        let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|line| line["event"] == event).collect()
    }

    /// What a side's processes said to people.
    pub(crate) fn errors(&self, side: usize) -> String {
        std::fs::read_to_string(self.path(&format!("{side}.errors"))).unwrap_or_default()
    }

    fn supervisor(&self, side: usize) -> i32 {
        self.nodes[side].as_ref().expect("it was started").pid()
    }

    pub(crate) fn node_process(&self, side: usize) -> i32 {
        let is_node = |pid: &i32| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("node-inner")
        };
        family(self.supervisor(side)).into_iter().find(is_node).expect("a node runs")
    }

    /// `kill -9` of the node alone; its supervisor starts another one.
    pub(crate) fn kill_node(&self, side: usize) {
        kill(Pid::from_raw(self.node_process(side)), Signal::SIGKILL).expect("it runs");
    }

    /// Stops a side's node, and its supervisor, which would kill it. Ports and workers go on.
    pub(crate) fn stop_node(&mut self, side: usize) {
        for pid in [self.supervisor(side), self.node_process(side)] {
            kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("it runs");
            self.stopped.push(pid);
        }
    }

    /// `kill -9` of everything on these sides, at once.
    pub(crate) fn kill(&mut self, sides: &[usize]) {
        let mut dying = Vec::new();
        for side in sides {
            dying.extend(family(self.supervisor(*side)));
        }
        // First all of them stand still, so that nobody acts on the death of another.
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for pid in &dying {
                let _ = kill(Pid::from_raw(*pid), signal);
            }
        }
        self.stopped.clear();
        for side in sides {
            if let Some(mut node) = self.nodes[*side].take() {
                node.wait();
            }
        }
        // They hold their addresses and the region until the kernel is done with them.
        eventually("all of them are gone", || !dying.iter().any(|pid| lives(*pid)));
    }

    /// Stops a side as a service manager does, and waits until it has.
    pub(crate) fn stop(&mut self, side: usize) {
        kill(Pid::from_raw(self.supervisor(side)), Signal::SIGTERM).expect("it runs");
        if let Some(mut node) = self.nodes[side].take() {
            assert!(node.wait().success(), "a clean stop");
        }
    }

    pub(crate) fn remove_region(&self, side: usize) {
        hotpair(["region", "remove", &self.regions[side].0]).exits(0);
    }

    pub(crate) fn ask(&self, side: usize, what: &[&str]) -> Ended {
        let config = text(&self.config(side));
        hotpair([what, &["--config", &config]].concat())
    }

    pub(crate) fn load(&self, account: Account) -> Load {
        Load::start(format!("{}:7430", self.ip), account)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for pid in &self.stopped {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
        }
        if std::thread::panicking() {
            for side in 0..2 {
                let all = std::fs::read_to_string(self.path(&format!("{side}.events")));
                println!("side {side}: {:#}", self.status(side));
                println!("{}{}", all.unwrap_or_default(), self.errors(side));
            }
        }
    }
}

/// Whether any thread of a process runs: it has its files until none does.
fn lives(pid: i32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let threads = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
    threads.into_iter().any(runs)
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("an ordinary path").to_owned()
}

/// What the outside was told: for each object the number of the last request that was answered. Each number is applied
/// once, so the object's count is the same number.
#[derive(Debug, Default)]
pub(crate) struct Account {
    answered: HashMap<u32, u64>,
    /// Effects that were told and are gone.
    pub(crate) lost: u64,
    /// Effects that took place more often than they were asked for.
    pub(crate) doubled: u64,
}

impl Account {
    pub(crate) fn total(&self) -> u64 {
        self.answered.values().sum()
    }

    #[track_caller]
    pub(crate) fn is_right(&self) {
        assert_eq!((self.lost, self.doubled), (0, 0), "{self:?}");
    }
}

/// A load in a thread of its own. Each object has one request under way, repeated until it is answered.
pub(crate) struct Load {
    ending: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    thread: JoinHandle<Account>,
}

impl Load {
    fn start(service: String, account: Account) -> Load {
        let (ending, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (ending, answers) = (Arc::clone(&ending), Arc::clone(&answers));
            std::thread::spawn(move || Asker::new(service, account).run(&ending, &answers))
        };
        Load { ending, answers, thread }
    }

    /// Waits for so many further answers.
    #[track_caller]
    pub(crate) fn goes_on_for(&self, answers: u64) {
        let until = self.answers.load(Ordering::Relaxed) + answers;
        eventually("the service answers", || self.answers.load(Ordering::Relaxed) >= until);
    }

    /// Every request is answered, and then one more of each object.
    #[track_caller]
    pub(crate) fn end(self) -> Account {
        self.ending.store(true, Ordering::Relaxed);
        self.thread.join().expect("everything is answered in the end")
    }
}

struct Flight {
    number: u64,
    sent: Instant,
    patience: Duration,
}

struct Asker {
    socket: UdpSocket,
    account: Account,
    flights: HashMap<u32, Flight>,
}

impl Asker {
    fn new(service: String, account: Account) -> Asker {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("any port");
        socket.connect(service).expect("loopback");
        socket.set_read_timeout(Some(Duration::from_millis(1))).expect("more than 0");
        Asker { socket, account, flights: HashMap::new() }
    }

    fn run(mut self, ending: &AtomicBool, answers: &AtomicU64) -> Account {
        while !ending.load(Ordering::Relaxed) {
            (0..OBJECTS).for_each(|object| self.ask(object));
            self.turn(answers);
        }
        self.settle(answers);
        (0..OBJECTS).for_each(|object| self.ask(object));
        self.settle(answers);
        self.account
    }

    fn settle(&mut self, answers: &AtomicU64) {
        let until = Instant::now() + PATIENCE;
        while !self.flights.is_empty() {
            assert!(Instant::now() < until, "{} objects do not answer", self.flights.len());
            self.turn(answers);
        }
    }

    fn ask(&mut self, object: u32) {
        if !self.flights.contains_key(&object) {
            let number = self.account.answered.get(&object).unwrap_or(&0) + 1;
            let (sent, patience) = (Instant::now(), REPEAT_AFTER);
            self.flights.insert(object, Flight { number, sent, patience });
            self.send(object, number);
        }
    }

    /// See `src/demo/wire.rs`.
    fn send(&self, object: u32, number: u64) {
        let parts =
            [&b"HPq1"[..], &object.to_le_bytes(), &number.to_le_bytes(), &number.to_le_bytes()];
        // Nobody may be there.
        let _ = self.socket.send(&parts.concat());
    }

    fn turn(&mut self, answers: &AtomicU64) {
        let mut answer = [0; 64];
        while let Ok(len) = self.socket.recv(&mut answer) {
            if len == 40 && answer.starts_with(b"HPa1") {
                let number = |at: usize| {
                    answer[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
                };
                let object = (number(0) >> 32) as u32;
                self.note(object, number(8), number(16), answers);
            }
        }
        for object in 0..OBJECTS {
            let Some(flight) = self.flights.get_mut(&object) else { continue };
            if flight.sent.elapsed() > flight.patience {
                flight.sent = Instant::now();
                flight.patience = (flight.patience * 2).min(REPEAT_AFTER_MAX);
                let number = flight.number;
                self.send(object, number);
            }
        }
    }

    fn note(&mut self, object: u32, number: u64, count: u64, answers: &AtomicU64) {
        if self.flights.get(&object).is_none_or(|flight| flight.number != number) {
            return; // a repeated answer
        }
        self.flights.remove(&object);
        self.account.answered.insert(object, number);
        // What was lost once is missing ever after.
        self.account.lost = self.account.lost.max(number.saturating_sub(count));
        self.account.doubled = self.account.doubled.max(count.saturating_sub(number));
        answers.fetch_add(1, Ordering::Relaxed);
    }
}
