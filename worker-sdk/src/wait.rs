//! How a worker waits when there is nothing to do.

use std::time::Duration;

/// A waiting strategy: spin, then sleep, for at most so long.
///
/// Waking a sleeper costs about 30 microseconds; spinning costs a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub(crate) spin: Duration,
    pub(crate) sleep: bool,
    pub(crate) at_most: Option<Duration>,
}

impl Default for Wait {
    /// Looks around for 20 microseconds, then sleeps until the doorbell rings.
    fn default() -> Self {
        Self { spin: Duration::from_micros(20), sleep: true, at_most: None }
    }
}

impl Wait {
    /// Never sleeps: the fastest answer, and a whole core.
    pub fn poll() -> Self {
        Self { spin: Duration::MAX, sleep: false, at_most: None }
    }

    /// Sleeps at once: nothing is busy.
    pub fn sleep() -> Self {
        Self { spin: Duration::ZERO, sleep: true, at_most: None }
    }

    /// Looks once and does not wait.
    pub fn none() -> Self {
        Self::default().for_at_most(Duration::ZERO)
    }

    /// The same, but gives up after `limit`.
    #[must_use]
    pub fn for_at_most(self, limit: Duration) -> Self {
        Self { at_most: Some(limit), ..self }
    }

    /// How long it waits at most; `None`: for ever.
    pub fn limit(self) -> Option<Duration> {
        self.at_most
    }
}
