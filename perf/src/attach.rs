//! A running pair, looked at from beside: what its requests spent their time on between two looks, and what its processes cost.

mod processes;

use std::fmt;
use std::time::Instant;

use hotpair_shm::{Counter, Region};
use serde::Serialize;

use crate::report::{StageLook, Stages};

pub use processes::Process;
use processes::ProcessLook;

/// What was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Attached {
    v: u32,
    bench: &'static str,
    unit: &'static str,
    /// Name of the region that was looked at.
    region: String,
    seconds: f64,
    /// All of them, not only those whose stages were measured.
    commits: u64,
    #[serde(flatten)]
    stages: Stages,
    /// On this side of the pair.
    processes: Vec<Process>,
}

impl Attached {
    /// Looks at a region, waits, and looks again.
    pub fn look(region: &Region, wait: impl FnOnce()) -> Self {
        let begun = Instant::now();
        let (before, first) = (StageLook::at(region), commits(region));
        let processes = ProcessLook::at(region);
        wait();
        let seconds = begun.elapsed().as_secs_f64();
        let commits = commits(region).saturating_sub(first);
        Self {
            v: 1,
            bench: "attach",
            unit: "ns",
            region: region.name().to_owned(),
            seconds,
            commits,
            stages: before.until(&StageLook::at(region)),
            processes: processes.until(&ProcessLook::at(region), seconds, commits),
        }
    }
}

fn commits(region: &Region) -> u64 {
    region.participants().iter().map(|seat| seat.counter(Counter::Commits)).sum()
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, commits, seconds, stages, processes, .. } = self;
        writeln!(f, "region {region}: {commits} commits in {seconds:.1} s")?;
        match stages.rows.is_empty() {
            true => writeln!(
                f,
                "  no stage was measured: each worker measures one in 127 of its claims"
            )?,
            false => writeln!(f, "{stages}")?,
        }
        write!(f, "{}", processes::head())?;
        processes.iter().try_for_each(|process| write!(f, "\n{}", process.row()))
    }
}
