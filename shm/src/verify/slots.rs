//! Slots: their words, the values that they name, and the chains of their inboxes.

use crate::letter::lane_of;
use crate::pool::is_marked;
use crate::sync::Ordering;
use crate::value::checksum;
use crate::verify::Mode;
use crate::verify::finding::{Place, SeenBlock, Wrong};
use crate::verify::look::Look;
use crate::words::{BlockState, InboxWord, SlotState, SlotWord};

/// Per block, the slot plus one whose inbox leads to it.
pub(super) struct Chained(Vec<u32>);

impl Chained {
    pub(super) fn leads(&self, slot: u32, block: u32) -> bool {
        self.0.get(block as usize) == Some(&(slot + 1))
    }
}

impl Look<'_> {
    pub(super) fn check_slots(&mut self) {
        for slot in 0..self.map.geometry().slots {
            self.report.checked.slots += 1;
            let word = self.slot_word(slot);
            let place = Place::Slot(slot);
            let found = word.into();
            let owner_fits = match word.state() {
                None => {
                    self.report.add(place, Wrong::SlotNonsense { found });
                    continue;
                }
                Some(SlotState::Reserved | SlotState::Claimed) => self.is_seated(word.owner()),
                Some(_) => word.owner() == 0,
            };
            if !owner_fits {
                self.report.add(place, Wrong::SlotOwner { found });
            }
            if word.is_object() {
                self.report.checked.objects += 1;
                self.check_object(slot, word);
            } else if word.block().is_some() {
                self.report.add(place, Wrong::SlotNonsense { found });
            } else if self.mode == Mode::Strict
                && word.is(SlotState::Free)
                && !is_marked(self.map.slot_bitmap(), slot)
            {
                self.report.add(place, Wrong::Unmarked);
            }
        }
    }

    fn check_object(&mut self, slot: u32, word: SlotWord) {
        let Some(row) = self.map.slot(slot) else { return };
        let place = Place::Slot(slot);
        let placing = row.placing.load(Ordering::Relaxed);
        let (queue, priority) = lane_of(placing);
        let lanes = self.map.geometry().queues.get(usize::from(queue)).map_or(0, |q| q.lanes);
        let incarnation = row.incarnation.load(Ordering::Relaxed);
        let inbox = InboxWord(row.inbox.load(Ordering::Acquire));
        let mut found = Vec::new();
        if priority >= lanes || placing >> 16 != 0 {
            found.push(Wrong::NoSuchLane { queue, priority });
        }
        if !inbox.is_of(incarnation) {
            found.push(Wrong::InboxIncarnation { found: inbox.0, expected: incarnation });
        }
        if inbox.is_closed() && !word.is(SlotState::Claimed) {
            found.push(Wrong::InboxClosed { slot: word.into() });
        }
        if let Some(block) = word.block() {
            found.extend(self.check_value(slot, word, block, incarnation));
        }
        // What belongs to another object by now is no finding about this one.
        if row.word.load(Ordering::Acquire) == word.0 && !self.slot_moves(slot) {
            found.into_iter().for_each(|wrong| self.report.add(place, wrong));
        }
    }

    fn check_value(
        &self,
        slot: u32,
        word: SlotWord,
        block: u32,
        incarnation: u32,
    ) -> Option<Wrong> {
        let seen = self.block_word(block);
        let Some(value) = self.map.block(block) else {
            return Some(Wrong::ValueElsewhere { slot: word.into(), found: SeenBlock(seen.0) });
        };
        if !seen.is(BlockState::Value) || seen.home() != slot {
            // Read afresh: it may have become this slot's after the blocks were read.
            let now = crate::words::BlockWord(value.row.word.load(Ordering::Acquire));
            if !now.is(BlockState::Value) || now.home() != slot {
                return Some(Wrong::ValueElsewhere { slot: word.into(), found: now.into() });
            }
        }
        let found = value.row.incarnation.load(Ordering::Relaxed);
        if found != incarnation {
            return Some(Wrong::ValueIncarnation { block, found, expected: incarnation });
        }
        let (mut key, mut data) = (Vec::new(), Vec::new());
        if let Err(bad) = value.copy_racy(&mut key, &mut data) {
            let crate::map::BadBlock { prefix, len, capacity, .. } = bad;
            return Some(Wrong::ValueShape { block, prefix, len, capacity });
        }
        let found = value.row.sum.load(Ordering::Relaxed);
        let expected = checksum(&key, &data);
        (found != expected).then_some(Wrong::ValueChecksum { block, found, expected })
    }

    /// Follows every inbox once; says which blocks they lead to.
    pub(super) fn check_inboxes(&mut self) -> Chained {
        let mut chained = Chained(vec![0; self.blocks.len()]);
        for slot in 0..self.map.geometry().slots {
            let word = self.slot_word(slot);
            let Some(row) = self.map.slot(slot) else { continue };
            if !word.is_object() {
                continue; // nobody reads the inbox of a slot without an object
            }
            // The claimer prunes it, the committer's entry may still have to.
            let settled = !word.is(SlotState::Claimed) && !self.slot_moves(slot);
            let mut next = InboxWord(row.inbox.load(Ordering::SeqCst)).newest();
            while let Some(block) = next {
                let place = Place::Slot(slot);
                let (Some(message), Some(mark)) =
                    (self.map.block(block), chained.0.get_mut(block as usize))
                else {
                    self.report.add(place, Wrong::ChainOutside { block });
                    break;
                };
                if *mark == slot + 1 {
                    self.report.add(place, Wrong::ChainCircle { block });
                    break;
                }
                let found = self.block_word(block);
                if found.is_waiting_for(slot) || found.is_dropped_from(slot) {
                    *mark = slot + 1;
                } else {
                    if settled {
                        self.report.add(place, Wrong::ChainStranger { block, found: found.into() });
                    }
                    // Marked too, to see a circle, unless it belongs to another inbox.
                    if *mark == 0 {
                        *mark = slot + 1;
                    } else {
                        break;
                    }
                }
                next = message.row.next.load(Ordering::Relaxed).checked_sub(1);
            }
        }
        chained
    }
}
