//! What has changed in a configuration while its node runs: what can be in use at once is, and of the rest is said why not.
//!
//! Two files are compared key by key, as they are written, so no key goes without a word. What the node was started with is
//! remembered; what is applied replaces it, what is not is told again each time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hotpair_replica::node::{Node, NodeEvents, NodeStop, NotApplied, Outcome, Reply};
use hotpair_replica::tls::LookNow;
use hotpair_shm::Region;
use serde_json::json;
use toml::{Table, Value};

use crate::config::Config;
use crate::report::Failure;

/// So many keys are named, whatever somebody has done to the file.
const KEYS_MAX: usize = 200;
/// And so many in an event, which is one line of a pipe.
const EVENT_KEYS_MAX: usize = 20;

/// Applies what changes.
pub(super) struct Reloader {
    path: PathBuf,
    running: Mutex<BTreeMap<String, Value>>,
    region: Region,
    stopper: NodeStop,
    certificates: LookNow,
    events: NodeEvents,
}

impl Reloader {
    pub(super) fn new(config: &Config, node: &Node) -> Result<Reloader, Failure> {
        Ok(Reloader {
            path: config.path.clone(),
            running: Mutex::new(keys(&config.text)?),
            region: node.region().clone(),
            stopper: node.stopper(),
            certificates: node.certificates(),
            events: node.events(),
        })
    }

    /// Reads the file again. Certificates are looked for in any case.
    pub(super) fn reload(&self) -> Reply {
        self.certificates.look();
        let read = Config::load(&self.path).and_then(|config| Ok((keys(&config.text)?, config)));
        let (wanted, config) = match read {
            Ok(read) => read,
            Err(failure) => {
                let why = failure.to_string();
                self.events.write("reload_refused", json!({ "because": why }));
                return Reply::new(Outcome::Refused, why.trim_end());
            }
        };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reply = Reply::new(Outcome::Done, "");
        let changed = changed(&running, &wanted);
        for key in changed.iter().take(KEYS_MAX) {
            match obstacle(key) {
                None => {
                    match wanted.get(key) {
                        Some(value) => running.insert(key.clone(), value.clone()),
                        None => running.remove(key),
                    };
                    reply.applied.push(key.clone());
                }
                Some(why) => {
                    let (key, why) = (key.clone(), why.to_owned());
                    reply.not_applied.push(NotApplied { key, why });
                }
            }
        }
        if let Some(more @ 1..) = changed.len().checked_sub(KEYS_MAX) {
            let why = format!("more than {KEYS_MAX} keys have changed: restart the node");
            reply.not_applied.push(NotApplied { key: format!("{more} more"), why });
        }
        drop(running);
        self.apply(&config);
        self.tell(&reply);
        reply
    }

    /// All that can be, whether it has changed or not.
    fn apply(&self, config: &Config) {
        for (queue, policy) in config.file.queue.iter().zip(config.policies()) {
            // One that the region does not have is told of under its own key.
            if let Some(queue) = self.region.queue(queue.name.get_ref()) {
                self.region.set_policy(queue, &policy);
            }
        }
        self.stopper.set_busy_poll(config.file.replication.busy_poll);
        self.stopper.set_spin_percent(*config.file.replication.spin_percent.get_ref());
    }

    fn tell(&self, reply: &Reply) {
        let not_applied = reply.not_applied.iter().map(|it| &it.key);
        self.events.write(
            "reloaded",
            json!({
                "applied": reply.applied.iter().take(EVENT_KEYS_MAX).collect::<Vec<_>>(),
                "not_applied": not_applied.take(EVENT_KEYS_MAX).collect::<Vec<_>>(),
            }),
        );
    }
}

/// Why this key cannot be in use at once, if so.
fn obstacle(key: &str) -> Option<&'static str> {
    let parts: Vec<&str> = key.split('.').collect();
    match parts[..] {
        ["queue", _, "deadline" | "lease" | "on_lease_expiry" | "overload"]
        | ["replication", "busy_poll" | "spin_percent"] => None,
        ["queue", ..]
        | ["port"]
        | ["region", "class", ..]
        | [
            "region",
            "slots" | "participants" | "tx_entries" | "max_attempts" | "inbox_limit"
            | "ingest_percent" | "magazine",
        ]
        | ["gateway", ..] => Some(
            "the region is made with it, and both nodes' must be alike: stop both nodes, then start both",
        ),
        ["port", _, "mode"] => {
            Some("both nodes have to agree on it: restart this node and the other one")
        }
        ["port", ..] => Some(
            "a port reads it when it starts: end the port's process, and the node starts it again",
        ),
        ["worker", ..] => Some("`hotpair node` starts what it was told to: restart it"),
        _ => Some(
            "a node reads it when it starts: restart it, after a `hotpair failover` if it is primary",
        ),
    }
}

/// Every key of a file that says another thing than before, or nothing any more.
fn changed(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<String> {
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differs = |key: &&String| before.get(*key) != after.get(*key);
    keys.into_iter().filter(differs).cloned().collect()
}

/// All keys of a file with their tables before them: `queue.calls.deadline`, `worker.1.count`.
fn keys(text: &str) -> Result<BTreeMap<String, Value>, Failure> {
    let table: Table = toml::from_str(text)
        .map_err(|error| Failure::new("cannot read the configuration").caused_by(&error))?;
    let mut keys = BTreeMap::new();
    spread("", &Value::Table(table), &mut keys);
    Ok(keys)
}

fn spread(path: &str, value: &Value, keys: &mut BTreeMap<String, Value>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                spread(&below(name), value, keys);
            }
        }
        Value::Array(rows) if !rows.is_empty() && rows.iter().all(Value::is_table) => {
            let name = |row: &Value| row.get("name").and_then(Value::as_str).map(str::to_owned);
            let names: Option<Vec<String>> = rows.iter().map(name).collect();
            for (index, row) in rows.iter().enumerate() {
                let number = (index + 1).to_string();
                let name = names.as_ref().map_or(number.as_str(), |names| &names[index]);
                spread(&below(name), row, keys);
            }
            if let Some(names) = names {
                // Their order counts too.
                let names = names.into_iter().map(Value::String).collect();
                keys.insert(path.to_owned(), Value::Array(names));
            }
        }
        other => {
            keys.insert(path.to_owned(), other.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "replication = { busy_poll = false, ack_wait = \"100ms\" }\n\
         [[queue]]\nname = \"calls\"\ndeadline = \"10ms\"\n[[queue]]\nname = \"others\"\n\
         [[port]]\nname = \"in\"\nbind = \"127.0.0.1:1\"\n[[worker]]\nqueue = \"calls\"\ncount = 1\n\
         [region]\nslots = 4\n";

    fn difference(after: &str) -> Vec<(String, bool)> {
        let [before, after] = [BEFORE, after].map(|text| keys(text).expect("TOML"));
        let changed = changed(&before, &after).into_iter();
        changed.map(|key| (key.clone(), obstacle(&key).is_none())).collect()
    }

    /// Goal: whatever changes is named, and only what can be changed live is said to be.
    #[test]
    fn every_change_is_named() {
        assert_eq!(difference(BEFORE), []);
        #[rustfmt::skip]
        let cases = [
            // replaced               by                                     named                         live
            ("busy_poll = false",     "busy_poll = true",                    "replication.busy_poll",      true ),
            ("\"10ms\"",              "\"20ms\"",                            "queue.calls.deadline",       true ),
            ("deadline = \"10ms\"\n", "",                                    "queue.calls.deadline",       true ),
            ("\"100ms\"",             "\"50ms\"",                            "replication.ack_wait",       false),
            ("slots = 4",             "slots = 5",                           "region.slots",               false),
            ("count = 1",             "count = 2",                           "worker.1.count",             false),
            ("127.0.0.1:1",           "127.0.0.1:2",                         "port.in.bind",               false),
            ("[region]",              "[journal]\ndir = \"x\"\n[region]",    "journal.dir",                false),
        ];
        for (what, by, key, live) in cases {
            assert_eq!(difference(&BEFORE.replace(what, by)), [(key.to_owned(), live)], "{what}");
        }
        // One that is gone, with all it said, and one that comes.
        let renamed = difference(&BEFORE.replace("\"others\"", "\"rest\""));
        let named: Vec<_> = renamed.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(named, ["queue", "queue.others.name", "queue.rest.name"]);
        assert!(renamed.iter().all(|(_, live)| !live));
    }
}
