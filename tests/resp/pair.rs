//! A pair that serves the store, started by hand: certificates, witness, the listener that both nodes share, two nodes.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::processes::{Process, example, hotpair, wait_for};

/// Two nodes and what they need. Dropping it ends all of it and leaves nothing behind.
pub(crate) struct Pair {
    // Fields are dropped in this order: the nodes before what they use.
    nodes: Vec<Process>,
    _holder: Process,
    _witness: Process,
    regions: [Region; 2],
    /// Where the store is.
    pub(crate) service: SocketAddr,
    pub(crate) dir: TempDir,
}

/// The file of a region, which a killed node leaves behind.
struct Region(String);

impl Drop for Region {
    fn drop(&mut self) {
        let _ = fs::remove_file(Path::new("/dev/shm").join(format!("hotpair.{}", self.0)));
    }
}

impl Pair {
    /// Starts a pair in which node 0 is primary and node 1 its back-up, which `local` only makes it by name. `port` are further
    /// arguments of the port.
    pub(crate) fn start(name: &str, mode: &str, port: &[&str]) -> Pair {
        let resp = example("resp");
        let dir = tempfile::Builder::new().prefix("hotpair-").tempdir().expect("/tmp is writable");
        let at = dir.path();
        let pki = at.join("pki");
        run(&["pki", "init", "--name", name, "--dir", text(&pki)]);

        let (store, socket) = (at.join("witness"), at.join("service.sock"));
        // Node a begins, and node b finds it in service.
        let mut witness = vec!["witness", "--listen", "127.0.0.1:0", "--reinit", "a"];
        witness.extend(["--pki", text(&pki), "--store", text(&store)]);
        let mut witness = start(at, "witness", &witness);
        let witness_at = address_in(&witness.first_line());
        let held = ["hold", "--at", text(&socket), "store=tcp:127.0.0.1:0"];
        let mut holder = start(at, "holder", &held);
        let service = address_in(&holder.first_line());

        let listen = [free_address(), free_address()];
        let regions =
            ["a", "b"].map(|side| Region(format!("{name}-{side}-{}", std::process::id())));
        for (index, side) in ["a", "b"].into_iter().enumerate() {
            let config = Config {
                name,
                side,
                mode,
                witness: witness_at,
                listen: listen[index],
                peer: listen[1 - index],
                region: &regions[index].0,
                socket: text(&socket),
                resp: text(&resp),
                port,
            };
            fs::write(at.join(format!("{side}.toml")), config.text()).expect("it is our directory");
        }
        let mut pair =
            Pair { nodes: Vec::new(), _holder: holder, _witness: witness, regions, service, dir };
        pair.start_node(0);
        pair.wait_until("node 0 is primary", 0, |status| status["role"] == "primary");
        pair.start_node(1);
        pair.wait_until("the pair is protected", 0, |status| status["protected"] == true);
        pair
    }

    /// SIGKILL to a supervisor, its node, its ports and its workers.
    pub(crate) fn kill_side(&mut self, node: usize) {
        self.nodes[node].kill_tree();
    }

    /// Stops a node as an operator would.
    pub(crate) fn stop_side(&mut self, node: usize) {
        self.nodes[node].stop();
    }

    /// What `hotpair status` says about a node's region; `None` while there is none.
    pub(crate) fn status(&self, node: usize) -> Option<Value> {
        let region = &self.regions[node].0;
        let output =
            Command::new(hotpair()).args(["status", "--region", region, "--json"]).output();
        serde_json::from_slice(&output.expect("the program can be started").stdout).ok()
    }

    /// Waits for a status of a node.
    pub(crate) fn wait_until(&mut self, what: &str, node: usize, is: impl Fn(&Value) -> bool) {
        wait_for(what, || {
            let ended = self.nodes[node].ended();
            assert!(ended.is_none(), "node {node} ended: {ended:?}");
            self.status(node).filter(&is)
        });
    }

    /// Whether node 1 would be promoted now.
    pub(crate) fn is_protected(&self) -> bool {
        self.status(0).is_some_and(|status| status["protected"] == true)
    }

    /// The objects of a queue in a node's region.
    pub(crate) fn objects(&self, node: usize, queue: &str) -> usize {
        let region = &self.regions[node].0;
        run(&["dump", "--region", region, "--queue", queue, "--json"]).lines().count()
    }

    fn start_node(&mut self, node: usize) {
        let side = ["a", "b"][node];
        let config = self.dir.path().join(format!("{side}.toml"));
        let argv = ["node", "--config", text(&config)];
        self.nodes.push(start(self.dir.path(), &format!("node-{side}"), &argv));
    }
}

struct Config<'a> {
    name: &'a str,
    side: &'a str,
    mode: &'a str,
    witness: SocketAddr,
    listen: SocketAddr,
    peer: SocketAddr,
    region: &'a str,
    socket: &'a str,
    resp: &'a str,
    port: &'a [&'a str],
}

impl Config<'_> {
    fn text(&self) -> String {
        let Config { name, side, mode, witness, listen, peer, region, socket, resp, port } = self;
        let port: String = port.iter().map(|argument| format!(", \"{argument}\"")).collect();
        format!(
            r#"
[pair]
name = "{name}"
node = "{side}"
[pki]
dir = "pki"
[witness]
address = "{witness}"
[replication]
listen = "{listen}"
peer = "{peer}"
mode = "{mode}"
[region]
name = "{region}"
slots = 16384
# Connections, answers that say OK, small values; values; batches of commands, long answers.
[[region.class]]
payload_bytes = 128
blocks = 32768
[[region.class]]
payload_bytes = 512
blocks = 16384
[[region.class]]
payload_bytes = 16384
blocks = 2048
[[queue]]
name = "connections"
overload = "hold"
[[queue]]
name = "keys"
[[port]]
name = "store"
kind = "tcp"
queue = "connections"
holder = "{socket}"
# The port of the service cuts the stream itself.
framing = "pieces"
command = ["{resp}", "port", "--socket", "holder:{socket}#store"{port}]
[[worker]]
queue = "connections"
command = ["{resp}", "worker"]
[[worker]]
queue = "keys"
command = ["{resp}", "expire"]
"#
        )
    }
}

fn start(dir: &Path, name: &str, arguments: &[&str]) -> Process {
    Process::start(dir, name, [text(hotpair())].iter().chain(arguments))
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

/// `witness of pair … on 127.0.0.1:7400`, `store is tcp:127.0.0.1:6379, handed out at …`
fn address_in(line: &str) -> SocketAddr {
    let words = line.split([' ', ',']).map(|word| word.trim_start_matches("tcp:"));
    let mut addresses = words.filter_map(|word| word.parse().ok());
    addresses.next().unwrap_or_else(|| panic!("no address: {line}"))
}

/// An address whose UDP and TCP port, and the UDP port above it, nobody has: an address of this process's own, and a port below
/// those that the kernel gives out.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(21_000);
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
