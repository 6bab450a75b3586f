//! Regions full of objects that are ready whenever one is wanted, and a worker that serves them.

use std::hint::black_box;

use hotpair_shm::{
    Delivery, Endpoint, Geometry, Kind, Participant, QueueId, QueueSpec, Region, Shares, SizeClass,
};

use crate::registry::BenchError;

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 256;

/// Bytes of a block that holds a value: the key stands in front of it, and the block keeps to cache lines of
/// its own, as the limit's do.
pub(crate) const BLOCK_BYTES: u32 = (16 + VALUE_BYTES as u32).next_multiple_of(64);

/// Bytes of a block that holds a short message.
pub(crate) const MESSAGE_BYTES: u32 = 64;

/// Commits of one participant that may wait to be gathered. Entries, and the blocks that they retire,
/// are reused once the ring is full, since no node gathers in a bench: a larger ring would measure the
/// cache that it does not fit into.
const TX_ENTRIES: u32 = 64;

/// Blocks of one class that a participant may keep for itself.
const MAGAZINE: u32 = 64;

const QUEUE: &str = "hot";

/// Bytes of a block for a value of so many.
fn block_bytes(value_bytes: usize) -> u32 {
    (16 + value_bytes as u32).next_multiple_of(64)
}

/// Room for `objects` objects of [`VALUE_BYTES`] and for `participants` that work on them.
pub(crate) fn geometry(objects: u32, participants: u16) -> Geometry {
    geometry_of(objects, participants, VALUE_BYTES)
}

/// The same for values of another size.
pub(crate) fn geometry_of(objects: u32, participants: u16, value_bytes: usize) -> Geometry {
    let mut spare = 0;
    spare += u32::from(participants) * MAGAZINE; // in the hands of participants
    spare += u32::from(participants) * TX_ENTRIES; // waits to be gathered
    Geometry {
        slots: objects,
        classes: vec![SizeClass {
            payload_bytes: block_bytes(value_bytes),
            count: objects + spare,
        }],
        queues: vec![QueueSpec { name: QUEUE.to_owned(), lanes: 1 }],
        ports: Vec::new(),
        participants,
        tx_entries: TX_ENTRIES,
        max_attempts: 5,
        inbox_limit: 1000,
        shares: Shares::default(),
    }
}

/// Added to a word, it changes each of its bytes.
const EACH_BYTE: u64 = 0x0101_0101_0101_0101;

/// The useful work of a claim: read all of the value, write all of it. Every byte becomes another one, or a pair would have nothing
/// to ship.
pub(crate) fn work(value: &mut [u8]) {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let sum = value.chunks_exact(8).fold(0_u64, |sum, bytes| sum.wrapping_add(word(bytes)));
    black_box(sum);
    let next = value.first_chunk::<8>().map_or(0, |first| word(first)).wrapping_add(EACH_BYTE);
    let next = next.to_le_bytes();
    value.chunks_exact_mut(8).for_each(|bytes| bytes.copy_from_slice(&next));
}

/// Changes so many pieces of a cache line's size, as far from each other as they can be.
pub(crate) fn touch(value: &mut [u8], pieces: usize) {
    let apart = (value.len() / pieces.max(1)).max(1);
    for piece in value.chunks_mut(apart).take(pieces) {
        let end = piece.len().min(64);
        piece[..end].iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    }
}

/// A worker in a region whose objects stay ready after each commit.
pub(crate) struct Hand {
    pub(crate) worker: Participant,
    pub(crate) queue: QueueId,
}

impl Hand {
    /// Takes a seat in a region made with [`geometry`].
    pub(crate) fn join(region: &Region) -> Result<Self, BenchError> {
        let queue =
            region.queue(QUEUE).ok_or_else(|| BenchError::setup("find the queue")(QUEUE))?;
        let worker =
            region.join(Kind::Worker, "bench").map_err(BenchError::setup("join the region"))?;
        Ok(Hand { worker, queue })
    }

    /// Makes objects 0, 1, … with a value; they are not ready afterwards.
    pub(crate) fn create(&mut self, objects: u32) -> Result<(), BenchError> {
        self.create_with(objects, &[1; VALUE_BYTES])
    }

    /// The same with a value of another size.
    pub(crate) fn create_with(&mut self, objects: u32, value: &[u8]) -> Result<(), BenchError> {
        for object in 0..objects {
            self.send(object, b"begin")?;
            let mut claim = self.worker.claim(self.queue).ok_or_else(nothing_ready)?;
            claim.set_value(value).map_err(BenchError::setup("take a block"))?;
            claim.commit().map_err(BenchError::setup("commit"))?;
        }
        Ok(())
    }

    /// Makes an object ready by a message.
    pub(crate) fn send(&mut self, object: u32, data: &[u8]) -> Result<(), BenchError> {
        send(&mut self.worker, self.queue, object, data)
    }

    /// Makes each object ready for good, in the order given: that in which they are claimed from now on.
    pub(crate) fn make_ready(
        &mut self,
        order: impl IntoIterator<Item = u32>,
    ) -> Result<(), BenchError> {
        for object in order {
            self.send(object, b"go on")?;
        }
        Ok(())
    }

    /// Claims an object, works on it, commits, and leaves it ready.
    #[inline]
    pub(crate) fn turn(&mut self) -> Result<(), BenchError> {
        self.turn_with(|| ())
    }

    /// The same, with more to do while the object is claimed.
    #[inline]
    pub(crate) fn turn_with(&mut self, more: impl FnOnce()) -> Result<(), BenchError> {
        self.turn_on(|value| {
            work(value);
            more();
        })
    }

    /// The same with other work.
    #[inline]
    pub(crate) fn turn_on(&mut self, change: impl FnOnce(&mut [u8])) -> Result<(), BenchError> {
        let mut claim = self.worker.claim(self.queue).ok_or_else(nothing_ready)?;
        change(claim.value_mut().map_err(BenchError::setup("take a block"))?);
        claim.stay_ready();
        claim.commit().map_err(BenchError::setup("commit"))?;
        Ok(())
    }
}

/// Makes an object ready by a message of `sender`.
pub(crate) fn send(
    sender: &mut Participant,
    queue: QueueId,
    object: u32,
    data: &[u8],
) -> Result<(), BenchError> {
    let message =
        sender.packet_of(data, Endpoint::NONE).map_err(BenchError::setup("take a block"))?;
    let to = Delivery { queue, key: Some(&object.to_le_bytes()), priority: 0 };
    sender
        .deliver(to, message)
        .map_err(|(error, _)| BenchError::setup("deliver a message")(error))?;
    Ok(())
}

/// What it means if a claim that cannot fail does.
pub(crate) fn nothing_ready() -> BenchError {
    BenchError::setup("claim")("no object is ready, although all were made so")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    /// Goal: however often a value was worked on, all of it changes the next time.
    #[test]
    fn work_changes_every_byte() {
        let mut value = [1; VALUE_BYTES];
        for turn in 0..1_000 {
            let before = value;
            work(&mut value);
            assert!(before.iter().zip(&value).all(|(old, new)| old != new), "turn {turn}");
        }
        let before = value;
        touch(&mut value, 2);
        assert_eq!(before.iter().zip(&value).filter(|(old, new)| old != new).count(), 2 * 64);
    }

    /// Goal: objects come in the order in which they were made ready, and come again.
    #[test]
    fn the_order_is_kept() {
        let scratch = Scratch::new("objects");
        let region = Region::create(&scratch.path, &geometry(4, 2)).expect("a small region fits");
        region.become_primary(1);
        let mut hand = Hand::join(&region).expect("a seat");
        hand.create(4).expect("room for four");
        hand.make_ready([2, 0, 3, 1]).expect("they exist");
        let mut seen = Vec::new();
        for _ in 0..8 {
            let mut claim = hand.worker.claim(hand.queue).expect("ready");
            seen.push(claim.key()[0]);
            claim.stay_ready();
            claim.commit().expect("nobody is in the way");
        }
        assert_eq!(seen, [2, 0, 3, 1, 2, 0, 3, 1]);
        for _ in 0..400 {
            hand.turn().expect("one is always ready");
        }
        let values: Vec<_> = region.objects().map(|object| object.value).collect();
        assert!(values.iter().all(|value| value.len() == VALUE_BYTES && value[0] != 1));
    }
}
