//! One object per flow: the five-tuple of an Ethernet frame.

use std::net::SocketAddr;

use super::{Classified, Classifier};

const ADDRESSES: usize = 12;
const VLAN: [u16; 2] = [0x8100, 0x88a8];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Protocols whose first four bytes are two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// One object per flow of Ethernet frames: the key is the protocol, and address and port of both ends. What is no IP packet
/// becomes an object of its own; fragments behind the first go by their addresses alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByFlow {
    /// Both directions of a flow are one object.
    pub both_ways: bool,
}

impl Classifier for ByFlow {
    fn classify(&mut self, packet: &[u8], _source: SocketAddr) -> Classified {
        match ends(packet) {
            Some((protocol, mut from, mut to)) => {
                if self.both_ways && to < from {
                    std::mem::swap(&mut from, &mut to);
                }
                let mut key = [0; 1 + 2 * (16 + 2)];
                key[0] = protocol;
                let mut len = 1;
                for (ip, port) in [from, to] {
                    key[len..len + ip.len()].copy_from_slice(ip);
                    len += ip.len();
                    key[len..len + 2].copy_from_slice(&port.to_be_bytes());
                    len += 2;
                }
                Classified::key(&key[..len])
            }
            None => Classified::Keyless,
        }
    }
}

type End<'p> = (&'p [u8], u16);

/// Protocol, source and destination.
fn ends(frame: &[u8]) -> Option<(u8, End<'_>, End<'_>)> {
    let mut at = ADDRESSES;
    let mut kind = number(frame, at)?;
    for _ in 0..2 {
        if VLAN.contains(&kind) {
            at += 4;
            kind = number(frame, at)?;
        }
    }
    let packet = frame.get(at + 2..)?;
    let (protocol, from, to, rest) = match kind {
        IPV4 => {
            let header = usize::from(packet.first()? & 0xf) * 4;
            let fragment = number(packet, 6)? & 0x1fff;
            let rest = packet.get(header.max(20)..).filter(|_| fragment == 0);
            (*packet.get(9)?, packet.get(12..16)?, packet.get(16..20)?, rest)
        }
        IPV6 => (*packet.get(6)?, packet.get(8..24)?, packet.get(24..40)?, packet.get(40..)),
        _ => return None,
    };
    let port = |at: usize| match rest {
        Some(rest) if WITH_PORTS.contains(&protocol) => number(rest, at).unwrap_or(0),
        _ => 0,
    };
    Some((protocol, (from, port(0)), (to, port(2))))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tags: &[u8], kind: u16, packet: &[u8]) -> Vec<u8> {
        [&[0; 12][..], tags, &kind.to_be_bytes(), packet].concat()
    }

    fn ipv4(protocol: u8, from: u8, to: u8, ports: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 24, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend([10, 0, 0, from, 10, 0, 0, to]);
        packet.extend(ports);
        packet
    }

    fn key(frame: &[u8], both_ways: bool) -> Option<Vec<u8>> {
        match (ByFlow { both_ways }).classify(frame, SocketAddr::from(([0; 4], 0))) {
            Classified::Key(key) => Some(key.as_bytes().to_vec()),
            _ => None,
        }
    }

    #[test]
    fn a_flow_is_its_five_tuple() {
        let there = frame(&[], IPV4, &ipv4(17, 1, 2, [0, 7, 0, 9]));
        let back = frame(&[], IPV4, &ipv4(17, 2, 1, [0, 9, 0, 7]));
        assert_eq!(key(&there, false), Some(vec![17, 10, 0, 0, 1, 0, 7, 10, 0, 0, 2, 0, 9]));
        assert_ne!(key(&there, false), key(&back, false));
        assert_eq!(key(&there, true), key(&back, true));
        // Behind one tag, and behind two.
        for tags in [&[0x81, 0, 0, 5][..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]] {
            let tagged = frame(tags, IPV4, &ipv4(17, 1, 2, [0, 7, 0, 9]));
            assert_eq!(key(&tagged, false), key(&there, false));
        }
        // Other protocols have no ports, nor have later fragments.
        let ping = key(&frame(&[], IPV4, &ipv4(1, 1, 2, [8, 0, 1, 1])), false).expect("a flow");
        assert_eq!(ping, [1, 10, 0, 0, 1, 0, 0, 10, 0, 0, 2, 0, 0]);
        let mut fragment = ipv4(17, 1, 2, [0, 7, 0, 9]);
        fragment[7] = 5;
        let fragment = key(&frame(&[], IPV4, &fragment), false).expect("a flow");
        assert_eq!(fragment, [17, 10, 0, 0, 1, 0, 0, 10, 0, 0, 2, 0, 0]);
        let mut packet = vec![0x60, 0, 0, 0, 0, 4, 6, 64];
        packet.extend([1; 16].into_iter().chain([2; 16]).chain([0, 80, 1, 0]));
        let v6 = key(&frame(&[], IPV6, &packet), false).expect("a flow");
        assert_eq!((v6.len(), &v6[17..19]), (37, &[0, 80][..]));
    }

    #[test]
    fn what_is_no_flow_is_an_object_of_its_own() {
        assert_eq!(key(&frame(&[], 0x0806, &[0; 28]), false), None, "ARP");
        let whole = frame(&[], IPV4, &ipv4(17, 1, 2, [0, 7, 0, 9]));
        for len in 0..34 {
            assert_eq!(key(&whole[..len], true), None, "{len} bytes");
        }
    }
}
