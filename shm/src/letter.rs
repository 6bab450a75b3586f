//! Messages from object to object.
//!
//! A message that a commit sends must be as safe as the commit itself. So it is an object of its own, a
//! *letter*: the commit creates it, and it is shipped, copied and counted like any other object. It lies in the
//! queue and lane of the object that it is for.
//!
//! ```text
//!   sender's commit     sender, or a worker that finds it in the lane       commit of the addressee
//!  Reserved ──► Ready ──────────────────────────────────────────────► Idle ────────────────────────► Free
//!                 ▲     swap; then a copy goes into the inbox           │
//!                 └── reaper of the deliverer; a back-up never learns ──┘
//! ```
//!
//! Delivering is no commit: it puts a copy, which names its letter, into the inbox of the object, and creates
//! the object if there is none. The claimer that takes the copy takes the letter as well, and the commit that
//! consumes the one withdraws the other. If a deliverer dies, or the node, the letter is delivered again;
//! a copy whose letter is gone, or is in the same hands already, is dropped by its claimer.

use crate::claim::{Claim, Create, CreateObjectError};
use crate::counters::Counter;
use crate::deliver::{DATA_AT, Delivery};
use crate::endpoint::Endpoint;
use crate::geometry::KEY_BYTES_MAX;
use crate::held::Held;
use crate::inbox;
use crate::layout::{BlockRow, ParticipantRow, SlotRow};
use crate::map::Map;
use crate::object::{placing_of, release_reserved, reserve_object};
use crate::participant::Participant;
use crate::pool::OutOf;
use crate::region::{QueueId, Region};
use crate::sync::Ordering;
use crate::value::value_block;
use crate::words::{BlockState, BlockWord, RoleEpoch, SlotState, SlotWord};

/// Marks a letter beside the priority of its lane, wherever an object's priority travels.
pub const LETTER: u8 = 0x80;

/// Letters that one claim takes at most: each is an object of its commit.
const LETTERS_PER_CLAIM: usize = 8;

/// Whether the slot's object is a letter.
#[inline]
pub(crate) fn is_letter(row: &SlotRow) -> bool {
    marks_letter(row.placing.load(Ordering::Relaxed))
}

/// Whether the object with this `placing` is a letter.
#[inline]
pub(crate) fn marks_letter(placing: u32) -> bool {
    placing >> 8 & u32::from(LETTER) != 0
}

/// `queue` and `priority` of a `placing`, whatever its object is.
#[inline]
pub(crate) fn lane_of(placing: u32) -> (u8, u8) {
    (placing as u8, (placing >> 8) as u8 & !LETTER)
}

/// The letter that a message is a copy of: slot and incarnation.
#[inline]
pub(crate) fn original(message: &BlockRow) -> Option<(u32, u32)> {
    let named = message.deadline.load(Ordering::Relaxed);
    let slot = (named as u32).checked_sub(1)?;
    Some((slot, (named >> 32) as u32))
}

/// In the last byte of a letter: it is from an address, which stands before that byte.
const HAS_SOURCE: u8 = 0x80;

/// A letter as its value holds it: the payload first, which keeps its alignment, then the key, then the address that it is
/// from if there is one, then a byte: the key's length less one, and whether there is an address.
pub(crate) struct Letter {
    value: Vec<u8>,
    payload: usize,
    key: usize,
    source: Endpoint,
}

impl Letter {
    /// What stands behind the payload, at most.
    pub(crate) const AROUND_BYTES_MAX: usize = KEY_BYTES_MAX + Endpoint::BYTES + 1;

    /// The key is of 1 to [`KEY_BYTES_MAX`] bytes.
    pub(crate) fn write(key: &[u8], payload: &[u8], source: Endpoint) -> Vec<u8> {
        const { assert!(KEY_BYTES_MAX <= HAS_SOURCE as usize) };
        let last = (key.len() - 1) as u8;
        match source {
            Endpoint::NONE => [payload, key, &[last]].concat(),
            source => [payload, key, &source.to_bytes(), &[last | HAS_SOURCE]].concat(),
        }
    }

    pub(crate) fn read(value: Vec<u8>) -> Option<Letter> {
        let (&last, mut rest) = value.split_last()?;
        let mut source = Endpoint::NONE;
        if last & HAS_SOURCE != 0 {
            let (before, address) = rest.split_last_chunk::<{ Endpoint::BYTES }>()?;
            (rest, source) = (before, Endpoint::from_bytes(address));
        }
        let key = usize::from(last & !HAS_SOURCE) + 1;
        let payload = rest.len().checked_sub(key)?;
        Some(Letter { value, payload, key, source })
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.value[..self.payload]
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.value[self.payload..][..self.key]
    }
}

impl Claim<'_> {
    /// Sends a message with this commit to the object of `queue` that bears `key`, or to a new one if there is none when
    /// it arrives: as a packet would, but it is part of the commit. It is not lost and not doubled, whoever
    /// dies. While the inbox is full it is held, and tried again with back-off.
    ///
    /// Messages of one process to one object arrive in their order, unless one was held or somebody died in between.
    pub fn send(
        &mut self,
        queue: QueueId,
        key: &[u8],
        payload: &[u8],
    ) -> Result<(), CreateObjectError> {
        self.send_from(queue, key, payload, Endpoint::NONE)
    }

    /// The same, as a message that has come from `source`: a packet that shall not be lost with this server.
    pub fn send_from(
        &mut self,
        queue: QueueId,
        key: &[u8],
        payload: &[u8],
        source: Endpoint,
    ) -> Result<(), CreateObjectError> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(CreateObjectError::KeyLength { bytes: key.len() });
        }
        let region = self.participant.region.clone();
        // The copy that goes into the inbox bears an endpoint: a letter without room for it would never be delivered.
        let bytes = DATA_AT + payload.len();
        let largest =
            region.map.layout().classes.last().map_or(0, |class| class.payload_bytes as usize);
        if bytes > largest {
            return Err(OutOf::TooLarge { bytes, largest }.into());
        }
        let reserved =
            reserve_object(self.participant, queue, LETTER, region.key_hash(queue.0, &[]))?;
        let placing = placing_of(queue, LETTER);
        let value = Letter::write(key, payload, source);
        let supply = &mut self.participant.supply;
        let block = value_block(&region, supply, &[], &value, placing, reserved.incarnation)
            .inspect_err(|_| release_reserved(&region, reserved.slot, reserved.word))?;
        self.participant.work.creates.push(Create {
            slot: reserved.slot,
            word: reserved.word,
            block: Some(block.index),
            queue,
            placing,
            key: Vec::new(),
            ready: true,
            incarnation: reserved.incarnation,
        });
        Ok(())
    }
}

impl Participant {
    /// Puts a copy of a letter into the inbox of its object, unless somebody else has done it.
    pub(crate) fn deliver_letter(&mut self, role: RoleEpoch, slot: u32) {
        let region = self.region.clone();
        let Some(row) = region.map.slot(slot) else { return };
        let ready = SlotWord(row.word.load(Ordering::SeqCst));
        if !ready.is(SlotState::Ready) {
            return;
        }
        let Some(block) = ready.block().and_then(|index| region.map.block(index)) else { return };
        let (mut prefix, mut value) = (Vec::new(), Vec::new());
        let copied = block.copy_racy(&mut prefix, &mut value);
        let incarnation = row.incarnation.load(Ordering::Relaxed);
        // ORDER letter/1 Release, pairs with letter/2. The reaper looks here: this letter may have no copy yet.
        self.row().letter.store(slot + 1, Ordering::Release);
        let delivered = ready.next(SlotState::Idle, 0, ready.block());
        // Also says that what was copied above was the letter.
        if swap(row, ready, delivered) {
            let letter = copied.ok().and_then(|()| Letter::read(value));
            match letter.map(|letter| self.put_copy(role, row, slot, incarnation, &letter)) {
                Some(true) => {}
                Some(false) => {
                    self.count(Counter::LettersHeld);
                    let again = delivered.next(SlotState::Ready, 0, delivered.block());
                    if swap(row, delivered, again) {
                        self.conflicts.defer(slot);
                    }
                }
                // Damaged: put aside, where it is seen.
                None => {
                    let parked = delivered.next(SlotState::Parked, 0, delivered.block());
                    let _ = swap(row, delivered, parked);
                }
            }
        }
        self.row().letter.store(0, Ordering::Release);
    }

    fn put_copy(
        &mut self,
        role: RoleEpoch,
        row: &SlotRow,
        slot: u32,
        incarnation: u32,
        letter: &Letter,
    ) -> bool {
        let (queue, priority) = lane_of(row.placing.load(Ordering::Relaxed));
        let Ok(packet) = self.packet_of(letter.payload(), letter.source) else { return false };
        let to = Delivery { queue: QueueId(queue), key: Some(letter.key()), priority };
        let named = u64::from(incarnation) << 32 | u64::from(slot + 1);
        match self.deliver_copy(role, to, packet, named) {
            Ok(_) => true,
            Err((_, packet)) => {
                self.discard(packet);
                false
            }
        }
    }

    /// Takes the letters of the messages just taken for `slot` into the claim's hands, and drops the copies
    /// whose letter is there already or is gone.
    pub(crate) fn take_letters(&mut self, slot: u32) {
        let region = self.region.clone();
        let map: &Map = &region.map;
        let mut kept = 0;
        let mut dropped = false;
        for at in 0..self.taken.len() {
            let index = self.taken[at];
            let Some(block) = map.block(index) else { continue };
            let found = match original(block.row) {
                None => Original::Mine,
                Some(_) if self.work.others.len() == LETTERS_PER_CLAIM => Original::Elsewhere,
                Some((letter, incarnation)) => self.take_letter(map, letter, incarnation),
            };
            let word = BlockWord(block.row.word.load(Ordering::Relaxed));
            match found {
                Original::Mine => {
                    self.taken[kept] = index;
                    kept += 1;
                }
                Original::Gone => {
                    // Taken by this process: its own to store to. It leaves the chain below.
                    let private = word.next(BlockState::Private, self.owner(), 0);
                    block.row.word.store(private.0, Ordering::Relaxed);
                    inbox::prune(map, slot);
                    self.supply.give_block(map, index);
                    dropped = true;
                }
                // Behind it nothing is taken either: messages keep their order.
                Original::Elsewhere => {
                    for &later in &self.taken[at..] {
                        if let Some(block) = map.block(later) {
                            let word = BlockWord(block.row.word.load(Ordering::Relaxed));
                            inbox::mark(map, later, word, BlockState::Linked, 0);
                        }
                    }
                    break;
                }
            }
        }
        self.taken.truncate(kept);
        if dropped {
            self.count(Counter::CopiesDropped);
        }
    }

    fn take_letter(&mut self, map: &Map, slot: u32, incarnation: u32) -> Original {
        let Some(row) = map.slot(slot) else { return Original::Gone };
        let hint = self.next_hint.wrapping_add(self.work.others.len() as u8 + 1);
        loop {
            let seen = SlotWord(row.word.load(Ordering::SeqCst));
            // The incarnation is read after the word: if it is another, so is the word by now.
            if row.incarnation.load(Ordering::Acquire) != incarnation || !seen.is_object() {
                return Original::Gone;
            }
            if seen.is(SlotState::Claimed) {
                let mine = seen.owner() == self.owner();
                return if mine { Original::Gone } else { Original::Elsewhere };
            }
            if !seen.is_claimable() {
                return Original::Gone;
            }
            if let Some(word) = self.take_slot(row, slot, hint, seen) {
                let mut held = Held::new(&self.region, row, slot, word, seen.is(SlotState::Ready));
                held.withdraw = true;
                self.work.others.push(held);
                return Original::Mine;
            }
        }
    }
}

/// Where the letter of a copy is.
enum Original {
    /// In the hands of the claim, for this copy; or the message is no copy.
    Mine,
    /// Consumed, or in the claim's hands for another copy.
    Gone,
    /// In other hands, or the claim has its hands full.
    Elsewhere,
}

fn swap(row: &SlotRow, from: SlotWord, to: SlotWord) -> bool {
    // ORDER slot/1 SeqCst, pairs with slot/1.
    row.word.compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}

/// Offers the letter that the dead was delivering once more; for the reaper, any number of times.
pub(crate) fn offer_again(region: &Region, row: &ParticipantRow) {
    // ORDER letter/2 Acquire, pairs with letter/1.
    let Some(slot) = row.letter.load(Ordering::Acquire).checked_sub(1) else { return };
    if let Some(letter) = region.map.slot(slot) {
        offer(region, slot, letter);
    }
}

/// Makes a letter that counts as delivered ready again; true if it was one.
pub(crate) fn offer(region: &Region, slot: u32, letter: &SlotRow) -> bool {
    let seen = SlotWord(letter.word.load(Ordering::SeqCst));
    let offered = is_letter(letter)
        && seen.is(SlotState::Idle)
        && swap(letter, seen, seen.next(SlotState::Ready, 0, seen.block()));
    if offered {
        region.hint(slot, letter);
    }
    offered
}
