//! Latency in three parts: before the kill, while the service was gone, and after.
//!
//! ```text
//!   ── before ──┤ kill ├── during ──┤ first answer to a request sent after the kill ├── after ──
//! ```
//!
//! Which part a request belongs to is decided by when it was *due*: those that were on their way
//! when the kill came belong to the gap, whenever they were answered.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::ledger::Answered;

/// A request sent this soon after the kill may still have met a process that was just dying.
const DYING_NS: u64 = 1_000_000;
/// Longest latency that is told apart, in microseconds.
const MICROS_MAX: u64 = 60_000_000;

/// Histograms in microseconds.
#[derive(Debug)]
pub(crate) struct Latency {
    all: Histogram<u64>,
    before: Histogram<u64>,
    during: Histogram<u64>,
    after: Histogram<u64>,
    measuring: bool,
    killed_ns: Option<u64>,
    gap_end_ns: Option<u64>,
}

impl Latency {
    pub(crate) fn new() -> Latency {
        let histogram = || {
            Histogram::new_with_max(MICROS_MAX, 3)
                .expect("three digits up to a minute are in range")
        };
        Latency {
            all: histogram(),
            before: histogram(),
            during: histogram(),
            after: histogram(),
            measuring: false,
            killed_ns: None,
            gap_end_ns: None,
        }
    }

    /// The load begins.
    pub(crate) fn start(&mut self) {
        self.measuring = true;
    }

    /// The load is over; what still comes is no part of it.
    pub(crate) fn pause(&mut self) {
        self.measuring = false;
    }

    /// Something was killed.
    pub(crate) fn mark(&mut self, killed_ns: u64) {
        self.killed_ns.get_or_insert(killed_ns);
    }

    /// Counts a request.
    pub(crate) fn record(&mut self, answered: Answered, now_ns: u64) {
        if !self.measuring {
            return;
        }
        let micros = now_ns.saturating_sub(answered.due_ns).div_ceil(1_000);
        self.all.saturating_record(micros);
        let part = match self.killed_ns {
            None => &mut self.before,
            Some(killed_ns) => {
                if answered.sent_ns >= killed_ns + DYING_NS {
                    self.gap_end_ns.get_or_insert(now_ns);
                }
                match self.gap_end_ns {
                    Some(end_ns) if answered.due_ns > end_ns => &mut self.after,
                    _ => &mut self.during,
                }
            }
        };
        part.saturating_record(micros);
    }

    /// For the progress line.
    pub(crate) fn p99_us(&self) -> u64 {
        self.all.value_at_quantile(0.99)
    }

    /// All four, in microseconds.
    pub(crate) fn report(&self) -> Value {
        let show = |histogram: &Histogram<u64>| {
            if histogram.is_empty() {
                return Value::Null;
            }
            json!({
                "n": histogram.len(),
                "p50": histogram.value_at_quantile(0.5),
                "p90": histogram.value_at_quantile(0.9),
                "p99": histogram.value_at_quantile(0.99),
                "p999": histogram.value_at_quantile(0.999),
                "max": histogram.max(),
            })
        };
        json!({
            "all": show(&self.all), "before": show(&self.before),
            "during": show(&self.during), "after": show(&self.after),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn requests_fall_into_the_part_in_which_they_were_due() {
        let mut latency = Latency::new();
        let mut answered = |due_ms: u64, sent_ms: u64, at_ms: u64, mark: Option<u64>| {
            if let Some(killed_ms) = mark {
                latency.mark(killed_ms * MS);
            }
            latency.start();
            let answered = Answered { due_ns: due_ms * MS, sent_ns: sent_ms * MS };
            latency.record(answered, at_ms * MS);
            let report = latency.report();
            ["before", "during", "after"].map(|part| report[part]["n"].as_u64().unwrap_or(0))
        };
        assert_eq!(answered(10, 10, 11, None), [1, 0, 0]);
        assert_eq!(answered(99, 99, 120, Some(100)), [1, 1, 0], "on its way when it was killed");
        assert_eq!(answered(101, 105, 121, None), [1, 2, 0], "the first that was sent later");
        assert_eq!(answered(119, 122, 123, None), [1, 3, 0], "due in the gap");
        assert_eq!(answered(122, 122, 123, None), [1, 3, 1]);
    }

    #[test]
    fn only_the_load_is_measured() {
        let mut latency = Latency::new();
        let answered = Answered { due_ns: 0, sent_ns: 0 };
        latency.record(answered, MS);
        latency.start();
        latency.record(answered, 2 * MS);
        latency.pause();
        latency.record(answered, MS);
        let report = latency.report();
        assert_eq!(
            (report["all"]["n"].as_u64(), report["all"]["max"].as_u64()),
            (Some(1), Some(2_000))
        );
        assert!(report["during"].is_null());
    }
}
