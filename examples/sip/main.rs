//! A SIP user-agent server whose calls survive the death of the host that serves them.
//!
//! ```text
//!   packet ─► sip port ─► message to the object of its Call-ID ─► sip worker ─► one commit:
//!             classify.rs   queue `calls`, value state.rs         call.rs       new state, answers,
//!                                                                               timer, call record
//! ```
//!
//! Everything that is known of a call stands in its object's value; a worker keeps nothing from one
//! claim to the next. So any worker may serve any packet of any call, on either host.
//!
//! A pair runs it by its configuration, which names `sip port` as the command of a `[[port]]` and
//! `sip worker` as the command of a `[[worker]]`; `tests/sip/pair.rs` has such a file for one host,
//! `tests/sip/hosts.rs` for two with an address that moves. Ended calls are objects of queue `cdr`,
//! keyed by Call-ID: `hotpair dump --queue cdr --json`.

mod call;
mod classify;
mod effects;
mod fields;
mod message;
mod port;
mod record;
mod reply;
mod state;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use hotpair_ioports::{PortConfig, SocketSource};

/// A SIP user-agent server on a hotpair region.
#[derive(Parser)]
#[command(name = "sip")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve calls.
    Worker(WorkerArguments),
    /// Bring packets to the calls that they belong to.
    Port(PortArguments),
}

#[derive(Args)]
struct WorkerArguments {
    /// The region's name. The node that starts this says it as HOTPAIR_REGION.
    #[arg(long)]
    space: Option<String>,
    /// The queue of the calls.
    #[arg(long, default_value = "calls")]
    queue: String,
    /// The port that answers leave by.
    #[arg(long, default_value = "sip")]
    port: String,
    /// How long it rings, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    ring_ms: u64,
    /// For how long an ended call answers retransmissions, in milliseconds (timer J).
    #[arg(long, default_value_t = 32_000)]
    linger_ms: u64,
}

#[derive(Args)]
struct PortArguments {
    /// The region's name. The node that starts this says it as HOTPAIR_REGION.
    #[arg(long)]
    space: Option<String>,
    /// The port's name in the configuration (HOTPAIR_PORT).
    #[arg(long)]
    port: Option<String>,
    /// The queue of the calls (HOTPAIR_QUEUE).
    #[arg(long)]
    queue: Option<String>,
    /// The socket: IP:PORT, holder:PATH#NAME or fd:NUMBER.
    #[arg(long)]
    socket: SocketSource,
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
            let settings = call::Settings {
                ring: Duration::from_millis(arguments.ring_ms),
                linger: Duration::from_millis(arguments.linger_ms),
                ..call::Settings::default()
            };
            let space = given(arguments.space, "--space", "HOTPAIR_REGION")?;
            worker::run(&space, &arguments.queue, &arguments.port, settings)
        }
        Command::Port(arguments) => {
            let space = given(arguments.space, "--space", "HOTPAIR_REGION")?;
            let port = given(arguments.port, "--port", "HOTPAIR_PORT")?;
            let queue = given(arguments.queue, "--queue", "HOTPAIR_QUEUE")?;
            port::run(&space, &PortConfig::new(&port, &queue, arguments.socket))
        }
    }
}

/// An argument, or what the node that started us says in its place.
fn given(argument: Option<String>, name: &str, variable: &str) -> anyhow::Result<String> {
    argument
        .or_else(|| std::env::var(variable).ok())
        .with_context(|| format!("neither {name} nor {variable} says where this belongs"))
}
