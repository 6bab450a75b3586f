//! Two nodes with what they run, as processes of this host or of hosts of network namespaces: what can be asked of them
//! and done to them, whatever they serve.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;

use crate::afterwards::Afterwards;
use crate::processes::{Process, hotpair, wait_for};

/// Their names.
pub(crate) const SIDES: [&str; 2] = ["a", "b"];

/// The nodes of a pair. Dropping it ends them and leaves nothing behind.
pub(crate) struct Nodes {
    // Dropped in this order: who uses a region before its file goes.
    processes: Vec<Process>,
    regions: [String; 2],
    _afterwards: Afterwards,
}

fn file_of(region: &str) -> PathBuf {
    Path::new("/dev/shm").join(format!("hotpair.{region}"))
}

impl Nodes {
    /// None runs yet; `name` distinguishes their regions.
    pub(crate) fn new(name: &str) -> Nodes {
        let regions = SIDES.map(|side| format!("{name}-{side}-{}", std::process::id()));
        // A killed node leaves its region behind.
        let [a, b] = regions.each_ref().map(|region| file_of(region));
        let afterwards = Afterwards::run(&format!("rm -f {} {}", a.display(), b.display()));
        Nodes { processes: Vec::new(), regions, _afterwards: afterwards }
    }

    /// The name of a node's region.
    pub(crate) fn region(&self, node: usize) -> &str {
        &self.regions[node]
    }

    /// Starts node a, which becomes primary, and where there are two then node b, which becomes its back-up.
    pub(crate) fn start(&mut self, count: usize, start: impl Fn(&'static str) -> Process) {
        self.processes.push(start(SIDES[0]));
        self.wait_until("node a is primary", 0, |status| status["role"] == "primary");
        if count == 2 {
            self.processes.push(start(SIDES[1]));
            self.wait_until("the pair is protected", 0, |status| status["protected"] == true);
        }
    }

    /// SIGKILL to a supervisor, its node, its ports and its workers.
    pub(crate) fn kill(&mut self, node: usize) {
        self.processes[node].kill_tree();
    }

    /// Stops a node as an operator would; its region goes with it.
    pub(crate) fn stop(&mut self, node: usize) {
        self.processes[node].stop();
        assert!(!file_of(self.region(node)).exists(), "an orderly stop leaves nothing");
    }

    /// Its supervisor runs.
    pub(crate) fn check_alive(&mut self, node: usize) {
        let ended = self.processes[node].ended();
        assert!(ended.is_none(), "node {} ended: {ended:?}", SIDES[node]);
    }

    /// What `hotpair status` says about a node's region; `None` while there is none.
    pub(crate) fn status(&self, node: usize) -> Option<Value> {
        let mut status = Command::new(hotpair());
        let output = status.args(["status", "--region", self.region(node), "--json"]).output();
        serde_json::from_slice(&output.expect("the program can be started").stdout).ok()
    }

    /// Waits for a status of a node.
    pub(crate) fn wait_until(&mut self, what: &str, node: usize, is: impl Fn(&Value) -> bool) {
        wait_for(what, || {
            self.check_alive(node);
            self.status(node).filter(&is)
        });
    }

    /// Which node would be succeeded by the other one now; it is primary. On a busy machine a pair may drop its back-up for
    /// a while, or change roles, and who kills the wrong one then has killed the service or nothing.
    pub(crate) fn protected_primary(&mut self) -> Option<usize> {
        (0..self.processes.len()).find(|node| {
            self.check_alive(*node);
            let status = self.status(*node).unwrap_or_default();
            status["role"] == "primary" && status["protected"] == true
        })
    }

    /// The objects of a queue in a node's region.
    pub(crate) fn dump(&self, node: usize, queue: &str) -> Vec<Value> {
        let output = run(&["dump", "--region", self.region(node), "--queue", queue, "--json"]);
        let line = |line: &str| serde_json::from_str(line).expect("one JSON object a line");
        output.lines().map(line).collect()
    }
}

/// Runs a command of the program to its end and returns what it printed.
pub(crate) fn run(arguments: &[&str]) -> String {
    let output = Command::new(hotpair()).args(arguments).output();
    let output = output.expect("the program can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hotpair {}: {said}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("the test's paths are plain text")
}

/// `witness of pair … on 127.0.0.1:7400`, `store is tcp:127.0.0.1:6379, handed out at …`
pub(crate) fn address_in(line: &str) -> SocketAddr {
    let words = line.split([' ', ',']).map(|word| word.trim_start_matches("tcp:"));
    let mut addresses = words.filter_map(|word| word.parse().ok());
    addresses.next().unwrap_or_else(|| panic!("no address: {line}"))
}

/// An address whose UDP and TCP port, and the UDP port above it, nobody has.
///
/// All of 127.0.0.0/8 is loopback: each process has an address of its own there, and below the range
/// from which the kernel draws ports nobody is given one by chance.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = [127, 64 | (high & 63), middle, low.clamp(1, 254)];
    loop {
        let port = NEXT.fetch_add(2, Ordering::Relaxed);
        let at = |port| SocketAddr::from((ip, port));
        let free = UdpSocket::bind(at(port)).is_ok()
            && UdpSocket::bind(at(port + 1)).is_ok()
            && TcpListener::bind(at(port)).is_ok();
        if free {
            return at(port);
        }
    }
}
