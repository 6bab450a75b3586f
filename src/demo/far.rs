//! The demo's other host: workers and a port that share no memory with either side.
//!
//! They are children of the demo itself, which is their supervisor: what it kills it starts again. A kill of a side does not
//! touch them; they carry on with the other by themselves.

use super::hands::Hand;
use super::plan::{Plan, QUEUE};
use super::verdict::WorkerCommits;
use crate::process::{Child, Program, describe};
use crate::report::Failure;

/// Programs of the other host.
#[derive(Debug, Default)]
pub(super) struct Far {
    pub(super) workers: Vec<(Child, Hand)>,
    pub(super) port: Option<Child>,
    /// Killed on purpose.
    killed: Vec<i32>,
}

impl Far {
    /// Starts the port and these workers.
    pub(super) fn start(&mut self, plan: &Plan, hands: Vec<Hand>) -> Result<(), Failure> {
        self.start_port(plan)?;
        hands.into_iter().try_for_each(|hand| self.start_worker(plan, hand))
    }

    /// One more worker.
    pub(super) fn start_worker(&mut self, plan: &Plan, hand: Hand) -> Result<(), Failure> {
        let config = plan.far_config();
        let name = format!("far worker {}", self.workers.len());
        let program = match &hand {
            Hand::Own => {
                let arguments = ["demo-worker".as_ref(), "--remote".as_ref(), config.as_os_str()];
                Program::ours(name, arguments)?
            }
            Hand::Foreign(command) => Program::foreign(name, command)
                .env("HOTPAIR_PKI", plan.pki())
                .env("HOTPAIR_NODES", plan.nodes())
                .env("HOTPAIR_QUEUE", QUEUE),
        };
        self.workers.push((program.start()?, hand));
        Ok(())
    }

    fn start_port(&mut self, plan: &Plan) -> Result<(), Failure> {
        let config = plan.far_config();
        let arguments = ["demo-port".as_ref(), "--remote".as_ref(), config.as_os_str()];
        self.port = Some(Program::ours("far port", arguments)?.start()?);
        Ok(())
    }

    /// What is about to be killed may end.
    pub(super) fn expect_the_end_of(&mut self, pids: &[i32]) {
        self.killed.extend_from_slice(pids);
    }

    /// Starts again what was killed on purpose; tells of what ended by itself.
    pub(super) fn bury(&mut self, plan: &Plan, mishaps: &mut Vec<String>) -> Result<(), Failure> {
        let mut has_ended = |child: &mut Child| {
            let Some(status) = child.ended() else { return false };
            let pid = child.pid();
            if !self.killed.contains(&pid) {
                mishaps.push(format!("far process {pid} ended by itself: {}", describe(status)));
            }
            true
        };
        let gone: Vec<_> = self.workers.extract_if(.., |(child, _)| has_ended(child)).collect();
        let port_ended = self.port.as_mut().is_some_and(has_ended);
        for (_, hand) in gone {
            self.start_worker(plan, hand)?;
        }
        if port_ended { self.start_port(plan) } else { Ok(()) }
    }

    /// The workers that are alive, and how many requests each has answered.
    pub(super) fn commits(&self, answers: &serde_json::Value) -> Vec<WorkerCommits> {
        let of = |pid: i32| answers[pid.to_string()].as_u64().unwrap_or(0);
        let workers = self.workers.iter().map(|(child, _)| child.pid());
        workers.map(|pid| WorkerCommits { pid, commits: of(pid) }).collect()
    }
}
