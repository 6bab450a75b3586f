//! From the socket into the inboxes of objects.
//!
//! As many private blocks as a batch has packets are kept in hand, so that the kernel writes each
//! packet where it stays: the block becomes the message. A packet that is dropped leaves its block
//! in hand for the next one.
//!
//! Where the queue's policy is to hold, a packet that there is no room for stays in hand, with those that were read behind
//! it, and nothing is read until it is delivered: what comes next waits in the socket. It is tried again with each step,
//! and given up after [`HOLD_MAX`]: an object that nobody works on must not silence all the others. A source that can make
//! its senders wait keeps the packet itself, and those of other senders go on.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use hotpair_shm::{
    Counter, DeliverError, Delivered, Delivery, Endpoint, InboundPacket, Overload, Stage,
    monotonic_ns,
};

use super::PortConfig;
use super::seat::Seat;
use crate::classify::{Classified, Classifier, PacketKey, contained, ended};
use crate::counters::Counters;
use crate::fair::{FairShares, OVER_ITS_SHARE};
use crate::kind::{PacketSource, Settled};
use crate::mmsg::Datagram;
use crate::waited::since_arrival;

/// How long a packet is held that there is no room for.
const HOLD_MAX: Duration = Duration::from_secs(1);

pub(crate) const TOO_LONG: &str = "too long";
const OUT_OF_MEMORY: &str = "no free block or slot";
const NOT_PRIMARY: &str = "not primary any more";

pub(super) struct Ingress {
    blocks: VecDeque<InboundPacket>,
    batch: Vec<Datagram>,
    batch_max: usize,
    packet_bytes_max: usize,
    /// Read and classified, oldest first: there was no room for the first one.
    held: VecDeque<(Option<PacketKey>, InboundPacket)>,
    /// Who may have how much while there is not room for all.
    fair: Option<FairShares>,
    /// The source keeps what there is no room for.
    leaves_held: bool,
    /// Since when nothing could be delivered or read.
    held_since: Option<Instant>,
    /// When the batch came that is being handed on, in monotonic nanoseconds.
    now: u64,
}

impl Ingress {
    pub(super) fn new(config: &PortConfig, leaves_held: bool) -> Self {
        let count = config.receive_batch;
        Ingress {
            blocks: VecDeque::with_capacity(count),
            batch: Vec::with_capacity(count),
            batch_max: count,
            packet_bytes_max: config.packet_bytes_max,
            held: VecDeque::with_capacity(count),
            fair: (config.fair_shares && !leaves_held).then(FairShares::new),
            leaves_held,
            held_since: None,
            now: 0,
        }
    }

    /// Whether something was read that there is no room for yet.
    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether nothing is read because there is no room.
    pub(super) fn is_held(&self) -> bool {
        self.held_since.is_some()
    }

    /// Lets go of all blocks in hand.
    pub(super) fn give_back<K: PacketSource>(
        &mut self,
        seat: &mut Seat,
        source: &mut K,
        counters: &Counters,
    ) {
        self.held_since = None;
        seat.participant.end_reading();
        for (_, block) in self.held.drain(..) {
            seat.participant.count(Counter::DroppedRole);
            counters.dropped(NOT_PRIMARY, 1);
            seat.participant.discard(block);
        }
        let left_over = source.forget_left_over();
        counters.received(left_over);
        counters.dropped(NOT_PRIMARY, left_over);
        seat.participant.add(Counter::Received, left_over);
        seat.participant.add(Counter::DroppedRole, left_over);
        for block in self.blocks.drain(..) {
            seat.participant.discard(block);
        }
    }

    /// Reads one batch and hands it on; says whether there was anything.
    pub(super) fn step<K: PacketSource>(
        &mut self,
        seat: &mut Seat,
        source: &mut K,
        classifier: &mut dyn Classifier,
        counters: &Counters,
    ) -> io::Result<bool> {
        if !self.held.is_empty() {
            let worked = self.retry(seat, counters);
            if !self.held.is_empty() || !source.has_left_over() {
                self.end_reading(seat, source);
                return Ok(worked);
            }
        }
        let room = self.packet_bytes_max.min(seat.packet_room);
        while self.blocks.len() < self.batch_max {
            match seat.participant.packet(room) {
                Ok(block) => self.blocks.push_back(block),
                Err(_) => break,
            }
        }
        // The right to read is looked at again here: taking blocks may have taken its time.
        // What was read before is delivered under the right that it was read with.
        if !source.has_left_over() && !seat.begin_reading() {
            return Ok(false);
        }
        let read = self.read(seat, source, classifier, counters, room);
        self.end_reading(seat, source);
        read
    }

    /// What is held or left over was read, and is not delivered.
    fn end_reading<K: PacketSource>(&self, seat: &mut Seat, source: &K) {
        if self.held.is_empty() && !source.has_left_over() {
            seat.participant.end_reading();
        }
    }

    fn read<K: PacketSource>(
        &mut self,
        seat: &mut Seat,
        source: &mut K,
        classifier: &mut dyn Classifier,
        counters: &Counters,
        room: usize,
    ) -> io::Result<bool> {
        if self.blocks.is_empty() {
            if K::PUSHES_BACK || seat.region.policy(seat.queue).overload == Overload::Hold {
                self.hold(seat);
                return Ok(false);
            }
            return self.drain(seat, source, counters);
        }
        self.held_since = None;
        let buffers = self.blocks.iter_mut().map(|block| {
            let buffer = block.buffer_mut();
            let len = buffer.len().min(room);
            &mut buffer[..len]
        });
        self.batch.clear();
        if let Err(error) = source.receive(buffers, &mut self.batch) {
            return passing(error);
        }
        self.now = monotonic_ns();
        counters.waited_in_kernel(&self.batch);
        if let Some(fair) = &mut self.fair {
            fair.turn(Instant::now());
        }
        if !K::PUSHES_BACK {
            let count = self.batch.len() as u64;
            counters.received(count);
            seat.participant.add(Counter::Received, count);
        }
        for at in 0..self.batch.len() {
            let block = self.blocks.pop_front().expect("one block was lent for each datagram");
            let datagram = self.batch[at];
            if !K::PUSHES_BACK {
                self.hand_on(seat, block, datagram, classifier, counters);
            } else if datagram.end {
                self.tell_end(seat, source, block, datagram, classifier, counters);
            } else if source.wants(&datagram) {
                let settled = self.hand_on(seat, block, datagram, classifier, counters);
                if settled != Settled::Held {
                    counters.received(1);
                    seat.participant.count(Counter::Received);
                }
                source.settle(&datagram, settled);
            } else {
                self.blocks.push_back(block);
            }
        }
        if let Some(took) = since_arrival(&self.batch) {
            seat.region.record(Stage::Receive, took.as_nanos() as u64);
        }
        Ok(!self.batch.is_empty())
    }

    fn hand_on(
        &mut self,
        seat: &mut Seat,
        mut block: InboundPacket,
        datagram: Datagram,
        classifier: &mut dyn Classifier,
        counters: &Counters,
    ) -> Settled {
        let classified = match datagram.refused {
            Some(reason) => Classified::Drop(reason),
            None if datagram.truncated => Classified::Drop(TOO_LONG),
            None if !self.admits(seat, &datagram) => {
                self.blocks.push_back(block);
                seat.participant.count(Counter::DroppedMemory);
                counters.dropped(OVER_ITS_SHARE, 1);
                return Settled::Dropped;
            }
            None => match datagram.source {
                Some(source) => {
                    let payload = &block.buffer_mut()[..datagram.len];
                    let classified = contained(classifier, payload, source);
                    block.fill_at(datagram.len, Endpoint::from(source), self.now);
                    classified
                }
                None => Classified::Drop("no source address"),
            },
        };
        let key = match &classified {
            Classified::Key(key) => Some(*key),
            Classified::Keyless => None,
            Classified::Drop(reason) => {
                self.blocks.push_back(block);
                let refused = if *reason == TOO_LONG {
                    Counter::DroppedTooLarge
                } else {
                    Counter::DroppedMalformed
                };
                seat.participant.count(refused);
                counters.dropped(reason, 1);
                return Settled::Dropped;
            }
        };
        if !self.held.is_empty() {
            self.held.push_back((key, block));
            return Settled::Held;
        }
        match self.deliver(seat, key, block, counters) {
            Ok(settled) => settled,
            Err(block) if self.leaves_held => {
                self.blocks.push_back(block);
                Settled::Held
            }
            Err(block) => {
                self.held.push_back((key, block));
                self.hold(seat);
                Settled::Held
            }
        }
    }

    /// Whether a packet may have room. Where the policy is to hold, nothing is dropped that there might be room for.
    fn admits(&mut self, seat: &Seat, datagram: &Datagram) -> bool {
        match (&mut self.fair, datagram.source) {
            (Some(fair), Some(source)) => {
                fair.admits(source) || seat.region.policy(seat.queue).overload == Overload::Hold
            }
            _ => true,
        }
    }

    /// A connection has ended: its object is told, if it may have one. That is not given up for want of room, or the object
    /// would stay for ever.
    fn tell_end<K: PacketSource>(
        &mut self,
        seat: &mut Seat,
        source: &mut K,
        mut block: InboundPacket,
        datagram: Datagram,
        classifier: &mut dyn Classifier,
        counters: &Counters,
    ) {
        let key = datagram.source.and_then(|source| ended(classifier, source));
        let settled = match key {
            None => {
                self.blocks.push_back(block);
                Settled::Dropped
            }
            Some(key) => {
                block.fill(0, datagram.source.map_or(Endpoint::NONE, Endpoint::from));
                let to = Delivery { queue: seat.queue, key: Some(key.as_bytes()), priority: 0 };
                match seat.participant.deliver(to, block) {
                    Ok(Delivered::Dropped) => Settled::Held,
                    Ok(_) => {
                        counters.end_told();
                        Settled::Delivered
                    }
                    Err((_, block)) => {
                        self.blocks.push_back(block);
                        Settled::Held
                    }
                }
            }
        };
        source.settle(&datagram, settled);
    }

    /// Tells an object whose connection ended with its host, or with the port before this one. False: try again.
    pub(super) fn tell_orphan(
        &mut self,
        seat: &mut Seat,
        key: &[u8],
        end: Endpoint,
        counters: &Counters,
    ) -> bool {
        let Ok(mut block) = seat.participant.packet(0) else { return false };
        block.fill(0, end);
        match seat
            .participant
            .deliver(Delivery { queue: seat.queue, key: Some(key), priority: 0 }, block)
        {
            Ok(Delivered::Dropped) => false,
            Ok(_) => {
                counters.end_told();
                true
            }
            Err((_, block)) => {
                seat.participant.discard(block);
                false
            }
        }
    }

    /// The block comes back if it is to be held.
    fn deliver(
        &mut self,
        seat: &mut Seat,
        key: Option<PacketKey>,
        block: InboundPacket,
        counters: &Counters,
    ) -> Result<Settled, InboundPacket> {
        let key = key.as_ref().map(PacketKey::as_bytes);
        match seat.hand_in(Delivery { queue: seat.queue, key, priority: 0 }, block) {
            Ok(Delivered::Dropped) => {
                self.fair.iter_mut().for_each(|fair| fair.found_no_room(1));
                counters.dropped("newest dropped", 1);
                Ok(Settled::Dropped)
            }
            Ok(delivered) => {
                self.fair.iter_mut().for_each(FairShares::delivered);
                seat.participant.count(Counter::Delivered);
                counters.delivered(delivered == Delivered::ToNew);
                Ok(Settled::Delivered)
            }
            Err((error, block)) => {
                let holds = seat.region.policy(seat.queue).overload == Overload::Hold;
                if holds && error.is_overload() {
                    return Err(block);
                }
                self.blocks.push_back(block);
                if error.is_overload() {
                    self.fair.iter_mut().for_each(|fair| fair.found_no_room(1));
                }
                let (reason, counter) = reason_of(&error);
                counter.into_iter().for_each(|counter| seat.participant.count(counter));
                counters.dropped(reason, 1);
                Ok(Settled::Refused)
            }
        }
    }

    /// Nothing can be delivered, or read, for now.
    fn hold(&mut self, seat: &Seat) {
        if self.held_since.is_none() {
            self.held_since = Some(Instant::now());
            seat.participant.count(Counter::Held);
        }
    }

    /// Tries what is held once more, in order; says whether there was room for the first.
    fn retry(&mut self, seat: &mut Seat, counters: &Counters) -> bool {
        let mut worked = false;
        while let Some((key, block)) = self.held.pop_front() {
            match self.deliver(seat, key, block, counters) {
                Ok(_) => {}
                Err(block) if self.held_since.is_some_and(|since| since.elapsed() > HOLD_MAX) => {
                    self.blocks.push_back(block);
                    seat.participant.count(Counter::DroppedInbox);
                    counters.dropped("held for too long", 1);
                }
                Err(block) => {
                    self.held.push_front((key, block));
                    return worked;
                }
            }
            // The next one waits for its own room.
            self.held_since = (!self.held.is_empty()).then(Instant::now);
            worked = true;
        }
        worked
    }

    /// Overload: no block is free. The packets are taken off the socket and counted; left there,
    /// they would only be dropped by the kernel later, and the newest first.
    fn drain<K: PacketSource>(
        &mut self,
        seat: &Seat,
        source: &mut K,
        counters: &Counters,
    ) -> io::Result<bool> {
        self.batch.clear();
        if let Err(error) = source.discard(self.batch_max, &mut self.batch) {
            return passing(error);
        }
        let count = self.batch.len() as u64;
        let mut over = 0;
        if let Some(fair) = &mut self.fair {
            fair.turn(Instant::now());
            // Who they are from counts all the same, or a flood that leaves no block would be the only source there is.
            for source in self.batch.iter().filter_map(|packet| packet.source) {
                match fair.admits(source) {
                    true => fair.found_no_room(1),
                    false => over += 1,
                }
            }
        }
        seat.participant.add(Counter::Received, count);
        seat.participant.add(Counter::DroppedMemory, count);
        counters.received(count);
        counters.dropped(OVER_ITS_SHARE, over);
        counters.dropped(OUT_OF_MEMORY, count - over);
        Ok(count > 0)
    }
}

/// Errors of a read that say nothing about the next one: nothing there, a signal, or the echo of
/// an earlier send to a peer that is gone.
pub(crate) fn passing(error: io::Error) -> io::Result<bool> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(false),
        Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN) => {
            Ok(true)
        }
        _ => Err(error),
    }
}

/// The reason, and the region's counter for it if the delivery has not counted it.
fn reason_of(error: &DeliverError) -> (&'static str, Option<Counter>) {
    match error {
        DeliverError::NotPrimary => (NOT_PRIMARY, Some(Counter::DroppedRole)),
        DeliverError::InboxFull => ("inbox full", None),
        DeliverError::Busy => ("object busy", Some(Counter::DroppedInbox)),
        error if error.is_overload() => (OUT_OF_MEMORY, None),
        DeliverError::OutOf(_) => (OUT_OF_MEMORY, Some(Counter::DroppedMemory)),
        DeliverError::KeyTooLong { .. } => ("key too long", Some(Counter::DroppedMalformed)),
        _ => ("not delivered", Some(Counter::DroppedMemory)),
    }
}
