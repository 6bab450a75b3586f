//! What a UDP port may be told beyond its address.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::str::FromStr;

/// What a port of kind `udp` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpConfig {
    /// Several sockets, each of a port of its own, may be bound to the address: the kernel shares the senders among them.
    pub reuse_port: bool,
    /// Groups that it belongs to while its host serves.
    pub multicast: Vec<Group>,
    /// The kernel stamps what it receives: [`Counters::waited`](crate::Counters::waited) tells how long packets waited in the
    /// socket.
    pub timestamps: bool,
    /// Neighbours of a batch that go to one address leave as one datagram that the kernel cuts (GSO).
    pub segment: bool,
    /// Neighbours of one sender come in as one datagram that the kernel has put together (GRO), or that was never cut on its way:
    /// fewer turns of the kernel for each packet. Each is a message of its own all the same. Ports that share a socket say the
    /// same.
    pub gro: bool,
}

impl Default for UdpConfig {
    fn default() -> Self {
        UdpConfig {
            reuse_port: false,
            multicast: Vec::new(),
            timestamps: true,
            segment: true,
            gro: false,
        }
    }
}

/// A multicast group and where it is joined.
///
/// Written `239.1.2.3`, `239.1.2.3@192.0.2.10` (the interface with that address), `ff05::7` or `ff02::7%eth0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    group: IpAddr,
    interface: Interface,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Interface {
    Any,
    Address(Ipv4Addr),
    Name(String),
}

/// A text that names no multicast group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no multicast group, such as 239.1.2.3, 239.1.2.3@192.0.2.10 or ff02::7%eth0")]
pub struct ParseGroupError {
    /// What was given.
    pub text: String,
}

impl FromStr for Group {
    type Err = ParseGroupError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseGroupError { text: text.to_owned() };
        let (group, interface) = if let Some((group, address)) = text.split_once('@') {
            (group, Interface::Address(address.parse().map_err(|_| wrong())?))
        } else if let Some((group, name)) = text.split_once('%') {
            (group, Interface::Name(name.to_owned()))
        } else {
            (text, Interface::Any)
        };
        let group: IpAddr = group.parse().map_err(|_| wrong())?;
        let fits = match (&group, &interface) {
            (_, Interface::Any) => true,
            (IpAddr::V4(_), Interface::Address(_)) => true,
            (IpAddr::V6(_), Interface::Name(name)) => !name.is_empty(),
            _ => false,
        };
        if !group.is_multicast() || !fits {
            return Err(wrong());
        }
        Ok(Group { group, interface })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.group)?;
        match &self.interface {
            Interface::Any => Ok(()),
            Interface::Address(address) => write!(f, "@{address}"),
            Interface::Name(name) => write!(f, "%{name}"),
        }
    }
}

impl Group {
    pub(super) fn join(&self, socket: &UdpSocket) -> io::Result<()> {
        let joined = match self.group {
            IpAddr::V4(group) => socket.join_multicast_v4(&group, &self.address()),
            IpAddr::V6(group) => socket.join_multicast_v6(&group, self.index()?),
        };
        match joined {
            // Joined already: the socket is shared with the other node's port.
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Ok(()),
            other => other,
        }
    }

    pub(super) fn leave(&self, socket: &UdpSocket) {
        // One that was never joined is not there to be left.
        let _ = match self.group {
            IpAddr::V4(group) => socket.leave_multicast_v4(&group, &self.address()),
            IpAddr::V6(group) => {
                self.index().and_then(|index| socket.leave_multicast_v6(&group, index))
            }
        };
    }

    fn address(&self) -> Ipv4Addr {
        match self.interface {
            Interface::Address(address) => address,
            _ => Ipv4Addr::UNSPECIFIED,
        }
    }

    fn index(&self) -> io::Result<u32> {
        match &self.interface {
            Interface::Name(name) => Ok(nix::net::if_::if_nametoindex(name.as_str())?),
            _ => Ok(0),
        }
    }

    /// Whether a socket bound to `ip` can belong to it.
    pub(crate) fn fits(&self, ip: IpAddr) -> bool {
        self.group.is_ipv4() == ip.is_ipv4() && (ip.is_unspecified() || ip == self.group)
    }

    /// An address of all, of its family.
    pub(crate) fn any(&self) -> IpAddr {
        match self.group {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_written_as_they_are_read() {
        for text in ["239.1.2.3", "239.1.2.3@192.0.2.10", "ff05::7", "ff02::7%eth0"] {
            let group: Group = text.parse().expect(text);
            assert_eq!(group.to_string(), text);
        }
        for text in ["", "192.0.2.1", "::1", "239.1.2.3%eth0", "ff02::7@192.0.2.1", "ff02::7%", "x"]
        {
            let error = text.parse::<Group>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn a_group_needs_a_socket_that_hears_it() {
        let group: Group = "239.1.2.3".parse().expect("a group");
        for (ip, fits) in
            [("0.0.0.0", true), ("239.1.2.3", true), ("127.0.0.1", false), ("::", false)]
        {
            assert_eq!(group.fits(ip.parse().expect("an address")), fits, "{ip}");
        }
        assert_eq!(group.any().to_string(), "0.0.0.0");
    }
}
