//! The user's own counters and histograms, beside those of the region: a few atomics that any thread adds to, and a page of text
//! in the format of Prometheus.
//!
//! ```
//! use hotpair_worker::metrics::Metrics;
//!
//! let metrics = Metrics::new();
//! let calls = metrics.counter("sip_calls_total", "Calls that were answered.")?;
//! let sizes = metrics.histogram("sip_packet_bytes", "Sizes of packets.")?;
//! calls.add(1); // in a handler, on any thread
//! sizes.record(480);
//! let page = metrics.to_string(); // for an HTTP server, or `write_to` for a collector of text files
//! assert!(page.contains("sip_calls_total 1\n"));
//! assert!(page.contains("sip_packet_bytes_bucket{le=\"511\"} 1\n"));
//! # Ok::<(), hotpair_worker::metrics::MetricError>(())
//! ```

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counters and histograms of one [`Metrics`], at most.
pub const METRICS_MAX: usize = 256;

/// Bucket `n` counts values of `n` bits: up to `2^n - 1`.
const BUCKETS: usize = 65;

/// A number that grows. Clones are the same counter.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// What it counts.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often values of which size came, in powers of two. Clones are the same histogram.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Histogram {
    /// Counts a value, of whatever unit its name says.
    pub fn record(&self, value: u64) {
        let bits = (u64::BITS - value.leading_zeros()) as usize;
        self.0.counts[bits].fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// How many values came.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Counter(Counter),
    Histogram(Histogram),
}

#[derive(Debug)]
struct Metric {
    name: String,
    help: String,
    kind: Kind,
}

/// See the module. Clones are the same page.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Vec<Metric>>>);

/// Why there is no such metric.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// Names are letters, digits, underscores and colons.
    #[error(
        "{name:?} is no name of a metric: letters, digits, _ and :, of which no digit is first"
    )]
    Name {
        /// As asked for.
        name: String,
    },
    /// Two would be indistinguishable.
    #[error("there is a metric {name:?} already")]
    Exists {
        /// As asked for.
        name: String,
    },
    /// Nothing grows without an end.
    #[error("there are {METRICS_MAX} metrics already")]
    TooMany,
}

impl Metrics {
    /// An empty page.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// A new counter.
    pub fn counter(&self, name: &str, help: &str) -> Result<Counter, MetricError> {
        let counter = Counter::default();
        self.add(name, help, Kind::Counter(counter.clone()))?;
        Ok(counter)
    }

    /// A new histogram.
    pub fn histogram(&self, name: &str, help: &str) -> Result<Histogram, MetricError> {
        let counts = [const { AtomicU64::new(0) }; BUCKETS];
        let histogram = Histogram(Arc::new(Buckets { counts, sum: AtomicU64::new(0) }));
        self.add(name, help, Kind::Histogram(histogram.clone()))?;
        Ok(histogram)
    }

    fn add(&self, name: &str, help: &str, kind: Kind) -> Result<(), MetricError> {
        let may = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let begins = name.chars().next().is_some_and(|c| !c.is_ascii_digit());
        if !begins || !name.chars().all(may) {
            return Err(MetricError::Name { name: name.to_owned() });
        }
        let mut metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if metrics.iter().any(|metric| metric.name == name) {
            return Err(MetricError::Exists { name: name.to_owned() });
        }
        if metrics.len() >= METRICS_MAX {
            return Err(MetricError::TooMany);
        }
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        metrics.push(Metric { name: name.to_owned(), help, kind });
        Ok(())
    }

    /// Writes the page to a file, which is whole at every instant: for a collector of text files.
    pub fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(format!(".{}", std::process::id()));
        std::fs::write(&unfinished, self.to_string())?;
        std::fs::rename(&unfinished, path)
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Metric { name, help, kind } in
            self.0.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            writeln!(f, "# HELP {name} {help}")?;
            match kind {
                Kind::Counter(counter) => {
                    writeln!(f, "# TYPE {name} counter\n{name} {}", counter.get())?;
                }
                Kind::Histogram(Histogram(buckets)) => {
                    writeln!(f, "# TYPE {name} histogram")?;
                    let counts = buckets.counts.iter().map(|count| count.load(Ordering::Relaxed));
                    let counts: Vec<u64> = counts.collect();
                    let used = counts.iter().rposition(|&count| count > 0).map_or(0, |at| at + 1);
                    let mut below = 0;
                    for (bits, count) in counts.iter().enumerate().take(used.min(BUCKETS - 1)) {
                        below += count;
                        writeln!(f, "{name}_bucket{{le=\"{}\"}} {below}", (1_u64 << bits) - 1)?;
                    }
                    let all: u64 = counts.iter().sum();
                    writeln!(f, "{name}_bucket{{le=\"+Inf\"}} {all}")?;
                    writeln!(f, "{name}_sum {}", buckets.sum.load(Ordering::Relaxed))?;
                    writeln!(f, "{name}_count {all}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_was_counted() {
        let metrics = Metrics::new();
        let calls = metrics.counter("calls_total", "Calls,\nall of them.").expect("a name");
        let bytes = metrics.histogram("bytes", "Sizes.").expect("a name");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| calls.clone().add(1)));
            }
        });
        [0, 1, 2, 3, 4].into_iter().for_each(|value| bytes.record(value));
        let expected = "\
# HELP calls_total Calls,\\nall of them.
# TYPE calls_total counter
calls_total 400
# HELP bytes Sizes.
# TYPE bytes histogram
bytes_bucket{le=\"0\"} 1
bytes_bucket{le=\"1\"} 2
bytes_bucket{le=\"3\"} 4
bytes_bucket{le=\"7\"} 5
bytes_bucket{le=\"+Inf\"} 5
bytes_sum 10
bytes_count 5
";
        assert_eq!(metrics.to_string(), expected);
        bytes.record(u64::MAX);
        let page = metrics.to_string();
        assert!(page.contains("bytes_bucket{le=\"+Inf\"} 6\n"), "{page}");
        assert!(page.contains(&format!("le=\"{}\"}} 5\n", u64::MAX >> 1)), "{page}");
    }

    #[test]
    fn names_are_checked_and_there_is_a_limit() {
        let metrics = Metrics::new();
        for wrong in ["", "1st", "with space", "ü"] {
            let error = metrics.counter(wrong, "").expect_err(wrong);
            assert_eq!(error, MetricError::Name { name: wrong.to_owned() });
        }
        (0..METRICS_MAX).for_each(|number| {
            metrics.counter(&format!("n{number}"), "").expect("room");
        });
        let twice = metrics.histogram("n0", "").expect_err("there is one");
        assert_eq!(twice, MetricError::Exists { name: "n0".to_owned() });
        assert_eq!(metrics.counter("more", "").expect_err("full"), MetricError::TooMany);
    }
}
