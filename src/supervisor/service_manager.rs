//! What systemd wants to know of a service: that it has started, that it is alive, that it is about to stop.
//!
//! Nothing of it happens where no service manager asked for it (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Tells the service manager, if there is one.
#[derive(Debug)]
pub(super) struct ServiceManager {
    ready: bool,
    /// How often it wants to hear that we live, at least: half of the time that it waits.
    every: Option<Duration>,
    told: Instant,
}

impl ServiceManager {
    pub(super) fn of_environment() -> ServiceManager {
        let mut usec = 0;
        let watches = sd_notify::watchdog_enabled(false, &mut usec);
        let every = watches.then(|| Duration::from_micros(usec / 2));
        ServiceManager { ready: false, every, told: Instant::now() }
    }

    /// A line of the node's: its first event says that it has its region and its sockets.
    pub(super) fn hear(&mut self, line: &str) {
        if !self.ready && line.contains("\"event\":\"started\"") {
            self.ready = true;
            tell(&[
                NotifyState::Ready,
                NotifyState::Status("the node runs; `hotpair status` says its role"),
            ]);
        }
    }

    /// The loop has turned. It kills a node that stands still, so while it turns somebody looks after everything.
    pub(super) fn turned(&mut self) {
        if self.every.is_some_and(|every| self.told.elapsed() >= every) {
            self.told = Instant::now();
            tell(&[NotifyState::Watchdog]);
        }
    }

    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
