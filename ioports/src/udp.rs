//! The kind `udp`: one socket, many datagrams a call.
//!
//! A socket of all addresses answers from the address that was asked. The port remembers it for each peer, in a table of
//! fixed size: who has not spoken to this process yet, as after a failover, is answered from the address that the kernel
//! chooses. A socket of one address, as a service address is, has no such question.

mod config;
mod gro;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;

use nix::sys::socket::{setsockopt, sockopt};

use crate::descriptor::kernel_drops;
use crate::inlet::Inlet;
use crate::kind::{PacketSink, PacketSource};
use crate::mmsg::{Datagram, Outgoing, Receiver, SendError, Sender};
use crate::port::PortConfig;
use crate::sockaddr::Family;
pub use config::{Group, ParseGroupError, UdpConfig};
use gro::Together;

/// Peers of which it is known which address they asked.
const ASKED: usize = 4096;

pub(crate) struct UdpPort {
    inlet: Inlet<UdpSocket>,
    sender: Sender,
    /// Where datagrams come in that the kernel has put together.
    together: Option<Together>,
    asked: Option<Asked>,
    groups: Vec<Group>,
}

impl UdpPort {
    pub(crate) fn new(
        socket: UdpSocket,
        config: &PortConfig,
        udp: &UdpConfig,
    ) -> io::Result<UdpPort> {
        let local = socket.local_addr()?;
        let family = Family::of(&local);
        let all = local.ip().is_unspecified();
        if all && family == Family::V4 {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else if all {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        if udp.timestamps {
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        }
        let count = config.receive_batch;
        let receiver = match all || udp.timestamps {
            true => Receiver::informed(count),
            false => Receiver::new(count),
        };
        let sender = match udp.segment {
            true => Sender::segmenting(config.send_batch, family),
            false => Sender::new(config.send_batch, family),
        };
        Ok(UdpPort {
            inlet: Inlet::new(socket, receiver, count),
            sender,
            together: udp.gro.then(|| Together::new(count, config.packet_bytes_max)),
            asked: all.then(Asked::new),
            groups: udp.multicast.clone(),
        })
    }
}

impl PacketSource for UdpPort {
    const PUSHES_BACK: bool = false;

    fn receive<'b>(
        &mut self,
        buffers: impl Iterator<Item = &'b mut [u8]>,
        into: &mut Vec<Datagram>,
    ) -> io::Result<()> {
        match &mut self.together {
            Some(together) => together.receive(self.inlet.descriptor(), buffers, into)?,
            None => into.extend(self.inlet.receive(buffers)?),
        }
        if let Some(asked) = &mut self.asked {
            for datagram in &*into {
                if let (Some(peer), Some(local)) = (datagram.source, datagram.local) {
                    asked.note(peer, local);
                }
            }
        }
        Ok(())
    }

    fn discard(&mut self, count: usize, into: &mut Vec<Datagram>) -> io::Result<()> {
        match &mut self.together {
            Some(together) => together.discard(self.inlet.descriptor(), count, into),
            None => self.inlet.discard(count, into),
        }
    }

    fn has_left_over(&self) -> bool {
        self.together.as_ref().is_some_and(|together| !together.is_empty())
    }

    fn forget_left_over(&mut self) -> u64 {
        self.together.as_mut().map_or(0, Together::forget)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.inlet.descriptor())
    }

    fn lost_before(&mut self) -> Option<u64> {
        if !self.inlet.may_ask() {
            return None;
        }
        kernel_drops(self.inlet.descriptor()).ok().map(u64::from)
    }

    fn begin(&mut self) -> io::Result<()> {
        // Only now: before, another port reads from this very socket, and may not expect it.
        let gro = self.together.is_some();
        match setsockopt(&self.inlet.socket, sockopt::UdpGroSegment, &gro) {
            // Kernels before 5.0 do not know what is not wanted either.
            Err(errno) if gro => return Err(errno.into()),
            _ => {}
        }
        self.groups.iter().try_for_each(|group| group.join(&self.inlet.socket))
    }

    fn end(&mut self) {
        // What is sent to a group is for whoever serves: here it would only wait, and be old later.
        self.groups.iter().for_each(|group| group.leave(&self.inlet.socket));
    }
}

impl PacketSink for UdpPort {
    fn send<'p>(
        &mut self,
        packets: impl Iterator<Item = (&'p [u8], SocketAddr)>,
    ) -> Result<usize, SendError> {
        let asked = &self.asked;
        let packets = packets.map(|(payload, to)| Outgoing {
            payload,
            to: Some(to),
            from: asked.as_ref().and_then(|asked| asked.by(to)),
        });
        self.sender.send_all(self.inlet.descriptor(), packets)
    }
}

/// Which of this host's addresses a peer asked last. Peers that meet in one place push each other out.
struct Asked {
    hash: RandomState,
    places: Box<[Option<(SocketAddr, IpAddr)>]>,
}

impl Asked {
    fn new() -> Self {
        Asked { hash: RandomState::new(), places: vec![None; ASKED].into_boxed_slice() }
    }

    fn place(&self, peer: &SocketAddr) -> usize {
        self.hash.hash_one(peer) as usize % ASKED
    }

    fn note(&mut self, peer: SocketAddr, local: IpAddr) {
        let place = self.place(&peer);
        self.places[place] = Some((peer, local));
    }

    fn by(&self, peer: SocketAddr) -> Option<IpAddr> {
        self.places[self.place(&peer)].filter(|(known, _)| *known == peer).map(|(_, local)| local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_answered_from_the_address_that_it_asked_last() {
        let mut asked = Asked::new();
        let peer: SocketAddr = "192.0.2.1:9".parse().expect("an address");
        assert_eq!(asked.by(peer), None);
        for local in ["127.0.0.2", "127.0.0.3"] {
            let local: IpAddr = local.parse().expect("an address");
            asked.note(peer, local);
            assert_eq!(asked.by(peer), Some(local));
        }
        // However many come, the table stays as it is, and nobody is answered from another's address.
        for number in 0..3 * ASKED as u32 {
            asked.note(SocketAddr::from((number.to_be_bytes(), 7)), IpAddr::from([127, 0, 0, 9]));
        }
        assert_eq!(asked.places.len(), ASKED);
        assert!(asked.by(peer).is_none_or(|local| local == IpAddr::from([127, 0, 0, 3])));
    }
}
