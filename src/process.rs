//! Processes: started so that none outlives us, heard line by line, and never waited for blindly.
//!
//! Every child goes through the hidden command `under`: after the fork and the exec it asks the
//! kernel to be killed with its parent, checks that the parent is still the one it was told, and
//! becomes the program it is meant to be. The kernel binds that wish to the *thread* that forked,
//! so children are started from the main thread only.

mod lines;
mod signals;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getppid};

pub(crate) use lines::Lines;
pub(crate) use signals::{Signals, wait};

use crate::exit::Exit;
use crate::report::{Failure, Outcome};

/// What a child's stdout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// We read it line by line.
    Lines,
    /// It is a message for people: it goes to our stderr.
    Messages,
}

/// A program to be started as often as it takes.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// What people call it.
    pub(crate) name: String,
    argv: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    output: Output,
    input: Input,
    foreign: bool,
    dir: Option<PathBuf>,
}

/// What a child reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Nothing,
    Words,
}

impl Program {
    /// This very program with other arguments.
    pub(crate) fn ours<A: Into<OsString>>(
        name: impl Into<String>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Program, Failure> {
        let own = own_path()?;
        let arguments = arguments.into_iter().map(Into::into);
        let argv = std::iter::once(own.into_os_string()).chain(arguments);
        Ok(Program { foreign: false, ..Program::foreign(name, argv) })
    }

    /// Any program.
    pub(crate) fn foreign<A: Into<OsString>>(
        name: impl Into<String>,
        argv: impl IntoIterator<Item = A>,
    ) -> Program {
        Program {
            name: name.into(),
            argv: argv.into_iter().map(Into::into).collect(),
            envs: Vec::new(),
            output: Output::Messages,
            input: Input::Nothing,
            foreign: true,
            dir: None,
        }
    }

    /// Whether it is somebody else's, so that its errors may be anything.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Sets the directory that it runs in.
    pub(crate) fn within(mut self, dir: &Path) -> Program {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Program {
        self.envs.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Its stdout is read by us.
    pub(crate) fn heard(mut self) -> Program {
        self.output = Output::Lines;
        self
    }

    /// Its stdin is written by us.
    pub(crate) fn told(mut self) -> Program {
        self.input = Input::Words;
        self
    }

    /// Starts it. To be called from the main thread.
    pub(crate) fn start(&self) -> Result<Child, Failure> {
        self.start_with(match self.input {
            Input::Nothing => Stdio::null(),
            Input::Words => Stdio::piped(),
        })
    }

    /// Starts it with a standard input of the caller's. To be called from the main thread.
    pub(crate) fn start_with(&self, input: Stdio) -> Result<Child, Failure> {
        let failed = || Failure::new(format!("cannot start {}", self.name));
        let own = own_path()?;
        let mut command = std::process::Command::new(&own);
        command.arg("under").arg("--parent").arg(std::process::id().to_string()).arg("--");
        let (program, arguments) = match &self.argv[..] {
            [_, arguments @ ..] if !self.foreign => (Some(own.as_os_str()), arguments),
            argv => (None, argv),
        };
        command.args(program).args(arguments);
        command.envs(self.envs.iter().map(|(name, value)| (name, value)));
        command.stdin(input);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command.stdout(match self.output {
            Output::Lines => Stdio::piped(),
            Output::Messages => match io::stderr().as_fd().try_clone_to_owned() {
                Ok(stderr) => stderr.into(),
                Err(_) => Stdio::null(), // a daemon without stderr
            },
        });
        // A Ctrl-C is for us alone: we stop our children in order.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| failed().caused_by(&error))?;
        let lines = match child.stdout.take() {
            Some(stdout) => {
                Some(Lines::new(stdout.into()).map_err(|error| failed().caused_by(&error))?)
            }
            None => None,
        };
        Ok(Child { child, lines, ended: None })
    }
}

/// A running child. Dropping it kills it: what we started ends with us.
#[derive(Debug)]
pub(crate) struct Child {
    child: std::process::Child,
    lines: Option<Lines>,
    ended: Option<ExitStatus>,
}

impl Child {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("the kernel's process ids are below 2^22")
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            // An error means that somebody else reaped it, so it has ended in any case.
            self.ended =
                self.child.try_wait().unwrap_or_else(|_| Some(ExitStatus::from_raw(127 << 8)));
        }
        self.ended
    }

    /// Sends a signal. One to a child that has ended does nothing.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // Not reaped yet, so the id is still its own.
            let _ = kill(Pid::from_raw(self.pid()), signal);
        }
    }

    /// The descriptor to poll for [`lines`](Self::lines).
    pub(crate) fn lines_fd(&self) -> Option<BorrowedFd<'_>> {
        self.lines.as_ref().filter(|lines| !lines.is_closed()).map(AsFd::as_fd)
    }

    /// The complete lines that have come since the last call.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        self.lines.as_mut().map(Lines::read).unwrap_or_default()
    }

    /// Writes a line to its stdin; one that does not read any more is found out by its end.
    pub(crate) fn tell(&mut self, line: &str) {
        use std::io::Write;
        if let Some(stdin) = &mut self.child.stdin {
            let _ = stdin.write_all(format!("{line}\n").as_bytes());
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The words for how a process ended.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => signal.as_str().to_owned(),
            Err(_) => format!("signal {signal}"),
        },
        (None, None) => "unknown end".to_owned(),
    }
}

/// Whether a process still holds anything: one that waits to be reaped, all of its threads gone, does not.
pub(crate) fn holds_anything(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name before it may contain anything, a `)` too.
    let ended = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    !ended || threads > 1
}

/// A package that is upgraded puts another program where this one was: who runs goes on with its own, whose file is there as
/// long as somebody runs it, so that all of a side is of one version.
fn own_path() -> Result<PathBuf, Failure> {
    let path = std::env::current_exe()
        .map_err(|error| Failure::new("cannot find the program's own file").caused_by(&error))?;
    Ok(if path.exists() { path } else { PathBuf::from("/proc/self/exe") })
}

/// The hidden command between fork and program; see the head of this module.
pub(crate) fn under(parent: u32, argv: &[OsString]) -> Outcome {
    let [program, arguments @ ..] = argv else {
        return Err(Failure::new("nothing to run").exit(Exit::Usage));
    };
    let failed = || Failure::new(format!("cannot run {}", program.display()));
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| failed().caused_by(&errno))?;
    // It may have died before the wish was made, and then nobody will ever kill us.
    if u32::try_from(getppid().as_raw()) != Ok(parent) {
        return Err(failed().because(format!("the parent {parent} is gone")));
    }
    // Supervisors block the signals that they read; their children must not inherit that.
    SigSet::empty().thread_set_mask().map_err(|errno| failed().caused_by(&errno))?;
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(failed().caused_by(&error).help("check `command` in the configuration"))
}
