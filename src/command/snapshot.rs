//! `hotpair snapshot`: the state of a region that stands still, put aside and made a region again.
//!
//! It is a journal of one checkpoint, so what shows and replays a journal shows and loads it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hotpair_replica::node::{SaveConfig, SaveError, save};
use hotpair_shm::{Region, Role};
use serde_json::json;

use super::journal;
use crate::config::{Config, Member};
use crate::credentials;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json};

/// What can be done.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Put the state of a region that stands still into a directory: after `hotpair pause`, or while no process uses it
    Save {
        /// Configuration file of the node
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Directory that is made, or is empty
        dir: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Make the region of a node that does not run; `hotpair promote --accept-loss` lets it serve
    Load {
        /// Configuration file of the node
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Directory that was saved into
        dir: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check all of it, and show what it holds; exit code 7 if it is not whole
    Inspect {
        /// Directory that was saved into
        dir: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
pub(crate) fn run(action: &Action) -> Outcome {
    match action {
        Action::Save { config, dir, json } => save_into(&Config::load(config)?, dir, *json),
        Action::Load { config, dir, json } => {
            journal::replay_into(&Config::load(config)?, Some(dir), *json)
        }
        Action::Inspect { dir, json } => {
            journal::show::run(dir, journal::show::Called::Snapshot, *json)
        }
    }
}

/// A region that was paused a moment ago may have commits that its node has not gathered.
const SETTLING: Duration = Duration::from_secs(1);

fn save_into(config: &Config, dir: &Path, as_json: bool) -> Outcome {
    let name = config.region_name();
    let wanted = SaveConfig {
        region: Region::path_for(name),
        dir: dir.to_owned(),
        cluster: credentials::of_node(config)?.cluster().id,
        node: match config.file.pair.node {
            Member::A => 1,
            Member::B => 2,
        },
    };
    let until = Instant::now() + SETTLING;
    let saved = loop {
        match save(&wanted) {
            Err(SaveError::Moving { role: Role::Changing }) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            saved => break saved.map_err(|error| explain(name, &error))?,
        }
    };
    if as_json {
        print_json(&json!({
            "v": 1, "region": name, "snapshot": dir, "upto": saved.at.to_string(),
            "objects": saved.objects, "bytes": saved.bytes,
        }))?;
    } else {
        print_data(&format!(
            "{} holds the state up to {}: {} objects, {} bytes\n",
            dir.display(),
            saved.at,
            saved.objects,
            saved.bytes
        ))?;
    }
    Ok(Exit::Ok)
}

fn explain(name: &str, error: &SaveError) -> Failure {
    let failure = Failure::new(format!("cannot save the state of region {name}")).caused_by(error);
    match error {
        SaveError::Attach { .. } => failure
            .help("`hotpair region list` shows the regions of this host")
            .exit(Exit::NotRunning),
        SaveError::Moving { .. } => failure
            .help(format!(
                "`hotpair pause --region {name}` on the primary first, and `hotpair resume` after it"
            ))
            .exit(Exit::Refused),
        SaveError::Moved { .. } => failure.help("pause it again, and save again").exit(Exit::Refused),
        SaveError::NotEmpty { .. } => failure.help("name another directory").exit(Exit::Refused),
        SaveError::Nothing => failure.exit(Exit::Refused),
        SaveError::Late { .. } => failure.exit(Exit::TimedOut),
        _ => failure,
    }
}
