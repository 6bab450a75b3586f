//! A store that speaks the protocol of Redis (RESP2, RESP3), and loses nothing that it has acknowledged.
//!
//! ```text
//!   client ─TCP─► resp port ─► message to the object of the connection ─► resp worker ─► one commit:
//!                 protocol.rs     queue `connections`, session.rs         worker.rs      keys (store.rs), answers
//!                                                                         commands.rs
//!   key ─ an object of queue `keys`, value.rs ─── its timer is due ─────► resp expire ─► withdrawn
//! ```
//!
//! `docs/decisions/0026-resp.md` says why it is cut so, and what several workers mean for commands of several keys.
//!
//! A pair runs it by its configuration, which names `resp port` as the command of a `[[port]]`, `resp worker` and `resp
//! expire` as those of two `[[worker]]`; `tests/resp/pair.rs` has such a file.

mod commands;
mod port;
mod protocol;
mod reply;
mod session;
mod store;
#[cfg(test)]
mod tests;
mod value;
mod worker;

use std::num::NonZero;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use hotpair_ioports::SocketSource;
use tracing_subscriber::EnvFilter;

/// A store with the protocol of Redis, on a hotpair region.
#[derive(Parser)]
#[command(name = "resp")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Carry out the commands of connections.
    Worker(WorkerArguments),
    /// End the keys whose time is over.
    Expire(ExpireArguments),
    /// Bring commands to the connections that they came by.
    Port(PortArguments),
}

#[derive(Args)]
struct WorkerArguments {
    /// The region's name. The node that starts this says it as HOTPAIR_REGION.
    #[arg(long)]
    space: Option<String>,
    /// The queue of the connections.
    #[arg(long, default_value = "connections")]
    queue: String,
    /// The queue of the keys.
    #[arg(long, default_value = "keys")]
    keys: String,
    /// The port that answers leave by.
    #[arg(long, default_value = "store")]
    port: String,
}

#[derive(Args)]
struct ExpireArguments {
    /// The region's name. The node that starts this says it as HOTPAIR_REGION.
    #[arg(long)]
    space: Option<String>,
    /// The queue of the keys.
    #[arg(long, default_value = "keys")]
    queue: String,
}

#[derive(Args)]
struct PortArguments {
    /// The region's name. The node that starts this says it as HOTPAIR_REGION.
    #[arg(long)]
    space: Option<String>,
    /// The port's name in the configuration (HOTPAIR_PORT).
    #[arg(long)]
    port: Option<String>,
    /// The queue of the connections (HOTPAIR_QUEUE).
    #[arg(long)]
    queue: Option<String>,
    /// Where connections come from: IP:PORT, service:IP:PORT, holder:PATH#NAME or fd:NUMBER.
    #[arg(long)]
    socket: SocketSource,
    /// The longest command, in bytes: at least 8,192. A block has to hold it and 64 bytes more.
    #[arg(long, default_value = "16000")]
    command_bytes: NonZero<u32>,
    /// Connections at a time.
    #[arg(long, default_value_t = 1024)]
    connections: usize,
    /// From the first byte of a command to its last, in milliseconds.
    #[arg(long, default_value_t = 10_000)]
    command_wait_ms: u64,
}

fn main() -> ExitCode {
    // As the nodes say it: HOTPAIR_LOG, `info` without it.
    let filter = EnvFilter::try_from_env("HOTPAIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    log.with_writer(std::io::stderr).with_ansi(false).init();
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
            let space = given(arguments.space, "--space", "HOTPAIR_REGION")?;
            worker::run(&space, &arguments.queue, &arguments.keys, &arguments.port)
        }
        Command::Expire(arguments) => {
            let space = given(arguments.space, "--space", "HOTPAIR_REGION")?;
            worker::expire(&space, &arguments.queue)
        }
        Command::Port(arguments) => {
            let settings = port::Settings {
                port: given(arguments.port, "--port", "HOTPAIR_PORT")?,
                queue: given(arguments.queue, "--queue", "HOTPAIR_QUEUE")?,
                socket: arguments.socket,
                command_bytes_max: arguments.command_bytes,
                connections_max: arguments.connections,
                frame_wait: Duration::from_millis(arguments.command_wait_ms),
            };
            port::run(&given(arguments.space, "--space", "HOTPAIR_REGION")?, settings)
        }
    }
}

/// An argument, or what the node that started us says in its place.
fn given(argument: Option<String>, name: &str, variable: &str) -> anyhow::Result<String> {
    argument
        .or_else(|| std::env::var(variable).ok())
        .with_context(|| format!("neither {name} nor {variable} says where this belongs"))
}
