//! `hotpair bench`: measuring, with the harness of `hotpair-perf`.

mod attach;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use hotpair_perf::{MessageSize, Options as Settings, Victim, abandon, find, registry};

use crate::config::Span;
use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::report::{Failure, Outcome, print_data};

/// What to measure, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Name of the bench; without one, all are listed; `attach` shows the stages of requests of a running pair
    name: Option<String>,
    /// The pair that `attach` looks at: name of the primary's region, or its node's configuration file
    #[arg(long)]
    pair: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// How long to measure, such as 5s
    #[arg(long, value_parser = Span::parse)]
    seconds: Option<Span>,
    /// How often, where a run is a whole story
    #[arg(long)]
    runs: Option<u32>,
    /// How many objects there are, where there are many
    #[arg(long, value_parser = clap::value_parser!(u32).range(128..=4_000_000))]
    objects: Option<u32>,
    /// Bytes of a message that is handed over: 64B to 1KiB
    #[arg(long)]
    size: Option<MessageSize>,
    /// Wait by polling instead of sleeping
    #[arg(long)]
    busy_poll: bool,
    /// Commits of `remote` that are unanswered at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    inflight: Option<u16>,
    /// Whom `failover` and `remote-outage` kill: primary or node
    #[arg(long, default_value = "primary")]
    victim: String,
    /// They stop the primary's side instead of killing it
    #[arg(long)]
    frozen: bool,
    /// Size of their regions in GiB
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=64))]
    gib: Option<u32>,
    /// Write the percentile distribution to this file
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Write the histogram to this file, compressed
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
}

/// Measures, or lists what can be measured.
pub(crate) fn run(options: &Options) -> Outcome {
    let Some(name) = &options.name else {
        for bench in registry() {
            print_data(&format!("{:<13} {}\n", bench.name, bench.question))?;
        }
        return Ok(Exit::Ok);
    };
    if name == "attach" {
        return attach::run(options);
    }
    let bench = find(name).ok_or_else(|| {
        let names: Vec<&str> = registry().iter().map(|bench| bench.name).collect();
        Failure::new(format!("there is no bench `{name}`"))
            .because(format!("there are: {}", names.join(", ")))
            .exit(Exit::Usage)
    })?;
    let victim: Victim = options
        .victim
        .parse()
        .map_err(|error| Failure::new("bad --victim").caused_by(&error).exit(Exit::Usage))?;
    let settings = Settings {
        seconds: options.seconds.map(|span| span.0),
        runs: options.runs,
        objects: options.objects,
        size: options.size,
        busy_poll: options.busy_poll,
        inflight: options.inflight,
        victim,
        frozen: options.frozen,
        gib: options.gib,
        hgrm: options.hgrm.clone(),
        hlog: options.hlog.clone(),
        program: None,
    };
    clean_up_when_stopped()?;
    let report = bench
        .run(&settings)
        .map_err(|error| Failure::new(format!("bench {name} failed")).caused_by(&error))?;
    if options.json {
        let json = serde_json::to_string(&report)
            .map_err(|error| Failure::new("cannot print the report").caused_by(&error))?;
        print_data(&format!("{json}\n"))?;
    } else {
        print_data(&format!("{report}\n"))?;
    }
    Ok(Exit::Ok)
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
