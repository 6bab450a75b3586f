//! Where a packet came from or goes to, in the 24 bytes that stand before its payload.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// An IP address and port, or nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Endpoint(Option<SocketAddr>);

impl Endpoint {
    /// Bytes of the encoding: `family, 0, port (2, big endian), scope (4), address (16)`.
    pub const BYTES: usize = 24;

    /// No address: for messages that come from no socket.
    pub const NONE: Endpoint = Endpoint(None);

    /// The address, if there is one.
    pub fn to_socket_addr(self) -> Option<SocketAddr> {
        self.0
    }

    /// The encoding.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let Some(address) = self.0 else { return bytes };
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                bytes[0] = 4;
                bytes[8..12].copy_from_slice(&v4.ip().octets());
            }
            SocketAddr::V6(v6) => {
                bytes[0] = 6;
                bytes[4..8].copy_from_slice(&v6.scope_id().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
            }
        }
        bytes
    }

    /// The inverse of [`to_bytes`](Self::to_bytes); anything else reads as [`NONE`](Self::NONE).
    pub fn from_bytes(bytes: &[u8]) -> Endpoint {
        let Some(bytes) = bytes.first_chunk::<{ Self::BYTES }>() else {
            return Self::NONE;
        };
        let part = |from: usize| [bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]];
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        match bytes[0] {
            4 => SocketAddr::new(IpAddr::V4(Ipv4Addr::from(part(8))), port).into(),
            6 => {
                let address: [u8; 16] = bytes[8..24].try_into().expect("sixteen bytes");
                let scope = u32::from_be_bytes(part(4));
                SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(address), port, 0, scope)).into()
            }
            _ => Self::NONE,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self(Some(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_encoding() {
        for text in ["127.0.0.1:0", "255.1.2.3:65535", "[::1]:5060", "[fe80::1%7]:9"] {
            let address: SocketAddr = text.parse().expect("a literal address");
            let endpoint = Endpoint::from(address);
            assert_eq!(Endpoint::from_bytes(&endpoint.to_bytes()).to_socket_addr(), Some(address));
        }
        assert_eq!(Endpoint::from_bytes(&Endpoint::NONE.to_bytes()), Endpoint::NONE);
        assert_eq!(Endpoint::from_bytes(&[4, 0]), Endpoint::NONE, "too short");
    }
}
