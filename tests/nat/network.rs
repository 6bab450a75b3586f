//! Hosts as network namespaces on three switches: the NAT's two sides, and what the nodes talk over.
//!
//! ```text
//!   c 10.1.0.9 ──── inside ─┬─ in0  a  out0 ─┬─ outside ──── d 203.0.113.254
//!                           └─ in0  b  out0 ─┘
//!                  NAT 10.1.0.1             203.0.113.1
//!
//!   pair: a 10.99.0.1, b 10.99.0.2, w 10.99.0.3 (witness)
//! ```

use std::fs::File;
use std::net::Ipv4Addr;

use nix::sched::{CloneFlags, setns};

use crate::spaces::{Spaces, ip};

/// The NAT's address inside, and the length of the network there.
pub(crate) const NAT_INSIDE: &str = "10.1.0.1/24";
/// The NAT's address outside.
pub(crate) const NAT_OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The host outside, which is the NAT's gateway too.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
/// Another address of the host inside: to the NAT it is another host.
pub(crate) const OTHER_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
/// The host inside.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);

const SWITCH: &str = "s";
/// Host, switch, interface, address if it has one.
const CABLES: [(&str, &str, &str, Option<&str>); 9] = [
    ("a", "pair", "eth0", Some("10.99.0.1/24")),
    ("b", "pair", "eth0", Some("10.99.0.2/24")),
    ("w", "pair", "eth0", Some("10.99.0.3/24")),
    ("a", "inside", "in0", None),
    ("b", "inside", "in0", None),
    ("c", "inside", "eth0", Some("10.1.0.9/24")),
    ("a", "outside", "out0", None),
    ("b", "outside", "out0", None),
    ("d", "outside", "eth0", Some("203.0.113.254/24")),
];
const HOSTS: [&str; 6] = ["a", "b", "w", "c", "d", SWITCH];

/// The hosts; gone when dropped.
pub(crate) struct Network(Spaces);

impl Network {
    /// Makes the hosts and their cables; `None` if that is not possible here. In CI it has to be.
    pub(crate) fn build() -> Option<Network> {
        Spaces::build("hpnat", &HOSTS, wire).map(Network)
    }

    /// Name of a host's namespace: `ip netns exec` runs programs on the host, and becomes them.
    pub(crate) fn space(&self, host: &str) -> String {
        self.0.of(host)
    }

    /// Runs `make` on a host, on a thread of its own: sockets stay in the namespace that they were made in.
    pub(crate) fn on<T: Send>(&self, host: &str, make: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.space(host));
        std::thread::scope(|threads| {
            let made = threads.spawn(move || {
                let file = File::open(path).expect("the namespace was made");
                setns(file, CloneFlags::CLONE_NEWNET).expect("we are root");
                make()
            });
            made.join().expect("the thread ends well")
        })
    }

    /// Words before a program's, which start it on a host.
    pub(crate) fn exec(&self, host: &str) -> [String; 4] {
        ["ip", "netns", "exec", &self.space(host)].map(str::to_owned)
    }
}

fn wire(spaces: &Spaces) -> Result<(), String> {
    let switch = spaces.of(SWITCH);
    for bridge in ["pair", "inside", "outside"] {
        ip(&format!("-n {switch} link add name {bridge} type bridge"))?;
        ip(&format!("-n {switch} link set {bridge} up"))?;
    }
    for (host, bridge, interface, address) in CABLES {
        let space = spaces.of(host);
        let plug = format!("{host}{interface}");
        ip(&format!(
            "link add name {plug} netns {switch} type veth peer name {interface} netns {space}"
        ))?;
        ip(&format!("-n {switch} link set dev {plug} master {bridge} up"))?;
        if let Some(address) = address {
            ip(&format!("-n {space} address add {address} dev {interface}"))?;
        } else {
            // Frames for the NAT's own Ethernet address come in.
            ip(&format!("-n {space} link set {interface} promisc on"))?;
        }
        ip(&format!("-n {space} link set {interface} up"))?;
    }
    for host in ["c", "d"] {
        // A virtual cable carries what no real one does: segments of 64 KiB without a checksum.
        let off = "ethtool -K eth0 tx off tso off gso off gro off";
        ip(&format!("netns exec {} {off}", spaces.of(host)))
            .map_err(|why| format!("{why} (Debian: apt-get install ethtool)"))?;
    }
    ip(&format!("-n {} address add {OTHER_CLIENT}/24 dev eth0", spaces.of("c")))?;
    ip(&format!("-n {} route add default via 10.1.0.1", spaces.of("c")))?;
    Ok(())
}
