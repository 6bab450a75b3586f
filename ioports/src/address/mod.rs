//! Service addresses: they belong to whichever host is primary, and move with the role.
//!
//! ```text
//!   become primary:  role word, workers awake ─► address added ─► announced at 0, 1, 10, 100, 1000 ms
//!                                                    │                        and every 30 s
//!                                                    └─► kernel tells the ports: read and send
//!   stop being it:   address removed ─► role word
//! ```
//!
//! The [`AddressKeeper`] is a thread that adds and removes; nobody waits for it. An address that it added dies by
//! itself after [`LIFETIME`] unless it is refreshed: a host whose processes are gone or stand still gives it up, though
//! nobody is left to remove it. [`remove`] is for the supervisor, who need not wait for that.
//!
//! The kernel does the talking (`rtnetlink`); the announcements are frames of our own.

mod frames;
mod keeper;
mod netlink;
mod packet;
mod presence;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

pub use frames::HardwareAddress;
pub use keeper::{AddressKeeper, AddressNews};
pub(crate) use presence::Presence;

use netlink::Netlink;

/// How long the kernel keeps an address that nobody refreshes. Whole seconds is what it counts in.
pub const LIFETIME: Duration = Duration::from_secs(10);

/// An address that moves with the role. Written as for `ip address`: `192.0.2.10/24 dev eth0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAddress {
    /// The address.
    pub ip: IpAddr,
    /// Bits of it that name the network.
    pub prefix: u8,
    /// The interface that it is added to.
    pub interface: String,
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} dev {}", self.ip, self.prefix, self.interface)
    }
}

/// A text that is no service address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not ADDRESS/PREFIX dev INTERFACE, such as `192.0.2.10/24 dev eth0`")]
pub struct ParseAddressError {
    /// What was given.
    pub text: String,
}

impl FromStr for ServiceAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (network, interface) = text.split_once(" dev ")?;
            let (ip, prefix) = network.trim().split_once('/')?;
            let (ip, prefix): (IpAddr, u8) = (ip.parse().ok()?, prefix.parse().ok()?);
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            let interface = interface.trim();
            // Longer names do not exist: IFNAMSIZ is 16 with the final zero.
            let named =
                (1..16).contains(&interface.len()) && !interface.contains(char::is_whitespace);
            let usable = !ip.is_unspecified() && !ip.is_multicast();
            let fits = (1..=bits).contains(&prefix);
            (named && usable && fits).then(|| ServiceAddress {
                ip,
                prefix,
                interface: interface.to_owned(),
            })
        };
        parse().ok_or_else(|| ParseAddressError { text: text.to_owned() })
    }
}

/// Why service addresses cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no such interface here.
    #[error("there is no interface `{interface}` for {ip}")]
    Interface {
        /// Its name.
        interface: String,
        /// What was to be added to it.
        ip: IpAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {action} {address}")]
    Os {
        /// What.
        action: &'static str,
        /// The address.
        address: ServiceAddress,
        /// What the kernel said.
        source: io::Error,
    },
    /// No connection to the kernel, or no thread.
    #[error("cannot {action}")]
    Start {
        /// What.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl AddressError {
    /// What to do about it, where that is known.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        let (AddressError::Interface { source, .. }
        | AddressError::Os { source, .. }
        | AddressError::Start { source, .. }) = self;
        match (self, source.raw_os_error()) {
            (_, Some(libc::EPERM | libc::EACCES)) => Some(
                "service addresses need the capabilities NET_ADMIN and NET_RAW (root, or AmbientCapabilities= of systemd)"
                    .to_owned(),
            ),
            (AddressError::Interface { .. }, _) => {
                Some("`ip link` lists the interfaces of this host".to_owned())
            }
            _ => None,
        }
    }
}

/// Takes addresses off this host, whoever added them; those that were there.
///
/// # Errors
/// The first that could not be removed; the others are tried all the same.
pub fn remove(addresses: &[ServiceAddress]) -> Result<Vec<ServiceAddress>, AddressError> {
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    let start = |source| AddressError::Start { action: "talk to the kernel (rtnetlink)", source };
    let mut netlink = Netlink::open().map_err(start)?;
    let mut removed = Vec::new();
    let mut failed = None;
    for address in addresses {
        let index = match netlink::index_of(&address.interface) {
            Ok(index) => index,
            // With the interface its addresses are gone.
            Err(_) => continue,
        };
        match netlink.remove(index, address.ip, address.prefix) {
            Ok(true) => removed.push(address.clone()),
            Ok(false) => {}
            Err(source) => {
                let address = address.clone();
                failed.get_or_insert(AddressError::Os { action: "remove", address, source });
            }
        }
    }
    failed.map_or(Ok(removed), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in ["192.0.2.10/24 dev eth0", "2001:db8::10/64 dev bond0.12"] {
            let address: ServiceAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
        #[rustfmt::skip]
        let wrong = [
            "", "192.0.2.10", "192.0.2.10/24", "192.0.2.10/33 dev eth0", "192.0.2.10/0 dev eth0",
            "2001:db8::10/129 dev eth0", "host/24 dev eth0", "192.0.2.10/24 dev ", "0.0.0.0/24 dev eth0",
            "224.0.0.1/24 dev eth0", "192.0.2.10/24 dev an-interface-too-long", "192.0.2.10/24 dev two words",
        ];
        for text in wrong {
            let error = text.parse::<ServiceAddress>().expect_err(text);
            assert!(error.to_string().contains("such as"), "{error}");
        }
    }
}
