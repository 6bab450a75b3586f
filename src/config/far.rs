//! The configuration of a host without a region: where both nodes are, and the ports that it runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hotpair_replica::tls::Credentials;
use hotpair_worker::remote::{RemoteClient, RemoteConfig, RemoteNode, RemoteSpace};
use serde::Deserialize;
use toml::Spanned;

use super::file::{Member, Pki, Port, PortKind};
use super::{Wrong, check_port};
use crate::exit::Exit;
use crate::report::Failure;

/// The file as serde reads it. `docs/hotpair-remote.toml` explains every key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pki: Pki,
    nodes: Spanned<Nodes>,
    #[serde(default)]
    port: Vec<Port>,
}

/// The gateways of each node, on however many networks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Nodes {
    a: Vec<SocketAddr>,
    b: Vec<SocketAddr>,
}

/// A configuration that has been checked.
#[derive(Clone, Debug)]
pub(crate) struct FarConfig {
    /// Where it came from.
    pub(crate) path: PathBuf,
    file: File,
}

impl FarConfig {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// Exit code 78, and the line with a caret where the file is wrong.
    pub(crate) fn load(path: &Path) -> Result<FarConfig, Failure> {
        let help = "docs/hotpair-remote.toml explains every key";
        let failed = || {
            let what = format!("cannot use configuration {}", path.display());
            Failure::new(what).exit(Exit::Config).help(help)
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed().caused_by(&error))?;
        let path = std::path::absolute(path).map_err(|error| failed().caused_by(&error))?;
        FarConfig::parse(&path, &text).map_err(|cause| failed().because(cause))
    }

    fn parse(path: &Path, text: &str) -> Result<FarConfig, String> {
        let mut file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        check(&file).map_err(|wrong| wrong.render(text))?;
        // Files that it names are found from any directory.
        let dir = path.parent().unwrap_or(Path::new("/"));
        file.pki.dir = dir.join(&file.pki.dir);
        for port in &mut file.port {
            port.found_from(dir);
        }
        Ok(FarConfig { path: path.to_owned(), file })
    }

    /// Both nodes, seen from here.
    pub(crate) fn space(&self) -> Result<RemoteSpace, Failure> {
        Ok(RemoteSpace::new(self.remote()?))
    }

    /// The same, by who is so patient.
    pub(crate) fn client(&self, patience: Duration) -> Result<RemoteClient, Failure> {
        let mut config = self.remote()?;
        config.patience = patience;
        RemoteSpace::new(config)
            .client()
            .map_err(|error| Failure::new("cannot reach the nodes").caused_by(&error))
    }

    fn remote(&self) -> Result<RemoteConfig, Failure> {
        let credentials = Credentials::from_dir(&self.file.pki.dir, "worker")
            .map_err(|error| Failure::new("cannot reach the nodes").caused_by(&error))?;
        let nodes = self.file.nodes.get_ref();
        let node = |member: Member, addresses: &[SocketAddr]| RemoteNode {
            member: member.certificate().to_owned(),
            addresses: addresses.to_vec(),
        };
        let nodes = vec![node(Member::A, &nodes.a), node(Member::B, &nodes.b)];
        Ok(RemoteConfig::new(credentials, nodes))
    }

    /// The port called `name`.
    pub(crate) fn port(&self, name: &str) -> Option<&Port> {
        self.file.port.iter().find(|port| port.name.get_ref() == name)
    }

    /// The names of its ports.
    pub(crate) fn port_names(&self) -> Vec<&str> {
        self.file.port.iter().map(|port| port.name.get_ref().as_str()).collect()
    }
}

fn check(file: &File) -> Result<(), Wrong> {
    let nodes = file.nodes.get_ref();
    if nodes.a.is_empty() || nodes.b.is_empty() {
        let why = "a host that knows one node only stops with it: `a` and `b` each need an address";
        return Err(Wrong::at(file.nodes.span(), why));
    }
    for port in &file.port {
        if port.remote {
            let why = "`remote` stands in the nodes' files: this host is where the port runs";
            return Err(Wrong::at(port.name.span(), why));
        }
        check_port(port)?;
        if port.kind != PortKind::Udp {
            let own = port.kind.name();
            let why = format!("ports of hosts without a region are of kind udp, this is {own}");
            return Err(Wrong::at(port.name.span(), why));
        }
        if let Some(command) = &port.command {
            let why = "nobody starts programs here: start it yourself, with the same file";
            return Err(Wrong::at(command.span(), why));
        }
        if let Some(fair) = &port.fair_shares {
            let why = "there are no shares here: what there is no room for waits in the socket, whoever sent it";
            return Err(Wrong::at(fair.span(), why));
        }
        if let Some(ingest) = &port.ingest {
            let why = "what a port takes in here is committed by the gateway: it is always \"replicated\"";
            return Err(Wrong::at(ingest.span(), why));
        }
        if let Some(user) = &port.user {
            let why = "nobody changes users here: start the port as the user that it is to be";
            return Err(Wrong::at(user.span(), why));
        }
        if !port.mode.span().is_empty() {
            let why =
                "when a packet may leave is for the nodes to say: `mode` stands in their files";
            return Err(Wrong::at(port.mode.span(), why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[pki]
dir = "pki"
[nodes]
a = ["192.0.2.1:7400", "198.51.100.1:7400"]
b = ["192.0.2.2:7400"]
[[port]]
name = "calls"
kind = "udp"
bind = "0.0.0.0:5060"
queue = "calls"
"#;

    #[test]
    fn the_documented_file_parses() {
        let text = include_str!("../../docs/hotpair-remote.toml");
        let config = FarConfig::parse(Path::new("/etc/far.toml"), text).expect("it is right");
        assert_eq!(config.port_names(), ["service"]);
    }

    fn refused(text: &str) -> String {
        FarConfig::parse(Path::new("/etc/far.toml"), text).expect_err("it is wrong")
    }

    #[test]
    fn a_host_without_a_region_knows_both_nodes() {
        let config = FarConfig::parse(Path::new("/etc/far.toml"), GOOD).expect("right");
        assert_eq!(config.file.pki.dir, Path::new("/etc/pki"));
        assert_eq!(config.port_names(), ["calls"]);
        assert!(config.port("calls").is_some_and(|port| port.bind.is_some()));
    }

    #[test]
    fn what_belongs_to_the_nodes_is_refused_with_its_line() {
        let one = GOOD.replace("b = [\"192.0.2.2:7400\"]\n", "");
        assert!(refused(&one).contains("knows one node only"), "{}", refused(&one));
        let with = |line: &str| refused(&format!("{GOOD}{line}\n"));
        assert!(with("mode = \"local\"").contains("mode = \"local\""));
        assert!(with("command = [\"x\"]").contains("start it yourself"));
        assert!(with("fair_shares = true").contains("waits in the socket"));
        assert!(with("ingest = \"volatile\"").contains("committed by the gateway"));
        assert!(with("user = \"nobody\"").contains("nobody changes users here"));
        let groups = format!("{GOOD}multicast = [\"239.1.2.3\"]\nreuse_port = true\ngro = true\n");
        assert!(FarConfig::parse(Path::new("/etc/far.toml"), &groups).is_ok());
        assert!(with("remote = true").contains("this host is where"));
        assert!(with("holder = \"x.sock\"").contains("either `bind`"));
    }
}
