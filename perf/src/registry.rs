//! The benches there are.

mod table;

use std::fmt;
use std::io;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::noise::{Listener, Noise};
use crate::options::Options;
use crate::report::Report;
use table::BENCHES;

/// A question that can be answered by measuring.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// As in `hotpair bench NAME`.
    pub name: &'static str,
    /// What it finds out.
    pub question: &'static str,
    /// How it does so.
    pub method: &'static str,
    /// What stands beside the figure, as far as there is anything.
    pub limit: &'static str,
    /// Another program at the same thing.
    pub peer: Option<&'static str>,
    /// What its figure is in: `ns`, `us`, `ms`, `per_s` or `bytes`.
    pub unit: &'static str,
    /// How `hotpair bench all` runs it, each with flags of its own.
    pub forms: &'static [Form],
    run: fn(&Bench, &Options) -> Result<Report, BenchError>,
}

/// One way to run a bench, in words of the command line.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// What is asked: flags that change the question.
    pub flags: &'static str,
    /// What makes it quick: flags that only make it shorter or smaller.
    pub quick: &'static str,
    /// About how long the quick form takes, preparations included.
    pub quick_takes: Duration,
    /// What its figure is meant to reach.
    pub bar: Option<Bar>,
    /// Measured in the first round of a run alone: it is long, and moves little.
    pub once: bool,
}

/// What a figure is meant to reach. Rates are to be at least this, everything else at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// The figure itself (p50, `bytes_per_object`, p50 of the total), in the bench's unit.
    Figure(f64),
    /// So many times the limit.
    Limit(f64),
    /// So many times the peer.
    Peer(f64),
}

/// What a bench found, and what the machine did meanwhile. Serialises to the report alone.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What it found.
    pub report: Report,
    /// What the machine did to everybody.
    pub noise: Noise,
}

impl Serialize for Measured {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.report.serialize(serializer)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  machine: {}", self.report, self.noise.figures())
    }
}

impl Bench {
    /// Measures. Takes as long as `options` say, plus a warm-up.
    pub fn run(&self, options: &Options) -> Result<Measured, BenchError> {
        let listener = Listener::start();
        let report = (self.run)(self, options)?;
        Ok(Measured { report, noise: listener.finish() })
    }
}

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
