//! `hotpair get`, `put`, `send` and `watch`: an object of whichever node serves, from any host.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hotpair_worker::remote::{RemoteClient, RemoteError, Seen};
use hotpair_worker::{Error, Seq, Wait};
use serde_json::json;

use super::dump::{self, key_bytes, text_of};
use super::{hex, readable};
use crate::cli::RegionChoice;
use crate::config::{FarConfig, Span};
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_while_read};

/// Longest wait in one go: a watch is stopped by a signal, and otherwise never.
const WATCH_WAIT: Duration = Duration::from_secs(3600);

/// What is done with a client: to an object of a queue, with some bytes.
type Act = fn(&RemoteClient, &str, &[u8], &[u8]) -> Result<Seq, Error>;

/// An object, and how long is waited for a node.
#[derive(Debug, Args)]
pub(crate) struct Object {
    /// Its queue
    #[arg(long)]
    queue: String,
    /// Its key, as text or as 0x and hexadecimal digits
    key: String,
    /// How long is waited for a node that answers
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = Span::parse)]
    timeout: Span,
}

/// Options of `get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    region: RegionChoice,
    /// Through the gateways of both nodes; docs/hotpair-remote.toml shows such a host's configuration
    #[arg(long, requires = "config", conflicts_with = "region")]
    remote: bool,
    #[command(flatten)]
    object: Object,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Options of `put` and `send`.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Configuration of this host; docs/hotpair-remote.toml shows one
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    object: Object,
    /// The value or message; without it, what comes by stdin
    #[arg(conflicts_with = "file")]
    value: Option<String>,
    /// It is hexadecimal digits
    #[arg(long, requires = "value")]
    hex: bool,
    /// It is what is in this file
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

/// Options of `watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Configuration of this host; docs/hotpair-remote.toml shows one
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    object: Object,
    /// Ends after so many states
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Object {
    fn client(&self, config: &Path) -> Result<RemoteClient, Failure> {
        FarConfig::load(config)?.client(self.timeout.0)
    }

    fn failed(&self, verb: &str, error: &Error) -> Failure {
        let failure = Failure::new(format!("cannot {verb} {}", self.key)).caused_by(error);
        match error {
            Error::Remote(RemoteError::Unanswered { .. }) => failure
                .help("`hotpair status` on the hosts of both nodes says whether one of them serves")
                .exit(Exit::TimedOut),
            _ => failure,
        }
    }

    /// False: nobody reads any more.
    fn print(&self, seen: &Seen, as_json: bool) -> Result<bool, Failure> {
        let (queue, seq) = (&self.queue, seen.seq());
        if as_json {
            let key = key_bytes(&self.key);
            let line = json!({
                "v": 1,
                "queue": queue,
                "key": readable(&key),
                "key_hex": hex(&key),
                "found": seen.value().is_some(),
                "value": seen.value().map(text_of),
                "value_hex": seen.value().map(hex),
                "seq": seq.to_string(),
            });
            return print_while_read(&format!("{line}\n"));
        }
        let value = seen.value().map_or("there is no such object".to_owned(), readable);
        print_while_read(&format!("{queue} {}, at {seq}: {value}\n", self.key))
    }
}

/// Prints an object of a region, or of whichever node serves.
pub(crate) fn get(get: &Get) -> Outcome {
    let Get { region, remote, object, json } = get;
    let config = match &region.config {
        Some(config) if *remote => config,
        _ => return dump::get(region, &object.queue, &object.key, *json),
    };
    let client = object.client(config)?;
    let seen = client.get(&object.queue, &key_bytes(&object.key));
    let seen = seen.map_err(|error| object.failed("get", &error))?;
    if seen.value().is_none() {
        return Err(Failure::new(format!("cannot get {}", object.key)).because(format!(
            "queue {} has no such object, as of {}",
            object.queue,
            seen.seq()
        )));
    }
    object.print(&seen, *json)?;
    Ok(Exit::Ok)
}

/// Puts a value.
pub(crate) fn put(change: &Change) -> Outcome {
    change.run("put", RemoteClient::put)
}

/// Sends a message.
pub(crate) fn send(change: &Change) -> Outcome {
    change.run("send to", RemoteClient::send)
}

impl Change {
    fn run(&self, verb: &str, act: Act) -> Outcome {
        let object = &self.object;
        let value = self.value()?;
        let client = object.client(&self.config)?;
        match act(&client, &object.queue, &key_bytes(&object.key), &value) {
            Ok(_) => Ok(Exit::Ok),
            Err(error @ Error::Remote(RemoteError::Unanswered { .. })) => Err(object
                .failed(verb, &error)
                .help("whether it has happened is not known: look with `hotpair get --remote`")),
            Err(error) => Err(object.failed(verb, &error)),
        }
    }

    fn value(&self) -> Result<Vec<u8>, Failure> {
        let failed = || Failure::new("cannot read the value");
        match (&self.value, &self.file) {
            (Some(text), _) if self.hex => {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                let bytes = key_bytes(&format!("0x{digits}"));
                // What is not digits stays text, and begins with 0x.
                if bytes.len() * 2 != digits.len() {
                    return Err(failed()
                        .because(format!("{text} is no even number of hexadecimal digits"))
                        .exit(Exit::Usage));
                }
                Ok(bytes)
            }
            (Some(text), _) => Ok(text.as_bytes().to_vec()),
            (None, Some(path)) => fs::read(path)
                .map_err(|error| failed().because(format!("{}: {error}", path.display()))),
            (None, None) => {
                let mut bytes = Vec::new();
                io::stdin().read_to_end(&mut bytes).map_err(|error| failed().caused_by(&error))?;
                Ok(bytes)
            }
        }
    }
}

/// Prints states until a signal comes, or as many as were asked for.
pub(crate) fn watch(watch: &Watch) -> Outcome {
    let Watch { config, object, count, json } = watch;
    let client = object.client(config)?;
    let failed = |error: Error| object.failed("watch", &error);
    let mut states = client.watch(&object.queue, &key_bytes(&object.key)).map_err(failed)?;
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        if let Some(seen) = states.next(Wait::default().for_at_most(WATCH_WAIT)).map_err(failed)? {
            left = if object.print(&seen, *json)? { left - 1 } else { 0 };
        }
    }
    Ok(Exit::Ok)
}
