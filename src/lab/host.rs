//! One of the two hosts: its processes, and what its node has told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::place::{Place, Running};
use crate::config::Member;
use crate::report::Failure;

/// Whoever is killed is gone within this time, or something else is wrong.
const GONE_PATIENCE: Duration = Duration::from_secs(15);

/// What a node has told, and when by this machine's clock.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) member: Member,
    pub(super) t_ns: u64,
    pub(super) name: String,
    pub(super) event: Value,
}

impl Told {
    /// Whether it is this event: a name, or a name and a text of its line (`hook_ended: killed`).
    pub(super) fn is(&self, wanted: &str) -> bool {
        let (name, text) = wanted.split_once(": ").unwrap_or((wanted, ""));
        self.name == name && self.event.to_string().contains(text)
    }
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) member: Member,
    pub(super) place: Place,
    supervisor: Option<Running>,
    processes: BTreeMap<i32, String>,
    /// Its processes may end: we have done it.
    pub(super) down: bool,
}

impl Host {
    pub(super) fn new(member: Member, place: Place) -> Host {
        Host { member, place, supervisor: None, processes: BTreeMap::new(), down: true }
    }

    /// Starts its node with this configuration.
    pub(super) fn start(&mut self, config: &str) -> Result<(), Failure> {
        self.processes.clear();
        self.supervisor = Some(self.place.start(&["node", "--json", "--config", config])?);
        self.down = false;
        Ok(())
    }

    /// Sends a signal to processes of one kind, or to all of them, the supervisor first.
    pub(super) fn signal(&self, kind: Option<&str>, signal: Signal) {
        let supervisor = self.supervisor.as_ref().filter(|_| kind.is_none()).map(Running::pid);
        let known = self.processes.iter();
        let below = known.filter(|(_, of)| kind.is_none_or(|kind| kind == of.as_str()));
        let pids: Vec<i32> = supervisor.into_iter().chain(below.map(|(pid, _)| *pid)).collect();
        self.place.signal(&pids, signal);
    }

    /// The first process of a kind.
    pub(super) fn first(&self, kind: &str) -> Option<i32> {
        self.processes.iter().find(|(_, of)| of.as_str() == kind).map(|(pid, _)| *pid)
    }

    /// Kills everything, and waits until nothing of it holds an address.
    pub(super) fn end(&mut self) {
        self.down = true;
        self.signal(None, Signal::SIGKILL);
        let until = Instant::now() + GONE_PATIENCE;
        let mut pids: Vec<i32> = self.processes.keys().copied().collect();
        self.supervisor = None; // waits for it
        while Instant::now() < until {
            pids = self.place.living(&pids);
            if pids.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asks everything to end.
    pub(super) fn ask_to_end(&mut self) {
        self.down = true;
        if let Some(supervisor) = &self.supervisor {
            self.place.signal(&[supervisor.pid()], Signal::SIGTERM);
        }
    }

    /// Whether its supervisor has ended, or was never started.
    pub(super) fn has_ended(&mut self) -> bool {
        self.supervisor.as_mut().is_none_or(|supervisor| supervisor.ended().is_some())
    }

    /// The supervisor, to listen to.
    pub(super) fn supervisor(&mut self) -> Option<&mut Running> {
        self.supervisor.as_mut()
    }

    pub(super) fn supervisor_ref(&self) -> Option<&Running> {
        self.supervisor.as_ref()
    }

    /// What it has told since the last call.
    pub(super) fn hear(&mut self) -> Vec<Told> {
        let lines = self.supervisor.as_mut().map(Running::lines).unwrap_or_default();
        let mut told = Vec::new();
        for line in lines {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            let (Some(t_ns), Some(name)) = (event["t_ns"].as_u64(), event["event"].as_str()) else {
                continue;
            };
            let pid = event["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            match (name, pid, event["kind"].as_str()) {
                ("started", Some(pid), Some(kind)) => {
                    self.processes.insert(pid, kind.to_owned());
                }
                ("died", Some(pid), _) => {
                    self.processes.remove(&pid);
                }
                _ => {}
            }
            let (name, t_ns) = (name.to_owned(), self.place.here_ns(t_ns));
            told.push(Told { member: self.member, t_ns, name, event });
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_meant_by_its_name_or_by_a_text_of_its_line() {
        let event = json!({"event": "resync", "resync": "union"});
        let told = Told { member: Member::A, t_ns: 1, name: "resync".to_owned(), event };
        let cases =
            [("resync", true), ("resync: union", true), ("resync: full", false), ("re", false)];
        for (wanted, is) in cases {
            assert_eq!(told.is(wanted), is, "{wanted}");
        }
    }
}
