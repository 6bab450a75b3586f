//! The `hotpair` program: command line, supervision of processes, and the demo.

mod bus_error;
mod cli;
mod clock;
mod command;
mod config;
mod credentials;
mod demo;
mod exit;
mod lab;
mod looks;
mod process;
mod recording;
mod region_file;
mod report;
mod service;
mod supervisor;
mod web;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    bus_error::explain();
    // Messages are for people and go to stderr; HOTPAIR_LOG=debug shows more of them.
    let filter = EnvFilter::try_from_env("HOTPAIR_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let to_people = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(to_people.with_filter(filter))
        .with(recording::Warnings.with_filter(LevelFilter::WARN))
        .init();
    match cli::run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print();
            failure.code().into()
        }
    }
}
