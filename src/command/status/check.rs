//! `hotpair status --check`: one line and an exit code, as monitoring plug-ins have them.
//!
//! ```text
//!   HOTPAIR WARNING - 2 objects are parked; primary, epoch 3, protected | lag=0 waiting=4 parked=2;0 …
//! ```
//!
//! 0 is ok, 1 a warning (served, but somebody should look), 2 critical (this side does not do what it is for), 3 that nothing is known.

use hotpair_shm::{AttachError, Noted, RegionStatus, Role};
use serde_json::Value;

use super::duration;

/// A message that has waited for longer is worth a look.
const OLD_NS: u64 = 10_000_000_000;

/// How it stands, in the order of what is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Standing {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Standing::Ok => "OK",
            Standing::Warning => "WARNING",
            Standing::Critical => "CRITICAL",
            Standing::Unknown => "UNKNOWN",
        }
    }
}

/// How a region stands, and the line that says it.
pub(super) fn of(status: &RegionStatus, events: &[Noted]) -> (Standing, String) {
    let found = findings(status, events);
    let standing = found.iter().map(|(standing, _)| *standing).max().unwrap_or(Standing::Ok);
    let mut parts: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
    let protection = if status.node.protected { "protected" } else { "not protected" };
    let (role, epoch) = (status.role.role(), status.role.epoch());
    parts.push(format!("{role}, epoch {epoch}, {protection}"));
    let waiting: u64 = status.queues.iter().map(|queue| queue.waiting).sum();
    let objects: u64 = status.queues.iter().map(|queue| queue.objects).sum();
    let figures = format!(
        "objects={objects} waiting={waiting} oldest={:.3}s parked={};0 lag={}c lag_bytes={}B packets={}",
        oldest(status) as f64 / 1e9,
        status.parked(),
        status.node.unacked_commits,
        status.node.unacked_bytes,
        status.packets_waiting,
    );
    (standing, format!("HOTPAIR {} - {} | {figures}\n", standing.name(), parts.join("; ")))
}

/// The same of a region that cannot be read.
pub(super) fn of_none(name: &str, error: &AttachError) -> (Standing, String) {
    let standing = match error {
        AttachError::Missing { .. } => Standing::Critical,
        _ => Standing::Unknown,
    };
    (standing, format!("HOTPAIR {} - region {name}: {error}\n", standing.name()))
}

fn oldest(status: &RegionStatus) -> u64 {
    status.queues.iter().filter_map(|queue| queue.oldest_ns).max().unwrap_or(0)
}

/// What there is to say of it, and how grave each is.
pub(crate) fn findings(status: &RegionStatus, events: &[Noted]) -> Vec<(Standing, String)> {
    let mut found = Vec::new();
    let mut add = |standing, text: String| found.push((standing, text));
    let role = status.role.role();
    match (status.node_alive, role) {
        (false, _) => add(Standing::Critical, "no node runs".to_owned()),
        (true, Role::Primary) if !status.node.protected => {
            add(Standing::Warning, "the other node is not in step".to_owned());
        }
        (true, Role::Backup) if !status.node.connected => {
            add(Standing::Warning, "the primary is not connected".to_owned());
        }
        (true, Role::Primary | Role::Backup | Role::Draining) => {}
        (true, role) => add(Standing::Critical, format!("the node serves nobody: it is {role}")),
    }
    for queue in &status.queues {
        if queue.parked > 0 {
            let text = format!("{} objects of queue {} are parked", queue.parked, queue.name);
            add(Standing::Warning, text);
        }
        // On a back-up messages wait for nobody: their copies are not there.
        if let Some(age) = queue.oldest_ns.filter(|&age| age > OLD_NS) {
            let text = format!("a message of queue {} waits for {}", queue.name, duration(age));
            add(Standing::Warning, text);
        }
    }
    for (port, reason) in drops_under_way(events) {
        add(Standing::Warning, format!("port {port} drops: {reason}"));
    }
    found
}

/// Ports and reasons of drops that have begun and not ended, by what the node noted since it was started.
fn drops_under_way(events: &[Noted]) -> Vec<(String, String)> {
    let mut under_way = Vec::new();
    for event in events {
        let Ok(fields) = serde_json::from_str::<Value>(&event.text) else { continue };
        let field = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
        let drops = (field("port"), field("reason"));
        match fields["event"].as_str() {
            Some("drops_begun") if !under_way.contains(&drops) => under_way.push(drops),
            Some("drops_ended") => under_way.retain(|other| *other != drops),
            // Another node counts anew; another port's process has dropped nothing yet.
            Some("started") => match fields["kind"].as_str() {
                Some("port") => {
                    under_way.retain(|(port, _)| field("name") != format!("port {port}"))
                }
                Some(_) => {}
                None => under_way.clear(),
            },
            _ => {}
        }
    }
    under_way
}

#[cfg(test)]
mod tests {
    use hotpair_shm::Source;

    use super::*;

    fn event(text: &str) -> Noted {
        Noted { number: 1, at: 0, wall: 0, pid: 1, source: Source::Node, text: text.to_owned() }
    }

    #[test]
    fn drops_are_under_way_until_they_end_or_nobody_counts_them() {
        let begun = event(r#"{"event":"drops_begun","port":"calls","reason":"rejected"}"#);
        let ended = event(r#"{"event":"drops_ended","port":"calls","reason":"rejected"}"#);
        let port = event(r#"{"event":"started","kind":"port","name":"port calls","pid":5}"#);
        let other = event(r#"{"event":"started","kind":"port","name":"port other","pid":6}"#);
        let node = event(r#"{"event":"started","launch":5}"#);
        let drops = [("calls".to_owned(), "rejected".to_owned())];
        let begun = || begun.clone();
        assert_eq!(drops_under_way(&[begun(), begun()]), drops);
        assert_eq!(drops_under_way(&[begun(), other]), drops);
        for end in [ended, port, node] {
            assert_eq!(drops_under_way(&[begun(), end]), []);
        }
    }
}
