//! `hotpair hold`: a process that maps nothing opens the service sockets once.

use std::path::Path;

use hotpair_ioports::{HeldAddress, Holder};

use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::report::{Failure, Outcome, print_data};

/// Reads `service=127.0.0.1:5060`, `store=tcp:127.0.0.1:6379` or `calls=unix:/run/calls.sock`.
pub(crate) fn parse_socket(text: &str) -> Result<(String, HeldAddress), String> {
    let wrong = || format!("`{text}` is not PORT=ADDRESS, such as service=127.0.0.1:5060");
    let (name, address) = text.split_once('=').ok_or_else(wrong)?;
    Ok((name.to_owned(), address.parse().map_err(|_| wrong())?))
}

/// Serves until a signal asks to stop.
pub(crate) fn run(at: &Path, sockets: &[(String, HeldAddress)]) -> Outcome {
    let signals = Signals::listen()?;
    let named = sockets.iter().map(|(name, address)| (name.as_str(), address.clone()));
    let holder = Holder::open(at, named).map_err(|error| {
        let failure = Failure::new("cannot hold the service sockets").caused_by(&error);
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    })?;
    for (name, _) in sockets {
        if let Some(address) = holder.place(name) {
            print_data(&format!("{name} is {address}, handed out at {}\n", at.display()))?;
        }
    }
    let serving = holder
        .spawn()
        .map_err(|error| Failure::new("cannot hand sockets out").caused_by(&error))?;
    while !signals.stop_requested() {
        wait(&[std::os::fd::AsFd::as_fd(&signals)], std::time::Duration::from_secs(60));
    }
    drop(serving);
    Ok(Exit::Ok)
}
