//! One object in a claim's hands, and what the commit will make of it.

use std::time::Duration;

use crate::layout::SlotRow;
use crate::map::{Block, Map};
use crate::object::lane_within;
use crate::pool::{OutOf, Supply};
use crate::process::monotonic_ns;
use crate::region::{QueueId, Region};
use crate::value::{set_placing, value_block};
use crate::words::SlotWord;

/// The longest timer: 146 years, so that sums of it and a clock are times.
const TIMER_MAX_NS: u64 = u64::MAX / 4;

/// When a timer of that time is due, in monotonic nanoseconds.
pub(crate) fn deadline_after(after: Duration) -> u64 {
    // Whoever asks may be far away, and ask for anything.
    let after = u64::try_from(after.as_nanos()).unwrap_or(TIMER_MAX_NS).min(TIMER_MAX_NS);
    (monotonic_ns() + after).max(1)
}

/// What becomes of the object's timer.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// It stays as it is, unless it was due when the object was claimed.
    #[default]
    Untouched,
    Cleared,
    At(u64),
}

#[derive(Clone, Copy)]
pub(crate) struct Held {
    pub(crate) slot: u32,
    /// The slot word of the claim.
    pub(crate) word: SlotWord,
    /// It was ready without a message: so it is again if it is given back.
    pub(crate) was_ready: bool,
    /// When its timer is due as it was claimed, in monotonic nanoseconds; zero for none.
    before: u64,
    /// Its timer was due when it was claimed, so the commit clears it. One that comes due later fires later.
    pub(crate) timer_due: bool,
    pub(crate) incarnation: u32,
    /// `queue:8 | priority:8`, as it will be committed.
    pub(crate) placing: u32,
    /// It changes its lane: the value's block says which, so it needs a new one.
    moved: bool,
    /// The private block with the new value.
    pub(crate) value: Option<u32>,
    pub(crate) timer: Timer,
    pub(crate) withdraw: bool,
    pub(crate) stay_ready: bool,
}

impl Held {
    #[inline]
    pub(crate) fn new(
        region: &Region,
        row: &SlotRow,
        slot: u32,
        word: SlotWord,
        was_ready: bool,
    ) -> Self {
        use crate::sync::Ordering::Relaxed;
        Self {
            slot,
            word,
            was_ready,
            before: region.deadline(word),
            timer_due: false,
            incarnation: row.incarnation.load(Relaxed),
            placing: row.placing.load(Relaxed),
            moved: false,
            value: None,
            timer: Timer::Untouched,
            withdraw: false,
            stay_ready: false,
        }
    }

    /// Notes whether the timer is due: of the object that the claim is about.
    #[inline]
    pub(crate) fn look_at_timer(&mut self) {
        self.timer_due = self.before != 0 && self.before <= monotonic_ns();
    }

    pub(crate) fn set_timer(&mut self, after: Duration) {
        self.timer = Timer::At(deadline_after(after));
    }

    /// The lane from this commit on.
    pub(crate) fn set_priority(&mut self, map: &Map, priority: u8) {
        let priority = lane_within(map, QueueId(self.placing as u8), priority);
        let placing = self.placing & 0xff | u32::from(priority) << 8;
        self.moved |= placing != self.placing;
        self.placing = placing;
        if let Some(block) = self.value.and_then(|index| map.block(index)) {
            set_placing(block, placing);
        }
    }

    /// Whether the commit changes what the value's block says besides the value.
    #[inline]
    pub(crate) fn needs_block(&self, deadline_changed: bool) -> bool {
        deadline_changed || self.moved && self.word.block().is_some()
    }

    /// Key and committed value.
    #[inline]
    pub(crate) fn committed<'m>(&self, map: &'m Map) -> (&'m [u8], &'m [u8]) {
        self.word.block().and_then(|block| map.held(block)).unwrap_or((&[], &[]))
    }

    /// The value as it will be committed.
    pub(crate) fn value<'m>(&self, map: &'m Map) -> &'m [u8] {
        match self.value {
            Some(block) => map.held(block).map_or(&[], |(_, data)| data),
            None => self.committed(map).1,
        }
    }

    /// The deadline as it will be committed, in monotonic nanoseconds, zero for none; and whether that
    /// is another one than before.
    #[inline]
    pub(crate) fn deadline(&self) -> (u64, bool) {
        let before = self.before;
        let after = match self.timer {
            Timer::At(deadline) => deadline,
            Timer::Cleared => 0,
            Timer::Untouched if self.timer_due => 0,
            Timer::Untouched => before,
        };
        (after, after != before)
    }

    /// Time left on the timer as it will be committed; zero if it has come due.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let (deadline, _) = self.deadline();
        (deadline != 0).then(|| Duration::from_nanos(deadline.saturating_sub(monotonic_ns())))
    }

    /// Writes key and `value` (none: the committed one) into a private block.
    #[inline]
    pub(crate) fn write_value<'m>(
        &mut self,
        region: &'m Region,
        supply: &mut Supply,
        value: Option<&[u8]>,
    ) -> Result<Block<'m>, OutOf> {
        let (key, committed) = self.committed(&region.map);
        let value = value.unwrap_or(committed);
        let block = value_block(region, supply, key, value, self.placing, self.incarnation)?;
        if let Some(old) = self.value.replace(block.index) {
            supply.give_block(&region.map, old);
        }
        Ok(block)
    }

    /// The value in a private block. The first call copies.
    #[inline]
    pub(crate) fn value_mut<'m>(
        &mut self,
        region: &'m Region,
        supply: &mut Supply,
    ) -> Result<&'m mut [u8], OutOf> {
        let block = match self.value.and_then(|index| region.map.block(index)) {
            Some(block) => block,
            None => self.write_value(region, supply, None)?,
        };
        // Written by this process, but in memory that others write too.
        let shape = block.shape()?;
        Ok(&mut region.map.private_in(block)[shape.data..shape.data + shape.len])
    }
}
