//! From a packet to the object that it is about.
//!
//! A classifier reads the packet where it was received and names its object: a key, no key (the
//! packet becomes an object of its own) or none at all (counted under a reason and dropped).

mod flow;

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use hotpair_shm::KEY_BYTES_MAX;

use crate::connection::Connection;
pub use flow::ByFlow;

/// The key of an object, as a classifier read it from a packet.
///
/// The bytes are copied, because the packet's block is handed over while the key is still needed.
#[derive(Clone, Copy)]
pub struct PacketKey {
    bytes: [u8; KEY_BYTES_MAX],
    len: u8,
}

/// A key longer than [`KEY_BYTES_MAX`], or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key of {bytes} bytes; keys have 1 to {KEY_BYTES_MAX}")]
pub struct KeyLength {
    /// Length of what was offered.
    pub bytes: usize,
}

impl PacketKey {
    /// Copies `bytes`, of which there are 1 to [`KEY_BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Result<Self, KeyLength> {
        if bytes.is_empty() || bytes.len() > KEY_BYTES_MAX {
            return Err(KeyLength { bytes: bytes.len() });
        }
        let mut key = PacketKey { bytes: [0; KEY_BYTES_MAX], len: bytes.len() as u8 };
        key.bytes[..bytes.len()].copy_from_slice(bytes);
        Ok(key)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for PacketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PacketKey({})", self.as_bytes().escape_ascii())
    }
}

/// What a classifier makes of a packet.
#[derive(Clone, Copy, Debug)]
pub enum Classified {
    /// A message to the object with this key, which is created if there is none.
    Key(PacketKey),
    /// A message to an object of its own, which the commit that handles it withdraws.
    Keyless,
    /// Not for us: counted under this reason.
    Drop(&'static str),
}

impl Classified {
    /// The key `bytes`, or a counted drop when they cannot be a key.
    pub fn key(bytes: &[u8]) -> Self {
        match PacketKey::new(bytes) {
            Ok(key) => Classified::Key(key),
            Err(KeyLength { bytes: 0 }) => Classified::Drop("key empty"),
            Err(_) => Classified::Drop("key too long"),
        }
    }
}

/// Names the object of a packet. Every `FnMut(&[u8], SocketAddr) -> Classified` is one.
///
/// It sees whatever the network sends. One that panics costs that packet, which is counted.
pub trait Classifier {
    /// `packet` is the whole payload, `source` its sender in canonical form.
    fn classify(&mut self, packet: &[u8], source: SocketAddr) -> Classified;

    /// Which object is to be told, by an empty message, that the connection `source` has ended. Of ports of kind `tcp` and
    /// `unix`; see [`Connection`]. It must be one that a frame of the connection went to: it is created otherwise.
    fn ended(&mut self, _source: SocketAddr) -> Option<PacketKey> {
        None
    }
}

impl<F: FnMut(&[u8], SocketAddr) -> Classified> Classifier for F {
    fn classify(&mut self, packet: &[u8], source: SocketAddr) -> Classified {
        self(packet, source)
    }
}

/// The application's function sees what the network sends: a panic costs the packet, not the port.
pub(crate) fn contained(
    classifier: &mut dyn Classifier,
    packet: &[u8],
    source: SocketAddr,
) -> Classified {
    catch_unwind(AssertUnwindSafe(|| classifier.classify(packet, source)))
        .unwrap_or(Classified::Drop("the classifier panicked"))
}

/// The same for the end of a connection: who panics is told nothing more.
pub(crate) fn ended(classifier: &mut dyn Classifier, source: SocketAddr) -> Option<PacketKey> {
    catch_unwind(AssertUnwindSafe(|| classifier.ended(source))).unwrap_or(None)
}

/// One object per connection of a port of kind `tcp` or `unix`, told of its end by an empty message whose source is
/// [`Connection::end`].
#[derive(Clone, Debug)]
pub struct ByConnection {
    port: String,
}

impl ByConnection {
    /// For the port of this name: the key says of which port a connection is.
    pub fn new(port: &str) -> Self {
        ByConnection { port: port.to_owned() }
    }
}

impl Classifier for ByConnection {
    fn classify(&mut self, _packet: &[u8], source: SocketAddr) -> Classified {
        match Connection::of(source) {
            Some(connection) => Classified::Key(connection.key(&self.port)),
            None => Classified::Drop("no connection"),
        }
    }

    fn ended(&mut self, source: SocketAddr) -> Option<PacketKey> {
        Connection::of(source).map(|connection| connection.key(&self.port))
    }
}

/// One object per peer: the key is the sender's address and port (6 or 18 bytes, network order).
#[derive(Clone, Copy, Debug, Default)]
pub struct ByPeer;

impl Classifier for ByPeer {
    fn classify(&mut self, _packet: &[u8], source: SocketAddr) -> Classified {
        let mut key = [0; 18];
        let ip_bytes = match source.ip() {
            IpAddr::V4(ip) => {
                key[..4].copy_from_slice(&ip.octets());
                4
            }
            IpAddr::V6(ip) => {
                key[..16].copy_from_slice(&ip.octets());
                16
            }
        };
        key[ip_bytes..ip_bytes + 2].copy_from_slice(&source.port().to_be_bytes());
        Classified::key(&key[..ip_bytes + 2])
    }
}

/// Every packet is an object of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllKeyless;

impl Classifier for AllKeyless {
    fn classify(&mut self, _packet: &[u8], _source: SocketAddr) -> Classified {
        Classified::Keyless
    }
}

/// The key is a range of the packet's bytes; a packet that is too short for it is dropped.
#[derive(Clone, Debug)]
pub struct ByBytes {
    /// Where the key stands in the packet.
    pub range: std::ops::Range<usize>,
}

impl Classifier for ByBytes {
    fn classify(&mut self, packet: &[u8], _source: SocketAddr) -> Classified {
        match packet.get(self.range.clone()) {
            Some(key) => Classified::key(key),
            None => Classified::Drop("too short for its key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> SocketAddr {
        text.parse().expect("an address in a test")
    }

    fn key_of(classified: Classified) -> Vec<u8> {
        match classified {
            Classified::Key(key) => key.as_bytes().to_vec(),
            other => panic!("expected a key, got {other:?}"),
        }
    }

    #[test]
    fn a_peer_is_its_address_and_port() {
        let key = key_of(ByPeer.classify(b"x", source("192.0.2.7:5060")));
        assert_eq!(key, [192, 0, 2, 7, 0x13, 0xc4]);
        let v6 = key_of(ByPeer.classify(b"x", source("[2001:db8::1]:1")));
        assert_eq!(v6.len(), 18);
        assert_ne!(key, key_of(ByPeer.classify(b"x", source("192.0.2.7:5061"))));
    }

    #[test]
    fn keys_are_checked_at_their_edges() {
        #[rustfmt::skip]
        let cases = [
            ("empty",            0, Some("key empty")),
            ("one byte",         1, None),
            ("as long as can be", KEY_BYTES_MAX, None),
            ("one too many",     KEY_BYTES_MAX + 1, Some("key too long")),
        ];
        for (why, len, dropped) in cases {
            let bytes = vec![b'k'; len];
            match Classified::key(&bytes) {
                Classified::Key(key) => {
                    assert_eq!((key.as_bytes(), None), (&bytes[..], dropped), "{why}");
                }
                Classified::Drop(reason) => assert_eq!(Some(reason), dropped, "{why}"),
                Classified::Keyless => panic!("{why}: keyless"),
            }
        }
    }

    #[test]
    fn a_byte_range_outside_the_packet_is_a_drop() {
        let mut classifier = ByBytes { range: 4..8 };
        assert_eq!(key_of(classifier.classify(b"headCALLrest", source("[::1]:1"))), b"CALL");
        let short = classifier.classify(b"headCAL", source("[::1]:1"));
        assert!(matches!(short, Classified::Drop("too short for its key")));
    }

    #[test]
    fn a_closure_is_a_classifier() {
        fn takes(classifier: &mut impl Classifier) -> Classified {
            classifier.classify(b"", SocketAddr::from(([127, 0, 0, 1], 1)))
        }
        let mut seen = 0;
        let mut closure = |_: &[u8], _: SocketAddr| {
            seen += 1;
            Classified::Keyless
        };
        assert!(matches!(takes(&mut closure), Classified::Keyless));
        assert_eq!(seen, 1);
    }
}
