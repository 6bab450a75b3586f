//! The two sides of the demo's pair as their supervisors' events tell them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::plan::Plan;
use crate::config::Member;
use crate::process::{Child, Program};
use crate::report::Failure;

/// One side: a supervisor, and everything below it.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) member: Member,
    /// The supervisor, while it runs.
    pub(super) supervisor: Option<Child>,
    /// What runs under it, by process id.
    processes: BTreeMap<i32, String>,
    /// The epoch in which its node became primary last.
    pub(super) primary_epoch: Option<u64>,
    /// Its node says that the back-up is in step.
    pub(super) protected: bool,
    /// Its processes are stopped by us, and have to be killed by us.
    pub(super) is_frozen: bool,
}

/// What an event means for the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// A process runs again in the place of one that died.
    Started,
    /// The node found its peer gone.
    Detected,
    /// The node may act as primary: its view is confirmed and its region switched.
    Promoted,
    /// The primary carries on without a back-up.
    Solo,
    /// The back-up is in step.
    Protected,
}

impl Side {
    pub(super) fn new(member: Member) -> Side {
        Side {
            member,
            supervisor: None,
            processes: BTreeMap::new(),
            primary_epoch: None,
            protected: false,
            is_frozen: false,
        }
    }

    /// Starts its supervisor.
    pub(super) fn start(&mut self, plan: &Plan) -> Result<(), Failure> {
        let config = plan.config(self.member);
        let arguments =
            ["node".as_ref(), "--json".as_ref(), "--config".as_ref(), config.as_os_str()];
        let name = format!("node {}", self.member.letter());
        self.processes.clear();
        self.primary_epoch = None;
        self.protected = false;
        self.supervisor = Some(Program::ours(name, arguments)?.heard().start()?);
        Ok(())
    }

    /// Processes of this kind: node, port or worker.
    pub(super) fn pids(&self, kind: &str) -> Vec<i32> {
        let of_kind = |(_, known): &(&i32, &String)| known.as_str() == kind;
        self.processes.iter().filter(of_kind).map(|(pid, _)| *pid).collect()
    }

    /// All processes, the supervisor first.
    pub(super) fn all_pids(&self) -> Vec<i32> {
        let supervisor = self.supervisor.as_ref().map(Child::pid);
        supervisor.into_iter().chain(self.processes.keys().copied()).collect()
    }

    /// Learns from an event; gives what it means and when it happened.
    pub(super) fn on_event(&mut self, event: &Value) -> Option<(Sign, u64)> {
        let at_ns = event["t_ns"].as_u64()?;
        let pid = event["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let sign = match event["event"].as_str()? {
            "started" => {
                let kind = event["kind"].as_str()?.to_owned();
                self.processes.insert(pid?, kind);
                Sign::Started
            }
            "died" => {
                self.processes.remove(&pid?);
                if event["kind"] == "node" {
                    self.primary_epoch = None;
                    self.protected = false;
                }
                return None;
            }
            "detected" => Sign::Detected,
            "promoted" => {
                self.primary_epoch = event["epoch"].as_u64();
                self.protected = false;
                Sign::Promoted
            }
            "fenced" => {
                self.primary_epoch = None;
                self.protected = false;
                return None;
            }
            "solo" => {
                self.protected = false;
                Sign::Solo
            }
            "admitted" => {
                self.protected = true;
                Sign::Protected
            }
            _ => return None,
        };
        Some((sign, at_ns))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_side_is_what_its_events_say() {
        let mut side = Side::new(Member::A);
        let mut tell = |event: Value| side.on_event(&event).map(|(sign, _)| sign);
        let started = |pid: i32, kind: &str| json!({"event": "started", "t_ns": 1, "kind": kind, "pid": pid, "name": kind});
        assert_eq!(tell(started(10, "node")), Some(Sign::Started));
        assert_eq!(tell(started(11, "worker")), Some(Sign::Started));
        let promoted = json!({"event": "promoted", "t_ns": 2, "epoch": 3, "cause": "started"});
        assert_eq!(tell(promoted), Some(Sign::Promoted));
        assert_eq!(
            tell(json!({"event": "admitted", "t_ns": 3, "backup": "b"})),
            Some(Sign::Protected)
        );
        assert_eq!((side.primary_epoch, side.protected), (Some(3), true));
        assert_eq!((side.pids("worker"), side.all_pids()), (vec![11], vec![10, 11]));

        let died = json!({"event": "died", "t_ns": 4, "kind": "node", "pid": 10, "how": "SIGKILL"});
        assert_eq!(side.on_event(&died), None);
        assert_eq!((side.primary_epoch, side.protected), (None, false));
        assert_eq!(side.all_pids(), [11]);
        assert_eq!(side.on_event(&json!({"event": "something new", "t_ns": 5})), None);
        assert_eq!(side.on_event(&json!("nonsense")), None);
    }
}
