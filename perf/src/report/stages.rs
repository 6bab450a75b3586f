//! Where the time of a request goes, stage by stage.
//!
//! ```text
//!   port                 worker                  node a              node b   node a    port
//!   receive ► queue ►  claim ► work ► commit  ►  batch ► wire  ►     apply ►  ack    ►  release ► send
//! ```

use std::fmt;

use hotpair_shm::{Distribution, Region, Stage as Name};
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

/// What a region said of its stages at one moment.
#[derive(Debug, Default)]
pub struct StageLook(Vec<Distribution>);

impl StageLook {
    /// Now.
    pub fn at(region: &Region) -> Self {
        Self(Name::ALL.iter().map(|&stage| region.time_in(stage)).collect())
    }

    /// What has passed between this look and a later one.
    pub fn until(&self, later: &StageLook) -> Stages {
        let mut stages = Stages::default();
        for (at, (stage, now)) in Name::ALL.iter().zip(&later.0).enumerate() {
            match self.0.get(at) {
                Some(then) => stages.push(stage.name(), &now.since(then)),
                None => stages.push(stage.name(), now),
            }
        }
        stages
    }
}

impl Stages {
    /// What a region has counted since it was made. A stage that nothing has passed is left out.
    pub fn of(region: &Region) -> Self {
        StageLook::default().until(&StageLook::at(region))
    }

    /// Adds the next one, unless nothing has passed it.
    pub fn push(&mut self, name: &'static str, seen: &Distribution) {
        self.push_seen(name, &Histogram::of(seen));
    }

    /// The same for what a bench has seen itself.
    pub(crate) fn push_seen(&mut self, name: &'static str, seen: &Histogram) {
        let Summary { n, p50, p99, p999, max } = seen.summary();
        if n > 0 {
            self.rows.push(Stage { name, n, p50, p99, p999, max });
        }
    }
}

/// What a stage is, for people.
pub(crate) fn meaning(name: &str) -> &'static str {
    match name {
        "receive" => "from the kernel's stamp on the packet to its object's inbox, by the port",
        "queue" => "from there to the claim of its object",
        "claim" => "from the worker's look for an object until it has it, with all messages",
        "work" => "from there to the call of the commit: the application",
        "commit" => "from there until the commit holds",
        "batch" => "from there until the node has sealed it into a batch, with its waking",
        "wire" => {
            "from there to the back-up's acknowledgement, less what the back-up needed: the network, there and back"
        }
        "apply" => "the back-up, from the batch's arrival to its acknowledgement",
        "ack" => "from the acknowledgement's arrival until its output may leave",
        "release" => "from there until the port has it, with its waking",
        "send" => "from there until the packet has left",
        "detect" => "from the kill until the other side knows",
        "promote" => {
            "from there until the other side is primary: the arbiter's answer, the region's role"
        }
        "first output" => "from there until a client has the first answer",
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
