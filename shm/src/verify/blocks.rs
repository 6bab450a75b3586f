//! Blocks: each is in exactly one place.

use crate::pool::is_marked;
use crate::sync::Ordering;
use crate::verify::Mode;
use crate::verify::finding::{Place, SeenSlot, Wrong};
use crate::verify::look::Look;
use crate::verify::slots::Chained;
use crate::words::{BlockState, BlockWord};

impl Look<'_> {
    pub(super) fn check_blocks(&mut self, chained: &Chained) {
        for block in 0..self.map.block_count() {
            self.report.checked.blocks += 1;
            let word = self.block_word(block);
            let place = Place::Block(block);
            let found = word.into();
            let owner_fits = match word.state() {
                None => {
                    self.report.add(place, Wrong::BlockNonsense { found });
                    continue;
                }
                Some(
                    BlockState::Cached
                    | BlockState::Private
                    | BlockState::Linking
                    | BlockState::Taken
                    | BlockState::Sending
                    | BlockState::Retired,
                ) => self.is_seated(word.owner()),
                Some(_) => word.owner() == 0,
            };
            if !owner_fits {
                self.report.add(place, Wrong::BlockOwner { found });
            }
            if let Some(wrong) = self.check_block(block, word, chained)
                && !self.block_moves(block)
            {
                self.report.add(place, wrong);
            }
        }
    }

    fn check_block(&mut self, block: u32, word: BlockWord, chained: &Chained) -> Option<Wrong> {
        let found = word.into();
        let home = word.home();
        let slot = self.slot_word(home);
        match word.state()? {
            BlockState::Free => {
                let (class, number) = self.map.class_of(block)?;
                let unmarked = !is_marked(self.map.class_bitmap(class), number);
                (self.mode == Mode::Strict && unmarked).then_some(Wrong::Unmarked)
            }
            // Its slot names it back, so a value belongs to one slot, and no slot to two.
            BlockState::Value => {
                let named = slot.is_object() && slot.block() == Some(block);
                (!named && !self.slot_moves(home))
                    .then_some(Wrong::ValueUnnamed { found, slot: SeenSlot(slot.0) })
            }
            state @ (BlockState::Linking | BlockState::Linked | BlockState::Taken) => {
                self.report.checked.messages += 1;
                self.check_message(block, word, state, chained)
            }
            state @ BlockState::Dropped => self.check_message(block, word, state, chained),
            state @ (BlockState::Emitted | BlockState::Sending | BlockState::Sent) => {
                self.report.checked.packets += u64::from(state != BlockState::Sent);
                let ports = self.map.geometry().ports.len();
                (home as usize >= ports).then_some(Wrong::NoSuchPort { found })
            }
            BlockState::Cached | BlockState::Private | BlockState::Retired => None,
        }
    }

    fn check_message(
        &self,
        block: u32,
        word: BlockWord,
        state: BlockState,
        chained: &Chained,
    ) -> Option<Wrong> {
        if state == BlockState::Linking {
            return None; // its sender, or the reaper, knows where it is
        }
        let (found, home) = (word.into(), word.home());
        let slot = self.slot_word(home);
        if self.slot_moves(home) {
            return None;
        }
        if !slot.is_object() {
            return Some(Wrong::MessageAstray { found, slot: SeenSlot(slot.0) });
        }
        let incarnation = self.map.slot(home)?.incarnation.load(Ordering::Relaxed);
        let of = self.map.block(block)?.row.incarnation.load(Ordering::Relaxed);
        if of != incarnation {
            return Some(Wrong::MessageIncarnation {
                slot: home,
                found: of,
                expected: incarnation,
            });
        }
        (!chained.leads(home, block)).then_some(Wrong::MessageUnlinked { found })
    }
}
