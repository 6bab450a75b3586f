//! Where the time of a request goes, stage by stage.
//!
//! ```text
//!   port                 worker                  node a              node b   node a    port
//!   receive ► queue ►  claim ► work ► commit  ►  batch ► wire  ►     apply ►  ack    ►  release ► send
//! ```

use std::fmt;

use hotpair_shm::{Distribution, Region};
use serde::Serialize;

use super::Short;
use crate::histogram::{Histogram, Summary};

/// The stages that were seen, in the order in which a request passes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// One for each.
    pub rows: Vec<Stage>,
}

/// One stage, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// As in the picture above.
    pub name: &'static str,
    /// How often it was timed.
    pub n: u64,
    /// Half of its times are not above this.
    pub p50: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Stages {
    /// What a region has counted. A stage that nothing has passed is left out.
    pub fn of(region: &Region) -> Self {
        let times = region.times();
        let mut stages = Stages::default();
        stages.push("queue", &times.age);
        stages.push("work", &times.claim);
        stages
    }

    /// Adds the next one, unless nothing has passed it.
    pub fn push(&mut self, name: &'static str, seen: &Distribution) {
        let Summary { n, p50, p99, p999, max } = Histogram::of(seen).summary();
        if n > 0 {
            self.rows.push(Stage { name, n, p50, p99, p999, max });
        }
    }
}

/// What a stage is, for people.
pub(crate) fn meaning(name: &str) -> &'static str {
    match name {
        "receive" => "from the kernel's stamp on the packet to its delivery by the port",
        "queue" => "from the delivery of a message to the claim of its object",
        "claim" => "taking the object, by the worker",
        "work" => "from the claim to its commit: the application, and making the commit",
        "commit" => "making the commit",
        "batch" => "from the commit until its node has it in a batch",
        "wire" => "from the batch to the other node",
        "apply" => "checking and applying it there",
        "ack" => "from there until the node has the acknowledgement",
        "release" => "from the acknowledgement until its output may leave",
        "send" => "from then until the port has given it to the kernel",
        _ => "",
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  {:<14}{:>10}{:>10}{:>10}{:>10}{:>12}",
            "stages, us", "p50", "p99", "p99.9", "max", "n"
        )?;
        for Stage { name, n, p50, p99, p999, max } in &self.rows {
            let us = |ns: u64| Short(ns as f64 / 1e3).to_string();
            let (p50, p99, p999, max) = (us(*p50), us(*p99), us(*p999), us(*max));
            write!(f, "\n  {name:<14}{p50:>10}{p99:>10}{p999:>10}{max:>10}{n:>12}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_nothing_passed_are_left_out() {
        let mut seen = Distribution::default();
        for value in [1_000, 2_000, 400_000] {
            seen.record(value);
        }
        let mut stages = Stages::default();
        stages.push("queue", &Distribution::default());
        stages.push("work", &seen);
        let [work] = &stages.rows[..] else { panic!("one was passed: {stages:?}") };
        assert_eq!((work.name, work.n), ("work", 3));
        assert!(work.p50 >= 2_000 && work.max >= 400_000, "{work:?}");
        let text = stages.to_string();
        assert!(text.lines().count() == 2 && text.contains("work"), "{text}");
    }
}
