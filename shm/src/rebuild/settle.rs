//! What the words say that no seat, slot or entry accounts for: undone, each by one swap.

use crate::claim::give_back;
use crate::map::Map;
use crate::object::release_reserved;
use crate::participant::{SeatState, SeatWord};
use crate::pool;
use crate::rebuild::Rebuilt;
use crate::region::Region;
use crate::sync::Ordering;
use crate::words::{BlockState, BlockWord, SlotState, SlotWord};

pub(super) fn settle(region: &Region, rebuilt: &mut Rebuilt) {
    let map: &Map = &region.map;
    let seated = |owner: u8| {
        owner.checked_sub(1).and_then(|seat| map.participant(seat)).is_some_and(|row| {
            let word = SeatWord(row.word.load(Ordering::Acquire));
            word.state() != Some(SeatState::Free)
        })
    };
    let mut named = vec![false; map.block_count() as usize];
    for slot in 0..map.geometry().slots {
        let Some(row) = map.slot(slot) else { continue };
        let word = SlotWord(row.word.load(Ordering::Acquire));
        match word.state() {
            Some(SlotState::Claimed) if !seated(word.owner()) => {
                give_back(region, slot, word, true, true);
                rebuilt.released += 1;
            }
            Some(SlotState::Reserved) if !seated(word.owner()) => {
                release_reserved(region, slot, word);
                rebuilt.released += 1;
            }
            // Its copy may be among what is dropped below; a second one does no harm.
            Some(SlotState::Idle) if crate::letter::offer(region, slot, row) => {}
            _ => {}
        }
        let value = object_in(map, slot).and_then(SlotWord::block);
        if let Some(named) = value.and_then(|block| named.get_mut(block as usize)) {
            *named = true;
        }
    }
    for index in 0..map.block_count() {
        let Some(block) = map.block(index) else { continue };
        let word = BlockWord(block.row.word.load(Ordering::Acquire));
        let home = word.home();
        let waits = || {
            let incarnation = block.row.incarnation.load(Ordering::Relaxed);
            object_in(map, home).is_some()
                && map
                    .slot(home)
                    .is_some_and(|row| row.incarnation.load(Ordering::Relaxed) == incarnation)
        };
        let port_exists = (home as usize) < map.geometry().ports.len();
        let becomes = match word.state() {
            None | Some(BlockState::Free) => continue,
            Some(BlockState::Value) if named[index as usize] => continue,
            Some(BlockState::Value) => BlockState::Free,
            Some(BlockState::Linked) if waits() => continue,
            Some(BlockState::Linked) => BlockState::Free,
            Some(BlockState::Emitted | BlockState::Sent) if port_exists => continue,
            Some(BlockState::Emitted | BlockState::Sent) => BlockState::Free,
            Some(_) if seated(word.owner()) => continue,
            Some(BlockState::Linking | BlockState::Taken) if waits() => BlockState::Linked,
            Some(BlockState::Sending) if port_exists => BlockState::Emitted,
            Some(_) => BlockState::Free,
        };
        if becomes == BlockState::Free {
            rebuilt.freed += u64::from(pool::free_block(map, index, word));
        } else {
            let after = word.next(becomes, 0, home);
            let _ = block.row.word.compare_exchange(
                word.0,
                after.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
    }
}

/// The word of a slot that holds an object.
pub(super) fn object_in(map: &Map, slot: u32) -> Option<SlotWord> {
    let word = SlotWord(map.slot(slot)?.word.load(Ordering::Acquire));
    word.is_object().then_some(word)
}
