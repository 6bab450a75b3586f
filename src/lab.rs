//! `hotpair lab`: two hosts, a witness and a client in network namespaces, faults on purpose, and a verdict.
//!
//! The whole program runs on each host; the client is the demo's, on a host of its own, and asks the service address.

mod capture;
mod checks;
mod far;
mod figures;
mod findings;
mod hold;
mod host;
mod html;
mod keeper;
mod machine;
mod net;
mod place;
mod plan;
mod plot;
mod relay;
mod results;
mod run;
mod scenario;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::findings::Findings;
use self::net::Hosts;
use self::plan::Plan;
use self::run::Lab;
use self::scenario::Scenario;
use crate::exit::Exit;
use crate::process::Signals;
use crate::report::{Failure, Outcome, print_data, print_json};

/// What can be done in the lab.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Run a scenario, or all of a directory: as root, on Linux with network namespaces, or on real hosts
    Run(Options),
    /// Stand on a real host and do there what the lab says
    #[command(hide = true)]
    Keep(keeper::Options),
    /// Stand in the cable between the nodes
    #[command(hide = true)]
    Relay(relay::Options),
    /// Stop one thread of a process for a while
    #[command(hide = true)]
    Hold(hold::Options),
}

/// Which scenario, and how often.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Scenarios, or directories of them; those in tests/hosts are examples
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How often; phases and outages are shown as percentiles then. Of a directory, those for whose outage there is a bar, and
    /// the others as often as they say
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: Option<u32>,
    /// Of a directory, also the scenarios that take long
    #[arg(long)]
    long: bool,
    /// Real hosts instead of namespaces, as FILE says (docs/lab-hosts.toml): reached by ssh, as root
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// What to run in place of ssh, with its options, the host and the command
    #[arg(long, value_name = "PROGRAM", default_value = "ssh", requires = "hosts")]
    ssh: String,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Writes every event of the nodes to stderr
    #[arg(long)]
    trace: bool,
    /// Writes the histogram of each phase into DIR/SCENARIO.hlog
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// Writes a page for people: figures, plots, the worst run of each fault
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Writes the same as Markdown, its plots into a directory of that name beside it
    #[arg(long, value_name = "FILE.md")]
    results: Option<PathBuf>,
}

/// A pair is built anew after so many rounds: the client keeps books on every request.
const ROUNDS_MAX: u32 = 50;

/// A scenario and what came of it.
#[derive(Debug)]
struct Ran {
    name: String,
    scenario: Scenario,
    runs: Vec<Findings>,
    /// Why it could not be run to its end.
    failed: Option<String>,
    took: Duration,
    /// How often it was to be run.
    asked: u32,
    /// Somebody wants no more of it.
    interrupted: bool,
}

impl Ran {
    fn wrong(&self) -> usize {
        let wrong = |findings: &&Findings| !findings.objections(&self.scenario).is_empty();
        self.runs.iter().filter(wrong).count() + usize::from(self.failed.is_some())
    }

    fn json(&self) -> Value {
        let each: Vec<Value> = self.runs.iter().map(|run| run.json(&self.scenario)).collect();
        json!({
            "v": 1, "scenario": self.name, "goal": self.scenario.goal, "runs": self.runs.len(),
            "wrong": self.wrong(), "failed": self.failed, "took_ms": self.took.as_millis() as u64,
            "phases": figures::percentiles(&self.runs), "each": each,
        })
    }
}

/// Does what was asked for. A run exits with 1 if anything did not end as its file says.
pub(crate) fn run(action: &Action) -> Outcome {
    match action {
        Action::Run(options) => run_all(options),
        Action::Keep(options) => keeper::run(options),
        Action::Relay(options) => relay::run(options),
        Action::Hold(options) => hold::run(options),
    }
}

fn run_all(options: &Options) -> Outcome {
    let hosts = match &options.hosts {
        None => None,
        Some(path) => Some(Hosts { plan: Plan::load(path)?, ssh: options.ssh.clone() }),
    };
    let mut all = Vec::new();
    for path in &options.files {
        let directory = path.is_dir();
        for file in files(path)? {
            let scenario = Scenario::load(&file)?;
            if directory && scenario.long && !options.long {
                continue;
            }
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(why) = hosts.as_ref().and_then(|hosts| hosts.plan.objection(&scenario)) {
                if !directory {
                    return Err(Failure::new(format!("cannot run {name} on these hosts"))
                        .because(why)
                        .exit(Exit::Config));
                }
                if !options.json {
                    print_data(&format!("{name}: left out: {why}\n"))?;
                }
                continue;
            }
            let runs = options.runs.filter(|_| !directory || scenario.bar.is_some());
            let asked = runs.or(scenario.rounds).unwrap_or(1);
            let took = Duration::ZERO;
            let (runs, failed, interrupted) = (Vec::new(), None, false);
            all.push(Ran { name, scenario, runs, failed, took, asked, interrupted });
        }
    }
    if hosts.is_none() && !nix::unistd::geteuid().is_root() {
        return Err(Failure::new("cannot make the lab's network")
            .because("network namespaces need root")
            .exit(Exit::Refused));
    }
    let signals = Signals::listen()?;
    let several = all.len() > 1;
    for index in 0..all.len() {
        let ran = &mut all[index];
        if several && !options.json {
            print_data(&format!("{}: {}\n", ran.name, ran.scenario.goal))?;
        }
        let begun = Instant::now();
        if let Err(failure) = repeat(ran, options, &signals, hosts.as_ref()) {
            // What was measured up to here is not thrown away.
            let nothing = !several && ran.runs.is_empty();
            if nothing || ran.interrupted || failure.code() == Exit::Refused {
                return Err(failure);
            }
            ran.failed = Some(failure.to_string());
        }
        ran.took = begun.elapsed();
        if !options.json {
            print_data(&figures::summary(&ran.runs, ran.took, ran.failed.as_deref()))?;
        }
        // After each, so that what was measured is there whatever comes.
        write_down(&all[..=index], options)?;
    }
    let wrong: usize = all.iter().map(Ran::wrong).sum();
    if options.json {
        match &all[..] {
            [one] => print_json(&one.json())?,
            _ => print_json(&json!({
                "v": 1, "wrong": wrong, "scenarios": all.iter().map(Ran::json).collect::<Vec<_>>(),
            }))?,
        }
    }
    Ok(if wrong == 0 { Exit::Ok } else { Exit::Failed })
}

/// Runs it so often, in as many labs as that takes.
fn repeat(
    ran: &mut Ran,
    options: &Options,
    signals: &Signals,
    hosts: Option<&Hosts>,
) -> Result<(), Failure> {
    let at_once = if ran.scenario.rounds.is_some() { ROUNDS_MAX } else { 1 };
    let mut done = 0;
    while done < ran.asked {
        let rounds = at_once.min(ran.asked - done);
        let mut lab = Lab::build(&ran.scenario, signals, options.trace, hosts)?;
        let (scenario, finished) = (&ran.scenario, &mut ran.runs);
        let performed = lab.perform(rounds, |findings| {
            let number = finished.len() as u32 + 1;
            let text = findings.text(scenario, number);
            finished.push(findings);
            if options.json { Ok(()) } else { print_data(&text) }
        });
        lab.stop();
        ran.interrupted = lab.interrupted;
        drop(lab);
        performed?;
        done += rounds;
    }
    Ok(())
}

fn write_down(all: &[Ran], options: &Options) -> Result<(), Failure> {
    if let Some(dir) = &options.log {
        for ran in all {
            figures::log(ran, dir)?;
        }
    }
    if options.html.is_none() && options.results.is_none() {
        return Ok(());
    }
    let machine = machine::describe();
    if let Some(path) = &options.html {
        write(path, &html::page(all, &machine))?;
    }
    if let Some(path) = &options.results {
        results::write(all, &machine, path)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = || Failure::new(format!("cannot write {}", path.display()));
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(|error| failed().caused_by(&error))?;
    }
    std::fs::write(path, text).map_err(|error| failed().caused_by(&error))
}

/// The scenario itself, or those of the directory, in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = || Failure::new(format!("cannot read {}", path.display()));
    let entries = std::fs::read_dir(path).map_err(|error| failed().caused_by(&error))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    files.sort();
    if files.is_empty() {
        return Err(failed().because("there is no scenario in it").exit(Exit::Config));
    }
    Ok(files)
}
