//! How long packets waited in the kernel before the port read them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::mmsg::Datagram;

/// One bucket for each power of two of nanoseconds.
const BUCKETS: usize = 40;

/// A histogram that one thread writes and anybody reads.
#[derive(Debug)]
pub(crate) struct Waited {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Waited {
    fn default() -> Self {
        Waited { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

/// How long ago the first packet of a batch came in that the kernel has stamped.
pub(crate) fn since_arrival(batch: &[Datagram]) -> Option<Duration> {
    let received_at = batch.iter().find_map(Datagram::received_at)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(now.saturating_sub(received_at))
}

impl Waited {
    /// Notes when the packets of one batch, which have just been read, came in. The clock is read once, and only if the
    /// kernel told of any.
    pub(crate) fn note(&self, batch: &[Datagram]) {
        if !batch.iter().any(|datagram| datagram.received_at().is_some()) {
            return;
        }
        // The kernel stamps by the wall clock. Where that was set back meanwhile a wait reads as none.
        let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return };
        for received_at in batch.iter().filter_map(Datagram::received_at) {
            self.record(now.saturating_sub(received_at));
        }
    }

    fn record(&self, waited: Duration) {
        let nanoseconds = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        let bucket = (64 - nanoseconds.leading_zeros() as usize).min(BUCKETS - 1);
        let count = &self.buckets[bucket];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// For each bucket that is not empty: a wait that none in it exceeds, at most twice as long as it was, and how many.
    pub(crate) fn buckets(&self) -> Vec<(Duration, u64)> {
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let upper = |bucket: usize| Duration::from_nanos((1_u64 << bucket) - 1);
        counts.enumerate().filter(|(_, count)| *count > 0).map(|(at, n)| (upper(at), n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_counted_by_powers_of_two() {
        let waited = Waited::default();
        for nanoseconds in [0, 1, 900, 1_000, 1_100, u64::MAX] {
            waited.record(Duration::from_nanos(nanoseconds));
        }
        let buckets = waited.buckets();
        let upper: Vec<u128> = buckets.iter().map(|(wait, _)| wait.as_nanos()).collect();
        assert_eq!(upper, [0, 1, 1023, 2047, (1 << 39) - 1]);
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 6);
        // Nothing is known of a batch that the kernel has not stamped.
        waited.note(&[Datagram::new(1, None)]);
        assert_eq!(waited.buckets(), buckets);
        waited.note(&[Datagram::new(1, None).at(Duration::from_secs(1))]);
        assert_ne!(waited.buckets(), buckets);
    }
}
