//! `hotpair region`: the files in /dev/shm.

mod rebuild;
mod suggest;
mod verify;

use std::path::PathBuf;

use hotpair_shm::{AttachError, Region};
use serde_json::json;

use crate::exit::Exit;
use crate::region_file;
use crate::report::{Failure, Outcome, print_data, print_json};

/// What can be done.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// List the regions of this host and who uses them
    List {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Remove a region that no process uses
    Remove {
        /// Name of the region
        name: String,
        /// Also a file that this build cannot read
        #[arg(long)]
        force: bool,
    },
    /// Drop every hint of a region that nobody lives in, and build it again from the truth
    Rebuild {
        /// Name of the region, or path of its file
        name: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Propose sizes for a configuration from what the region has held
    Suggest {
        /// Name of the region, or path of its file
        name: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check every word of a region against what must hold; exit code 7 if something is wrong
    Verify {
        /// Name of the region, or path of its file
        name: String,
        /// Nobody lives in it and nothing may be left over
        #[arg(long)]
        strict: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
pub(crate) fn run(action: &Action) -> Outcome {
    match action {
        Action::List { json } => list(*json),
        Action::Remove { name, force } => remove(name, *force),
        Action::Rebuild { name, json } => rebuild::run(name, *json),
        Action::Suggest { name, json } => suggest::run(name, *json),
        Action::Verify { name, strict, json } => verify::run(name, *strict, *json),
    }
}

/// The file of a region given by name or by path: what contains a slash is a path.
fn path_of(name: &str) -> PathBuf {
    if name.contains('/') { PathBuf::from(name) } else { Region::path_for(name) }
}

/// Maps a region, given by name or by path, for looking only.
fn observe(name: &str) -> Result<Region, Failure> {
    Region::observe(&path_of(name)).map_err(|error| {
        let failure = Failure::new(format!("cannot look at region {name}")).caused_by(&error);
        match error {
            AttachError::Missing { .. } => {
                failure.help("`hotpair region list` shows what there is").exit(Exit::NotRunning)
            }
            _ => failure,
        }
    })
}

fn list(as_json: bool) -> Outcome {
    let mut shown = Vec::new();
    for name in region_file::names() {
        let path = Region::path_for(&name);
        let users = region_file::users_of(&path);
        let bytes = std::fs::metadata(&path).map_or(0, |facts| facts.len());
        let (role, problem) = match Region::observe(&path) {
            Ok(region) => (Some(region.role().role().to_string()), None),
            Err(error) => (None, Some(error.to_string())),
        };
        if as_json {
            shown.push(json!({
                "name": name, "bytes": bytes, "role": role, "users": users, "problem": problem,
            }));
            continue;
        }
        let state = role.or(problem).unwrap_or_default();
        let users = match users.len() {
            0 => "no processes".to_owned(),
            1 => "1 process".to_owned(),
            many => format!("{many} processes"),
        };
        print_data(&format!("{name}  {} MiB  {users}  {state}\n", bytes >> 20))?;
    }
    if as_json {
        print_json(&json!({"v": 1, "regions": shown}))?;
    }
    Ok(Exit::Ok)
}

fn remove(name: &str, force: bool) -> Outcome {
    let path = Region::path_for(name);
    let failed = || Failure::new(format!("cannot remove region {name}"));
    if !region_file::names().iter().any(|known| known == name) {
        return Err(failed()
            .because(format!("there is no {}", path.display()))
            .help("`hotpair region list` shows what there is")
            .exit(Exit::NotRunning));
    }
    // Nothing may be taken from a running service, whatever is asked for.
    if !force || !region_file::users_of(&path).is_empty() {
        region_file::removable(name, region_file::Purpose::Remove)?;
    }
    Region::remove(&path).map_err(|error| failed().caused_by(&error))?;
    print_data(&format!("removed region {name}\n"))?;
    Ok(Exit::Ok)
}
