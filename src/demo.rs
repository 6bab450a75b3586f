//! `hotpair demo`: a pair on this host, a load, a kill, and a proof that nothing was lost.
//!
//! ```text
//!   demo (maps nothing, holds the service socket)
//!    ├ witness
//!    ├ node --config a.toml ─┬ node, port, worker, worker
//!    ├ node --config b.toml ─┴ node, port, worker, worker
//!    ├ demo-client           open loop, checks every answer
//!    └ demo-worker           joins in the middle
//! ```
//! With `--remote` the nodes have gateways instead, and port and workers are children of the demo that know both.

pub(crate) mod client;
mod far;
mod hands;
mod plan;
pub(crate) mod port;
mod print;
mod run;
mod sides;
mod timeline;
mod verdict;
mod wire;
pub(crate) mod worker;

use clap::ValueEnum;

use self::hands::Hand;
use self::plan::Plan;
use self::run::Demo;
use self::verdict::{Verdict, judge};
use crate::config::Span;
use crate::exit::Exit;
use crate::process::Signals;
use crate::report::{Failure, Outcome, print_json};

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What to kill in the middle
    #[arg(long, value_enum, default_value_t = Victim::Primary)]
    kill: Victim,
    /// How often: with more than once, whoever serves then is killed as soon as the pair is protected again
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: u32,
    /// How long the load lasts, with one kill
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=86_400))]
    seconds: u32,
    /// Requests per second
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    rate: u32,
    /// Objects with a key; a tenth of the requests go to new objects without one
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    objects: u32,
    /// When an answer may leave: when the back-up has it, or at once (the control, which loses)
    #[arg(long, value_enum, default_value_t = Commit::Sync)]
    commit: Commit,
    /// Port and workers on the other side of a network: they share memory with neither node, and know both
    #[arg(long)]
    remote: bool,
    /// Makes each region so many GiB larger than it need be: a death must be noticed as fast
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    region_gib: u32,
    /// One JSON object instead of the report
    #[arg(long)]
    json: bool,
    /// A worker of each side, in place of the demo's two: "own", or a command as a JSON array; as often as there are workers
    #[arg(long, hide = true, value_name = "COMMAND", value_parser = Hand::parse)]
    worker: Vec<Hand>,
    /// Lets answers leave without waiting for the back-up
    #[arg(long, hide = true)]
    open_gate: bool,
    /// Delays the back-up's acknowledgements
    #[arg(long, hide = true, value_parser = Span::parse)]
    delay_acks: Option<Span>,
    /// How long a back-up may leave a batch unacknowledged
    #[arg(long, hide = true, value_parser = Span::parse)]
    ack_wait: Option<Span>,
    /// Writes every event of the nodes to stderr
    #[arg(long, hide = true)]
    trace: bool,
}

/// What is killed with SIGKILL, or stopped with SIGSTOP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Victim {
    /// Everything on the primary side: supervisor, node, port, workers
    Primary,
    /// The same processes, stopped instead of killed: a host that does not answer any more
    Frozen,
    /// The primary's node process; its port and workers stay alive
    Node,
    /// Everything on the back-up side
    Backup,
    /// One worker of the primary
    Worker,
    /// The port of the primary
    Port,
    /// Nothing: any change of roles is a false one
    Nobody,
}

impl Options {
    /// Who works on each side, or on the host without a region.
    fn hands(&self) -> Vec<Hand> {
        if self.worker.is_empty() { Hand::usual() } else { self.worker.clone() }
    }
}

impl Victim {
    /// Whether the other side has to take over.
    fn fails_over(self) -> bool {
        matches!(self, Victim::Primary | Victim::Frozen | Victim::Node)
    }
}

/// When an answer may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Commit {
    /// When the back-up holds the commit
    Sync,
    /// At once; nothing is replicated
    Local,
}

/// Runs the demo and reports.
pub(crate) fn run(options: &Options) -> Outcome {
    // Before any thread exists, so that all of them leave the signals to the main thread.
    let signals = Signals::listen()?;
    let plan = Plan::make(options)?;
    let mut demo = Demo::new(options, plan, signals);
    let performed = demo.perform();
    demo.stop();
    let findings = performed?;
    let (verdict, reasons) = judge(&findings);
    let report = demo.report(&findings, verdict, reasons);
    if options.json {
        print_json(&report.json())?;
    } else {
        print::report(&report)?;
    }
    drop(demo); // removes the traces before we say how it went
    Ok(match verdict {
        Verdict::Ok => Exit::Ok,
        Verdict::Lost | Verdict::Failed => Exit::Failed,
    })
}

/// The error of a demo that was asked to stop.
fn interrupted() -> Failure {
    Failure::new("the demo was interrupted")
}
