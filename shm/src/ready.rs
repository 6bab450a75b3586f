//! Ready objects: when an object is one, and the lanes where workers look for them.
//!
//! ```text
//!            message, timer: swap, then hint                       worker: swap
//!    Idle ──────────────────────────────────► Queued ──────┐
//!     ▲  ▲                                                 ├───────────────► Claimed
//!     │  └── popped, nothing to do: swap, look again ──────┤                    │
//!     │                                          Ready ────┘                    │
//!     │                                            ▲  commit "stay ready", hint │
//!     └────────────────────────────────────────────┴────────────────────────────┘
//! ```
//!
//! `Queued` and `Ready` say that a hint of the object stands in its lane, so each gets one hint, by whoever
//! made the swap. A hint that its author did not live to give is given by the [`Sweeper`](crate::Sweeper).
//!
//! **Look again.** A message is pushed without a change of the slot word. So whoever makes an object idle
//! looks at its inbox afterwards, and whoever pushes a message looks at its slot afterwards: one of the two
//! sees the other.

use crate::bell::Bell;
use crate::inbox;
use crate::layout::SlotRow;
use crate::letter::lane_of;
use crate::process::monotonic_ns;
use crate::region::{QueueId, Region};
use crate::sync::Ordering;
use crate::words::{SlotState, SlotWord};

impl Region {
    /// Whether an object in this state can be claimed now, and has something to do.
    #[inline]
    pub(crate) fn is_ready(&self, slot: u32, word: SlotWord) -> bool {
        match word.state() {
            Some(SlotState::Ready) => true,
            Some(SlotState::Idle | SlotState::Queued) => self.has_work(slot, word),
            _ => false,
        }
    }

    /// Whether a message waits or the timer is due.
    #[inline]
    pub(crate) fn has_work(&self, slot: u32, word: SlotWord) -> bool {
        inbox::has_waiting(&self.map, slot) || self.timer_is_due(word)
    }

    #[inline]
    pub(crate) fn timer_is_due(&self, word: SlotWord) -> bool {
        let deadline = self.deadline(word);
        deadline != 0 && deadline <= monotonic_ns()
    }

    /// Monotonic nanoseconds at which the object's timer is due, zero for none. A racy read: a hint
    /// unless the caller has claimed the object.
    #[inline]
    pub(crate) fn deadline(&self, word: SlotWord) -> u64 {
        word.block()
            .and_then(|block| self.map.block(block))
            .map_or(0, |block| block.row.deadline.load(Ordering::Relaxed))
    }

    /// Queues an idle object that has something to do; to be called after anything that may have given it
    /// something.
    pub(crate) fn look_again(&self, slot: u32) {
        let Some(row) = self.map.slot(slot) else {
            return;
        };
        loop {
            // ORDER ready/1 SeqCst, pairs with ready/3: the slot as it is after the caller's push or swap.
            let word = SlotWord(row.word.load(Ordering::SeqCst));
            if !word.is(SlotState::Idle) || !self.has_work(slot, word) {
                // Claimed: its claimer looks again. Queued, Ready: the hint is given.
                return;
            }
            let queued = word.next(SlotState::Queued, 0, word.block());
            if row
                .word
                .compare_exchange(word.0, queued.0, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
            {
                return self.hint(slot, row);
            }
        }
    }

    /// Puts a hint of the slot into its lane and wakes a worker.
    #[inline]
    pub(crate) fn hint(&self, slot: u32, row: &SlotRow) {
        if let Some(queue) = self.hint_quietly(slot, row) {
            self.ring(Bell::Queue(queue));
        }
    }

    /// Wakes a worker of the queue that the slot's object is in.
    pub(crate) fn ring_queue_of(&self, row: &SlotRow) {
        let (queue, _) = lane_of(row.placing.load(Ordering::Relaxed));
        self.ring(Bell::Queue(QueueId(queue)));
    }

    /// Puts a hint of the slot into its lane; the caller rings for the queue.
    #[inline]
    pub(crate) fn hint_quietly(&self, slot: u32, row: &SlotRow) -> Option<QueueId> {
        let placing = row.placing.load(Ordering::Relaxed);
        let (queue, priority) = lane_of(placing);
        let lane = self.map.lane(queue, priority)?;
        // ORDER bell/3 SeqCst, pairs with bell/5. A full lane: the sweeper gives the hint later.
        let _ = lane.push(slot);
        Some(QueueId(queue))
    }
}
