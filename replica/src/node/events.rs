//! The timeline: what happened to this node, one JSON object a line, for its supervisor.
//!
//! ```text
//!   {"t_ns":123456789,"node":"a","event":"detected","cause":"tripwire"}
//! ```
//!
//! `t_ns` is `CLOCK_MONOTONIC`: comparable between the processes of one host, and of no other. Nobody
//! waits for a reader: where the pipe is full the line is dropped and the next one says how many.
//!
//! The region's recorder gets the same events, and keeps them when there is no supervisor any more.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use hotpair_shm::{Note, Region, Source};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::{Map, Value, json};

use crate::protocol::{Cause, DeathNotice, Event, NodeId, Refusal, Resync, View};

/// Events that say that something went wrong, and which of their fields tells one such error from another.
const ERRORS: [(&str, &[&str]); 10] = [
    ("refused", &["reason", "because", "help", "by_us"]),
    ("fault", &["fault"]),
    ("digest_differs", &[]),
    ("modes_differ", &[]),
    ("arbiter_silent", &[]),
    ("nothing_to_start_from", &[]),
    ("connection_refused", &["because"]),
    ("certificates_refused", &["because", "cause"]),
    ("address_failed", &["action", "address", "because"]),
    ("lease_expired", &["queue", "action"]),
];

/// Where lines go; clones share it.
#[derive(Clone, Debug)]
pub(super) struct EventSink {
    node: String,
    recorder: Option<Region>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    file: Option<File>,
    dropped: u64,
}

impl EventSink {
    pub(super) fn new(member: &str, fd: Option<OwnedFd>) -> Self {
        if let Some(fd) = &fd
            && let Ok(flags) = fcntl(fd, FcntlArg::F_GETFL)
        {
            let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
            // A sink that blocks would be slow, not wrong; there is none that refuses this.
            let _ = fcntl(fd, FcntlArg::F_SETFL(flags));
        }
        let shared = Shared { file: fd.map(File::from), dropped: 0 };
        let node = short(member).to_owned();
        Self { node, recorder: None, shared: Arc::new(Mutex::new(shared)) }
    }

    /// The same, and everything is noted in this region as well.
    pub(super) fn recorded_in(self, region: &Region) -> Self {
        Self { recorder: Some(region.clone()), ..self }
    }

    /// Writes one line. `fields` is a JSON object.
    pub(super) fn write(&self, t_ns: u64, event: &str, fields: Value) {
        tracing::info!(node = %self.node, %fields, "{event}");
        if let Some(region) = &self.recorder {
            record(region, t_ns, event, &fields);
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = Map::new();
        line.insert("t_ns".to_owned(), t_ns.into());
        line.insert("node".to_owned(), self.node.clone().into());
        line.insert("event".to_owned(), event.into());
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        if shared.dropped > 0 {
            line.insert("dropped_before".to_owned(), shared.dropped.into());
        }
        let Some(file) = &mut shared.file else { return };
        // Below PIPE_BUF a pipe takes all of it or nothing.
        match file.write_all(format!("{}\n", Value::Object(line)).as_bytes()) {
            Ok(()) => shared.dropped = 0,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => shared.dropped += 1,
            // Nobody reads any more.
            Err(_) => shared.file = None,
        }
    }
}

fn record(region: &Region, at: u64, event: &str, fields: &Value) {
    let mut note = Note::new(event);
    for (name, value) in fields.as_object().into_iter().flatten() {
        note = match value {
            Value::Null => note,
            Value::String(text) => note.text(name, text),
            other => note.json(name, &other.to_string()),
        };
    }
    region.note_at(Source::Node, at, &note);
    if let Some((_, told_by)) = ERRORS.iter().find(|(name, _)| *name == event) {
        let mut error = event.replace('_', " ");
        for value in told_by.iter().filter_map(|name| fields.get(*name)) {
            error.push_str(": ");
            error.push_str(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        region.note_error(Source::Node, &error);
    }
}

/// `a` for `node-a`.
fn short(member: &str) -> &str {
    member.strip_prefix("node-").unwrap_or(member)
}

/// Name and fields of an event of the protocol core, as they stand in the timeline.
pub(super) fn describe(event: &Event) -> (&'static str, Value) {
    match event {
        Event::PeerSuspected { cause } => ("detected", json!({ "cause": cause_name(*cause) })),
        Event::PeerHeard => ("heard", json!({})),
        Event::Asking { number, cause } => {
            ("asking", json!({ "view": number, "cause": cause.map(cause_name) }))
        }
        Event::ViewChanged { to, .. } => ("view", view_fields(to)),
        Event::Promoted { epoch, cause, from } => (
            "promoted",
            json!({ "epoch": epoch, "cause": cause_name(*cause), "from": from.to_string() }),
        ),
        Event::Solo { cause } => ("solo", json!({ "cause": cause_name(*cause) })),
        Event::Superseded { by } => ("fenced", view_fields(by)),
        Event::PeerConnected { node, incarnation, version } => (
            "connected",
            json!({
                "peer": node_name(*node), "incarnation": format!("{incarnation:016x}"),
                "version": version,
            }),
        ),
        Event::PeerLost => ("disconnected", json!({})),
        Event::Resumed { table_no } => ("resumed", json!({ "table": table_no })),
        Event::TransferStarted { resync, since } => (
            "transfer_started",
            json!({ "resync": resync_name(*resync), "since": since.map(|seq| seq.to_string()) }),
        ),
        Event::Resyncing { resync, since, held } => (
            "resync",
            json!({
                "resync": resync_name(*resync), "since": since.map(|seq| seq.to_string()),
                "held": held.to_string(),
            }),
        ),
        Event::TransferSent { chunks, through } => {
            ("transfer_sent", json!({ "chunks": chunks, "through": through.to_string() }))
        }
        Event::TransferStopped => ("transfer_stopped", json!({})),
        Event::Admitted { node } => ("admitted", json!({ "backup": node_name(*node) })),
        Event::InSync { epoch } => ("in_sync", json!({ "epoch": epoch })),
        Event::Undetermined { number } => ("undetermined", json!({ "view": number })),
        Event::ArbiterSilent => ("arbiter_silent", json!({})),
        Event::ArbiterForgot { known } => {
            ("arbiter_forgot", known.as_ref().map_or_else(|| json!({}), view_fields))
        }
        Event::Refused { reason, theirs, ours, by_us } => {
            let mut fields = json!({
                "reason": format!("{reason:?}").to_lowercase(),
                "theirs": format!("{theirs:x}"), "ours": format!("{ours:x}"), "by_us": by_us,
            });
            if *reason == Refusal::Version {
                // A person upgrades this pair at the moment.
                fields["because"] =
                    format!("the peer speaks version {theirs}, this node {ours}").into();
                fields["help"] = "upgrade by one version at a time (docs/upgrading.md)".into();
            }
            ("refused", fields)
        }
        Event::Fault(fault) => ("fault", json!({ "fault": format!("{fault:?}") })),
        Event::DigestDiffers { seq, ours, theirs } => (
            "digest_differs",
            json!({
                "seq": seq.to_string(),
                "ours": format!("{ours:016x}"), "theirs": format!("{theirs:016x}"),
            }),
        ),
        Event::GateClosed { port, because } => {
            let because = format!("{because:?}").to_lowercase();
            ("gate_closed", json!({ "port": port, "because": because }))
        }
        Event::GateOpened { port, closes } => {
            ("gate_opened", json!({ "port": port, "closed_times": closes }))
        }
        Event::ModesDiffer { theirs, ours } => (
            "modes_differ",
            json!({ "theirs": format!("{theirs:016x}"), "ours": format!("{ours:016x}") }),
        ),
        Event::HandingOver { epoch } => ("handing_over", json!({ "epoch": epoch })),
        Event::HandOverReady { last } => ("hand_over_ready", json!({ "last": last.to_string() })),
        Event::HandedOver { by } => ("handed_over", view_fields(by)),
        Event::HandOverEnded { why } => ("hand_over_ended", json!({ "why": why.to_string() })),
        Event::PromotionEnded { why } => ("promotion_ended", json!({ "why": why.to_string() })),
        Event::WaitsForOrder { view } => ("waits_for_order", view_fields(view)),
        Event::NothingToStartFrom { view, .. } => ("nothing_to_start_from", view_fields(view)),
        other => ("other", json!({ "what": format!("{other:?}") })),
    }
}

fn resync_name(resync: Resync) -> &'static str {
    match resync {
        Resync::Incremental => "incremental",
        Resync::Union => "union",
        Resync::Full => "full",
    }
}

fn view_fields(view: &View) -> Value {
    let members: Vec<_> = view.members().map(|member| node_name(member.node)).collect();
    json!({
        "view": view.number, "epoch": view.epoch,
        "primary": node_name(view.primary), "members": members,
    })
}

/// Node 1 is `a`.
pub(super) fn node_name(node: NodeId) -> String {
    match node.0 {
        number @ 1..=26 => char::from(b'a' + number - 1).to_string(),
        number => number.to_string(),
    }
}

const fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Dead(DeathNotice::Supervisor) => "supervisor",
        Cause::Dead(DeathNotice::Tripwire) => "tripwire",
        Cause::Silent => "silent",
        Cause::Disconnected => "disconnected",
        Cause::Slow => "slow",
        Cause::NotInStep => "not_in_step",
        Cause::Started => "started",
        Cause::Planned => "planned",
        Cause::Ordered => "ordered",
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::protocol::{Member, Seq};

    #[test]
    fn a_line_has_time_node_event_and_its_fields() {
        let (read, write) = std::io::pipe().expect("a pipe");
        let sink = EventSink::new("node-b", Some(write.into()));
        let view = View::pair(
            7,
            3,
            Member { node: NodeId(2), incarnation: 1 },
            Member { node: NodeId(1), incarnation: 1 },
        );
        for event in [
            Event::PeerSuspected { cause: Cause::Dead(DeathNotice::Tripwire) },
            Event::ViewChanged { from: None, to: view },
            Event::Promoted { epoch: 3, cause: Cause::Silent, from: Seq::new(2, 9) },
        ] {
            let (name, fields) = describe(&event);
            sink.write(5, name, fields);
        }
        drop(sink);
        let lines: Vec<Value> = BufReader::new(read)
            .lines()
            .map(|line| serde_json::from_str(&line.expect("text")).expect("JSON"))
            .collect();
        assert_eq!(
            lines,
            [
                json!({"t_ns": 5, "node": "b", "event": "detected", "cause": "tripwire"}),
                json!({"t_ns": 5, "node": "b", "event": "view", "view": 7, "epoch": 3, "primary": "b", "members": ["b", "a"]}),
                json!({"t_ns": 5, "node": "b", "event": "promoted", "epoch": 3, "cause": "silent", "from": "2:9"}),
            ]
        );
    }

    #[test]
    fn nobody_waits_for_a_reader() {
        let (_read, write) = std::io::pipe().expect("a pipe");
        let sink = EventSink::new("node-a", Some(write.into()));
        for t_ns in 0..10_000 {
            sink.write(t_ns, "filler", json!({ "text": "x".repeat(100) }));
        }
        assert!(sink.shared.lock().expect("not poisoned").dropped > 0);
    }
}
