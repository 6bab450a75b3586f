//! What a port did, counted: nothing that came in or was to go out disappears without a number.
//!
//! ```text
//!   received = delivered + Σ dropped[reason]           (once the loop rests)
//!   taken    = sent + Σ send_failed[reason] + pending
//! ```
//!
//! The loop is the only writer; anybody may read at any time. What the kernel dropped before we
//! could receive it is counted by the kernel and shown beside the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::mmsg::Datagram;
use crate::waited::Waited;

/// Counters of one port, shared between its loop and whoever shows them.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    received: AtomicU64,
    delivered: AtomicU64,
    created: AtomicU64,
    sent: AtomicU64,
    resent: AtomicU64,
    kernel_dropped: AtomicU64,
    send_waited: AtomicU64,
    sleeps: AtomicU64,
    attached: AtomicU64,
    connected: AtomicU64,
    ends_told: AtomicU64,
    waited: Waited,
    // Reasons are few and known to the programmer; the lock is taken only when something is lost.
    dropped: Mutex<BTreeMap<&'static str, u64>>,
    send_failed: Mutex<BTreeMap<&'static str, u64>>,
    kernel_dropped_by: Mutex<BTreeMap<&'static str, u64>>,
    disconnected: Mutex<BTreeMap<&'static str, u64>>,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Packets read from the socket, whatever became of them.
    pub received: u64,
    /// Packets that became a message to an object.
    pub delivered: u64,
    /// Objects created for the first packet of their key, or for a packet without one.
    pub created: u64,
    /// Packets that the kernel took from us.
    pub sent: u64,
    /// Of `sent`: packets that an earlier port may have sent already.
    pub resent: u64,
    /// Times that sending had to wait because the kernel had no room.
    pub send_waited: u64,
    /// Packets that the kernel dropped because the socket's buffer was full.
    pub kernel_dropped: u64,
    /// Of those, by reason, where the kernel tells.
    pub kernel_dropped_by: BTreeMap<&'static str, u64>,
    /// Times that the port went to sleep.
    pub sleeps: u64,
    /// Times that the port attached to a region.
    pub attached: u64,
    /// Connections that were accepted by the kernel.
    pub connected: u64,
    /// Objects that were told of the end of their connection.
    pub ends_told: u64,
    /// Connections that have ended, those refused at once included, by reason.
    pub disconnected: BTreeMap<&'static str, u64>,
    /// Received and dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Emitted packets that the kernel refused for good, by reason.
    pub send_failed: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// All zero.
    pub fn new() -> Self {
        Counters::default()
    }

    /// Reads all of them. They are read one after the other, not at one instant.
    pub fn snapshot(&self) -> Snapshot {
        let shared = &*self.shared;
        Snapshot {
            received: read(&shared.received),
            delivered: read(&shared.delivered),
            created: read(&shared.created),
            sent: read(&shared.sent),
            resent: read(&shared.resent),
            kernel_dropped: read(&shared.kernel_dropped),
            send_waited: read(&shared.send_waited),
            sleeps: read(&shared.sleeps),
            attached: read(&shared.attached),
            connected: read(&shared.connected),
            ends_told: read(&shared.ends_told),
            disconnected: lock(&shared.disconnected).clone(),
            kernel_dropped_by: lock(&shared.kernel_dropped_by).clone(),
            dropped: lock(&shared.dropped).clone(),
            send_failed: lock(&shared.send_failed).clone(),
        }
    }

    pub(crate) fn received(&self, count: u64) {
        add(&self.shared.received, count);
    }

    pub(crate) fn delivered(&self, created: bool) {
        add(&self.shared.delivered, 1);
        add(&self.shared.created, u64::from(created));
    }

    pub(crate) fn sent(&self, count: u64, resent: u64) {
        add(&self.shared.sent, count);
        add(&self.shared.resent, resent);
    }

    pub(crate) fn send_waited(&self) {
        add(&self.shared.send_waited, 1);
    }

    pub(crate) fn slept(&self) {
        add(&self.shared.sleeps, 1);
    }

    pub(crate) fn attached(&self) {
        add(&self.shared.attached, 1);
    }

    pub(crate) fn dropped(&self, reason: &'static str, count: u64) {
        if count > 0 {
            *lock(&self.shared.dropped).entry(reason).or_default() += count;
        }
    }

    pub(crate) fn send_failed(&self, reason: &'static str) {
        *lock(&self.shared.send_failed).entry(reason).or_default() += 1;
    }

    /// The kernel counts from the socket's birth: its figure replaces ours.
    pub(crate) fn kernel_dropped(&self, total: u64, by_reason: Vec<(&'static str, u64)>) {
        self.shared.kernel_dropped.store(total, Ordering::Relaxed);
        if by_reason.iter().any(|(_, count)| *count > 0) {
            let counted = by_reason.into_iter().filter(|(_, count)| *count > 0);
            *lock(&self.shared.kernel_dropped_by) = counted.collect();
        }
    }

    pub(crate) fn connected(&self) {
        add(&self.shared.connected, 1);
    }

    pub(crate) fn end_told(&self) {
        add(&self.shared.ends_told, 1);
    }

    pub(crate) fn disconnected(&self, reason: &'static str) {
        *lock(&self.shared.disconnected).entry(reason).or_default() += 1;
    }

    /// The packets of a batch that has just been read.
    pub(crate) fn waited_in_kernel(&self, batch: &[Datagram]) {
        self.shared.waited.note(batch);
    }

    /// How long packets waited in the kernel before they were read: for each power of two of nanoseconds a wait that none of
    /// them exceeds, and how many they were. Empty where the kernel does not tell, or was not asked.
    pub fn waited(&self) -> Vec<(Duration, u64)> {
        self.shared.waited.buckets()
    }
}

impl Snapshot {
    /// Connections that are open.
    pub fn connections(&self) -> u64 {
        self.connected.saturating_sub(self.disconnected.values().sum())
    }

    /// Everything that was received and lost inside this port.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "received {} delivered {} created {} sent {} resent {} kernel_dropped {}",
            self.received,
            self.delivered,
            self.created,
            self.sent,
            self.resent,
            self.kernel_dropped
        )?;
        for (reason, count) in &self.kernel_dropped_by {
            write!(f, " kernel_dropped[{reason}] {count}")?;
        }
        for (reason, count) in &self.dropped {
            write!(f, " dropped[{reason}] {count}")?;
        }
        for (reason, count) in &self.send_failed {
            write!(f, " send_failed[{reason}] {count}")?;
        }
        if self.connected > 0 {
            write!(f, " connected {} ends_told {}", self.connected, self.ends_told)?;
        }
        for (reason, count) in &self.disconnected {
            write!(f, " disconnected[{reason}] {count}")?;
        }
        Ok(())
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// One writer: a load and a store, without the locked instruction.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(read(counter).wrapping_add(count), Ordering::Relaxed);
}

/// A map of numbers is whole at every instruction: a panic elsewhere does not spoil it.
fn lock<T>(map: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_reasons_accounts_for_everything() {
        let counters = Counters::new();
        counters.received(5);
        counters.delivered(true);
        counters.delivered(false);
        counters.dropped("too long", 2);
        counters.dropped("too long", 0);
        counters.dropped("no key", 1);
        let seen = counters.clone().snapshot();
        assert_eq!((seen.delivered, seen.created), (2, 1));
        assert_eq!(seen.received, seen.delivered + seen.dropped_total());
        assert_eq!(
            seen.to_string(),
            "received 5 delivered 2 created 1 sent 0 resent 0 kernel_dropped 0 \
             dropped[no key] 1 dropped[too long] 2"
        );
    }
}
