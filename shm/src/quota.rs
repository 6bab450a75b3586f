//! What ports leave to commits: a part of each class, and of the slots.
//!
//! A flooded port would otherwise turn every block into a message, and then no worker could commit, which
//! alone makes blocks free again. So a port counts what is free before it takes, and takes nothing of the
//! reserve. Others do not count.
//!
//! A count reads the whole bitmap, so one has to do for several takes. They are so few that even if every
//! seat were a port and each had counted at the best instant for it, they would leave half of the reserve;
//! and so many that a take pays for a few words of the bitmap, however large it is.

use crate::participant::Kind;
use crate::shares::Shares;
use crate::sync::AtomicU64;
use crate::usage::Marks;

/// What one participant may still take of one kind of thing.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    /// Zero: there is no limit.
    reserve: u32,
    /// Takes that one count is good for.
    step: u32,
    left: u32,
}

/// So few are free that the rest is kept for commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short {
    pub(crate) free: u32,
    pub(crate) reserve: u32,
}

impl Quota {
    /// Of a participant of `kind` in a region of `seats`, for things of which there are `total`.
    pub(crate) fn new(kind: Kind, shares: Shares, seats: u16, total: u32) -> Self {
        if kind != Kind::Port {
            return Quota::default();
        }
        let reserve = shares.reserve(total);
        Quota { reserve, step: (reserve / (2 * u32::from(seats))).max(1), left: 0 }
    }

    /// How many of `wanted` may be taken, at least one, of the `total` whose hints are in `bitmap`.
    pub(crate) fn grant(
        &mut self,
        wanted: u32,
        marks: &Marks,
        bitmap: &[AtomicU64],
        total: u32,
    ) -> Result<u32, Short> {
        if self.reserve == 0 {
            return Ok(wanted);
        }
        if self.left == 0 {
            let free = total - marks.sample(bitmap, total);
            self.left = free.saturating_sub(self.reserve).min(self.step);
            if self.left == 0 {
                return Err(Short { free, reserve: self.reserve });
            }
        }
        let granted = wanted.min(self.left);
        self.left -= granted;
        Ok(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    /// Goal: whatever the sizes, ports that count at the best instant and take at the worst leave half of
    /// the reserve, and one port alone all of it.
    #[test]
    fn stale_counts_leave_half_of_the_reserve() {
        for (total, percent, seats) in [(4096, 75, 8), (1000, 50, 64), (256, 10, 16), (640, 90, 2)]
        {
            let shares = Shares { ingest_percent: percent, ..Shares::default() };
            let bitmap: Vec<AtomicU64> = (0..total).map(|_| AtomicU64::new(1)).collect();
            let marks = Marks::default();
            let free = |taken: u32| {
                bitmap[..taken as usize].iter().for_each(|word| word.store(0, Ordering::Relaxed))
            };
            let mut ports: Vec<Quota> =
                (0..seats).map(|_| Quota::new(Kind::Port, shares, seats, total)).collect();
            // All count while everything is free.
            let mut taken: u32 = ports
                .iter_mut()
                .map(|port| port.grant(1, &marks, &bitmap, total).expect("free"))
                .sum();
            // The first takes what it is ever given, before the others take what they were.
            free(taken);
            while let Ok(granted) = ports[0].grant(16, &marks, &bitmap, total) {
                taken += granted;
                free(taken);
            }
            assert_eq!(total - taken, shares.reserve(total), "one leaves the reserve: {total}");
            taken += ports[1..].iter().map(|port| port.left).sum::<u32>();
            let least = shares.reserve(total) / 2;
            assert!(total - taken >= least, "{} left of {total}, {least} wanted", total - taken);
        }
    }

    #[test]
    fn only_ports_are_limited() {
        let bitmap = [AtomicU64::new(0)];
        let marks = Marks::default();
        for (kind, limited) in
            [(Kind::Node, false), (Kind::Worker, false), (Kind::Other, false), (Kind::Port, true)]
        {
            let mut quota = Quota::new(kind, Shares::default(), 4, 64);
            assert_eq!(quota.grant(16, &marks, &bitmap, 64).is_err(), limited, "{kind}");
        }
    }
}
