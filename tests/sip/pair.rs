//! A pair that serves SIP, started by hand: certificates, witness, service socket, two nodes.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
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
    /// Where calls go.
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
    /// Starts a pair in which node 0 is primary and node 1 its back-up, which `local` only makes it
    /// by name: it is promoted, with nothing of the calls.
    pub(crate) fn start(name: &str, mode: &str) -> Pair {
        let sip = example("sip");
        let dir = tempfile::Builder::new().prefix("hotpair-").tempdir().expect("/tmp is writable");
        let at = dir.path();
        let pki = at.join("pki");
        run(&["pki", "init", "--name", name, "--dir", text(&pki)]);

        let (store, socket) = (at.join("witness"), at.join("service.sock"));
        let (pki_at, store_at) = (["--pki", text(&pki)], ["--store", text(&store)]);
        // Node a begins, and node b finds it in service.
        let begin = ["witness", "--listen", "127.0.0.1:0", "--reinit", "a"];
        let mut witness = start(at, "witness", &[&begin[..], &pki_at, &store_at].concat());
        let witness_at = last_address(&witness.first_line());

        let mut holder = start(at, "holder", &["hold", "--at", text(&socket), "sip=127.0.0.1:0"]);
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
                socket: &socket,
                sip: &sip,
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

    /// Whether a node's supervisor still runs.
    pub(crate) fn check_alive(&mut self, node: usize) {
        let ended = self.nodes[node].ended();
        assert!(ended.is_none(), "node {node} ended: {ended:?}");
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
            self.check_alive(node);
            self.status(node).filter(&is)
        });
    }

    /// Whether node 1 would be promoted now. A pair on a busy machine may drop its back-up for a
    /// while, and who kills the primary then has killed the service.
    pub(crate) fn is_protected(&mut self) -> bool {
        self.check_alive(0);
        self.status(0).is_some_and(|status| status["protected"] == true)
    }

    /// The objects of a queue in a node's region.
    pub(crate) fn dump(&self, node: usize, queue: &str) -> Vec<Value> {
        let region = &self.regions[node].0;
        let output = run(&["dump", "--region", region, "--queue", queue, "--json"]);
        let line = |line: &str| serde_json::from_str(line).expect("one JSON object a line");
        output.lines().map(line).collect()
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
    socket: &'a Path,
    sip: &'a Path,
}

impl Config<'_> {
    fn text(&self) -> String {
        let Config { name, side, mode, witness, listen, peer, region, .. } = self;
        let (sip, socket) = (text(self.sip), text(self.socket));
        let mut text = format!(
            "[pair]\nname = \"{name}\"\nnode = \"{side}\"\n\
             [pki]\ndir = \"pki\"\n\
             [witness]\naddress = \"{witness}\"\n\
             [replication]\nlisten = \"{listen}\"\npeer = \"{peer}\"\nmode = \"{mode}\"\n\
             [region]\nname = \"{region}\"\n"
        );
        // 3,000 records, 500 calls up, 500 that have ended and linger; twice that for safety.
        text.push_str("slots = 8192\n");
        // Records and small answers; answers with a description; calls.
        for (payload_bytes, blocks) in [(512, 8192), (1024, 8192), (2048, 8192)] {
            let _ = writeln!(
                text,
                "[[region.class]]\npayload_bytes = {payload_bytes}\nblocks = {blocks}"
            );
        }
        for queue in ["calls", "cdr"] {
            let _ = writeln!(text, "[[queue]]\nname = \"{queue}\"");
        }
        let _ = write!(
            text,
            "[[port]]\nname = \"sip\"\nkind = \"udp\"\nqueue = \"calls\"\nholder = \"{socket}\"\n\
             command = [\"{sip}\", \"port\", \"--socket\", \"holder:{socket}#sip\"]\n\
             [[worker]]\nqueue = \"calls\"\ncount = 2\n\
             command = [\"{sip}\", \"worker\", \"--linger-ms\", \"5000\"]\n"
        );
        text
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

/// `witness of pair … on 127.0.0.1:7400`
fn last_address(line: &str) -> SocketAddr {
    let word = line.split_whitespace().next_back().unwrap_or_default();
    word.parse().unwrap_or_else(|_| panic!("no address at the end of: {line}"))
}

/// `sip is 127.0.0.1:5060, handed out at …`
fn address_in(line: &str) -> SocketAddr {
    let words = line.split([' ', ',']);
    words
        .filter_map(|word| word.parse().ok())
        .next()
        .unwrap_or_else(|| panic!("no address: {line}"))
}

/// An address whose UDP and TCP port, and the UDP port above it, nobody has.
///
/// All of 127.0.0.0/8 is loopback: each process has an address of its own there, and below the range
/// from which the kernel draws ports nobody is given one by chance.
fn free_address() -> SocketAddr {
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

/// Where sipp is told to write.
pub(crate) fn scenario() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sip/calls.xml")
}
