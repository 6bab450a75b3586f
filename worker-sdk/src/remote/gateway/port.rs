//! A port of another host: what is emitted to it goes there, and is sent when it says so.
//!
//! To the region this is the port: a participant that takes released packets and keeps each in its hands until it has left. If
//! the connection is lost, or the role, they are offered again, to whoever serves the port then, by the ids that they had:
//! a port knows what it has sent already.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;

use hotpair_shm::{Bell, EmittedPacket, JoinError, Kind, Participant, PortId, Region};

use crate::remote::wire::{Event, encode_event};

/// Packets in the hands of one port.
const SENDING_MAX: usize = 256;

/// The seat of a port that is on another host.
#[derive(Debug)]
pub(super) struct FarPort {
    seat: Participant,
    port: PortId,
    /// Handed to it, oldest first.
    sending: VecDeque<EmittedPacket>,
}

impl FarPort {
    /// Takes a seat; the socket is readable when there may be something to send.
    pub(super) fn join(
        region: &Region,
        port: PortId,
        name: &str,
    ) -> Result<(FarPort, UnixDatagram), JoinError> {
        let mut seat = region.join(Kind::Port, name)?;
        let bell = seat.bell_socket().map_err(JoinError::Os)?;
        Ok((FarPort { seat, port, sending: VecDeque::new() }, bell))
    }

    /// Which port it is.
    pub(super) fn port(&self) -> PortId {
        self.port
    }

    /// Whether packets are in its hands, which a change of role waits for.
    pub(super) fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    fn has_room(&self) -> bool {
        self.sending.len() < SENDING_MAX
    }

    /// Takes what is released and hands it on, while `out` is shorter than `out_max`; says whether there was anything.
    pub(super) fn hand_on(&mut self, out: &mut Vec<u8>, out_max: usize) -> bool {
        let before = self.sending.len();
        while self.has_room() && out.len() < out_max {
            let Some(packet) = self.seat.take_emitted(self.port) else { break };
            if !self.seat.may_send(&packet) {
                self.seat.put_back(packet);
                break;
            }
            let (seq, ordinal) = (packet.seq().to_bits(), packet.ordinal());
            let (to, payload) = (packet.endpoint(), packet.payload());
            encode_event(out, &Event::Packet { seq, ordinal, to, payload });
            self.sending.push_back(packet);
        }
        self.sending.len() > before
    }

    /// This packet has left, and those before it; says how many that were. One that is not in hand was taken back meanwhile, or
    /// was handed out twice.
    pub(super) fn sent(&mut self, seq: u64, ordinal: u32) -> usize {
        let named =
            |packet: &EmittedPacket| packet.seq().to_bits() == seq && packet.ordinal() == ordinal;
        let count = self.sending.iter().position(named).map_or(0, |at| at + 1);
        for packet in self.sending.drain(..count) {
            self.seat.sent(packet);
        }
        count
    }

    /// Whether they have left is not known: they are offered again.
    pub(super) fn give_back(&mut self) {
        for packet in self.sending.drain(..) {
            self.seat.put_back(packet);
        }
    }

    /// Announces a sleep, until there is something that there is room for. False: there is already.
    pub(super) fn arm(&mut self) -> bool {
        !self.has_room() || self.seat.arm_bell(Bell::Port(self.port))
    }

    /// Ends the sleep.
    pub(super) fn disarm(&mut self) {
        self.seat.disarm_bell(Bell::Port(self.port));
    }
}

impl Drop for FarPort {
    fn drop(&mut self) {
        self.give_back();
    }
}
