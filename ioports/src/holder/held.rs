//! What a holder keeps open.

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::str::FromStr;

use crate::listener::Listener;
use crate::source::{OpenError, bind};

/// What a [`Holder`](crate::Holder) is to open.
///
/// Written `192.0.2.10:5060` (UDP), `tcp:192.0.2.10:6379` or `unix:/run/calls.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldAddress {
    /// A UDP socket.
    Udp(SocketAddr),
    /// A TCP listener.
    Tcp(SocketAddr),
    /// A listener of unix sockets.
    Unix(PathBuf),
}

impl From<SocketAddr> for HeldAddress {
    fn from(address: SocketAddr) -> Self {
        HeldAddress::Udp(address)
    }
}

/// A text that names nothing that can be held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is none of IP:PORT, tcp:IP:PORT, unix:PATH")]
pub struct ParseHeldError {
    /// What was given.
    pub text: String,
}

impl FromStr for HeldAddress {
    type Err = ParseHeldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseHeldError { text: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(HeldAddress::Unix(path.into()));
        }
        match text.strip_prefix("tcp:") {
            Some(address) => address.parse().map(HeldAddress::Tcp).map_err(|_| wrong()),
            None => text.parse().map(HeldAddress::Udp).map_err(|_| wrong()),
        }
    }
}

/// It, open.
#[derive(Debug)]
pub(super) enum Held {
    Udp(UdpSocket),
    Listener(Listener),
}

impl Held {
    pub(super) fn open(address: &HeldAddress) -> Result<Held, OpenError> {
        match address {
            HeldAddress::Udp(address) => bind(*address, false).map(Held::Udp),
            HeldAddress::Tcp(address) => Listener::for_holder(*address).map(Held::Listener),
            HeldAddress::Unix(path) => Listener::at(path).map(Held::Listener),
        }
    }

    /// With the port that the kernel chose.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Held::Udp(socket) => socket.local_addr().ok(),
            Held::Listener(listener) => listener.local(),
        }
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Held::Udp(socket) => socket.as_fd(),
            Held::Listener(listener) => listener.as_fd(),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.address()) {
            (_, Some(address)) => write!(f, "{address}"),
            (Held::Listener(listener), None) => write!(f, "{listener}"),
            (Held::Udp(_), None) => f.write_str("a socket"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_held_is_named() {
        let address: SocketAddr = "192.0.2.1:9".parse().expect("an address");
        let read = |text: &str| text.parse::<HeldAddress>();
        assert_eq!(read("192.0.2.1:9"), Ok(HeldAddress::Udp(address)));
        assert_eq!(read("tcp:192.0.2.1:9"), Ok(HeldAddress::Tcp(address)));
        assert_eq!(read("unix:/x"), Ok(HeldAddress::Unix("/x".into())));
        for text in ["", "tcp:", "unix:", "udp:192.0.2.1:9"] {
            assert!(read(text).expect_err(text).to_string().contains("tcp:IP:PORT"));
        }
    }
}
