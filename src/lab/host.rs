//! One of the two hosts: its processes, and what its node has told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::config::Member;
use crate::process::{Child, Program, holds_anything};
use crate::report::Failure;

/// Whoever is killed is gone within this time, or something else is wrong.
const GONE_PATIENCE: Duration = Duration::from_secs(15);

/// What a node has told, and when we read of it.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) member: Member,
    pub(super) t_ns: u64,
    pub(super) name: String,
    pub(super) event: Value,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) member: Member,
    program: Program,
    supervisor: Option<Child>,
    processes: BTreeMap<i32, String>,
    /// Its processes may end: we have done it.
    pub(super) down: bool,
}

impl Host {
    pub(super) fn new(member: Member, program: Program) -> Host {
        Host { member, program, supervisor: None, processes: BTreeMap::new(), down: true }
    }

    pub(super) fn start(&mut self) -> Result<(), Failure> {
        self.processes.clear();
        self.supervisor = Some(self.program.start()?);
        self.down = false;
        Ok(())
    }

    /// Sends a signal to processes of one kind, or to all of them, the supervisor first.
    pub(super) fn signal(&self, kind: Option<&str>, signal: Signal) {
        let supervisor = self.supervisor.as_ref().filter(|_| kind.is_none()).map(Child::pid);
        let known = self.processes.iter();
        let below = known.filter(|(_, of)| kind.is_none_or(|kind| kind == of.as_str()));
        for pid in supervisor.into_iter().chain(below.map(|(pid, _)| *pid)) {
            // Gone already is as dead as can be.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Kills everything, and waits until nothing of it holds an address.
    pub(super) fn end(&mut self) {
        self.down = true;
        self.signal(None, Signal::SIGKILL);
        let until = Instant::now() + GONE_PATIENCE;
        let mut pids: Vec<i32> = self.processes.keys().copied().collect();
        self.supervisor = None; // waits for it
        while Instant::now() < until {
            pids.retain(|pid| holds_anything(*pid));
            if pids.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The supervisor, to listen to and to stop in order.
    pub(super) fn supervisor(&mut self) -> Option<&mut Child> {
        self.supervisor.as_mut()
    }

    pub(super) fn supervisor_ref(&self) -> Option<&Child> {
        self.supervisor.as_ref()
    }

    /// What it has told since the last call.
    pub(super) fn hear(&mut self) -> Vec<Told> {
        let lines = self.supervisor.as_mut().map(Child::lines).unwrap_or_default();
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
            let name = name.to_owned();
            told.push(Told { member: self.member, t_ns, name, event });
        }
        told
    }
}
