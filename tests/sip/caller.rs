//! sipp as the caller: what it has seen so far, and what it says in the end.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::processes::Process;

/// Longest run of sipp, in which each wait has a bound of its own.
const RUN_MAX: Duration = Duration::from_secs(240);

/// Whether sipp is installed. In CI it has to be.
pub(crate) fn is_installed() -> bool {
    if Command::new("sipp").arg("-v").output().is_ok() {
        return true;
    }
    let advice = "sipp is not installed: apt-get install sip-tester";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
    eprintln!("skipped, because {advice}");
    false
}

/// What sipp is to do.
pub(crate) struct Calls<'a> {
    pub(crate) scenario: &'a Path,
    /// Where calls go.
    pub(crate) service: SocketAddr,
    /// Where they come from.
    pub(crate) from: IpAddr,
    /// Words before the program's name, which start it on a host of its own.
    pub(crate) on: &'a [&'a str],
    pub(crate) a_second: u32,
    pub(crate) in_all: u32,
}

/// A running sipp.
pub(crate) struct Caller {
    process: Process,
    dir: PathBuf,
    started: Instant,
}

/// What sipp has counted, at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) placed: u64,
    pub(crate) ringing: u64,
    pub(crate) up: u64,
}

/// What sipp says in the end.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit_code: Option<i32>,
    pub(crate) successful: u64,
    pub(crate) failed: u64,
    /// What it found wrong first.
    pub(crate) complaint: String,
}

impl Caller {
    /// Places these calls, with its files in `dir`.
    pub(crate) fn start(dir: &Path, calls: &Calls<'_>) -> Caller {
        let (rate, in_all) = (calls.a_second.to_string(), calls.in_all.to_string());
        let (service, from) = (calls.service.to_string(), calls.from.to_string());
        let scenario = calls.scenario.to_str().expect("the test's paths are plain text");
        #[rustfmt::skip]
        let sipp = [
            "sipp", &service, "-sf", scenario, "-i", &from, "-r", &rate, "-m", &in_all,
            "-nostdin", "-fd", "1", "-trace_stat", "-stf", "stat.csv", "-trace_counts",
            "-trace_err", "-error_file", "errors.log",
        ];
        let argv = calls.on.iter().chain(&sipp);
        let process = Process::start(dir, "sipp", argv);
        Caller { process, dir: dir.to_owned(), started: Instant::now() }
    }

    /// What it counted last; it writes once a second. Fails the test if it has ended.
    pub(crate) fn seen(&mut self) -> Option<Seen> {
        let ended = self.process.ended();
        assert!(ended.is_none(), "sipp ended early: {ended:?} {}", self.complaint());
        let is_counts = |path: &PathBuf| path.to_string_lossy().ends_with("_counts.csv");
        let mut files = fs::read_dir(&self.dir).ok()?.flatten().map(|entry| entry.path());
        let table = fs::read_to_string(files.find(is_counts)?).ok()?;
        let invites = number(&table, "_INVITE_Sent")?;
        let rang = number(&table, "_180_Recv")?;
        let answered = number(&table, "_200_Recv")?;
        let acknowledged = last_number(&table, "_200_Recv")?;
        Some(Seen {
            placed: invites,
            ringing: rang.saturating_sub(answered),
            up: answered.saturating_sub(acknowledged),
        })
    }

    /// Waits for its end.
    pub(crate) fn outcome(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.process.ended() {
                break status;
            }
            assert!(self.started.elapsed() < RUN_MAX, "sipp runs for more than {RUN_MAX:?}");
            std::thread::sleep(Duration::from_millis(50));
        };
        let table = fs::read_to_string(self.dir.join("stat.csv")).unwrap_or_default();
        Outcome {
            exit_code: status.code(),
            successful: number(&table, "SuccessfulCall(C)").unwrap_or(0),
            failed: number(&table, "FailedCall(C)").unwrap_or(0),
            complaint: self.complaint(),
        }
    }

    fn complaint(&self) -> String {
        let text = fs::read_to_string(self.dir.join("errors.log")).unwrap_or_default();
        text.chars().take(1_500).collect()
    }
}

/// The newest value of the first column whose name ends so.
fn number(table: &str, ending: &str) -> Option<u64> {
    column(table, ending, |matching| matching.next())
}

/// The newest value of the last such column.
fn last_number(table: &str, ending: &str) -> Option<u64> {
    column(table, ending, |matching| matching.last())
}

fn column(
    table: &str,
    ending: &str,
    pick: impl FnOnce(&mut dyn Iterator<Item = usize>) -> Option<usize>,
) -> Option<u64> {
    // A line that is being written has no end yet.
    let complete = &table[..=table.rfind('\n')?];
    let mut lines = complete.lines();
    let names = lines.next()?.split(';').enumerate();
    let index = pick(&mut names.filter(|(_, name)| name.ends_with(ending)).map(|(at, _)| at))?;
    lines.next_back()?.split(';').nth(index)?.parse().ok()
}
