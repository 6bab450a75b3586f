//! Where a program of the lab runs: a namespace of this machine, or another machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Output;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{Program, holds_anything};
use crate::report::Failure;

/// A host, as programs are started on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Of this machine, so processes there are ours.
    Space { name: String, own: PathBuf },
}

impl Place {
    pub(super) fn space(name: String, own: &Path) -> Place {
        Place::Space { name, own: own.to_owned() }
    }

    /// The whole command that runs `hotpair` with these arguments there.
    fn argv(&self, arguments: &[&str]) -> Vec<OsString> {
        match self {
            // `ip` becomes what it runs, so it is still our child.
            Place::Space { name, own } => {
                let mut argv: Vec<OsString> =
                    vec!["ip".into(), "netns".into(), "exec".into(), name.into()];
                argv.push(own.into());
                argv.extend(arguments.iter().map(OsString::from));
                argv
            }
        }
    }

    /// This program there.
    pub(super) fn program(&self, arguments: &[&str]) -> Program {
        let Place::Space { name, .. } = self;
        let called = format!("{} in {name}", arguments.first().unwrap_or(&"program"));
        Program::foreign(called, self.argv(arguments))
    }

    /// Runs it to its end.
    pub(super) fn output(&self, arguments: &[&str]) -> Result<Output, Failure> {
        let argv = self.argv(arguments);
        let mut command = std::process::Command::new(&argv[0]);
        command.args(&argv[1..]);
        command.output().map_err(|error| {
            Failure::new(format!("cannot run {}", arguments.join(" "))).caused_by(&error)
        })
    }

    /// Sends a signal to processes there. Who is gone already is as dead as can be.
    pub(super) fn signal(&self, pids: &[i32], signal: Signal) {
        for pid in pids {
            let _ = kill(Pid::from_raw(*pid), signal);
        }
    }

    /// Whether a process there still holds anything.
    pub(super) fn lives(&self, pid: i32) -> bool {
        holds_anything(pid)
    }
}
