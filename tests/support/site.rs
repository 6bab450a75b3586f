//! A pair of this host with the demo's ports and workers, of any build, and a client that knows of every answer what it must be.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{
    Ended, HOTPAIR, RegionName, Running, bound, bound_program, eventually, hotpair, loopback,
};

const OBJECTS: u32 = 32;

/// What one side is made of.
#[derive(Clone)]
pub(crate) struct Build {
    /// Its supervisor and its node, and what asks them.
    pub(crate) node: PathBuf,
    /// Its port and its workers.
    pub(crate) demo: PathBuf,
}

impl Build {
    /// All of one program.
    pub(crate) fn of(program: &Path) -> Build {
        Build { node: program.to_owned(), demo: program.to_owned() }
    }
}

/// The pair, and what it leaves in a directory.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    ip: String,
    purpose: String,
    pub(crate) regions: [RegionName; 2],
    none: bool,
    /// What each side is started from.
    pub(crate) builds: [Build; 2],
    /// Which side keeps its region when it is stopped.
    pub(crate) keeps: [bool; 2],
    /// Its workers are on no side: they come in by gateways.
    pub(crate) far: bool,
}

impl Site {
    /// `purpose` tells it from other tests' sites; `none` is a pair without an arbiter.
    pub(crate) fn new(purpose: &str, address: u8, none: bool) -> Site {
        let name = |node| RegionName::new(&format!("{purpose}{address}-{node}"));
        let site = Site {
            dir: tempfile::tempdir().expect("a temporary directory"),
            ip: loopback(address),
            purpose: purpose.to_owned(),
            regions: ["a", "b"].map(name),
            none,
            builds: [Build::of(Path::new(HOTPAIR)), Build::of(Path::new(HOTPAIR))],
            keeps: [false; 2],
            far: false,
        };
        let pki = site.path("pki");
        hotpair(["pki", "init", "--name", purpose, "--dir", &text(&pki)]).exits(0);
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn service(&self) -> String {
        format!("{}:7430", self.ip)
    }

    /// Where the nodes meet.
    pub(crate) fn replication(&self, side: usize) -> SocketAddr {
        format!("{}:{}", self.ip, [7410, 7420][side]).parse().expect("an address")
    }

    fn gateway(&self, side: usize) -> String {
        format!("{}:{}", self.ip, [7510, 7520][side])
    }

    pub(crate) fn config(&self, side: usize) -> PathBuf {
        let ip = &self.ip;
        let node = ["a", "b"][side];
        let [own, peer] = [side, 1 - side].map(|side| self.replication(side));
        let arbiter = if self.none {
            format!("[arbiter]\nkind = \"none\"\nstore = \"view-{node}\"")
        } else {
            format!("[witness]\naddress = \"{ip}:7400\"")
        };
        let demo = &self.builds[side].demo;
        let workers = if self.far {
            format!("[gateway]\nlisten = [\"{}\"]", self.gateway(side))
        } else {
            format!(
                r#"[[worker]]
queue = "objects"
command = [{demo:?}, "demo-worker", "--side", "{node}"]
count = 2"#
            )
        };
        // What comes in by a gateway needs letters and receipts besides.
        let blocks = 4 * 512 + 16 * 64 + 16 * 512 + if self.far { 16 * 512 } else { 0 };
        let text = format!(
            r#"pair = {{ name = "{purpose}", node = "{node}" }}
pki = {{ dir = "pki" }}
replication = {{ listen = "{own}", peer = "{peer}" }}
{arbiter}
[region]
name = "{region}"
slots = 512
keep = {keep}
participants = 16
tx_entries = 512
class = [{{ payload_bytes = 256, blocks = {blocks} }}]
[[queue]]
name = "objects"
[[port]]
name = "service"
kind = "udp"
holder = "service.sock"
queue = "objects"
command = [{demo:?}, "demo-port"]
packet_bytes_max = 128
{workers}
"#,
            purpose = self.purpose,
            region = self.regions[side].0,
            keep = self.keeps[side],
        );
        let path = self.path(&format!("{node}.toml"));
        std::fs::write(&path, text).expect("a temporary directory is writable");
        path
    }

    pub(crate) fn hold(&self) -> Running {
        let socket = self.path("service.sock");
        let service = format!("service={}", self.service());
        let hold = ["hold", "--at", &text(&socket), &service].map(str::to_owned);
        let hold = Running::start(bound().args(hold).stdout(Stdio::null()));
        eventually("the holder listens", || socket.exists());
        hold
    }

    pub(crate) fn witness(&self) -> Running {
        self.witness_of(HOTPAIR, &["--reinit", "a"])
    }

    pub(crate) fn witness_of(&self, program: &str, more: &[&str]) -> Running {
        let mut command = bound_program(program);
        command.args(["witness", "--listen", &format!("{}:7400", self.ip), "--pki"]);
        command.arg(self.path("pki")).arg("--store").arg(self.path("witness"));
        command.args(more);
        let witness = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()));
        let address = (self.ip.as_str(), 7400);
        eventually("the witness listens", || TcpStream::connect(address).is_ok());
        witness
    }

    /// Its events go to a file.
    pub(crate) fn node(&self, side: usize) -> Running {
        let events = std::fs::OpenOptions::new().create(true).append(true).open(self.events(side));
        let events = events.expect("writable");
        let mut command = bound_program(&text(&self.builds[side].node));
        command.args(["node", "--json", "--config"]).arg(self.config(side));
        Running::start(command.stdin(Stdio::null()).stdout(events))
    }

    pub(crate) fn events(&self, side: usize) -> PathBuf {
        self.path(&format!("{side}.events"))
    }

    /// Both nodes, node a primary, with a port and two workers on each side.
    pub(crate) fn pair(&self) -> [Running; 2] {
        let a = self.node(0);
        if !self.none {
            eventually("node a is primary", || self.status(0)["role"] == "primary");
        }
        self.joined_by_b(a)
    }

    pub(crate) fn joined_by_b(&self, a: Running) -> [Running; 2] {
        let pair = [a, self.node(1)];
        self.protected_by(0);
        self.complete(0);
        self.complete(1);
        pair
    }

    /// A worker that shares no memory with either side.
    pub(crate) fn far_worker(&self, program: &Path) -> Running {
        let [a, b] = [0, 1].map(|side| self.gateway(side));
        let file = self.path("far.toml");
        let told =
            format!("pki = {{ dir = \"pki\" }}\nnodes = {{ a = [\"{a}\"], b = [\"{b}\"] }}\n");
        std::fs::write(&file, told).expect("a temporary directory is writable");
        let mut command = bound_program(&text(program));
        command.args(["demo-worker", "--remote"]).arg(file);
        Running::start(command.stdin(Stdio::null()))
    }

    pub(crate) fn complete(&self, side: usize) {
        eventually("its port and workers are there", || {
            let status = self.status(side);
            let count = |kind: &str| status[kind].as_array().map_or(0, Vec::len);
            count("ports") == 1 && (self.far || count("workers") == 2)
        });
    }

    pub(crate) fn protected_by(&self, primary: usize) {
        eventually("the pair is protected", || {
            let status = self.status(primary);
            status["role"] == "primary" && status["protected"] == true
        });
        assert_eq!(self.status(1 - primary)["role"], "backup");
    }

    pub(crate) fn status(&self, side: usize) -> Value {
        let ended = self.run(side, &["status", "--json", "--region", &self.regions[side].0]);
        serde_json::from_str(ended.stdout.trim()).unwrap_or_default()
    }

    pub(crate) fn ask(&self, what: &str, side: usize, more: &[&str]) -> Ended {
        let config = text(&self.config(side));
        self.run(side, &[&[what, "--config", &config], more].concat())
    }

    /// A command of the program of this side.
    fn run(&self, side: usize, arguments: &[&str]) -> Ended {
        let mut command = Command::new(&self.builds[side].node);
        let output = command.args(arguments).stdin(Stdio::null()).output();
        Ended::of(output.expect("it was built"))
    }

    /// Every event of that name of both nodes.
    pub(crate) fn told(&self, event: &str) -> Vec<Value> {
        let all = |side| std::fs::read_to_string(self.events(side)).unwrap_or_default();
        let lines = [all(0), all(1)].concat();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"] == event).collect()
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("an ordinary path").to_owned()
}

/// The demo's client, which knows of every answer what it must be.
pub(crate) struct Client(Child);

impl Client {
    pub(crate) fn start(site: &Site, seconds: u32) -> Client {
        let mut command = bound();
        command.args(["demo-client", "--rate=1000"]);
        command.arg(format!("--service={}", site.service()));
        command.args([format!("--seconds={seconds}"), format!("--objects={OBJECTS}")]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut client = Client(child.expect("the program was built"));
        client.say("go");
        client
    }

    fn say(&mut self, word: &str) {
        let stdin = self.0.stdin.as_mut().expect("it was asked for");
        writeln!(stdin, "{word}").expect("it listens");
    }

    /// From here on it notes the longest time without an answer.
    pub(crate) fn watches_for_gaps(&mut self) {
        self.say(&format!("mark {} a", hotpair_shm::monotonic_ns()));
    }

    /// Its result, whose load ends now.
    pub(crate) fn ends(mut self) -> Value {
        self.say("end");
        self.result()
    }

    /// Its result, once the load is over.
    pub(crate) fn result(mut self) -> Value {
        let stdout = self.0.stdout.take().expect("it was asked for");
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let result = lines.find(|line| line["event"] == "result").expect("it reports");
        self.0.wait().expect("our own child");
        result
    }
}

#[track_caller]
pub(crate) fn nothing_is_wrong(result: &Value) {
    for field in ["lost", "duplicated", "diverged", "unanswered"] {
        assert_eq!(result[field], 0, "{field} in {result:#}");
    }
    assert_eq!(result["added"], result["withdrawn"], "{result:#}");
}
