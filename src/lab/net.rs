//! Hosts and what joins them: network namespaces of this machine with cables between them, or real hosts.
//!
//! ```text
//!   client c ──┐                                ┌─ witness w
//!   others d ──┤                                ├─ others e
//!              ├─ switch l ═════ trunk ════ switch r ─┤
//!   host a ────┘ eth0                      eth0 └─── host b
//!        eth1 ══════════════ pair ═════════════ eth1      (and eth2 ══ second ══ eth2, where there are two networks)
//!                  (or x, the relay, y in its middle)
//! ```
//!
//! On the switches 10.99.0.0/24 and fd99::/64 (a .1, b .2, w .3, c .4, d .5, e .6, the service .10); on the pair's own cable
//! 10.98.0.0/24
//! (the second 10.98.1.0/24). Where a relay stands in the cable, x has b's address on a's half of it, and y has a's on b's half.
//!
//! A real host has its addresses already. Its cables are not pulled: its kernel drops what comes and goes by them, but for the lab's own
//! connection.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use super::far::Far;
use super::place::Place;
use super::plan::{ALWAYS, Plan, REMOTE};
use super::scenario::{Link, Origin, Scenario};
use crate::config::Member;
use crate::exit::Exit;
use crate::process::describe;
use crate::region_file;
use crate::report::Failure;

/// Every name of a lab begins with this and its process id.
const NAME: &str = "hplab";

const SWITCHES: [&str; 2] = ["l", "r"];
/// The two ends of the relay: what a sees, and what b sees.
const RELAY: [&str; 2] = ["x", "y"];

/// The service's address among namespaces.
pub(super) const SERVICE_IP: &str = "10.99.0.10";
pub(super) const SERVICE_IP6: &str = "fd99::10";
/// No host has this address.
pub(super) const NOBODY: &str = "10.99.0.99:7500";

/// What packet filters of a lab are called, of lost packets and of cables that are out.
const LOST: &str = "hotpair_lab_lost";

/// Real hosts, and how they are reached.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    pub(super) plan: Plan,
    pub(super) ssh: String,
}

/// The hosts of a lab; what was made or put on them is gone when it is dropped.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) plan: Plan,
    ground: Ground,
}

#[derive(Debug)]
enum Ground {
    Spaces { tag: String, spaces: Vec<&'static str> },
    Far(BTreeMap<&'static str, Rc<Far>>),
}

impl Net {
    /// Makes namespaces.
    pub(super) fn build(scenario: &Scenario) -> Result<Net, Failure> {
        sweep();
        if scenario.drops_packets() {
            run("nft", &["--version"], "nftables")?;
        }
        let plan = Plan::of_namespaces(scenario.pair.networks);
        let mut hosts = ALWAYS.to_vec();
        if scenario.pair.is_remote() {
            hosts.extend(REMOTE);
        }
        let mut spaces = hosts.clone();
        spaces.extend(SWITCHES);
        if scenario.has_relay() {
            spaces.extend(RELAY);
        }
        let tag = format!("{NAME}{}", std::process::id());
        let net = Net { plan, ground: Ground::Spaces { tag, spaces: spaces.clone() } };
        for space in spaces {
            net.ip(&format!("netns add {}", net.space(space)))?;
            net.ip(&format!("-n {} link set lo up", net.space(space)))?;
        }
        for switch in SWITCHES {
            net.on(switch, "link add name bridge type bridge")?;
            net.on(switch, "link set bridge up")?;
        }
        for host in hosts {
            let (switch, address) = (switch_of(host), net.plan.seat(host).address);
            net.cable((switch, host), (host, "eth0"))?;
            net.on(switch, &format!("link set dev {host} master bridge up"))?;
            net.on(host, &format!("address add {address}/24 dev eth0"))?;
            net.on(host, "link set eth0 up")?;
            let last = address.octets()[3];
            net.on(host, &format!("address add fd99::{last}/64 dev eth0 nodad"))?;
        }
        net.cable(("l", "trunk"), ("r", "trunk"))?;
        for switch in SWITCHES {
            net.on(switch, "link set trunk master bridge up")?;
        }
        let (a, b) = (&net.plan.node(Member::A).pair, &net.plan.node(Member::B).pair);
        for (a, b) in a.iter().zip(b) {
            let interface = a.interface.as_str();
            match scenario.has_relay() {
                false => net.cable(("a", interface), ("b", interface))?,
                true => {
                    net.cable(("a", interface), ("x", interface))?;
                    net.cable(("b", interface), ("y", interface))?;
                    net.connect("x", interface, b.address)?;
                    net.connect("y", interface, a.address)?;
                }
            }
            net.connect("a", interface, a.address)?;
            net.connect("b", interface, b.address)?;
        }
        Ok(net)
    }

    /// Connects to real hosts, to those that this scenario needs.
    pub(super) fn reach(hosts: &Hosts, scenario: &Scenario, own: &Path) -> Result<Net, Failure> {
        let mut reached = BTreeMap::new();
        for (role, seat) in hosts.plan.roles() {
            if ALWAYS.contains(&role) || scenario.pair.is_remote() {
                reached.insert(role, Far::reach(&hosts.ssh, role, &seat.ssh, own)?);
            }
        }
        let net = Net { plan: hosts.plan.clone(), ground: Ground::Far(reached) };
        for member in [Member::A, Member::B] {
            let Some(far) = net.far(member.letter()) else { continue };
            for ipv6 in [false, true] {
                let address = net.plan.service_at(member.letter(), ipv6);
                let words: Vec<&str> = address.split(' ').collect();
                far.owe(&[&["ip", "address", "del"], &words[..]].concat());
            }
            if scenario.drops_packets() || scenario.cuts_links() {
                net.exec(member.letter(), "nft", &["--version"])?;
                for table in [LOST, &cut(Link::Lan), &cut(Link::Pair), &cut(Link::Second)] {
                    far.owe(&["nft", "delete", "table", "inet", table]);
                    far.owe(&["nft", "delete", "table", "arp", table]);
                }
            }
        }
        Ok(net)
    }

    fn connect(&self, host: &str, interface: &str, own: Ipv4Addr) -> Result<(), Failure> {
        self.on(host, &format!("address add {own}/24 dev {interface}"))?;
        self.on(host, &format!("link set {interface} up"))
    }

    /// Where programs of a host run.
    pub(super) fn place(&self, host: &str, own: &Path) -> Place {
        match self.far(host) {
            Some(far) => Place::Far(Rc::clone(far)),
            None => Place::space(self.space(host), own),
        }
    }

    /// The real hosts; none of namespaces.
    pub(super) fn fars(&self) -> impl Iterator<Item = &Rc<Far>> {
        let Net { ground, .. } = self;
        let reached = match ground {
            Ground::Spaces { .. } => None,
            Ground::Far(reached) => Some(reached),
        };
        reached.into_iter().flat_map(BTreeMap::values)
    }

    fn far(&self, host: &str) -> Option<&Rc<Far>> {
        match &self.ground {
            Ground::Spaces { .. } => None,
            Ground::Far(reached) => reached.get(host),
        }
    }

    /// Whether its switches are this machine's, so that they can be listened at.
    pub(super) fn has_switches(&self) -> bool {
        matches!(self.ground, Ground::Spaces { .. })
    }

    /// Name of a host's namespace.
    pub(super) fn space(&self, host: &str) -> String {
        match &self.ground {
            Ground::Spaces { tag, .. } => format!("{tag}{host}"),
            Ground::Far(_) => host.to_owned(),
        }
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
    pub(super) fn pin_service(&self, host: &str, ipv6: bool) -> Result<(), Failure> {
        if let Some(far) = self.far(host) {
            let address = self.plan.service_at(host, ipv6);
            far.owe(
                &[&["ip", "address", "del"], &address.split(' ').collect::<Vec<_>>()[..]].concat(),
            );
        }
        self.change_service(host, "add", ipv6)
    }

    /// Takes it away again.
    pub(super) fn unpin_service(&self, host: &str, ipv6: bool) -> Result<(), Failure> {
        self.change_service(host, "del", ipv6)
    }

    fn change_service(&self, host: &str, how: &str, ipv6: bool) -> Result<(), Failure> {
        let mut arguments = format!("address {how} {}", self.plan.service_at(host, ipv6));
        if ipv6 && how == "add" {
            // Of two hosts that have it neither asks first.
            arguments.push_str(" nodad");
        }
        self.exec(host, "ip", &arguments.split(' ').collect::<Vec<_>>())
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
        let member = host.unwrap_or(Member::A);
        if let Some(far) = self.far(member.letter()) {
            return self.filter_link(far, link, member, up);
        }
        let state = if up { "up" } else { "down" };
        match (link, host) {
            (Link::Trunk, _) | (Link::Lan, None) => {
                self.on("l", &format!("link set trunk {state}"))
            }
            (link, _) => {
                let interface = self.plan.interface(member, link);
                self.on(member.letter(), &format!("link set {interface} {state}"))
            }
        }
    }

    /// All cables of a host at once.
    pub(super) fn set_power(&self, host: Member, on: bool) -> Result<(), Failure> {
        self.set_link(Link::Lan, Some(host), on)?;
        let pair = [Link::Pair, Link::Second];
        for (link, _) in pair.into_iter().zip(&self.plan.node(host).pair) {
            self.set_link(link, Some(host), on)?;
        }
        Ok(())
    }

    /// A cable of a real host that carries nothing: but for the lab's own connection, and the kernel says nothing of the service
    /// either.
    fn filter_link(&self, far: &Far, link: Link, host: Member, up: bool) -> Result<(), Failure> {
        let table = cut(link);
        let mut script = format!(
            "add table inet {table} ; delete table inet {table} ; add table arp {table} ; delete table arp {table} ; "
        );
        if !up {
            let interface = self.plan.interface(host, link);
            let service = self.plan.service_ip().unwrap_or(Ipv4Addr::UNSPECIFIED);
            for (chain, hook, name, port) in
                [("arriving", "input", "iifname", 0), ("leaving", "output", "oifname", 1)]
            {
                script.push_str(&format!(
                    "add table inet {table} ; add table arp {table} ; \
                     add chain inet {table} {chain} {{ type filter hook {hook} priority -10 ; }} ; \
                     add chain arp {table} {chain} {{ type filter hook {hook} priority -10 ; }} ; "
                ));
                if let Some((client, server)) = far.ports {
                    let (from, to) = if port == 0 { (client, server) } else { (server, client) };
                    script.push_str(&format!(
                        "add rule inet {table} {chain} tcp sport {from} tcp dport {to} accept ; "
                    ));
                }
                script.push_str(&format!(
                    "add rule inet {table} {chain} {name} {interface} drop ; \
                     add rule arp {table} {chain} arp daddr ip {service} drop ; \
                     add rule arp {table} {chain} arp saddr ip {service} drop ; "
                ));
            }
        }
        self.exec(host.letter(), "nft", &[&script])
    }

    /// Drops packets that arrive.
    pub(super) fn drop_packets(
        &self,
        host: Member,
        link: Link,
        from: Option<Origin>,
        percent: u8,
    ) -> Result<(), Failure> {
        let mut which = format!("iifname {}", self.plan.interface(host, link));
        if let Some(from) = from {
            which.push_str(&format!(" ip saddr {}", self.plan.origin(from)));
        }
        if percent < 100 {
            which.push_str(&format!(" numgen random mod 100 < {percent}"));
        }
        let nft = |rule: &str| self.exec(host.letter(), "nft", &[rule]);
        nft(&format!("add table inet {LOST}"))?;
        let chain = "type filter hook input priority 0 ;";
        nft(&format!("add chain inet {LOST} arriving {{ {chain} }}"))?;
        if let Some((client, server)) = self.far(host.letter()).and_then(|far| far.ports) {
            let own = format!("tcp sport {client} tcp dport {server}");
            nft(&format!("add rule inet {LOST} arriving {own} accept"))?;
        }
        nft(&format!("add rule inet {LOST} arriving {which} drop"))
    }

    /// Lets all packets pass again.
    pub(super) fn pass_packets(&self, host: Member) -> Result<(), Failure> {
        self.exec(host.letter(), "nft", &["delete", "table", "inet", LOST])
    }

    fn cable(&self, one: (&str, &str), other: (&str, &str)) -> Result<(), Failure> {
        let ((near, at_near), (far, at_far)) = (one, other);
        let (near, far) = (self.space(near), self.space(far));
        self.ip(&format!(
            "link add name {at_near} netns {near} type veth peer name {at_far} netns {far}"
        ))
    }

    /// Runs a program of the system on a host.
    fn exec(&self, host: &str, program: &str, arguments: &[&str]) -> Result<(), Failure> {
        let Some(far) = self.far(host) else {
            let space = self.space(host);
            let all = [&["netns", "exec", &space, program], arguments].concat();
            return run("ip", &all, "iproute2");
        };
        let argv: Vec<String> =
            std::iter::once(&program).chain(arguments).map(|&part| part.to_owned()).collect();
        let (status, said) = far.run(argv)?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("cannot change the network of {}", far.name()))
            .because(format!("{program} {}: {} {said}", arguments.join(" "), describe(status)))
            .help("it needs root, iproute2, and for cables that are out nf_tables")
            .exit(Exit::Refused))
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
        if let Ground::Spaces { spaces, .. } = &self.ground {
            for space in spaces {
                let _ = self.ip(&format!("netns delete {}", self.space(space)));
            }
        }
    }
}

/// Who stands at which switch.
fn switch_of(host: &str) -> &'static str {
    match host {
        "a" | "c" | "d" => "l",
        _ => "r",
    }
}

/// The packet filter that stands for a cable that is out.
fn cut(link: Link) -> String {
    format!("hotpair_lab_{link:?}").to_lowercase()
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
