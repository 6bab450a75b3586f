//! A pair on this host, started by hand: certificates, witness, the socket that both nodes share, two nodes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::nodes::{Nodes, SIDES, address_in, free_address, run, text};
use crate::processes::{Process, hotpair};

/// Two nodes and what they need. Dropping it ends all of it and leaves nothing behind.
pub(crate) struct Pair {
    // Fields are dropped in this order: the nodes before what they use.
    pub(crate) nodes: Nodes,
    _holder: Process,
    _witness: Process,
    /// Where the service is.
    pub(crate) service: SocketAddr,
    pub(crate) dir: TempDir,
}

impl Pair {
    /// Starts a pair in which node 0 is primary and node 1 its back-up, which `local` only makes it by name: it is promoted,
    /// with nothing of the service. `held` is the socket that both share; `service` writes the rest of a configuration, from
    /// inside of its `[region]` on, for a holder at that path.
    pub(crate) fn start(
        name: &str,
        mode: &str,
        held: &str,
        service: impl Fn(&str) -> String,
    ) -> Pair {
        let dir = tempfile::Builder::new().prefix("hotpair-").tempdir().expect("/tmp is writable");
        let at = dir.path();
        run(&["pki", "init", "--name", name, "--dir", text(&at.join("pki"))]);
        // Node a begins, and node b finds it in service.
        let witness = ["witness", "--listen", "127.0.0.1:0", "--reinit", "a", "--pki", "pki"];
        let witness = [&witness[..], &["--store", "witness"]].concat();
        let mut witness = start(at, "witness", &witness);
        let witness_at = address_in(&witness.first_line());
        let socket = at.join("service.sock");
        let socket = text(&socket);
        let mut holder = start(at, "holder", &["hold", "--at", socket, held]);
        let service_at = address_in(&holder.first_line());

        let mut nodes = Nodes::new(name);
        let listen = [free_address(), free_address()];
        for (node, side) in SIDES.into_iter().enumerate() {
            let (own, peer, region) = (listen[node], listen[1 - node], nodes.region(node));
            let config = format!(
                "[pair]\nname = \"{name}\"\nnode = \"{side}\"\n\
                 [pki]\ndir = \"pki\"\n\
                 [witness]\naddress = \"{witness_at}\"\n\
                 [replication]\nlisten = \"{own}\"\npeer = \"{peer}\"\nmode = \"{mode}\"\n\
                 [region]\nname = \"{region}\"\n{}",
                service(socket)
            );
            fs::write(at.join(format!("{side}.toml")), config).expect("it is our directory");
        }
        nodes.start(2, |side| {
            let config = format!("{side}.toml");
            start(at, &format!("node-{side}"), &["node", "--config", &config])
        });
        Pair { nodes, _holder: holder, _witness: witness, service: service_at, dir }
    }
}

fn start(dir: &Path, name: &str, arguments: &[&str]) -> Process {
    Process::start(dir, name, [text(hotpair())].iter().chain(arguments))
}
