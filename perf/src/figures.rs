//! What a result comes to: one figure, and what it is held against.
//!
//! Read from the JSON form, so that a run of another day and build is read by the same rules as today's.

use serde_json::Value;

/// The figure of one report, with its limit and peer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figures {
    pub(crate) unit: String,
    pub(crate) figure: f64,
    pub(crate) limit: Option<Against>,
    pub(crate) peers: Vec<Against>,
}

/// Something that a figure is held against.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Against {
    pub(crate) what: String,
    pub(crate) figure: f64,
}

impl Against {
    /// What it is called, in a word.
    pub(crate) fn name(&self) -> &str {
        self.what.split(' ').next().unwrap_or_default()
    }
}

impl Figures {
    /// Of what `--json` prints; `None` if it is something else.
    pub(crate) fn of(report: &Value) -> Option<Figures> {
        let unit = report["unit"].as_str()?.to_owned();
        let figure = figure_of(report)?;
        let limit = against(&report["limit"]);
        let more = report["more_peers"].as_array().into_iter().flatten();
        let peers = std::iter::once(&report["peer"]).chain(more).filter_map(against).collect();
        Some(Figures { unit, figure, limit, peers })
    }

    /// Whether more of it is better.
    pub(crate) fn is_rate(&self) -> bool {
        self.unit == "per_s"
    }

    /// The figure beside its limit, which says the same on a fast machine and on a slow one; the figure itself where there is
    /// no limit. Not the `ratio` of the report, which is rounded.
    pub(crate) fn score(&self) -> f64 {
        match &self.limit {
            Some(limit) => self.figure / limit.figure.max(f64::MIN_POSITIVE),
            None => self.figure,
        }
    }
}

/// Each kind of report has its figure under a name of its own.
fn figure_of(report: &Value) -> Option<f64> {
    let names = ["p50", "per_s", "bytes_per_object", "bytes", "figure"];
    let figure = names.iter().find_map(|name| report[name].as_f64());
    figure.or_else(|| report["total"]["p50"].as_f64())
}

fn against(other: &Value) -> Option<Against> {
    Some(Against { what: other["what"].as_str()?.to_owned(), figure: figure_of(other)? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_report_has_its_figure() {
        #[rustfmt::skip]
        let cases = [
            (json!({"unit": "ns", "p50": 300, "p99": 900, "limit": {"what": "l", "p50": 150, "p99": 1}, "peer": null}), 300.0, 2.0),
            (json!({"unit": "per_s", "n": 5, "per_s": 40, "limit": {"what": "l", "per_s": 80}, "ratio": null}), 40.0, 0.5),
            (json!({"unit": "bytes", "bytes_per_object": 512, "limit": {"what": "l", "bytes": 256}}), 512.0, 2.0),
            (json!({"unit": "us", "runs": 2, "detect": {"p50": 9}, "total": {"p50": 77, "p99": 80, "max": 80}}), 77.0, 77.0),
        ];
        for (report, figure, score) in cases {
            let figures = Figures::of(&report).expect("a report");
            assert_eq!((figures.figure, figures.score()), (figure, score), "{report}");
            assert!(figures.peers.is_empty(), "{report}");
        }
        let peers = json!({"unit": "ns", "p50": 1, "peer": {"what": "a", "p50": 2}, "more_peers": [{"what": "b", "p50": 3}]});
        let figures = Figures::of(&peers).expect("a report");
        assert_eq!(figures.peers.iter().map(|peer| peer.figure).collect::<Vec<_>>(), [2.0, 3.0]);
        for other in [json!({}), json!([1]), json!({"unit": "ns", "error": "no room"})] {
            assert_eq!(Figures::of(&other), None, "{other}");
        }
    }
}
