//! From the socket into the inboxes of objects.
//!
//! As many private blocks as a batch has packets are kept in hand, so that the kernel writes each
//! packet where it stays: the block becomes the message. A packet that is dropped leaves its block
//! in hand for the next one.
//!
//! Where the queue's policy is to hold, a packet that there is no room for stays in hand, with those that were read behind
//! it, and nothing is read until it is delivered: what comes next waits in the socket. It is tried again with each step,
//! and given up after [`HOLD_MAX`]: an object that nobody works on must not silence all the others.

use std::collections::VecDeque;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hotpair_shm::{Counter, DeliverError, Delivered, Delivery, Endpoint, InboundPacket, Overload};

use super::PortConfig;
use super::seat::Seat;
use crate::classify::{Classified, Classifier, PacketKey, contained};
use crate::counters::Counters;
use crate::mmsg::{Datagram, Receiver};

/// Packets of which only the fact is kept are read into this much each.
const SCRATCH_BYTES: usize = 1;

/// How long a packet is held that there is no room for.
const HOLD_MAX: Duration = Duration::from_secs(1);

pub(crate) const TOO_LONG: &str = "too long";
const OUT_OF_MEMORY: &str = "no free block or slot";
const NOT_PRIMARY: &str = "not primary any more";

pub(super) struct Ingress {
    receiver: Receiver,
    blocks: VecDeque<InboundPacket>,
    batch: Vec<Datagram>,
    scratch: Vec<[u8; SCRATCH_BYTES]>,
    packet_bytes_max: usize,
    /// Read and classified, oldest first: there was no room for the first one.
    held: VecDeque<(Option<PacketKey>, InboundPacket)>,
    /// Since when nothing could be delivered or read.
    held_since: Option<Instant>,
}

impl Ingress {
    pub(super) fn new(config: &PortConfig) -> Self {
        let count = config.receive_batch;
        Ingress {
            receiver: Receiver::new(count),
            blocks: VecDeque::with_capacity(count),
            batch: Vec::with_capacity(count),
            scratch: vec![[0; SCRATCH_BYTES]; count],
            packet_bytes_max: config.packet_bytes_max,
            held: VecDeque::with_capacity(count),
            held_since: None,
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
    pub(super) fn give_back(&mut self, seat: &mut Seat, counters: &Counters) {
        self.held_since = None;
        seat.participant.end_reading();
        for (_, block) in self.held.drain(..) {
            seat.participant.count(Counter::DroppedRole);
            counters.dropped(NOT_PRIMARY, 1);
            seat.participant.discard(block);
        }
        for block in self.blocks.drain(..) {
            seat.participant.discard(block);
        }
    }

    /// Reads one batch and hands it on; says whether there was anything.
    pub(super) fn step(
        &mut self,
        seat: &mut Seat,
        socket: &UdpSocket,
        classifier: &mut dyn Classifier,
        counters: &Counters,
    ) -> io::Result<bool> {
        if !self.held.is_empty() {
            let worked = self.retry(seat, counters);
            self.end_reading(seat);
            return Ok(worked);
        }
        let room = self.packet_bytes_max.min(seat.packet_room);
        while self.blocks.len() < self.scratch.len() {
            match seat.participant.packet(room) {
                Ok(block) => self.blocks.push_back(block),
                Err(_) => break,
            }
        }
        // The right to read is looked at again here: taking blocks may have taken its time.
        if !seat.begin_reading() {
            return Ok(false);
        }
        let read = self.read(seat, socket, classifier, counters, room);
        self.end_reading(seat);
        read
    }

    /// What is held was read, and is not delivered.
    fn end_reading(&self, seat: &mut Seat) {
        if self.held.is_empty() {
            seat.participant.end_reading();
        }
    }

    fn read(
        &mut self,
        seat: &mut Seat,
        socket: &UdpSocket,
        classifier: &mut dyn Classifier,
        counters: &Counters,
        room: usize,
    ) -> io::Result<bool> {
        if self.blocks.is_empty() {
            if seat.region.policy(seat.queue).overload == Overload::Hold {
                self.hold(seat);
                return Ok(false);
            }
            return self.drain(seat, socket, counters);
        }
        self.held_since = None;
        let buffers = self.blocks.iter_mut().map(|block| {
            let buffer = block.buffer_mut();
            let len = buffer.len().min(room);
            &mut buffer[..len]
        });
        self.batch.clear();
        match self.receiver.receive(socket.as_fd(), buffers) {
            Ok(datagrams) => self.batch.extend(datagrams),
            Err(error) => return passing(error),
        }
        counters.received(self.batch.len() as u64);
        seat.participant.add(Counter::Received, self.batch.len() as u64);
        for at in 0..self.batch.len() {
            let block = self.blocks.pop_front().expect("one block was lent for each datagram");
            self.hand_on(seat, block, self.batch[at], classifier, counters);
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
    ) {
        let classified = if datagram.truncated {
            Classified::Drop(TOO_LONG)
        } else {
            match datagram.source {
                Some(source) => {
                    let payload = &block.buffer_mut()[..datagram.len];
                    let classified = contained(classifier, payload, source);
                    block.fill(datagram.len, Endpoint::from(source));
                    classified
                }
                None => Classified::Drop("no source address"),
            }
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
                return;
            }
        };
        if self.held.is_empty() {
            if let Err(block) = self.deliver(seat, key, block, counters) {
                self.held.push_back((key, block));
                self.hold(seat);
            }
        } else {
            self.held.push_back((key, block));
        }
    }

    /// The block comes back if it is to be held.
    fn deliver(
        &mut self,
        seat: &mut Seat,
        key: Option<PacketKey>,
        block: InboundPacket,
        counters: &Counters,
    ) -> Result<(), InboundPacket> {
        let key = key.as_ref().map(PacketKey::as_bytes);
        match seat.participant.deliver(Delivery { queue: seat.queue, key, priority: 0 }, block) {
            Ok(Delivered::Dropped) => counters.dropped("newest dropped", 1),
            Ok(delivered) => {
                seat.participant.count(Counter::Delivered);
                counters.delivered(delivered == Delivered::ToNew);
            }
            Err((error, block)) => {
                let holds = seat.region.policy(seat.queue).overload == Overload::Hold;
                if holds && error.is_overload() {
                    return Err(block);
                }
                self.blocks.push_back(block);
                let (reason, counter) = reason_of(&error);
                counter.into_iter().for_each(|counter| seat.participant.count(counter));
                counters.dropped(reason, 1);
            }
        }
        Ok(())
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
                Ok(()) => {}
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
    fn drain(&mut self, seat: &Seat, socket: &UdpSocket, counters: &Counters) -> io::Result<bool> {
        let buffers = self.scratch.iter_mut().map(<[u8; SCRATCH_BYTES]>::as_mut_slice);
        match self.receiver.receive(socket.as_fd(), buffers) {
            Ok(datagrams) => {
                let count = datagrams.len() as u64;
                seat.participant.add(Counter::Received, count);
                seat.participant.add(Counter::DroppedMemory, count);
                counters.received(count);
                counters.dropped(OUT_OF_MEMORY, count);
                Ok(count > 0)
            }
            Err(error) => passing(error),
        }
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
