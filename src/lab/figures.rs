//! Phases and outages over many runs: percentiles, tables, logs for other programs.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde_json::{Value, json};

use super::findings::{Findings, PHASES};
use super::{Ran, machine};
use crate::report::Failure;

/// Longest phase that is told apart, in microseconds.
const MICROS_MAX: u64 = 120_000_000;

/// All values of a phase; nothing if there is none.
pub(super) fn histogram(runs: &[Findings], phase: &str) -> Option<Histogram<u64>> {
    let mut histogram = Histogram::new_with_max(MICROS_MAX, 3).ok()?;
    for micros in runs.iter().filter_map(|findings| findings.phase(phase)) {
        histogram.saturating_record(micros);
    }
    (!histogram.is_empty()).then_some(histogram)
}

pub(super) fn percentiles(runs: &[Findings]) -> Value {
    let mut all = serde_json::Map::new();
    for phase in PHASES {
        let Some(histogram) = histogram(runs, phase) else { continue };
        all.insert(
            phase.to_owned(),
            json!({
                "n": histogram.len(), "p50_us": histogram.value_at_quantile(0.5),
                "p99_us": histogram.value_at_quantile(0.99), "max_us": histogram.max(),
            }),
        );
    }
    Value::Object(all)
}

/// Milliseconds, for people.
pub(super) fn ms(micros: u64) -> String {
    format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10)
}

/// What is said when all runs are over.
pub(super) fn summary(runs: &[Findings], took: Duration, failed: Option<&str>) -> String {
    let mut text = String::new();
    if runs.len() > 1 {
        text.push_str(&table(runs));
    }
    text.push_str(&format!("took {}.{} s\n", took.as_secs(), took.subsec_millis() / 100));
    if let Some(why) = failed {
        text.push_str(&format!("NOT run to the end: {why}\n"));
    }
    text
}

fn table(runs: &[Findings]) -> String {
    let mut text =
        format!("{:<14} {:>5} {:>11} {:>11} {:>11}\n", "phase", "n", "p50", "p99", "max");
    for phase in PHASES {
        let Some(histogram) = histogram(runs, phase) else { continue };
        text.push_str(&format!(
            "{phase:<14} {:>5} {:>11} {:>11} {:>11}\n",
            histogram.len(),
            ms(histogram.value_at_quantile(0.5)),
            ms(histogram.value_at_quantile(0.99)),
            ms(histogram.max()),
        ));
    }
    text
}

/// Writes an interval log with one histogram for each phase, tagged with its name, in microseconds.
pub(super) fn log(ran: &Ran, dir: &Path) -> Result<(), Failure> {
    let path = dir.join(format!("{}.hlog", ran.name));
    let failed = || Failure::new(format!("cannot write {}", path.display()));
    let text = log_text(ran).map_err(|why| failed().because(why))?;
    super::write(&path, &text)
}

fn log_text(ran: &Ran) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let begun = SystemTime::now().checked_sub(ran.took).unwrap_or(UNIX_EPOCH);
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment(&format!("hotpair lab, {}: {}", ran.name, ran.scenario.goal))
        .add_comment("microseconds; one histogram for each phase of the failover")
        .add_comment(&machine::describe().line())
        .with_start_time(begun)
        .with_base_time(begun)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|error| error.to_string())?;
    for phase in PHASES {
        let Some(histogram) = histogram(&ran.runs, phase) else { continue };
        writer
            .write_histogram(&histogram, Duration::ZERO, ran.took, Tag::new(phase))
            .map_err(|error| error.to_string())?;
    }
    String::from_utf8(bytes).map_err(|error| error.to_string())
}
