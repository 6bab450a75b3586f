//! How long an operation takes.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Curve, Sheet, Short, Stages, Unit, VERSION, hundredths, short};
use crate::histogram::{Histogram, Summary};
use crate::peers;

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
    /// Further peers at the same thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more_peers: Vec<Peer>,
    /// Where the time of a request went, if that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    stages: Option<Stages>,
    /// What else was counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sheets: Vec<Sheet>,
    /// By name: what the figure is made of, or what else was seen.
    #[serde(flatten)]
    parts: BTreeMap<&'static str, Part>,
    /// All of the above as distributions.
    #[serde(skip)]
    curves: Vec<Curve>,
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
            more_peers: Vec::new(),
            stages: None,
            sheets: Vec::new(),
            parts: BTreeMap::new(),
            curves: vec![Curve::new("hotpair", thing), Curve::new(limit_is, limit)],
        }
    }

    /// Makes the limit a sum: `more` has to be done as well, one after the other. Percentiles are added, which is what two
    /// steps come to in the middle, and more than they come to at the end.
    pub(crate) fn with_limit_and(mut self, more_is: &str, more: &Histogram) -> Self {
        let Summary { p50, p99, .. } = more.summary();
        self.limit.what = format!("{} + {more_is}", self.limit.what);
        self.limit.p50 += p50 as f64 / self.scale;
        self.limit.p99 += p99 as f64 / self.scale;
        self.ratio = self.p50 / self.limit.p50.max(1.0 / self.scale);
        self.curves.push(Curve::new(more_is, more));
        self
    }

    /// Adds a distribution, which may have another unit.
    pub(crate) fn with_part(mut self, name: &'static str, unit: Unit, part: &Histogram) -> Self {
        let Summary { p50, p99, .. } = part.summary();
        let scale = |ns: u64| ns as f64 / unit.ns();
        self.curves.push(Curve::new(&name.replace('_', " "), part));
        let part = Part { unit: unit.name(), p50: scale(p50), p99: scale(p99) };
        self.parts.insert(name, part);
        self
    }

    /// Adds another program's figures; the first one is the peer, others stand behind it.
    pub(crate) fn with_peer(mut self, peer: Option<(&str, &Histogram)>) -> Self {
        let Some((what, seen)) = peer else { return self };
        let p50 = seen.summary().p50 as f64 / self.scale;
        self.curves.push(Curve::new(what, seen));
        let ratio = self.p50 / p50.max(1.0 / self.scale);
        let peer = Peer { what: what.to_owned(), p50, ratio };
        match self.peer {
            None => self.peer = Some(peer),
            Some(_) => self.more_peers.push(peer),
        }
        self
    }

    /// Adds where the time of a request went, if it was seen.
    pub fn with_stages(mut self, stages: Stages) -> Self {
        self.stages = (!stages.rows.is_empty()).then_some(stages);
        self
    }

    /// Adds a table of what else was counted.
    pub(crate) fn with_sheet(mut self, sheet: Sheet) -> Self {
        self.sheets.push(sheet);
        self
    }

    pub(super) fn sheets(&self) -> &[Sheet] {
        &self.sheets
    }

    pub(super) fn curves(&self) -> &[Curve] {
        &self.curves
    }

    pub(super) fn stages(&self) -> Option<&Stages> {
        self.stages.as_ref()
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
        for Peer { what, p50, ratio } in self.peer.iter().chain(&self.more_peers) {
            write!(f, "\n  peer: {what}, p50 {} {unit}; ratio {ratio:.2}", Short(*p50))?;
            if let Some(how) = peers::how(what) {
                write!(f, "\n        {how}")?;
            }
        }
        for (name, Part { unit, p50, p99 }) in &self.parts {
            let (name, p50, p99) = (name.replace('_', " "), Short(*p50), Short(*p99));
            write!(f, "\n  {name}: p50 {p50} {unit}   p99 {p99} {unit}")?;
        }
        self.sheets.iter().try_for_each(|sheet| write!(f, "\n{sheet}"))?;
        self.stages.iter().try_for_each(|stages| write!(f, "\n{stages}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Report;
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
    fn limits_are_added_where_both_have_to_be_done() {
        let report = LatencyReport::new(
            "udp-echo",
            "how long",
            Unit::Microseconds,
            &histogram(&[200_000]),
            "one echo",
            &histogram(&[60_000]),
        )
        .with_limit_and("another", &histogram(&[100_000]));
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(json["limit"]["what"], "one echo + another");
        assert!((json["ratio"].as_f64().expect("a number") - 1.25).abs() < 0.01, "{json}");
    }

    /// Goal: a second peer takes nothing from the first, and who has none does not speak of more.
    #[test]
    fn further_peers_stand_behind_the_first() {
        let (thing, other) = (histogram(&[300]), histogram(&[600]));
        let ns = Unit::Nanoseconds;
        let report = LatencyReport::new("handoff", "how long", ns, &thing, "a line", &thing)
            .with_peer(Some(("one", &other)))
            .with_peer(None)
            .with_peer(Some(("two", &histogram(&[900]))));
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(
            (&json["peer"]["what"], &json["more_peers"][0]["what"]),
            (&"one".into(), &"two".into())
        );
        assert_eq!(report.curves().len(), 4);
    }
}
