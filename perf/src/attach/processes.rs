//! What the processes of a region cost between two looks: time on the processor, wake-ups, memory. From `/proc`, so that nobody takes
//! part in it.

use std::fs;
use std::path::Path;

use hotpair_shm::Region;
use serde::Serialize;

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

/// Counts of one process since it began.
#[derive(Clone, Debug)]
struct Counts {
    pid: u32,
    kind: String,
    name: String,
    /// In clock ticks.
    cpu: u64,
    /// Voluntary context switches of all threads.
    sleeps: u64,
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
            let sleeps = now.sleeps.saturating_sub(then.sleeps) as f64;
            let cpu = now.cpu.saturating_sub(then.cpu) as f64 / ticks_per_second();
            Process {
                pid: now.pid,
                kind: now.kind.clone(),
                name: now.name.clone(),
                cpu_percent: hundredths(cpu / seconds * 100.0),
                wakes_per_s: hundredths(sleeps / seconds),
                wakes_per_commit: (commits > 0).then(|| hundredths(sleeps / commits as f64)),
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
    let place = Path::new("/proc").join(pid.to_string());
    let stat = fs::read_to_string(place.join("stat")).ok()?;
    let status = fs::read_to_string(place.join("status")).ok()?;
    let mut sleeps = 0;
    for thread in fs::read_dir(place.join("task")).ok()?.flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        sleeps += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
    }
    let cpu = cpu_ticks(&stat)?;
    Some(Counts {
        pid,
        kind,
        name,
        cpu,
        sleeps,
        resident_kb: field(&status, "VmRSS:").unwrap_or(0),
    })
}

/// The number behind a name of `/proc/PID/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The 14th and 15th field of `/proc/PID/stat`: time in user and in kernel mode. The name, in parentheses, may contain anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn ticks_per_second() -> f64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu_ticks(stat), Some(300));
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(field(status, "VmRSS:"), Some(2048));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(17));
        assert_eq!(field(status, "VmSwap:"), None);
    }

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
        // Several ticks of the kernel's count, however few of them this thread gets.
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
