//! A NAT on two hosts, or on one of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::network::{NAT_INSIDE, NAT_OUTSIDE, Network, SERVER};
use crate::nodes::{Nodes, SIDES, run, text};
use crate::processes::{Process, example, hotpair, wait_for};

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
    pub(crate) nodes: Nodes,
    _witness: Process,
    pub(crate) network: Network,
    pub(crate) dir: TempDir,
}

impl Nat {
    /// Starts the nodes: host a is primary, and b, if there is one, its back-up, which `local` only makes it by name.
    pub(crate) fn start(network: Network, setup: &Setup) -> Nat {
        let dir = tempfile::Builder::new().prefix("hotpair-").tempdir().expect("/tmp is writable");
        let pki = dir.path().join("pki");
        run(&["pki", "init", "--name", setup.name, "--dir", text(&pki)]);
        let mut nodes = Nodes::new(setup.name);
        for (node, side) in SIDES.into_iter().enumerate() {
            let counts = dir.path().join(format!("counts-{side}"));
            fs::create_dir(&counts).expect("it is our directory");
            let config = configuration(setup, side, nodes.region(node), &counts);
            fs::write(dir.path().join(format!("{side}.toml")), config)
                .expect("it is our directory");
        }
        // Node a begins, and node b finds it in service.
        let witness = ["witness", "--listen", "10.99.0.3:7400", "--reinit", "a", "--pki", "pki"];
        let witness = [&witness[..], &["--store", "witness"]].concat();
        let mut witness = start(dir.path(), &network, "w", &witness);
        witness.first_line();

        nodes.start(setup.nodes, |side| {
            let config = format!("{side}.toml");
            start(dir.path(), &network, side, &["node", "--config", &config])
        });
        Nat { nodes, _witness: witness, network, dir }
    }

    /// SIGKILL to everything of the primary: supervisor, node, ports, workers. Gives the host that is left, which would be
    /// promoted: on a busy machine a pair may drop its back-up for a while.
    pub(crate) fn kill_primary(&mut self) -> usize {
        let primary = wait_for("the pair is protected", || self.nodes.protected_primary());
        self.nodes.kill(primary);
        1 - primary
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
}

fn configuration(setup: &Setup, side: &str, region: &str, counts: &Path) -> String {
    let Setup { name, replication, worker, .. } = setup;
    let (own, peer) =
        if side == "a" { ("10.99.0.1", "10.99.0.2") } else { ("10.99.0.2", "10.99.0.1") };
    let mut config = format!(
        "[pair]\nname = \"{name}\"\nnode = \"{side}\"\n\
         [pki]\ndir = \"pki\"\n\
         [witness]\naddress = \"10.99.0.3:7400\"\n\
         [replication]\nlisten = \"{own}:7410\"\npeer = \"{peer}:7410\"\nmode = \"{replication}\"\n"
    );
    // Patient: this is about what is kept, not how fast, and the machine may be busy.
    config.push_str("[heartbeat]\nmisses = 40\n");
    // 1,024 slices of three protocols, and one object for each side; a connection's burst waits in one inbox.
    let _ = writeln!(config, "[region]\nname = \"{region}\"\nslots = 4096\ninbox_limit = 512");
    for payload_bytes in [256, 512, 1024, 2048] {
        let _ =
            writeln!(config, "[[region.class]]\npayload_bytes = {payload_bytes}\nblocks = 8192");
    }
    config.push_str("[[queue]]\nname = \"nat\"\n");
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
        let words = [&[text(&nat)], words].concat();
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
            config,
            "[[port]]\nname = \"{name}\"\nkind = \"packet\"\ninterface = \"{interface}\"\n\
             queue = \"nat\"\nmode = \"{mode}\"\n{}",
            command(&words)
        );
    }
    let words = [&["worker", "--counts", text(counts)], *worker].concat();
    let _ = writeln!(config, "[[worker]]\nqueue = \"nat\"\ncount = 2\n{}", command(&words));
    config
}

/// Starts the program on a host.
fn start(dir: &Path, network: &Network, host: &str, arguments: &[&str]) -> Process {
    let exec = network.exec(host);
    let on = exec.iter().map(String::as_str).chain([text(hotpair())]);
    Process::start(dir, &format!("{}-{host}", arguments[0]), on.chain(arguments.iter().copied()))
}
