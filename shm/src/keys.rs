//! What a commit prepares before its commit point: the buckets of the keys that it changes, and the inboxes
//! that it closes. A prepared word counts once the entry is committed, and is undone if it is aborted.

use crate::inbox;
use crate::index::{self, chain_word, next_of};
use crate::map::Map;
use crate::process::monotonic_ns;
use crate::sync::{Ordering, unchanged};
use crate::tx::{COMMIT_STALL, Draft, Operation, Refusal, Target};
use crate::words::{BucketWord, SlotWord};

/// A new object's key, to be reserved.
#[derive(Debug)]
pub(crate) struct Insert {
    pub(crate) slot: u32,
    pub(crate) queue: u8,
    pub(crate) hash: u64,
    pub(crate) key: Vec<u8>,
}

/// Reservations of one entry: what has to be undone if it is aborted.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) buckets: Vec<Bucket>,
    pub(crate) closed: Vec<u32>,
}

pub(crate) struct Bucket {
    index: u32,
    word: BucketWord,
    chain: Vec<u32>,
    removed: Vec<u32>,
    inserted: Vec<u32>,
}

impl Prepared {
    pub(crate) fn undo(self, map: &Map) {
        for bucket in &self.buckets {
            if let Some(head) = map.bucket_at(bucket.index) {
                let undone = bucket.word.next(bucket.word.first(), 0);
                // ORDER bucket/2 SeqCst, pairs with bucket/1. Somebody who waited may have undone it already.
                let _ = head.compare_exchange(
                    bucket.word.0,
                    undone.0,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                );
            }
        }
        for slot in self.closed {
            inbox::reopen(map, slot);
        }
    }
}

/// Reserves the buckets of all keys that the draft removes or inserts.
pub(crate) fn reserve_keys(
    map: &Map,
    seat: u8,
    draft: &Draft,
    prepared: &mut Prepared,
) -> Result<(), Refusal> {
    for &(slot, hash) in &draft.removes {
        reserve(map, seat, hash, prepared)?.removed.push(slot);
    }
    for insert in &draft.inserts {
        let bucket = reserve(map, seat, insert.hash, prepared)?;
        let taken = bucket
            .chain
            .iter()
            .any(|&slot| !bucket.removed.contains(&slot) && bears_key(map, slot, insert));
        let twice = draft.inserts.iter().any(|other| {
            other.slot != insert.slot && other.queue == insert.queue && other.key == insert.key
        });
        if taken || twice {
            return Err(Refusal::KeyTaken);
        }
        bucket.inserted.push(insert.slot);
    }
    Ok(())
}

/// Makes this participant the owner of a bucket, or finds that it is.
fn reserve<'p>(
    map: &Map,
    seat: u8,
    hash: u64,
    prepared: &'p mut Prepared,
) -> Result<&'p mut Bucket, Refusal> {
    let (index, head) = map.bucket(hash);
    if let Some(at) = prepared.buckets.iter().position(|bucket| bucket.index == index) {
        return Ok(&mut prepared.buckets[at]);
    }
    let begun = monotonic_ns();
    loop {
        let seen = BucketWord(head.load(Ordering::SeqCst));
        if seen.owner() == 0 {
            let word = seen.next(seen.first(), seat + 1);
            // ORDER bucket/2 SeqCst, pairs with bucket/1.
            if head.compare_exchange(seen.0, word.0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                let bucket = Bucket {
                    index,
                    word,
                    chain: Vec::new(),
                    removed: Vec::new(),
                    inserted: Vec::new(),
                };
                prepared.buckets.push(bucket);
                let bucket = prepared.buckets.last_mut().expect("just pushed");
                bucket.chain = chain_of(map, word).ok_or(Refusal::Busy)?;
                return Ok(bucket);
            }
            continue;
        }
        let waited = monotonic_ns() - begun;
        let stalled = waited > COMMIT_STALL.as_nanos() as u64;
        if waited > 4 * COMMIT_STALL.as_nanos() as u64 {
            // Its entry is committed, so its owner (or the reaper) will finish it, not we.
            return Err(Refusal::Busy);
        }
        index::settle(map, index, seen, stalled);
        std::hint::spin_loop();
    }
}

impl Bucket {
    /// The steps that turn the reserved chain into the new one.
    pub(crate) fn operations(&self, map: &Map, write: &mut impl FnMut(Operation)) {
        let plain =
            |target, expected, new| Operation { target, expected, new, incarnation: 0, placing: 0 };
        let kept = |slot: &&u32| !self.removed.contains(slot);
        let mut first = self.chain.iter().find(kept).copied();
        for (at, &slot) in self.chain.iter().enumerate() {
            let behind = self.chain.get(at + 1).copied();
            let next = self.chain[at + 1..].iter().find(kept).copied();
            if kept(&&slot) && next != behind {
                let before = map.slot(slot).map_or(0, |row| row.index_next.load(Ordering::Relaxed));
                write(plain(Target::Next(slot), before, chain_word(before, next)));
            }
        }
        for &slot in &self.inserted {
            // The new slots are reserved by this process: nobody else writes their rows.
            if let Some(row) = map.slot(slot) {
                let before = row.index_next.load(Ordering::Relaxed);
                row.index_next.store(chain_word(before, first), Ordering::Relaxed);
            }
            first = Some(slot);
        }
        write(plain(Target::Bucket(self.index), self.word.0, self.word.next(first, 0).0));
    }
}

/// The slots of a chain that nobody else may change now.
fn chain_of(map: &Map, word: BucketWord) -> Option<Vec<u32>> {
    let mut chain = Vec::new();
    let mut next = word.first();
    while let Some(slot) = next {
        if chain.len() > map.geometry().slots as usize {
            return None;
        }
        chain.push(slot);
        next = next_of(map.slot(slot)?.index_next.load(Ordering::Acquire));
    }
    Some(chain)
}

fn bears_key(map: &Map, slot: u32, insert: &Insert) -> bool {
    let Some(row) = map.slot(slot) else {
        return false;
    };
    if row.key_hash.load(Ordering::Relaxed) != insert.hash
        || row.placing.load(Ordering::Relaxed) as u8 != insert.queue
    {
        return false;
    }
    loop {
        let seen = row.word.load(Ordering::Acquire);
        let same = SlotWord(seen)
            .block()
            .and_then(|block| map.block(block))
            .is_some_and(|block| block.prefix_is_racy(&insert.key));
        if unchanged(&row.word, seen) {
            return same;
        }
    }
}
