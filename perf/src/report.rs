//! What a bench found, for people and for programs.

mod curve;
mod failover;
mod latency;
mod memory;
mod rate;
mod sheet;
mod stages;

use std::fmt;

use serde::{Serialize, Serializer};

pub(crate) use curve::{Course, Curve};
pub(crate) use failover::Phases;
pub use failover::{FailoverReport, Spread};
pub use latency::{LatencyReport, Limit, Part, Peer};
pub use memory::{MemoryPeer, MemoryReport};
pub(crate) use rate::Tally;
pub use rate::{RateLimit, RatePeer, RateReport};
pub(crate) use sheet::SheetRow;
pub use sheet::{Sheet, SheetLimit, SheetReport};
pub(crate) use stages::meaning;
pub use stages::{Stage, StageLook, Stages};

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
    /// Figures in tables.
    Sheet(SheetReport),
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

impl Report {
    /// Distributions to draw: the thing, its limit, its peers, its parts.
    pub(crate) fn curves(&self) -> &[Curve] {
        match self {
            Report::Latency(report) => report.curves(),
            Report::Failover(report) => report.curves(),
            Report::Rate(_) | Report::Memory(_) | Report::Sheet(_) => &[],
        }
    }

    /// Rates over time to draw: the thing, its limit, its peer.
    pub(crate) fn courses(&self) -> &[Course] {
        match self {
            Report::Rate(report) => report.courses(),
            _ => &[],
        }
    }

    /// Tables, drawn where their rows lie on a ruler.
    pub(crate) fn sheets(&self) -> &[Sheet] {
        match self {
            Report::Sheet(report) => report.sheets(),
            Report::Latency(report) => report.sheets(),
            Report::Rate(report) => report.sheets(),
            _ => &[],
        }
    }

    /// Where the time of a request went, if that was seen.
    pub fn stages(&self) -> Option<&Stages> {
        match self {
            Report::Latency(report) => report.stages(),
            Report::Failover(report) => report.stages(),
            Report::Rate(report) => report.stages(),
            Report::Memory(_) | Report::Sheet(_) => None,
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
            Report::Sheet(report) => report.fmt(f),
        }
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

    #[test]
    fn digits_are_grouped() {
        let shown = [0.0, 12.0, 123.0, 1_234.4, 1_234_567.0].map(|n| Grouped(n).to_string());
        assert_eq!(shown, ["0", "12", "123", "1,234", "1,234,567"]);
    }
}
