//! Reading a committed value in place, without claiming its object: a *hazard* names the block while it is read.
//!
//! ```text
//!   reader: hazard := block ─► fence ─► slot word as before? ─► reads ─► hazard := 0
//!   owner:  slot word := another block ─► (a later commit) fence ─► hazards ─► block is used again
//! ```
//!
//! Either the reader sees that the slot has moved on, or the owner of the replaced block sees the hazard and
//! keeps the block aside. An owner looks at hazards only if the header says that a process has ever read
//! in this way: as long as nobody does, a commit pays one load.

use std::time::Duration;

use crate::index::{self, Lookup};
use crate::layout::{HAZARDS, Header};
use crate::map::Map;
use crate::participant::Participant;
use crate::process::monotonic_ns;
use crate::region::QueueId;
use crate::sync::{Ordering, fence, unchanged};
use crate::together::once_decided;
use crate::words::{Seq, SlotWord};

/// Looks that found the object changing before a reader gives up.
const LOOKS_MAX: usize = 10_000;

/// A committed value, in place. It does not change while this exists, whatever becomes of its object.
///
/// A worker reads on while others commit; what they replace stays allocated until nobody reads it. Keep it
/// for as long as it is read and no longer: a node that has to empty its region waits for it.
#[must_use = "the value can be read as long as this exists"]
pub struct Reading<'p> {
    participant: &'p Participant,
    hazard: usize,
    block: Option<u32>,
    slot: u32,
    seq: Seq,
    written: Seq,
}

/// Why an object could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// As many values are read at once as a participant may read.
    #[error("this process reads {HAZARDS} values already; let go of one first")]
    TooMany,
    /// It changed faster than it could be read.
    #[error("the object changed during each of {LOOKS_MAX} looks")]
    NeverStill,
}

impl Participant {
    /// The value of the object of `queue` that bears `key`, as the last commit left it; `None` if there is none.
    /// Nothing is copied and nobody is waited for.
    ///
    /// The commit may not be released yet: what the outside is told of it waits for
    /// [`Region::released`](crate::Region::released) to reach [`Reading::seq`].
    pub fn read(&self, queue: QueueId, key: &[u8]) -> Result<Option<Reading<'_>>, ReadError> {
        let (region, map): (_, &Map) = (&self.region, &self.region.map);
        self.register_reader();
        let cells = &self.row().hazards;
        let hazard = cells.iter().position(|cell| {
            // Only this process writes here, but perhaps several of its threads.
            cell.compare_exchange(0, u32::MAX, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        });
        let hazard = hazard.ok_or(ReadError::TooMany)?;
        // From here on dropping it frees the cell.
        let (participant, seq, written) = (self, Seq::ZERO, Seq::ZERO);
        let mut reading = Reading { participant, hazard, block: None, slot: 0, seq, written };
        let hash = region.key_hash(queue.0, key);
        for _ in 0..LOOKS_MAX {
            let (slot, incarnation) = match index::lookup(map, hash, queue.0, key) {
                Lookup::Found { slot, incarnation } => (slot, incarnation),
                Lookup::Absent { .. } => return Ok(None),
                Lookup::Undecided { .. } | Lookup::Unstable => continue,
            };
            let Some(row) = map.slot(slot) else { continue };
            // ORDER slot/1 SeqCst, pairs with slot/1: all that the commit wrote into the block.
            let seen = SlotWord(row.word.load(Ordering::SeqCst));
            let word = once_decided(map, slot, seen);
            if !word.is_object() || row.incarnation.load(Ordering::Acquire) != incarnation {
                continue;
            }
            let block = word.block();
            cells[hazard].store(block.map_or(u32::MAX, |index| index + 1), Ordering::Relaxed);
            // ORDER hazard/1 SeqCst fence, pairs with hazard/2: the hazard first, then the second look.
            fence(Ordering::SeqCst);
            let last = Seq::from_bits(row.last_seq.load(Ordering::Acquire));
            // A commit stamps its value before it is decided, and raises the slot's seq after: read in between, the slot's
            // would be too low, and what may be lost would pass for released.
            let stamp = block.and_then(|index| map.block(index));
            let written =
                stamp.map_or(last, |block| Seq::from_bits(block.row.seq.load(Ordering::Relaxed)));
            if unchanged(&row.word, seen.0) {
                (reading.block, reading.slot) = (block, slot);
                (reading.seq, reading.written) = (last.max(written), written);
                return Ok(Some(reading));
            }
        }
        Err(ReadError::NeverStill)
    }

    /// Says in the header that hazards have to be looked at.
    fn register_reader(&self) {
        let (readers, bit) = (&self.region.header().gathered.readers, 1 << self.seat);
        if readers.load(Ordering::Relaxed) & bit == 0 {
            // ORDER hazard/3 SeqCst, pairs with draw/1 and hazard/4: a swap of `commit_seq` that changes nothing. Whoever draws
            // after it sees the bit; who drew before it had replaced before what he uses again, and that is seen here.
            readers.fetch_or(bit, Ordering::SeqCst);
            self.region.header().commit_seq.word.fetch_add(0, Ordering::SeqCst);
        }
    }
}

impl Reading<'_> {
    fn parts(&self) -> (&[u8], &[u8]) {
        let map: &Map = &self.participant.region.map;
        self.block.and_then(|block| map.held(block)).unwrap_or((&[], &[]))
    }

    /// The value, in the region.
    pub fn value(&self) -> &[u8] {
        self.parts().1
    }

    /// The object's key.
    pub fn key(&self) -> &[u8] {
        self.parts().0
    }

    /// Time left on the object's timer when the value was committed, as of now; zero if it is due.
    pub fn timer(&self) -> Option<Duration> {
        let map: &Map = &self.participant.region.map;
        let block = self.block.and_then(|block| map.block(block))?;
        let deadline = block.row.deadline.load(Ordering::Relaxed);
        (deadline != 0).then(|| Duration::from_nanos(deadline.saturating_sub(monotonic_ns())))
    }

    /// Number of the slot.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// A commit no earlier than the one that made the value.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The commit that wrote the value: as long as it is the same, so is the value.
    pub fn written(&self) -> Seq {
        self.written
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        // ORDER hazard/5 Release, pairs with hazard/2: all reading comes before the block is used again.
        self.participant.row().hazards[self.hazard].store(0, Ordering::Release);
    }
}

/// The seats of processes that have read in place, a bit each. Zero: no hazard has to be looked at.
#[inline]
pub(crate) fn readers(header: &Header) -> u64 {
    // ORDER hazard/4 Acquire, pairs with hazard/3 through the swap that drew the caller's last seq (draw/1), or
    // through the swap of `order_after`.
    header.gathered.readers.load(Ordering::Acquire)
}

/// Before blocks are used again by one who has drawn no seq since they were replaced.
pub(crate) fn order_after(header: &Header) {
    // ORDER draw/1 SeqCst, pairs with hazard/3.
    header.commit_seq.word.fetch_add(0, Ordering::SeqCst);
}

/// What the hazards name at one moment.
pub(crate) struct Hazards(Vec<u32>);

impl Hazards {
    /// To be read after the words that named the blocks have moved on.
    pub(crate) fn now(map: &Map, readers: u64) -> Self {
        // ORDER hazard/2 SeqCst fence, pairs with hazard/1 and hazard/5: the slot words first, then the hazards.
        fence(Ordering::SeqCst);
        let seats = (0..map.geometry().participants as u8).filter(|seat| readers >> seat & 1 == 1);
        let cells = seats.filter_map(|seat| map.participant(seat)).flat_map(|row| &row.hazards);
        Self(cells.map(|cell| cell.load(Ordering::Acquire)).filter(|&named| named != 0).collect())
    }

    pub(crate) fn name(&self, block: u32) -> bool {
        self.0.contains(&(block + 1))
    }
}

/// Forgets a seat's hazards: by its process when it leaves, or by the reaper.
pub(crate) fn forget(map: &Map, seat: u8) {
    if let Some(row) = map.participant(seat) {
        row.hazards.iter().for_each(|cell| cell.store(0, Ordering::Release));
    }
    map.header().gathered.readers.fetch_and(!(1 << seat), Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::Delivery;
    use crate::endpoint::Endpoint;
    use crate::geometry::Geometry;
    use crate::participant::Kind;
    use crate::region::Region;
    use crate::tx::{self, Operation, Target};
    use crate::words::SlotState;

    /// A region's file, removed with it.
    struct File(std::path::PathBuf);

    impl Drop for File {
        fn drop(&mut self) {
            let _ = Region::remove(&self.0);
        }
    }

    /// Goal: the value of a commit that is decided, and whose owner was stopped before it had raised the slot's seq, does not
    /// pass for one that was released long ago.
    #[test]
    fn a_reading_is_never_older_than_its_value() {
        let file = File(Region::path_for(&format!("test.reading.{}", std::process::id())));
        let region = Region::create(&file.0, &Geometry::for_objects(8)).expect("a new region");
        region.become_primary(1);
        let reader = region.join(Kind::Other, "reader").expect("a seat");
        let mut worker = region.join(Kind::Worker, "worker").expect("a seat");
        let queue = QueueId(0);
        let packet = worker.packet_of(b"m", Endpoint::NONE).expect("a block");
        worker.deliver(Delivery { queue, key: Some(b"k"), priority: 0 }, packet).expect("room");
        let mut claim = worker.claim(queue).expect("a ready object");
        claim.set_value(b"new").expect("a block");
        let (held, role) = (&claim.held, claim.role);
        let value = held.value.expect("a private block");
        let read = || {
            let reading = reader.read(queue, b"k").expect("still").expect("there");
            (reading.value().to_vec(), reading.seq(), reading.written())
        };
        let before = read();
        assert_eq!(before.0, b"", "not committed");

        let (entry, drawing) = tx::begin_entry(&region, claim.participant.seat, role).expect("one");
        let step = Operation {
            target: Target::Slot(held.slot),
            expected: held.word.0,
            new: held.word.next(SlotState::Idle, 0, Some(value)).0,
            incarnation: held.incarnation,
            placing: held.placing,
        };
        step.write(entry, 0);
        entry.operation_count.store(1, Ordering::Relaxed);
        let stamp = |seq| {
            let block = region.map.block(value).expect("a block");
            block.row.seq.store(seq, Ordering::Relaxed);
        };
        let decided = tx::decide(&region, role, entry, drawing, stamp).expect("not fenced");
        let seq = decided.expect("nobody has aborted it");
        assert!(seq > before.1);
        assert_eq!(read(), (b"new".to_vec(), seq, seq), "decided, and the slot does not say so");
        tx::raise_last_seq(region.map.slot(held.slot).expect("a slot"), seq.to_bits());
        assert_eq!(read(), (b"new".to_vec(), seq, seq), "raised");
        claim.settled = true;
    }
}
