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
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::afterwards::Afterwards;

const HOSTS: [&str; 4] = ["a", "b", "w", "c"];
const SWITCH: &str = "s";

/// Where the service is, on whichever host.
pub(crate) const SERVICE: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 0, 10)), 5060);

/// The namespaces; gone when dropped.
pub(crate) struct Network {
    tag: String,
    _afterwards: Afterwards,
}

impl Network {
    /// Makes the hosts and their cables; `None` if that is not possible here. In CI it has to be.
    pub(crate) fn build() -> Option<Network> {
        match Network::try_build() {
            Ok(network) => Some(network),
            Err(why) => {
                let advice = format!("hosts need root and network namespaces: {why}");
                assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
                eprintln!("skipped, because {advice}");
                None
            }
        }
    }

    fn try_build() -> Result<Network, String> {
        // Tests of one process run beside each other.
        static BUILT: AtomicU32 = AtomicU32::new(0);
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("hpsip{}n{number}", std::process::id());
        let delete = |host: &&str| format!("ip netns delete {tag}{host}; ");
        let afterwards =
            Afterwards::run(&HOSTS.iter().chain([&SWITCH]).map(delete).collect::<String>());
        let network = Network { tag, _afterwards: afterwards };
        let switch = network.space(SWITCH);
        ip(&format!("netns add {switch}"))?;
        ip(&format!("-n {switch} link add name bridge type bridge"))?;
        ip(&format!("-n {switch} link set bridge up"))?;
        for host in HOSTS {
            let (space, own) = (network.space(host), address(host));
            ip(&format!("netns add {space}"))?;
            ip(&format!(
                "link add name {host} netns {switch} type veth peer name eth0 netns {space}"
            ))?;
            ip(&format!("-n {switch} link set dev {host} master bridge up"))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} address add {own}/24 dev eth0"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
        }
        Ok(network)
    }

    /// Name of a host's namespace: `ip netns exec` runs programs on the host, and becomes them.
    pub(crate) fn space(&self, host: &str) -> String {
        format!("{}{host}", self.tag)
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

fn ip(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("cannot run `ip`: {error} (Debian: apt-get install iproute2)"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
