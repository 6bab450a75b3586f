//! Whether an address is on this host, told by the kernel when that changes.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::netlink::{self, News};

/// A watch over one address.
#[derive(Debug)]
pub(crate) struct Presence {
    ip: IpAddr,
    monitor: OwnedFd,
    here: bool,
    /// The kernel says that an address goes while it can still be bound to, and nothing more when it cannot.
    gone: bool,
}

impl Presence {
    pub(crate) fn watch(ip: IpAddr) -> io::Result<Presence> {
        // The monitor first: what changes from here on is heard of.
        let monitor = netlink::monitor()?;
        Ok(Presence { ip, monitor, here: is_here(ip), gone: false })
    }

    /// As far as the kernel has told.
    pub(crate) fn is_here(&self) -> bool {
        self.here
    }

    /// Listens to what the kernel has to say, and looks again.
    pub(crate) fn look(&mut self) {
        netlink::drain(&self.monitor, |news| match news {
            News::Came(ip) if ip == self.ip => self.gone = false,
            News::Went(ip) if ip == self.ip => self.gone = true,
            News::Overflown => self.gone = false,
            News::Came(_) | News::Went(_) => {}
        });
        self.here = !self.gone && is_here(self.ip);
    }
}

impl AsFd for Presence {
    /// Readable when addresses have come or gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }
}

/// Only an address of this host can be bound to, and asking costs two system calls.
fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_here_and_a_documentation_address_is_not() {
        for (ip, here) in [("127.0.0.1", true), ("192.0.2.77", false), ("2001:db8::77", false)] {
            let presence =
                Presence::watch(ip.parse().expect("valid")).expect("everybody may listen");
            assert_eq!(presence.is_here(), here, "{ip}");
        }
    }
}
