//! How often something happens in a second.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{Course, Grouped, Sheet, Stages, VERSION, hundredths, maybe_hundredths, whole};
use crate::peers;
use crate::slices::Collected;

/// How often something happens in a second, and how often the limit does.
#[derive(Clone, Debug, Serialize)]
pub struct RateReport {
    v: u32,
    bench: &'static str,
    #[serde(skip)]
    question: &'static str,
    unit: &'static str,
    n: u64,
    #[serde(serialize_with = "whole")]
    per_s: f64,
    /// None where it is another program that is not there.
    limit: Option<RateLimit>,
    /// None where it is against a peer that is not there.
    #[serde(serialize_with = "maybe_hundredths")]
    ratio: Option<f64>,
    peer: Option<RatePeer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    without_work: Option<Bare>,
    /// Where the time of a request went, if that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    stages: Option<Stages>,
    /// What else was counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sheets: Vec<Sheet>,
    /// The thing, its limit, its peer.
    #[serde(skip)]
    courses: Vec<Course>,
}

/// What a rate is compared with.
#[derive(Clone, Debug, Serialize)]
pub struct RateLimit {
    what: String,
    #[serde(serialize_with = "whole")]
    per_s: f64,
}

/// Another program's rate at the same thing.
#[derive(Clone, Debug, Serialize)]
pub struct RatePeer {
    what: String,
    #[serde(serialize_with = "whole")]
    per_s: f64,
    #[serde(serialize_with = "hundredths")]
    ratio: f64,
}

/// The same figures where nothing is done but what is measured.
#[derive(Clone, Debug, Serialize)]
struct Bare {
    #[serde(serialize_with = "whole")]
    per_s: f64,
    limit: RateLimit,
    #[serde(serialize_with = "hundredths")]
    ratio: f64,
}

/// What a bench has counted: slices of a known length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    count: u64,
    /// Of each slice.
    per_s: Vec<f64>,
    /// When each slice ended.
    at: Vec<Duration>,
}

impl Collected for Tally {
    fn slice_ended(&mut self, _: Duration, to: Duration) {
        self.at.push(to);
    }
}

impl Tally {
    /// Adds a slice.
    pub(crate) fn add(&mut self, count: u64, nanoseconds: u64) {
        self.count += count;
        self.per_s.push(count as f64 * 1e9 / nanoseconds.max(1) as f64);
    }

    /// The rate of the middle slice: each is long enough to contain all that happens regularly, and one
    /// in which a neighbour took the core says nothing.
    pub(crate) fn per_s(&self) -> f64 {
        let mut sorted = self.per_s.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    /// How the run went.
    fn course(&self, name: &str) -> Course {
        let points = self.at.iter().copied().zip(self.per_s.iter().copied());
        Course { name: name.to_owned(), points: points.collect() }
    }
}

fn ratio(thing: &Tally, other: &Tally) -> f64 {
    thing.per_s() / other.per_s().max(f64::MIN_POSITIVE)
}

fn limit(what: &str, tally: &Tally) -> RateLimit {
    RateLimit { what: what.to_owned(), per_s: tally.per_s() }
}

impl RateReport {
    pub(crate) fn new(
        bench: &'static str,
        question: &'static str,
        thing: &Tally,
        limit_is: &str,
        limited: &Tally,
    ) -> Self {
        let mut report = RateReport::alone(bench, question, thing);
        report.limit = Some(limit(limit_is, limited));
        report.ratio = Some(ratio(thing, limited));
        report.courses.push(limited.course(limit_is));
        report
    }

    /// Beside nothing.
    pub(crate) fn alone(bench: &'static str, question: &'static str, thing: &Tally) -> Self {
        RateReport {
            v: VERSION,
            bench,
            question,
            unit: "per_s",
            n: thing.count,
            per_s: thing.per_s(),
            limit: None,
            ratio: None,
            peer: None,
            without_work: None,
            stages: None,
            sheets: Vec::new(),
            courses: vec![thing.course("hotpair")],
        }
    }

    /// Adds another program at the same thing.
    pub(crate) fn with_peer(mut self, thing: &Tally, what: &str, peer: &Tally) -> Self {
        self.courses.push(peer.course(what));
        let (per_s, ratio) = (peer.per_s(), ratio(thing, peer));
        self.peer = Some(RatePeer { what: what.to_owned(), per_s, ratio });
        self
    }

    /// Adds what else was counted.
    pub(crate) fn with_sheets(mut self, sheets: Vec<Sheet>) -> Self {
        self.sheets = sheets;
        self
    }

    pub(super) fn sheets(&self) -> &[Sheet] {
        &self.sheets
    }

    /// Makes the ratio one against `peer`, or none without it.
    pub(crate) fn against_peer(self, thing: &Tally, peer: Option<(&str, &Tally)>) -> Self {
        let mut report = match peer {
            Some((what, peer)) => self.with_peer(thing, what, peer),
            None => self,
        };
        report.ratio = report.peer.as_ref().map(|peer| peer.ratio);
        report
    }

    /// Adds where the time of a request went, if it was seen.
    pub(crate) fn with_stages(mut self, stages: Stages) -> Self {
        self.stages = (!stages.rows.is_empty()).then_some(stages);
        self
    }

    pub(super) fn stages(&self) -> Option<&Stages> {
        self.stages.as_ref()
    }

    pub(super) fn courses(&self) -> &[Course] {
        &self.courses
    }

    /// Adds what the same came to without any work, for the record.
    pub(crate) fn with_bare(mut self, thing: &Tally, limited: &Tally) -> Self {
        self.without_work = Some(Bare {
            per_s: thing.per_s(),
            limit: limit(self.limit.as_ref().map_or("", |limit| &limit.what), limited),
            ratio: ratio(thing, limited),
        });
        self
    }
}

impl fmt::Display for RateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.bench, self.question)?;
        writeln!(f, "  {} per second   ({} counted)", Grouped(self.per_s), self.n)?;
        match &self.limit {
            Some(limit) => {
                write!(f, "  limit: {}, {} per second", limit.what, Grouped(limit.per_s))?;
            }
            None => f.write_str("  limit: not installed")?,
        }
        match (&self.peer, self.ratio) {
            (Some(RatePeer { what, per_s, ratio }), whole) => {
                // Against the limit, unless the report's ratio is the peer's.
                if let Some(whole) = whole.filter(|whole| whole != ratio) {
                    write!(f, "; ratio {whole:.2}")?;
                }
                let per_s = Grouped(*per_s);
                write!(f, "\n  peer: {what}, {per_s} per second; ratio {ratio:.2}")?;
                if let Some(how) = peers::how(what) {
                    write!(f, "\n        {how}")?;
                }
            }
            (None, Some(ratio)) => write!(f, "; ratio {ratio:.2}")?,
            (None, None) if self.limit.is_none() => f.write_str("\n  peer: not installed")?,
            (None, None) => f.write_str("\n  peer: not built in (`--features peers`)")?,
        }
        if let Some(bare) = &self.without_work {
            write!(
                f,
                "\n  without work: {} per second; limit {}; ratio {:.2}",
                Grouped(bare.per_s),
                Grouped(bare.limit.per_s),
                bare.ratio
            )?;
        }
        self.sheets.iter().try_for_each(|sheet| write!(f, "\n{sheet}"))?;
        self.stages.iter().try_for_each(|stages| write!(f, "\n{stages}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(per_s: f64) -> Tally {
        let mut tally = Tally::default();
        for slow in [3.0, 1.0, 0.5] {
            tally.add((per_s * slow) as u64, 1_000_000_000);
        }
        tally
    }

    #[test]
    fn a_rate_report_has_the_documented_form() {
        let (thing, limited) = (tally(4_000.0), tally(16_000.0));
        let report = RateReport::new("handoff-rate", "how many", &thing, "a ring", &limited);
        assert_eq!(
            serde_json::to_string(&report).expect("plain data"),
            r#"{"v":1,"bench":"handoff-rate","unit":"per_s","n":18000,"per_s":4000,"limit":{"what":"a ring","per_s":16000},"ratio":0.25,"peer":null}"#
        );
        let without = report.clone().against_peer(&thing, None);
        let json = serde_json::to_value(&without).expect("plain data");
        assert!(json["ratio"].is_null() && json["peer"].is_null(), "{json}");
        assert!(without.to_string().contains("--features peers"), "{without}");

        let with = report.against_peer(&thing, Some(("another", &tally(1_000.0))));
        let json = serde_json::to_value(&with).expect("plain data");
        let peer = serde_json::json!({"what": "another", "per_s": 1000, "ratio": 4.0});
        assert_eq!((&json["ratio"], &json["peer"]), (&4.0.into(), &peer));
    }

    #[test]
    fn what_is_not_installed_is_null() {
        let thing = tally(4_000.0);
        let alone = RateReport::alone("resp", "how many", &thing);
        let json = serde_json::to_value(&alone).expect("plain data");
        assert!(json["limit"].is_null() && json["ratio"].is_null() && json["peer"].is_null());
        assert!(alone.to_string().contains("limit: not installed"), "{alone}");

        let (limited, peer) = (tally(8_000.0), tally(2_000.0));
        let both = RateReport::new("resp", "how many", &thing, "Redis", &limited);
        let both = both.with_peer(&thing, "Redis that waits", &peer);
        let json = serde_json::to_value(&both).expect("plain data");
        assert_eq!((&json["ratio"], &json["peer"]["ratio"]), (&0.5.into(), &2.0.into()));
        assert!(both.to_string().contains("8,000 per second; ratio 0.50"), "{both}");
    }

    #[test]
    fn figures_without_work_are_extra() {
        let (thing, limited) = (tally(1_900.0), tally(1_000.0));
        let report = RateReport::new("contend", "how many", &thing, "one worker", &limited)
            .with_bare(&tally(2_000.0), &tally(4_000.0));
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(json["ratio"], 1.9);
        assert_eq!(
            json["without_work"],
            serde_json::json!({
                "per_s": 2000, "limit": {"what": "one worker", "per_s": 4000}, "ratio": 0.5
            })
        );
        assert!(report.to_string().contains("without work: 2,000 per second"), "{report}");
    }

    #[test]
    fn the_middle_slice_counts() {
        assert_eq!(tally(1_000.0).per_s(), 1_000.0);
        assert_eq!(Tally::default().per_s(), 0.0);
    }
}
