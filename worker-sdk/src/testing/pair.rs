//! Both hosts, of which one serves, and the port at which the test stands.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hotpair_shm::{
    Delivery, Endpoint, Geometry, Kind, ObjectImage, Participant, Region, Seq, Sweeper,
};

use super::host::{Host, geometry};
use super::node::Node;
use super::{PATIENCE, until};
use crate::space::Space;
use crate::worker::Worker;

/// A packet that has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// By which port.
    pub port: String,
    /// Where it goes; `None` if to no socket.
    pub to: Option<SocketAddr>,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// The commit that emitted it, and its place among the packets of that commit.
    pub id: (Seq, u32),
}

/// Seats by which messages come and packets leave.
#[derive(Debug)]
pub struct Port {
    seat: Participant,
    /// One for each port, as processes have it: a seat forgets where packets of another port are.
    leaving: Vec<(String, Participant)>,
}

impl Port {
    /// One of `region`.
    pub fn new(region: &Region) -> Port {
        Port { seat: region.join(Kind::Port, "test").expect("a seat"), leaving: Vec::new() }
    }

    /// A message from `from` to the object of `queue` that bears `key`, or to a new one in the lane of `priority`.
    pub fn deliver(
        &mut self,
        (queue, priority): (&str, u8),
        key: &[u8],
        from: Option<SocketAddr>,
        payload: &[u8],
    ) {
        let queue = self.seat.region().queue(queue).expect("a queue of the geometry");
        let from = from.map_or(Endpoint::NONE, Endpoint::from);
        let packet = self.seat.packet_of(payload, from).expect("a free block");
        let to = Delivery { queue, key: Some(key), priority };
        self.seat.deliver(to, packet).map_err(|(error, _)| error).expect("room");
    }

    /// The next packet that leaves by the port called `port`.
    pub fn take(&mut self, port: &str) -> Option<Packet> {
        let region = self.seat.region().clone();
        let number = region.port(port).expect("a port of the geometry");
        let at = self.leaving.iter().position(|(name, _)| name == port).unwrap_or_else(|| {
            self.leaving.push((port.to_owned(), region.join(Kind::Port, port).expect("a seat")));
            self.leaving.len() - 1
        });
        let seat = &mut self.leaving[at].1;
        let packet = seat.take_emitted(number)?;
        let found = Packet {
            port: port.to_owned(),
            to: packet.endpoint().to_socket_addr(),
            payload: packet.payload().to_vec(),
            id: (packet.seq(), packet.ordinal()),
        };
        seat.sent(packet);
        Some(found)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Pair {
    // In this order: the node's thread and the port's seat go before the regions.
    node: Option<Node>,
    port: Option<Port>,
    serves: Host,
    follows: Option<Host>,
    lost: Option<Host>,
    ports: Vec<String>,
    epoch: u16,
    record: Vec<Packet>,
}

impl Pair {
    /// Where messages come from.
    pub const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5060);
    /// For what must happen.
    pub const PATIENCE: Duration = PATIENCE;

    /// A pair with these queues and ports, in step.
    pub fn new(queues: &[&str], ports: &[&str]) -> Pair {
        Pair::with(&geometry(queues, ports))
    }

    /// The same of any geometry.
    pub fn with(geometry: &Geometry) -> Pair {
        let (serves, follows) = (Host::new(geometry), Host::new(geometry));
        serves.region.become_primary(1);
        let node = Some(Node::shipping(&serves.region, &follows.region));
        let port = Some(Port::new(&serves.region));
        let (follows, ports) = (Some(follows), geometry.ports.clone());
        Pair { node, port, serves, follows, lost: None, ports, epoch: 1, record: Vec::new() }
    }

    /// The host that serves.
    pub fn primary(&self) -> &Host {
        &self.serves
    }

    /// The host that serves, to open a gateway on it.
    pub fn primary_mut(&mut self) -> &mut Host {
        &mut self.serves
    }

    /// The host that follows, until it serves.
    pub fn backup(&self) -> Option<&Host> {
        self.follows.as_ref()
    }

    /// The same, to open a gateway on it.
    pub fn backup_mut(&mut self) -> Option<&mut Host> {
        self.follows.as_mut()
    }

    /// The space of the host that serves.
    pub fn space(&self) -> Space {
        self.serves.space()
    }

    /// A worker at the host that serves.
    pub fn worker(&self, queue: &str) -> Worker {
        self.space().worker(queue).expect("a queue of the geometry, and a seat")
    }

    /// A message from [`PEER`](Self::PEER) to the object of `queue` that bears `key`, or to a new one.
    pub fn deliver(&mut self, queue: &str, key: &[u8], payload: &[u8]) {
        self.deliver_from(queue, key, Some(Pair::PEER), payload);
    }

    /// The same from anywhere; `None`: from no socket.
    pub fn deliver_from(
        &mut self,
        queue: &str,
        key: &[u8],
        from: Option<SocketAddr>,
        payload: &[u8],
    ) {
        let port = self.port.as_mut().expect("until the end");
        port.deliver((queue, 0), key, from, payload);
    }

    /// The object of `queue` that bears `key`, as the host that serves holds it.
    pub fn object(&self, queue: &str, key: &[u8]) -> Option<ObjectImage> {
        let queue = self.serves.region.queue(queue).expect("a queue of the geometry");
        self.serves.region.find(queue, key)
    }

    /// Everything that has left by any port so far, in the order in which it was released.
    pub fn packets(&mut self) -> &[Packet] {
        self.collect();
        &self.record
    }

    /// The oldest packet that has left by `port` and was not given yet; waits for it. Goes out of the record.
    ///
    /// # Panics
    /// If there is none within [`PATIENCE`].
    pub fn next_packet(&mut self, port: &str) -> Packet {
        let mut found = None;
        until("a packet", || {
            self.collect();
            let at = self.record.iter().position(|packet| packet.port == port);
            found = at.map(|at| self.record.remove(at));
            found.is_some()
        });
        found.expect("waited for")
    }

    fn collect(&mut self) {
        let port = self.port.as_mut().expect("until the end");
        for name in &self.ports {
            self.record.extend(std::iter::from_fn(|| port.take(name)));
        }
    }

    /// Lets `by` pass for the timers of all objects, and for nothing else. Apart from this they run as always, so a test sets
    /// timers that are long, and never waits for them.
    pub fn advance(&self, by: Duration) {
        for host in std::iter::once(&self.serves).chain(&self.follows) {
            hotpair_shm::testing::advance(&host.region, by);
        }
        Sweeper::new(self.serves.region.clone()).run_once();
    }

    /// While `held` nothing is shipped and nothing released: what is committed meanwhile is lost with the primary.
    pub fn hold(&self, held: bool) {
        self.node.as_ref().expect("until the end").hold(held);
    }

    /// The primary is lost, with whatever was not released; the other one serves, alone, in the next epoch. Workers and objects in
    /// hand are of the lost one: a commit there fails, and [`worker`](Self::worker) gives workers of the other.
    ///
    /// # Panics
    /// If there is no other one any more.
    pub fn kill_primary(&mut self) {
        let other = self.follows.take().expect("a back-up that is left");
        if let Some(node) = self.node.take() {
            // What was committed before the kill is shipped, unless it is held, and what has left does not leave again.
            node.settle();
            self.collect();
            node.settle();
        }
        self.port = None;
        self.epoch += 1;
        self.serves.fence(self.epoch);
        #[cfg(feature = "gateway")]
        self.serves.close();
        other.take_over(self.epoch);
        self.node = Some(Node::alone(&other.region));
        self.port = Some(Port::new(&other.region));
        self.lost = Some(std::mem::replace(&mut self.serves, other));
    }

    /// The host that was lost.
    pub fn lost(&self) -> Option<&Host> {
        self.lost.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::Wait;

    fn commit(pair: &Pair, text: &[u8]) -> Result<Seq, crate::Error> {
        let mut worker = pair.worker("work");
        let wait = Wait::default().for_at_most(PATIENCE);
        let mut job = worker.claim(wait)?.expect("one is ready");
        job.set_value(text)?;
        job.emit("out", Pair::PEER, text)?;
        job.commit()
    }

    #[test]
    fn what_is_released_survives_and_what_is_held_does_not() {
        let mut pair = Pair::new(&["work"], &["out"]);
        pair.deliver("work", b"a", b"go");
        commit(&pair, b"kept").expect("alone");
        assert_eq!(pair.next_packet("out").payload, b"kept");
        pair.hold(true);
        pair.deliver("work", b"a", b"go");
        commit(&pair, b"lost").expect("alone");
        assert!(pair.packets().is_empty(), "not released");
        pair.kill_primary();
        assert_eq!(pair.object("work", b"a").expect("it was shipped").value, b"kept");
        pair.deliver("work", b"a", b"go");
        commit(&pair, b"goes on").expect("alone");
        let packet = pair.next_packet("out");
        assert_eq!((&packet.payload[..], packet.to), (&b"goes on"[..], Some(Pair::PEER)));
        assert_eq!(pair.packets(), []);
    }

    #[test]
    fn an_object_in_hand_does_not_commit_after_its_primary_was_lost() {
        let mut pair = Pair::new(&["work"], &["out"]);
        pair.deliver("work", b"a", b"go");
        let mut worker = pair.worker("work");
        let job = worker.claim(Wait::none()).expect("a region").expect("one is ready");
        pair.kill_primary();
        let error = job.commit().expect_err("its primary is lost");
        assert!(matches!(error, crate::Error::Commit(crate::CommitError::Fenced)), "{error}");
    }

    #[test]
    fn time_passes_when_the_test_says_so() {
        let mut pair = Pair::new(&["work"], &[]);
        pair.deliver("work", b"a", b"go");
        let mut worker = pair.worker("work");
        let mut job = worker.claim(Wait::none()).expect("a region").expect("one is ready");
        job.set_timer(Duration::from_secs(3_600));
        job.commit().expect("alone");
        pair.advance(Duration::from_secs(3_500));
        let shortly = Wait::default().for_at_most(Duration::from_millis(20));
        assert!(worker.claim(shortly).expect("a region").is_none(), "not yet");
        pair.advance(Duration::from_secs(100));
        let wait = Wait::default().for_at_most(PATIENCE);
        let job = worker.claim(wait).expect("a region").expect("it is due");
        assert!(job.timer_due());
        job.commit().expect("alone");
    }
}
