//! The network between the two nodes: connections with an ordered stream each way and datagrams that
//! may be lost, doubled and reordered; and directions that may be cut.

use hotpair_replica::protocol::ConnectionId;
use rkyv::util::AlignedVec;

use super::rng::Rng;

pub(crate) const MICRO: u64 = 1_000;
pub(crate) const MILLI: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) enum Packet {
    Connected,
    Frame(AlignedVec),
    Datagram(Vec<u8>),
    Lost,
}

/// Where a packet goes: the process, in this life, over this connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) node: usize,
    pub(crate) life: u64,
    pub(crate) connection: ConnectionId,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) lives: [u64; 2],
    /// When the last stream packet towards that node arrives.
    pub(crate) arrival: [u64; 2],
}

#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) connection: Option<Connection>,
    pub(crate) connections: u64,
    /// Until when nothing arrives *at* that node from the other.
    pub(crate) cut_until: [u64; 2],
    /// Until when that node does not reach the arbiter.
    pub(crate) arbiter_cut_until: [u64; 2],
    pub(crate) loss_percent: u64,
    /// What a packet takes longer than usual, towards that node.
    pub(crate) latency: [u64; 2],
}

impl Net {
    pub(crate) fn is_cut(&self, to: usize, now: u64) -> bool {
        self.cut_until[to] > now
    }

    /// How long one packet takes; what is lost on a stream comes a little later.
    pub(crate) fn delay(&self, to: usize, rng: &mut Rng) -> u64 {
        let mut delay = self.latency[to] + rng.pick(20 * MICRO..150 * MICRO);
        if rng.one_in(50) {
            delay += rng.below(3 * MILLI);
        }
        if rng.chance(self.loss_percent) {
            delay += rng.pick(MILLI..4 * MILLI);
        }
        delay
    }

    /// When the next packet of the stream towards `to` arrives.
    pub(crate) fn stream_arrival(&mut self, to: usize, now: u64, rng: &mut Rng) -> u64 {
        let mut at = now + self.delay(to, rng);
        if self.cut_until[to] > now {
            at = at.max(self.cut_until[to] + rng.below(5 * MILLI));
        }
        let Some(connection) = &mut self.connection else { return at };
        at = at.max(connection.arrival[to] + 1);
        connection.arrival[to] = at;
        at
    }
}
