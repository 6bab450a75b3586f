//! The demo's other host: workers and a port that share no memory with either side.
//!
//! They are children of the demo itself, which is their supervisor: what it kills it starts again. A kill of a side does not
//! touch them; they carry on with the other by themselves.

use std::path::Path;

use super::verdict::WorkerCommits;
use crate::process::{Child, Program, describe};
use crate::report::Failure;

/// Programs of the other host.
#[derive(Debug, Default)]
pub(super) struct Far {
    pub(super) workers: Vec<Child>,
    pub(super) port: Option<Child>,
    /// Killed on purpose.
    killed: Vec<i32>,
}

impl Far {
    /// Starts the port and so many workers.
    pub(super) fn start(&mut self, config: &Path, workers: usize) -> Result<(), Failure> {
        self.start_port(config)?;
        (0..workers).try_for_each(|_| self.start_worker(config))
    }

    /// One more worker.
    pub(super) fn start_worker(&mut self, config: &Path) -> Result<(), Failure> {
        let arguments = ["demo-worker".as_ref(), "--remote".as_ref(), config.as_os_str()];
        let name = format!("far worker {}", self.workers.len());
        self.workers.push(Program::ours(name, arguments)?.start()?);
        Ok(())
    }

    fn start_port(&mut self, config: &Path) -> Result<(), Failure> {
        let arguments = ["demo-port".as_ref(), "--remote".as_ref(), config.as_os_str()];
        self.port = Some(Program::ours("far port", arguments)?.start()?);
        Ok(())
    }

    /// What is about to be killed may end.
    pub(super) fn expect_the_end_of(&mut self, pids: &[i32]) {
        self.killed.extend_from_slice(pids);
    }

    /// Starts again what was killed on purpose; tells of what ended by itself.
    pub(super) fn bury(&mut self, config: &Path, mishaps: &mut Vec<String>) -> Result<(), Failure> {
        let mut gone = Vec::new();
        for child in self.workers.iter_mut().chain(self.port.iter_mut()) {
            if let Some(status) = child.ended() {
                gone.push(child.pid());
                if !self.killed.contains(&child.pid()) {
                    let pid = child.pid();
                    mishaps
                        .push(format!("far process {pid} ended by itself: {}", describe(status)));
                }
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let before = self.workers.len();
        self.workers.retain(|worker| !gone.contains(&worker.pid()));
        for _ in self.workers.len()..before {
            self.start_worker(config)?;
        }
        if self.port.as_ref().is_some_and(|port| gone.contains(&port.pid())) {
            self.start_port(config)?;
        }
        Ok(())
    }

    /// The workers that are alive, and how many requests each has answered.
    pub(super) fn commits(&self, answers: &serde_json::Value) -> Vec<WorkerCommits> {
        let of = |pid: i32| answers[pid.to_string()].as_u64().unwrap_or(0);
        let workers = self.workers.iter().map(Child::pid);
        workers.map(|pid| WorkerCommits { pid, commits: of(pid) }).collect()
    }
}
