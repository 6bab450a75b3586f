//! A region that follows another one again: back to a state that both had, and out of the middle of a batch.
//!
//! For the node alone, and only while the region is quiet: the role is Changing or Backup, nobody holds anything
//! of an older role, the dead have been reaped, nobody reads in place.

use crate::applier;
use crate::index::links;
use crate::letter::{self, is_letter};
use crate::map::Map;
use crate::pool;
use crate::region::Region;
use crate::sync::Ordering;
use crate::words::{BlockState, BlockWord, InboxWord, Seq, SlotState, SlotWord};

impl Region {
    /// The seq of a slot's last change, of a free slot too.
    pub fn last_change(&self, slot: u32) -> Option<Seq> {
        // ORDER last_seq/2 Acquire, pairs with last_seq/1.
        Some(Seq::from_bits(self.map.slot(slot)?.last_seq.load(Ordering::Acquire)))
    }

    /// Slots that were changed after `since`.
    pub fn changed_since(&self, since: Seq) -> Vec<u32> {
        let slots = 0..self.geometry().slots;
        slots.filter(|&slot| self.last_change(slot).is_some_and(|seq| seq > since)).collect()
    }

    /// Goes back to the state that a region had at `since`, as far as it still can: what was changed later is
    /// gone, and the slots that are named in the answer have to be sent again, whatever they hold elsewhere.
    /// Messages and packets go too: the one were never part of the state, the others are sent anew.
    ///
    /// A node that dies half-way finds the same slots at its next attempt: their last change stays.
    pub fn rewind(&self, since: Seq) -> Vec<u32> {
        let map: &Map = &self.map;
        // An earlier attempt, or a transfer, may have been cut short between two steps.
        self.mend_torn();
        for slot in 0..map.geometry().slots {
            self.settle_slot(slot);
        }
        drop_in_transit(map);
        let lost = self.changed_since(since);
        for &slot in &lost {
            if let Ok(Some(block)) = applier::remove(self, slot) {
                free_value(map, block);
            }
        }
        self.close_gates();
        let header = self.header();
        header.released.word.store(0, Ordering::SeqCst);
        header.commit_seq.word.store(since.to_bits(), Ordering::SeqCst);
        header.gathered.word.store(since.to_bits(), Ordering::SeqCst);
        lost
    }

    /// What a claim, a failure or a delivery of an ended role left at an object, as a promotion elsewhere
    /// would have found it.
    fn settle_slot(&self, slot: u32) {
        let Some(row) = self.map.slot(slot) else { return };
        let seen = SlotWord(row.word.load(Ordering::SeqCst));
        let state = match seen.state() {
            // It may have been ready before it was claimed; too ready is harmless.
            Some(SlotState::Claimed) => SlotState::Ready,
            Some(SlotState::Parked) => SlotState::Idle,
            Some(SlotState::Idle | SlotState::Queued | SlotState::Ready) => {
                self.clear_inbox(slot);
                if is_letter(row) {
                    letter::offer(self, slot, row);
                }
                return;
            }
            Some(SlotState::Free | SlotState::Reserved) | None => return,
        };
        self.clear_inbox(slot);
        row.attempts.store(0, Ordering::Relaxed);
        let next = seen.next(state, 0, seen.block());
        let order = (Ordering::SeqCst, Ordering::Relaxed);
        if row.word.compare_exchange(seen.0, next.0, order.0, order.1).is_ok()
            && state == SlotState::Ready
        {
            self.hint(slot, row);
        }
    }

    fn clear_inbox(&self, slot: u32) {
        let Some(row) = self.map.slot(slot) else { return };
        let open = InboxWord::new(row.incarnation.load(Ordering::Relaxed), false, 0, None);
        row.inbox.store(open.0, Ordering::SeqCst);
    }

    /// Makes good what a death in the middle of a batch, of a transfer or on the way back left half done, so that it can
    /// be done once more: keys that lead nowhere yet, values that no slot names any more.
    pub fn mend_torn(&self) {
        let map: &Map = &self.map;
        for slot in 0..map.geometry().slots {
            let Some(row) = map.slot(slot) else { continue };
            let word = SlotWord(row.word.load(Ordering::SeqCst));
            if word.is(SlotState::Free) || word.is(SlotState::Reserved) {
                continue;
            }
            let key =
                word.block().and_then(|block| map.held(block)).map_or(&[][..], |(key, _)| key);
            if !key.is_empty() && !links(map, row.key_hash.load(Ordering::Relaxed), slot) {
                applier::link(map, slot, row);
            }
        }
        for index in 0..map.block_count() {
            let Some(block) = map.block(index) else { continue };
            let word = BlockWord(block.row.word.load(Ordering::Acquire));
            let named = || {
                let row = map.slot(word.home())?;
                SlotWord(row.word.load(Ordering::SeqCst)).block()
            };
            if word.is(BlockState::Value) && named() != Some(index) {
                pool::free_block(map, index, word);
            }
        }
    }
}

/// Frees messages and packets.
fn drop_in_transit(map: &Map) {
    for index in 0..map.block_count() {
        let Some(block) = map.block(index) else { continue };
        let word = BlockWord(block.row.word.load(Ordering::Acquire));
        let in_transit = matches!(
            word.state(),
            Some(
                BlockState::Linked
                    | BlockState::Taken
                    | BlockState::Emitted
                    | BlockState::Sent
                    | BlockState::Dropped
            )
        );
        if in_transit {
            pool::free_block(map, index, word);
        }
    }
}

fn free_value(map: &Map, index: u32) {
    if let Some(block) = map.block(index) {
        pool::free_block(map, index, BlockWord(block.row.word.load(Ordering::Acquire)));
    }
}
