//! `hotpair journal`: what a node's journal holds, and a region made from it.

pub(super) mod show;

use std::path::{Path, PathBuf};

use hotpair_replica::node::{ReplayConfig, ReplayError, Replayed, replay};
use hotpair_shm::{CreateError, Region};
use serde_json::{Value, json};

use crate::config::Config;
use crate::credentials;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json};

/// What can be done.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Show checkpoints, segments and what a replay would lead to; exit code 7 if it could not read all of it
    Show {
        /// The journal's directory: `dir` under [journal]
        dir: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Make the region of a node from its journal, where both regions are gone; `hotpair promote --accept-loss` lets it
    /// serve
    Replay {
        /// Configuration file of the node
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Another journal than the configuration's: the other node's, or one that was put aside
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
pub(crate) fn run(action: &Action) -> Outcome {
    match action {
        Action::Show { dir, json } => show::run(dir, show::Called::Journal, *json),
        Action::Replay { config, from, json } => {
            replay_into(&Config::load(config)?, from.as_deref(), *json)
        }
    }
}

pub(super) fn replay_into(config: &Config, from: Option<&Path>, as_json: bool) -> Outcome {
    let name = config.region_name();
    let failed = || Failure::new(format!("cannot make region {name} from a journal"));
    let Some(dir) = from.or(config.journal_dir()) else {
        return Err(failed()
            .because("the configuration has no `dir` under [journal]")
            .help("--from DIR names the directory of a journal")
            .exit(Exit::Usage));
    };
    let credentials = credentials::of_node(config)?;
    let replayed = replay(&ReplayConfig {
        dir: dir.to_owned(),
        cluster: credentials.cluster().id,
        member: credentials.identity().member.clone(),
        region: Region::path_for(name),
        geometry: config.geometry(),
    })
    .map_err(|error| explain(failed().caused_by(&error), &error, name))?;
    if as_json {
        print_json(&as_value(name, dir, &replayed))?;
    } else {
        print_data(&in_words(config, dir, &replayed))?;
    }
    Ok(Exit::Ok)
}

fn explain(failure: Failure, error: &ReplayError, name: &str) -> Failure {
    match error {
        ReplayError::Exists { .. } => failure
            .help(format!(
                "it may hold more than the journal: start the node with it, or `hotpair region remove {name}` first"
            ))
            .exit(Exit::Refused),
        ReplayError::Lock { .. } => failure.help("stop the node first").exit(Exit::Refused),
        ReplayError::Other { .. } => failure
            .help("the node's configuration must be the one with which the journal was written")
            .exit(Exit::Refused),
        ReplayError::Nothing { .. } => failure.help("`hotpair journal show DIR` shows what there is"),
        ReplayError::Create { source: CreateError::Space { .. } } => {
            failure.help("remove old regions: see `hotpair region list`")
        }
        _ => failure,
    }
}

fn in_words(config: &Config, dir: &Path, replayed: &Replayed) -> String {
    let Replayed { plan, torn, objects, packets, differs_at } = replayed;
    let mut text = format!(
        "region {} holds the state up to {}: {objects} objects, {packets} packets not known to be sent\n\
         read: checkpoint {} and {} batches of {} segments in {}\n",
        config.region_name(),
        plan.state.end,
        plan.checkpoint,
        plan.batches,
        plan.segments.len(),
        dir.display(),
    );
    for (segment, bytes) in torn {
        text += &format!(
            "cut: the last {bytes} bytes of segment {segment}, which were never written as a whole\n"
        );
    }
    if let Some(stop) = &plan.stop {
        text += &format!("left out: {stop}\n");
    }
    if let Some(at) = differs_at {
        text += &format!(
            "doubtful: at {at} this is another state than its node had, by their digests\n"
        );
    }
    let path = config.path.display();
    text += &format!(
        "lost: whatever was committed after {}\n\
         next: `hotpair node --config {path}`; no view names this region, so it waits until\n      \
         `hotpair promote --accept-loss --config {path}` lets it serve\n",
        plan.state.end
    );
    text
}

fn as_value(name: &str, dir: &Path, replayed: &Replayed) -> Value {
    let Replayed { plan, torn, objects, packets, differs_at } = replayed;
    let torn: Vec<_> =
        torn.iter().map(|(segment, bytes)| json!({"segment": segment, "bytes": bytes})).collect();
    json!({
        "v": 1, "region": name, "journal": dir, "upto": plan.state.end.to_string(),
        "checkpoint": plan.checkpoint, "segments": plan.segments, "batches": plan.batches,
        "objects": objects, "packets": packets, "torn": torn,
        "left_out": plan.stop.as_ref().map(ToString::to_string),
        "digest_differs_at": differs_at.map(|at| at.to_string()),
    })
}
