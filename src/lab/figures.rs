//! Phases and outages over many runs: percentiles, tables, logs for other programs.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde_json::{Value, json};

use super::findings::{Findings, timed};
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
    for phase in timed(runs) {
        let Some(histogram) = histogram(runs, &phase) else { continue };
        all.insert(
            phase,
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
    for phase in timed(runs) {
        let Some(histogram) = histogram(runs, &phase) else { continue };
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
    for phase in timed(&ran.runs) {
        let Some(histogram) = histogram(&ran.runs, &phase) else { continue };
        writer
            .write_histogram(&histogram, Duration::ZERO, ran.took, Tag::new(&phase))
            .map_err(|error| error.to_string())?;
    }
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use serde_json::json;

    use super::*;
    use crate::lab::findings::PHASES;
    use crate::lab::findings::tests::{failover, scenario};

    /// Two runs of a fault, of 12.5 and 30 ms.
    pub(in crate::lab) fn ran() -> Ran {
        let mut slow = failover();
        slow.client["gap_us"] = json!(30_000);
        let mut runs = vec![failover(), slow];
        for run in &mut runs {
            run.client["gaps_us"] = json!({"new": 20_000, "hot": 41_000});
        }
        Ran {
            name: "some_fault".to_owned(),
            scenario: scenario("promotions = 1"),
            runs,
            failed: None,
            took: Duration::from_secs(3),
            asked: 2,
            interrupted: false,
        }
    }

    /// Goal: a reader of interval logs finds each phase under its name, with the values that were measured.
    #[test]
    fn a_log_is_read_back_as_it_was_written() {
        let text = log_text(&ran()).expect("a log of two runs");
        let mut found = Vec::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            let LogEntry::Interval(interval) = entry.expect("a log as it should be") else {
                continue;
            };
            let bytes = base64_decoded(interval.encoded_histogram());
            let histogram: Histogram<u64> =
                Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram");
            let tag = interval.tag().expect("each has a tag").as_str().to_owned();
            found.push((tag, histogram.len(), histogram.max()));
        }
        let names: Vec<&str> = found.iter().map(|(tag, _, _)| tag.as_str()).collect();
        assert_eq!(names, [&PHASES[..], &["outage_hot", "outage_new"]].concat());
        let last = |at: usize| (found[at].1, found[at].2 / 1_000);
        assert_eq!((last(PHASES.len() - 1), last(PHASES.len())), ((2, 30), (2, 41)));
    }

    /// The log's own alphabet is the ordinary one.
    fn base64_decoded(text: &str) -> Vec<u8> {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let value = |byte: u8| ALPHABET.iter().position(|known| *known == byte);
        let mut bits = (0_u32, 0_u32);
        let mut bytes = Vec::new();
        for six in text.bytes().filter_map(value) {
            bits = (bits.0 << 6 | six as u32, bits.1 + 6);
            if bits.1 >= 8 {
                bits.1 -= 8;
                bytes.push((bits.0 >> bits.1) as u8);
                bits.0 &= (1 << bits.1) - 1;
            }
        }
        bytes
    }

    #[test]
    fn a_summary_has_the_percentiles_and_what_went_wrong() {
        let ran = ran();
        let text = summary(&ran.runs, ran.took, Some("no reason"));
        for part in ["outage             2", "30.0", "took 3.0 s", "NOT run to the end: no reason"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
