//! Signals as something to poll for, beside pipes and time.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

use crate::report::Failure;

/// The signals that a parent of processes listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals in this thread and those it will start; call it before there are any.
    pub(crate) fn listen() -> Result<Signals, Failure> {
        let failed = |errno: Errno| Failure::new("cannot listen to signals").caused_by(&errno);
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
            set.add(signal);
        }
        set.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Signals { fd: SignalFd::with_flags(&set, flags).map_err(failed)? })
    }

    /// Takes what has arrived; true when one of them asks us to stop.
    pub(crate) fn stop_requested(&self) -> bool {
        let asked = self.asked();
        asked.stop || asked.reload
    }

    /// The same for those to whom SIGHUP says that files have changed.
    pub(crate) fn asked(&self) -> Asked {
        let mut asked = Asked::default();
        while let Ok(Some(info)) = self.fd.read_signal() {
            match i32::try_from(info.ssi_signo) {
                Ok(number) if number == Signal::SIGCHLD as i32 => {}
                Ok(number) if number == Signal::SIGHUP as i32 => asked.reload = true,
                _ => asked.stop = true,
            }
        }
        asked
    }
}

/// What signals have asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) stop: bool,
    pub(crate) reload: bool,
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sleeps until one of `fds` can be read or `timeout` is over.
pub(crate) fn wait(fds: &[BorrowedFd<'_>], timeout: Duration) {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    // Interrupted or failed: the caller looks at everything again in any case.
    let _ = ppoll(&mut polled, Some(TimeSpec::from_duration(timeout)), None);
}
