//! A claim that has more to do than one commit carries does a part of it, and leaves the other messages to the next one.

use crate::claim::Claim;
use crate::inbox;
use crate::layout::OPERATIONS_MAX;
use crate::letter;
use crate::map::Map;
use crate::sync::Ordering;
use crate::words::{BlockState, BlockWord};

/// What one commit carries. It counts: 1 for the object that was ready and for each further one, 2 more for each of them that
/// gets a new value (as one does whose timer changes), or 3 more if it is withdrawn; 1 for each message that is consumed and
/// each packet; 4 for each object that is created.
pub const STEPS_PER_COMMIT: usize = OPERATIONS_MAX;

impl Claim<'_> {
    /// Keeps the oldest `count` messages: the others wait on, as if the claim had never had them, and the object is ready again
    /// after the commit. False, and nothing is changed, if one of the others was sent by another object's commit: those are
    /// read by the claim that took them.
    pub fn leave_messages(&mut self, count: usize) -> bool {
        let participant = &mut *self.participant;
        let map: &Map = &participant.region.map;
        let others = participant.taken.get(count..).unwrap_or(&[]);
        let blocks = || others.iter().filter_map(|&index| map.block(index));
        if blocks().any(|block| letter::original(block.row).is_some()) {
            return false;
        }
        for block in blocks() {
            // Taken by this process, so nobody else moves it; at its place in the chain it is found by the next claim.
            let word = BlockWord(block.row.word.load(Ordering::Relaxed));
            inbox::mark(map, block.index, word, BlockState::Linked, 0);
        }
        participant.taken.truncate(count);
        true
    }
}
