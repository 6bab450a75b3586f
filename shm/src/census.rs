//! Counting what a region holds: one pass over the slots, and one over the headers of the blocks, each in the order of memory.
//!
//! A large region has hundreds of megabytes of them, so nothing is looked up from one for the other unless it has to be: whether a
//! timer is due, and since when a message waits, is asked of the blocks when their turn comes.

use crate::inspect::{ClassStatus, QueueStatus};
use crate::layout::{BlockRow, ClassPlace};
use crate::map::Map;
use crate::process::monotonic_ns;
use crate::region::Region;
use crate::sync::Ordering;
use crate::words::{BlockState, BlockWord, InboxWord, SlotState, SlotWord};

/// What was counted.
pub(crate) struct Census {
    pub(crate) queues: Vec<QueueStatus>,
    pub(crate) classes: Vec<ClassStatus>,
    /// Emitted packets that have not left.
    pub(crate) packets_waiting: u64,
}

impl Census {
    pub(crate) fn of(region: &Region) -> Census {
        let map: &Map = &region.map;
        map.expect_a_look();
        let queues = map.geometry().queues.iter().zip(0..);
        let queues = queues.map(|(queue, at)| QueueStatus {
            name: queue.name.clone(),
            objects: 0,
            ready: 0,
            claimed: 0,
            parked: 0,
            waiting: 0,
            oldest_ns: None,
            leases_expired: map.policy(at).map_or(0, |row| row.expired.load(Ordering::Relaxed)),
        });
        let mut census =
            Census { queues: queues.collect(), classes: Vec::new(), packets_waiting: 0 };
        for slot in 0..map.geometry().slots {
            census.count_slot(map, slot);
        }
        let now = monotonic_ns();
        for class in &map.layout().classes {
            census.count_class(map, class, now);
        }
        census
    }

    fn queue_of(&mut self, map: &Map, slot: u32) -> Option<(SlotWord, u32, &mut QueueStatus)> {
        let row = map.slot(slot)?;
        let word = SlotWord(row.word.load(Ordering::Relaxed));
        let place = usize::from(row.placing.load(Ordering::Relaxed) as u8);
        let depth = InboxWord(row.inbox.load(Ordering::Relaxed)).depth();
        Some((word, depth, self.queues.get_mut(place)?))
    }

    fn count_slot(&mut self, map: &Map, slot: u32) {
        let Some((word, depth, queue)) = self.queue_of(map, slot) else { return };
        match word.state() {
            Some(SlotState::Idle | SlotState::Queued) => queue.ready += u64::from(depth > 0),
            Some(SlotState::Ready) => queue.ready += 1,
            Some(SlotState::Claimed) => queue.claimed += 1,
            Some(SlotState::Parked) => queue.parked += 1,
            _ => return,
        }
        queue.objects += 1;
        queue.waiting += u64::from(depth);
    }

    fn count_class(&mut self, map: &Map, class: &ClassPlace, now: u64) {
        let mut count = [0_u32; BlockState::COUNT];
        for index in class.first..class.first + class.count {
            let Some(block) = map.block(index) else { continue };
            let word = BlockWord(block.row.word.load(Ordering::Relaxed));
            let Some(state) = word.state() else { continue };
            count[state as usize] += 1;
            match state {
                BlockState::Value => self.count_timer(map, block.row, word, index, now),
                BlockState::Linked => self.count_age(map, block.row, word, now),
                _ => {}
            }
        }
        let of = |state: BlockState| count[state as usize];
        self.packets_waiting += u64::from(of(BlockState::Emitted) + of(BlockState::Sending));
        self.classes.push(ClassStatus {
            payload_bytes: class.payload_bytes,
            total: class.count,
            free: of(BlockState::Free),
            in_use: of(BlockState::Value)
                + of(BlockState::Linking)
                + of(BlockState::Linked)
                + of(BlockState::Taken)
                + of(BlockState::Emitted)
                + of(BlockState::Sending)
                + of(BlockState::Sent),
        });
    }

    /// An object without a message is ready all the same if its timer is due.
    fn count_timer(&mut self, map: &Map, row: &BlockRow, word: BlockWord, index: u32, now: u64) {
        let deadline = row.deadline.load(Ordering::Relaxed);
        if deadline == 0 || deadline > now {
            return;
        }
        if let Some((slot, 0, queue)) = self.queue_of(map, word.home())
            && matches!(slot.state(), Some(SlotState::Idle | SlotState::Queued))
            && slot.block() == Some(index)
        {
            queue.ready += 1;
        }
    }

    fn count_age(&mut self, map: &Map, row: &BlockRow, word: BlockWord, now: u64) {
        let stamp = row.stamp.load(Ordering::Relaxed);
        if stamp != 0
            && let Some((_, _, queue)) = self.queue_of(map, word.home())
        {
            let age = now.saturating_sub(stamp);
            queue.oldest_ns = Some(queue.oldest_ns.map_or(age, |oldest| oldest.max(age)));
        }
    }
}
