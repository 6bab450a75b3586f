//! How a queue is served: its deadline, the lease of its claims, and what happens when it is full.
//!
//! Each node decides that for itself and may change it whenever it starts: a policy is no part of the geometry, and no
//! part of what is replicated.

use std::time::Duration;

use crate::region::{QueueId, Region};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What is done about a claim that outlasts its queue's lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
pub enum OnLeaseExpiry {
    /// It is reported and counted.
    #[default]
    Report = 0,
    /// Its process is killed besides; its confirmed death hands the object on.
    Kill = 1,
}

/// What becomes of a message that there is no room for: its object's inbox is full, or no block or slot is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
pub enum Overload {
    /// Its sender gets an error.
    #[default]
    Reject = 0,
    /// It is dropped.
    DropNewest = 1,
    /// The object's oldest message that nobody has in hands is dropped. Where there is none, the new one is.
    DropOldest = 2,
    /// Its sender gets an error and is to try again: a port stops reading meanwhile.
    Hold = 3,
}

/// How a queue is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueuePolicy {
    /// How long an object may wait for its claim; a longer wait is counted, with how much longer it was. Costs every claim
    /// of the queue a reading of the clock.
    pub deadline: Option<Duration>,
    /// How long a claim may last.
    pub lease: Option<Duration>,
    /// What is done about one that lasts longer.
    pub on_lease_expiry: OnLeaseExpiry,
    /// What is done when there is no room.
    pub overload: Overload,
}

/// A queue's policy in the region, and what came of it; on a cache line of its own.
#[repr(C, align(64))]
pub(crate) struct PolicyRow {
    /// In nanoseconds; zero for none.
    deadline: AtomicU64,
    /// In nanoseconds; zero for none.
    lease: AtomicU64,
    on_lease_expiry: AtomicU32,
    overload: AtomicU32,
    /// Claims that outlasted the lease.
    pub(crate) expired: AtomicU64,
    _pad: [u64; 4],
}

impl PolicyRow {
    #[inline]
    pub(crate) fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Relaxed)
    }

    pub(crate) fn lease(&self) -> u64 {
        self.lease.load(Ordering::Relaxed)
    }

    pub(crate) fn on_lease_expiry(&self) -> OnLeaseExpiry {
        match self.on_lease_expiry.load(Ordering::Relaxed) {
            1 => OnLeaseExpiry::Kill,
            _ => OnLeaseExpiry::Report,
        }
    }

    pub(crate) fn overload(&self) -> Overload {
        match self.overload.load(Ordering::Relaxed) {
            1 => Overload::DropNewest,
            2 => Overload::DropOldest,
            3 => Overload::Hold,
            _ => Overload::Reject,
        }
    }
}

impl Region {
    /// Sets how a queue is served from now on. For whoever owns the region.
    ///
    /// A deadline or a lease of more than 584 years is none.
    pub fn set_policy(&self, queue: QueueId, policy: &QueuePolicy) {
        let Some(row) = self.map.policy(queue.0) else { return };
        let nanoseconds = |span: Option<Duration>| {
            span.and_then(|span| u64::try_from(span.as_nanos()).ok()).unwrap_or(0)
        };
        row.deadline.store(nanoseconds(policy.deadline), Ordering::Relaxed);
        row.lease.store(nanoseconds(policy.lease), Ordering::Relaxed);
        row.on_lease_expiry.store(policy.on_lease_expiry as u32, Ordering::Relaxed);
        row.overload.store(policy.overload as u32, Ordering::Relaxed);
    }

    /// How a queue is served.
    pub fn policy(&self, queue: QueueId) -> QueuePolicy {
        let span = |nanoseconds| (nanoseconds != 0).then(|| Duration::from_nanos(nanoseconds));
        self.map.policy(queue.0).map_or_else(QueuePolicy::default, |row| QueuePolicy {
            deadline: span(row.deadline()),
            lease: span(row.lease()),
            on_lease_expiry: row.on_lease_expiry(),
            overload: row.overload(),
        })
    }
}
