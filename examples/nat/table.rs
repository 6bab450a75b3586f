//! The flows of one slice: found from either side, let in while there are ports, and ended by time.
//!
//! The table is small, so it is read and written as a whole, and searched from one end to the other. Whoever has claimed the
//! slice's object is alone with it: giving a port away is a look at which ones are taken.

use zerocopy::{FromBytes, IntoBytes};

use crate::flow::{Flow, Limits, State};
use crate::frame::{Content, Mac, Packet};
use crate::slice::{self, PORTS};

/// Of a slice's ports one inside host has so many at most: who scans or floods leaves the others some in every slice.
pub(crate) const PORTS_PER_HOST: usize = 48;

/// The flows of one slice.
#[derive(Debug, Default)]
pub(crate) struct Table {
    flows: Vec<Flow>,
    changed: bool,
    /// Flows that began.
    pub(crate) begun: u64,
    /// Flows that ended by time.
    pub(crate) ended: u64,
    /// Flows that were ended for others: nothing had answered them.
    pub(crate) replaced: u64,
}

/// A slice's value is not one: another program wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value of {bytes} bytes is no table of flows of {} bytes each, {PORTS} at most", size_of::<Flow>())]
pub(crate) struct NotATable {
    bytes: usize,
}

impl Table {
    /// Reads the value of a slice's object; an empty one is a slice without flows.
    pub(crate) fn read(value: &[u8]) -> Result<Table, NotATable> {
        match <[Flow]>::ref_from_bytes(value) {
            Ok(flows) if flows.len() <= PORTS => {
                Ok(Table { flows: flows.to_vec(), ..Table::default() })
            }
            _ => Err(NotATable { bytes: value.len() }),
        }
    }

    /// The value, if it has to be written.
    pub(crate) fn changed_bytes(&self) -> Option<&[u8]> {
        self.changed.then(|| self.flows.as_bytes())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// The flow of a packet from inside, which begins with it if it may.
    pub(crate) fn outward(&mut self, packet: &Packet<'_>, mac: Mac) -> Result<Flow, &'static str> {
        let ends = (packet.from, packet.to);
        if let Some(flow) =
            self.flows.iter_mut().find(|flow| (flow.inside(), flow.remote()) == ends)
        {
            self.changed |= flow.outward(packet.content, mac);
            return Ok(*flow);
        }
        if !matches!(
            packet.content,
            Content::Tcp { syn: true, ack: false, .. } | Content::Udp | Content::EchoRequest
        ) {
            return Err("of no flow, from inside");
        }
        let (slice, first) = slice::of_inside(packet);
        self.make_room(packet)?;
        let mut taken = 0_u64;
        self.flows.iter().for_each(|flow| taken |= 1 << slice::place(flow.outside_port()));
        let place = (0..PORTS).map(|at| (first + at) % PORTS).find(|place| taken & 1 << place == 0);
        let port = slice::port(slice, place.ok_or("ports exhausted")?);
        let flow = Flow::new(packet.from, packet.to, port, mac);
        self.flows.push(flow);
        (self.changed, self.begun) = (true, self.begun + 1);
        Ok(flow)
    }

    /// There is room for a flow of the host that sent `packet`, or the reason why there is none.
    fn make_room(&mut self, packet: &Packet<'_>) -> Result<(), &'static str> {
        let of_host = |flow: &Flow| flow.inside().ip == packet.from.ip;
        if self.flows.iter().filter(|flow| of_host(flow)).count() >= PORTS_PER_HOST {
            // Its own flows are in its way, and nobody else's.
            return self.replace(of_host).ok_or("ports of the host exhausted");
        }
        if self.flows.len() < PORTS {
            return Ok(());
        }
        self.replace(|_| true).ok_or("ports exhausted")
    }

    /// Ends the oldest flow among these that nothing has answered for at least a tick.
    fn replace(&mut self, among: impl Fn(&Flow) -> bool) -> Option<()> {
        let unanswered = |flow: &Flow| flow.state() == State::Opening && flow.age() > 0;
        let candidates =
            self.flows.iter().enumerate().filter(|(_, flow)| unanswered(flow) && among(flow));
        let (at, _) = candidates.max_by_key(|(_, flow)| flow.age())?;
        self.flows.swap_remove(at);
        (self.changed, self.replaced) = (true, self.replaced + 1);
        Some(())
    }

    /// The flow of a packet from outside: only who was asked may answer.
    pub(crate) fn inward(&mut self, packet: &Packet<'_>) -> Result<Flow, &'static str> {
        let ends = (packet.to.port, packet.from);
        let flow = self.flows.iter_mut().find(|flow| (flow.outside_port(), flow.remote()) == ends);
        let flow = flow.ok_or("of no flow, from outside")?;
        self.changed |= flow.inward(packet.content);
        Ok(*flow)
    }

    /// A tick has passed for all flows.
    pub(crate) fn tick(&mut self, protocol: u8, limits: &Limits) {
        let before = self.flows.len();
        self.flows.retain_mut(|flow| flow.tick(protocol, limits));
        self.ended += (before - self.flows.len()) as u64;
        self.changed |= before > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{End, UDP};

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const REMOTE: End = End { ip: [192, 0, 2, 1], port: 53 };

    /// Packets from one inside host that belong to one slice.
    fn packets(host: u8) -> impl Iterator<Item = Packet<'static>> {
        let from = move |port| End { ip: [10, 0, 0, host], port };
        let packet = move |port| Packet::in_test(UDP, from(port), REMOTE, Content::Udp);
        (1..=u16::MAX).map(packet).filter(|packet| slice::of_inside(packet).0 == 7)
    }

    fn answer(flow: &Flow) -> Packet<'static> {
        let to = End { ip: [203, 0, 113, 1], port: flow.outside_port() };
        Packet::in_test(UDP, REMOTE, to, Content::Udp)
    }

    #[test]
    fn each_flow_has_a_port_of_its_own_and_keeps_it() {
        let mut table = Table::default();
        let flows: Vec<Flow> = packets(1)
            .take(40)
            .map(|packet| table.outward(&packet, MAC).expect("there is room"))
            .collect();
        let mut ports: Vec<u16> = flows.iter().map(Flow::outside_port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 40);
        assert!(ports.iter().all(|port| slice::of_outside(*port) == Some(7)));
        // On the other host, from the value alone.
        let mut table = Table::read(table.changed_bytes().expect("it changed")).expect("a table");
        for (packet, flow) in packets(1).zip(&flows) {
            let again = table.outward(&packet, MAC).expect("it is known");
            assert_eq!(again.outside_port(), flow.outside_port());
            let back = table.inward(&answer(flow)).expect("it is known");
            assert_eq!(back.inside(), packet.from);
        }
        assert_eq!(table.begun, 0);
    }

    #[test]
    fn only_who_was_asked_may_answer() {
        let mut table = Table::default();
        let packet = packets(1).next().expect("there are some");
        let flow = table.outward(&packet, MAC).expect("there is room");
        for stranger in [End { port: 54, ..REMOTE }, End { ip: [192, 0, 2, 2], ..REMOTE }] {
            let to = answer(&flow).to;
            let scan = Packet::in_test(UDP, stranger, to, Content::Udp);
            assert_eq!(table.inward(&scan).err(), Some("of no flow, from outside"));
        }
    }

    /// Goal: a host that floods has its share, the others have the rest, and when nothing is left that is said.
    #[test]
    fn a_flood_leaves_room_for_others_and_what_is_exhausted_is_told() {
        let mut table = Table::default();
        let mut got = 0;
        for packet in packets(1).take(60) {
            match table.outward(&packet, MAC) {
                Ok(_) => got += 1,
                Err(reason) => assert_eq!(reason, "ports of the host exhausted"),
            }
        }
        assert_eq!(got, PORTS_PER_HOST);
        let others: Vec<Flow> = packets(2)
            .take(PORTS - PORTS_PER_HOST)
            .map(|p| table.outward(&p, MAC).expect("room"))
            .collect();
        let mut third = packets(3);
        let packet = third.next().expect("there are some");
        assert_eq!(table.outward(&packet, MAC).err(), Some("ports exhausted"));
        // After a tick one that nobody has answered gives way, but none that somebody has.
        others.iter().for_each(|flow| assert!(table.inward(&answer(flow)).is_ok()));
        table.tick(UDP, &Limits::default());
        table.outward(&packet, MAC).expect("another gave way");
        assert_eq!((table.replaced, table.flows.len()), (1, PORTS));
        others.iter().for_each(|flow| assert!(table.inward(&answer(flow)).is_ok()));
    }

    #[test]
    fn time_frees_ports() {
        let mut table = Table::default();
        let limits = Limits::default();
        packets(1).take(10).for_each(|packet| assert!(table.outward(&packet, MAC).is_ok()));
        let ticks = std::iter::repeat_with(|| table.tick(UDP, &limits)).take(4).count();
        assert_eq!((ticks, table.ended, table.flows.len()), (4, 0, 10));
        table.tick(UDP, &limits);
        assert_eq!((table.ended, table.is_empty()), (10, true));
        assert_eq!(table.changed_bytes(), Some(&[][..]));
    }

    #[test]
    fn a_value_of_something_else_is_refused() {
        assert!(Table::read(&[0; 23]).is_err());
        assert!(Table::read(&[0; 24 * (PORTS + 1)]).is_err());
        assert!(Table::read(&[]).expect("no flows").is_empty());
    }
}
