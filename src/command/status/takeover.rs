//! How the last change of role went, phase by phase: from the events of the node that is, or was, primary.

use std::fmt::Write;

use hotpair_shm::{Noted, Source};
use serde_json::{Value, json};

use super::duration;
use crate::clock::utc;

/// The events of a change, in their order. The first one that is there begins it.
const PHASES: [&str; 6] = ["detected", "asking", "view", "promoted", "primary", "address_added"];

/// A change of role that has come to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Takeover {
    /// By the clock of the host, nanoseconds since 1970.
    pub(crate) wall: u64,
    pub(crate) epoch: u64,
    pub(crate) cause: Option<String>,
    /// After its beginning, in nanoseconds.
    pub(crate) phases: Vec<(&'static str, u64)>,
}

/// The last one that is in the recorder.
pub(crate) fn last(events: &[Noted]) -> Option<Takeover> {
    let events: Vec<(&Noted, Value)> = events
        .iter()
        .filter(|event| event.source == Source::Node)
        .filter_map(|event| Some((event, serde_json::from_str(&event.text).ok()?)))
        .collect();
    let named = |at: usize, name: &str| events[at].1["event"] == name;
    let end = (0..events.len()).rev().find(|&at| named(at, "primary"))?;
    // What came before the node's last role, or start, belongs to that.
    let begin = (0..end)
        .rev()
        .find(|&at| ["primary", "backup", "started", "heard"].iter().any(|name| named(at, name)));
    let begin = begin.map_or(0, |at| at + 1);
    // A back-up has seen views come in which it was no primary.
    let asked = (begin..end).find(|&at| named(at, "detected") || named(at, "asking"));
    let range = asked.unwrap_or(begin)..events.len();
    let mut phases: Vec<(&'static str, u64)> = Vec::new();
    let mut cause = None;
    let mut start: Option<&Noted> = None;
    for at in range {
        let (event, fields) = &events[at];
        let Some(phase) = PHASES.iter().find(|phase| fields["event"] == **phase) else { continue };
        let follows = ["promoted", "address_added"].contains(phase);
        if phases.iter().any(|(seen, _)| seen == phase) || at > end && !follows {
            continue;
        }
        if let Some(text) = fields["cause"].as_str() {
            cause.get_or_insert_with(|| text.to_owned());
        }
        let start = *start.get_or_insert(event);
        phases.push((phase, event.at.saturating_sub(start.at)));
    }
    let epoch = events[end].1["epoch"].as_u64().unwrap_or(0);
    let wall = start?.wall;
    Some(Takeover { wall, epoch, cause, phases })
}

pub(super) fn json(takeover: Option<&Takeover>) -> Value {
    let Some(Takeover { wall, epoch, cause, phases }) = takeover else { return Value::Null };
    let phases: Vec<Value> =
        phases.iter().map(|(name, after)| json!({ "phase": name, "after_ns": after })).collect();
    json!({ "time": utc(*wall), "epoch": epoch, "cause": cause, "phases": phases })
}

pub(super) fn write(text: &mut String, takeover: Option<&Takeover>) -> std::fmt::Result {
    let Some(Takeover { wall, epoch, cause, phases }) = takeover else { return Ok(()) };
    write!(text, "last promotion {}, epoch {epoch}", utc(*wall))?;
    if let Some(cause) = cause {
        write!(text, ", cause {cause}")?;
    }
    for (at, (name, after)) in phases.iter().enumerate() {
        match at {
            0 => write!(text, ": {name}")?,
            _ => write!(text, ", {name} after {}", duration(*after))?,
        }
    }
    writeln!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, text: &str) -> Noted {
        let text = format!("{{{text}}}");
        Noted { number: at, at: at * 1_000_000, wall: 5, pid: 1, source: Source::Node, text }
    }

    #[test]
    fn the_last_promotion_has_its_phases() {
        let events = [
            event(1, r#""event":"started""#),
            event(2, r#""event":"promoted","epoch":1,"cause":"started""#),
            event(3, r#""event":"primary","epoch":1"#),
            event(4, r#""event":"backup","epoch":2"#),
            event(5, r#""event":"view","epoch":2"#),
            event(10, r#""event":"detected","cause":"tripwire""#),
            event(11, r#""event":"asking","view":4,"cause":"tripwire""#),
            event(13, r#""event":"view","epoch":3"#),
            event(14, r#""event":"promoted","epoch":3,"cause":"tripwire""#),
            event(15, r#""event":"primary","epoch":3"#),
            event(16, r#""event":"address_added""#),
            event(20, r#""event":"view","epoch":3"#),
        ];
        let seen = last(&events).expect("there was one");
        let mut text = String::new();
        write(&mut text, Some(&seen)).expect("a String takes any text");
        assert_eq!(
            text,
            "last promotion 1970-01-01T00:00:00.000000Z, epoch 3, cause tripwire: detected, asking after 1.00 ms, \
             view after 3.00 ms, promoted after 4.00 ms, primary after 5.00 ms, address_added after 6.00 ms\n"
        );
        assert_eq!(json(Some(&seen))["phases"][4]["after_ns"], 5_000_000);
        assert_eq!(last(&events[..1]), None);
        // A node says who it is before it says that it was promoted.
        let [mut one, mut other] = [events[8].clone(), events[9].clone()];
        (one.text, other.text) = (other.text, one.text);
        let told = [&events[..8], &[one, other], &events[10..]].concat();
        let phases = last(&told).expect("the same").phases;
        assert_eq!(
            phases[3..],
            [("primary", 4_000_000), ("promoted", 5_000_000), ("address_added", 6_000_000)]
        );
        let first = last(&events[..4]).expect("the first one");
        assert_eq!((first.epoch, first.cause.as_deref()), (1, Some("started")));
    }
}
