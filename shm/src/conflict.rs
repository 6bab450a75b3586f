//! Objects that were given back because another object of the same commit was in other hands, or because there was no free
//! block or slot for what they asked.
//!
//! They are offered again after a pause that doubles each time in a row and has a random part, so
//! that two workers do not meet again and again. Meanwhile the slot is `Queued` (or `Ready`): its hint is
//! owed. If this process dies owing it, the sweeper gives it.

use std::time::Duration;

use crate::process::monotonic_ns;
use crate::region::Region;
use crate::sync::Ordering;
use crate::words::SlotState;
use crate::words::SlotWord;

const PAUSE_FIRST_NS: u64 = 20_000;
const DOUBLINGS_MAX: u32 = 8;

/// More conflicts than this at once are left to the sweeper.
const DEFERRED_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Conflicts {
    deferred: Vec<Deferred>,
}

#[derive(Debug)]
struct Deferred {
    slot: u32,
    in_a_row: u32,
    /// When the hint is due; `None` once it was given.
    due: Option<u64>,
}

impl Conflicts {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.deferred.is_empty()
    }

    /// Owes the slot a hint.
    pub(crate) fn defer(&mut self, slot: u32) {
        let at = match self.deferred.iter().position(|deferred| deferred.slot == slot) {
            Some(at) => at,
            None if self.deferred.len() < DEFERRED_MAX => {
                self.deferred.push(Deferred { slot, in_a_row: 0, due: None });
                self.deferred.len() - 1
            }
            None => return,
        };
        let deferred = &mut self.deferred[at];
        let pause = PAUSE_FIRST_NS << deferred.in_a_row.min(DOUBLINGS_MAX);
        deferred.in_a_row += 1;
        let now = monotonic_ns();
        // The clock's lowest bits are as good as random here.
        deferred.due = Some(now + pause + (now ^ now >> 7).wrapping_mul(0x9e37_79b9) % pause);
    }

    /// The slot was committed: its next conflict is a first one.
    pub(crate) fn settle(&mut self, slot: u32) {
        self.deferred.retain(|deferred| deferred.slot != slot);
    }

    /// Gives the hints that are due.
    pub(crate) fn hint_due(&mut self, region: &Region) {
        let now = monotonic_ns();
        for deferred in &mut self.deferred {
            if deferred.due.is_some_and(|due| due <= now) {
                deferred.due = None;
                Self::hint(region, deferred.slot);
            }
        }
        // What was hinted and taken by another worker is not ours to remember for ever.
        if self.deferred.len() > DEFERRED_MAX / 2 {
            self.deferred.retain(|deferred| deferred.due.is_some());
        }
    }

    /// Gives every hint that is owed: before the participant leaves.
    pub(crate) fn hint_all(&mut self, region: &Region) {
        for deferred in self.deferred.drain(..) {
            if deferred.due.is_some() {
                Self::hint(region, deferred.slot);
            }
        }
    }

    fn hint(region: &Region, slot: u32) {
        if let Some(row) = region.map.slot(slot) {
            let word = SlotWord(row.word.load(Ordering::SeqCst));
            if word.is(SlotState::Queued) || word.is(SlotState::Ready) {
                region.hint(slot, row);
            }
        }
    }

    /// Time until the next hint is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let due = self.deferred.iter().filter_map(|deferred| deferred.due).min()?;
        Some(Duration::from_nanos(due.saturating_sub(monotonic_ns())))
    }
}
