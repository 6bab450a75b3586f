//! The key index: each keyed object is found under its key, once.

use std::collections::HashMap;

use crate::index::next_of;
use crate::sync::Ordering;
use crate::verify::finding::{Place, Wrong};
use crate::verify::look::Look;
use crate::words::BucketWord;

impl Look<'_> {
    pub(super) fn check_keys(&mut self) {
        // Per slot, the bucket plus one whose chain leads to it.
        let mut indexed = vec![0_u32; self.slots.len()];
        for bucket in 0..self.map.layout().bucket_count {
            self.check_bucket(bucket, &mut indexed);
        }
        let mut bearers: HashMap<(u8, Vec<u8>), u32> = HashMap::new();
        for slot in 0..self.map.geometry().slots {
            let Some((queue, key)) = self.key_of(slot) else { continue };
            self.report.checked.keys += 1;
            let Some(row) = self.map.slot(slot) else { continue };
            let expected = self.region.key_hash(queue, &key);
            let found = row.key_hash.load(Ordering::Relaxed);
            let (bucket, _) = self.map.bucket(expected);
            let other = bearers.insert((queue, key), slot);
            if self.slot_moves(slot) || self.bucket_moves(bucket) {
                continue;
            }
            let place = Place::Slot(slot);
            if found != expected {
                self.report.add(place, Wrong::KeyHash { found, expected });
            }
            if indexed[slot as usize] != bucket + 1 {
                self.report.add(place, Wrong::KeyMissing { bucket });
            }
            if let Some(other) = other.filter(|&other| !self.slot_moves(other)) {
                self.report.add(place, Wrong::KeyTwice { other });
            }
        }
    }

    fn check_bucket(&mut self, bucket: u32, indexed: &mut [u32]) {
        let Some(head) = self.map.bucket_at(bucket) else { return };
        let word = BucketWord(head.load(Ordering::SeqCst));
        let place = Place::Bucket(bucket);
        if let Some(seat) = word.owner().checked_sub(1)
            && !self.is_seated(word.owner())
        {
            self.report.add(place, Wrong::BucketHeld { seat });
        }
        let mut next = word.first();
        while let Some(slot) = next {
            let (Some(row), Some(mark)) = (self.map.slot(slot), indexed.get_mut(slot as usize))
            else {
                self.report.add(place, Wrong::IndexOutside { slot });
                return;
            };
            if *mark != 0 {
                if !self.bucket_moves(bucket) && !self.bucket_moves(*mark - 1) {
                    self.report.add(place, Wrong::IndexCircle { slot });
                }
                return;
            }
            *mark = bucket + 1;
            let bears = self.key_of(slot).is_some_and(|(queue, key)| {
                self.map.bucket(self.region.key_hash(queue, &key)).0 == bucket
            });
            if !bears && !self.bucket_moves(bucket) && !self.slot_moves(slot) {
                let found = self.slot_word(slot).into();
                self.report.add(place, Wrong::IndexStranger { slot, found });
            }
            next = next_of(row.index_next.load(Ordering::Acquire));
        }
    }

    /// Queue and key of the object in `slot`; `None` if there is no object, or it has no key.
    fn key_of(&self, slot: u32) -> Option<(u8, Vec<u8>)> {
        let word = self.slot_word(slot);
        let row = self.map.slot(slot).filter(|_| word.is_object())?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        self.map.block(word.block()?)?.copy_racy(&mut key, &mut value).ok()?;
        let queue = row.placing.load(Ordering::Relaxed) as u8;
        (!key.is_empty()).then_some((queue, key))
    }
}
