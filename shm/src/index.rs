//! The key index: which object bears a key. Uniqueness of keys is truth.
//!
//! Each bucket heads a chain through the slots. The chain changes only while the bucket names an
//! owner, and becomes what the owner's tx entry says when that commits:
//!
//! ```text
//!             CAS: reserve, after DRAWING           CAS: operation of the committed entry
//!   (first, none) ───────────────► (first, owner) ─────────────────────► (new first, none)
//!                                        └──────────────────────────────► (first, none)
//!                                          CAS: undo of the aborted entry, by anybody
//! ```
//!
//! A participant has at most one undecided entry and settles all its reservations before the next, so
//! the owner's latest entry is the one that reserved, as long as the bucket's word has not changed.

use crate::map::Map;
use crate::region::Region;
use crate::sync::{Ordering, unchanged};
use crate::value::short_word;
use crate::words::{BucketWord, EntryState, EntryWord, SlotState, SlotWord};

/// Walks of one lookup that may find a chain broken.
const BROKEN_MAX: u32 = 3;

/// What an index says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    Found {
        slot: u32,
        incarnation: u32,
    },
    /// No such object as long as the bucket bears this word.
    Absent {
        bucket: u32,
        word: BucketWord,
    },
    /// Somebody's undecided commit has reserved the bucket.
    Undecided {
        bucket: u32,
        word: BucketWord,
    },
    /// The chain makes no sense or never stands still.
    Unstable,
}

/// Stable across builds and processes, unpredictable from outside the region.
pub(crate) fn hash(seed: u64, queue: u8, key: &[u8]) -> u64 {
    let mut hash = seed ^ u64::from(queue).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, end) = key.as_chunks::<8>();
    for word in words {
        hash = mix(hash ^ u64::from_le_bytes(*word));
    }
    if !end.is_empty() {
        hash = mix(hash ^ short_word(end));
    }
    mix(hash ^ key.len() as u64)
}

/// The finaliser of MurmurHash3: every input bit reaches every output bit.
fn mix(mut value: u64) -> u64 {
    value = (value ^ value >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    value = (value ^ value >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ value >> 33
}

pub(crate) fn next_of(word: u64) -> Option<u32> {
    (word as u32).checked_sub(1)
}

/// A chain word one generation later.
pub(crate) fn chain_word(before: u64, next: Option<u32>) -> u64 {
    (before >> 32).wrapping_add(1) << 32 | u64::from(next.map_or(0, |slot| slot + 1))
}

/// Looks a key up. Works while others insert and remove, and on a read-only mapping.
pub(crate) fn lookup(map: &Map, hash: u64, queue: u8, key: &[u8]) -> Lookup {
    let (bucket, head) = map.bucket(hash);
    let mut broken = 0;
    for _ in 0..1000 {
        // ORDER bucket/1 SeqCst, pairs with bucket/2.
        let word = BucketWord(head.load(Ordering::SeqCst));
        match walk(map, word, hash, queue, key) {
            Walk::Found { slot, incarnation } => return Lookup::Found { slot, incarnation },
            Walk::Changed => {}
            // A chain that changes under the walk may look so, but not every time.
            Walk::Broken if broken == BROKEN_MAX => return Lookup::Unstable,
            Walk::Broken => broken += 1,
            Walk::End => {
                if unchanged(head, word.0) {
                    return if word.owner() == 0 {
                        Lookup::Absent { bucket, word }
                    } else {
                        Lookup::Undecided { bucket, word }
                    };
                }
            }
        }
        std::hint::spin_loop();
    }
    Lookup::Unstable
}

enum Walk {
    Found {
        slot: u32,
        incarnation: u32,
    },
    Changed,
    /// It leads outside, or is longer than there are slots.
    Broken,
    End,
}

fn walk(map: &Map, word: BucketWord, hash: u64, queue: u8, key: &[u8]) -> Walk {
    let mut next = word.first();
    for _ in 0..=map.geometry().slots {
        let Some(slot) = next else { return Walk::End };
        let Some(row) = map.slot(slot) else {
            return Walk::Broken;
        };
        let seen = SlotWord(row.word.load(Ordering::Acquire));
        if row.key_hash.load(Ordering::Relaxed) == hash {
            let is_object = matches!(seen.state(), Some(SlotState::Claimed | SlotState::Parked))
                || seen.is_claimable();
            if !is_object {
                return Walk::Changed;
            }
            let incarnation = row.incarnation.load(Ordering::Relaxed);
            let same = row.placing.load(Ordering::Relaxed) as u8 == queue
                && seen
                    .block()
                    .and_then(|block| map.block(block))
                    .is_some_and(|block| block.prefix_is_racy(key));
            if !unchanged(&row.word, seen.0) {
                return Walk::Changed;
            }
            if same {
                return Walk::Found { slot, incarnation };
            }
        }
        next = next_of(row.index_next.load(Ordering::Acquire));
    }
    Walk::Broken
}

/// Whether the chain of a key leads to this slot. Only while nobody changes the chain.
pub(crate) fn links(map: &Map, hash: u64, slot: u32) -> bool {
    let (_, head) = map.bucket(hash);
    let mut next = BucketWord(head.load(Ordering::SeqCst)).first();
    for _ in 0..=map.geometry().slots {
        let Some(at) = next else { return false };
        if at == slot {
            return true;
        }
        let Some(row) = map.slot(at) else { return false };
        next = next_of(row.index_next.load(Ordering::Acquire));
    }
    false
}

/// Undoes the reservation of an aborted entry. With `abort`, aborts the entry first if it is undecided:
/// for an owner that has held up others too long. True if the bucket may now be free.
pub(crate) fn settle(map: &Map, bucket: u32, word: BucketWord, abort: bool) -> bool {
    let (Some(head), Some(seat)) = (map.bucket_at(bucket), word.owner().checked_sub(1)) else {
        return true;
    };
    let Some(row) = map.participant(seat) else {
        return false;
    };
    let Some(position) = row.next_position.load(Ordering::SeqCst).checked_sub(1) else {
        return false;
    };
    let Some(entry) = map.entry(seat, position) else {
        return false;
    };
    let mut seen = EntryWord(entry.word.load(Ordering::SeqCst));
    if head.load(Ordering::SeqCst) != word.0 || seen.position() != position {
        return true;
    }
    if abort && seen.state() == Some(EntryState::Drawing) {
        let aborted = seen.with(EntryState::Aborted);
        if entry
            .word
            .compare_exchange(seen.0, aborted.0, Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
        {
            return true;
        }
        seen = aborted;
    }
    if seen.state() != Some(EntryState::Aborted) {
        return false;
    }
    let undone = word.next(word.first(), 0);
    // ORDER bucket/2 SeqCst, pairs with bucket/1. Whoever loses this race finds it undone.
    let _ = head.compare_exchange(word.0, undone.0, Ordering::SeqCst, Ordering::SeqCst);
    true
}

impl Region {
    pub(crate) fn key_hash(&self, queue: u8, key: &[u8]) -> u64 {
        hash(self.hash_seed(), queue, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no two of many similar keys fall together, and queue, length and seed all count.
    #[test]
    fn similar_keys_have_different_hashes() {
        let mut seen = std::collections::HashSet::new();
        for n in 0..10_000_u32 {
            assert!(seen.insert(hash(1, 0, &n.to_le_bytes())));
            assert!(seen.insert(hash(1, 0, format!("call-{n}@host").as_bytes())));
        }
        assert_ne!(hash(1, 0, b"a"), hash(1, 1, b"a"));
        assert_ne!(hash(1, 0, b"a"), hash(2, 0, b"a"));
        assert_ne!(hash(1, 0, b"a"), hash(1, 0, b"a\0"));
    }

    #[test]
    fn a_chain_word_carries_generation_and_successor() {
        let word = chain_word(chain_word(0, Some(5)), None);
        assert_eq!((next_of(word), word >> 32), (None, 2));
        assert_eq!(next_of(chain_word(word, Some(0))), Some(0));
    }
}
