//! What the processes of a region cost between two looks: time on the processor, wake-ups, memory. From `/proc`, so that nobody takes
//! part in it.

use hotpair_shm::Region;
use serde::Serialize;

use crate::proc::{self, Spent};

/// One process, in a stretch of time.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    pid: u32,
    kind: String,
    name: String,
    /// Of one core.
    cpu_percent: f64,
    /// How often a thread of it slept and was woken.
    wakes_per_s: f64,
    /// The same for each commit of the region; none without commits.
    wakes_per_commit: Option<f64>,
    /// Kilobytes in memory, the region's among them.
    resident_kb: u64,
}

/// One process at one moment.
#[derive(Clone, Debug)]
struct Counts {
    pid: u32,
    kind: String,
    name: String,
    spent: Spent,
    resident_kb: u64,
}

/// All of them at one moment.
#[derive(Debug)]
pub(super) struct ProcessLook(Vec<Counts>);

impl ProcessLook {
    /// The living processes that have a seat in `region`, now. One with several seats counts once.
    pub(super) fn at(region: &Region) -> Self {
        let mut found: Vec<Counts> = Vec::new();
        for seat in region.participants().iter().filter(|seat| seat.alive) {
            if found.iter().any(|known| known.pid == seat.pid) {
                continue;
            }
            let kind = seat.kind.map_or_else(|| "?".to_owned(), |kind| kind.to_string());
            found.extend(counts(seat.pid, kind, seat.name.clone()));
        }
        Self(found)
    }

    /// What was spent from here to a later look, `seconds` after it, while there were so many commits.
    pub(super) fn until(&self, later: &Self, seconds: f64, commits: u64) -> Vec<Process> {
        let before = |pid| self.0.iter().find(|earlier: &&Counts| earlier.pid == pid);
        let both = later.0.iter().filter_map(|now| before(now.pid).map(|then| (then, now)));
        both.map(|(then, now)| {
            let spent = now.spent.since(then.spent);
            let (wakes, cpu) = (spent.wakes as f64, spent.cpu_ns as f64 / 1e9);
            Process {
                pid: now.pid,
                kind: now.kind.clone(),
                name: now.name.clone(),
                cpu_percent: hundredths(cpu / seconds * 100.0),
                wakes_per_s: hundredths(wakes / seconds),
                wakes_per_commit: (commits > 0).then(|| hundredths(wakes / commits as f64)),
                resident_kb: now.resident_kb,
            }
        })
        .collect()
    }
}

impl Process {
    /// As in the table for people.
    pub(super) fn row(&self) -> String {
        let Self { pid, kind, name, cpu_percent, wakes_per_s, wakes_per_commit, resident_kb } =
            self;
        let each = wakes_per_commit.map_or_else(|| "-".to_owned(), |each| format!("{each:.2}"));
        format!(
            "  {:<22}{pid:>9}{cpu_percent:>8.2} %{wakes_per_s:>10.0}{each:>11}{:>9} MB",
            format!("{kind} {name}"),
            resident_kb / 1024
        )
    }
}

/// The head of the table.
pub(super) fn head() -> String {
    format!(
        "  {:<22}{:>9}{:>10}{:>10}{:>11}{:>12}",
        "processes", "pid", "cpu", "wakes/s", "a commit", "resident"
    )
}

fn hundredths(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

/// `None` for one that has just ended.
fn counts(pid: u32, kind: String, name: String) -> Option<Counts> {
    let (resident_kb, _) = proc::resident_kb(pid)?;
    Some(Counts { pid, kind, name, spent: proc::spent(pid)?, resident_kb })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what this process does between two looks is what the looks show.
    #[test]
    fn sleeps_and_work_are_seen() {
        let own = || {
            let seen = counts(std::process::id(), "test".into(), "own".into());
            ProcessLook(vec![seen.expect("this process lives")])
        };
        let before = own();
        for _ in 0..50 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // However little of the processor this thread gets.
        let on_processor = || {
            let spent = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
            std::time::Duration::from(spent.expect("a clock that each thread has"))
        };
        let begun = on_processor();
        while on_processor() - begun < std::time::Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let spent = before.until(&own(), 0.5, 25);
        let [process] = &spent[..] else { panic!("{spent:?}") };
        assert!(process.wakes_per_s >= 100.0, "50 sleeps: {process:?}");
        assert!(process.wakes_per_commit.is_some_and(|each| each >= 2.0), "{process:?}");
        assert!(process.cpu_percent > 0.0 && process.resident_kb > 0, "{process:?}");
        assert_eq!(before.until(&own(), 0.5, 0)[0].wakes_per_commit, None);
    }
}
