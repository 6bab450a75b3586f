//! A digest of the whole state table, kept up to date change by change, so that primary and back-up can
//! compare at the same position of the order without reading their tables.
//!
//! Each slot has a 64-bit hash over slot, incarnation, queue and the checksum of key and value, zero if it is free;
//! the digest is their wrapping sum. The primary's checksums are those that its workers made when they committed, the
//! back-up computes its own over what it got: so the digests compare what was meant with what arrived, and neither
//! node reads a value for them once more. It is meant to find bugs and bad memory, not an adversary. Timers travel as
//! time left and are not part of it.
//!
//! Both nodes follow the same rule: a commit's change counts unless the slot has a newer one, a copy of a
//! slot only if it is newer than what the slot has (a slot's seq is raised just before its word changes, so
//! a copy may name a commit whose effect it does not show). So copies and batches may be noted in any
//! order, on both sides, and once everything up to the end of the transfer has been noted the sums are
//! those of the same table.

use crate::protocol::Seq;
use crate::wire::{Change, PatchRef};

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
    pub fn note(&mut self, change: &Change<'_>, sum: u64) {
        self.note_if(change, sum, |new, held| new >= held);
    }

    /// Notes the copy of a slot, unless the slot has as new a change.
    pub fn note_copy(&mut self, copy: &Change<'_>, sum: u64) {
        self.note_if(copy, sum, |new, held| new > held || held == Seq::ZERO);
    }

    /// Notes what a commit changed of a value, unless its slot has a newer change.
    pub fn note_patch(&mut self, patch: &PatchRef<'_>, sum: u64) {
        let hash = hash(patch.slot, patch.incarnation, patch.queue, sum);
        self.note_hash(patch.slot, patch.seq, hash, |new, held| new >= held);
    }

    fn note_if(&mut self, change: &Change<'_>, sum: u64, counts: fn(Seq, Seq) -> bool) {
        let (slot, seq, hash) = match *change {
            Change::Remove { slot, seq, .. } => (slot, seq, 0),
            Change::Put(put) => {
                (put.slot, put.seq, hash(put.slot, put.incarnation, put.queue, sum))
            }
        };
        self.note_hash(slot, seq, hash, counts);
    }

    fn note_hash(&mut self, slot: u32, seq: Seq, hash: u64, counts: fn(Seq, Seq) -> bool) {
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

/// Odd, with their bits well spread: constants of wyhash (Wang Yi, public domain), whose multiply and fold this is.
const FACTORS: [u64; 2] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];

/// Of an object whose key and value have the checksum `sum`. Never zero: that is a free slot's.
fn hash(slot: u32, incarnation: u32, queue: u16, sum: u64) -> u64 {
    let place = u64::from(slot) << 32 | u64::from(incarnation);
    let place = mix(place ^ u64::from(queue).rotate_right(16), FACTORS[0]);
    mix(sum ^ place, FACTORS[1]).max(1)
}

/// Every bit of the product's two halves, and the word once more: a word of zero must not forget the rest.
fn mix(word: u64, factor: u64) -> u64 {
    let wide = u128::from(word) * u128::from(factor);
    (wide as u64) ^ (wide >> 64) as u64 ^ word.rotate_left(32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PutRef;

    type Noted = (Change<'static>, u64);

    fn put(slot: u32, incarnation: u32, seq: u64, sum: u64) -> Noted {
        let put = PutRef {
            slot,
            incarnation,
            seq: Seq::new(1, seq),
            queue: 0,
            prio: 0,
            key: None,
            value: b"",
            timer_left_ns: None,
            ready: false,
            basis: None,
        };
        (Change::Put(put), sum)
    }

    fn digest(changes: &[Noted]) -> u64 {
        let mut digest = TableDigest::new(8);
        changes.iter().for_each(|(change, sum)| digest.note(change, *sum));
        digest.at(Seq::new(1, 9)).expect("whole from the beginning")
    }

    #[test]
    fn the_same_table_has_the_same_digest_however_it_came_about() {
        let (a, b, c) = (put(0, 1, 1, 10), put(0, 1, 3, 11), put(5, 2, 2, 0));
        let whole = digest(&[a, c, b]);
        assert_eq!(whole, digest(&[b, a, c]), "an older copy after a newer batch changes nothing");
        assert_eq!(whole, digest(&[b, c]));
        let (mut digest_of, early) = (TableDigest::new(8), put(0, 1, 3, 10));
        [b, c].iter().for_each(|(change, sum)| digest_of.note(change, *sum));
        digest_of.note_copy(&early.0, early.1);
        assert_eq!(digest_of.sum(), whole, "a copy that names a commit that it does not show");
        let gone = Change::Remove { slot: 5, incarnation: 2, seq: Seq::new(1, 4) };
        assert_eq!(digest(&[a, b, c, (gone, 0)]), digest(&[b]));
    }

    #[test]
    fn whatever_differs_shows() {
        let base = digest(&[put(3, 1, 1, 0)]);
        assert_ne!(base, digest(&[]), "an object without key and value is an object");
        let mut others = vec![put(4, 1, 1, 0), put(3, 2, 1, 0)];
        others.extend((0..64).map(|bit| put(3, 1, 1, 1 << bit)));
        if let (Change::Put(other), sum) = put(3, 1, 1, 0) {
            others.push((Change::Put(PutRef { queue: 1, ..other }), sum));
        }
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
