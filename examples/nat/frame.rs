//! A frame with an IPv4 packet of a flow: what it says, and the same frame with one of its ends changed.
//!
//! ```text
//!   ├ Ethernet 14 ┼ IPv4 20 to 60 ┼ TCP, UDP, ICMP echo ┼ …
//!                                 └ ICMP error 8 ┼ IPv4 ┼ what it is about, 8 bytes or more
//! ```
//!
//! Everything here is what a stranger sent: each length is checked, and nothing panics. An ICMP error bears the ends of the flow
//! that it is about, as an answer to it would.

use crate::checksum::{Change, sum};

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];
/// An IPv4 address.
pub(crate) type Ip = [u8; 4];

/// Bytes of an Ethernet header without a tag.
pub(crate) const ETHERNET: usize = 14;
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// What kind of frame this is; `None` if it has no whole header.
pub(crate) fn kind(frame: &[u8]) -> Option<u16> {
    number(frame, 12)
}

/// Whom it is for; `None` as above.
pub(crate) fn destination(frame: &[u8]) -> Option<Mac> {
    frame.first_chunk().copied()
}

/// One end of a flow. The port of an echo is its identifier, and zero at the end that answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct End {
    pub(crate) ip: Ip,
    pub(crate) port: u16,
}

/// What a packet means for its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    Tcp {
        syn: bool,
        ack: bool,
        fin: bool,
        rst: bool,
    },
    Udp,
    EchoRequest,
    EchoReply,
    /// Somebody says what became of a packet of the flow.
    Error,
}

/// The ends of a cable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) from: Mac,
    pub(crate) to: Mac,
}

/// Which end is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    Source(End),
    Destination(End),
}

/// A packet of a flow, as a frame holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'f> {
    /// Without what Ethernet pads short frames with.
    frame: &'f [u8],
    transport: usize,
    /// Of the flow: that of the packet, or of what an error is about.
    pub(crate) protocol: u8,
    pub(crate) from: End,
    pub(crate) to: End,
    pub(crate) content: Content,
}

/// An IPv4 header.
struct Header {
    bytes: usize,
    total: usize,
    protocol: u8,
    from: Ip,
    to: Ip,
    is_fragment: bool,
}

const TRUNCATED: &str = "truncated";
const IPV4: u16 = 0x0800;

impl<'f> Packet<'f> {
    /// Reads a frame; the error is the reason for which it is dropped.
    pub(crate) fn read(frame: &'f [u8]) -> Result<Packet<'f>, &'static str> {
        if kind(frame).ok_or(TRUNCATED)? != IPV4 {
            return Err("not IPv4");
        }
        let packet = &frame[ETHERNET..];
        let header = Header::read(packet)?;
        if header.total < header.bytes {
            return Err("IPv4 header malformed");
        }
        let packet = packet.get(..header.total).ok_or(TRUNCATED)?;
        if sum(&packet[..header.bytes]) != 0xffff {
            return Err("IPv4 checksum wrong");
        }
        if header.is_fragment {
            // Only the first one has ports, and to keep it until the others came would be state that strangers make.
            return Err("fragment");
        }
        let frame = &frame[..ETHERNET + header.total];
        let transport = ETHERNET + header.bytes;
        let whole = Packet {
            frame,
            transport,
            protocol: header.protocol,
            from: End { ip: header.from, port: 0 },
            to: End { ip: header.to, port: 0 },
            content: Content::Error,
        };
        match header.protocol {
            TCP => whole.tcp(),
            UDP => whole.udp(),
            ICMP => whole.icmp(),
            _ => Err("protocol not translated"),
        }
    }

    fn tcp(self) -> Result<Packet<'f>, &'static str> {
        let segment = &self.frame[self.transport..];
        if segment.len() < 20 {
            return Err(TRUNCATED);
        }
        let header = usize::from(segment[12] >> 4) * 4;
        if !(20..=segment.len()).contains(&header) {
            return Err("TCP header malformed");
        }
        let flag = |bit: u8| segment[13] & bit != 0;
        let content =
            Content::Tcp { fin: flag(0x01), syn: flag(0x02), rst: flag(0x04), ack: flag(0x10) };
        Ok(self.with_ports(content))
    }

    fn udp(self) -> Result<Packet<'f>, &'static str> {
        let datagram = &self.frame[self.transport..];
        if datagram.len() < 8 {
            return Err(TRUNCATED);
        }
        match usize::from(word(datagram, 4)) {
            len if len < 8 => Err("UDP header malformed"),
            len if len > datagram.len() => Err(TRUNCATED),
            _ => Ok(self.with_ports(Content::Udp)),
        }
    }

    fn with_ports(mut self, content: Content) -> Packet<'f> {
        self.from.port = word(self.frame, self.transport);
        self.to.port = word(self.frame, self.transport + 2);
        self.content = content;
        self
    }

    fn icmp(mut self) -> Result<Packet<'f>, &'static str> {
        let message = &self.frame[self.transport..];
        if message.len() < 8 {
            return Err(TRUNCATED);
        }
        match message[0] {
            8 => {
                self.from.port = word(message, 4);
                self.content = Content::EchoRequest;
                Ok(self)
            }
            0 => {
                self.to.port = word(message, 4);
                self.content = Content::EchoReply;
                Ok(self)
            }
            // Not delivered, took too long, not understood.
            3 | 11 | 12 => self.error(&message[8..]),
            _ => Err("ICMP not translated"),
        }
    }

    /// `about` is what was sent by the end that hears of it now.
    fn error(mut self, about: &[u8]) -> Result<Packet<'f>, &'static str> {
        let header = Header::read(about)?;
        if header.is_fragment {
            return Err("fragment");
        }
        if header.from != self.to.ip {
            return Err("ICMP error to somebody else");
        }
        let transport =
            about.get(header.bytes..).filter(|rest| rest.len() >= 8).ok_or(TRUNCATED)?;
        self.protocol = header.protocol;
        self.from.ip = header.to;
        match header.protocol {
            TCP | UDP => {
                self.to.port = word(transport, 0);
                self.from.port = word(transport, 2);
            }
            ICMP if transport[0] == 8 => self.to.port = word(transport, 4),
            _ => return Err("ICMP error about something else"),
        }
        Ok(self)
    }

    /// The frame as it goes on: one end replaced, one hop older, on another cable.
    pub(crate) fn turned(&self, turn: Turn, link: Link) -> Result<Vec<u8>, &'static str> {
        let mut frame = self.frame.to_vec();
        let [life, protocol] = [frame[ETHERNET + 8], frame[ETHERNET + 9]];
        if life <= 1 {
            return Err("time to live");
        }
        Change::replace(&mut frame, ETHERNET + 8, &[life - 1, protocol])
            .apply(&mut frame, ETHERNET + 10);
        if self.content == Content::Error {
            let about = self.transport + 8;
            let (new, answered) = match turn {
                Turn::Source(end) => (end, Turn::Destination(end)),
                Turn::Destination(end) => (end, Turn::Source(end)),
            };
            let transport = about + usize::from(frame[about] & 0xf) * 4;
            turn_headers(&mut frame, about, transport, self.protocol, answered)
                .apply(&mut frame, self.transport + 2);
            let at = ETHERNET + if turn == Turn::Source(new) { 12 } else { 16 };
            Change::replace(&mut frame, at, &new.ip).apply(&mut frame, ETHERNET + 10);
        } else {
            turn_headers(&mut frame, ETHERNET, self.transport, self.protocol, turn);
        }
        frame[..6].copy_from_slice(&link.to);
        frame[6..12].copy_from_slice(&link.from);
        Ok(frame)
    }
}

/// Replaces one end in an IPv4 header and what stands behind it, and brings both checksums up to date. Returns by how much the sum
/// over all of it changed.
fn turn_headers(frame: &mut [u8], ip: usize, transport: usize, protocol: u8, turn: Turn) -> Change {
    let (end, address_at, port_at) = match turn {
        Turn::Source(end) => (end, ip + 12, transport),
        Turn::Destination(end) => (end, ip + 16, transport + 2),
    };
    let (port_at, checksum_at) = match protocol {
        TCP => (port_at, transport + 16),
        UDP => (port_at, transport + 6),
        _ => (transport + 4, transport + 2),
    };
    let address = Change::replace(frame, address_at, &end.ip);
    let header = address.apply(frame, ip + 10);
    let port = Change::replace(frame, port_at, &end.port.to_be_bytes());
    let checksum = match protocol {
        // Of what an error is about there may be no more than eight bytes.
        _ if checksum_at + 2 > frame.len() => Change::default(),
        TCP => address.and(port).apply(frame, checksum_at),
        UDP => address.and(port).apply_udp(frame, checksum_at),
        // The addresses are no part of this sum.
        _ => port.apply_icmp(frame, transport),
    };
    address.and(header).and(port).and(checksum)
}

impl Header {
    fn read(packet: &[u8]) -> Result<Header, &'static str> {
        if packet.len() < 20 {
            return Err(TRUNCATED);
        }
        let bytes = usize::from(packet[0] & 0xf) * 4;
        if packet[0] >> 4 != 4 || bytes < 20 {
            return Err("IPv4 header malformed");
        }
        if packet.len() < bytes {
            return Err(TRUNCATED);
        }
        Ok(Header {
            bytes,
            total: usize::from(word(packet, 2)),
            protocol: packet[9],
            from: [packet[12], packet[13], packet[14], packet[15]],
            to: [packet[16], packet[17], packet[18], packet[19]],
            // More of them follow, or some came before.
            is_fragment: word(packet, 6) & 0x3fff != 0,
        })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}

/// The same where the length has been checked.
fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
impl Packet<'static> {
    /// One without bytes, for what only looks at its ends.
    pub(crate) fn in_test(protocol: u8, from: End, to: End, content: Content) -> Self {
        Packet { frame: &[], transport: 0, protocol, from, to, content }
    }
}

#[cfg(test)]
#[path = "frame/tests.rs"] // also where the fuzzer includes this file
pub(crate) mod tests;
