//! Who may have how much of a region.

/// How blocks and slots are shared between the processes of a region. Fixed at creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Percent of each class's blocks, and of the slots, that ports may fill; the rest is kept for commits.
    /// From 1 to 100; 100 keeps nothing back.
    pub ingest_percent: u8,
    /// Blocks of one class that a process may keep for itself, so that it seldom touches what is shared. From
    /// 1 to 1,024; fewer where all seats together could keep more than half of a class.
    pub magazine: u16,
}

impl Default for Shares {
    fn default() -> Shares {
        Shares { ingest_percent: 75, magazine: 64 }
    }
}

impl Shares {
    /// Largest [`magazine`](Self::magazine).
    pub(crate) const MAGAZINE_MAX: u16 = 1024;

    /// What ports must leave of `total`.
    pub fn reserve(&self, total: u32) -> u32 {
        let most = u64::from(total) * u64::from(self.ingest_percent.min(100)) / 100;
        total - most as u32
    }

    /// How many there must be for ports to fill `wanted` of them.
    pub fn with_reserve(&self, wanted: u32) -> u32 {
        let percent = u64::from(self.ingest_percent.clamp(1, 100));
        u32::try_from((u64::from(wanted) * 100).div_ceil(percent)).unwrap_or(u32::MAX)
    }

    /// Blocks that one of `seats` processes may keep of a class of `count`.
    pub fn magazine_of(&self, seats: u16, count: u32) -> u32 {
        u32::from(self.magazine).min(count / (2 * u32::from(seats.max(1)))).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_what_a_share_leaves() {
        #[rustfmt::skip]
        let cases = [
            // why                 percent  total  reserve
            ("nothing is kept",        100,  4096,       0),
            ("a quarter",               75,  4096,    1024),
            ("rounded up",              75,    10,       3),
            ("even of very few",        99,     2,       1),
            ("nearly everything",        1,   100,      99),
        ];
        for (why, ingest_percent, total, reserve) in cases {
            let shares = Shares { ingest_percent, ..Shares::default() };
            assert_eq!(shares.reserve(total), reserve, "{why}");
            let wanted = total - reserve;
            let all = shares.with_reserve(wanted);
            assert!(all - shares.reserve(all) >= wanted, "{why}: {all} are not enough");
        }
    }

    #[test]
    fn magazines_together_hold_at_most_half_of_a_class() {
        let shares = Shares::default();
        for (seats, count, each) in [(32, 16384, 64), (32, 4096, 64), (16, 512, 16), (64, 100, 1)] {
            assert_eq!(shares.magazine_of(seats, count), each, "{seats} seats, {count} blocks");
        }
    }
}
