//! Where a program of the lab runs: a namespace of this machine, or another machine.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::rc::Rc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::far::{Far, FarChild};
use crate::process::{Child, Program, holds_anything};
use crate::report::Failure;

/// A host, as programs are started on it.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Of this machine, so processes there are ours.
    Space {
        name: String,
        own: PathBuf,
    },
    Far(Rc<Far>),
}

impl Place {
    pub(super) fn space(name: String, own: &Path) -> Place {
        Place::Space { name, own: own.to_owned() }
    }

    /// The file of our program there.
    pub(super) fn own(&self) -> String {
        match self {
            Place::Space { own, .. } => own.to_string_lossy().into_owned(),
            Place::Far(far) => far.program(),
        }
    }

    /// Where a file of the lab's directory is there.
    pub(super) fn file(&self, dir: &Path, name: &str) -> String {
        match self {
            Place::Space { .. } => dir.join(name).to_string_lossy().into_owned(),
            Place::Far(far) => format!("{}/{name}", far.dir()),
        }
    }

    /// Any program there, with its arguments.
    fn argv(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        let mut argv = match self {
            // `ip` becomes what it runs, so it is still our child.
            Place::Space { name, .. } => ["ip", "netns", "exec", name].map(str::to_owned).to_vec(),
            Place::Far(_) => Vec::new(),
        };
        argv.push(program.to_owned());
        argv.extend(arguments.iter().map(|&argument| argument.to_owned()));
        argv
    }

    /// Starts our program with these arguments; we hear what it says, and it hears us.
    pub(super) fn start(&self, arguments: &[&str]) -> Result<Running, Failure> {
        let argv = self.argv(&self.own(), arguments);
        match self {
            Place::Space { name, .. } => {
                let called = format!("{} in {name}", arguments.first().unwrap_or(&"program"));
                Program::foreign(called, argv).heard().told().start().map(Running::Near)
            }
            Place::Far(far) => far.start(argv).map(Running::Far),
        }
    }

    /// Runs our program to its end; gives what it has said.
    pub(super) fn output(&self, arguments: &[&str]) -> Result<String, Failure> {
        let argv = self.argv(&self.own(), arguments);
        match self {
            Place::Space { .. } => {
                let mut command = std::process::Command::new(&argv[0]);
                let output = command.args(&argv[1..]).output().map_err(|error| {
                    Failure::new(format!("cannot run {}", arguments.join(" "))).caused_by(&error)
                })?;
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Place::Far(far) => far.run(argv).map(|(_, said)| said),
        }
    }

    /// Removes a file or a directory there, if it is there.
    pub(super) fn remove(&self, path: &Path) {
        match self {
            Place::Space { .. } => {
                let _ = std::fs::remove_file(path);
                let _ = std::fs::remove_dir_all(path);
            }
            Place::Far(far) => {
                let argv = ["rm", "-rf", &path.to_string_lossy()].map(str::to_owned).to_vec();
                // What cannot be removed now is tried again when the host is left.
                let _ = far.run(argv);
            }
        }
    }

    /// Sends a signal to processes there. Who is gone already is as dead as can be.
    pub(super) fn signal(&self, pids: &[i32], signal: Signal) {
        match self {
            Place::Space { .. } => {
                for pid in pids {
                    let _ = kill(Pid::from_raw(*pid), signal);
                }
            }
            Place::Far(far) => far.signal(pids, signal),
        }
    }

    /// Those of these processes that still hold anything.
    pub(super) fn living(&self, pids: &[i32]) -> Vec<i32> {
        match self {
            Place::Space { .. } => {
                pids.iter().copied().filter(|pid| holds_anything(*pid)).collect()
            }
            Place::Far(far) => far.living(pids),
        }
    }

    /// A time of this host's clock in this machine's.
    pub(super) fn here_ns(&self, there_ns: u64) -> u64 {
        match self {
            Place::Space { .. } => there_ns,
            Place::Far(far) => there_ns.saturating_add_signed(-far.clock().ahead_ns),
        }
    }

    /// A time of this machine's clock in this host's.
    pub(super) fn there_ns(&self, here_ns: u64) -> u64 {
        match self {
            Place::Space { .. } => here_ns,
            Place::Far(far) => here_ns.saturating_add_signed(far.clock().ahead_ns),
        }
    }
}

/// A program of ours on one of the hosts. Dropping it kills it.
#[derive(Debug)]
pub(super) enum Running {
    Near(Child),
    Far(FarChild),
}

impl Running {
    pub(super) fn pid(&self) -> i32 {
        match self {
            Running::Near(child) => child.pid(),
            Running::Far(child) => child.pid(),
        }
    }

    /// How it ended, once it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        match self {
            Running::Near(child) => child.ended(),
            Running::Far(child) => child.ended(),
        }
    }

    /// The complete lines that have come since the last call.
    pub(super) fn lines(&mut self) -> Vec<String> {
        match self {
            Running::Near(child) => child.lines(),
            Running::Far(child) => child.lines(),
        }
    }

    /// Whether there are some of which its descriptor does not tell.
    pub(super) fn has_lines(&self) -> bool {
        match self {
            Running::Near(_) => false,
            Running::Far(child) => child.has_lines(),
        }
    }

    /// The descriptor to poll for them.
    pub(super) fn lines_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Running::Near(child) => child.lines_fd(),
            Running::Far(child) => Some(child.bell()),
        }
    }

    /// Writes a line to its stdin.
    pub(super) fn tell(&mut self, line: &str) {
        match self {
            Running::Near(child) => child.tell(line),
            Running::Far(child) => child.tell(line),
        }
    }
}
