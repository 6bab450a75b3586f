//! Recording values and writing them down in hdrhistogram's formats.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::trace::Trace;

/// Three significant digits: the error of a value is at most 0.1 %.
const DIGITS: u8 = 3;

/// Largest value kept: a minute. Whatever takes longer is counted as a minute.
const NANOSECONDS_MAX: u64 = 60_000_000_000;

/// Every value of a run, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    inner: hdrhistogram::Histogram<u64>,
    trace: Trace,
}

/// What is said of a distribution, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many values.
    pub n: u64,
    /// Half of them are not above this.
    pub p50: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p999: u64,
    /// The largest.
    pub max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// Without values; all memory that it will use is taken here.
    pub fn new() -> Self {
        let inner = hdrhistogram::Histogram::new_with_bounds(1, NANOSECONDS_MAX, DIGITS)
            .expect("constant bounds, known to be valid");
        Histogram { inner, trace: Trace::new() }
    }

    /// What a region has counted: the greatest value of each bucket, as often as it was counted. So no percentile is
    /// understated, nor overstated by more than one part in sixteen.
    pub fn of(seen: &hotpair_shm::Distribution) -> Self {
        let mut histogram = Histogram::new();
        for (_, greatest, count) in seen.buckets() {
            histogram.inner.saturating_record_n(greatest, count);
        }
        histogram
    }

    /// Adds a value.
    #[inline]
    pub fn record_ns(&mut self, nanoseconds: u64) {
        self.inner.saturating_record(nanoseconds);
        self.trace.record(nanoseconds);
    }

    /// Ends a slice of the run: what was added since the last one makes points of the run's course.
    pub(crate) fn slice_ended(&mut self, from: Duration, to: Duration) {
        self.trace.slice_ended(from, to);
    }

    /// How the run went.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The distribution as a line to draw: shares of the values and how large they are at most, in nanoseconds. Each step
    /// halves the share that is left, in five steps.
    pub(crate) fn quantiles(&self) -> Vec<(f64, u64)> {
        let steps = self.inner.iter_quantiles(5);
        steps.map(|step| (step.quantile(), step.value_iterated_to())).collect()
    }

    /// Adds a value.
    pub fn record(&mut self, value: Duration) {
        self.record_ns(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many values there are.
    pub fn len(&self) -> u64 {
        self.inner.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// The usual percentiles.
    pub fn summary(&self) -> Summary {
        let at = |quantile| self.inner.value_at_quantile(quantile);
        Summary {
            n: self.inner.len(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: self.inner.max(),
        }
    }

    /// Writes the percentile distribution, values divided by `unit_ns`, as hdrhistogram's plotters
    /// read it.
    pub fn write_hgrm(&self, path: &Path, unit_ns: f64) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        self.hgrm(&mut out, unit_ns)?;
        out.flush()
    }

    fn hgrm(&self, out: &mut impl Write, unit_ns: f64) -> io::Result<()> {
        writeln!(
            out,
            "{:>12} {:>14} {:>10} {:>14}\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        )?;
        let mut count = 0;
        for step in self.inner.iter_quantiles(5) {
            count += step.count_since_last_iteration();
            let value = step.value_iterated_to() as f64 / unit_ns;
            let quantile = step.quantile();
            write!(out, "{value:>12.3} {quantile:>2.12} {:>10}", count)?;
            if quantile < 1.0 {
                writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?;
            } else {
                writeln!(out)?;
            }
        }
        let (mean, deviation) = (self.inner.mean() / unit_ns, self.inner.stdev() / unit_ns);
        writeln!(out, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
        let (max, count) = (self.inner.max() as f64 / unit_ns, self.inner.len());
        writeln!(out, "#[Max     = {max:>12.3}, Total count    = {count:>12}]")?;
        let (buckets, sub) = (self.inner.buckets(), self.inner.distinct_values());
        writeln!(out, "#[Buckets = {buckets:>12}, SubBuckets     = {sub:>12}]")
    }

    /// Writes the histogram as one interval of a compressed log, values in nanoseconds.
    pub fn write_hlog(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        let mut serializer = V2DeflateSerializer::new();
        let mut log = IntervalLogWriterBuilder::new()
            .with_start_time(SystemTime::now())
            .begin_log_with(&mut out, &mut serializer)?;
        log.write_histogram(&self.inner, Duration::ZERO, Duration::ZERO, None)
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut histogram = Histogram::new();
        for value in 1..=1000 {
            histogram.record_ns(value);
        }
        histogram.record(Duration::from_secs(3600));
        let summary = histogram.summary();
        assert_eq!((summary.n, summary.p50), (1001, 501));
        assert!(summary.max >= NANOSECONDS_MAX, "an hour is kept as a minute, not lost");
    }

    /// Goal: hdrhistogram says the same of what a region counted as of the values themselves, to one part in sixteen.
    #[test]
    fn a_regions_buckets_read_back_as_the_values_that_were_counted() {
        let (mut counted, mut exact) = (hotpair_shm::Distribution::default(), Histogram::new());
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..100_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Over nine powers of ten, each as likely as the next.
            let value = 2_f64.powf((state >> 11) as f64 / (1_u64 << 53) as f64 * 34.0) as u64;
            counted.record(value);
            exact.record_ns(value);
        }
        let back = Histogram::of(&counted);
        assert_eq!(back.len(), exact.len());
        for step in 0..=1000 {
            let quantile = f64::from(step) / 1000.0;
            let (seen, true_value) =
                (back.inner.value_at_quantile(quantile), exact.inner.value_at_quantile(quantile));
            let error = seen.abs_diff(true_value) as f64 / true_value.max(1) as f64;
            // Three digits of hdrhistogram's own come on top.
            assert!(error <= 1.0 / 16.0 + 0.002, "{quantile}: {seen}, not {true_value}");
        }
        assert!(back.summary().max.abs_diff(exact.summary().max) <= exact.summary().max / 500);
    }

    #[test]
    fn files_are_what_the_plotters_expect() {
        let mut histogram = Histogram::new();
        for value in [100, 200, 400] {
            histogram.record_ns(value);
        }
        let mut text = Vec::new();
        histogram.hgrm(&mut text, 1.0).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        let last = text.lines().rfind(|line| !line.starts_with('#'));
        let fields: Vec<_> = last.expect("rows").split_ascii_whitespace().collect();
        assert_eq!(fields, ["400.000", "1.000000000000", "3"], "{text}");
        assert!(text.contains("Total count    =            3"), "{text}");
    }
}
