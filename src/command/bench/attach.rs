//! `hotpair bench attach`: the stages of the requests that a running pair serves, read from its region without taking part.

use std::path::Path;
use std::time::Duration;

use hotpair_perf::Attached;
use hotpair_shm::Role;

use super::Options;
use crate::cli::RegionChoice;
use crate::command::observe;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json};

/// How long it looks if nobody says.
const SECONDS: Duration = Duration::from_secs(10);

pub(super) fn run(options: &Options) -> Outcome {
    let Some(pair) = &options.pair else {
        return Err(Failure::new("bench attach does not know which pair")
            .help("add --pair with the name of the primary's region, or its node's configuration file")
            .exit(Exit::Usage));
    };
    let region = observe(&choice(pair))?;
    if region.role().role() != Role::Primary {
        return Err(Failure::new(format!("cannot see requests in region {}", region.name()))
            .because(format!(
                "its role is {}: requests are served by a primary",
                region.role().role()
            ))
            .help("look at the region of the other node")
            .exit(Exit::Failed));
    }
    let span = options.seconds.map_or(SECONDS, |span| span.0);
    let seen = Attached::look(&region, || std::thread::sleep(span));
    if options.json {
        let json = serde_json::to_value(&seen)
            .map_err(|error| Failure::new("cannot print the stages").caused_by(&error))?;
        print_json(&json)?;
    } else {
        print_data(&format!("{seen}\n"))?;
    }
    Ok(Exit::Ok)
}

/// A file if there is one of this name, else a region.
fn choice(pair: &str) -> RegionChoice {
    let is_file = pair.contains('/') || Path::new(pair).is_file();
    RegionChoice {
        region: (!is_file).then(|| pair.to_owned()),
        config: is_file.then(|| pair.into()),
    }
}
