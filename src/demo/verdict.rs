//! The demo's verdict: one word, and the reasons for it.

use std::fmt;

/// How the demo ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was lost, and everybody did their part.
    Ok,
    /// The outside was told of effects that are gone, doubled or changed.
    Lost,
    /// Nothing was lost, and yet the run does not prove what it is meant to prove.
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Ok => "ok",
            Verdict::Lost => "lost",
            Verdict::Failed => "failed",
        })
    }
}

/// A worker that is alive at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerCommits {
    /// Its process.
    pub(crate) pid: i32,
    /// What it committed.
    pub(crate) commits: u64,
}

/// Everything the verdict rests on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// Requests answered.
    pub(crate) acked: u64,
    /// Requests that were not answered until the end.
    pub(crate) unanswered: u64,
    /// Acknowledged effects that are gone.
    pub(crate) lost: u64,
    /// Effects that took place twice.
    pub(crate) duplicated: u64,
    /// Histories of the right length and another content.
    pub(crate) diverged: u64,
    /// Keyed objects in the load.
    pub(crate) objects: u64,
    /// Of these, those that at least two workers served.
    pub(crate) objects_served_by_several: u64,
    /// Objects without a key that were asked for.
    pub(crate) added: u64,
    /// Of these, those that are gone again.
    pub(crate) withdrawn: u64,
    /// Blocks in use before the load, and after it.
    pub(crate) blocks_in_use: Option<(u64, u64)>,
    /// Objects in the queue at the end: those with a key.
    pub(crate) objects_end: Option<u64>,
    /// Workers alive at the end, on the side that serves.
    pub(crate) workers: Vec<WorkerCommits>,
    /// Workers that have to be alive then.
    pub(crate) workers_expected: usize,
    /// The kill must be followed by a failover.
    pub(crate) failover_expected: bool,
    /// The failover, if there was one.
    pub(crate) failed_over: bool,
    /// Whatever else went wrong while it ran.
    pub(crate) mishaps: Vec<String>,
}

/// The verdict and what led to it; no reasons with [`Verdict::Ok`].
pub(crate) fn judge(findings: &Findings) -> (Verdict, Vec<String>) {
    let mut lost = Vec::new();
    if findings.lost > 0 {
        lost.push(format!("{} acknowledged effects are gone", findings.lost));
    }
    if findings.duplicated > 0 {
        lost.push(format!("{} effects took place twice", findings.duplicated));
    }
    if findings.diverged > 0 {
        lost.push(format!("{} histories differ from what was acknowledged", findings.diverged));
    }
    let mut failed = findings.mishaps.clone();
    if findings.unanswered > 0 {
        failed.push(format!("{} requests were never answered", findings.unanswered));
    }
    if findings.acked == 0 {
        failed.push("no request was answered".to_owned());
    }
    if findings.failover_expected && !findings.failed_over {
        failed.push("nobody took over".to_owned());
    }
    if findings.added != findings.withdrawn {
        failed.push(format!(
            "{} objects without a key were added, {} withdrawn",
            findings.added, findings.withdrawn
        ));
    }
    match findings.blocks_in_use {
        Some((start, end)) if start == end => {}
        Some((start, end)) => {
            failed.push(format!("{start} blocks were in use before the load, {end} after it"));
        }
        None => failed.push("the blocks in use are not known".to_owned()),
    }
    if let Some(end) = findings.objects_end.filter(|end| *end != findings.objects) {
        failed.push(format!("{end} objects are left, there should be {}", findings.objects));
    }
    if findings.workers.len() < findings.workers_expected {
        failed.push(format!(
            "{} workers are alive, there should be {}",
            findings.workers.len(),
            findings.workers_expected
        ));
    }
    for worker in findings.workers.iter().filter(|worker| worker.commits == 0) {
        failed.push(format!("worker {} committed nothing", worker.pid));
    }
    // With one object and chance against it, one worker may have served it alone; most must not.
    if findings.objects_served_by_several * 2 < findings.objects {
        failed.push(format!(
            "{} of {} objects were served by several workers",
            findings.objects_served_by_several, findings.objects
        ));
    }
    match (lost.is_empty(), failed.is_empty()) {
        (true, true) => (Verdict::Ok, Vec::new()),
        (true, false) => (Verdict::Failed, failed),
        (false, _) => {
            lost.append(&mut failed);
            (Verdict::Lost, lost)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Findings {
        Findings {
            acked: 1_000,
            objects: 64,
            objects_served_by_several: 60,
            added: 100,
            withdrawn: 100,
            blocks_in_use: Some((64, 64)),
            workers: [(11, 500), (12, 400), (13, 100)]
                .map(|(pid, commits)| WorkerCommits { pid, commits })
                .to_vec(),
            workers_expected: 3,
            failover_expected: true,
            failed_over: true,
            ..Findings::default()
        }
    }

    #[test]
    fn one_fault_decides() {
        type Change = fn(&mut Findings);
        #[rustfmt::skip]
        let cases: [(&str, Change, Verdict); 13] = [
            ("nothing wrong",          |_| {},                                    Verdict::Ok),
            ("an effect lost",         |f| f.lost = 1,                            Verdict::Lost),
            ("an effect doubled",      |f| f.duplicated = 1,                      Verdict::Lost),
            ("another history",        |f| f.diverged = 1,                        Verdict::Lost),
            ("unanswered",             |f| f.unanswered = 1,                      Verdict::Failed),
            ("no failover",            |f| f.failed_over = false,                 Verdict::Failed),
            ("an idle worker",         |f| f.workers[2].commits = 0,              Verdict::Failed),
            ("a worker is missing",    |f| { f.workers.pop(); },                  Verdict::Failed),
            ("objects tied to workers", |f| f.objects_served_by_several = 31,     Verdict::Failed),
            ("blocks leaked",          |f| f.blocks_in_use = Some((64, 65)),      Verdict::Failed),
            ("an object left over",    |f| f.withdrawn = 99,                      Verdict::Failed),
            ("a mishap",               |f| f.mishaps.push("the client died".into()), Verdict::Failed),
            ("lost outweighs failed",  |f| { f.lost = 1; f.unanswered = 1; },     Verdict::Lost),
        ];
        for (why, change, verdict) in cases {
            let mut findings = good();
            change(&mut findings);
            let (judged, reasons) = judge(&findings);
            assert_eq!(judged, verdict, "{why}: {reasons:?}");
            assert_eq!(reasons.is_empty(), verdict == Verdict::Ok, "{why}");
        }
    }
}
