//! What goes between the two nodes, and between a node and the arbiter.

use hotpair_replica::protocol::{Answer, Body, ConnectionId, Judgement, Request, Testimony};
use hotpair_replica::wire::Message;
use rkyv::util::AlignedVec;

use super::boundary::{Side, Step};
use super::ledger::{Checked, Violation, ensure};
use super::net::{Address, Connection, MICRO, MILLI, Packet};
use super::world::{Happening, Question, World};

impl World {
    pub(super) fn connect(&mut self) -> Checked {
        let next = self.now + self.rng.pick(2 * MILLI..15 * MILLI);
        self.at(next, Happening::Connect);
        let now = self.now;
        if self.net.connection.is_some() {
            // A connection whose packets do not arrive breaks after a while.
            let cut = (0..2).any(|to| self.net.cut_until[to] > now);
            if cut && self.rng.one_in(20) {
                self.break_connection();
            }
            return Ok(());
        }
        let able = (0..2).all(|node| {
            !self.net.is_cut(node, now)
                && self.machines[node].is_up(now)
                && self.machines[node].process.as_ref().is_some_and(|p| p.retry_from <= now)
        });
        if !able {
            return Ok(());
        }
        self.net.connections += 1;
        let id = ConnectionId(self.net.connections);
        let lives = [self.machines[0].life, self.machines[1].life];
        self.net.connection = Some(Connection { id, lives, arrival: [now; 2] });
        for node in 0..2 {
            self.send_stream(node, Packet::Connected);
        }
        Ok(())
    }

    /// Puts a packet on the stream towards a node.
    pub(super) fn send_stream(&mut self, to: usize, packet: Packet) {
        let at = self.net.stream_arrival(to, self.now, &mut self.rng);
        let Some(connection) = &self.net.connection else { return };
        let address = Address { node: to, life: connection.lives[to], connection: connection.id };
        self.at(at, Happening::Arrive(address, packet));
    }

    pub(super) fn break_connection(&mut self) {
        let Some(connection) = self.net.connection.take() else { return };
        for node in 0..2 {
            let at = self.now + self.rng.pick(20 * MICRO..30 * MILLI);
            let address = Address { node, life: connection.lives[node], connection: connection.id };
            self.at(at, Happening::Arrive(address, Packet::Lost));
        }
    }

    pub(super) fn arrive(&mut self, address: Address, packet: Packet) -> Checked {
        let Address { node, connection, .. } = address;
        let current = self.net.connection.as_ref().is_some_and(|c| c.id == connection);
        let Some(process) = &mut self.machines[node].process else { return Ok(()) };
        match packet {
            Packet::Connected => process.connection = Some(connection),
            Packet::Lost => {
                if process.connection == Some(connection) {
                    process.connection = None;
                }
            }
            // What was on its way when the connection broke may still come, or not.
            Packet::Frame(_) | Packet::Datagram(_) => {
                if process.connection != Some(connection) || (!current && self.rng.chance(50)) {
                    if let Some(process) = &mut self.machines[node].process
                        && process.connection == Some(connection)
                        && matches!(packet, Packet::Frame(_))
                    {
                        // A hole in a stream is the end of the stream.
                        process.connection = None;
                        let address = Address { node, life: address.life, connection };
                        self.at(self.now, Happening::Arrive(address, Packet::Lost));
                    }
                    return Ok(());
                }
            }
        }
        let step = Step::of_receiving(&packet);
        if self.dies(node, Side::Before, step) {
            return Ok(());
        }
        self.with_core(node, |core, tick, _| match packet {
            Packet::Connected => core.handle_peer_connected(tick, connection),
            Packet::Lost => core.handle_peer_lost(tick, connection),
            Packet::Frame(frame) => core.handle_frame(tick, connection, frame),
            Packet::Datagram(datagram) => core.handle_datagram(tick, connection, &datagram),
        });
        self.dies(node, Side::After, step);
        self.pump(node)
    }

    pub(super) fn drain_transmits(&mut self, node: usize) -> Checked {
        while let Some(transmit) =
            self.machines[node].process.as_mut().and_then(|p| p.core.poll_transmit())
        {
            if let Body::Datagram(datagram) = &transmit.body {
                self.check_ack(node, datagram)?;
            }
            self.check_sent(node, &transmit.body)?;
            let step = Step::of_sending(&transmit.body);
            if self.dies(node, Side::Before, step) {
                return Ok(());
            }
            self.carry(node, transmit.connection, transmit.body);
            self.dies(node, Side::After, step);
        }
        Ok(())
    }

    /// G7: a node that became primary no longer lets the one before it release anything.
    pub(super) fn check_ack(&self, node: usize, datagram: &[u8]) -> Checked {
        let (Ok(ack), Some(view)) = (Message::decode_datagram(datagram), self.ledger.newest())
        else {
            return Ok(());
        };
        ensure!(
            view.primary != self.machines[node].id || ack.epoch >= view.epoch,
            "node {node} acks epoch {} while it is primary of epoch {}",
            ack.epoch,
            view.epoch
        );
        Ok(())
    }

    pub(super) fn carry(&mut self, from: usize, connection: ConnectionId, body: Body) {
        let to = 1 - from;
        if self.net.connection.as_ref().is_none_or(|c| c.id != connection) {
            return;
        }
        match body {
            Body::Stream(frame) => {
                let mut bytes = AlignedVec::new();
                bytes.extend_from_slice(frame.as_ref());
                self.send_stream(to, Packet::Frame(bytes));
            }
            Body::Datagram(bytes) => {
                let copies = [1, 2, 3][self.rng.below(40).saturating_sub(37) as usize];
                for _ in 0..copies {
                    let lost =
                        self.rng.chance(self.net.loss_percent) || self.net.is_cut(to, self.now);
                    let Some(connection) = self.net.connection.as_ref().filter(|_| !lost) else {
                        continue;
                    };
                    let address =
                        Address { node: to, life: connection.lives[to], connection: connection.id };
                    let mut at = self.now + self.net.delay(to, &mut self.rng);
                    if self.rng.one_in(60) {
                        at += self.rng.below(60 * MILLI); // overtaken by all that follow
                    }
                    // An ack that comes late says nothing of the time since.
                    if self.ahead.bounds.is_some() && self.rng.one_in(15) {
                        at += self.rng.below(150 * MILLI);
                    }
                    self.at(at, Happening::Arrive(address, Packet::Datagram(bytes.clone())));
                }
            }
        }
    }

    pub(super) fn ask_arbiter(&mut self, node: usize, life: u64) {
        while let Some((id, request)) =
            self.machines[node].process.as_mut().and_then(|p| p.core.poll_arbiter())
        {
            let step = Step::of_asking(&request);
            if self.dies(node, Side::Before, step) {
                return;
            }
            let away = self.net.arbiter_cut_until[node] > self.now;
            let lost = away || (self.faults && self.rng.one_in(25));
            let question = Question { id, request, testimony: self.testimony(node) };
            let arbiter = self.arbiter.life;
            // A cut may hold a request back instead of losing it.
            let mut at = self.now + self.rng.pick(50 * MICRO..3 * MILLI);
            if self.faults && self.rng.one_in(12) {
                at += self.rng.below(900 * MILLI);
            }
            if lost && self.rng.chance(70) {
                if self.rng.chance(50) {
                    let answer = Answer::NoAnswer;
                    self.at(at, Happening::Answered { node, life, id, answer });
                }
                self.dies(node, Side::After, step);
                continue;
            }
            if matches!(request, Request::CompareAndSet { .. }) {
                self.machines[node].setting += 1;
            }
            self.at(at, Happening::Land { node, life, question, arbiter });
            self.dies(node, Side::After, step);
        }
    }

    pub(super) fn testimony(&self, node: usize) -> Testimony {
        let process = self.machines[node].process.as_ref();
        process.map_or(Testimony::Nothing, |process| process.core.testimony())
    }

    pub(super) fn land(
        &mut self,
        node: usize,
        life: u64,
        question: Question,
        arbiter: u64,
    ) -> Checked {
        let Question { id, request, testimony } = question;
        let step = Step::of_landing(&request);
        if life == self.machines[node].life {
            self.dies(node, Side::Before, step);
        }
        if matches!(request, Request::CompareAndSet { .. }) {
            self.machines[node].setting -= 1;
        }
        if arbiter != self.arbiter.life {
            return Ok(()); // its connection ended with the arbiter that it was made to
        }
        let sender = self.machines[node].id;
        let Judgement { store, answer } = self.arbiter.land(sender, testimony, &request);
        match (answer, store) {
            (Answer::Won(view), _) => {
                self.trace(|| format!("the arbiter stores {view:?}"));
                self.ledger.on_view(view, self.operator_decided)?;
                self.operator_decided = false;
            }
            (_, Some(view)) => {
                self.trace(|| format!("the arbiter is told of {view:?}"));
                self.counts.restored += 1;
                self.ledger.on_restored(view)?;
            }
            (_, None) => {}
        }
        if life == self.machines[node].life {
            self.dies(node, Side::After, step);
        }
        if self.faults && self.rng.one_in(12) {
            return Ok(()); // the answer is lost
        }
        let mut at = self.now + self.rng.pick(50 * MICRO..3 * MILLI);
        if self.faults && self.rng.one_in(20) {
            at += self.rng.below(300 * MILLI);
        }
        self.at(at, Happening::Answered { node, life, id, answer });
        Ok(())
    }
}
