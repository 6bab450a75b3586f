//! A descriptor for event loops; see [`crate::PolledWorker`].

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use super::{Bound, BoundError, Bounded, Kind};
use crate::polled::{AT_ONCE, Events};
use crate::remote::STOP_CHECK;
use crate::wait::Wait;
use crate::worker::SUCCESSOR_CHECK;

/// What is watched, and whether the worker has announced that it sleeps.
pub(super) struct Polled {
    events: Events,
    armed: bool,
    checked: Instant,
}

impl Bound {
    /// A descriptor that is readable when a claim that does not wait may give something. From now on such a claim of a worker of
    /// another host asks nobody: it gives what has come.
    ///
    /// # Errors
    /// [`BoundError::InHand`], or there are no descriptors left.
    pub fn poll_fd(&mut self) -> Bounded<RawFd> {
        self.check()?;
        if self.polled.is_none() {
            let bell = match &mut self.kind {
                Kind::Local(held) => {
                    let worker = held.worker().ok_or(BoundError::InHand)?;
                    worker.bell().map_err(crate::Error::Bell)?
                }
                Kind::Remote(held) => held.worker().ok_or(BoundError::InHand)?.bell()?,
                Kind::Gone => return Err(BoundError::Forked),
            };
            let mut events = Events::new()?;
            events.listen(bell)?;
            self.polled = Some(Polled { events, armed: false, checked: Instant::now() });
        }
        Ok(self.polled.as_ref().map_or(-1, |polled| polled.events.as_fd().as_raw_fd()))
    }

    /// A claim of a worker that is polled, or was.
    pub(super) fn claim_polled(&mut self, wait: Wait) -> Bounded<bool> {
        let Some(polled) = &mut self.polled else { return Ok(false) };
        let looks_only = wait.limit() == Some(Duration::ZERO);
        match &mut self.kind {
            Kind::Local(held) => {
                if let Some(worker) = held.worker().filter(|_| polled.armed) {
                    worker.disarm();
                    polled.armed = false;
                }
                if polled.checked.elapsed() > SUCCESSOR_CHECK
                    && let Some(worker) = held.worker()
                {
                    polled.checked = Instant::now();
                    if worker.follow_successor()? {
                        polled.events.listen(worker.bell().map_err(crate::Error::Bell)?)?;
                    }
                }
                let claimed = held.claim(wait)?;
                if let Some(worker) = held.worker().filter(|_| !claimed && looks_only) {
                    polled.armed = worker.arm();
                    let rest = if polled.armed { worker.rest_at_most() } else { AT_ONCE };
                    polled.events.rest(rest)?;
                }
                Ok(claimed)
            }
            Kind::Remote(held) if looks_only => {
                polled.events.drain(); // what happens after this rings again
                polled.events.rest(STOP_CHECK)?;
                Ok(held.claim_now()?)
            }
            Kind::Remote(held) => Ok(held.claim(wait)?),
            Kind::Gone => Err(BoundError::Forked),
        }
    }
}
