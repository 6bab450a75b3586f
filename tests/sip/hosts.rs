//! A pair that serves SIP on two hosts, at an address that moves between them.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::network::{Network, SERVICE, address};
use crate::nodes::{Nodes, SIDES, run, text};
use crate::processes::{Process, example, hotpair, wait_for};

/// Two nodes, each on a host, and a witness on a third. Dropping it ends all of it and leaves nothing behind.
pub(crate) struct Hosts {
    // Fields are dropped in this order: processes before the hosts that they run on.
    pub(crate) nodes: Nodes,
    _witness: Process,
    pub(crate) network: Network,
    pub(crate) dir: TempDir,
}

impl Hosts {
    /// Starts a pair in which host a is primary and b its back-up, which `local` only makes it by name.
    pub(crate) fn start(network: Network, name: &str, mode: &str) -> Hosts {
        let dir = tempfile::Builder::new().prefix("hotpair-").tempdir().expect("/tmp is writable");
        run(&["pki", "init", "--name", name, "--dir", text(&dir.path().join("pki"))]);
        let mut nodes = Nodes::new(name);
        for (node, side) in SIDES.into_iter().enumerate() {
            let config = configuration(name, side, mode, nodes.region(node));
            fs::write(dir.path().join(format!("{side}.toml")), config)
                .expect("it is our directory");
        }
        let listen = format!("{}:7400", address("w"));
        // Node a begins, and node b finds it in service.
        let witness = ["witness", "--listen", &listen, "--reinit", "a", "--pki", "pki"];
        let witness = [&witness[..], &["--store", "witness"]].concat();
        let mut witness = start(dir.path(), &network, "w", &witness);
        witness.first_line();

        nodes.start(2, |side| {
            let config = format!("{side}.toml");
            start(dir.path(), &network, side, &["node", "--config", &config])
        });
        let hosts = Hosts { nodes, _witness: witness, network, dir };
        wait_for("host a has the address", || hosts.network.has_service("a").then_some(()));
        assert!(!hosts.network.has_service("b"), "an address belongs to the primary alone");
        hosts
    }

    /// Ends a host as a power cut would: its cable falls silent, and everything on it is killed. Nobody is told.
    pub(crate) fn kill(&mut self, node: usize) {
        self.network.cut(SIDES[node]);
        self.nodes.kill(node);
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
