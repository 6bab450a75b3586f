//! What a bench found, for people and for programs.

mod memory;
mod rate;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::histogram::{Histogram, Summary};

pub use memory::MemoryReport;
pub(crate) use rate::Tally;
pub use rate::{RateLimit, RatePeer, RateReport};

/// Version of the JSON form.
const VERSION: u32 = 1;

/// The result of a bench. Serialises to the one object that `--json` prints.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// How long an operation takes.
    Latency(LatencyReport),
    /// How often something happens.
    Rate(RateReport),
    /// How long a service is gone.
    Failover(FailoverReport),
    /// How much memory something takes.
    Memory(MemoryReport),
}

/// How long an operation takes, and how long the limit takes.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyReport {
    v: u32,
    bench: &'static str,
    #[serde(skip)]
    question: &'static str,
    unit: &'static str,
    /// Nanoseconds of the unit.
    #[serde(skip)]
    scale: f64,
    n: u64,
    #[serde(serialize_with = "short")]
    p50: f64,
    #[serde(serialize_with = "short")]
    p99: f64,
    #[serde(serialize_with = "short")]
    p999: f64,
    #[serde(serialize_with = "short")]
    max: f64,
    limit: Limit,
    #[serde(serialize_with = "hundredths")]
    ratio: f64,
    peer: Option<Peer>,
    /// By name: what the figure is made of, or what else was seen.
    #[serde(flatten)]
    parts: BTreeMap<&'static str, Part>,
}

/// A distribution beside that of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    unit: &'static str,
    #[serde(serialize_with = "short")]
    p50: f64,
    #[serde(serialize_with = "short")]
    p99: f64,
}

/// What the thing is compared with.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    what: String,
    #[serde(serialize_with = "short")]
    p50: f64,
    #[serde(serialize_with = "short")]
    p99: f64,
}

/// Another program at the same thing.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    what: String,
    #[serde(serialize_with = "short")]
    p50: f64,
    #[serde(serialize_with = "hundredths")]
    ratio: f64,
}

/// The unit that a report's figures are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "ns",
            Unit::Microseconds => "us",
            Unit::Milliseconds => "ms",
        }
    }

    /// Nanoseconds of one.
    pub(crate) fn ns(self) -> f64 {
        match self {
            Unit::Nanoseconds => 1.0,
            Unit::Microseconds => 1e3,
            Unit::Milliseconds => 1e6,
        }
    }
}

impl LatencyReport {
    pub(crate) fn new(
        bench: &'static str,
        question: &'static str,
        unit: Unit,
        thing: &Histogram,
        limit_is: &str,
        limit: &Histogram,
    ) -> Self {
        let Summary { n, p50, p99, p999, max } = thing.summary();
        let limited = limit.summary();
        let scale = |ns: u64| ns as f64 / unit.ns();
        LatencyReport {
            v: VERSION,
            bench,
            question,
            unit: unit.name(),
            scale: unit.ns(),
            n,
            p50: scale(p50),
            p99: scale(p99),
            p999: scale(p999),
            max: scale(max),
            limit: Limit {
                what: limit_is.to_owned(),
                p50: scale(limited.p50),
                p99: scale(limited.p99),
            },
            ratio: p50 as f64 / limited.p50.max(1) as f64,
            peer: None,
            parts: BTreeMap::new(),
        }
    }

    /// Adds a distribution, which may have another unit.
    pub(crate) fn with_part(mut self, name: &'static str, unit: Unit, part: &Histogram) -> Self {
        let Summary { p50, p99, .. } = part.summary();
        let scale = |ns: u64| ns as f64 / unit.ns();
        let part = Part { unit: unit.name(), p50: scale(p50), p99: scale(p99) };
        self.parts.insert(name, part);
        self
    }

    /// Adds another program's figures.
    pub(crate) fn with_peer(mut self, peer: Option<(&str, &Histogram)>) -> Self {
        self.peer = peer.map(|(what, peer)| {
            let p50 = peer.summary().p50 as f64 / self.scale;
            Peer { what: what.to_owned(), p50, ratio: self.p50 / p50.max(1.0 / self.scale) }
        });
        self
    }
}

/// How long a service is gone when its primary is killed, over several runs.
#[derive(Clone, Debug, Serialize)]
pub struct FailoverReport {
    v: u32,
    bench: &'static str,
    #[serde(skip)]
    question: &'static str,
    unit: &'static str,
    victim: &'static str,
    runs: u64,
    lost: u64,
    duplicated: u64,
    detect: Spread,
    promote: Spread,
    first_output: Spread,
    total: Spread,
}

/// The middle and the end of a distribution.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    #[serde(serialize_with = "short")]
    p50: f64,
    #[serde(serialize_with = "short")]
    p99: f64,
    #[serde(serialize_with = "short")]
    max: f64,
}

/// The phases of all failovers of a bench.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phases {
    pub(crate) detect: Histogram,
    pub(crate) promote: Histogram,
    pub(crate) first_output: Histogram,
    pub(crate) total: Histogram,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
}

impl FailoverReport {
    pub(crate) fn new(
        bench: &'static str,
        question: &'static str,
        victim: &'static str,
        phases: &Phases,
    ) -> Self {
        let spread = |histogram: &Histogram| {
            let Summary { p50, p99, max, .. } = histogram.summary();
            let us = |ns: u64| ns as f64 / Unit::Microseconds.ns();
            Spread { p50: us(p50), p99: us(p99), max: us(max) }
        };
        FailoverReport {
            v: VERSION,
            bench,
            question,
            unit: Unit::Microseconds.name(),
            victim,
            runs: phases.total.len(),
            lost: phases.lost,
            duplicated: phases.duplicated,
            detect: spread(&phases.detect),
            promote: spread(&phases.promote),
            first_output: spread(&phases.first_output),
            total: spread(&phases.total),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Latency(report) => report.fmt(f),
            Report::Rate(report) => report.fmt(f),
            Report::Failover(report) => report.fmt(f),
            Report::Memory(report) => report.fmt(f),
        }
    }
}

impl fmt::Display for LatencyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit;
        writeln!(f, "{}: {}", self.bench, self.question)?;
        writeln!(
            f,
            "  p50 {} {unit}   p99 {} {unit}   p99.9 {} {unit}   max {} {unit}   ({} values)",
            Short(self.p50),
            Short(self.p99),
            Short(self.p999),
            Short(self.max),
            self.n
        )?;
        write!(
            f,
            "  limit: {}, p50 {} {unit}, p99 {} {unit}; ratio {:.2}",
            self.limit.what,
            Short(self.limit.p50),
            Short(self.limit.p99),
            self.ratio
        )?;
        if let Some(peer) = &self.peer {
            write!(
                f,
                "\n  peer: {}, p50 {} {unit}; ratio {:.2}",
                peer.what,
                Short(peer.p50),
                peer.ratio
            )?;
        }
        for (name, Part { unit, p50, p99 }) in &self.parts {
            let (name, p50, p99) = (name.replace('_', " "), Short(*p50), Short(*p99));
            write!(f, "\n  {name}: p50 {p50} {unit}   p99 {p99} {unit}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FailoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.bench, self.question)?;
        writeln!(
            f,
            "  {} kills of the {}: lost {}, duplicated {}",
            self.runs, self.victim, self.lost, self.duplicated
        )?;
        writeln!(f, "  {:<14}{:>12}{:>12}{:>12}", "us", "p50", "p99", "max")?;
        let rows = [
            ("detect", self.detect),
            ("promote", self.promote),
            ("first output", self.first_output),
            ("total", self.total),
        ];
        for (at, (phase, spread)) in rows.iter().enumerate() {
            let figures =
                [spread.p50, spread.p99, spread.max].map(|value| Short(value).to_string());
            let [p50, p99, max] = figures;
            write!(f, "  {phase:<14}{p50:>12}{p99:>12}{max:>12}")?;
            if at + 1 < rows.len() {
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// A figure with as many decimals as it has digits to give.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = if self.0 >= 100.0 || self.0.fract() == 0.0 { 0 } else { 1 };
        write!(f, "{:.decimals$}", self.0)
    }
}

/// A large figure, its digits in groups of three.
struct Grouped(f64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:.0}", self.0);
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// Whole numbers without `.0`, others with one decimal.
fn short<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let tenths = (value * 10.0).round() / 10.0;
    if tenths.fract() == 0.0 {
        serializer.serialize_u64(tenths as u64)
    } else {
        serializer.serialize_f64(tenths)
    }
}

fn whole<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(value.round() as u64)
}

fn maybe_hundredths<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hundredths(value, serializer),
        None => serializer.serialize_none(),
    }
}

fn hundredths<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|value| histogram.record_ns(*value));
        histogram
    }

    #[test]
    fn a_latency_report_has_the_documented_form() {
        let report = Report::Latency(LatencyReport::new(
            "claim",
            "how long",
            Unit::Nanoseconds,
            &histogram(&[300, 300, 900]),
            "plain code",
            &histogram(&[120]),
        ));
        assert_eq!(
            serde_json::to_string(&report).expect("plain data"),
            r#"{"v":1,"bench":"claim","unit":"ns","n":3,"p50":300,"p99":900,"p999":900,"max":900,"limit":{"what":"plain code","p50":120,"p99":120},"ratio":2.5,"peer":null}"#
        );
        let Report::Latency(report) = report else { unreachable!("it is one") };
        let report = report.with_part("both_ends", Unit::Microseconds, &histogram(&[1_500]));
        let part = serde_json::json!({"unit": "us", "p50": 1.5, "p99": 1.5});
        assert_eq!(serde_json::to_value(&report).expect("plain data")["both_ends"], part);
        let text = report.to_string();
        assert!(text.contains("both ends: p50 1.5 us   p99 1.5 us"), "{text}");
        assert!(text.contains("p50 300 ns") && text.contains("ratio 2.50"), "{text}");
    }

    #[test]
    fn a_peer_stands_beside_the_limit() {
        let thing = histogram(&[300]);
        let report = LatencyReport::new(
            "handoff",
            "how long",
            Unit::Nanoseconds,
            &thing,
            "one line",
            &histogram(&[100]),
        )
        .with_peer(Some(("another", &histogram(&[600]))));
        let json = serde_json::to_value(&report).expect("plain data");
        let peer = serde_json::json!({"what": "another", "p50": 600, "ratio": 0.5});
        assert_eq!((&json["ratio"], &json["peer"]), (&3.0.into(), &peer));
        assert!(report.to_string().contains("peer: another, p50 600 ns; ratio 0.50"), "{report}");
    }

    #[test]
    fn digits_are_grouped() {
        let shown = [0.0, 12.0, 123.0, 1_234.4, 1_234_567.0].map(|n| Grouped(n).to_string());
        assert_eq!(shown, ["0", "12", "123", "1,234", "1,234,567"]);
    }

    #[test]
    fn microseconds_keep_a_decimal() {
        let report = Report::Latency(LatencyReport::new(
            "commit-ack",
            "how long",
            Unit::Microseconds,
            &histogram(&[1_500]),
            "echo",
            &histogram(&[1_000]),
        ));
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!((&json["p50"], &json["limit"]["p50"]), (&1.5.into(), &1.into()));
        assert_eq!(json["ratio"], 1.5);
    }

    #[test]
    fn a_failover_report_has_the_documented_form() {
        let phases = Phases {
            detect: histogram(&[200_000]),
            promote: histogram(&[1_000_000]),
            first_output: histogram(&[3_000_000]),
            total: histogram(&[4_200_000]),
            ..Phases::default()
        };
        let report =
            Report::Failover(FailoverReport::new("failover", "how long", "primary", &phases));
        let json = serde_json::to_value(&report).expect("plain data");
        for (key, value) in [("v", 1), ("runs", 1), ("lost", 0), ("duplicated", 0)] {
            assert_eq!(json[key], value, "{key}");
        }
        for phase in ["detect", "promote", "first_output", "total"] {
            for figure in ["p50", "p99", "max"] {
                assert!(json[phase][figure].is_number(), "{phase}.{figure}: {json}");
            }
        }
        assert!(report.to_string().contains("1 kills of the primary"));
    }
}
