//! The benches there are.

use std::io;

use crate::options::Options;
use crate::report::Report;
use crate::{
    claim, commit_ack, contend, delta, failover, handoff, memory, queue_wait, reap, remote,
    replicate, resync,
};

/// A question that can be answered by measuring.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// As in `hotpair bench NAME`.
    pub name: &'static str,
    /// What it finds out.
    pub question: &'static str,
    run: fn(&Bench, &Options) -> Result<Report, BenchError>,
}

impl Bench {
    /// Measures. Takes as long as `options` say, plus a warm-up.
    pub fn run(&self, options: &Options) -> Result<Report, BenchError> {
        (self.run)(self, options)
    }
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "claim",
        question: "claim, read, write 256 B, commit by one hot worker",
        run: claim::hot,
    },
    Bench {
        name: "claim-cold",
        question: "claim, read, write 256 B, commit, at random among 1,000,000 objects",
        run: claim::cold,
    },
    Bench { name: "claim-cold-4k", question: "the same in pages of 4 KiB", run: claim::cold_small },
    Bench {
        name: "handoff",
        question: "a message to an object in one process, claimed in another, polling, one way",
        run: handoff::polling,
    },
    Bench {
        name: "handoff-rate",
        question: "messages from one process to one worker in another",
        run: handoff::rate,
    },
    Bench {
        name: "contend",
        question: "commits of two workers on one queue, 1 us of work in each claim",
        run: contend::run,
    },
    Bench {
        name: "wake",
        question: "a message to an object in one process, claimed by a sleeping worker, one way",
        run: handoff::waking,
    },
    Bench {
        name: "queue-wait",
        question: "wait of the urgent lane for a worker at 90 % load, 100 us a service",
        run: queue_wait::run,
    },
    Bench {
        name: "reap",
        question: "from the kill of a worker with 100 claims to all of them ready again",
        run: reap::run,
    },
    Bench {
        name: "memory",
        question: "bytes of the region file for each of 1,000,000 objects of 256 B at work",
        run: memory::run,
    },
    Bench {
        name: "delta",
        question: "an object of 256 B in a batch of 1,000: encode, or validate and apply",
        run: delta::run,
    },
    Bench {
        name: "commit-ack",
        question: "from a commit of 256 B to its release: the back-up has it, its output may leave",
        run: commit_ack::run,
    },
    Bench {
        name: "replicate",
        question: "objects of 256 B that a pair takes into step, as many in flight as it takes",
        run: replicate::run,
    },
    Bench {
        name: "resync",
        question: "all of 1,000,000 objects to an empty back-up while 10,000 commits a second run",
        run: resync::run,
    },
    Bench {
        name: "remote",
        question: "claim and commit by a worker of another host, until it is told of the release",
        run: remote::run,
    },
    Bench {
        name: "remote-outage",
        question: "from the kill to the first answer by a remote port and worker, as a client sees it",
        run: failover::remote,
    },
    Bench {
        name: "failover",
        question: "from the kill to the first released output of the survivor, as a client sees it",
        run: failover::run,
    },
];

/// All benches, in the order in which `hotpair bench all` runs them.
pub fn registry() -> &'static [Bench] {
    BENCHES
}

/// The bench called `name`.
pub fn find(name: &str) -> Option<&'static Bench> {
    registry().iter().find(|bench| bench.name == name)
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// Something that the bench needs cannot be set up.
    #[error("cannot {action}")]
    Setup {
        /// What.
        action: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A program that the bench runs failed, or said what nobody understands.
    #[error("run {run} of {runs}: {what}")]
    Program {
        /// Which run, from 1.
        run: u32,
        /// Of how many.
        runs: u32,
        /// What it said last.
        what: String,
    },
    /// A histogram cannot be written.
    #[error("cannot write {}", .path.display())]
    Output {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BenchError {
    pub(crate) fn setup<E>(action: &'static str) -> impl FnOnce(E) -> BenchError
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |error| BenchError::Setup { action, source: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (at, bench) in registry().iter().enumerate() {
            assert!(
                registry()[..at].iter().all(|other| other.name != bench.name),
                "{}",
                bench.name
            );
            assert_eq!(find(bench.name).map(|found| found.question), Some(bench.question));
        }
        assert!(find("no-such-bench").is_none());
    }
}
