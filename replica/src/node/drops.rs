//! When a port begins to drop what it gets, and when it has stopped: seen in its counters, so that nobody who drops has to say so.

use std::collections::HashMap;

use hotpair_shm::{Counter, Kind, ParticipantStatus};
use serde_json::{Value, json};

/// What a port does not bring where it belongs, for whatever reason.
const REASONS: [Counter; 8] = [
    Counter::DroppedMalformed,
    Counter::DroppedInbox,
    Counter::DroppedMemory,
    Counter::DroppedTooLarge,
    Counter::Rejected,
    Counter::DroppedNewest,
    Counter::DroppedOldest,
    Counter::SendErrors,
];

/// Looks without another drop after which they have ended.
const QUIET_LOOKS: u32 = 10;

/// One port's drops for one reason.
#[derive(Debug, Default)]
struct Seen {
    count: u64,
    /// The count before they began, while they go on.
    before: Option<u64>,
    quiet: u32,
}

/// What was seen of all ports.
#[derive(Debug, Default)]
pub(super) struct Drops {
    looked: bool,
    /// Per process and place in `REASONS`.
    seen: HashMap<(u32, usize), Seen>,
}

impl Drops {
    /// Compares the counters of the processes with those of the last look. Events are named and have their fields.
    pub(super) fn look(&mut self, processes: &[ParticipantStatus]) -> Vec<(&'static str, Value)> {
        let mut news = Vec::new();
        let ports = processes.iter().filter(|process| process.kind == Some(Kind::Port));
        let ports: Vec<&ParticipantStatus> = ports.collect();
        self.seen.retain(|(pid, _), _| ports.iter().any(|port| port.pid == *pid));
        for port in ports {
            for (at, &reason) in REASONS.iter().enumerate() {
                let count = port.counter(reason);
                let seen = self.seen.entry((port.pid, at)).or_default();
                // What a port dropped before this node began to look is no news.
                let before = if self.looked { seen.count } else { count };
                let fields = |counted: u64| {
                    json!({
                        "port": port.name, "pid": port.pid, "reason": reason.name(),
                        "count": counted,
                    })
                };
                if count > before {
                    if seen.before.is_none() {
                        seen.before = Some(before);
                        news.push(("drops_begun", fields(count - before)));
                    }
                    seen.quiet = 0;
                } else if let Some(begun) = seen.before {
                    seen.quiet += 1;
                    if seen.quiet == QUIET_LOOKS {
                        seen.before = None;
                        news.push(("drops_ended", fields(count - begun)));
                    }
                }
                seen.count = count;
            }
        }
        self.looked = true;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(pid: u32, oldest: u64, memory: u64) -> ParticipantStatus {
        ParticipantStatus {
            seat: 1,
            kind: Some(Kind::Port),
            name: "calls".into(),
            pid,
            alive: true,
            counters: vec![
                (Counter::DroppedOldest.name(), oldest),
                (Counter::DroppedMemory.name(), memory),
            ],
        }
    }

    fn told(drops: &mut Drops, port: ParticipantStatus) -> Vec<(&'static str, Value)> {
        drops.look(&[port])
    }

    /// Goal: a begin and an end are each told once, with reason and count; what was dropped before is not told at all.
    #[test]
    fn drops_begin_and_end_once() {
        let mut drops = Drops::default();
        assert_eq!(told(&mut drops, port(7, 100, 0)), []);
        let event = |count: u64, reason: &str| json!({"port": "calls", "pid": 7, "reason": reason, "count": count});
        assert_eq!(
            told(&mut drops, port(7, 103, 0)),
            [("drops_begun", event(3, "dropped_oldest"))]
        );
        assert_eq!(told(&mut drops, port(7, 110, 0)), []);
        for _ in 1..QUIET_LOOKS {
            assert_eq!(told(&mut drops, port(7, 110, 0)), []);
        }
        assert_eq!(
            told(&mut drops, port(7, 110, 0)),
            [("drops_ended", event(10, "dropped_oldest"))]
        );
        assert_eq!(
            told(&mut drops, port(7, 110, 1)),
            [("drops_begun", event(1, "dropped_memory"))]
        );
    }

    /// Goal: a port that was started again counts from zero.
    #[test]
    fn another_process_begins_anew() {
        let mut drops = Drops::default();
        told(&mut drops, port(7, 100, 0));
        let news = told(&mut drops, port(8, 2, 0));
        assert_eq!(news.len(), 1);
        assert_eq!(news[0].1["count"], 2);
    }
}
