//! A NAT on two hosts, or on one of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::network::{NAT_INSIDE, NAT_OUTSIDE, Network, SERVER};
use crate::processes::{Process, example, hotpair, wait_for};

/// Names of the hosts that have a node.
const SIDES: [&str; 2] = ["a", "b"];

/// What differs between tests.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Distinguishes its regions.
    pub(crate) name: &'static str,
    /// `sync`, or `local`, which replicates nothing.
    pub(crate) replication: &'static str,
    /// Nodes that are started.
    pub(crate) nodes: usize,
    /// More words for the workers.
    pub(crate) worker: &'static [&'static str],
}

impl Setup {
    pub(crate) fn new(name: &'static str) -> Setup {
        Setup { name, replication: "sync", nodes: 2, worker: &[] }
    }
}

/// Nodes and a witness. Dropping it ends all of it and leaves nothing behind.
pub(crate) struct Nat {
    // Fields are dropped in this order: processes before the hosts that they run on.
    nodes: Vec<Process>,
    _witness: Process,
    regions: Vec<Region>,
    pub(crate) network: Network,
    pub(crate) dir: TempDir,
}

/// The file of a region, which a killed node leaves behind.
struct Region(String);

impl Region {
    fn path(&self) -> PathBuf {
        Path::new("/dev/shm").join(format!("hotpair.{}", self.0))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path());
    }
}

impl Nat {
    /// Starts the nodes: host a is primary, and b, if there is one, its back-up, which `local` only makes it by name.
    pub(crate) fn start(network: Network, setup: &Setup) -> Nat {
        let dir = tempfile::Builder::new().prefix("hotpair-").tempdir().expect("/tmp is writable");
        let pki = dir.path().join("pki");
        run(&["pki", "init", "--name", setup.name, "--dir", path_text(&pki)]);
        let region = |side| Region(format!("{}-{side}-{}", setup.name, std::process::id()));
        let regions: Vec<Region> = SIDES.into_iter().map(region).collect();
        for (side, region) in SIDES.iter().zip(&regions) {
            let counts = dir.path().join(format!("counts-{side}"));
            fs::create_dir(&counts).expect("it is our directory");
            let config = configuration(setup, side, &region.0, &counts);
            fs::write(dir.path().join(format!("{side}.toml")), config)
                .expect("it is our directory");
        }
        // Node a begins, and node b finds it in service.
        let witness = ["witness", "--listen", "10.99.0.3:7400", "--reinit", "a", "--pki", "pki"];
        let witness = [&witness[..], &["--store", "witness"]].concat();
        let mut witness = start(dir.path(), &network, "w", &witness);
        witness.first_line();

        let mut nat = Nat { nodes: Vec::new(), _witness: witness, regions, network, dir };
        nat.start_node(0);
        nat.wait_until("host a is primary", 0, |status| status["role"] == "primary");
        if setup.nodes == 2 {
            nat.start_node(1);
            nat.wait_until("the pair is protected", 0, |status| status["protected"] == true);
        }
        nat
    }

    /// SIGKILL to everything of the primary: supervisor, node, ports, workers. Gives the host that is left, which would be
    /// promoted: on a busy machine a pair may drop its back-up for a while.
    pub(crate) fn kill_primary(&mut self) -> usize {
        let primary = wait_for("the pair is protected", || {
            (0..self.nodes.len()).find(|node| {
                let status = self.status(*node).unwrap_or_default();
                status["role"] == "primary" && status["protected"] == true
            })
        });
        self.nodes[primary].kill_tree();
        1 - primary
    }

    /// Stops a node as an operator would; its region goes with it.
    pub(crate) fn stop(&mut self, node: usize) {
        self.nodes[node].stop();
        assert!(!self.regions[node].path().exists(), "an orderly stop leaves nothing");
    }

    pub(crate) fn wait_until(&mut self, what: &str, node: usize, is: impl Fn(&Value) -> bool) {
        wait_for(what, || {
            let ended = self.nodes[node].ended();
            assert!(ended.is_none(), "host {} ended: {ended:?}", SIDES[node]);
            self.status(node).filter(&is)
        });
    }

    /// What `hotpair status` says about a node.
    pub(crate) fn status(&self, node: usize) -> Option<Value> {
        let region = &self.regions[node].0;
        let output =
            Command::new(hotpair()).args(["status", "--region", region, "--json"]).output();
        serde_json::from_slice(&output.expect("the program can be started").stdout).ok()
    }

    /// What the workers of a node have counted, by the names of the counters.
    pub(crate) fn counts(&self, node: usize) -> BTreeMap<String, u64> {
        let dir = self.dir.path().join(format!("counts-{}", SIDES[node]));
        let mut counts = BTreeMap::new();
        for file in fs::read_dir(dir).expect("it is our directory").flatten() {
            // One that is being replaced is read the next time.
            let page = fs::read_to_string(file.path()).unwrap_or_default();
            for line in page.lines().filter(|line| !line.starts_with('#')) {
                let (name, count) = line.split_once(' ').expect("a name and a number");
                *counts.entry(name.to_owned()).or_default() += count.parse().unwrap_or(0);
            }
        }
        counts
    }

    fn start_node(&mut self, node: usize) {
        let config = format!("{}.toml", SIDES[node]);
        let argv = ["node", "--config", &config];
        self.nodes.push(start(self.dir.path(), &self.network, SIDES[node], &argv));
    }
}

fn configuration(setup: &Setup, side: &str, region: &str, counts: &Path) -> String {
    let Setup { name, replication, worker, .. } = setup;
    let (own, peer) =
        if side == "a" { ("10.99.0.1", "10.99.0.2") } else { ("10.99.0.2", "10.99.0.1") };
    let mut text = format!(
        "[pair]\nname = \"{name}\"\nnode = \"{side}\"\n\
         [pki]\ndir = \"pki\"\n\
         [witness]\naddress = \"10.99.0.3:7400\"\n\
         [replication]\nlisten = \"{own}:7410\"\npeer = \"{peer}:7410\"\nmode = \"{replication}\"\n"
    );
    // Patient: this is about what is kept, not how fast, and the machine may be busy.
    text.push_str("[heartbeat]\nmisses = 40\n");
    // 1,024 slices of three protocols, and one object for each side; a connection's burst waits in one inbox.
    let _ = writeln!(text, "[region]\nname = \"{region}\"\nslots = 4096\ninbox_limit = 512");
    for payload_bytes in [256, 512, 1024, 2048] {
        let _ = writeln!(text, "[[region.class]]\npayload_bytes = {payload_bytes}\nblocks = 8192");
    }
    text.push_str("[[queue]]\nname = \"nat\"\n");
    let nat = example("nat");
    let addresses = [
        "--inside",
        NAT_INSIDE,
        "--outside",
        &NAT_OUTSIDE.to_string(),
        "--gateway",
        &SERVER.to_string(),
    ]
    .map(str::to_owned);
    let command = |words: &[&str]| {
        let words = [&[path_text(&nat)], words].concat();
        let words = words.into_iter().chain(addresses.iter().map(String::as_str));
        format!(
            "command = [{}]",
            words.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
        )
    };
    for (name, side, interface, mode, more) in [
        ("inside", "inside", "in0", "local", &[][..]),
        ("outside", "outside", "out0", "local", &[]),
        ("first", "outside", "out0", "sync", &["--send-only"]),
    ] {
        let words = [&["port", "--side", side, "--interface", interface], more].concat();
        let _ = writeln!(
            text,
            "[[port]]\nname = \"{name}\"\nkind = \"packet\"\ninterface = \"{interface}\"\n\
             queue = \"nat\"\nmode = \"{mode}\"\n{}",
            command(&words)
        );
    }
    let words = [&["worker", "--counts", path_text(counts)], *worker].concat();
    let _ = writeln!(text, "[[worker]]\nqueue = \"nat\"\ncount = 2\n{}", command(&words));
    text
}

/// Starts the program on a host.
fn start(dir: &Path, network: &Network, host: &str, arguments: &[&str]) -> Process {
    let exec = network.exec(host);
    let on = exec.iter().map(String::as_str).chain([path_text(hotpair())]);
    Process::start(dir, &format!("{}-{host}", arguments[0]), on.chain(arguments.iter().copied()))
}

/// Runs a command of the program to its end and returns what it printed.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(hotpair()).args(arguments).output();
    let output = output.expect("the program can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hotpair {}: {said}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("the test's paths are plain text")
}
