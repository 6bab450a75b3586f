//! A pair that serves SIP on two hosts, at an address that moves between them.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::network::{Network, SERVICE, address};
use crate::processes::{Process, example, hotpair, wait_for};

/// Names of the hosts that have a node.
pub(crate) const SIDES: [&str; 2] = ["a", "b"];

/// Two nodes, each on a host, and a witness on a third. Dropping it ends all of it and leaves nothing behind.
pub(crate) struct Hosts {
    // Fields are dropped in this order: processes before the hosts that they run on.
    nodes: Vec<Process>,
    _witness: Process,
    regions: [Region; 2],
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

impl Hosts {
    /// Starts a pair in which host a is primary and b its back-up, which `local` only makes it by name.
    pub(crate) fn start(network: Network, name: &str, mode: &str) -> Hosts {
        let dir = tempfile::Builder::new().prefix("hotpair-").tempdir().expect("/tmp is writable");
        run(&["pki", "init", "--name", name, "--dir", text(&dir.path().join("pki"))]);
        let regions = SIDES.map(|side| Region(format!("{name}-{side}-{}", std::process::id())));
        for (side, region) in SIDES.iter().zip(&regions) {
            let config = configuration(name, side, mode, &region.0);
            fs::write(dir.path().join(format!("{side}.toml")), config)
                .expect("it is our directory");
        }
        let listen = format!("{}:7400", address("w"));
        // Node a begins, and node b finds it in service.
        let witness = ["witness", "--listen", &listen, "--reinit", "a", "--pki", "pki"];
        let witness = [&witness[..], &["--store", "witness"]].concat();
        let mut witness = start(dir.path(), &network, "w", &witness);
        witness.first_line();

        let mut hosts = Hosts { nodes: Vec::new(), _witness: witness, regions, network, dir };
        hosts.start_node(0);
        hosts.wait_until("host a is primary", 0, |status| status["role"] == "primary");
        hosts.start_node(1);
        hosts.wait_until("the pair is protected", 0, |status| status["protected"] == true);
        wait_for("host a has the address", || hosts.network.has_service("a").then_some(()));
        assert!(!hosts.network.has_service("b"), "an address belongs to the primary alone");
        hosts
    }

    /// Which host would be succeeded by the other one now; it is primary. On a busy machine a pair may drop its back-up for
    /// a while, or change roles, and who kills the wrong one then has killed the service or nothing.
    pub(crate) fn protected_primary(&mut self) -> Option<usize> {
        (0..self.nodes.len()).find(|node| {
            self.check_alive(*node);
            let status = self.status(*node).unwrap_or_default();
            status["role"] == "primary" && status["protected"] == true
        })
    }

    /// Ends a host as a power cut would: its cable falls silent, and everything on it is killed. Nobody is told.
    pub(crate) fn kill(&mut self, node: usize) {
        self.network.cut(SIDES[node]);
        self.nodes[node].kill_tree();
    }

    /// Stops a node as an operator would; its region goes with it.
    pub(crate) fn stop(&mut self, node: usize) {
        self.nodes[node].stop();
        assert!(!self.regions[node].path().exists(), "an orderly stop leaves nothing");
    }

    /// Waits for a status of a node.
    pub(crate) fn wait_until(&mut self, what: &str, node: usize, is: impl Fn(&Value) -> bool) {
        wait_for(what, || {
            self.check_alive(node);
            self.status(node).filter(&is)
        });
    }

    /// The objects of a queue in a node's region.
    pub(crate) fn dump(&self, node: usize, queue: &str) -> Vec<Value> {
        let region = &self.regions[node].0;
        let output = run(&["dump", "--region", region, "--queue", queue, "--json"]);
        let line = |line: &str| serde_json::from_str(line).expect("one JSON object a line");
        output.lines().map(line).collect()
    }

    fn status(&self, node: usize) -> Option<Value> {
        let region = &self.regions[node].0;
        let output =
            Command::new(hotpair()).args(["status", "--region", region, "--json"]).output();
        serde_json::from_slice(&output.expect("the program can be started").stdout).ok()
    }

    fn check_alive(&mut self, node: usize) {
        let ended = self.nodes[node].ended();
        assert!(ended.is_none(), "host {} ended: {ended:?}", SIDES[node]);
    }

    fn start_node(&mut self, node: usize) {
        let config = format!("{}.toml", SIDES[node]);
        let argv = ["node", "--config", &config];
        self.nodes.push(start(self.dir.path(), &self.network, SIDES[node], &argv));
    }
}

fn configuration(name: &str, side: &str, mode: &str, region: &str) -> String {
    let peer = SIDES.into_iter().find(|other| *other != side).expect("there are two");
    let (own, peer, witness) = (address(side), address(peer), address("w"));
    let sip = example("sip");
    let sip = text(&sip);
    let mut text = format!(
        "[pair]\nname = \"{name}\"\nnode = \"{side}\"\n\
         [pki]\ndir = \"pki\"\n\
         [witness]\naddress = \"{witness}:7400\"\n\
         [replication]\nlisten = \"{own}:7410\"\npeer = \"{peer}:7410\"\nmode = \"{mode}\"\n"
    );
    // Patient: this is about what is kept, not how fast, and the machine may be busy.
    text.push_str("[heartbeat]\nmisses = 40\n");
    let _ = writeln!(text, "[service]\naddresses = [\"{}/24 dev eth0\"]", SERVICE.ip());
    let _ = writeln!(text, "[region]\nname = \"{region}\"\nslots = 8192");
    // Records and small answers; answers with a description; calls.
    for payload_bytes in [512, 1024, 2048] {
        let _ = writeln!(text, "[[region.class]]\npayload_bytes = {payload_bytes}\nblocks = 8192");
    }
    for queue in ["calls", "cdr"] {
        let _ = writeln!(text, "[[queue]]\nname = \"{queue}\"");
    }
    let _ = write!(
        text,
        "[[port]]\nname = \"sip\"\nkind = \"udp\"\nqueue = \"calls\"\nbind = \"{SERVICE}\"\n\
         command = [\"{sip}\", \"port\", \"--socket\", \"service:{SERVICE}\"]\n\
         [[worker]]\nqueue = \"calls\"\ncount = 2\n\
         command = [\"{sip}\", \"worker\", \"--linger-ms\", \"5000\"]\n"
    );
    text
}

/// Starts the program on a host.
fn start(dir: &Path, network: &Network, host: &str, arguments: &[&str]) -> Process {
    let space = network.space(host);
    let on = ["ip", "netns", "exec", &space, text(hotpair())];
    Process::start(dir, &format!("{}-{host}", arguments[0]), on.iter().chain(arguments))
}

/// Runs a command of the program to its end and returns what it printed.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(hotpair()).args(arguments).output();
    let output = output.expect("the program can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hotpair {}: {said}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the test's paths are plain text")
}
