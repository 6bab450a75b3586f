//! What a person sees of a demo: progress while it runs, then a report; and the same as JSON.

use std::fmt::Write;
use std::io::{self, IsTerminal};

use serde_json::{Value, json};

use super::timeline::{Failover, Timeline};
use super::verdict::{Findings, Verdict};
use crate::report::{Failure, print_data};

/// Progress on stderr: one line that changes in a terminal, plain lines without one, and nothing
/// when the caller is a program.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    terminal: bool,
    open_line: bool,
}

impl Progress {
    pub(super) fn new(json: bool) -> Progress {
        let terminal = io::stderr().is_terminal();
        Progress { shown: !json || terminal, terminal, open_line: false }
    }

    /// Something happened.
    pub(super) fn say(&mut self, what: &str) {
        self.end();
        if self.shown {
            eprintln!("  {what}");
        }
    }

    /// The client's report of the last second.
    pub(super) fn load(&mut self, event: &Value) {
        if !self.shown {
            return;
        }
        let count = |field: &str| event[field].as_u64().unwrap_or(0);
        let line = format!(
            "  {} answered, {} waiting, {} wrong, p99 {}",
            count("acked"),
            count("waiting"),
            count("wrong"),
            micros(count("p99_us"))
        );
        if self.terminal {
            eprint!("\r\x1b[K{line}");
            self.open_line = true;
        } else {
            eprintln!("{line}");
        }
    }

    /// Leaves the line that changes as it is.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.open_line) {
            eprintln!();
        }
    }
}

fn in_parts(failover: Failover) -> Value {
    json!({
        "detect_us": failover.detect_us,
        "promote_us": failover.promote_us,
        "first_output_us": failover.first_output_us,
        "total_us": failover.total_us,
    })
}

/// Everything that is told at the end.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) victim: &'static str,
    pub(super) findings: Findings,
    pub(super) verdict: Verdict,
    pub(super) reasons: Vec<String>,
    pub(super) timeline: Timeline,
    /// One for each kill, in their order.
    pub(super) failovers: Vec<Failover>,
    pub(super) repeats: u64,
    pub(super) latency: Value,
}

impl Report {
    /// For programs: the documented fields, and what else there is.
    pub(super) fn json(&self) -> Value {
        let findings = &self.findings;
        let failover = self.timeline.failover();
        let workers: Vec<Value> = findings
            .workers
            .iter()
            .map(|worker| json!({"pid": worker.pid, "commits": worker.commits}))
            .collect();
        let all = &self.latency["all"];
        json!({
            "v": 1,
            "verdict": self.verdict.to_string(),
            "reasons": self.reasons,
            "kill": self.victim,
            "acked": findings.acked,
            "unanswered": findings.unanswered,
            "repeats": self.repeats,
            "lost": findings.lost,
            "duplicated": findings.duplicated,
            "diverged": findings.diverged,
            "failover": failover.map(in_parts),
            "failovers": self.failovers.iter().copied().map(in_parts).collect::<Vec<_>>(),
            "solo_us": self.since_kill(self.timeline.solo_ns),
            "restarted_us": self.since_kill(self.timeline.restarted_ns),
            "protected_again_us": self.since_kill(self.timeline.protected_ns),
            "latency_us": {
                "p50": all["p50"], "p99": all["p99"], "p999": all["p999"], "max": all["max"],
            },
            "latency_parts_us": {
                "before": self.latency["before"],
                "during": self.latency["during"],
                "after": self.latency["after"],
            },
            "workers": workers,
            "objects_served_by_several": findings.objects_served_by_several,
            "added": findings.added,
            "withdrawn": findings.withdrawn,
            "blocks_in_use_start": findings.blocks_in_use.map(|(start, _)| start),
            "blocks_in_use_end": findings.blocks_in_use.map(|(_, end)| end),
        })
    }

    fn since_kill(&self, at_ns: Option<u64>) -> Option<u64> {
        Some(at_ns?.saturating_sub(self.timeline.killed_ns?) / 1_000)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes any text");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let timeline = &self.timeline;
        writeln!(text, "\ntimeline")?;
        writeln!(text, "  {:>10}  killed: {}", "0", self.victim)?;
        let moments = [
            (timeline.detected_ns, "detected by the other node"),
            (timeline.promoted_ns, "promoted: the other node is primary"),
            (timeline.first_output_ns, "first answer of the new primary at the client"),
            (timeline.solo_ns, "the primary carries on alone"),
            (timeline.restarted_ns, "what was killed runs again"),
            (timeline.protected_ns, "the pair is protected again"),
        ];
        let mut moments: Vec<(u64, &str)> = moments
            .into_iter()
            .filter_map(|(at_ns, what)| Some((self.since_kill(at_ns)?, what)))
            .collect();
        moments.sort_unstable();
        for (at_us, what) in moments {
            writeln!(text, "  {:>10}  {what}", micros(at_us))?;
        }

        if self.failovers.len() > 1 {
            let mut totals: Vec<u64> = self.failovers.iter().map(|each| each.total_us).collect();
            totals.sort_unstable();
            let at = |share: f64| micros(totals[((totals.len() - 1) as f64 * share) as usize]);
            writeln!(
                text,
                "  the last of {} kills; from kill to first answer: p50 {}, p99 {}, max {}",
                totals.len(),
                at(0.5),
                at(0.99),
                at(1.0)
            )?;
        }

        writeln!(text, "\nlatency    requests       p50       p90       p99     p99.9       max")?;
        for part in ["before", "during", "after"] {
            let row = &self.latency[part];
            write!(text, "  {part:<7} {:>10}", row["n"].as_u64().unwrap_or(0))?;
            for column in ["p50", "p90", "p99", "p999", "max"] {
                let shown = row[column].as_u64().map_or_else(|| "-".to_owned(), micros);
                write!(text, " {shown:>9}")?;
            }
            writeln!(text)?;
        }

        let findings = &self.findings;
        let commits: Vec<String> =
            findings.workers.iter().map(|worker| worker.commits.to_string()).collect();
        writeln!(
            text,
            "\nanswered {}, lost {}, duplicated {}, sent again by the client {}",
            findings.acked,
            findings.lost,
            findings.duplicated + findings.diverged,
            self.repeats
        )?;
        writeln!(
            text,
            "workers alive: {} (commits {}); objects served by several: {} of {}",
            findings.workers.len(),
            commits.join(", "),
            findings.objects_served_by_several,
            findings.objects
        )?;
        let blocks = findings.blocks_in_use.map_or_else(
            || "unknown".to_owned(),
            |(start, end)| format!("{start} before, {end} after"),
        );
        writeln!(
            text,
            "objects without a key: {} added, {} withdrawn; blocks in use: {blocks}",
            findings.added, findings.withdrawn
        )?;
        writeln!(text, "\nverdict: {}", self.verdict)?;
        for reason in &self.reasons {
            writeln!(text, "  {reason}")?;
        }
        Ok(())
    }
}

/// The report for people.
pub(super) fn report(report: &Report) -> Result<(), Failure> {
    print_data(&report.text())
}

/// Microseconds with a unit that suits them.
fn micros(us: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let us_f = us as f64;
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.2} ms", us_f / 1e3),
        _ => format!("{:.2} s", us_f / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            victim: "primary",
            findings: Findings { acked: 10, blocks_in_use: Some((4, 4)), ..Findings::default() },
            verdict: Verdict::Ok,
            reasons: Vec::new(),
            timeline: Timeline {
                killed_ns: Some(1_000_000),
                detected_ns: Some(1_500_000),
                promoted_ns: Some(5_000_000),
                first_output_ns: Some(6_000_000),
                ..Timeline::default()
            },
            failovers: Vec::new(),
            repeats: 0,
            latency: json!({"all": {"p50": 100, "p99": 200, "p999": 300, "max": 5_000}}),
        }
    }

    #[test]
    fn the_documented_fields_are_there() {
        let json = report().json();
        assert_eq!((&json["v"], &json["verdict"]), (&json!(1), &json!("ok")));
        let failover = json!({
            "detect_us": 500, "promote_us": 3_500, "first_output_us": 1_000, "total_us": 5_000,
        });
        assert_eq!(json["failover"], failover);
        let latency = json!({"p50": 100, "p99": 200, "p999": 300, "max": 5_000});
        assert_eq!(json["latency_us"], latency);
        for field in [
            "acked",
            "lost",
            "duplicated",
            "workers",
            "objects_served_by_several",
            "added",
            "withdrawn",
            "blocks_in_use_start",
            "blocks_in_use_end",
        ] {
            assert!(!json[field].is_null(), "{field}");
        }
    }

    #[test]
    fn without_a_failover_there_are_no_figures_of_one() {
        let mut report = report();
        report.timeline.promoted_ns = None;
        assert!(report.json()["failover"].is_null());
    }

    #[test]
    fn several_kills_are_told_together() {
        let mut report = report();
        let of = |total_us| Failover { detect_us: 1, promote_us: 1, first_output_us: 1, total_us };
        report.failovers = vec![of(4_000), of(2_000), of(3_000)];
        assert_eq!(report.json()["failovers"][1]["total_us"], 2_000);
        let line =
            "the last of 3 kills; from kill to first answer: p50 3.00 ms, p99 3.00 ms, max 4.00 ms";
        assert!(report.text().contains(line), "{}", report.text());
    }

    #[test]
    fn the_report_tells_the_timeline_in_order() {
        let text = report().text();
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?} in:\n{text}"));
        assert!(at("killed: primary") < at("detected"));
        assert!(at("500 us") < at("4.00 ms"));
        assert!(at("promoted") < at("first answer"));
        assert!(text.contains("verdict: ok"));
    }
}
