//! The name of a connection: what workers see as the source of its frames, and send answers to.
//!
//! ```text
//!   [::ffff:192.0.2.7 % 4711]:40312      a frame of connection 4711, of a peer at 192.0.2.7:40312
//!   [::ffff:192.0.2.7 % 4711]:0          its end: as the source of an empty message, the connection has ended;
//!                                        as a destination, it shall end once everything before it has left
//! ```
//!
//! The peer's address alone would not do: a peer may come back from the same port, and answers to what it asked before are
//! not for its new connection. So a connection bears a number, which the scope of an IPv6 address has room for. Numbers of a
//! process begin anywhere: those of its predecessor, or of another host, name nothing in it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::classify::PacketKey;

/// What the keys of connections begin with.
const PREFIX: [u8; 4] = *b"con\0";
const KEY_BYTES: usize = 28;
/// Port of a peer that has none, as those of unix sockets.
const NO_PORT: u16 = 1;

/// A connection of a port of kind `tcp` or `unix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    ip: Ipv6Addr,
    port: u16,
    number: u32,
}

impl Connection {
    /// The connection that `address` names, as the source of a frame or of an end; `None` if it names none.
    pub fn of(address: SocketAddr) -> Option<Connection> {
        match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => Some(Connection {
                ip: *address.ip(),
                port: address.port(),
                number: address.scope_id(),
            }),
            _ => None,
        }
    }

    /// Connection `number`, which is not 0, of `peer`; unix sockets have none.
    pub(crate) fn new(number: u32, peer: Option<SocketAddr>) -> Connection {
        let (ip, port) = match peer {
            Some(peer) => (peer.ip(), peer.port()),
            None => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), NO_PORT),
        };
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Connection { ip, port, number }
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether this is the end of the connection.
    pub fn is_end(&self) -> bool {
        self.port == 0
    }

    /// Who is at the other end; `None` of a unix socket, and of an end.
    pub fn peer(&self) -> Option<SocketAddr> {
        if self.ip.is_unspecified() || self.is_end() {
            return None;
        }
        Some(SocketAddr::new(IpAddr::V6(self.ip).to_canonical(), self.port))
    }

    /// Where frames come from, and answers go.
    pub fn address(&self) -> SocketAddr {
        SocketAddrV6::new(self.ip, self.port, 0, self.number).into()
    }

    /// Its end, as a source and as a destination.
    pub fn end(&self) -> SocketAddr {
        SocketAddrV6::new(self.ip, 0, 0, self.number).into()
    }

    /// The key of its object, at the port of this name: the same for frames and for the end.
    pub fn key(&self, port: &str) -> PacketKey {
        let mut key = [0; KEY_BYTES];
        key[..4].copy_from_slice(&PREFIX);
        key[4..8].copy_from_slice(&tag(port).to_be_bytes());
        key[8..12].copy_from_slice(&self.number.to_be_bytes());
        key[12..].copy_from_slice(&self.ip.octets());
        PacketKey::new(&key).expect("a short key")
    }

    /// The end of the connection that has this key at the port of this name, if it is one.
    pub(crate) fn from_key(key: &[u8], port: &str) -> Option<Connection> {
        let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
        let part = |from: usize| u32::from_be_bytes([0, 1, 2, 3].map(|at| key[from + at]));
        if key[..4] != PREFIX || part(4) != tag(port) {
            return None;
        }
        let ip: [u8; 16] = key[12..].try_into().expect("sixteen bytes");
        Some(Connection { ip: ip.into(), port: 0, number: part(8) })
    }
}

/// Tells ports of one queue apart, on both hosts alike (FNV-1a).
fn tag(port: &str) -> u32 {
    port.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use hotpair_shm::Endpoint;

    use super::*;

    #[test]
    fn a_connection_survives_the_region_and_names_one_object() {
        for peer in [Some("192.0.2.7:40312"), Some("[2001:db8::7]:9"), None] {
            let peer: Option<SocketAddr> = peer.map(|text| text.parse().expect("an address"));
            let connection = Connection::new(4711, peer);
            assert_eq!((connection.peer(), connection.number()), (peer, 4711));
            assert!(!connection.is_end());
            let through = Endpoint::from_bytes(&Endpoint::from(connection.address()).to_bytes());
            let address = through.to_socket_addr().expect("an address");
            assert_eq!(Connection::of(address), Some(connection));

            let end = Connection::of(connection.end()).expect("it names the connection");
            assert!(end.is_end());
            assert_eq!(end.key("p").as_bytes(), connection.key("p").as_bytes());
            assert_eq!(Connection::from_key(connection.key("p").as_bytes(), "p"), Some(end));
            assert_eq!(Connection::from_key(connection.key("p").as_bytes(), "q"), None);
        }
        assert_eq!(Connection::of("192.0.2.7:1".parse().expect("an address")), None);
        assert_eq!(Connection::from_key(b"con\0short", "p"), None);
    }
}
