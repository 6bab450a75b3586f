//! What processes and threads have spent, from `/proc`, so that nobody takes part in it.

use std::fs;
use std::path::{Path, PathBuf};

/// Time and wake-ups since something began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// On a processor.
    pub(crate) cpu_ns: u64,
    /// How often it slept and was woken.
    pub(crate) wakes: u64,
}

impl Spent {
    /// Between an earlier look and this one. A thread that has ended in between takes its share along.
    pub(crate) fn since(self, earlier: Spent) -> Spent {
        Spent {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            wakes: self.wakes.saturating_sub(earlier.wakes),
        }
    }

    /// Both together.
    pub(crate) fn and(self, other: Spent) -> Spent {
        Spent { cpu_ns: self.cpu_ns + other.cpu_ns, wakes: self.wakes + other.wakes }
    }
}

/// A process or a thread of one, to be looked at again and again.
#[derive(Clone, Debug)]
pub(crate) struct Watched(Vec<PathBuf>);

impl Watched {
    /// All threads that the process has now.
    pub(crate) fn process(pid: u32) -> Self {
        Watched(tasks(pid))
    }

    /// Those threads of this process that have the name.
    pub(crate) fn own_threads(name: &str) -> Self {
        let mut found = tasks(std::process::id());
        found.retain(|task| read(&task.join("comm")).trim_end() == name);
        Watched(found)
    }

    /// Whether there is nobody.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it has spent by now.
    pub(crate) fn spent(&self) -> Spent {
        self.0.iter().filter_map(|task| thread(task)).fold(Spent::default(), Spent::and)
    }
}

/// All threads of a process; `None` if it is gone.
pub(crate) fn spent(pid: u32) -> Option<Spent> {
    let tasks = tasks(pid);
    (!tasks.is_empty()).then(|| Watched(tasks).spent())
}

/// Kilobytes in memory, those that it shares with others among them; and those that are its alone.
pub(crate) fn resident_kb(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |name| field(&status, name).unwrap_or(0);
    Some((of("VmRSS:"), of("RssAnon:")))
}

/// The processes that `pid` has started, and they in turn.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut next = vec![pid];
    while let Some(parent) = next.pop() {
        for task in tasks(parent) {
            let children = read(&task.join("children"));
            let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
            let children: Vec<u32> = children.collect();
            found.extend(&children);
            next.extend(children);
        }
    }
    found
}

/// The words of its command line.
pub(crate) fn command_line(pid: u32) -> Vec<String> {
    let text = read(Path::new(&format!("/proc/{pid}/cmdline")));
    text.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks.into_iter().flatten().flatten().map(|task| task.path()).collect()
}

fn thread(task: &Path) -> Option<Spent> {
    let status = fs::read_to_string(task.join("status")).ok()?;
    let wakes = field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
    // Nanoseconds where the kernel counts them, else clock ticks.
    let exact = read(&task.join("schedstat"));
    let exact = exact.split_ascii_whitespace().next().and_then(|ns| ns.parse().ok());
    let cpu_ns = exact.or_else(|| Some(ticks(&read(&task.join("stat")))? * ns_per_tick()))?;
    Some(Spent { cpu_ns, wakes })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number behind a name of `/proc/PID/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The 14th and 15th field of `/proc/PID/stat`: time in user and in kernel mode. The name, in parentheses, may contain anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn ns_per_tick() -> u64 {
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    1_000_000_000 / per_second.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 100 1 1";
        assert_eq!(ticks(stat), Some(300));
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(field(status, "VmRSS:"), Some(2048));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(17));
        assert_eq!(field(status, "VmSwap:"), None);
    }

    /// Goal: what a thread does between two looks is what the looks show, and no other thread's doing.
    #[test]
    fn sleeps_and_work_of_a_thread_are_seen() {
        const NAME: &str = "watched";
        let toil = || {
            for _ in 0..50 {
                std::thread::sleep(Duration::from_millis(1));
            }
            let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
            let on_processor =
                || Duration::from(nix::time::clock_gettime(clock).expect("it has one"));
            let begun = on_processor();
            while on_processor() - begun < Duration::from_millis(50) {
                std::hint::spin_loop();
            }
            let watched = Watched::own_threads(NAME);
            watched.spent()
        };
        let thread = std::thread::Builder::new().name(NAME.to_owned()).spawn(toil);
        let spent = thread.expect("a thread").join().expect("it does not panic");
        assert!(spent.wakes >= 50, "{spent:?}");
        // A thread's time is written down when it is switched, or at a tick.
        assert!((30_000_000..1_000_000_000).contains(&spent.cpu_ns), "{spent:?}");
        assert_eq!(Watched::own_threads("no-such-thread").spent(), Spent::default());
    }

    #[test]
    fn children_are_found_with_their_command_lines() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("it is there");
        let found = descendants(std::process::id()).contains(&child.id());
        let memory = resident_kb(child.id());
        // A killed one may be waited for; it is our own.
        child.kill().expect("it runs");
        child.wait().expect("our own child");
        assert!(found && memory.is_some());
        assert!(spent(child.id()).is_none() && resident_kb(child.id()).is_none());
        let own = command_line(std::process::id());
        assert!(!own.is_empty(), "{own:?}");
    }
}
