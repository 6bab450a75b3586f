//! Which slice a flow belongs to, seen from either side, without any state.
//!
//! ```text
//!   from inside:   hash of protocol and both ends ──► slice s ──► an outside port p with p mod 1024 = s
//!   from outside:  p mod 1024 ──────────────────────► slice s
//! ```
//!
//! So a packet of either direction finds the one object that knows its flow, and that object alone gives the slice's ports away.

use crate::frame::{End, Packet};

/// Slices of each protocol.
pub(crate) const SLICES: u16 = 1024;
/// Outside ports of a slice: all from 1024 on.
pub(crate) const PORTS: usize = 63;

/// The key of a slice's object.
pub(crate) type Key = [u8; 3];

/// The slice of a packet from inside, and which of its ports would be the first choice.
pub(crate) fn of_inside(packet: &Packet<'_>) -> (u16, usize) {
    let hash = hash(packet.protocol, packet.from, packet.to);
    ((hash % u64::from(SLICES)) as u16, (hash >> 32) as usize % PORTS)
}

/// The slice of an outside port; none of those below 1024 belongs to one.
pub(crate) fn of_outside(port: u16) -> Option<u16> {
    (port >= SLICES).then_some(port % SLICES)
}

/// An outside port of a slice: `place` is below [`PORTS`].
pub(crate) fn port(slice: u16, place: usize) -> u16 {
    slice + SLICES * (place as u16 + 1)
}

/// Which of its slice's ports a port is.
pub(crate) fn place(port: u16) -> usize {
    usize::from((port / SLICES).saturating_sub(1))
}

/// The key of the object of a slice.
pub(crate) fn key(protocol: u8, slice: u16) -> Key {
    let [high, low] = slice.to_be_bytes();
    [protocol, high, low]
}

/// The slice in a key; `None` if it is not the key of one.
pub(crate) fn of_key(key: &[u8]) -> Option<u16> {
    let [_, high, low] = *key else { return None };
    Some(u16::from_be_bytes([high, low])).filter(|slice| *slice < SLICES)
}

/// The same on both hosts and in all processes. Who knows it may fill slices of its own choice, but not beyond its share of them.
fn hash(protocol: u8, from: End, to: End) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let ports = [from.port.to_be_bytes(), to.port.to_be_bytes()].concat();
    for byte in from.ip.iter().chain(&to.ip).chain(&ports).chain(&[protocol]) {
        // FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    // Its low bits know little of the high bits of what went in.
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every port from 1024 on is in one slice, once.
    #[test]
    fn slices_share_all_ports_out() {
        let mut ports: Vec<u16> =
            (0..SLICES).flat_map(|slice| (0..PORTS).map(move |place| port(slice, place))).collect();
        for port in &ports {
            let slice = of_outside(*port).expect("it is of a slice");
            assert_eq!(super::port(slice, place(*port)), *port);
        }
        ports.sort_unstable();
        assert!(ports.into_iter().eq(1024..=u16::MAX));
        assert_eq!((of_outside(0), of_outside(1023)), (None, None));
    }

    /// Goal: flows that differ in one end's port alone are spread over the slices.
    #[test]
    fn flows_are_spread() {
        let mut flows = vec![0; usize::from(SLICES)];
        for port in 0..10_240 {
            let from = End { ip: [10, 0, 0, 1], port };
            let hash = hash(6, from, End { ip: [192, 0, 2, 1], port: 80 });
            flows[(hash % u64::from(SLICES)) as usize] += 1;
        }
        let most = flows.iter().max().expect("there are slices");
        assert!((11..30).contains(most), "{most} of 10,240 flows in one slice, 10 on average");
    }

    #[test]
    fn a_key_names_its_slice() {
        assert_eq!(of_key(&key(6, 1023)), Some(1023));
        assert_eq!(of_key(b"inside"), None);
        assert_eq!(of_key(&[6, 0xff, 0xff]), None);
    }
}
