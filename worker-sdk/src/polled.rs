//! A worker in an event loop of one's own: one descriptor, readable when a claim may give something.
//!
//! ```text
//!   the loop ── poll ──► epoll ─┬─ bell    what is ready rings it
//!                               └─ timer   what rings no bell: an object that rests, a stop, a region that was replaced
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

use crate::error::Error;
use crate::job::Job;
use crate::worker::{SUCCESSOR_CHECK, Stopper, Worker};

/// Shortest time that a timer can be set to.
pub(crate) const AT_ONCE: Duration = Duration::from_nanos(1);

/// A worker whose claims never wait, and whose descriptor an event loop watches: `poll`, `epoll`, `mio`, `io_uring`.
///
/// The descriptor is readable, until the next claim, when that may give something. So claim until there is `None`, then wait; it may be
/// `None` again. It is also readable every 100 ms or so, by when a stop and a region that was replaced are noticed.
///
/// ```
/// # use std::time::Duration;
/// # use hotpair_worker::testing::Pair;
/// use std::os::fd::AsFd;
///
/// use hotpair_worker::PolledWorker;
/// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
///
/// # let mut pair = Pair::new(&["calls"], &[]);
/// # pair.deliver("calls", b"call-1", b"INVITE");
/// let mut worker = PolledWorker::new(pair.worker("calls"))?;
/// # let stopper = worker.stopper();
/// while !worker.is_stopped() {
///     while let Some(mut call) = worker.claim()? {
///         *call.value_mut::<u64>()? += 1;
///         call.commit()?;
///         # stopper.stop();
///     }
///     // Beside whatever else the program waits for.
///     let mut fds = [PollFd::new(worker.as_fd(), PollFlags::POLLIN)];
///     poll(&mut fds, PollTimeout::NONE)?;
/// }
/// # assert_eq!(pair.object("calls", b"call-1").expect("it stays").value, 1_u64.to_ne_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PolledWorker {
    worker: Worker,
    events: Events,
    armed: bool,
    checked: Instant,
}

impl PolledWorker {
    /// Makes `worker` one that is polled. Its descriptor stays the same as long as it lives.
    ///
    /// # Errors
    /// [`Error::Bell`]: the process has no descriptors left.
    pub fn new(mut worker: Worker) -> Result<PolledWorker, Error> {
        let bell = worker.bell().map_err(Error::Bell)?;
        let mut events = Events::new()?;
        events.listen(bell)?;
        Ok(PolledWorker { worker, events, armed: false, checked: Instant::now() })
    }

    /// The next ready object, or `None`: there is none now, or the worker was stopped.
    pub fn claim(&mut self) -> Result<Option<Job<'_>>, Error> {
        if self.armed {
            self.worker.disarm();
            self.armed = false;
        }
        if self.is_stopped() {
            return Ok(None);
        }
        if self.checked.elapsed() > SUCCESSOR_CHECK {
            self.checked = Instant::now();
            if self.worker.follow_successor()? {
                let bell = self.worker.bell().map_err(Error::Bell)?;
                self.events.listen(bell)?;
            }
        }
        if let Some(ready) = self.worker.look() {
            return Ok(Some(self.worker.hold(ready)));
        }
        self.armed = self.worker.arm();
        // A hint of something that others were quicker to take: the loop's other descriptors have their turn first.
        let rest = if self.armed { self.worker.rest_at_most() } else { AT_ONCE };
        self.events.rest(rest)?;
        Ok(None)
    }

    /// A handle by which others stop this worker.
    pub fn stopper(&self) -> Stopper {
        self.worker.stopper()
    }

    /// Whether it was asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.worker.stopper().is_stopped()
    }
}

impl AsFd for PolledWorker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// A bell and a timer behind one descriptor.
#[derive(Debug)]
pub(crate) struct Events {
    epoll: Epoll,
    timer: TimerFd,
    bell: Option<std::os::unix::net::UnixDatagram>,
}

impl Events {
    pub(crate) fn new() -> Result<Events, Error> {
        let made = || {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
            Ok(Events { epoll, timer, bell: None })
        };
        let mut events = made().map_err(failed)?;
        // Who polls before the first claim is told to claim.
        events.rest(AT_ONCE)?;
        Ok(events)
    }

    /// Listens to this bell in place of the one before.
    pub(crate) fn listen(&mut self, bell: std::os::unix::net::UnixDatagram) -> Result<(), Error> {
        if let Some(before) = self.bell.take() {
            let _ = self.epoll.delete(&before); // others may hold the same socket open
        }
        self.epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, 1)).map_err(failed)?;
        self.bell = Some(bell);
        Ok(())
    }

    /// Readable after this time at the latest, and from the timer not before.
    pub(crate) fn rest(&mut self, at_most: Duration) -> Result<(), Error> {
        let after = Expiration::OneShot(TimeSpec::from_duration(at_most.max(AT_ONCE)));
        self.timer.set(after, TimerSetTimeFlags::empty()).map_err(failed)
    }

    /// Empties the bell.
    #[cfg(feature = "remote")]
    pub(crate) fn drain(&self) {
        if let Some(bell) = &self.bell {
            while bell.recv(&mut [0; 8]).is_ok() {}
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

fn failed(errno: nix::Error) -> Error {
    Error::Bell(errno.into())
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::testing::Pair;

    /// Goal: it is the bell that wakes, and not the timer behind it.
    #[test]
    fn what_is_ready_rings() {
        let mut pair = Pair::new(&["work"], &[]);
        let mut worker = PolledWorker::new(pair.worker("work")).expect("descriptors");
        for _ in 0..20 {
            assert!(worker.claim().expect("a region").is_none());
            assert!(worker.armed);
            pair.deliver("work", b"a", b"go");
            let bell = worker.events.bell.as_ref().expect("it listens");
            let mut bells = [PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut bells, PollTimeout::ZERO), Ok(1));
            worker.claim().expect("a region").expect("ready").commit().expect("alone");
        }
    }
}
