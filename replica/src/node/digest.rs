//! One number for the whole state table, kept up change by change.
//!
//! It is the exclusive or of one hash a slot, so both nodes compute it from what they gather or
//! apply, without a look at the rest. It finds damage and bugs; it is no protection against anybody
//! who wants a collision. Timers are left out: they travel as time left and never agree to the bit.

/// Per slot, the hash of the object in it; 0 for none.
#[derive(Debug)]
pub(super) struct Digest {
    slots: Vec<u64>,
    sum: u64,
}

/// What of an object both nodes have alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'r> {
    pub(super) incarnation: u32,
    pub(super) queue: u8,
    pub(super) priority: u8,
    pub(super) key: &'r [u8],
    pub(super) value: &'r [u8],
}

impl Digest {
    pub(super) fn new(slots: u32) -> Self {
        Self { slots: vec![0; slots as usize], sum: 0 }
    }

    /// Notes what a slot holds now.
    pub(super) fn note(&mut self, slot: u32, row: Option<Row<'_>>) {
        let Some(place) = self.slots.get_mut(slot as usize) else { return };
        let hash = row.map_or(0, |row| hash(slot, &row));
        self.sum ^= *place ^ hash;
        *place = hash;
    }

    /// Every slot is empty.
    pub(super) fn clear(&mut self) {
        self.slots.fill(0);
        self.sum = 0;
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum
    }
}

fn hash(slot: u32, row: &Row<'_>) -> u64 {
    let key = crc32c::crc32c(row.key);
    let value = crc32c::crc32c_append(key, row.value);
    let mut hash = u64::from(slot) << 32 | u64::from(row.incarnation);
    for part in [
        u64::from(row.queue) << 8 | u64::from(row.priority),
        (row.key.len() as u64) << 32 | row.value.len() as u64,
        u64::from(key) << 32 | u64::from(value),
    ] {
        hash = mix(hash ^ mix(part));
    }
    // 0 stands for an empty slot.
    hash.max(1)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit in reaches every bit out.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row<'_> =
        Row { incarnation: 1, queue: 0, priority: 0, key: b"key", value: b"value" };

    #[test]
    fn every_field_counts_and_the_way_there_does_not() {
        let sum_of = |slot, row| {
            let mut digest = Digest::new(4);
            digest.note(slot, Some(row));
            digest.sum()
        };
        let base = sum_of(0, ROW);
        let others = [
            sum_of(1, ROW),
            sum_of(0, Row { incarnation: 2, ..ROW }),
            sum_of(0, Row { queue: 1, ..ROW }),
            sum_of(0, Row { priority: 1, ..ROW }),
            sum_of(0, Row { key: b"keyv", value: b"alue", ..ROW }),
            sum_of(0, Row { value: b"valuf", ..ROW }),
        ];
        for other in others {
            assert_ne!(base, other);
        }

        let mut digest = Digest::new(4);
        digest.note(3, Some(ROW));
        digest.note(0, Some(Row { value: b"before", ..ROW }));
        digest.note(0, Some(ROW));
        digest.note(3, None);
        digest.note(9, Some(ROW));
        assert_eq!(digest.sum(), base);
        digest.clear();
        assert_eq!(digest.sum(), 0);
    }
}
