//! Where the time of a request goes: what a running pair's region says of each stage between two looks.

use std::fmt;
use std::time::Duration;

use hotpair_shm::{Counter, Distribution, Region, Stage};
use serde::Serialize;

/// How long each stage took in a stretch of time. In nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Stages {
    v: u32,
    bench: &'static str,
    unit: &'static str,
    /// Of the region that was looked at.
    region: String,
    seconds: f64,
    /// All of them, not only those that were measured.
    commits: u64,
    /// In the order of a request's way.
    rows: Vec<Row>,
}

/// One stage.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    stage: &'static str,
    n: u64,
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// What a region said at one moment.
#[derive(Debug)]
pub struct StageLook {
    stages: Vec<Distribution>,
    commits: u64,
}

impl StageLook {
    /// Looks at `region` now.
    pub fn at(region: &Region) -> Self {
        let participants = region.participants();
        let commits = participants.iter().map(|seat| seat.counter(Counter::Commits)).sum();
        Self { stages: Stage::ALL.iter().map(|&stage| region.time_in(stage)).collect(), commits }
    }

    /// What happened in `region` from this look until now, which is `after` later.
    pub fn until_now(&self, region: &Region, after: Duration) -> Stages {
        let later = Self::at(region);
        let rows = Stage::ALL.iter().zip(later.stages.iter().zip(&self.stages));
        Stages {
            v: 1,
            bench: "attach",
            unit: "ns",
            region: region.name().to_owned(),
            seconds: after.as_secs_f64(),
            commits: later.commits.saturating_sub(self.commits),
            rows: rows.map(|(stage, (now, then))| Row::of(*stage, &now.since(then))).collect(),
        }
    }
}

impl Row {
    fn of(stage: Stage, seen: &Distribution) -> Self {
        Self {
            stage: stage.name(),
            n: seen.len(),
            p50: seen.quantile(0.5),
            p99: seen.quantile(0.99),
            p999: seen.quantile(0.999),
            max: seen.max(),
        }
    }
}

impl Stages {
    /// Whether no stage of any request was seen.
    pub fn is_empty(&self) -> bool {
        self.rows.iter().all(|row| row.n == 0)
    }

    /// In the order of a request's way.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

impl Row {
    /// What the stage is called.
    pub fn stage(&self) -> &'static str {
        self.stage
    }

    /// How many were measured.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Half took no longer, in nanoseconds; to one part in 16.
    pub fn p50(&self) -> u64 {
        self.p50
    }

    /// Of a hundred 99 took no longer.
    pub fn p99(&self) -> u64 {
        self.p99
    }
}

fn us(ns: u64) -> String {
    match ns {
        0..100_000 => format!("{:.1}", ns as f64 / 1e3),
        _ => format!("{}", ns / 1_000),
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "region {}: {} commits in {:.1} s; of each stage of a sample, in us",
            self.region, self.commits, self.seconds
        )?;
        writeln!(
            f,
            "{:<9}{:>8}{:>10}{:>10}{:>10}{:>10}",
            "stage", "n", "p50", "p99", "p99.9", "max"
        )?;
        for row in &self.rows {
            let figures = [row.p50, row.p99, row.p999, row.max];
            write!(f, "{:<9}{:>8}", row.stage, row.n)?;
            for figure in figures {
                match row.n {
                    0 => write!(f, "{:>10}", "-")?,
                    _ => write!(f, "{:>10}", us(figure))?,
                }
            }
            writeln!(f)?;
        }
        let sum: u64 = self.rows.iter().map(|row| row.p50).sum();
        write!(f, "{:<9}{:>8}{:>10}", "sum", "", us(sum))
    }
}
