//! From the commits of workers to the socket.
//!
//! ```text
//!   take_emitted            may_send?           sendmmsg
//!   EMITTED ──────► SENDING ─────────► (held) ──────────► SENT
//!                     │ no                 │ kernel has no room: stays held, in order
//!                     └──► EMITTED         └ kernel refuses it for good: counted, SENT
//! ```
//!
//! What the network would lose, we may lose too, but counted: a packet that the kernel refuses for
//! a reason of its own (too long, no route) is given up, or it would be tried for ever.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use hotpair_shm::{Counter, EmittedPacket};

use super::PortConfig;
use super::seat::Seat;
use crate::counters::Counters;
use crate::kind::PacketSink;
use crate::mmsg::SendError;
use crate::source::SocketSource;

/// Stands for a destination where there is only one.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Why packets are held back although they may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// The socket's send buffer is full: it says when there is room.
    BufferFull,
    /// A queue behind it is full, or memory is short: nobody will tell.
    DeviceFull,
    /// The service address is not on this host any more, or not yet.
    AddressGone,
}

pub(super) struct Egress {
    batch_max: usize,
    /// In our hands, oldest first.
    pending: VecDeque<(EmittedPacket, SocketAddr)>,
    /// Taken, and of no destination. Empty between two steps.
    aimless: Vec<EmittedPacket>,
    held: Option<Held>,
    /// The socket's address may be on another host.
    moves: bool,
    /// The first packet met an error that belongs to an earlier one, and is tried once more.
    second_try: bool,
}

impl Egress {
    pub(super) fn new(config: &PortConfig) -> Self {
        Egress {
            batch_max: config.send_batch,
            pending: VecDeque::with_capacity(config.send_batch),
            aimless: Vec::new(),
            held: None,
            moves: matches!(config.socket, SocketSource::Service(_)),
            second_try: false,
        }
    }

    /// Why the last step could not send everything, if so.
    pub(super) fn held(&self) -> Option<Held> {
        self.held
    }

    /// Lets go of all packets in hand: they are EMITTED again.
    pub(super) fn give_back(&mut self, seat: &mut Seat) {
        for (packet, _) in self.pending.drain(..) {
            seat.participant.put_back(packet);
        }
        self.held = None;
        self.second_try = false;
    }

    /// Sends one batch; says whether there was anything that could be sent.
    pub(super) fn step<K: PacketSink>(
        &mut self,
        seat: &mut Seat,
        sink: &mut K,
        counters: &Counters,
    ) -> bool {
        self.held = None;
        let room = self.batch_max - self.pending.len();
        let (pending, aimless) = (&mut self.pending, &mut self.aimless);
        seat.participant.take_emitted_batch(seat.port, room, |packet| {
            match packet.endpoint().to_socket_addr() {
                Some(to) => pending.push_back((packet, to)),
                None if !K::ADDRESSED => pending.push_back((packet, NOWHERE)),
                None => aimless.push(packet),
            }
        });
        let worked = !self.aimless.is_empty();
        for packet in self.aimless.drain(..) {
            counters.send_failed("no destination");
            seat.participant.count(Counter::SendErrors);
            seat.participant.sent(packet);
        }
        // Between taking a packet and this point we may have been stopped for an hour.
        if !self.pending.iter().all(|(packet, _)| seat.participant.may_send(packet)) {
            self.give_back(seat);
        }
        if self.pending.is_empty() {
            return worked;
        }
        let packets = self.pending.iter().map(|(packet, to)| (packet.payload(), *to));
        match sink.send(packets) {
            Ok(count) => {
                self.second_try = false;
                let epoch = seat.region.role().epoch();
                let mut resent = 0;
                for (packet, _) in self.pending.drain(..count) {
                    // What was emitted under an earlier primary, that one may have sent already.
                    resent += u64::from(packet.seq().epoch() < epoch);
                    seat.participant.sent(packet);
                }
                counters.sent(count as u64, resent);
                true
            }
            Err(error) => self.handle(error, seat, counters),
        }
    }

    /// The error is about the first packet.
    fn handle(&mut self, error: SendError, seat: &mut Seat, counters: &Counters) -> bool {
        let code = match &error {
            SendError::Family(_) | SendError::Refused(_) => None,
            SendError::Os(error) => error.raw_os_error(),
        };
        match code {
            Some(libc::EINTR) => return true,
            Some(libc::EAGAIN) => {
                counters.send_waited();
                self.held = Some(Held::BufferFull);
                return false;
            }
            Some(libc::ENOBUFS | libc::ENOMEM) => {
                counters.send_waited();
                self.held = Some(Held::DeviceFull);
                return false;
            }
            // The kernel reports here what became of an earlier packet.
            Some(libc::ECONNREFUSED) if !self.second_try => {
                self.second_try = true;
                return true;
            }
            // Without its address a socket sends nothing; it is asked for before the packet is blamed.
            Some(libc::EINVAL | libc::EADDRNOTAVAIL) if self.moves && !self.second_try => {
                self.second_try = true;
                self.held = Some(Held::AddressGone);
                return false;
            }
            _ => {}
        }
        self.second_try = false;
        let (packet, to) = self.pending.pop_front().expect("the error is about a packet");
        tracing::debug!(%to, seq = %packet.seq(), %error, "a packet cannot be sent");
        counters.send_failed(match error {
            SendError::Refused(reason) => reason,
            _ => reason_of(code),
        });
        seat.participant.count(Counter::SendErrors);
        seat.participant.sent(packet);
        true
    }
}

pub(crate) fn reason_of(code: Option<i32>) -> &'static str {
    match code {
        None => "wrong address family",
        Some(libc::EMSGSIZE) => "too long",
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ENETDOWN) => {
            "unreachable"
        }
        Some(libc::ECONNREFUSED) => "peer refused",
        Some(libc::EPERM | libc::EACCES) => "forbidden",
        Some(_) => "refused by the kernel",
    }
}
