//! What differs between kinds of ports: where packets come from, and how they leave.
//!
//! ```text
//!   socket, connections,        PacketSource                 the one loop
//!   interface, file     ──────► receive ─► blocks ─────────► classify, deliver
//!                               wants, settle ◄───────────── what became of each
//!                        ◄───── PacketSink: send ◄────────── released packets
//! ```
//!
//! The loop of [`port`](crate::port) is generic over these two traits and knows nothing of sockets. What every kind must do
//! alike is what `tests/kinds.rs` runs on each of them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::mmsg::{Datagram, SendError};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is a message of its object.
    Delivered,
    /// It was dropped, by the policy of the queue or by the classifier, and is counted.
    Dropped,
    /// There was no room, and a queue that rejects has counted it.
    Refused,
    /// There is no room now: the source offers it again.
    Held,
}

/// Where the packets of a port come from. Nothing here blocks.
pub trait PacketSource {
    /// Whether whoever sends can be made to wait: then no packet is dropped for want of room that the source could have
    /// left where it was, and each packet is settled.
    const PUSHES_BACK: bool;

    /// Puts one packet into each of the first `buffers` and one [`Datagram`] for each, in the same order, behind `into`.
    ///
    /// # Errors
    /// `WouldBlock` where nothing waits; anything else is told by the caller.
    fn receive<'b>(
        &mut self,
        buffers: impl Iterator<Item = &'b mut [u8]>,
        into: &mut Vec<Datagram>,
    ) -> io::Result<()>;

    /// There is no memory: takes at most `count` packets and forgets them, all but who sent them: one [`Datagram`] each goes
    /// behind `into`.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    fn discard(&mut self, count: usize, into: &mut Vec<Datagram>) -> io::Result<()>;

    /// Whether packets were taken from the kernel that there was no buffer for: the next [`receive`](Self::receive) gives them,
    /// or [`discard`](Self::discard) takes them, before the kernel is asked for more.
    fn has_left_over(&self) -> bool {
        false
    }

    /// Forgets those, and says how many they were.
    fn forget_left_over(&mut self) -> u64 {
        0
    }

    /// Whether `packet`, of the batch received last, may be delivered now. False if one before it is to be offered again first.
    fn wants(&mut self, _packet: &Datagram) -> bool {
        true
    }

    /// What became of a packet that was wanted.
    fn settle(&mut self, _packet: &Datagram, _settled: Settled) {}

    /// Readable when there may be something to receive; `None` where time alone tells.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// When there is something to receive or to do that no descriptor tells of.
    fn next_due(&self) -> Option<Duration> {
        None
    }

    /// Packets that were lost before they could be received, since the port was opened.
    fn lost_before(&mut self) -> Option<u64> {
        None
    }

    /// Of those, how many for which reason, where that is known.
    fn lost_by_reason(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// From now on this host serves.
    ///
    /// # Errors
    /// What the kernel refused.
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// This host serves no longer: what belongs to it alone ends, and nothing is kept for later that another host answers.
    fn end(&mut self) {}

    /// Whether the connection with this number is one of this process. See [`Connection`](crate::Connection).
    fn has_connection(&self, _number: u32) -> bool {
        false
    }
}

/// How the packets of a port leave. Nothing here blocks.
pub trait PacketSink {
    /// Whether packets go where they are sent: an interface or a file has one end only.
    const ADDRESSED: bool = true;

    /// Sends in order; returns how many of the first were taken.
    ///
    /// # Errors
    /// An error is about the first packet, and then none was taken.
    fn send<'p>(
        &mut self,
        packets: impl Iterator<Item = (&'p [u8], SocketAddr)>,
    ) -> Result<usize, SendError>;
}
