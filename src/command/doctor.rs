//! `hotpair doctor`: whether this host is one on which a node does well, and what to change where it is not.
//!
//! It looks and changes nothing. What cannot be seen here, as in many virtual machines, is said to be unknown.

mod host;

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::config::Config;
use crate::exit::Exit;
use crate::report::{Outcome, print_data, print_json};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    what: &'static str,
    found: String,
    verdict: Verdict,
}

/// What is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It cannot be seen from here.
    Unknown,
    /// Why, and what to do.
    Advice(String),
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Finding {
        Finding { what, found: found.into(), verdict: Verdict::Good }
    }

    fn unknown(what: &'static str, why: impl Into<String>) -> Finding {
        Finding { what, found: why.into(), verdict: Verdict::Unknown }
    }

    fn advice(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { what, found: found.into(), verdict: Verdict::Advice(advice.into()) }
    }

    fn of(
        what: &'static str,
        found: impl Into<String>,
        good: bool,
        advice: impl Into<String>,
    ) -> Finding {
        if good { Finding::good(what, found) } else { Finding::advice(what, found, advice) }
    }
}

/// Looks, and says what was found. Exit code 7 where there is advice.
pub(crate) fn run(config: Option<&PathBuf>, as_json: bool) -> Outcome {
    let config = config.map(|path| Config::load(path)).transpose()?;
    let findings = host::look(config.as_ref());
    if as_json {
        print_json(&json_of(&findings))?;
    } else {
        print_data(&text(&findings))?;
    }
    let sick = findings.iter().any(|finding| matches!(finding.verdict, Verdict::Advice(_)));
    Ok(if sick { Exit::Differs } else { Exit::Ok })
}

/// All findings of this host, for programs.
pub(crate) fn report(config: Option<&Config>) -> Value {
    json_of(&host::look(config))
}

fn json_of(findings: &[Finding]) -> Value {
    let all: Vec<Value> = findings
        .iter()
        .map(|Finding { what, found, verdict }| match verdict {
            Verdict::Good => json!({ "what": what, "found": found, "verdict": "good" }),
            Verdict::Unknown => json!({ "what": what, "found": found, "verdict": "unknown" }),
            Verdict::Advice(advice) => {
                json!({ "what": what, "found": found, "verdict": "advice", "advice": advice })
            }
        })
        .collect();
    json!({ "v": 1, "findings": all })
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { what, found, verdict } in findings {
        let mark = match verdict {
            Verdict::Good => "good   ",
            Verdict::Unknown => "unknown",
            Verdict::Advice(_) => "advice ",
        };
        let _ = writeln!(text, "{mark}  {what}: {found}"); // a String takes any text
        if let Verdict::Advice(advice) = verdict {
            let _ = writeln!(text, "         {advice}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_good_bears_its_advice() {
        let findings = [
            Finding::of("clock", "tsc", true, "unused"),
            Finding::unknown("governor", "no frequencies to be seen"),
            Finding::of("swap", "1 area", false, "turn it off"),
        ];
        assert_eq!(
            text(&findings),
            "good     clock: tsc\nunknown  governor: no frequencies to be seen\n\
             advice   swap: 1 area\n         turn it off\n"
        );
        assert_eq!(json_of(&findings)["findings"][2]["advice"], "turn it off");
    }
}
