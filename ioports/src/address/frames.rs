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
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Options of both: whose hardware address follows.
const OF_SOURCE: u8 = 1;
const OF_TARGET: u8 = 2;
/// Of Ethernet and IPv6 together, before the message; and of the message, before its options.
const HEADERS_BYTES: usize = 14 + 40;
const MESSAGE_BYTES: usize = 24;
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
pub(super) fn probe(ip: IpAddr, from: HardwareAddress) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp(from, Ipv4Addr::UNSPECIFIED, ip),
        IpAddr::V6(ip) => solicitation(ip, from),
    }
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
    message.extend([OF_TARGET, 1]); // in units of eight bytes
    message.extend(at.0);
    neighbours(at, ip, ALL_NODES, message)
}

/// From our link-local address and not from none, as duplicate address detection asks: the answer to that goes to everybody, and
/// would turn the network to whoever else has the address. Ours is made of the hardware address, which the answer finds even if
/// the kernel has chosen another.
fn solicitation(ip: Ipv6Addr, from: HardwareAddress) -> Vec<u8> {
    let [a, b, c, d, e, f] = from.0;
    let own = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f].into();
    let [.., x, y, z] = ip.octets();
    let asked = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z].into();
    let mut message = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(ip.octets());
    message.extend([OF_SOURCE, 1]);
    message.extend(from.0);
    neighbours(from, own, asked, message)
}

/// A message of neighbour discovery to a group, its checksum still zero.
fn neighbours(at: HardwareAddress, from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum(from, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(HEADERS_BYTES + message.len());
    frame.extend([0x33, 0x33]);
    frame.extend(&to.octets()[12..]);
    frame.extend(at.0);
    frame.extend(ETHERTYPE_IPV6);
    let len = u16::try_from(message.len()).expect("32 bytes");
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(len.to_be_bytes());
    frame.extend([ICMPV6, 255]); // 255 proves that no router has passed it on
    frame.extend(from.octets());
    frame.extend(to.octets());
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

/// What somebody else's frame says about an address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// "It is at this hardware address."
    Claimed(HardwareAddress),
    /// "Where is it?"
    Asked,
}

/// Reads a frame; nothing if it is not about `ip`, or is our own.
pub(super) fn hear(frame: &[u8], ip: IpAddr, own: HardwareAddress) -> Option<Heard> {
    match ip {
        IpAddr::V4(ip) => hear_arp(frame, ip, own),
        IpAddr::V6(ip) => hear_neighbours(frame, ip, own),
    }
}

/// An advertisement of it by another card, or anything that another card says from it, claims it.
fn hear_neighbours(frame: &[u8], ip: Ipv6Addr, own: HardwareAddress) -> Option<Heard> {
    let (next, hops) = (*frame.get(20)?, *frame.get(21)?);
    if frame.get(12..14)? != ETHERTYPE_IPV6 || (next, hops) != (ICMPV6, 255) {
        return None;
    }
    let message = frame.get(HEADERS_BYTES..)?;
    let (kind, about) = (*message.first()?, message.get(8..MESSAGE_BYTES)?);
    let named = match kind {
        NEIGHBOUR_ADVERTISEMENT => option(message, OF_TARGET),
        NEIGHBOUR_SOLICITATION => option(message, OF_SOURCE),
        _ => return None,
    };
    // An answer to one alone need not name the card.
    let at = named.or_else(|| frame.get(6..12)?.try_into().ok()).map(HardwareAddress)?;
    if at == own {
        return None;
    }
    let says = frame.get(22..38)? == ip.octets();
    match (kind, about == ip.octets()) {
        (NEIGHBOUR_ADVERTISEMENT, true) => Some(Heard::Claimed(at)),
        _ if says => Some(Heard::Claimed(at)),
        (_, asked) => asked.then_some(Heard::Asked),
    }
}

/// The hardware address in an option of a message of neighbour discovery.
fn option(message: &[u8], wanted: u8) -> Option<[u8; 6]> {
    let mut options = message.get(MESSAGE_BYTES..)?;
    loop {
        let (kind, bytes) = (*options.first()?, usize::from(*options.get(1)?) * 8);
        if kind == wanted {
            return options.get(2..8)?.try_into().ok();
        }
        options = options.get(bytes..).filter(|_| bytes > 0)?;
    }
}

fn hear_arp(frame: &[u8], ip: Ipv4Addr, own: HardwareAddress) -> Option<Heard> {
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
            ("their probe",           probe(IP.into(), THEIRS),           Some(Heard::Asked)),
            ("about somebody else",   arp(THEIRS, other, other),          None),
            ("cut short",             arp(THEIRS, IP, IP)[..41].to_vec(), None),
            ("no ARP",                announcement("2001:db8::1".parse().expect("valid"), THEIRS), None),
            ("nothing",               Vec::new(),                         None),
        ];
        for (why, frame, heard) in cases {
            assert_eq!(hear(&frame, IP.into(), OURS), heard, "{why}");
        }
    }

    #[test]
    fn what_neighbours_say_of_ipv6_is_told_apart() {
        let ip: Ipv6Addr = "2001:db8::10".parse().expect("valid");
        let other: Ipv6Addr = "2001:db8::99".parse().expect("valid");
        let theirs = announcement(ip.into(), THEIRS);
        let changed = |at: usize, byte: u8| {
            let mut frame = theirs.clone();
            frame[at] = byte;
            frame
        };
        // Somebody who has the address looks for a neighbour.
        let using = neighbours(THEIRS, ip, other, {
            let mut message = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            message.extend(other.octets());
            message
        });
        #[rustfmt::skip]
        let cases = [
            ("our announcement",        announcement(ip.into(), OURS),       None),
            ("our probe",               probe(ip.into(), OURS),              None),
            ("their announcement",      theirs.clone(),                      Some(Heard::Claimed(THEIRS))),
            ("without its option",      theirs[..78].to_vec(),               Some(Heard::Claimed(THEIRS))),
            ("an option without end",   changed(79, 0),                      Some(Heard::Claimed(THEIRS))),
            ("another option, empty",   [changed(78, 9)[..79].to_vec(), vec![0; 7]].concat(), Some(Heard::Claimed(THEIRS))),
            ("from behind a router",    changed(21, 64),                     None),
            ("another protocol",        changed(20, 17),                     None),
            ("another message",         changed(54, 128),                    None),
            ("their probe",             probe(ip.into(), THEIRS),            Some(Heard::Asked)),
            ("they use it",             using,                               Some(Heard::Claimed(THEIRS))),
            ("about somebody else",     announcement(other.into(), THEIRS),  None),
            ("cut short",               theirs[..77].to_vec(),               None),
            ("ARP",                     announcement(IP.into(), THEIRS),     None),
            ("nothing",                 Vec::new(),                          None),
        ];
        for (why, frame, heard) in cases {
            assert_eq!(hear(&frame, ip.into(), OURS), heard, "{why}");
        }
    }

    /// Goal: who has the address answers us alone: the question comes from an address of ours, to the group of the one in question.
    #[test]
    fn a_solicitation_is_as_the_standard_draws_it() {
        let ip: Ipv6Addr = "2001:db8::1:2345:6789".parse().expect("valid");
        let frame = probe(ip.into(), OURS);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x45, 0x67, 0x89]);
        let from: Ipv6Addr = "fe80::ff:fe00:1".parse().expect("valid");
        let to: Ipv6Addr = "ff02::1:ff45:6789".parse().expect("valid");
        assert_eq!((&frame[22..38], &frame[38..54]), (&from.octets()[..], &to.octets()[..]));
        let message = &frame[54..];
        assert_eq!((message[0], &message[8..24]), (135, &ip.octets()[..]));
        assert_eq!(message[24..], [&[1, 1][..], &OURS.0].concat());
        assert_eq!(checksum(from, to, message), 0);
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
