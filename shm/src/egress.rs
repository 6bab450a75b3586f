//! The output gate: emitted packets leave when they are released, and only from a primary.
//!
//! ```text
//!          committer's entry        port               port: left           node: back-up knows
//!  Private ────────────────► Emitted ───────► Sending ────────────► Sent ─────────────────────► Free
//!                               ▲                │ port gives back; reaper after its death
//!                               └────────────────┘
//! ```

use std::collections::VecDeque;

use crate::counters::Counter;
use crate::endpoint::Endpoint;
use crate::gate::WayOut;
use crate::map::Map;
use crate::participant::Participant;
use crate::pool;
use crate::region::{PortId, Region};
use crate::sync::Ordering;
use crate::words::{BlockState, BlockWord, RoleEpoch, Seq};

/// Hints taken out of the ring at once.
const HINTS_AT_ONCE: usize = 16;

/// Seq and ordinal of a packet, and its block.
type Waiting = (u64, u64, u32);

/// Packets of one port process: hints taken from the ring, and how many it is sending.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// In the order of commits. They come almost in it: out of it are commits of several workers at once.
    waiting: VecDeque<Waiting>,
    sending: usize,
}

impl Outbox {
    /// Takes the hints out of the port's ring.
    pub(crate) fn fill(&mut self, region: &Region, port: PortId) {
        let Some(ring) = region.map.port_ring(port.0.into()) else {
            return;
        };
        let mut hints = [0; HINTS_AT_ONCE];
        while self.waiting.len() < region.map.block_count() as usize {
            let mut count = 0;
            while count < HINTS_AT_ONCE
                && let Some(index) = ring.pop()
            {
                // Its worker wrote it: the lines of all of them come at the same time.
                if let Some(block) = region.map.block(index) {
                    block.fetch_header();
                    block.fetch_payload();
                }
                hints[count] = index;
                count += 1;
            }
            for &index in &hints[..count] {
                if let Some(block) = region.map.block(index)
                    && BlockWord(block.row.word.load(Ordering::Acquire)).is(BlockState::Emitted)
                {
                    let seq = block.row.seq.load(Ordering::Relaxed);
                    let ordinal = block.row.id.load(Ordering::Relaxed);
                    self.insert((seq, ordinal, index));
                }
            }
            if count < HINTS_AT_ONCE {
                return;
            }
        }
    }

    #[inline]
    fn insert(&mut self, packet: Waiting) {
        match self.waiting.back() {
            Some(last) if *last > packet => {
                let at = self.waiting.partition_point(|before| *before < packet);
                self.waiting.insert(at, packet);
            }
            _ => self.waiting.push_back(packet),
        }
    }

    /// Whether packets are in the process's hands.
    #[inline]
    pub(crate) fn is_sending(&self) -> bool {
        self.sending > 0
    }

    pub(crate) fn next_seq(&self) -> Option<Seq> {
        self.waiting.front().map(|&(seq, _, _)| Seq::from_bits(seq))
    }

    /// Puts the hints back where another process of this port finds them.
    pub(crate) fn give_back_all(&mut self, region: &Region, _seat: u8) {
        for (_, _, index) in self.waiting.drain(..) {
            if let Some(block) = region.map.block(index) {
                let word = BlockWord(block.row.word.load(Ordering::Relaxed));
                if let Some(ring) = region.map.port_ring(word.home()) {
                    let _ = ring.push(index);
                }
            }
        }
    }
}

/// A released packet in this port's hands.
///
/// Hand it to [`Participant::sent`] or [`Participant::put_back`]; if it is merely dropped, it stays in
/// this process's name until the process leaves.
#[must_use = "a packet that is dropped is neither sent nor given back"]
#[derive(Debug)]
pub struct EmittedPacket {
    pub(crate) index: u32,
    word: BlockWord,
    role: RoleEpoch,
    seq: Seq,
    ordinal: u32,
    endpoint: Endpoint,
    /// It may leave only while the lease of its port lasts.
    leased: bool,
    /// When this process took it, if its commit is followed through its stages; else zero.
    taken: u64,
    region: Region,
}

impl EmittedPacket {
    /// The commit that emitted it.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Its place among the packets of that commit: with the seq, an id that survives a failover.
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// Where it goes.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Its bytes, in the region.
    pub fn payload(&self) -> &[u8] {
        self.region.map.held(self.index).map_or(&[], |(_, data)| data)
    }
}

impl Participant {
    /// The next released packet of `port`, in the order of commits; `None` if there is none, or if this
    /// region is not primary.
    pub fn take_emitted(&mut self, port: PortId) -> Option<EmittedPacket> {
        self.outbox.fill(&self.region, port);
        // The gates are read before the packet is taken, the role after it (see `may_send`).
        self.region.way_out(port, self.outbox.next_seq()?)?;
        let role = self.enter()?;
        let packet = self.take_released(port, role);
        if packet.is_none() {
            self.leave();
        }
        packet
    }

    /// The next released packets of `port`, at most `count`, handed to `take` in the order of commits.
    pub fn take_emitted_batch(
        &mut self,
        port: PortId,
        count: usize,
        mut take: impl FnMut(EmittedPacket),
    ) {
        self.outbox.fill(&self.region, port);
        // In the same order as one alone.
        let next = self.outbox.next_seq();
        if count == 0 || next.and_then(|seq| self.region.way_out(port, seq)).is_none() {
            return;
        }
        let Some(role) = self.enter() else { return };
        let mut taken = 0;
        while taken < count
            && let Some(packet) = self.take_released(port, role)
        {
            taken += 1;
            take(packet);
        }
        if taken == 0 {
            self.leave();
        }
    }

    #[inline]
    fn take_released(&mut self, port: PortId, role: RoleEpoch) -> Option<EmittedPacket> {
        loop {
            let way_out = self.region.way_out(port, self.outbox.next_seq()?)?;
            let (seq, ordinal, index) = self.outbox.waiting.pop_front()?;
            let map: &Map = &self.region.map;
            let Some(block) = map.block(index) else {
                continue;
            };
            let seen = BlockWord(block.row.word.load(Ordering::Acquire));
            let same = seen.is(BlockState::Emitted)
                && seen.home() == u32::from(port.0)
                && block.row.seq.load(Ordering::Relaxed) == seq;
            if !same {
                continue; // a stale hint
            }
            let word = seen.next(BlockState::Sending, self.owner(), seen.home());
            if block
                .row
                .word
                .compare_exchange(seen.0, word.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
            {
                continue;
            }
            self.outbox.sending += 1;
            let followed = block.row.stamp.load(Ordering::Relaxed) != 0;
            let taken = if followed { self.watch_release(seq) } else { 0 };
            let map: &Map = &self.region.map;
            let endpoint =
                map.held(index).map_or(Endpoint::NONE, |(prefix, _)| Endpoint::from_bytes(prefix));
            return Some(EmittedPacket {
                index,
                word,
                role,
                seq: Seq::from_bits(seq),
                ordinal: ordinal as u32,
                endpoint,
                leased: way_out == WayOut::Leased,
                taken,
                region: self.region.clone(),
            });
        }
    }

    /// Whether `packet` may go to the socket now: this region is still the primary it was, and the lease
    /// lasts if it needs one.
    pub fn may_send(&self, packet: &EmittedPacket) -> bool {
        let port = PortId(packet.word.home() as u8);
        self.region.role() == packet.role
            && (!packet.leased || self.region.way_out(port, packet.seq).is_some())
    }

    /// The packet left. It is kept until the back-up knows.
    pub fn sent(&mut self, packet: EmittedPacket) {
        self.count(Counter::Sent);
        if packet.taken != 0 {
            self.watch_send(packet.taken);
        }
        let region = &self.region;
        let Some(block) = region.map.block(packet.index) else {
            return;
        };
        let sent = packet.word.next(BlockState::Sent, 0, packet.word.home());
        if block
            .row
            .word
            .compare_exchange(packet.word.0, sent.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            hand_over_sent(region, packet.index, sent);
        }
        self.one_less();
    }

    /// The packet did not leave and shall be tried again, by whichever process serves the port.
    pub fn put_back(&mut self, packet: EmittedPacket) {
        let Some(block) = self.region.map.block(packet.index) else {
            return;
        };
        let back = packet.word.next(BlockState::Emitted, 0, packet.word.home());
        if block
            .row
            .word
            .compare_exchange(packet.word.0, back.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            let packet = (packet.seq.to_bits(), u64::from(packet.ordinal), packet.index);
            self.outbox.insert(packet);
        }
        self.one_less();
    }

    fn one_less(&mut self) {
        self.outbox.sending = self.outbox.sending.saturating_sub(1);
        self.leave();
    }
}

/// Offers every emitted packet to its port again, and every sent one to the node: after the death of a
/// port process, which may have come between a packet's word and its hint.
pub(crate) fn restore_hints(region: &Region) {
    for index in 0..region.map.block_count() {
        let Some(block) = region.map.block(index) else {
            continue;
        };
        let word = BlockWord(block.row.word.load(Ordering::Acquire));
        match word.state() {
            Some(BlockState::Emitted) => {
                if let Some(ring) = region.map.port_ring(word.home()) {
                    let _ = ring.push(index);
                }
            }
            Some(BlockState::Sent) => hand_over_sent(region, index, word),
            _ => {}
        }
    }
}

/// A packet that left goes to the node, which tells the back-up; without a node nobody waits for it.
fn hand_over_sent(region: &Region, index: u32, sent: BlockWord) {
    if region.node_alive() {
        // A full ring: the node's scan finds what has no hint.
        let _ = region.map.sent_ring().push(index);
    } else {
        pool::free_block(&region.map, index, sent);
    }
}
