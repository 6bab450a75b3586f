//! The kind `packet`: whole Ethernet frames of one interface, in and out.
//!
//! A frame is read as it was on the wire, a VLAN tag included, and what workers emit leaves as it is. What this host itself
//! sends by the interface is not read. While the host does not serve, a filter in the kernel keeps every frame away: those of
//! that time were for whoever served.
//!
//! Frames that the network card or the kernel has merged (GRO, LRO) are longer than any that was on the wire, and dropped as
//! too long: `ethtool -K IFACE gro off lro off` on the interfaces of a frame service, and `tso off gso off` at virtual peers.

mod socket;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use crate::inlet::Inlet;
use crate::kind::{PacketSink, PacketSource};
use crate::mmsg::{Datagram, Outgoing, Receiver, SendError, Sender};
use crate::port::PortConfig;
use crate::sockaddr::Family;
use socket::FrameSocket;

/// Where frames come from, and may be sent to: there is one place only.
pub(crate) const ONE_PLACE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Frames of one read.
const BATCH: usize = 64;
/// A VLAN tag, which the kernel takes off and tells beside the frame.
const TAG_BYTES: usize = 4;
/// Behind both addresses of a frame.
const TAG_AT: usize = 12;

pub(crate) struct FramePort {
    inlet: Inlet<FrameSocket>,
    sender: Sender,
    lost: u64,
}

impl FramePort {
    pub(crate) fn open(interface: &str, config: &PortConfig) -> io::Result<FramePort> {
        let count = config.receive_batch.min(BATCH);
        Ok(FramePort {
            inlet: Inlet::new(FrameSocket::open(interface)?, Receiver::informed(count), count),
            sender: Sender::new(config.send_batch, Family::V4),
            lost: 0,
        })
    }
}

impl PacketSource for FramePort {
    const PUSHES_BACK: bool = false;

    fn receive<'b>(
        &mut self,
        buffers: impl Iterator<Item = &'b mut [u8]>,
        into: &mut Vec<Datagram>,
    ) -> io::Result<()> {
        let mut lent: [&mut [u8]; BATCH] = std::array::from_fn(|_| Default::default());
        let mut count = 0;
        for (place, buffer) in lent.iter_mut().zip(buffers) {
            *place = buffer;
            count += 1;
        }
        // Room is left for the tag.
        let rooms = lent[..count].iter_mut().map(|buffer| {
            let room = buffer.len().saturating_sub(TAG_BYTES);
            &mut buffer[..room]
        });
        let received = self.inlet.receive(rooms)?;
        for (datagram, buffer) in received.zip(&mut lent) {
            let mut datagram = Datagram { source: Some(ONE_PLACE), ..datagram };
            if let Some((protocol, tag)) = datagram.vlan
                && !datagram.truncated
                && datagram.len >= TAG_AT
            {
                put_tag_back(buffer, datagram.len, protocol, tag);
                datagram.len += TAG_BYTES;
            }
            into.push(datagram);
        }
        Ok(())
    }

    fn discard(&mut self, count: usize, into: &mut Vec<Datagram>) -> io::Result<()> {
        self.inlet.discard(count, into)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.inlet.descriptor())
    }

    fn lost_before(&mut self) -> Option<u64> {
        if !self.inlet.may_ask() {
            return None;
        }
        self.lost += u64::from(self.inlet.socket.take_drops());
        Some(self.lost)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.inlet.socket.let_in()
    }

    fn end(&mut self) {
        self.inlet.socket.keep_out();
        // What came before: it is not answered here any more.
        let mut late = Vec::new();
        while self.discard(BATCH, &mut late).is_ok() && !late.is_empty() {
            self.lost += late.drain(..).count() as u64;
        }
    }
}

impl PacketSink for FramePort {
    const ADDRESSED: bool = false;

    fn send<'p>(
        &mut self,
        packets: impl Iterator<Item = (&'p [u8], SocketAddr)>,
    ) -> Result<usize, SendError> {
        let packets = packets.map(|(payload, _)| Outgoing { payload, to: None, from: None });
        self.sender.send_all(self.inlet.descriptor(), packets)
    }
}

/// The tag of a frame of `len` bytes stands again where it was on the wire.
fn put_tag_back(buffer: &mut [u8], len: usize, protocol: u16, tag: u16) {
    buffer.copy_within(TAG_AT..len, TAG_AT + TAG_BYTES);
    buffer[TAG_AT..TAG_AT + 2].copy_from_slice(&protocol.to_be_bytes());
    buffer[TAG_AT + 2..TAG_AT + TAG_BYTES].copy_from_slice(&tag.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_stands_where_it_was() {
        let frame: Vec<u8> = (0..40).collect();
        let mut buffer = [&frame[..], &[0xee; TAG_BYTES]].concat();
        put_tag_back(&mut buffer, frame.len(), 0x8100, 0x2005);
        assert_eq!(buffer, [&frame[..12], &[0x81, 0, 0x20, 5], &frame[12..]].concat());
    }
}
