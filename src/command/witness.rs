//! `hotpair witness`: the built-in arbiter.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use hotpair_replica::witness::{Register, WitnessServer};

use crate::credentials;
use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::report::{Failure, Outcome, print_data};

/// What a witness needs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Address to listen on (TCP)
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Directory with ca.pem and the witness's certificate and key
    #[arg(long, value_name = "DIR")]
    pki: PathBuf,
    /// Directory for the one value that it keeps; it must survive a restart
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
}

/// Serves until a signal asks to stop.
pub(crate) fn run(options: &Options) -> Outcome {
    let signals = Signals::listen()?;
    let failed = || Failure::new("cannot run the witness");
    let credentials = credentials::load(&options.pki, "witness")?;
    let register = Register::open(&options.store, credentials.cluster().id)
        .map_err(|error| failed().caused_by(&error))?;
    let server = WitnessServer::start(options.listen, register, &credentials).map_err(|error| {
        failed().caused_by(&error).help(format!(
            "see who has it with `ss -ltnp sport = :{}`, or choose another address",
            options.listen.port()
        ))
    })?;
    print_data(&format!("witness of pair {} on {}\n", credentials.cluster(), server.address()))?;
    while !signals.stop_requested() {
        wait(&[signals.as_fd()], Duration::from_secs(60));
    }
    Ok(Exit::Ok)
}
