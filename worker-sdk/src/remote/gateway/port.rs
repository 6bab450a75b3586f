//! A port of another host: what is emitted to it goes there, and is sent when it says so.
//!
//! To the region this is the port: a participant that takes released packets and keeps each in its hands until it has left. If
//! the connection is lost, or the role, they are offered again, to whoever serves the port then, by the ids that they had:
//! a port knows what it has sent already.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use hotpair_shm::{Bell, EmittedPacket, JoinError, Kind, Participant, PortId, Region};

use super::engine::{Broken, Engine, OUT_BYTES_MAX};
use super::session::SessionId;
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

impl Engine {
    /// A port of another host.
    pub(super) fn attach_port(
        &mut self,
        id: SessionId,
        client: [u8; 16],
        name: &str,
        lanes: u16,
        now: Instant,
    ) -> Result<(), Broken> {
        let Some(port) = self.region.port(name).filter(|&port| port != self.bell) else {
            return Err(Broken(format!("the region has no port {name:?} for packets")));
        };
        let most = self.limits.ports;
        let attached = self.sessions.values().filter_map(|session| session.attached.as_ref());
        let ports = attached.filter(|a| a.port.is_some() || a.wants_port.is_some());
        if ports.filter(|attached| attached.client != client).count() >= most as usize {
            return Err(Broken(format!("at most {most} ports come by this gateway")));
        }
        self.enter(id, client, None, lanes, now)?;
        if let Some(attached) = self.attached(id) {
            attached.wants_port = Some(port);
        }
        self.grant_ports();
        Ok(())
    }

    /// One program at a time has the packets that are emitted to a port; the next one waits, and takes over when that is gone.
    pub(super) fn grant_ports(&mut self) {
        let attached = self.sessions.values().filter_map(|session| session.attached.as_ref());
        let mut taken: Vec<PortId> =
            attached.filter_map(|attached| Some(attached.port.as_ref()?.port())).collect();
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let Some(port) = self.attached(id).and_then(|attached| attached.wants_port) else {
                continue;
            };
            if taken.contains(&port) {
                continue;
            }
            let name = self.region.geometry().ports[usize::from(port.index())].clone();
            match FarPort::join(&self.region, port, &name) {
                Ok((far, bell)) => {
                    taken.push(port);
                    self.bells.push((id, bell));
                    if let Some(attached) = self.attached(id) {
                        attached.wants_port = None;
                        attached.port = Some(far);
                    }
                    if let Some(session) = self.sessions.get_mut(&id) {
                        session.tell(&Event::Port);
                        self.speak.push(id);
                    }
                }
                Err(error) => self.end(id, &format!("there is no seat for the port: {error}")),
            }
        }
    }

    pub(super) fn sent(&mut self, id: SessionId, seq: u64, ordinal: u32) -> Result<(), Broken> {
        let Some(port) = self.attached(id).and_then(|attached| attached.port.as_mut()) else {
            return Err(Broken("only a port sends packets".to_owned()));
        };
        let count = port.sent(seq, ordinal);
        self.stats.packets += count as u64;
        Ok(())
    }

    /// What is released for ports of other hosts.
    pub(super) fn hand_packets_on(&mut self) {
        for (&id, session) in &mut self.sessions {
            let Some(attached) = session.attached.as_mut().filter(|_| !session.over) else {
                continue;
            };
            if let Some(port) = &mut attached.port
                && port.hand_on(&mut session.out, OUT_BYTES_MAX)
            {
                self.speak.push(id);
            }
        }
    }
}
