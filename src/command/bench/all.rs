//! `hotpair bench all`: every bench, in rounds.
//!
//! ```text
//!   round 1   claim  claim-cold  …  status
//!   round 2   claim  claim-cold  …  status       ──► FILE, a line for each bench and round
//!   round 3   claim  claim-cold  …  status
//! ```
//!
//! In rounds, and not each bench three times: a mood of the machine that lasts a minute then spoils one round of some benches, which their
//! spread shows, and not all rounds of one.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use hotpair_perf::{Bench, Form, Line, Machine, RunFile, Section, registry, summary};

use super::progress::Progress;
use super::{Options, bench, clean_up_when_stopped, write_page};
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data};

const ROUNDS: u32 = 3;

/// A bench as it is run.
struct Asked {
    bench: &'static Bench,
    form: &'static Form,
    options: Options,
}

pub(super) fn run(options: &Options) -> Outcome {
    refuse_what_is_for_one(options)?;
    let asked = asked(options)?;
    let rounds = options.runs.unwrap_or(ROUNDS);
    let machine = Machine::here();
    let path = options.out.clone().or_else(|| (!options.json).then(|| default_path(&machine)));
    let mut file = RunWriter::create(path, options.json)?;
    file.add(&RunFile::head(&machine, rounds))?;

    clean_up_when_stopped()?;
    let takes: Vec<Duration> = asked.iter().map(|asked| asked.options.takes(asked.bench)).collect();
    let times = asked.iter().map(|asked| if asked.form.once { 1 } else { rounds });
    let progress =
        Progress::start(takes.iter().zip(times).map(|(takes, times)| *takes * times).sum());
    let mut sections: Vec<Section> = asked.iter().map(Asked::section).collect();
    for round in 1..=rounds {
        for ((asked, section), takes) in asked.iter().zip(&mut sections).zip(&takes) {
            if asked.form.once && round > 1 {
                continue;
            }
            progress.begin(&format!("{} ({round} of {rounds})", asked.bench.name));
            match asked.bench.run(&asked.options.settings()) {
                Ok(measured) => {
                    file.add(&Line::of(&measured, asked.form.flags, round))?;
                    section.rounds.push(measured);
                }
                Err(error) => {
                    let why = causes(&error);
                    let (name, flags) = (asked.bench.name, asked.form.flags);
                    file.add(&Line::failed(name, why.clone(), flags, round))?;
                    section.failed = Some(why);
                }
            }
            progress.done(*takes);
        }
    }
    drop(progress);

    if let Some(path) = &options.html {
        let form = if options.full { "full form" } else { "quick form" };
        let rounds = match rounds {
            1 => "1 round".to_owned(),
            rounds => format!("{rounds} rounds; figures and plots of the one in the middle"),
        };
        write_page(path, &[("run", format!("`hotpair bench all`, {form}, {rounds}"))], &sections)?;
    }
    file.finish()?;
    if !options.json {
        print_data(&format!("{}\n", summary(&sections)))?;
        for path in file.path.iter().chain(&options.html) {
            print_data(&format!("written: {}\n", path.display()))?;
        }
    }
    verdict(&sections)
}

/// A run with a hole is no run.
fn verdict(sections: &[Section]) -> Outcome {
    let failed: Vec<&Section> =
        sections.iter().filter(|section| section.failed.is_some()).collect();
    let Some(first) = failed.first() else { return Ok(Exit::Ok) };
    let names: Vec<&str> = failed.iter().map(|section| section.bench.name).collect();
    let why = first.failed.as_deref().unwrap_or_default();
    Err(Failure::new(format!(
        "{} of {} failed: {}",
        failed.len(),
        sections.len(),
        names.join(", ")
    ))
    .because(format!("{}: {why}", first.bench.name)))
}

/// Flags that would mean something else for each bench, or overwrite one file again and again.
fn refuse_what_is_for_one(options: &Options) -> Result<(), Failure> {
    let flags = options.flags();
    let given = [
        (!flags.is_empty()).then_some(flags.as_str()),
        options.objects.is_some().then_some("--objects"),
        options.gib.is_some().then_some("--gib"),
        options.hgrm.is_some().then_some("--hgrm"),
        options.hlog.is_some().then_some("--hlog"),
    ];
    match given.into_iter().flatten().next() {
        None => Ok(()),
        Some(flag) => Err(Failure::new(format!("`{flag}` is for one bench"))
            .because("`bench all` takes --seconds, --runs, --full, --out, --html, --json and names of benches")
            .exit(Exit::Usage)),
    }
}

fn asked(options: &Options) -> Result<Vec<Asked>, Failure> {
    let benches: Vec<&'static Bench> = match &options.more[..] {
        [] => registry().iter().collect(),
        names => names.iter().map(|name| bench(name)).collect::<Result<_, _>>()?,
    };
    let mut asked = Vec::new();
    for bench in benches {
        for form in bench.forms {
            let quick = if options.full { "" } else { form.quick };
            let mut own = options_of(&format!("{} {quick}", form.flags)).map_err(|error| {
                Failure::new(format!("cannot run bench {}", bench.name)).because(error)
            })?;
            // Where a run is a whole story it has no seconds, and ignores them.
            own.seconds = options.seconds.or(own.seconds);
            asked.push(Asked { bench, form, options: own });
        }
    }
    Ok(asked)
}

impl Asked {
    fn section(&self) -> Section {
        Section {
            bench: *self.bench,
            flags: self.form.flags.to_owned(),
            run_with: self.options.all_flags(),
            bar: self.form.bar,
            rounds: Vec::new(),
            failed: None,
        }
    }
}

/// A command line of `bench` by itself.
#[derive(Parser)]
struct Alone {
    #[command(flatten)]
    options: Options,
}

/// What these flags mean.
pub(super) fn options_of(flags: &str) -> Result<Options, String> {
    let words = std::iter::once("bench").chain(flags.split_whitespace());
    Alone::try_parse_from(words).map(|alone| alone.options).map_err(|error| error.to_string())
}

/// `2026-11-26 19:05 UTC` as part of a name.
fn default_path(machine: &Machine) -> PathBuf {
    let date: String = machine.date.chars().filter(char::is_ascii_digit).collect();
    let (day, time) = date.split_at(date.len().min(8));
    PathBuf::from(format!("hotpair-bench-{day}-{time}.jsonl"))
}

/// An error with everything behind it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// Where the results go as they come: a file, and an array on stdout.
struct RunWriter {
    path: Option<PathBuf>,
    file: Option<File>,
    array: bool,
    count: usize,
}

impl RunWriter {
    fn create(path: Option<PathBuf>, array: bool) -> Result<Self, Failure> {
        let file = match &path {
            Some(path) => Some(File::create(path).map_err(|error| cannot_write(path, &error))?),
            None => None,
        };
        Ok(RunWriter { path, file, array, count: 0 })
    }

    fn add(&mut self, line: &impl serde::Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string(line)
            .map_err(|error| Failure::new("cannot write a result").caused_by(&error))?;
        if let (Some(file), Some(path)) = (&mut self.file, &self.path) {
            writeln!(file, "{json}").map_err(|error| cannot_write(path, &error))?;
        }
        if self.array {
            print_data(&format!("{}{json}", if self.count == 0 { "[" } else { ",\n" }))?;
        }
        self.count += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if self.array { print_data("]\n") } else { Ok(()) }
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write {}", path.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what the registry says of the command line is understood by it, asks the same again, and has an end.
    #[test]
    fn every_form_is_a_command_line() {
        for bench in registry() {
            assert!(!bench.forms.is_empty(), "{}", bench.name);
            for form in bench.forms {
                let asked = options_of(form.flags).expect(bench.name);
                assert_eq!(asked.flags(), form.flags, "{}", bench.name);
                let quick =
                    options_of(&format!("{} {}", form.flags, form.quick)).expect(bench.name);
                assert_eq!(
                    quick.flags(),
                    form.flags,
                    "{}: quick flags change no question",
                    bench.name
                );
                assert!(quick.seconds.is_some() || quick.runs.is_some(), "{}", bench.name);
                assert!(!quick.takes(bench).is_zero(), "{}", bench.name);
            }
        }
    }

    /// Goal: the quick form ends in under five minutes.
    #[test]
    fn the_quick_form_is_quick() {
        let forms = registry().iter().flat_map(|bench| bench.forms);
        let takes = forms.map(|form| form.quick_takes * if form.once { 1 } else { ROUNDS });
        let whole: Duration = takes.sum();
        assert!(whole < Duration::from_secs(300), "{whole:?}");
    }

    #[test]
    fn what_is_for_one_bench_is_refused() {
        for flags in ["--hgrm x", "--objects 500", "--busy-poll", "--gib 4"] {
            let options = options_of(flags).expect(flags);
            assert_eq!(run(&options).expect_err(flags).code(), Exit::Usage, "{flags}");
        }
        assert!(
            refuse_what_is_for_one(&options_of("--seconds 1s --runs 2").expect("fine")).is_ok()
        );
    }
}
