//! Running the program as a user does, and cleaning up whatever happens.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hotpair_shm::Region;

/// The program under test.
pub(crate) const HOTPAIR: &str = env!("CARGO_BIN_EXE_hotpair");

/// Longest wait for something that is bound to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program to its end.
pub(crate) fn hotpair<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
    let output = Command::new(HOTPAIR)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program was built");
    Ended::of(output)
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Ended {
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Ended {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Ended {
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// One clear error: what, why, and what to do if that is known.
    #[track_caller]
    pub(crate) fn one_error(&self) -> &Ended {
        let count = |lead: &str| self.stderr.lines().filter(|line| line.starts_with(lead)).count();
        assert_eq!((count("error: "), count("cause: ")), (1, 1), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        assert_eq!(self.stdout, "", "errors are no data");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.stdout.trim()).unwrap_or_else(|error| {
            panic!("{error} in {self:#?}");
        })
    }
}

/// A region's name that no other test uses, and its file's removal.
pub(crate) struct RegionName(pub(crate) String);

impl RegionName {
    pub(crate) fn new(purpose: &str) -> RegionName {
        RegionName(format!("test-{}-{purpose}", std::process::id()))
    }

    pub(crate) fn path(&self) -> PathBuf {
        Region::path_for(&self.0)
    }
}

impl Drop for RegionName {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
    }
}

/// Three objects: one with a value, one that waits for a worker with a message, one that failed too often.
pub(crate) fn furnish(region: &Region) {
    use hotpair_shm::{Delivery, Endpoint, Kind};
    let queue = region.queue("default").expect("in the geometry");
    region.become_primary(1);
    let mut worker = region.join(Kind::Worker, "worker-1").expect("a seat");
    let send = |worker: &mut hotpair_shm::Participant, key: &[u8]| {
        let packet = worker.packet_of(b"hello", Endpoint::NONE).expect("a block");
        worker.deliver(Delivery { queue, key: Some(key), priority: 0 }, packet).expect("room");
    };
    send(&mut worker, b"done");
    let mut claim = worker.claim(queue).expect("ready");
    claim.set_value(b"{\"n\":1}").expect("a block");
    claim.commit().expect("nobody is in the way");
    send(&mut worker, b"bad");
    for _ in 0..region.geometry().max_attempts {
        worker.claim(queue).expect("ready").fail();
    }
    send(&mut worker, b"waits");
}

/// The program under test as a child that the kernel ends with the thread that starts it: also if the test is
/// killed before it can clean up.
pub(crate) fn bound() -> Command {
    bound_program(HOTPAIR)
}

/// The same of any program.
pub(crate) fn bound_program(program: &str) -> Command {
    let mut command = Command::new(HOTPAIR);
    let parent = std::process::id().to_string();
    command.args(["under", "--parent", &parent, "--", program]);
    command
}

/// A child that does not outlive its test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        Running(command.spawn().expect("the program was built"))
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("process ids are small")
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.0.try_wait().expect("our own child");
            status.is_some()
        });
        status.expect("it has just ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for something that is bound to happen.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Process ids of `root` and everything below it.
pub(crate) fn family(root: i32) -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc is mounted").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name stands in parentheses and may contain anything.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let parent = rest.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok());
        parents.push((pid, parent.unwrap_or(0)));
    }
    let mut family = vec![root];
    let mut at = 0;
    while at < family.len() {
        let parent = family[at];
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    family
}

/// Whether a process runs: one that is dead and not yet waited for does not.
pub(crate) fn runs(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Everything of ours in /dev/shm whose file name contains `part`.
pub(crate) fn regions_with(part: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/dev/shm").expect("/dev/shm is mounted").flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.contains("hotpair") && name.contains(part))
        .collect()
}

/// A loopback address for this test: processes of other tests have others.
pub(crate) fn loopback(purpose: u8) -> String {
    let [low, high, ..] = std::process::id().to_le_bytes();
    format!("127.{}.{low}.{high}", 64 + purpose % 64).replace(".0.", ".1.").replace(".255", ".254")
}

/// A configuration of node a with one port and one worker, in `dir`.
pub(crate) fn write_config(dir: &Path, region: &str, ip: &str, port: &str) -> PathBuf {
    let text = format!(
        r#"[pair]
name = "test"
node = "a"
[pki]
dir = "pki"
[witness]
address = "{ip}:7400"
[replication]
listen = "{ip}:7410"
peer = "{ip}:7420"
[region]
name = "{region}"
slots = 64
[[region.class]]
payload_bytes = 2048
blocks = 512
[[queue]]
name = "calls"
[[port]]
name = "service"
kind = "udp"
queue = "calls"
{port}
"#
    );
    let path = dir.join("a.toml");
    std::fs::write(&path, text).expect("a temporary directory is writable");
    path
}
