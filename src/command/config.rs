//! `hotpair config`: what is wrong with a file, and what it comes to.

use std::path::PathBuf;

use serde_json::json;

use crate::config::{ArbiterKind, Config, Mode};
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json};

/// What can be done.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Say whether a configuration can be used
    Check {
        /// The file
        file: PathBuf,
    },
    /// Show what a configuration comes to, defaults included
    Show {
        /// The file
        file: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
pub(crate) fn run(action: &Action) -> Outcome {
    match action {
        Action::Check { file } => {
            let config = Config::load(file)?;
            print_data(&format!(
                "{} is valid: node {} of pair {}, region {} of {} MiB\n",
                file.display(),
                config.file.pair.node.letter(),
                config.file.pair.name.get_ref(),
                config.region_name(),
                region_bytes(&config)? >> 20
            ))?;
        }
        Action::Show { file, json } => {
            let shown = show(&Config::load(file)?)?;
            if *json {
                print_json(&shown)?;
            } else {
                print_data(&format!("{shown:#}\n"))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn region_bytes(config: &Config) -> Result<u64, Failure> {
    let bytes = config.geometry().region_bytes();
    bytes.map_err(|error| Failure::new("there can be no such region").caused_by(&error))
}

fn show(config: &Config) -> Result<serde_json::Value, Failure> {
    let file = &config.file;
    let mode = match file.replication.mode {
        Mode::Sync => "sync",
        Mode::Local => "local",
    };
    let ports: Vec<_> = file
        .port
        .iter()
        .map(|port| {
            json!({
                "name": port.name.get_ref(), "queue": port.queue.get_ref(),
                "kind": port.kind.name(), "sandbox": port.sandbox,
                "user": port.user.as_ref().map(|user| user.get_ref()),
                "bind": port.bind.map(|address| address.to_string()), "holder": port.holder,
                "remote": port.remote, "ingest": port.ingest().name(),
                "mode": port.mode.get_ref().to_json(), "busy_poll": port.busy_poll, "packet_bytes_max": port.packet_bytes_max,
            })
        })
        .collect();
    let workers: Vec<_> = file
        .worker
        .iter()
        .map(|worker| {
            json!({
                "queue": worker.queue.get_ref(), "command": worker.command.get_ref(),
                "count": worker.count,
            })
        })
        .collect();
    let queues: Vec<_> = file
        .queue
        .iter()
        .map(|queue| {
            json!({
                "name": queue.name.get_ref(), "lanes": queue.lanes,
                "deadline": queue.deadline.as_ref().map(|span| span.get_ref().to_string()),
                "lease": queue.lease.as_ref().map(|span| span.get_ref().to_string()),
                "on_lease_expiry": format!("{:?}", queue.on_lease_expiry).to_lowercase(),
                "overload": queue.overload.name(),
            })
        })
        .collect();
    let classes: Vec<_> = file
        .region
        .class
        .iter()
        .map(|class| json!({"payload_bytes": class.payload_bytes, "blocks": class.blocks}))
        .collect();
    let links: Vec<_> = file
        .replication
        .links
        .iter()
        .map(toml::Spanned::get_ref)
        .map(|link| json!({ "listen": link.listen.to_string(), "peer": link.peer.to_string() }))
        .collect();
    Ok(json!({
        "v": 1,
        "pair": file.pair.name.get_ref(),
        "node": file.pair.node.letter(),
        "pki": file.pki.dir,
        "arbiter": {
            "kind": match file.arbiter.kind.get_ref() {
                ArbiterKind::Witness => "witness",
                ArbiterKind::Etcd => "etcd",
                ArbiterKind::None => "none",
            },
            "witness": file.witness.as_ref().map(|witness| witness.address.to_string()),
            "store": file.arbiter.store.as_ref().map(|store| store.get_ref()),
            "endpoints": file.arbiter.endpoints.as_ref().map(|endpoints| endpoints.get_ref()),
        },
        "replication": {
            "listen": file.replication.listen.get_ref().to_string(),
            "peer": file.replication.peer.to_string(),
            "mode": mode,
            "period": file.replication.period.get_ref().to_string(),
            "divergences": config.divergences(),
            "ack_wait": file.replication.ack_wait.get_ref().to_string(),
            "lease": file.replication.lease.get_ref().to_string(),
            "spin_percent": file.replication.spin_percent.get_ref(),
            "links": links,
        },
        "heartbeat": {
            "every": file.heartbeat.every.get_ref().to_string(),
            "misses": file.heartbeat.misses.get_ref(),
        },
        "journal": {
            "dir": config.journal_dir(),
            "fsync": format!("{:?}", file.journal.fsync).to_lowercase(),
            "interval": file.journal.interval.get_ref().to_string(),
            "segment": file.journal.segment.get_ref().to_string(),
        },
        "region": {
            "name": config.region_name(), "bytes": region_bytes(config)?,
            "slots": file.region.slots, "participants": file.region.participants,
            "tx_entries": file.region.tx_entries, "max_attempts": file.region.max_attempts,
            "inbox_limit": file.region.inbox_limit,
            "ingest_percent": file.region.ingest_percent, "magazine": file.region.magazine,
            "keep": file.region.keep, "class": classes,
        },
        "queue": queues, "port": ports, "worker": workers,
    }))
}
