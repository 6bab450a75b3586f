//! Hosts as network namespaces on one switch.
//!
//! ```text
//!   a 10.99.0.1 ──┐            ┌── w 10.99.0.3  witness
//!                 ├─ switch s ─┤
//!   b 10.99.0.2 ──┘            └── c 10.99.0.4  sipp
//!
//!   10.99.0.10, the service: on a or on b
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::spaces::{Spaces, ip};

const HOSTS: [&str; 4] = ["a", "b", "w", "c"];
const SWITCH: &str = "s";

/// Where the service is, on whichever host.
pub(crate) const SERVICE: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 0, 10)), 5060);

/// The hosts; gone when dropped.
pub(crate) struct Network(Spaces);

impl Network {
    /// Makes the hosts and their cables; `None` if that is not possible here. In CI it has to be.
    pub(crate) fn build() -> Option<Network> {
        Spaces::build("hpsip", &[&HOSTS[..], &[SWITCH]].concat(), wire).map(Network)
    }

    /// Name of a host's namespace: `ip netns exec` runs programs on the host, and becomes them.
    pub(crate) fn space(&self, host: &str) -> String {
        self.0.of(host)
    }

    /// Pulls a host's cable out of the switch.
    pub(crate) fn cut(&self, host: &str) {
        let switch = self.space(SWITCH);
        ip(&format!("-n {switch} link set dev {host} down")).expect("the cable can be cut");
    }

    /// Whether a host has the address of the service.
    pub(crate) fn has_service(&self, host: &str) -> bool {
        let wanted = format!("-n {} address show to {}", self.space(host), SERVICE.ip());
        !ip(&wanted).expect("the host is there").is_empty()
    }
}

/// A host's own address.
pub(crate) fn address(host: &str) -> IpAddr {
    let last = HOSTS.iter().position(|known| *known == host).expect("one of the hosts") + 1;
    Ipv4Addr::new(10, 99, 0, u8::try_from(last).expect("there are four")).into()
}

fn wire(spaces: &Spaces) -> Result<(), String> {
    let switch = spaces.of(SWITCH);
    ip(&format!("-n {switch} link add name bridge type bridge"))?;
    ip(&format!("-n {switch} link set bridge up"))?;
    for host in HOSTS {
        let (space, own) = (spaces.of(host), address(host));
        ip(&format!("link add name {host} netns {switch} type veth peer name eth0 netns {space}"))?;
        ip(&format!("-n {switch} link set dev {host} master bridge up"))?;
        ip(&format!("-n {space} address add {own}/24 dev eth0"))?;
        ip(&format!("-n {space} link set eth0 up"))?;
    }
    Ok(())
}
