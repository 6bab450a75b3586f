//! A digest of the whole state table, kept up to date change by change, so that primary and back-up can
//! compare at the same position of the order without reading their tables.
//!
//! Each slot has a 64-bit hash over slot, incarnation, queue, key and value, zero if it is free; the
//! digest is their wrapping sum, so a change costs one hash and two additions. It is meant to find bugs
//! and bad memory, not an adversary. Timers travel as time left and are not part of it.
//!
//! Both nodes follow the same rule: a commit's change counts unless the slot has a newer one, a copy of a
//! slot only if it is newer than what the slot has (a slot's seq is raised just before its word changes, so
//! a copy may name a commit whose effect it does not show). So copies and batches may be noted in any
//! order, on both sides, and once everything up to the end of the transfer has been noted the sums are
//! those of the same table.

use crate::protocol::Seq;
use crate::wire::Change;

/// The digest of one node's table.
#[derive(Clone, Debug)]
pub struct TableDigest {
    /// Per slot: its last change, and its hash.
    slots: Vec<(Seq, u64)>,
    sum: u64,
    /// From which position on it is the digest of a whole table.
    whole_from: Option<Seq>,
}

impl TableDigest {
    /// The digest of an empty table, from the beginning on.
    pub fn new(slots: u32) -> TableDigest {
        let slots = vec![(Seq::ZERO, 0); slots as usize];
        TableDigest { slots, sum: 0, whole_from: Some(Seq::ZERO) }
    }

    /// Begins anew: with the copies of a state transfer, on either side. Of no use until
    /// [`whole_from`](Self::whole_from).
    pub fn begin(&mut self) {
        self.slots.fill((Seq::ZERO, 0));
        self.sum = 0;
        self.whole_from = None;
    }

    /// Whether it is the digest of a whole table, from some position on.
    pub fn is_whole(&self) -> bool {
        self.whole_from.is_some()
    }

    /// All copies of the transfer are noted, and are a state that existed with everything up to here.
    pub fn whole_from(&mut self, through: Seq) {
        self.whole_from = Some(through);
    }

    /// Notes what a commit changed, unless its slot has a newer change.
    pub fn note(&mut self, change: &Change<'_>) {
        self.note_if(change, |new, held| new >= held);
    }

    /// Notes the copy of a slot, unless the slot has as new a change.
    pub fn note_copy(&mut self, copy: &Change<'_>) {
        self.note_if(copy, |new, held| new > held || held == Seq::ZERO);
    }

    fn note_if(&mut self, change: &Change<'_>, counts: fn(Seq, Seq) -> bool) {
        let (slot, seq, hash) = match *change {
            Change::Remove { slot, seq, .. } => (slot, seq, 0),
            Change::Put(put) => {
                let key = put.key.unwrap_or_default();
                let mut sums = Sums::default();
                sums.add(key);
                sums.add(put.value);
                let lengths = (key.len() as u64) << 32 | put.value.len() as u64;
                let place = u64::from(put.slot) << 32 | u64::from(put.incarnation);
                (put.slot, put.seq, sums.hash([place, put.queue.into(), lengths]))
            }
        };
        let Some(held) = self.slots.get_mut(slot as usize) else { return };
        if !counts(seq, held.0) {
            return;
        }
        self.sum = self.sum.wrapping_sub(held.1).wrapping_add(hash);
        *held = (seq, hash);
    }

    /// The sum of what is noted, whole or not: for a back-up, whose core knows when it counts.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The digest of the table at this position, up to which everything has been noted; `None` while the
    /// table is not whole there.
    pub fn at(&self, position: Seq) -> Option<u64> {
        (position >= self.whole_from?).then_some(self.sum)
    }
}

const LANES: usize = 4;

/// J. G. Fletcher's sums ("An arithmetic checksum for serial transmissions", 1982) over words of 64 bits, in
/// four streams that a processor adds side by side: it is computed for every change on both nodes. What is
/// left is mixed as in wyhash (Wang Yi, public domain), multiply and fold.
#[derive(Default)]
struct Sums {
    plain: [u64; LANES],
    weighted: [u64; LANES],
}

impl Sums {
    /// Adds bytes, filled up with zeros: their number has to be mixed in.
    #[inline]
    fn add(&mut self, bytes: &[u8]) {
        let (steps, rest) = bytes.as_chunks::<{ LANES * 8 }>();
        for step in steps {
            self.step(step);
        }
        if !rest.is_empty() {
            let mut last = [0; LANES * 8];
            last[..rest.len()].copy_from_slice(rest);
            self.step(&last);
        }
    }

    #[inline]
    fn step(&mut self, step: &[u8; LANES * 8]) {
        let (words, _) = step.as_chunks::<8>();
        for (plain, word) in self.plain.iter_mut().zip(words) {
            *plain = plain.wrapping_add(u64::from_le_bytes(*word));
        }
        for (weighted, plain) in self.weighted.iter_mut().zip(&self.plain) {
            *weighted = weighted.wrapping_add(*plain);
        }
    }

    /// Never zero: that is a free slot's.
    fn hash(&self, more: [u64; 3]) -> u64 {
        let mut hash = FACTORS[0];
        // Each stream by another odd factor, so that words that change places show.
        for ((plain, weighted), factor) in self.plain.iter().zip(&self.weighted).zip(FACTORS) {
            hash = hash.wrapping_add(mix(plain ^ weighted.rotate_left(32), factor));
        }
        for word in more {
            hash = mix(hash ^ word, FACTORS[1]);
        }
        hash.max(1)
    }
}

/// Odd, with their bits well spread: constants of wyhash.
const FACTORS: [u64; LANES] =
    [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];

/// Every bit of the product's two halves, and the word once more: a word of zero must not forget the rest.
fn mix(word: u64, factor: u64) -> u64 {
    let wide = u128::from(word) * u128::from(factor);
    (wide as u64) ^ (wide >> 64) as u64 ^ word.rotate_left(32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PutRef;

    fn put(
        slot: u32,
        incarnation: u32,
        seq: u64,
        key: &'static str,
        value: &'static [u8],
    ) -> Change<'static> {
        Change::Put(PutRef {
            slot,
            incarnation,
            seq: Seq::new(1, seq),
            queue: 0,
            prio: 0,
            key: Some(key.as_bytes()),
            value,
            timer_left_ns: None,
            ready: false,
        })
    }

    fn digest(changes: &[Change<'_>]) -> u64 {
        let mut digest = TableDigest::new(8);
        changes.iter().for_each(|change| digest.note(change));
        digest.at(Seq::new(1, 9)).expect("whole from the beginning")
    }

    #[test]
    fn the_same_table_has_the_same_digest_however_it_came_about() {
        let (a, b, c) =
            (put(0, 1, 1, "k", b"old"), put(0, 1, 3, "k", b"new"), put(5, 2, 2, "", b"x"));
        let whole = digest(&[a, c, b]);
        assert_eq!(whole, digest(&[b, a, c]), "an older copy after a newer batch changes nothing");
        assert_eq!(whole, digest(&[b, c]));
        let (mut digest_of, early) = (TableDigest::new(8), put(0, 1, 3, "k", b"old"));
        [b, c].iter().for_each(|change| digest_of.note(change));
        digest_of.note_copy(&early);
        assert_eq!(digest_of.sum(), whole, "a copy that names a commit that it does not show");
        let gone = Change::Remove { slot: 5, incarnation: 2, seq: Seq::new(1, 4) };
        assert_eq!(digest(&[a, b, c, gone]), digest(&[b]));
    }

    #[test]
    fn whatever_differs_shows() {
        let base = digest(&[put(3, 1, 1, "key", b"value")]);
        let others = [
            put(4, 1, 1, "key", b"value"),
            put(3, 2, 1, "key", b"value"),
            put(3, 1, 1, "keyv", b"alue"),
            put(3, 1, 1, "key", b"value\0"),
            put(3, 1, 1, "key", b"valuf"),
        ];
        for other in others {
            assert_ne!(digest(&[other]), base, "{other:?}");
        }
    }

    #[test]
    fn a_transfer_that_is_not_whole_has_no_digest() {
        let mut digest = TableDigest::new(8);
        digest.begin();
        assert_eq!(digest.at(Seq::new(1, 100)), None);
        digest.whole_from(Seq::new(1, 7));
        assert_eq!(digest.at(Seq::new(1, 6)), None, "its batches are still on their way");
        assert_eq!(digest.at(Seq::new(1, 7)), Some(0));
    }
}
