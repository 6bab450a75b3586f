//! `hotpair bench`: measuring, with the harness of `hotpair-perf`.

mod all;
mod attach;
mod compare;
mod list;
mod progress;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hotpair_perf::{
    Bench, By, Form, Machine, MessageSize, Options as Settings, Section, Victim, abandon, find,
    page, registry,
};

use crate::config::Span;
use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::report::{Failure, Outcome, print_data};
use progress::Progress;

/// What to measure, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Name of a bench; `list` (or nothing) shows all, `all` measures all, `compare OLD NEW` sets two runs of all side by side, `attach`
    /// shows the stages of requests of a running pair
    name: Option<String>,
    /// `all`: only these benches. `compare`: the two files; the exit code is 7 if something got worse
    #[arg(value_name = "WHAT")]
    more: Vec<String>,
    /// The pair that `attach` looks at: name of the primary's region, or its node's configuration file
    #[arg(long)]
    pair: Option<String>,
    /// For programs: one JSON object (`all`, `list`: one array)
    #[arg(long)]
    json: bool,
    /// How long to measure, such as 5s
    #[arg(long, value_parser = seconds)]
    seconds: Option<Span>,
    /// How often, where a run is a whole story; `all`: how many rounds, 3 without
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: Option<u32>,
    /// How many objects there are, where there are many
    #[arg(long, value_parser = clap::value_parser!(u32).range(128..=10_000_000))]
    objects: Option<u32>,
    /// Bytes of a message that is handed over: 64B to 1KiB
    #[arg(long)]
    size: Option<MessageSize>,
    /// Wait by polling instead of sleeping
    #[arg(long)]
    busy_poll: bool,
    /// A back-up has each commit of `udp-echo` before its output leaves
    #[arg(long)]
    sync: bool,
    /// Packets of `udp-rate` cross the kernel together (GSO, GRO)
    #[arg(long)]
    gso: bool,
    /// What `scale` has more and more of: objects, value, workers, depth or period
    #[arg(long)]
    by: Option<By>,
    /// `wire` changes few cache lines of large values
    #[arg(long)]
    few: bool,
    /// Commits of `remote`, or commands of a connection of `resp`, that are unanswered at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    inflight: Option<u16>,
    /// Whom `failover` and `remote-outage` kill: primary or node
    #[arg(long, default_value = "primary")]
    victim: Victim,
    /// They stop the primary's side instead of killing it
    #[arg(long)]
    frozen: bool,
    /// Size of their regions in GiB
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=64))]
    gib: Option<u32>,
    /// `all`: each bench as long as by itself, instead of the quick form
    #[arg(long)]
    full: bool,
    /// `all`: write the run to this file [default: hotpair-bench-DATE.jsonl, none with --json]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the percentile distribution to this file
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Write the histogram to this file, compressed
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
    /// Write a page with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A duration; a number alone is seconds.
fn seconds(text: &str) -> Result<Span, String> {
    match text.parse::<u32>() {
        Ok(seconds) => Ok(Span(Duration::from_secs(seconds.into()))),
        Err(_) => Span::parse(text),
    }
}

/// Measures, compares, or lists what can be measured.
pub(crate) fn run(options: &Options) -> Outcome {
    let name = options.name.as_deref().unwrap_or("list");
    if !["all", "compare"].contains(&name) && !options.more.is_empty() {
        return Err(Failure::new(format!("`bench {name}` takes no further names"))
            .because(format!("given were: {}", options.more.join(", ")))
            .exit(Exit::Usage));
    }
    match name {
        "list" => list::run(options.json),
        "all" => all::run(options),
        "compare" => compare::run(options),
        "attach" => attach::run(options),
        name => one(bench(name)?, options),
    }
}

fn bench(name: &str) -> Result<&'static Bench, Failure> {
    find(name).ok_or_else(|| {
        let names: Vec<&str> = registry().iter().map(|bench| bench.name).collect();
        Failure::new(format!("there is no bench `{name}`"))
            .because(format!("there are: {}", names.join(", ")))
            .help("`all` measures all of them, `compare` sets two runs side by side")
            .exit(Exit::Usage)
    })
}

fn one(bench: &'static Bench, options: &Options) -> Outcome {
    clean_up_when_stopped()?;
    let progress = Progress::start(options.takes(bench));
    progress.begin(bench.name);
    let measured = bench.run(&options.settings());
    drop(progress);
    let measured = measured
        .map_err(|error| Failure::new(format!("bench {} failed", bench.name)).caused_by(&error))?;
    if options.json {
        let json = serde_json::to_string(&measured)
            .map_err(|error| Failure::new("cannot print the report").caused_by(&error))?;
        print_data(&format!("{json}\n"))?;
    } else {
        print_data(&format!("{measured}\n"))?;
    }
    if let Some(path) = &options.html {
        let flags = options.flags();
        let bar = form(bench, &flags).and_then(|form| form.bar);
        let section = Section {
            bench: *bench,
            flags,
            run_with: options.all_flags(),
            bar,
            rounds: vec![measured],
            failed: None,
        };
        write_page(path, &[], &[section])?;
    }
    Ok(Exit::Ok)
}

/// The form of a bench that asks the same.
fn form(bench: &Bench, flags: &str) -> Option<&'static Form> {
    bench.forms.iter().find(|form| form.flags == flags)
}

fn write_page(
    path: &Path,
    settings: &[(&str, String)],
    sections: &[Section],
) -> Result<(), Failure> {
    let page = page(&Machine::here(), settings, sections);
    std::fs::write(path, page)
        .map_err(|error| Failure::new(format!("cannot write {}", path.display())).caused_by(&error))
}

impl Options {
    fn settings(&self) -> Settings {
        Settings {
            seconds: self.seconds.map(|span| span.0),
            runs: self.runs,
            objects: self.objects,
            size: self.size,
            busy_poll: self.busy_poll,
            sync: self.sync,
            gso: self.gso,
            by: self.by,
            few: self.few,
            inflight: self.inflight,
            victim: self.victim,
            frozen: self.frozen,
            gib: self.gib,
            hgrm: self.hgrm.clone(),
            hlog: self.hlog.clone(),
            program: None,
        }
    }

    /// The flags that change the question, as somebody would write them again.
    fn flags(&self) -> String {
        let mut flags = Vec::new();
        flags.extend(self.size.map(|size| format!("--size {}", size.to_string().replace(' ', ""))));
        flags.extend(self.busy_poll.then(|| "--busy-poll".to_owned()));
        flags.extend(self.sync.then(|| "--sync".to_owned()));
        flags.extend(self.gso.then(|| "--gso".to_owned()));
        flags.extend(self.by.map(|by| format!("--by {}", by.as_str())));
        flags.extend(self.few.then(|| "--few".to_owned()));
        flags.extend(self.inflight.map(|count| format!("--inflight {count}")));
        flags.extend(
            (self.victim != Victim::default())
                .then(|| format!("--victim {}", self.victim.as_str())),
        );
        flags.extend(self.frozen.then(|| "--frozen".to_owned()));
        flags.join(" ")
    }

    /// The same and those that make it longer, shorter or smaller.
    fn all_flags(&self) -> String {
        let mut flags = vec![self.flags()];
        flags.extend(self.seconds.map(|seconds| format!("--seconds {seconds}")));
        flags.extend(self.runs.map(|runs| format!("--runs {runs}")));
        flags.extend(self.objects.map(|objects| format!("--objects {objects}")));
        flags.extend(self.gib.map(|gib| format!("--gib {gib}")));
        flags.join(" ").trim_start().to_owned()
    }

    /// About how long a bench takes so.
    fn takes(&self, bench: &Bench) -> Duration {
        /// What a bench does without being told, about.
        const SECONDS: Duration = Duration::from_secs(5);
        const RUNS: u32 = 20;
        let Some(form) = form(bench, &self.flags()).or(bench.forms.first()) else { return SECONDS };
        let quick = all::options_of(form.quick);
        match quick.as_ref().map(|quick| (quick.runs, quick.seconds)) {
            Ok((Some(runs), _)) => form.quick_takes * self.runs.unwrap_or(RUNS) / runs,
            Ok((None, Some(Span(seconds)))) => {
                let measured = self.seconds.map_or(SECONDS, |span| span.0);
                form.quick_takes.saturating_sub(seconds) + measured
            }
            _ => form.quick_takes,
        }
    }
}

/// From now on a Ctrl-C removes the benches' files before it ends this process; with it end its helpers.
fn clean_up_when_stopped() -> Result<(), Failure> {
    // The main thread measures, so somebody else has to listen. The descriptor hears of the signals that
    // the whole process blocks: this thread has just begun to, and those that it starts do as well.
    let signals = Signals::listen()?;
    let listen = move || {
        while !signals.stop_requested() {
            wait(&[signals.as_fd()], Duration::from_secs(3600));
        }
        abandon();
        std::process::exit(128 + nix::sys::signal::Signal::SIGINT as i32);
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen)
        .map_err(|error| Failure::new("cannot listen to signals").caused_by(&error))?;
    Ok(())
}

/// The second process of a bench.
pub(crate) fn help(arguments: &[String]) -> Outcome {
    hotpair_perf::help(arguments).map_err(|error| {
        Failure::new("the second process of the bench failed").caused_by(&error)
    })?;
    Ok(Exit::Ok)
}
