//! A source NAT for IPv4 whose flows survive the death of the host that serves them: TCP, UDP, ICMP echo, and errors about them.
//!
//! ```text
//!   inside ─► port `inside` ─┐                                     ┌─► port `first` ───┐
//!                            ├─► object of the flow's slice ─► worker ─► port `outside` ┼─► outside
//!   outside ─► port `outside`┘   slice.rs, value table.rs          └─► port `inside` ──┴─► inside
//! ```
//!
//! What is known of a flow stands in the value of its slice and nowhere else, so any worker may serve any packet, on either host.
//! docs/decisions/0027-nat.md says why it is made so and what it promises; `tests/nat/pair.rs` has a configuration.

mod announce;
mod arp;
mod checksum;
mod count;
mod flow;
mod frame;
mod neighbours;
mod network;
mod port;
mod slice;
mod table;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use hotpair_ioports::PortConfig;

use count::Counts;
use flow::Limits;
use network::{Network, Side};
use worker::{Ports, Server};

/// A source NAT on a hotpair region.
#[derive(Parser)]
#[command(name = "nat")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pass packets on.
    Worker(WorkerArguments),
    /// Bring the frames of an interface to the flows that they belong to.
    Port(PortArguments),
}

#[derive(Args)]
struct WorkerArguments {
    #[command(flatten)]
    network: Network,
    /// The region's name. The node that starts this says it as HOTPAIR_REGION.
    #[arg(long)]
    space: Option<String>,
    /// The queue of the slices (HOTPAIR_QUEUE).
    #[arg(long)]
    queue: Option<String>,
    /// The port that packets for inside leave by.
    #[arg(long, default_value = "inside")]
    inside_port: String,
    /// The port that packets of answered flows leave by.
    #[arg(long, default_value = "outside")]
    outside_port: String,
    /// The port, of mode sync, that packets of other flows leave by.
    #[arg(long, default_value = "first")]
    first_port: String,
    /// How often the age of flows is looked at, in milliseconds: how coarse the other times are.
    #[arg(long, default_value_t = millis(Limits::default().tick))]
    tick_ms: u64,
    /// How long an unanswered flow may be silent, and an echo, in milliseconds.
    #[arg(long, default_value_t = millis(Limits::default().opening))]
    opening_ms: u64,
    /// The same of an open TCP connection.
    #[arg(long, default_value_t = millis(Limits::default().tcp_open))]
    tcp_ms: u64,
    /// The same of an answered flow of UDP.
    #[arg(long, default_value_t = millis(Limits::default().udp_open))]
    udp_ms: u64,
    /// The same of a TCP connection that has ended.
    #[arg(long, default_value_t = millis(Limits::default().closing))]
    closing_ms: u64,
    /// A directory for what is counted: one file a worker, once a second, for a collector of text files.
    #[arg(long)]
    counts: Option<PathBuf>,
}

#[derive(Args)]
struct PortArguments {
    #[command(flatten)]
    network: Network,
    /// The region's name. The node that starts this says it as HOTPAIR_REGION.
    #[arg(long)]
    space: Option<String>,
    /// The port's name in the configuration (HOTPAIR_PORT).
    #[arg(long)]
    port: Option<String>,
    /// The queue of the slices (HOTPAIR_QUEUE).
    #[arg(long)]
    queue: Option<String>,
    /// Whose frames: it must get those for other addresses than its own (`ip link set IFACE promisc on`).
    #[arg(long)]
    interface: String,
    /// Which side that is.
    #[arg(long)]
    side: Side,
    /// Nothing is read: another port reads there, and this one is of another mode.
    #[arg(long)]
    send_only: bool,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Worker(arguments) => {
            ensure!(arguments.tick_ms > 0, "--tick-ms 0: a look takes time");
            let limits = Limits {
                tick: Duration::from_millis(arguments.tick_ms),
                opening: Duration::from_millis(arguments.opening_ms),
                tcp_open: Duration::from_millis(arguments.tcp_ms),
                udp_open: Duration::from_millis(arguments.udp_ms),
                closing: Duration::from_millis(arguments.closing_ms),
            };
            let ports = Ports {
                inside: arguments.inside_port,
                outside: arguments.outside_port,
                first: arguments.first_port,
            };
            let space = given(arguments.space, "--space", "HOTPAIR_REGION")?;
            let queue = given(arguments.queue, "--queue", "HOTPAIR_QUEUE")?;
            let (network, counts) = (arguments.network, Counts::new(arguments.counts)?);
            let server = Server { network, queue: &queue, ports: &ports, limits, counts: &counts };
            worker::run(&space, &server)
        }
        Command::Port(arguments) => {
            let space = given(arguments.space, "--space", "HOTPAIR_REGION")?;
            let port = given(arguments.port, "--port", "HOTPAIR_PORT")?;
            let queue = given(arguments.queue, "--queue", "HOTPAIR_QUEUE")?;
            let frames = PortConfig::frames(&port, &queue, &arguments.interface);
            let config = PortConfig { send_only: arguments.send_only, ..frames };
            port::run(&space, &config, arguments.side, arguments.network)
        }
    }
}

/// An argument, or what the node that started us says in its place.
fn given(argument: Option<String>, name: &str, variable: &str) -> anyhow::Result<String> {
    argument
        .or_else(|| std::env::var(variable).ok())
        .with_context(|| format!("neither {name} nor {variable} says where this belongs"))
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}
