//! The command line: what there is, and where it is done.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};
use hotpair_replica::wire::VERSIONS;
use hotpair_shm::FORMAT_VERSION;

use crate::command;
use crate::command::rows::What;
use crate::config::{Config, FarConfig};
use crate::demo;
use crate::lab;
use crate::process;
use crate::report::Outcome;
use crate::supervisor;

/// A hot standby pair of shared-memory servers: state in place, twice, and carried on within
/// milliseconds.
///
/// Exit codes: 0 ok, 1 failed, 2 usage, 3 not running, 4 running but unprotected, 5 refused for
/// safety, 6 timed out, 7 difference found, 78 bad configuration.
#[derive(Debug, Parser)]
#[command(name = "hotpair", version, long_version = formats(), max_term_width = 100)]
#[command(after_help = "HOTPAIR_LOG=info (or debug) in the environment shows more on stderr.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What decides whether two builds work together: on one host, and as the nodes of a pair.
fn formats() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let (oldest, newest) = (VERSIONS.start(), VERSIONS.end());
        let version = env!("CARGO_PKG_VERSION");
        format!("{version}\nregion format {FORMAT_VERSION}\npair protocol {oldest} to {newest}")
    });
    &TEXT
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a pair on this host, load it, kill its primary, and prove that nothing was lost
    Demo(demo::Options),
    /// Run one node of a pair, with its ports and workers
    Node {
        #[command(flatten)]
        config: ConfigFile,
        /// Events as one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Run one I/O port of a node (the node does this by itself), or one on a host of its own
    Port {
        #[command(flatten)]
        config: ConfigFile,
        /// Name of the port in the configuration
        #[arg(long)]
        port: String,
        /// Through the gateways of both nodes; docs/hotpair-remote.toml shows such a host's configuration
        #[arg(long)]
        remote: bool,
    },
    /// Run the gateway of a node, by which workers of other hosts come in (the node does this by itself)
    Gateway {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Serve the metrics and the dashboard of a node, whichever are configured (the node does this by itself)
    Web {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Run the witness, which decides who is primary
    Witness(command::witness::Options),
    /// Open service sockets once and hand them to the ports of both nodes
    Hold {
        /// Path of the unix socket at which ports ask
        #[arg(long)]
        at: PathBuf,
        /// Sockets, as PORT=ADDRESS, such as service=127.0.0.1:5060, store=tcp:127.0.0.1:6379 or calls=unix:/run/calls.sock
        #[arg(required = true, value_parser = command::hold::parse_socket)]
        sockets: Vec<(String, hotpair_ioports::HeldAddress)>,
    },
    /// Show a region: role, queues, workers, ports, blocks
    Status {
        #[command(flatten)]
        region: RegionChoice,
        /// One line and the exit code of a monitoring plug-in: 0 ok, 1 warning, 2 critical, 3 unknown
        #[arg(long, conflicts_with = "json")]
        check: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Watch a region from moment to moment; q ends it
    Top(command::top::Top),
    /// Compare the objects of a region with those of the other node's, on this host or in a copy of its file
    Diff(command::diff::Diff),
    /// List or show objects
    #[command(subcommand)]
    Objects(command::rows::Objects),
    /// List or show workers, also those that died and were not replaced
    #[command(subcommand)]
    Workers(command::rows::Look),
    /// List or show ports
    #[command(subcommand)]
    Ports(command::rows::Look),
    /// List or show queues
    #[command(subcommand)]
    Queues(command::rows::Look),
    /// What happened to a region and its processes, oldest first; works when all of them are dead
    Events {
        #[command(flatten)]
        region: RegionChoice,
        /// Only so many, the newest
        #[arg(short = 'n', long, value_name = "COUNT")]
        last: Option<usize>,
        /// Go on with what happens from now on
        #[arg(short, long)]
        follow: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Each distinct error of a region's processes: how often, first and last
    Errors {
        #[command(flatten)]
        region: RegionChoice,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Let the two nodes change their roles: nothing is lost, nothing is doubled
    Failover(command::asking::Asking),
    /// Make this node primary, where nobody does so by itself
    Promote {
        #[command(flatten)]
        asking: command::asking::Asking,
        /// Also where what the other node released may be lost
        #[arg(long)]
        accept_loss: bool,
    },
    /// Read nothing more from outside, finish what is here, then stand still until `resume`
    Drain(command::asking::Asking),
    /// Stand still at once: nothing is read, begun or sent until `resume`
    Pause(command::asking::Asking),
    /// Serve again after `drain` or `pause`
    Resume(command::asking::Asking),
    /// Apply what has changed in the configuration of a running node, and say what cannot be
    Reload {
        #[command(flatten)]
        region: RegionChoice,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the objects of a queue
    Dump {
        #[command(flatten)]
        region: RegionChoice,
        /// Only this queue
        #[arg(long)]
        queue: Option<String>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print one object: of a region on this host, or with --remote what is released of it, from any host
    Get(command::client::Get),
    /// Make a value that of an object, from any host, once: it is released when this ends
    Put(command::client::Change),
    /// Send a message to an object, from any host, once: it is released when this ends
    Send(command::client::Change),
    /// Print the released states of an object, from any host: the present one, and each later one
    Watch(command::client::Watch),
    /// Make and show the certificates of a pair
    #[command(subcommand)]
    Pki(command::pki::Action),
    /// Check or show a configuration
    #[command(subcommand)]
    Config(command::config::Action),
    /// List, remove, check, rebuild or size regions of this host
    #[command(subcommand)]
    Region(command::region::Action),
    /// Show a node's journal, or make its region from it
    #[command(subcommand)]
    Journal(command::journal::Action),
    /// Put the state of a node aside, check it, or make its region from it
    #[command(subcommand)]
    Snapshot(command::snapshot::Action),
    /// Look whether this host is one on which a node does well, and say what to change; exit code 7 if there is something
    Doctor {
        /// Configuration file of the node that is to run here
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write what somebody else needs to see what is wrong into a tar file, without keys, passwords and objects
    SupportBundle {
        #[command(flatten)]
        config: ConfigFile,
        /// The file, which must not exist; hotpair-REGION.tar without this
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Measure how fast it is here, and how far from what the machine can do
    Bench(command::bench::Options),
    /// Let hosts fail on purpose, and see what their clients see
    #[command(subcommand)]
    Lab(lab::Action),
    /// Make manual pages and completions, for who packages them
    #[command(subcommand, hide = true)]
    Generate(command::generate::Action),
    #[command(hide = true)]
    NodeInner {
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(hide = true)]
    Under {
        #[arg(long)]
        parent: u32,
        #[arg(last = true)]
        argv: Vec<OsString>,
    },
    #[command(hide = true)]
    DemoClient(demo::client::Options),
    #[command(hide = true)]
    DemoWorker(demo::worker::Options),
    #[command(hide = true)]
    DemoPort(demo::port::Options),
    #[command(hide = true)]
    BenchHelper { arguments: Vec<String> },
}

/// The configuration of a node.
#[derive(Debug, Args)]
struct ConfigFile {
    /// Configuration file; docs/hotpair.toml explains every key
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, crate::report::Failure> {
        Config::load(&self.config)
    }
}

/// Which region to look at.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RegionChoice {
    /// Name of the region
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// Configuration file of its node
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Does what the command line asks for.
pub(crate) fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Demo(options) => demo::run(&options),
        Command::Node { config, json } => supervisor::run(&config.load()?, json),
        Command::Port { config, port, remote: false } => command::port::run(&config.load()?, &port),
        Command::Port { config, port, remote: true } => {
            command::port::run_far(&FarConfig::load(&config.config)?, &port)
        }
        Command::Gateway { config } => command::gateway::run(&config.load()?),
        Command::Web { config } => crate::web::run(&config.load()?),
        Command::Witness(options) => command::witness::run(&options),
        Command::Hold { at, sockets } => command::hold::run(&at, &sockets),
        Command::Status { region, check: true, .. } => command::status::check(&region),
        Command::Status { region, json, .. } => command::status::run(&region, json),
        Command::Top(top) => command::top::run(&top),
        Command::Diff(diff) => command::diff::run(&diff),
        Command::Objects(objects) => command::rows::objects(&objects),
        Command::Workers(look) => command::rows::run(What::Workers, &look),
        Command::Ports(look) => command::rows::run(What::Ports, &look),
        Command::Queues(look) => command::rows::run(What::Queues, &look),
        Command::Events { region, last, follow, json } => {
            command::events::run(&region, last, follow, json)
        }
        Command::Errors { region, json } => command::events::errors(&region, json),
        Command::Failover(asking) => command::switch::failover(&asking),
        Command::Promote { asking, accept_loss } => command::switch::promote(&asking, accept_loss),
        Command::Drain(asking) => command::standstill::drain(&asking),
        Command::Pause(asking) => command::standstill::pause(&asking),
        Command::Resume(asking) => command::standstill::resume(&asking),
        Command::Reload { region, json } => command::reload::run(&region, json),
        Command::Dump { region, queue, json } => {
            command::dump::run(&region, queue.as_deref(), json)
        }
        Command::Get(get) => command::client::get(&get),
        Command::Put(change) => command::client::put(&change),
        Command::Send(change) => command::client::send(&change),
        Command::Watch(watch) => command::client::watch(&watch),
        Command::Pki(action) => command::pki::run(&action),
        Command::Config(action) => command::config::run(&action),
        Command::Region(action) => command::region::run(&action),
        Command::Journal(action) => command::journal::run(&action),
        Command::Snapshot(action) => command::snapshot::run(&action),
        Command::Doctor { config, json } => command::doctor::run(config.as_ref(), json),
        Command::SupportBundle { config, out } => {
            command::support_bundle::run(&config.config, out.as_ref())
        }
        Command::Generate(action) => command::generate::run(&action),
        Command::Bench(options) => command::bench::run(&options),
        Command::Lab(action) => lab::run(&action),
        Command::NodeInner { config } => command::node::run(&config.load()?),
        Command::Under { parent, argv } => process::under(parent, &argv),
        Command::DemoClient(options) => demo::client::run(&options),
        Command::DemoWorker(options) => demo::worker::run(&options),
        Command::DemoPort(options) => demo::port::run(&options),
        Command::BenchHelper { arguments } => command::bench::help(&arguments),
    }
}
