//! `failover`: the demo, killed (or stopped) again and again, and what its client saw.
//!
//! `hotpair demo --json --kills N` starts a pair, loads it in an open loop and kills whoever serves, again and again, each time
//! the pair is protected again. Its own client measures, so this only collects. A demo whose verdict is not `ok` ends the
//! bench: an average over broken runs says nothing.
//!
//! `remote-outage` is the same with the port and the workers on hosts of their own (`hotpair demo --remote`): they outlive the
//! kill, lose the gateway that they work with, and go on by the other. What the client waits for is the remote port and a remote
//! worker together, so that the worker alone is not gone for longer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::histogram::Histogram;
use crate::options::Options;
use crate::registry::{Bench, BenchError};
use crate::report::{FailoverReport, Phases, Report};

const RUNS: u32 = 20;

/// Size of each side's region: what a death takes to notice must not depend on it.
const GIB: u32 = 1;

/// Length of one demo up to its first kills: long enough for a steady state before and after.
const DEMO_SECONDS: u64 = 2;

/// What the program's nodes say on stderr.
const LOG: &str = "HOTPAIR_LOG";

/// Kills of one pair.
const KILLS_PER_PAIR: u32 = 20;

/// What we read of the demo's report; it says more.
#[derive(Debug, Deserialize)]
struct DemoReport {
    verdict: String,
    #[serde(default)]
    reasons: Vec<String>,
    lost: u64,
    duplicated: u64,
    failovers: Vec<Timeline>,
}

/// Microseconds: each phase from the end of the one before, `total` from the kill.
#[derive(Debug, Deserialize)]
struct Timeline {
    detect_us: Option<f64>,
    promote_us: Option<f64>,
    first_output_us: Option<f64>,
    total_us: Option<f64>,
}

/// Who shares memory with the node that is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Workers {
    /// Port and workers, which die with everything on its side.
    Near,
    /// Nobody: they come in by gateways.
    Remote,
}

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    measure(bench, options, Workers::Near)
}

pub(crate) fn remote(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    measure(bench, options, Workers::Remote)
}

fn measure(bench: &Bench, options: &Options, workers: Workers) -> Result<Report, BenchError> {
    let program = options.program()?;
    let runs = options.runs.unwrap_or(RUNS);
    let seconds = options.seconds.unwrap_or(Duration::from_secs(DEMO_SECONDS));
    let mut phases = Phases::default();
    let victim = if options.frozen { "frozen" } else { options.victim.as_str() };
    let gib = options.gib.unwrap_or(GIB);
    let mut done = 0;
    while done < runs {
        let kills = (runs - done).min(KILLS_PER_PAIR);
        let failed = |what| BenchError::Program { run: done + 1, runs, what };
        let report = demo(&program, workers, victim, gib, seconds, kills).map_err(failed)?;
        collect(&report, kills, &mut phases).map_err(failed)?;
        done += kills;
    }
    write_files(options, &phases.total)?;
    Ok(Report::Failover(FailoverReport::new(bench.name, bench.question, victim, &phases)))
}

/// One demo, to its end. Its messages for people go where ours go.
fn demo(
    program: &Path,
    workers: Workers,
    victim: &str,
    gib: u32,
    seconds: Duration,
    kills: u32,
) -> Result<DemoReport, String> {
    let output = Command::new(program)
        .args(["demo", "--json", "--kill", victim, "--region-gib", &gib.to_string(), "--seconds"])
        .arg(seconds.as_secs().max(2).to_string())
        .args(["--kills", &kills.to_string()])
        .args((workers == Workers::Remote).then_some("--remote"))
        // That nodes are lost is the point here, and no reason to warn of.
        .env(LOG, std::env::var_os(LOG).unwrap_or_else(|| "error".into()))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).map_err(|error| {
        let start: String = text.chars().take(200).collect();
        format!("the demo ended with {} and printed `{start}`: {error}", output.status)
    })
}

fn collect(report: &DemoReport, kills: u32, phases: &mut Phases) -> Result<(), String> {
    phases.lost += report.lost;
    phases.duplicated += report.duplicated;
    if report.verdict != "ok" {
        return Err(format!(
            "verdict `{}`: lost {}, duplicated {}; {}",
            report.verdict,
            report.lost,
            report.duplicated,
            report.reasons.join("; ")
        ));
    }
    let seen = report.failovers.len();
    if seen != kills as usize {
        return Err(format!("{kills} kills, and {seen} times the other side took over"));
    }
    for timeline in &report.failovers {
        let recorded = [
            ("detect_us", timeline.detect_us, &mut phases.detect),
            ("promote_us", timeline.promote_us, &mut phases.promote),
            ("first_output_us", timeline.first_output_us, &mut phases.first_output),
            ("total_us", timeline.total_us, &mut phases.total),
        ];
        for (name, us, histogram) in recorded {
            let us = us.ok_or_else(|| format!("the demo did not see {name}"))?;
            histogram.record_ns((us * 1e3) as u64);
        }
    }
    Ok(())
}

/// The histogram files that were asked for.
pub(crate) fn write_files(options: &Options, histogram: &Histogram) -> Result<(), BenchError> {
    let output = |path: &PathBuf| {
        let path = path.clone();
        move |source| BenchError::Output { path, source }
    };
    if let Some(path) = &options.hgrm {
        histogram.write_hgrm(path, 1.0).map_err(output(path))?;
    }
    if let Some(path) = &options.hlog {
        histogram.write_hlog(path).map_err(output(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> DemoReport {
        serde_json::from_str(json).expect("what a demo prints")
    }

    #[test]
    fn a_good_run_is_collected() {
        let report = parse(
            r#"{"v":1,"verdict":"ok","acked":9,"lost":0,"duplicated":0,"failovers":
                [{"detect_us":210,"promote_us":900.5,"first_output_us":2100,"total_us":3210}],
                "latency_us":{"p50":1,"p99":1,"p999":1,"max":1},"workers":[]}"#,
        );
        let mut phases = Phases::default();
        collect(&report, 1, &mut phases).expect("all there");
        assert_eq!(phases.total.summary().n, 1);
        assert!(phases.detect.summary().max >= 210_000);
    }

    #[test]
    fn a_bad_run_is_not() {
        #[rustfmt::skip]
        let cases = [
            (r#"{"verdict":"lost","lost":3,"duplicated":0,"failovers":[]}"#, "lost 3"),
            (r#"{"verdict":"ok","lost":0,"duplicated":0,"failovers":[]}"#, "1 kills, and 0 times"),
            (r#"{"verdict":"ok","lost":0,"duplicated":0,"failovers":[{"detect_us":1,"promote_us":1,
                "first_output_us":null,"total_us":2}]}"#, "first_output_us"),
        ];
        for (json, says) in cases {
            let error = collect(&parse(json), 1, &mut Phases::default()).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_program_that_is_no_demo_is_said_so() {
        let run = |program: &str, workers| {
            demo(Path::new(program), workers, "primary", 0, Duration::from_secs(1), 1)
        };
        let error = run("/bin/echo", Workers::Near);
        let error = error.expect_err("echo prints its arguments");
        assert!(error.contains("demo --json --kill primary"), "{error}");
        assert!(!error.contains("--remote"), "{error}");
        let error = run("/bin/echo", Workers::Remote).expect_err("echo prints its arguments");
        assert!(error.contains("--kills 1 --remote"), "{error}");
        let missing = run("/no/such/program", Workers::Near);
        assert!(missing.expect_err("not there").contains("/no/such/program"));
    }
}
