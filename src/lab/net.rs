//! Hosts as network namespaces, with cables between them.
//!
//! ```text
//!   client c ─┐                                ┌─ witness w
//!             ├─ switch l ═════ trunk ════ switch r ─┤
//!   host a ───┘ eth0                      eth0 └─── host b
//!        eth1 ══════════════ pair ═════════════ eth1
//! ```
//!
//! On the switches 10.99.0.0/24 and fd99::/64 (a .1, b .2, w .3, c .4, the service .10); on the pair's own cable 10.98.0.0/24.

use std::path::Path;
use std::process::Command;

use super::scenario::Link;
use crate::config::Member;
use crate::exit::Exit;
use crate::region_file;
use crate::report::Failure;

/// Every name of a lab begins with this and its process id.
const NAME: &str = "hplab";
const SPACES: [&str; 6] = ["l", "r", "a", "b", "w", "c"];

/// The service's address, and its port's.
pub(super) const SERVICE_IP: &str = "10.99.0.10";
pub(super) const SERVICE: &str = "10.99.0.10:9000";
pub(super) const SERVICE_IP6: &str = "fd99::10";
pub(super) const SERVICE6: &str = "[fd99::10]:9000";
pub(super) const WITNESS: &str = "10.99.0.3:7400";

/// The namespaces; gone when dropped.
#[derive(Debug)]
pub(super) struct Net {
    tag: String,
}

impl Net {
    pub(super) fn build(filters: bool) -> Result<Net, Failure> {
        sweep();
        if filters {
            run("nft", &["--version"], "nftables")?;
        }
        let net = Net { tag: format!("{NAME}{}", std::process::id()) };
        for space in SPACES {
            net.ip(&format!("netns add {}", net.space(space)))?;
            net.ip(&format!("-n {} link set lo up", net.space(space)))?;
        }
        for switch in ["l", "r"] {
            net.on(switch, "link add name bridge type bridge")?;
            net.on(switch, "link set bridge up")?;
        }
        for (host, switch, address) in [("a", "l", 1), ("b", "r", 2), ("w", "r", 3), ("c", "l", 4)]
        {
            net.cable((switch, host), (host, "eth0"))?;
            net.on(switch, &format!("link set dev {host} master bridge up"))?;
            net.on(host, &format!("address add 10.99.0.{address}/24 dev eth0"))?;
            net.on(host, "link set eth0 up")?;
            net.on(host, &format!("address add fd99::{address}/64 dev eth0 nodad"))?;
        }
        net.cable(("l", "trunk"), ("r", "trunk"))?;
        for switch in ["l", "r"] {
            net.on(switch, "link set trunk master bridge up")?;
        }
        net.cable(("a", "eth1"), ("b", "eth1"))?;
        for (host, address) in [("a", 1), ("b", 2)] {
            net.on(host, &format!("address add 10.98.0.{address}/24 dev eth1"))?;
            net.on(host, "link set eth1 up")?;
        }
        Ok(net)
    }

    /// Name of a host's namespace.
    pub(super) fn space(&self, host: &str) -> String {
        format!("{}{host}", self.tag)
    }

    /// Puts the address of the service on a host for good: the control without take-over.
    pub(super) fn pin_service(&self, host: &str) -> Result<(), Failure> {
        self.on(host, &format!("address add {SERVICE_IP}/24 dev eth0"))
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
            (Link::Pair, host) => {
                let host = host.unwrap_or(Member::A);
                self.on(host.letter(), &format!("link set eth1 {state}"))
            }
            (Link::Lan, Some(host)) => self.on(host.letter(), &format!("link set eth0 {state}")),
        }
    }

    /// Drops packets that arrive.
    pub(super) fn drop_packets(
        &self,
        host: Member,
        link: Link,
        percent: u8,
    ) -> Result<(), Failure> {
        let interface = if link == Link::Pair { "eth1" } else { "eth0" };
        let some = match percent {
            100 => String::new(),
            _ => format!("numgen random mod 100 < {percent} "),
        };
        self.nft(host, "add table inet lab")?;
        self.nft(host, "add chain inet lab arriving { type filter hook input priority 0 ; }")?;
        self.nft(host, &format!("add rule inet lab arriving iifname {interface} {some}drop"))
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
        for space in SPACES {
            let _ = self.ip(&format!("netns delete {}", self.space(space)));
        }
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
