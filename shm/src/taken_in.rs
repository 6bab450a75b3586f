//! Packets that are not lost with the server that took them in.
//!
//! ```text
//!   port's commit: a letter ──► its copy in the inbox ──► commit of a worker: copy consumed, letter withdrawn
//!          │ shipped, as every commit
//!          ▼
//!   back-up: the same letter, undelivered ── promoted ──► its copy in the inbox ──► …
//! ```
//!
//! Such a packet is a letter (letter.rs) that no object has sent: the commit of the port does nothing but create it. Whoever
//! claims sees a message, as of any packet. It is shipped before the commit of its reader, which has a later seq, so nothing
//! that was told to the outside depends on a packet that the back-up does not have.
//!
//! What is committed is not dropped any more. So whether there is room is found out before.

use crate::counters::Counter;
use crate::deliver::{DeliverError, Delivered, Delivery, InboundPacket};
use crate::endpoint::Endpoint;
use crate::index::{self, Lookup};
use crate::letter::{LETTER, Letter};
use crate::map::Map;
use crate::object::{Reserved, lane_within, placing_of, release_reserved, reserve_object};
use crate::participant::Participant;
use crate::sync::Ordering;
use crate::tx::{self, Draft, Operation, Refusal, Target};
use crate::value::{seal, value_block};
use crate::words::{BlockState, InboxWord, RoleEpoch, SlotState};

/// What the block of a letter holds besides the packet, at most: so much less is the longest packet that can be taken in.
pub const TAKEN_IN_BYTES: usize = Letter::AROUND_BYTES_MAX;

/// What the key of a packet begins with that has none of its own; behind it stand slot and incarnation of its letter, which
/// no other letter has had.
const NAMELESS: [u8; 4] = *b"in\0\0";

impl Participant {
    /// As [`deliver`](Self::deliver), and the message is not lost with this server: it is a commit of its own, shipped to the
    /// back-up, and read once, on whichever side reads it. A packet without a key gets one that no other has.
    ///
    /// It needs a slot and a block more until it is read. On an error the packet comes back, and nothing has happened.
    pub fn take_in(
        &mut self,
        to: Delivery<'_>,
        packet: InboundPacket,
    ) -> Result<Delivered, (DeliverError, InboundPacket)> {
        self.hand_in(to, packet, |seat, role, packet| {
            let key = to.key.unwrap_or(&[]);
            match seat.take_in_under(role, to, key, &packet) {
                Ok(delivered) => {
                    seat.discard(packet);
                    Ok(delivered)
                }
                Err(error) => Err((error, packet)),
            }
        })
    }

    /// Offers letters again that found no room, as far as it is time: at the latest when
    /// [`next_offer`](Self::next_offer) says so. For ports, which claim nothing.
    pub fn offer_letters(&mut self) {
        if !self.conflicts.is_empty() {
            self.conflicts.hint_due(&self.region);
        }
    }

    fn take_in_under(
        &mut self,
        role: RoleEpoch,
        to: Delivery<'_>,
        key: &[u8],
        packet: &InboundPacket,
    ) -> Result<Delivered, DeliverError> {
        let existing = self.has_room(to, key)?;
        let letter = self.commit_letter(role, to, key, packet)?;
        self.deliver_letter(role, letter);
        Ok(if existing { Delivered::ToExisting } else { Delivered::ToNew })
    }

    /// Whether the object exists.
    ///
    /// # Errors
    /// When as many messages wait for it as may.
    fn has_room(&self, to: Delivery<'_>, key: &[u8]) -> Result<bool, DeliverError> {
        let map: &Map = &self.region.map;
        if key.is_empty() {
            return Ok(false);
        }
        let hash = self.region.key_hash(to.queue.0, key);
        let Lookup::Found { slot, incarnation } = index::lookup(map, hash, to.queue.0, key) else {
            return Ok(false);
        };
        let Some(row) = map.slot(slot) else { return Ok(false) };
        let inbox = InboxWord(row.inbox.load(Ordering::SeqCst));
        let limit = u32::from(map.geometry().inbox_limit);
        match inbox.is_of(incarnation) && inbox.depth() >= limit {
            true => Err(DeliverError::InboxFull),
            false => Ok(true),
        }
    }

    /// Creates the letter, in one commit; gives its slot.
    fn commit_letter(
        &mut self,
        role: RoleEpoch,
        to: Delivery<'_>,
        key: &[u8],
        packet: &InboundPacket,
    ) -> Result<u32, DeliverError> {
        let region = self.region.clone();
        let map: &Map = &region.map;
        let priority = lane_within(map, to.queue, to.priority) | LETTER;
        let placing = placing_of(to.queue, priority);
        let Reserved { slot, word, incarnation } =
            reserve_object(self, to.queue, priority, region.key_hash(to.queue.0, &[]))?;
        let mut own = [0; NAMELESS.len() + 8];
        let key = match key {
            [] => {
                own[..4].copy_from_slice(&NAMELESS);
                own[4..8].copy_from_slice(&slot.to_be_bytes());
                own[8..].copy_from_slice(&incarnation.to_be_bytes());
                &own[..]
            }
            key => key,
        };
        let (source, data) = packet.parts();
        let value = Letter::write(key, data, Endpoint::from_bytes(source));
        let block = value_block(&region, &mut self.supply, &[], &value, placing, incarnation)
            .inspect_err(|_| release_reserved(&region, slot, word))?
            .index;
        let mut draft = Draft::new(role);
        seal(map, block);
        draft.publish(map, block, BlockState::Value, slot);
        draft.first.push(Operation {
            target: Target::Slot(slot),
            expected: word.0,
            new: word.next(SlotState::Ready, 0, Some(block)).0,
            incarnation,
            placing,
        });
        match tx::commit(&region, self.seat, &mut draft) {
            Ok(_) => {
                self.count(Counter::Created);
                self.count(Counter::TakenIn);
                Ok(slot)
            }
            Err(refusal) => {
                self.supply.give_block(map, block);
                release_reserved(&region, slot, word);
                Err(match refusal {
                    Refusal::Fenced => DeliverError::NotPrimary,
                    _ => DeliverError::Busy,
                })
            }
        }
    }
}
