//! `hotpair bench`: measuring, with the harness of `hotpair-perf`.

use std::path::PathBuf;

use hotpair_perf::{Options as Settings, Victim, find, registry};

use crate::config::Span;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data};

/// What to measure, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Name of the bench; without one, all are listed
    name: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// How long to measure, such as 5s
    #[arg(long, value_parser = Span::parse)]
    seconds: Option<Span>,
    /// How often, where a run is a whole story
    #[arg(long)]
    runs: Option<u32>,
    /// Wait by polling instead of sleeping
    #[arg(long)]
    busy_poll: bool,
    /// Whom `failover` kills: primary or node
    #[arg(long, default_value = "primary")]
    victim: String,
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
            print_data(&format!("{:<12} {}\n", bench.name, bench.question))?;
        }
        return Ok(Exit::Ok);
    };
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
        busy_poll: options.busy_poll,
        victim,
        hgrm: options.hgrm.clone(),
        hlog: options.hlog.clone(),
        program: None,
    };
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
