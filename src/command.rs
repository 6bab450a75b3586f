//! The commands, one file each: small ones that need no module of their own elsewhere.

pub(crate) mod asking;
pub(crate) mod bench;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod dump;
pub(crate) mod events;
pub(crate) mod gateway;
pub(crate) mod generate;
pub(crate) mod hold;
pub(crate) mod journal;
pub(crate) mod node;
pub(crate) mod pki;
pub(crate) mod port;
pub(crate) mod region;
pub(crate) mod reload;
pub(crate) mod rows;
pub(crate) mod snapshot;
pub(crate) mod standstill;
pub(crate) mod status;
pub(crate) mod support_bundle;
pub(crate) mod switch;
pub(crate) mod top;
pub(crate) mod witness;

use std::path::PathBuf;

use hotpair_shm::{AttachError, Region};

use crate::cli::RegionChoice;
use crate::config::Config;
use crate::exit::Exit;
use crate::report::Failure;

/// Opens the chosen region for looking only.
fn observe(choice: &RegionChoice) -> Result<Region, Failure> {
    let name = region_name(choice)?;
    let path: PathBuf = Region::path_for(&name);
    Region::observe(&path).map_err(|error| {
        let failure = Failure::new(format!("cannot look at region {name}")).caused_by(&error);
        match error {
            AttachError::Missing { .. } => failure
                .help("start its node with `hotpair node`; `hotpair region list` shows what runs")
                .exit(Exit::NotRunning),
            _ => failure.exit(Exit::Failed),
        }
    })
}

/// What the chosen region is called.
fn region_name(choice: &RegionChoice) -> Result<String, Failure> {
    match (&choice.region, &choice.config) {
        (Some(name), _) => Ok(name.clone()),
        (None, Some(path)) => Ok(Config::load(path)?.region_name().to_owned()),
        (None, None) => unreachable!("the command line requires one of them"),
    }
}

/// Bytes as people and JSON can read them: text if it is text, else hexadecimal.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => text.to_owned(),
        _ => hex(bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::from("0x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}
