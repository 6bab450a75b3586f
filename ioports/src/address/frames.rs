//! Ethernet frames that say where an address lives, and what others say about it.
//!
//! ARP (RFC 826, RFC 5227) for IPv4, neighbour discovery (RFC 4861) for IPv6. Functions of bytes alone.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ARP_BYTES: usize = 42;
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const REQUEST: u8 = 1;
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Whoever knows the address by another hardware address is to forget that one.
const OVERRIDE: u8 = 0x20;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Six bytes that name a network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HardwareAddress(pub [u8; 6]);

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// "`ip` is at `at`", to everybody: gratuitous ARP, or an unsolicited neighbour advertisement.
pub(super) fn announcement(ip: IpAddr, at: HardwareAddress) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp(at, ip, ip),
        IpAddr::V6(ip) => advertisement(ip, at),
    }
}

/// "Does anybody else have `ip`?" Who does, answers to `from`.
pub(super) fn arp_probe(ip: Ipv4Addr, from: HardwareAddress) -> Vec<u8> {
    arp(from, Ipv4Addr::UNSPECIFIED, ip)
}

/// A request to everybody: from `sender`, about `target`.
fn arp(from: HardwareAddress, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ARP_BYTES);
    frame.extend([0xff; 6]);
    frame.extend(from.0);
    frame.extend(ETHERTYPE_ARP);
    frame.extend([0, 1, 0x08, 0x00, 6, 4, 0, REQUEST]); // Ethernet, IPv4, their lengths
    frame.extend(from.0);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

fn advertisement(ip: Ipv6Addr, at: HardwareAddress) -> Vec<u8> {
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(ip.octets());
    message.extend([2, 1]); // the target's hardware address, in units of eight bytes
    message.extend(at.0);
    let sum = checksum(ip, ALL_NODES, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(14 + 40 + message.len());
    frame.extend([0x33, 0x33, 0, 0, 0, 1]);
    frame.extend(at.0);
    frame.extend(ETHERTYPE_IPV6);
    let len = u16::try_from(message.len()).expect("32 bytes");
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(len.to_be_bytes());
    frame.extend([ICMPV6, 255]); // 255 proves that no router has passed it on
    frame.extend(ip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// The internet checksum over the pseudo-header and a message whose own field is zero.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let mut bytes = [from.octets(), to.octets()].concat();
    bytes.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
    bytes.extend([0, 0, 0, ICMPV6]);
    bytes.extend(message);
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// What somebody else's ARP packet says about an address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// "It is at this hardware address."
    Claimed(HardwareAddress),
    /// "Where is it?"
    Asked,
}

/// Reads an ARP frame; nothing if it is not about `ip`, or is our own.
pub(super) fn hear(frame: &[u8], ip: Ipv4Addr, own: HardwareAddress) -> Option<Heard> {
    if frame.get(12..20)? != [&ETHERTYPE_ARP[..], &[0, 1, 0x08, 0x00, 6, 4]].concat() {
        return None;
    }
    let sender_at = HardwareAddress(frame.get(22..28)?.try_into().ok()?);
    let (sender, target) = (frame.get(28..32)?, frame.get(38..ARP_BYTES)?);
    if sender_at == own {
        return None;
    }
    if sender == ip.octets() {
        return Some(Heard::Claimed(sender_at));
    }
    (target == ip.octets() && frame.get(20..22)? == [0, REQUEST]).then_some(Heard::Asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: HardwareAddress = HardwareAddress([2, 0, 0, 0, 0, 1]);
    const THEIRS: HardwareAddress = HardwareAddress([2, 0, 0, 0, 0, 2]);
    const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

    #[test]
    fn what_others_say_is_told_from_what_we_say() {
        let other = Ipv4Addr::new(192, 0, 2, 99);
        let reply = {
            let mut frame = arp(THEIRS, IP, other);
            frame[21] = 2;
            frame
        };
        #[rustfmt::skip]
        let cases = [
            ("our announcement",      announcement(IP.into(), OURS),      None),
            ("their announcement",    announcement(IP.into(), THEIRS),    Some(Heard::Claimed(THEIRS))),
            ("their answer",          reply,                              Some(Heard::Claimed(THEIRS))),
            ("a question",            arp(THEIRS, other, IP),             Some(Heard::Asked)),
            ("their probe",           arp_probe(IP, THEIRS),              Some(Heard::Asked)),
            ("about somebody else",   arp(THEIRS, other, other),          None),
            ("cut short",             arp(THEIRS, IP, IP)[..41].to_vec(), None),
            ("no ARP",                announcement("2001:db8::1".parse().expect("valid"), THEIRS), None),
            ("nothing",               Vec::new(),                         None),
        ];
        for (why, frame, heard) in cases {
            assert_eq!(hear(&frame, IP, OURS), heard, "{why}");
        }
    }

    /// Goal: the very bytes of RFC 4861, with a checksum that a receiver accepts: the sum over everything is zero.
    #[test]
    fn an_advertisement_is_as_the_standard_draws_it() {
        let ip: Ipv6Addr = "2001:db8::10".parse().expect("valid");
        let frame = announcement(ip.into(), OURS);
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[12..14], ETHERTYPE_IPV6);
        assert_eq!((frame[20], frame[21]), (ICMPV6, 255));
        let message = &frame[54..];
        assert_eq!((message[0], message[4]), (136, 0x20));
        assert_eq!(message[8..24], ip.octets());
        assert_eq!(message[24..], [&[2, 1][..], &OURS.0].concat());
        assert_eq!(checksum(ip, ALL_NODES, message), 0);
    }
}
