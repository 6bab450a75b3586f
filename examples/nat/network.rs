//! Where the NAT stands: its addresses on both sides, and which packets are for it.
//!
//! Its Ethernet addresses are made of its IPv4 addresses, so they are the same on both hosts, and no neighbour has to learn a new one
//! after a failover: the switch alone learns where they are now. The side that a frame came from is told by its destination, which
//! the port of that side has looked at before anything else.

use std::net::Ipv4Addr;
use std::str::FromStr;

use clap::Args;

use crate::arp::{ARP, Arp};
use crate::frame::{self, Content, Ip, Mac, Packet};
use crate::slice::{self, Key};

/// A side of the NAT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Side {
    /// Where the hosts are whose addresses are hidden.
    Inside,
    /// Where everybody else is.
    Outside,
}

impl Side {
    /// The key of the object that answers for the NAT's address there.
    pub(crate) fn key(self) -> &'static [u8] {
        match self {
            Side::Inside => b"inside",
            Side::Outside => b"outside",
        }
    }

    pub(crate) fn of_key(key: &[u8]) -> Option<Side> {
        [Side::Inside, Side::Outside].into_iter().find(|side| side.key() == key)
    }
}

/// The NAT's addresses. The same for ports and workers of both hosts.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Network {
    /// Its address inside, which the hosts there have as their gateway, and their network: 10.0.0.1/24.
    #[arg(long)]
    inside: Subnet,
    /// Its address outside.
    #[arg(long)]
    outside: Ipv4Addr,
    /// The next hop outside, for all packets.
    #[arg(long)]
    gateway: Ipv4Addr,
}

/// An address and the network that it is in.
#[derive(Clone, Copy, Debug)]
struct Subnet {
    ip: Ipv4Addr,
    bits: u32,
}

/// A text that is no address with the length of its network.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{0}` is no address with its network, such as 10.0.0.1/24")]
pub(crate) struct NoSubnet(String);

impl FromStr for Subnet {
    type Err = NoSubnet;

    fn from_str(text: &str) -> Result<Self, NoSubnet> {
        let wrong = || NoSubnet(text.to_owned());
        let (ip, bits) = text.split_once('/').ok_or_else(wrong)?;
        let bits = bits.parse().ok().filter(|bits| (1..=30).contains(bits)).ok_or_else(wrong)?;
        Ok(Subnet { ip: ip.parse().map_err(|_| wrong())?, bits })
    }
}

impl Subnet {
    fn contains(&self, ip: Ip) -> bool {
        (u32::from_be_bytes(ip) ^ self.ip.to_bits()) >> (32 - self.bits) == 0
    }
}

impl Network {
    pub(crate) fn ip(&self, side: Side) -> Ip {
        match side {
            Side::Inside => self.inside.ip.octets(),
            Side::Outside => self.outside.octets(),
        }
    }

    /// Locally administered: `02:4e`, and the address.
    pub(crate) fn mac(&self, side: Side) -> Mac {
        let [a, b, c, d] = self.ip(side);
        [0x02, 0x4e, a, b, c, d]
    }

    pub(crate) fn gateway(&self) -> Ip {
        self.gateway.octets()
    }

    /// The side on which a frame was read, as the port there has checked.
    pub(crate) fn side_of(&self, frame: &[u8]) -> Option<Side> {
        let to = frame::destination(frame)?;
        [Side::Inside, Side::Outside].into_iter().find(|side| self.mac(*side) == to)
    }

    /// The object that a frame read on `side` is for; the error is the reason for which it is dropped.
    pub(crate) fn object_of(&self, side: Side, frame: &[u8]) -> Result<Object, &'static str> {
        if frame::kind(frame) == Some(ARP) {
            let arp = Arp::read(frame).ok_or("ARP malformed")?;
            let from_gateway = side == Side::Outside && arp.from.1 == self.gateway();
            let about_us = arp.to.1 == self.ip(side) || from_gateway;
            return if about_us { Ok(Object::Neighbours(side)) } else { Err("ARP of others") };
        }
        if frame::destination(frame) != Some(self.mac(side)) {
            return Err("for others");
        }
        let packet = Packet::read(frame)?;
        let slice = match side {
            Side::Inside => self.slice_from_inside(&packet)?,
            Side::Outside => self.slice_from_outside(&packet)?,
        };
        Ok(Object::Slice(slice::key(packet.protocol, slice)))
    }

    fn slice_from_inside(&self, packet: &Packet<'_>) -> Result<u16, &'static str> {
        if !self.inside.contains(packet.from.ip) || packet.from.ip == self.ip(Side::Inside) {
            return Err("no address of inside");
        }
        if self.inside.contains(packet.to.ip) || packet.to.ip == self.ip(Side::Outside) {
            return Err("to the NAT itself");
        }
        let [first, ..] = packet.to.ip;
        if matches!(first, 0 | 127 | 224..) {
            return Err("to no host");
        }
        match packet.content {
            Content::EchoReply | Content::Error => Err("an answer, from inside"),
            _ => Ok(slice::of_inside(packet).0),
        }
    }

    fn slice_from_outside(&self, packet: &Packet<'_>) -> Result<u16, &'static str> {
        if packet.to.ip != self.ip(Side::Outside) {
            return Err("not to our address");
        }
        match packet.content {
            Content::EchoRequest => Err("a question, from outside"),
            _ => slice::of_outside(packet.to.port).ok_or("to a port that is never given away"),
        }
    }
}

/// What a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Object {
    Slice(Key),
    Neighbours(Side),
}

#[cfg(test)]
impl Network {
    /// 10.0.0.1/24 inside, 203.0.113.1 outside, 203.0.113.254 beyond.
    pub(crate) fn in_test() -> Network {
        Network {
            inside: "10.0.0.1/24".parse().expect("a network"),
            outside: Ipv4Addr::new(203, 0, 113, 1),
            gateway: Ipv4Addr::new(203, 0, 113, 254),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::tests::{arrives, echo, segment};
    use crate::frame::{End, TCP, UDP};

    const HOST: End = End { ip: [10, 0, 0, 9], port: 4000 };
    const REMOTE: End = End { ip: [192, 0, 2, 1], port: 80 };
    const US: End = End { ip: [203, 0, 113, 1], port: 2_055 };

    #[test]
    fn a_network_is_written_with_its_length() {
        for wrong in ["", "10.0.0.1", "10.0.0/24", "10.0.0.1/0", "10.0.0.1/31", "x/24"] {
            let error = wrong.parse::<Subnet>().expect_err(wrong);
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }

    #[test]
    fn each_side_takes_what_is_for_it_and_refuses_the_rest() {
        let network = Network::in_test();
        let of = |side, frame: Vec<u8>| network.object_of(side, &arrives(frame, network.mac(side)));
        let udp = |from, to| segment(UDP, from, to, &[]);
        let inside = of(Side::Inside, udp(HOST, REMOTE));
        assert!(matches!(inside, Ok(Object::Slice([UDP, ..]))), "{inside:?}");
        let outside = of(Side::Outside, segment(TCP, REMOTE, US, &[]));
        assert_eq!(outside, Ok(Object::Slice(slice::key(TCP, 7))));
        let host = |ip| End { ip, port: 9 };
        #[rustfmt::skip]
        let cases = [
            ("no address of inside",    Side::Inside,  udp(host([10, 0, 1, 9]), REMOTE)),
            ("no address of inside",    Side::Inside,  udp(host([10, 0, 0, 1]), REMOTE)),
            ("to the NAT itself",       Side::Inside,  udp(HOST, host([10, 0, 0, 1]))),
            ("to the NAT itself",       Side::Inside,  udp(HOST, US)),
            ("to no host",              Side::Inside,  udp(HOST, host([224, 0, 0, 1]))),
            ("an answer, from inside",  Side::Inside,  echo(0, HOST, REMOTE)),
            ("not to our address",      Side::Outside, udp(REMOTE, HOST)),
            ("a question, from outside", Side::Outside, echo(8, REMOTE, US)),
            ("to a port that is never given away", Side::Outside, udp(REMOTE, End { port: 1023, ..US })),
        ];
        for (reason, side, frame) in cases {
            assert_eq!(of(side, frame), Err(reason));
        }
        let foreign = arrives(udp(HOST, REMOTE), [2; 6]);
        assert_eq!(network.object_of(Side::Inside, &foreign), Err("for others"));
        assert_eq!(network.object_of(Side::Inside, &[]), Err("for others"));
    }

    #[test]
    fn neighbours_are_told_apart_by_side() {
        let network = Network::in_test();
        let ask = |side, ip| network.object_of(side, &Arp::question(([2; 6], [10, 0, 0, 9]), ip));
        assert_eq!(ask(Side::Inside, [10, 0, 0, 1]), Ok(Object::Neighbours(Side::Inside)));
        assert_eq!(ask(Side::Outside, [203, 0, 113, 1]), Ok(Object::Neighbours(Side::Outside)));
        assert_eq!(ask(Side::Outside, [10, 0, 0, 1]), Err("ARP of others"));
        let gateway = Arp::question(([2; 6], network.gateway()), network.gateway());
        assert_eq!(
            network.object_of(Side::Outside, &gateway),
            Ok(Object::Neighbours(Side::Outside))
        );
        assert_eq!(network.object_of(Side::Inside, &gateway), Err("ARP of others"));
    }
}
