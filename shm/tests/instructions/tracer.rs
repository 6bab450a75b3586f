//! A child process that this thread executes instruction by instruction.
//!
//! The child is this test binary again. It asks to be traced and marks the begin and the end of its
//! operation by stopping itself; between the two marks the tracer lets it execute one instruction at a time.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What a child is to do: `OPERATION PATH`.
pub(crate) const TASK: &str = "HOTPAIR_INSTRUCTIONS_CHILD";

/// The operation that only marks itself.
pub(crate) const PROBE: &str = "probe";

/// How a child ends whose operation was refused: a success and a panic are other codes.
pub(crate) const REFUSED: i32 = 3;

/// What the child did when it was resumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// It executed one instruction.
    Instruction,
    /// It stopped itself.
    Mark,
    /// It ended with this code.
    Exit(i32),
}

/// A traced child. It is killed on drop, and by the kernel if this process ends.
pub(crate) struct Tracee {
    child: Child,
    /// The thread that runs the operation.
    thread: Pid,
    ended: Option<i32>,
}

impl Tracee {
    /// Starts a child and lets it run to its first mark.
    pub(crate) fn start(operation: &str, region: &Path) -> Tracee {
        Self::try_start(operation, region).expect("tracing is permitted")
    }

    fn try_start(operation: &str, region: &Path) -> Result<Tracee, String> {
        let child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(TASK, format!("{operation} {}", region.display()))
            .stdout(Stdio::null())
            .spawn()
            .expect("this test starts again");
        let mut tracee = Tracee { child, thread: Pid::from_raw(-1), ended: None };
        // The first stop of any child of this very thread: the one that was just started.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let stopped = waitpid(None, Some(flags)).expect("a child");
        let WaitStatus::Stopped(thread, Signal::SIGSTOP) = stopped else {
            return Err(format!(
                "{operation}: the child did not reach its first mark: {stopped:?}"
            ));
        };
        tracee.thread = thread;
        ptrace::setoptions(thread, ptrace::Options::PTRACE_O_EXITKILL).expect("it is traced");
        Ok(tracee)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its threads at present.
    pub(crate) fn threads(&self) -> Vec<u32> {
        std::fs::read_dir(format!("/proc/{}/task", self.pid()))
            .expect("the child is stopped, not gone")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Executes one instruction.
    pub(crate) fn step(&mut self) -> Stop {
        ptrace::step(self.thread, None).expect("a stopped child");
        self.wait()
    }

    /// Lets the child run to its next mark or its end.
    pub(crate) fn run(&mut self) -> Stop {
        loop {
            ptrace::cont(self.thread, None).expect("a stopped child");
            // A step that ended in a mark may leave its own stop behind.
            match self.wait() {
                Stop::Instruction => {}
                stop => return stop,
            }
        }
    }

    fn wait(&mut self) -> Stop {
        match waitpid(self.thread, Some(WaitPidFlag::__WALL)).expect("an own child") {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Stop::Instruction,
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Stop::Mark,
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                let status = self.child.wait().expect("an own child");
                let code = status.code().unwrap_or(-status.signal().unwrap_or(0));
                self.ended = Some(code);
                Stop::Exit(code)
            }
            other => panic!("the child stopped by {other:?} {}", self.place()),
        }
    }

    /// Kills the child where it stands and waits until the kernel has taken it apart.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            // The traced thread's end is reported to its tracer first.
            if self.thread.as_raw() > 0 {
                let _ = waitpid(self.thread, Some(WaitPidFlag::__WALL));
            }
            let _ = self.child.wait();
            self.ended = Some(-9);
        }
    }

    /// Where the child stands, as a command that says it in words.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn place(&self) -> String {
        let Ok(registers) = ptrace::getregs(self.thread) else { return String::new() };
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid()));
        let exe = std::env::current_exe().unwrap_or_default();
        let base = maps.unwrap_or_default().lines().find_map(|line| {
            let (range, rest) = line.split_once('-')?;
            rest.ends_with(exe.to_str()?).then(|| u64::from_str_radix(range, 16).ok())?
        });
        let offset = registers.rip.wrapping_sub(base.unwrap_or(0));
        format!("(addr2line -fiCe {} {offset:#x})", exe.display())
    }

    /// Where the child stands, as a command that says it in words.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn place(&self) -> String {
        String::new()
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        self.end();
    }
}

/// In the child: asks to be traced by the process that started it.
pub(crate) fn be_traced() {
    // Until the tracer has set its options, so that nothing stays behind if it ends before.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("a valid signal");
    ptrace::traceme().expect("the parent has seen that tracing is permitted");
}

/// In the child: begin or end of what is to be executed step by step.
pub(crate) fn mark() {
    raise(Signal::SIGSTOP).expect("a valid signal");
}

/// Keeps this thread, and the children that it starts, on one processor: a step costs a quarter then.
pub(crate) fn stay_on_one_processor() {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let me = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(me) else { return };
    let allowed: Vec<usize> =
        (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    let mut one = CpuSet::new();
    let cpu = allowed[NEXT.fetch_add(1, Ordering::Relaxed) % allowed.len()];
    if one.set(cpu).is_ok() {
        // Only for speed.
        let _ = sched_setaffinity(me, &one);
    }
}

/// Whether this process may trace its children. Says how to permit it if not; in CI that is a failure.
pub(crate) fn is_permitted() -> bool {
    let Err(refused) = Tracee::try_start(PROBE, Path::new("-")) else { return true };
    let say = format!(
        "a child cannot be traced here ({refused}): run as root, or `sysctl kernel.yama.ptrace_scope=1`; \
         in a container `--cap-add SYS_PTRACE`. Nothing was tried"
    );
    assert!(std::env::var_os("CI").is_none(), "{say}");
    eprintln!("{say}");
    false
}
