//! What a supervisor says: one JSON object a line, or a sentence for people. Its own events go into the region's recorder as well,
//! once there is a region; those of the node its node has noted itself.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hotpair_shm::{Note, Region, Scribe, Source};
use serde_json::{Value, json};

use crate::clock::monotonic_ns;

/// Where events go, and in which form.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    json: bool,
    node: &'static str,
    region: PathBuf,
    /// With their times.
    unrecorded: Arc<Mutex<Vec<(u64, Note)>>>,
}

/// Events that wait for the region to be made; what comes later is not recorded.
const UNRECORDED_MAX: usize = 64;

impl Events {
    pub(crate) fn new(json: bool, node: &'static str, region: &str) -> Events {
        Events { json, node, region: Region::path_for(region), unrecorded: Arc::default() }
    }

    /// Notes what happened before there was a region.
    pub(crate) fn record_what_waits(&self) {
        let mut waiting = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return;
        }
        // Mapped for a moment alone: see the head of the supervisor.
        let Ok(scribe) = Scribe::open(&self.region) else { return };
        for (at, note) in waiting.drain(..) {
            scribe.note_at(Source::Supervisor, at, &note);
        }
    }

    fn record(&self, at: u64, event: &Value) {
        let mut note = Note::new(event["event"].as_str().unwrap_or("event"));
        for (name, value) in event.as_object().into_iter().flatten() {
            note = match value {
                _ if name == "event" => note,
                Value::String(text) => note.text(name, text),
                other => note.json(name, &other.to_string()),
            };
        }
        {
            let mut waiting = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() < UNRECORDED_MAX {
                waiting.push((at, note));
            }
        }
        self.record_what_waits();
    }

    /// A process was started.
    pub(crate) fn started(&self, kind: &str, name: &str, pid: i32) {
        self.say(
            json!({"event": "started", "kind": kind, "name": name, "pid": pid}),
            &format!("{name} runs as process {pid}"),
        );
    }

    /// A process died and will be started again.
    pub(crate) fn died(&self, kind: &str, name: &str, pid: i32, how: &str, pause_ms: u128) {
        self.say(
            json!({"event": "died", "kind": kind, "name": name, "pid": pid, "how": how}),
            &format!("{name} (process {pid}) ended: {how}; again in {pause_ms} ms"),
        );
    }

    /// A node that said nothing was killed.
    pub(crate) fn silent(&self, pid: i32, silent_ms: u128) {
        self.say(
            json!({"event": "killed_silent_node", "pid": pid, "silent_ms": silent_ms}),
            &format!("the node (process {pid}) said nothing for {silent_ms} ms and was killed"),
        );
    }

    /// A service address that a node left behind was removed.
    pub(crate) fn address_removed(&self, address: &str) {
        self.say(
            json!({"event": "address_removed", "address": address, "by": "supervisor"}),
            &format!("the address {address}, which a dead node held, was removed"),
        );
    }

    /// A hook ran, or did not.
    pub(crate) fn hook_ended(&self, hook: &str, how: &str, took: Duration) {
        let ms = took.as_millis() as u64;
        self.say(
            json!({"event": "hook_ended", "hook": hook, "how": how, "ms": ms}),
            &format!("{hook}: {how}, {ms} ms"),
        );
    }

    /// A line of the node's own.
    pub(crate) fn forward(&self, line: &str) {
        if self.json {
            self.print(line);
            return;
        }
        match serde_json::from_str::<Value>(line) {
            Ok(value) => self.print(&format!("{}: {}", self.node, sentence(&value))),
            Err(_) => self.print(&format!("{}: {line}", self.node)),
        }
    }

    fn say(&self, mut event: Value, sentence: &str) {
        let at = monotonic_ns();
        self.record(at, &event);
        if self.json {
            event["t_ns"] = json!(at);
            event["node"] = json!(self.node);
            self.print(&event.to_string());
        } else {
            self.print(&format!("{}: {sentence}", self.node));
        }
    }

    /// Events are what this command is for, so they are data; who does not read them loses them.
    fn print(&self, line: &str) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

/// An event as words: its name, then its fields.
pub(crate) fn sentence(event: &Value) -> String {
    let name = event["event"].as_str().unwrap_or("event").replace('_', " ");
    let mut words = name;
    for (key, value) in event.as_object().into_iter().flatten() {
        if ["event", "t_ns", "node"].contains(&key.as_str()) || value.is_null() {
            continue;
        }
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        words.push_str(&format!(", {} {value}", key.replace('_', " ")));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_the_node_read_as_words() {
        let event = json!({"event": "became_primary", "t_ns": 5, "epoch": 3, "cause": "dead"});
        assert_eq!(sentence(&event), "became primary, cause dead, epoch 3");
    }
}
