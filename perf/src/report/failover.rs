//! How long a service is gone.

use std::fmt;

use serde::Serialize;

use super::{Curve, Short, Stages, Unit, VERSION, short};
use crate::histogram::{Histogram, Summary};

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
    /// The phases as distributions.
    #[serde(skip)]
    curves: Vec<Curve>,
    /// The phases as the page draws stages.
    #[serde(skip)]
    stages: Stages,
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
        let mut stages = Stages::default();
        stages.push_seen("detect", &phases.detect);
        stages.push_seen("promote", &phases.promote);
        stages.push_seen("first output", &phases.first_output);
        FailoverReport {
            stages,
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
            curves: vec![
                Curve::new("total", &phases.total),
                Curve::new("detect", &phases.detect),
                Curve::new("promote", &phases.promote),
                Curve::new("first output", &phases.first_output),
            ],
        }
    }

    pub(super) fn stages(&self) -> Option<&Stages> {
        (!self.stages.rows.is_empty()).then_some(&self.stages)
    }

    pub(super) fn curves(&self) -> &[Curve] {
        &self.curves
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
