//! Exit codes: an interface like any other, so they stand in one place.

use std::process::ExitCode;

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was asked for was done.
    Ok = 0,
    /// It was tried and did not work, or the demo's verdict is not `ok`.
    Failed = 1,
    /// The command line itself makes no sense (clap uses the same code).
    Usage = 2,
    /// The region or process that was asked about does not run.
    NotRunning = 3,
    /// It runs, but a single further loss would lose state.
    Unprotected = 4,
    /// Doing it could harm something that runs.
    Refused = 5,
    /// It did not happen in the time that was given.
    TimedOut = 6,
    /// What was compared is not as it must be.
    Differs = 7,
    /// The configuration file is wrong.
    Config = 78,
}

impl Exit {
    /// The number that the process ends with.
    pub(crate) fn code(self) -> i32 {
        i32::from(self as u8)
    }

    /// The code of a child process, as ours: codes without a name here are plain failures.
    pub(crate) fn of_child(code: i32) -> Exit {
        [
            Exit::Ok,
            Exit::Usage,
            Exit::NotRunning,
            Exit::Unprotected,
            Exit::Refused,
            Exit::TimedOut,
            Exit::Differs,
            Exit::Config,
        ]
        .into_iter()
        .find(|exit| exit.code() == code)
        .unwrap_or(Exit::Failed)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
