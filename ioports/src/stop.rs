//! Telling a loop in another thread to stop, also while it sleeps in `poll(2)`.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop: made once, seen by every clone, and readable for `poll(2)` from then on.
#[derive(Clone, Debug)]
pub struct Stop {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stopped: AtomicBool,
    ring: UnixStream,
    // Never read from, so that it stays readable for every loop that polls it.
    bell: UnixStream,
}

impl Stop {
    /// A request that nobody has made yet.
    pub fn new() -> io::Result<Self> {
        let (ring, bell) = UnixStream::pair()?;
        Ok(Stop { shared: Arc::new(Shared { stopped: AtomicBool::new(false), ring, bell }) })
    }

    /// Asks every loop that holds a clone to stop. More than once is the same as once.
    pub fn stop(&self) {
        if !self.shared.stopped.swap(true, Ordering::SeqCst) {
            // Cannot fail while `bell` is open, and a loop also looks at the flag whenever it wakes.
            let _ = (&self.shared.ring).write_all(&[1]);
        }
    }

    /// Whether somebody asked.
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }
}

impl AsFd for Stop {
    /// Readable once somebody asked.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn a_sleeper_wakes_and_the_request_stays() {
        let stop = Stop::new().expect("a socket pair");
        assert!(!stop.is_stopped());
        let sleeper = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::NONE).expect("poll")
            }
        });
        stop.stop();
        stop.stop();
        assert_eq!(sleeper.join().expect("the sleeper"), 1);
        assert!(stop.is_stopped());
        let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::ZERO).expect("poll"), 1, "still readable");
    }
}
