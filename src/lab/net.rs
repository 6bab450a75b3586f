//! Hosts as network namespaces, with cables between them.
//!
//! ```text
//!   client c ──┐                                ┌─ witness w
//!   others d ──┤                                ├─ others e
//!              ├─ switch l ═════ trunk ════ switch r ─┤
//!   host a ────┘ eth0                      eth0 └─── host b
//!        eth1 ══════════════ pair ═════════════ eth1
//!                  (or x, the relay, y in its middle)
//! ```
//!
//! On the switches 10.99.0.0/24 and fd99::/64 (a .1, b .2, w .3, c .4, d .5, e .6, the service .10); on the pair's own cable
//! 10.98.0.0/24. Where a relay stands in the cable, x has b's address on a's half of it, and y has a's on b's half.

use std::path::Path;
use std::process::Command;

use super::scenario::{Link, Origin, Scenario};
use crate::config::Member;
use crate::exit::Exit;
use crate::region_file;
use crate::report::Failure;

/// Every name of a lab begins with this and its process id.
const NAME: &str = "hplab";

/// Who stands at which switch, and the last part of the address there.
const ALWAYS: [(&str, &str, u8); 4] = [("a", "l", 1), ("b", "r", 2), ("w", "r", 3), ("c", "l", 4)];
/// Workers and a port that share no memory with either node.
const REMOTE: [(&str, &str, u8); 2] = [("d", "l", 5), ("e", "r", 6)];
const SWITCHES: [&str; 2] = ["l", "r"];
/// The two ends of the relay: what a sees, and what b sees.
const RELAY: [&str; 2] = ["x", "y"];

/// Cables between the nodes alone: their interface on both, and the first three parts of the addresses (a .1, b .2).
const PAIR_CABLES: [(&str, &str); 1] = [("eth1", "10.98.0")];

/// The service's address, and its port's.
pub(super) const SERVICE_IP: &str = "10.99.0.10";
pub(super) const SERVICE: &str = "10.99.0.10:9000";
pub(super) const SERVICE_IP6: &str = "fd99::10";
pub(super) const SERVICE6: &str = "[fd99::10]:9000";
pub(super) const WITNESS: &str = "10.99.0.3:7400";
/// The service's, where its port stands on a host of its own.
pub(super) const REMOTE_SERVICE: &str = "10.99.0.5:9000";
/// No host has this address.
pub(super) const NOBODY: &str = "10.99.0.99:7500";
/// Where a node's gateway listens.
pub(super) const GATEWAYS: [&str; 2] = ["10.99.0.1:7500", "10.99.0.2:7500"];

/// The namespaces; gone when dropped.
#[derive(Debug)]
pub(super) struct Net {
    tag: String,
    spaces: Vec<&'static str>,
}

impl Net {
    pub(super) fn build(scenario: &Scenario) -> Result<Net, Failure> {
        sweep();
        if scenario.drops_packets() {
            run("nft", &["--version"], "nftables")?;
        }
        let mut hosts = ALWAYS.to_vec();
        if scenario.pair.is_remote() {
            hosts.extend(REMOTE);
        }
        let mut spaces: Vec<&str> = hosts.iter().map(|(host, _, _)| *host).collect();
        spaces.extend(SWITCHES);
        if scenario.has_relay() {
            spaces.extend(RELAY);
        }
        let net = Net { tag: format!("{NAME}{}", std::process::id()), spaces };
        for space in &net.spaces {
            net.ip(&format!("netns add {}", net.space(space)))?;
            net.ip(&format!("-n {} link set lo up", net.space(space)))?;
        }
        for switch in SWITCHES {
            net.on(switch, "link add name bridge type bridge")?;
            net.on(switch, "link set bridge up")?;
        }
        for (host, switch, address) in hosts {
            net.cable((switch, host), (host, "eth0"))?;
            net.on(switch, &format!("link set dev {host} master bridge up"))?;
            net.on(host, &format!("address add 10.99.0.{address}/24 dev eth0"))?;
            net.on(host, "link set eth0 up")?;
            net.on(host, &format!("address add fd99::{address}/64 dev eth0 nodad"))?;
        }
        net.cable(("l", "trunk"), ("r", "trunk"))?;
        for switch in SWITCHES {
            net.on(switch, "link set trunk master bridge up")?;
        }
        for (interface, prefix) in PAIR_CABLES {
            match scenario.has_relay() {
                false => net.cable(("a", interface), ("b", interface))?,
                true => {
                    net.cable(("a", interface), ("x", interface))?;
                    net.cable(("b", interface), ("y", interface))?;
                    net.connect("x", interface, prefix, 2)?;
                    net.connect("y", interface, prefix, 1)?;
                }
            }
            net.connect("a", interface, prefix, 1)?;
            net.connect("b", interface, prefix, 2)?;
        }
        Ok(net)
    }

    fn connect(&self, host: &str, interface: &str, prefix: &str, own: u8) -> Result<(), Failure> {
        self.on(host, &format!("address add {prefix}.{own}/24 dev {interface}"))?;
        self.on(host, &format!("link set {interface} up"))
    }

    /// Name of a host's namespace.
    pub(super) fn space(&self, host: &str) -> String {
        format!("{}{host}", self.tag)
    }

    /// Where to open what is to live in a host's namespace.
    pub(super) fn space_file(&self, host: &str) -> String {
        format!("/run/netns/{}", self.space(host))
    }

    /// The switch that a node's host hangs on, with the name of the plug there.
    pub(super) fn plug_of(member: Member) -> (&'static str, &'static str) {
        match member {
            Member::A => ("l", "a"),
            Member::B => ("r", "b"),
        }
    }

    /// Puts the address of the service on a host for good: the control without take-over, and a third host that has it too.
    pub(super) fn pin_service(&self, host: &str) -> Result<(), Failure> {
        self.on(host, &format!("address add {SERVICE_IP}/24 dev eth0"))
    }

    /// Takes it away again.
    pub(super) fn unpin_service(&self, host: &str) -> Result<(), Failure> {
        self.on(host, &format!("address del {SERVICE_IP}/24 dev eth0"))
    }

    /// The client takes the service for where this node's host is, and is sure of it for a few seconds, as it may be after an
    /// announcement that was lost.
    pub(super) fn mislead_client(&self, host: Member) -> Result<(), Failure> {
        let space = self.space(host.letter());
        let output = Command::new("ip")
            .args(["netns", "exec", &space, "cat", "/sys/class/net/eth0/address"])
            .output()
            .map_err(|error| Failure::new("cannot mislead the client").caused_by(&error))?;
        let hardware = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let entry = format!("neigh replace {SERVICE_IP} lladdr {hardware} nud reachable dev eth0");
        self.on("c", &entry)
    }

    /// Takes a cable out, or puts it in.
    pub(super) fn set_link(
        &self,
        link: Link,
        host: Option<Member>,
        up: bool,
    ) -> Result<(), Failure> {
        let state = if up { "up" } else { "down" };
        match (link, host) {
            (Link::Trunk, _) | (Link::Lan, None) => {
                self.on("l", &format!("link set trunk {state}"))
            }
            (link, host) => {
                let host = host.unwrap_or(Member::A);
                self.on(host.letter(), &format!("link set {} {state}", interface(link)))
            }
        }
    }

    /// Drops packets that arrive.
    pub(super) fn drop_packets(
        &self,
        host: Member,
        link: Link,
        from: Option<Origin>,
        percent: u8,
    ) -> Result<(), Failure> {
        let mut which = format!("iifname {}", interface(link));
        match from {
            None => {}
            Some(Origin::Witness) => which.push_str(" ip saddr 10.99.0.3"),
            Some(Origin::Client) => which.push_str(" ip saddr 10.99.0.4"),
            Some(Origin::Workers) => which.push_str(" ip saddr 10.99.0.5"),
        }
        if percent < 100 {
            which.push_str(&format!(" numgen random mod 100 < {percent}"));
        }
        self.nft(host, "add table inet lab")?;
        self.nft(host, "add chain inet lab arriving { type filter hook input priority 0 ; }")?;
        self.nft(host, &format!("add rule inet lab arriving {which} drop"))
    }

    /// Lets all packets pass again.
    pub(super) fn pass_packets(&self, host: Member) -> Result<(), Failure> {
        self.nft(host, "delete table inet lab")
    }

    fn nft(&self, host: Member, arguments: &str) -> Result<(), Failure> {
        let space = self.space(host.letter());
        let mut all = vec!["netns", "exec", &space, "nft"];
        all.extend(arguments.split(' '));
        run("ip", &all, "iproute2")
    }

    fn cable(&self, one: (&str, &str), other: (&str, &str)) -> Result<(), Failure> {
        let ((near, at_near), (far, at_far)) = (one, other);
        let (near, far) = (self.space(near), self.space(far));
        self.ip(&format!(
            "link add name {at_near} netns {near} type veth peer name {at_far} netns {far}"
        ))
    }

    fn on(&self, host: &str, arguments: &str) -> Result<(), Failure> {
        self.ip(&format!("-n {} {arguments}", self.space(host)))
    }

    #[expect(clippy::unused_self, reason = "nobody changes the network without having one")]
    fn ip(&self, arguments: &str) -> Result<(), Failure> {
        run("ip", &arguments.split(' ').collect::<Vec<_>>(), "iproute2")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for space in &self.spaces {
            let _ = self.ip(&format!("netns delete {}", self.space(space)));
        }
    }
}

/// A host's plug for a link.
fn interface(link: Link) -> &'static str {
    match link {
        Link::Pair => PAIR_CABLES[0].0,
        Link::Lan | Link::Trunk => "eth0",
    }
}

fn run(program: &str, arguments: &[&str], package: &str) -> Result<(), Failure> {
    let failed = || Failure::new("cannot make the lab's network").exit(Exit::Refused);
    let output = Command::new(program).args(arguments).output().map_err(|error| {
        failed()
            .because(format!("cannot run {program}: {error}"))
            .help(format!("Debian: apt-get install {package}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed()
        .because(format!("{program} {}: {}", arguments.join(" "), said.trim()))
        .help("it needs root, network namespaces, and for lost packets nf_tables"))
}

/// Removes the namespaces of labs that were killed without a chance to do it themselves.
fn sweep() {
    for entry in std::fs::read_dir(Path::new("/run/netns")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let pid = name.strip_prefix(NAME).map(|rest| rest.trim_end_matches(char::is_alphabetic));
        let Some(pid) = pid.and_then(|pid| pid.parse().ok()) else { continue };
        if !region_file::is_alive(pid) {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}
