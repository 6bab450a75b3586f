//! Counting what a region holds: one pass over the slots, and one over the headers of the blocks, each in the order of memory.
//!
//! A large region has hundreds of megabytes of them, so nothing is looked up from one for the other unless it has to be: whether a
//! timer is due, and since when a message waits, is asked of the blocks when their turn comes. What is large is shared out among threads, each
//! with a part of the slots and of the blocks of each class.

use std::ops::Range;
use std::thread;

use crate::inspect::{ClassStatus, QueueStatus};
use crate::layout::{BlockRow, ClassPlace};
use crate::map::Map;
use crate::process::monotonic_ns;
use crate::region::Region;
use crate::sync::Ordering;
use crate::words::{BlockState, BlockWord, InboxWord, SlotState, SlotWord};

/// Slots and blocks that are worth a thread of their own: some milliseconds.
const PART: u64 = 200_000;
const PARTS_MAX: u64 = 4;

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
        let rows = u64::from(map.geometry().slots) + u64::from(map.block_count());
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        Census::in_parts(map, (rows / PART).clamp(1, PARTS_MAX.min(cores)) as u32)
    }

    /// Each of the `parts` but the first is counted by a thread.
    fn in_parts(map: &Map, parts: u32) -> Census {
        thread::scope(|scope| {
            let part = |number| move || Census::of_part(map, number, parts);
            let others: Vec<_> = (1..parts).map(|number| scope.spawn(part(number))).collect();
            let mut all = Census::of_part(map, 0, parts);
            for other in others {
                all.add(other.join().expect("counting does not panic"));
            }
            all
        })
    }

    fn of_part(map: &Map, number: u32, parts: u32) -> Census {
        map.expect_a_look(number, parts);
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
        for slot in share(map.geometry().slots, number, parts) {
            census.count_slot(map, slot);
        }
        let now = monotonic_ns();
        for class in &map.layout().classes {
            census.count_class(map, class, share(class.count, number, parts), now);
        }
        census
    }

    /// Adds another part.
    fn add(&mut self, other: Census) {
        self.packets_waiting += other.packets_waiting;
        for (queue, more) in self.queues.iter_mut().zip(other.queues) {
            queue.objects += more.objects;
            queue.ready += more.ready;
            queue.claimed += more.claimed;
            queue.parked += more.parked;
            queue.waiting += more.waiting;
            queue.oldest_ns = queue.oldest_ns.max(more.oldest_ns);
        }
        for (class, more) in self.classes.iter_mut().zip(other.classes) {
            class.free += more.free;
            class.in_use += more.in_use;
        }
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

    fn count_class(&mut self, map: &Map, class: &ClassPlace, part: Range<u32>, now: u64) {
        let mut count = [0_u32; BlockState::COUNT];
        for index in class.first + part.start..class.first + part.end {
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

/// The part `number` of `count` things in so many parts.
fn share(count: u32, number: u32, parts: u32) -> Range<u32> {
    let begin = |number: u32| (u64::from(count) * u64::from(number) / u64::from(parts)) as u32;
    begin(number)..begin(number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::geometry::Geometry;
    use crate::participant::Kind;
    use crate::{Delivery, PortId, QueueId};

    /// Removes the file on drop.
    struct Scratch(Region);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(self.0.path());
        }
    }

    /// The numbers of a census, without the times.
    fn numbers(census: Census) -> String {
        let Census { mut queues, classes, packets_waiting } = census;
        let waits = queues.iter_mut().map(|queue| queue.oldest_ns.take().is_some());
        let waits: Vec<bool> = waits.collect();
        format!("{queues:?} {waits:?} {classes:?} {packets_waiting}")
    }

    /// Goal: however many threads count, and however they share, they count the same.
    #[test]
    fn parts_come_to_the_whole() {
        let path = Region::path_for(&format!("test.census.{}", std::process::id()));
        let region = Region::create(&path, &Geometry::for_objects(100)).expect("there is room");
        let region = Scratch(region);
        let region = &region.0;
        region.become_primary(1);
        let mut port = region.join(Kind::Port, "port").expect("a seat");
        let mut worker = region.join(Kind::Worker, "worker").expect("a seat");
        for number in 0..100_u8 {
            let packet = port.packet_of(b"message", Endpoint::NONE).expect("a free block");
            let to = Delivery { queue: QueueId(0), key: Some(&[number]), priority: 0 };
            port.deliver(to, packet).expect("room for a message");
            if number % 3 == 0 {
                let mut claim = worker.claim(QueueId(0)).expect("ready");
                claim.emit(PortId(0), Endpoint::NONE, b"packet").expect("a block");
                claim.commit().expect("nobody is in the way");
            }
        }
        let held = worker.claim(QueueId(0)).expect("ready");
        let whole = numbers(Census::in_parts(&region.map, 1));
        assert!(whole.contains("objects: 100, ready: 65, claimed: 1"), "{whole}");
        for parts in [2, 3, 7, 64, 1_000] {
            assert_eq!(numbers(Census::in_parts(&region.map, parts)), whole, "{parts} parts");
        }
        drop(held);
    }
}
