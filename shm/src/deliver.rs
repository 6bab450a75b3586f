//! Ingest: a packet becomes a message to the object that bears its key, or to a new object.
//!
//! ```text
//!              port               port: linked          claimer           commit
//!   Private ──────────► Linking ───────────────► Linked ───────► Taken ───────────► Retired
//!   received            │ reaper: found in the inbox or put there     ◄── given back
//! ```
//!
//! What becomes of a message that there is no room for says its queue's [`Overload`]: docs/overload.md.

use std::time::Duration;

use crate::counters::Counter;
use crate::endpoint::Endpoint;
use crate::geometry::KEY_BYTES_MAX;
use crate::inbox::{self, PushError};
use crate::index::{self, Lookup};
use crate::keys::Insert;
use crate::map::Map;
use crate::object::{Reserved, lane_within, placing_of, release_reserved, reserve_object};
use crate::participant::Participant;
use crate::policy::Overload;
use crate::pool::OutOf;
use crate::process::monotonic_ns;
use crate::region::{QueueId, Region};
use crate::sync::Ordering;
use crate::tx::{self, COMMIT_STALL, Draft, Operation, Refusal, Target};
use crate::value::{seal, value_block};
use crate::words::{BlockState, BlockWord, InboxWord, RoleEpoch, SlotState};

/// Bytes before the data of a packet: its endpoint, padded so that data is aligned.
pub(crate) const DATA_AT: usize = Endpoint::BYTES.next_multiple_of(16);

/// How long a delivery waits for commits that are in its way.
const DELIVER_WAIT: Duration = Duration::from_millis(20);

/// A private block to receive into.
///
/// Deliver it, or give it back by [`Participant::discard`]; if it is merely dropped, it stays in this
/// process's name until the process leaves.
#[must_use = "a packet that is dropped is neither delivered nor given back"]
#[derive(Debug)]
pub struct InboundPacket {
    block: u32,
    region: Region,
}

impl InboundPacket {
    /// Where the data goes: the whole room.
    pub fn buffer_mut(&mut self) -> &mut [u8] {
        match self.region.map.private_mut(self.block) {
            Some(payload) => &mut payload[DATA_AT..],
            None => &mut [],
        }
    }

    /// Says how many bytes of the buffer arrived, and from where.
    ///
    /// # Panics
    /// If `len` is more than the buffer holds.
    pub fn fill(&mut self, len: usize, source: Endpoint) {
        self.fill_at(len, source, monotonic_ns());
    }

    /// The same of a packet that came at `now`, in monotonic nanoseconds: those of one batch came at once.
    ///
    /// # Panics
    /// As [`fill`](Self::fill).
    pub fn fill_at(&mut self, len: usize, source: Endpoint, now: u64) {
        assert!(len <= self.buffer_mut().len(), "{len} bytes do not fit into the packet");
        let map = &self.region.map;
        let (Some(block), Some(payload)) = (map.block(self.block), map.private_mut(self.block))
        else {
            return;
        };
        payload[..Endpoint::BYTES].copy_from_slice(&source.to_bytes());
        block.row.shape.store(Endpoint::BYTES as u32, Ordering::Relaxed);
        block.row.len.store(len as u32, Ordering::Relaxed);
        block.row.stamp.store(now, Ordering::Relaxed);
    }

    /// The bytes that arrived.
    pub fn data(&self) -> &[u8] {
        self.parts().1
    }

    /// Where they came from, and the bytes.
    pub(crate) fn parts(&self) -> (&[u8], &[u8]) {
        self.region.map.held(self.block).unwrap_or((&[], &[]))
    }
}

/// Where a message goes.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'k> {
    /// The queue of the object.
    pub queue: QueueId,
    /// Its key; `None` for an object of the message's own.
    pub key: Option<&'k [u8]>,
    /// Lane of an object that is created for the message: 0 is the most urgent.
    pub priority: u8,
}

/// What a delivery did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// The object existed.
    ToExisting,
    /// The object was created for this message.
    ToNew,
    /// There was no room, and the queue's policy is to drop the newest: it is counted, and its block free again.
    Dropped,
}

/// Why a message was not delivered. It comes back with the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// This region is not primary.
    #[error("the region is not primary")]
    NotPrimary,
    /// As many messages wait for the object as may wait.
    #[error("the object's inbox is full")]
    InboxFull,
    /// A commit on the object or its key was in the way for too long.
    #[error("other commits were in the way for too long")]
    Busy,
    /// No room for the object.
    #[error(transparent)]
    OutOf(#[from] OutOf),
    /// Keys are stored with the value.
    #[error("the key is {bytes} bytes long, at most {KEY_BYTES_MAX} are possible")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
}

impl DeliverError {
    /// There was no room for the message: its object's inbox is full, or no block or slot is free, or none that is not kept
    /// for commits.
    pub fn is_overload(&self) -> bool {
        match self {
            Self::InboxFull => true,
            Self::OutOf(out_of) => !matches!(out_of, OutOf::TooLarge { .. } | OutOf::Damaged(_)),
            _ => false,
        }
    }
}

impl Participant {
    /// A block to receive a packet of up to `capacity` bytes into.
    pub fn packet(&mut self, capacity: usize) -> Result<InboundPacket, OutOf> {
        let block = self.take_block(DATA_AT + capacity)?;
        Ok(InboundPacket { block, region: self.region.clone() })
    }

    /// A packet with a copy of `data`.
    pub fn packet_of(&mut self, data: &[u8], source: Endpoint) -> Result<InboundPacket, OutOf> {
        let mut packet = self.packet(data.len())?;
        packet.buffer_mut()[..data.len()].copy_from_slice(data);
        packet.fill(data.len(), source);
        Ok(packet)
    }

    /// Gives a packet's block back.
    pub fn discard(&mut self, packet: InboundPacket) {
        self.supply.give_block(&self.region.map, packet.block);
    }

    /// Hands a packet to its object as a message, and creates the object if there is none.
    ///
    /// On an error the packet comes back, to be tried again or discarded; nothing has happened. If there is no room, that
    /// is an error only where the queue's [`Overload`] is `Reject`, which counts it, or `Hold`.
    pub fn deliver(
        &mut self,
        to: Delivery<'_>,
        packet: InboundPacket,
    ) -> Result<Delivered, (DeliverError, InboundPacket)> {
        self.hand_in(to, packet, |seat, role, packet| seat.deliver_copy(role, to, packet, 0))
    }

    /// Does so under the role of the moment, and again under the next one where that has changed meanwhile.
    #[inline]
    pub(crate) fn hand_in(
        &mut self,
        to: Delivery<'_>,
        mut packet: InboundPacket,
        how: impl Fn(
            &mut Self,
            RoleEpoch,
            InboundPacket,
        ) -> Result<Delivered, (DeliverError, InboundPacket)>,
    ) -> Result<Delivered, (DeliverError, InboundPacket)> {
        if let Some(bytes) = to.key.map(<[u8]>::len).filter(|&bytes| bytes > KEY_BYTES_MAX) {
            return Err((DeliverError::KeyTooLong { bytes }, packet));
        }
        loop {
            let Some(role) = self.enter() else {
                return Err((DeliverError::NotPrimary, packet));
            };
            let result = how(self, role, packet);
            self.leave();
            packet = match result {
                Err((error, packet)) if error.is_overload() => {
                    return self.overloaded(to.queue, error, packet);
                }
                // What was read before the role changed may still be handed in. Under the same word it is refused for another
                // reason, and would be again.
                Err((DeliverError::NotPrimary, packet))
                    if self.region.role() != role && self.region.role().serves() =>
                {
                    packet
                }
                other => return other,
            };
        }
    }

    /// The same, under a role that was entered; `letter` names the letter of which the packet is a copy.
    pub(crate) fn deliver_copy(
        &mut self,
        role: RoleEpoch,
        to: Delivery<'_>,
        packet: InboundPacket,
        letter: u64,
    ) -> Result<Delivered, (DeliverError, InboundPacket)> {
        self.message_count += 1;
        let id = u64::from(self.owner()) << 48 | self.message_count;
        if let Some(block) = self.region.map.block(packet.block) {
            block.row.id.store(id, Ordering::Relaxed);
            block.row.deadline.store(letter, Ordering::Relaxed);
        }
        let key = to.key.unwrap_or(&[]);
        let result = self.deliver_under(role, to, key, packet.block);
        result.map_err(|error| (error, packet))
    }

    #[cold]
    fn overloaded(
        &mut self,
        queue: QueueId,
        error: DeliverError,
        packet: InboundPacket,
    ) -> Result<Delivered, (DeliverError, InboundPacket)> {
        match self.region.policy(queue).overload {
            Overload::Hold => return Err((error, packet)),
            Overload::Reject => {
                self.count(Counter::Rejected);
                return Err((error, packet));
            }
            Overload::DropNewest | Overload::DropOldest => {}
        }
        self.count(Counter::DroppedNewest);
        self.discard(packet);
        Ok(Delivered::Dropped)
    }

    fn deliver_under(
        &mut self,
        role: RoleEpoch,
        to: Delivery<'_>,
        key: &[u8],
        block: u32,
    ) -> Result<Delivered, DeliverError> {
        let queue = to.queue;
        let hash = self.region.key_hash(queue.0, key);
        // From the first try on: who is preempted before it has not waited for anybody.
        let mut begun = None;
        let mut waited = Duration::ZERO;
        loop {
            let map: &Map = &self.region.map;
            if waited > DELIVER_WAIT {
                return Err(DeliverError::Busy);
            }
            if self.region.role() != role {
                return Err(DeliverError::NotPrimary);
            }
            let looked_up = match key {
                [] => None,
                _ => Some(index::lookup(map, hash, queue.0, key)),
            };
            let found = match looked_up {
                Some(Lookup::Found { slot, incarnation }) => Ok(Some((slot, incarnation))),
                Some(Lookup::Absent { .. }) | None => Ok(None),
                Some(Lookup::Undecided { bucket, word }) => {
                    index::settle(map, bucket, word, waited > COMMIT_STALL);
                    Err(())
                }
                Some(Lookup::Unstable) => Err(()),
            };
            match found {
                Ok(Some((slot, incarnation))) => match self.link(slot, incarnation, block) {
                    Ok(()) => return Ok(Delivered::ToExisting),
                    Err(PushError::Full) => return Err(DeliverError::InboxFull),
                    // Being withdrawn: it may stay, or its key will be free.
                    Err(PushError::Gone | PushError::Closed) => {}
                },
                Ok(None) => match self.create_for(role, to, key, hash, block) {
                    Ok(()) => return Ok(Delivered::ToNew),
                    // Somebody else created it: the message goes there.
                    Err(CreateFailure::Refused(Refusal::KeyTaken)) => {}
                    Err(CreateFailure::Refused(Refusal::Fenced)) => {
                        return Err(DeliverError::NotPrimary);
                    }
                    Err(CreateFailure::Refused(_)) => return Err(DeliverError::Busy),
                    Err(CreateFailure::OutOf(out_of)) => return Err(out_of.into()),
                },
                Err(()) => {}
            }
            std::hint::spin_loop();
            let now = monotonic_ns();
            waited = Duration::from_nanos(now - *begun.get_or_insert(now));
        }
    }

    /// Links a private block as a message to an existing object.
    fn link(&mut self, slot: u32, incarnation: u32, block: u32) -> Result<(), PushError> {
        let region = &self.region;
        let Some(message) = region.map.block(block) else {
            return Err(PushError::Gone);
        };
        let private = BlockWord(message.row.word.load(Ordering::Relaxed));
        let linking = private.next(BlockState::Linking, self.owner(), slot);
        // ORDER linking/1 Release, pairs with linking/2. The reaper looks here: a message in this state may or
        // may not be in the inbox.
        self.row().linking.store(u64::from(slot) << 32 | u64::from(block + 1), Ordering::Release);
        message.row.incarnation.store(incarnation, Ordering::Relaxed);
        message.row.word.store(linking.0, Ordering::Release);
        let pushed = inbox::push(&region.map, slot, incarnation, block);
        if pushed.is_ok() {
            // While it is Linking: a reaper that finds it so does it again.
            let dropped = inbox::drop_oldest(&region.map, slot);
            if dropped > 0 {
                self.add(Counter::DroppedOldest, dropped);
            }
            // A claimer may have taken it already: then it is not Linking any more.
            inbox::mark(&region.map, block, linking, BlockState::Linked, 0);
        } else {
            let back = linking.next(BlockState::Private, self.owner(), 0);
            message.row.word.store(back.0, Ordering::Release);
        }
        self.row().linking.store(0, Ordering::Release);
        pushed?;
        // ORDER ready/2 SeqCst (the push above), pairs with ready/3: this look comes after.
        region.look_again(slot);
        Ok(())
    }

    /// Creates an object whose inbox holds `block`, in one commit.
    fn create_for(
        &mut self,
        role: RoleEpoch,
        to: Delivery<'_>,
        key: &[u8],
        hash: u64,
        block: u32,
    ) -> Result<(), CreateFailure> {
        let region = self.region.clone();
        let map: &Map = &region.map;
        let queue = to.queue;
        let priority = lane_within(&self.region.map, queue, to.priority);
        let Reserved { slot, word, incarnation } = reserve_object(self, queue, priority, hash)?;
        let placing = placing_of(queue, priority);
        let value = if key.is_empty() {
            None
        } else {
            let value = value_block(&region, &mut self.supply, key, &[], placing, incarnation);
            Some(value.inspect_err(|_| release_reserved(&region, slot, word))?.index)
        };
        let mut draft = Draft::new(role);
        if let Some(value) = value {
            seal(map, value);
            draft.publish(map, value, BlockState::Value, slot);
        }
        if let (Some(message), Some(row)) = (map.block(block), map.slot(slot)) {
            message.row.incarnation.store(incarnation, Ordering::Relaxed);
            message.row.next.store(0, Ordering::Relaxed);
            // The slot is reserved by this process: its inbox is its own until the commit.
            let inbox = InboxWord::new(incarnation, false, 1, Some(block));
            row.inbox.store(inbox.0, Ordering::SeqCst);
        }
        draft.publish(map, block, BlockState::Linked, slot);
        draft.first.push(Operation {
            target: Target::Slot(slot),
            expected: word.0,
            new: word.next(SlotState::Idle, 0, value).0,
            incarnation,
            placing,
        });
        if !key.is_empty() {
            draft.inserts.push(Insert { slot, queue: queue.0, hash, key: key.to_vec() });
        }
        match tx::commit(&region, self.seat, &mut draft) {
            Ok(_) => {
                self.count(Counter::Created);
                Ok(())
            }
            Err(refusal) => {
                if let Some(value) = value {
                    self.supply.give_block(map, value);
                }
                release_reserved(&region, slot, word);
                Err(CreateFailure::Refused(refusal))
            }
        }
    }
}

enum CreateFailure {
    Refused(Refusal),
    OutOf(OutOf),
}

impl From<OutOf> for CreateFailure {
    fn from(out_of: OutOf) -> Self {
        Self::OutOf(out_of)
    }
}
