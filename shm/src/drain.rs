//! A primary that is about to hand over: what came in is finished, nothing new comes in.
//!
//! ```text
//!            begin_drain                    begin_change
//!   Primary ────────────► Draining ───────────────────────► Changing ──► (another node is primary)
//!      ▲    (one swap)        │   nothing waits any more         │
//!      └──────────────────────┴── become_primary ◄───────────────┘  it did not get through
//! ```
//!
//! Ports read only from a Primary, so what the network still has stays in the socket. Whoever reads has declared it
//! ([`Participant::begin_reading`]) and delivers what it has read under the new word. Everything else goes on as
//! before: workers claim and commit, ports send. A claim that began before the swap is given back and begun again.

use crate::letter;
use crate::participant::Participant;
use crate::region::Region;
use crate::sync::Ordering;
use crate::words::{BlockState, BlockWord, Role, SlotState, SlotWord};

/// What a region has in hand that another node does not know of, or may not send again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftToDo {
    /// Messages that came from outside and are not consumed. Those of a parked object are nobody's work.
    pub messages: u32,
    /// Packets that wait to be sent, or are being sent.
    pub unsent: u32,
    /// Packets that left, of which the node has not been told.
    pub untold: u32,
}

impl Region {
    /// From now on nothing is read from outside; what is here goes on. For the node of a primary.
    pub fn begin_drain(&self) {
        self.swap_role(Role::Draining, self.role().epoch());
        self.ring_all();
    }

    /// What is left to do before the service can go on elsewhere as if nothing had been. Looks at every block.
    pub fn left_to_do(&self) -> LeftToDo {
        let mut left = LeftToDo::default();
        for index in 0..self.map.block_count() {
            let Some(block) = self.map.block(index) else { continue };
            let word = BlockWord(block.row.word.load(Ordering::Acquire));
            match word.state() {
                Some(BlockState::Linking | BlockState::Linked | BlockState::Taken) => {
                    // The letter that a message is a copy of is an object, and goes with the others.
                    let from_outside = letter::original(block.row).is_none();
                    left.messages += u32::from(from_outside && !self.is_parked(word.home()));
                }
                Some(BlockState::Emitted | BlockState::Sending) => left.unsent += 1,
                Some(BlockState::Sent) => left.untold += 1,
                _ => {}
            }
        }
        left
    }

    fn is_parked(&self, slot: u32) -> bool {
        let row = self.map.slot(slot);
        row.is_some_and(|row| SlotWord(row.word.load(Ordering::Acquire)).is(SlotState::Parked))
    }
}

impl Participant {
    /// Declares that something is about to be read from outside; false unless this region is primary and not about to
    /// hand over. Until [`end_reading`](Self::end_reading) a change of role waits for what was read to be delivered, as
    /// it does for packets in hand, so let go of it soon.
    pub fn begin_reading(&mut self) -> bool {
        let role = self.region.role();
        if role.role() != Role::Primary {
            return false;
        }
        if !self.reading && self.enter() == Some(role) {
            self.reading = true;
        }
        self.reading
    }

    /// What was read is delivered, or given up.
    pub fn end_reading(&mut self) {
        if std::mem::take(&mut self.reading) {
            self.leave();
        }
    }
}
