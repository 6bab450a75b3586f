//! `hotpair lab`: two hosts, a witness and a client in network namespaces, faults on purpose, and a verdict.
//!
//! The whole program runs on each host; the client is the demo's, on a host of its own, and asks the service address.

mod findings;
mod host;
mod net;
mod run;
mod scenario;

use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use self::findings::{Findings, PHASES};
use self::run::Lab;
use self::scenario::Scenario;
use crate::exit::Exit;
use crate::process::Signals;
use crate::report::{Failure, Outcome, print_data, print_json};

/// What can be done in the lab.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Run a scenario: as root, on Linux with network namespaces
    Run(Options),
}

/// Which scenario, and how often.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The scenario; those in tests/hosts are examples
    file: PathBuf,
    /// How often; phases and outages are shown as percentiles then
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Writes every event of the nodes to stderr
    #[arg(long)]
    trace: bool,
}

/// Longest phase that is told apart, in microseconds.
const MICROS_MAX: u64 = 120_000_000;

/// Runs it, and exits with 1 if it did not end as the file says.
pub(crate) fn run(action: &Action) -> Outcome {
    let Action::Run(options) = action;
    let scenario = Scenario::load(&options.file)?;
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new("cannot make the lab's network")
            .because("network namespaces need root")
            .exit(Exit::Refused));
    }
    let signals = Signals::listen()?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        let mut lab = Lab::build(&scenario, &signals, options.trace)?;
        let performed = lab.perform();
        lab.stop();
        let findings = performed?;
        if !options.json {
            print_data(&findings.text(&scenario, number))?;
        }
        runs.push(findings);
    }
    let wrong = runs.iter().filter(|findings| !findings.objections(&scenario).is_empty()).count();
    if options.json {
        print_json(&json!({
            "v": 1, "goal": scenario.goal, "runs": runs.len(), "wrong": wrong,
            "phases": percentiles(&runs),
            "each": runs.iter().map(|findings| findings.json(&scenario)).collect::<Vec<_>>(),
        }))?;
    } else if runs.len() > 1 {
        print_data(&table(&runs))?;
    }
    Ok(if wrong == 0 { Exit::Ok } else { Exit::Failed })
}

fn histogram(runs: &[Findings], phase: &str) -> Option<Histogram<u64>> {
    let mut histogram = Histogram::new_with_max(MICROS_MAX, 3).ok()?;
    for micros in runs.iter().filter_map(|findings| findings.phase(phase)) {
        histogram.saturating_record(micros);
    }
    (!histogram.is_empty()).then_some(histogram)
}

fn percentiles(runs: &[Findings]) -> Value {
    let mut all = serde_json::Map::new();
    for phase in PHASES {
        let Some(histogram) = histogram(runs, phase) else { continue };
        all.insert(
            phase.to_owned(),
            json!({
                "n": histogram.len(), "p50_us": histogram.value_at_quantile(0.5),
                "p99_us": histogram.value_at_quantile(0.99), "max_us": histogram.max(),
            }),
        );
    }
    Value::Object(all)
}

fn table(runs: &[Findings]) -> String {
    let mut text =
        format!("{:<14} {:>5} {:>10} {:>10} {:>10}\n", "phase", "n", "p50", "p99", "max");
    for phase in PHASES {
        let Some(histogram) = histogram(runs, phase) else { continue };
        let ms = |micros: u64| format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10);
        text.push_str(&format!(
            "{phase:<14} {:>5} {:>10} {:>10} {:>10}\n",
            histogram.len(),
            ms(histogram.value_at_quantile(0.5)),
            ms(histogram.value_at_quantile(0.99)),
            ms(histogram.max()),
        ));
    }
    text
}
