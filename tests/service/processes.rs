//! Child processes of a test: none outlives it, and what they said is shown when it fails.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest wait for anything that has to come: generous, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn hotpair() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_hotpair"))
}

/// The example program `name`, as fresh as its sources: `cargo test --test …` alone builds none.
pub(crate) fn example(name: &str) -> PathBuf {
    let profile_dir = hotpair().parent().expect("the program lies in the profile's directory");
    let program = profile_dir.join("examples").join(name);
    if is_fresh(&program) != Some(true) {
        let target_dir = profile_dir.parent().expect("which lies in the target directory");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", name, "--target-dir"]).arg(target_dir);
        if profile_dir.ends_with("release") {
            build.arg("--release");
        }
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(built.success(), "example {name} does not build");
    }
    program
}

/// Whether a program is newer than all that cargo noted beside it as its sources.
///
/// Building it always would be simpler, but a build of this package alone may choose other features
/// than the build of the whole workspace did, and compile half of it again.
fn is_fresh(program: &Path) -> Option<bool> {
    let changed = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified()).ok();
    let built = changed(program)?;
    let note = fs::read_to_string(program.with_extension("d")).ok()?;
    let (_, sources) = note.split_once(':')?;
    Some(sources.split_whitespace().all(|path| changed(Path::new(path)) <= Some(built)))
}

/// One child. What it writes goes to a file, in the order in which it comes.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program in `dir`. The kernel ends it with the thread that runs the test.
    pub(crate) fn start(
        dir: &Path,
        name: &str,
        argv: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Process {
        let log = dir.join(format!("{name}.log"));
        let append = File::options().create(true).append(true).open(&log);
        let stderr = append.expect("the test's directory is writable");
        let stdout = stderr.try_clone().expect("a file can be shared");
        let mut command = Command::new(hotpair());
        command.args(["under", "--parent", &std::process::id().to_string(), "--"]).args(argv);
        command.current_dir(dir).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = command.spawn().expect("the program under test can be started");
        Process { name: name.to_owned(), child, log }
    }

    /// Waits for the first whole line that it writes.
    pub(crate) fn first_line(&mut self) -> String {
        let name = self.name.clone();
        wait_for(&format!("a word of {name}"), || {
            let ended = self.ended();
            let said = self.said();
            let line = said.split_once('\n').map(|(line, _)| line.to_owned());
            assert!(line.is_some() || ended.is_none(), "{name} ended without a word: {ended:?}");
            line
        })
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("process ids are small");
        // An error means that it has ended already.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let name = self.name.clone();
        wait_for(&format!("{name} stops"), || self.ended());
    }

    /// SIGKILL to it and to everything below it, in one go.
    pub(crate) fn kill_tree(&mut self) {
        let tree = tree_below(self.child.id());
        for pid in &tree {
            let pid = i32::try_from(*pid).expect("process ids are small");
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            self.kill_tree();
        }
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- {} said:\n{}", self.name, tail.join("\n"));
        }
    }
}

/// Asks again and again until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process and its descendants, parents first.
fn tree_below(root: u32) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc").expect("there is a /proc").flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name in parentheses may contain anything; the parent is the second word behind it.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let (Some(pid), Some(parent)) = (pid, parent.and_then(|word| word.parse().ok())) {
            parents.push((pid, parent));
        }
    }
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(&parent) = tree.get(at) {
        tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    tree
}

/// Whether a program is there; in CI its absence is a failure.
pub(crate) fn is_installed(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    assert!(there || std::env::var_os("CI").is_none(), "{program} is not installed");
    if !there {
        eprintln!("skipped: {program} is not installed");
    }
    there
}
