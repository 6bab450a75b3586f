//! Who has which address, and which cables join the hosts: of the namespaces that the lab makes, or of real hosts, as a file
//! (`--hosts`) says.
//!
//! ```toml
//! service = "192.0.2.10/24"           # moves between a and b; nobody has it now
//! [a]                                 # and b: the nodes
//! ssh = "root@server-1"
//! interface = "eth0"
//! address = "192.0.2.1"
//! pair = [{ interface = "eth1", address = "198.51.100.1" }]   # cables between the nodes alone
//! [w]                                 # the witness; c: the client; d and e: workers and a port without a node
//! ...
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use serde::Deserialize;

use super::scenario::{Act, Link, Origin, Scenario};
use crate::config::Member;
use crate::exit::Exit;
use crate::report::Failure;

/// Whom every scenario needs.
pub(super) const ALWAYS: [&str; 4] = ["a", "b", "w", "c"];
/// Workers and a port that share no memory with either node.
pub(super) const REMOTE: [&str; 2] = ["d", "e"];

const SERVICE_PORT: u16 = 9000;
const WITNESS_PORT: u16 = 7400;
const REPLICATION_PORT: u16 = 7410;
const GATEWAY_PORT: u16 = 7500;

/// Everybody's addresses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    /// The service's address, which moves, with the bits of its network.
    pub(super) service: String,
    /// The same for scenarios with IPv6.
    pub(super) service6: Option<String>,
    a: Seat,
    b: Seat,
    w: Seat,
    c: Seat,
    d: Option<Seat>,
    e: Option<Seat>,
}

/// A host's place in the network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seat {
    /// As for `ssh`; the namespaces of this machine have none.
    #[serde(default)]
    pub(super) ssh: String,
    /// By which clients, the witness and everybody else reach it.
    pub(super) interface: String,
    pub(super) address: Ipv4Addr,
    /// Cables between the nodes alone, in the same order on both.
    #[serde(default)]
    pub(super) pair: Vec<Cable>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cable {
    pub(super) interface: String,
    pub(super) address: Ipv4Addr,
}

impl Plan {
    /// Of real hosts.
    pub(super) fn load(path: &Path) -> Result<Plan, Failure> {
        let failed =
            || Failure::new(format!("cannot use hosts {}", path.display())).exit(Exit::Config);
        let text = std::fs::read_to_string(path).map_err(|error| failed().caused_by(&error))?;
        let plan: Plan =
            toml::from_str(&text).map_err(|error| failed().because(error.to_string()))?;
        match plan.mistake() {
            Some(why) => Err(failed().because(why)),
            None => Ok(plan),
        }
    }

    fn mistake(&self) -> Option<String> {
        let wrong = |text: &str, of: &str| format!("`{text}` is not an {of} address and its bits");
        let v6 = self.service6.as_deref();
        if split::<Ipv4Addr>(&self.service).is_none() {
            return Some(wrong(&self.service, "IPv4"));
        }
        if let Some(text) = v6.filter(|text| split::<Ipv6Addr>(text).is_none()) {
            return Some(wrong(text, "IPv6"));
        }
        if self.a.pair.len() != self.b.pair.len() {
            let (a, b) = (self.a.pair.len(), self.b.pair.len());
            return Some(format!("a has {a} cables to b, and b has {b} to a"));
        }
        let silent = self.roles().into_iter().find(|(_, seat)| seat.ssh.is_empty());
        silent.map(|(role, _)| format!("`[{role}]` needs `ssh`"))
    }

    /// The namespaces': on the switches 10.99.0.0/24 and fd99::/64, on the pair's cables 10.98.N.0/24.
    pub(super) fn of_namespaces(cables: u8) -> Plan {
        let seat = |last: u8, cables: u8| Seat {
            ssh: String::new(),
            interface: "eth0".to_owned(),
            address: Ipv4Addr::new(10, 99, 0, last),
            pair: (0..cables)
                .map(|number| Cable {
                    interface: format!("eth{}", number + 1),
                    address: Ipv4Addr::new(10, 98, number, last),
                })
                .collect(),
        };
        Plan {
            service: format!("{}/24", super::net::SERVICE_IP),
            service6: Some(format!("{}/64", super::net::SERVICE_IP6)),
            a: seat(1, cables),
            b: seat(2, cables),
            w: seat(3, 0),
            c: seat(4, 0),
            d: Some(seat(5, 0)),
            e: Some(seat(6, 0)),
        }
    }

    /// All that it names.
    pub(super) fn roles(&self) -> Vec<(&'static str, &Seat)> {
        let all = [ALWAYS.as_slice(), REMOTE.as_slice()].concat();
        all.into_iter().filter_map(|role| Some((role, self.find(role)?))).collect()
    }

    fn find(&self, role: &str) -> Option<&Seat> {
        match role {
            "a" => Some(&self.a),
            "b" => Some(&self.b),
            "w" => Some(&self.w),
            "c" => Some(&self.c),
            "d" => self.d.as_ref(),
            _ => self.e.as_ref(),
        }
    }

    pub(super) fn node(&self, member: Member) -> &Seat {
        match member {
            Member::A => &self.a,
            Member::B => &self.b,
        }
    }

    /// The host that has this role; the witness's where nobody has.
    pub(super) fn seat(&self, role: &str) -> &Seat {
        self.find(role).unwrap_or(&self.w)
    }

    pub(super) fn service_ip(&self) -> Option<Ipv4Addr> {
        split(&self.service).map(|(ip, _)| ip)
    }

    /// As clients ask it.
    pub(super) fn service(&self, ipv6: bool) -> String {
        match self.service6.as_deref().filter(|_| ipv6).and_then(split::<Ipv6Addr>) {
            Some((ip, _)) => SocketAddr::from((ip, SERVICE_PORT)).to_string(),
            None => at(self.service_ip().unwrap_or(Ipv4Addr::UNSPECIFIED), SERVICE_PORT),
        }
    }

    /// As it stands in a node's configuration: on the interface of the host with this role.
    pub(super) fn service_at(&self, role: &str, ipv6: bool) -> String {
        let address = self.service6.as_deref().filter(|_| ipv6).unwrap_or(&self.service);
        format!("{address} dev {}", self.seat(role).interface)
    }

    /// Where its port stands on a host of its own.
    pub(super) fn remote_service(&self) -> String {
        at(self.seat("d").address, SERVICE_PORT)
    }

    pub(super) fn witness(&self) -> String {
        at(self.w.address, WITNESS_PORT)
    }

    /// Where a node's gateway listens.
    pub(super) fn gateway(&self, member: Member) -> String {
        at(self.node(member).address, GATEWAY_PORT)
    }

    /// Where a node listens for its peer on a network between them; without cables of their own it is everybody's.
    pub(super) fn replication(&self, member: Member, network: usize) -> String {
        let seat = self.node(member);
        at(seat.pair.get(network).map_or(seat.address, |cable| cable.address), REPLICATION_PORT)
    }

    /// A host's plug for a link.
    pub(super) fn interface(&self, member: Member, link: Link) -> &str {
        let seat = self.node(member);
        let cable = match link {
            Link::Pair => seat.pair.first(),
            Link::Second => seat.pair.get(1),
            Link::Lan | Link::Trunk => None,
        };
        cable.map_or(&seat.interface, |cable| &cable.interface)
    }

    pub(super) fn origin(&self, from: Origin) -> Ipv4Addr {
        self.seat(match from {
            Origin::Witness => "w",
            Origin::Client => "c",
            Origin::Workers => "d",
        })
        .address
    }

    /// Why a scenario cannot be run on these hosts; nothing if it can.
    pub(super) fn objection(&self, scenario: &Scenario) -> Option<String> {
        let step = |fits: &dyn Fn(&super::scenario::Step) -> bool| scenario.step.iter().any(fits);
        let links = step(&|step| matches!(step.link, Some(Link::Pair | Link::Second)));
        let networks = usize::from(scenario.pair.networks);
        let why = if step(&|step| step.act == Act::Disturb) {
            "a relay in the cable between the nodes (`disturb`) is of namespaces only"
        } else if step(&|step| step.link == Some(Link::Trunk))
            || step(&|step| step.link == Some(Link::Lan) && step.host.is_none())
        {
            "nobody cuts the cable between their switches (`trunk`)"
        } else if step(&|step| step.act == Act::StaleArp) {
            "the neighbours that the client's kernel knows are left alone (`stale-arp`)"
        } else if scenario.pair.known.is_some() {
            "no address is known to be nobody's (`known`)"
        } else if scenario.pair.is_remote() && (self.d.is_none() || self.e.is_none()) {
            "workers or a port have hosts of their own, and `[d]` or `[e]` is missing"
        } else if scenario.pair.ipv6 && self.service6.is_none() {
            "the service has an IPv6 address there, and `service6` is missing"
        } else if (links && self.a.pair.is_empty())
            || (networks > 1 && self.a.pair.len() < networks)
        {
            "`pair` names too few cables between a and b"
        } else {
            return None;
        };
        Some(why.to_owned())
    }
}

fn at(ip: Ipv4Addr, port: u16) -> String {
    SocketAddr::from((ip, port)).to_string()
}

/// An address and the bits of its network.
fn split<A: std::str::FromStr>(text: &str) -> Option<(A, u8)> {
    let (ip, bits) = text.split_once('/')?;
    Some((ip.parse().ok()?, bits.parse().ok().filter(|bits| (1..=128).contains(bits))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = r#"
        service = "192.0.2.10/24"
        [a]
        ssh = "root@one"
        interface = "eth0"
        address = "192.0.2.1"
        pair = [{ interface = "eth1", address = "198.51.100.1" }]
        [b]
        ssh = "root@two"
        interface = "ens3"
        address = "192.0.2.2"
        pair = [{ interface = "ens4", address = "198.51.100.2" }]
        [w]
        ssh = "root@three"
        interface = "eth0"
        address = "192.0.2.3"
        [c]
        ssh = "root@four"
        interface = "eth0"
        address = "192.0.2.4"
    "#;

    fn scenario(more: &str) -> Scenario {
        let load = "goal = \"none\"\nload = { rate = 10, seconds = 1 }\n";
        toml::from_str(&format!("{load}{more}")).expect("a scenario of these tests")
    }

    #[test]
    fn hosts_of_a_file_are_where_it_says() {
        let plan: Plan = toml::from_str(HOSTS).expect("hosts");
        assert_eq!(plan.mistake(), None);
        assert_eq!(plan.service_at("b", false), "192.0.2.10/24 dev ens3");
        assert_eq!(plan.service(false), "192.0.2.10:9000");
        assert_eq!(plan.replication(Member::A, 0), "198.51.100.1:7410");
        assert_eq!(plan.interface(Member::B, Link::Pair), "ens4");
        assert_eq!(plan.interface(Member::B, Link::Lan), "ens3");
        assert_eq!(plan.witness(), "192.0.2.3:7400");
    }

    #[test]
    fn mistakes_in_a_file_are_named() {
        #[rustfmt::skip]
        let cases = [
            ("192.0.2.10/24", "192.0.2.10",          "not an IPv4 address"),
            ("ssh = \"root@three\"", "ssh = \"\"",   "`[w]` needs `ssh`"),
            ("pair = [{ interface = \"ens4\", address = \"198.51.100.2\" }]", "", "a has 1 cables to b, and b has 0"),
        ];
        for (from, to, why) in cases {
            let plan: Plan = toml::from_str(&HOSTS.replace(from, to)).expect("hosts");
            let mistake = plan.mistake().unwrap_or_default();
            assert!(mistake.contains(why), "{why}: {mistake}");
        }
    }

    /// Goal: what only namespaces can do is refused before anything starts.
    #[test]
    fn scenarios_that_need_namespaces_are_refused() {
        let plan: Plan = toml::from_str(HOSTS).expect("hosts");
        let step = |step: &str| format!("[[step]]\nat = \"1s\"\n{step}");
        #[rustfmt::skip]
        let cases = [
            (step("do = \"kill-node\"\nhost = \"a\""),                        None),
            (step("do = \"power-off\"\nhost = \"a\""),                        None),
            (step("do = \"cut\"\nlink = \"pair\""),                           None),
            (step("do = \"cut\"\nlink = \"second\""),                         None),
            (step("do = \"cut\"\nlink = \"trunk\""),                          Some("trunk")),
            (step("do = \"disturb\"\ndisturb = { twice = 1 }"),               Some("relay")),
            (step("do = \"stale-arp\""),                                      Some("stale-arp")),
            ("pair = { networks = 2 }".to_owned(),                            Some("too few cables")),
            ("pair = { ipv6 = true }".to_owned(),                             Some("service6")),
            ("pair = { remote_workers = 1 }".to_owned(),                      Some("[d]")),
        ];
        for (text, why) in cases {
            let found = plan.objection(&scenario(&text));
            let as_expected = match (why, &found) {
                (None, None) => true,
                (Some(why), Some(found)) => found.contains(why),
                _ => false,
            };
            assert!(as_expected, "{text}: {found:?}");
        }
        let mut without = plan;
        (without.a.pair, without.b.pair) = (Vec::new(), Vec::new());
        let cut = scenario(&step("do = \"cut\"\nlink = \"pair\""));
        assert!(without.objection(&cut).is_some_and(|why| why.contains("too few cables")));
    }
}
