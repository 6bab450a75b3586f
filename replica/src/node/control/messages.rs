//! What is asked and answered at the control socket.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quic::LinkReport;

/// What a node can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, tag = "do")]
pub enum Request {
    /// Change roles with the peer.
    Failover {
        /// How long it may take.
        timeout_ms: u32,
    },
    /// Become primary.
    Promote {
        /// Also where something is lost.
        accept_loss: bool,
        /// How long it may take.
        timeout_ms: u32,
    },
    /// Read nothing more from outside, finish what is here, and stand still until [`Resume`](Self::Resume).
    Drain {
        /// How long it may take.
        timeout_ms: u32,
    },
    /// Begin nothing more and send nothing, until [`Resume`](Self::Resume).
    Pause {
        /// How long it may take until everybody has let go of what he has in hand.
        timeout_ms: u32,
    },
    /// Serve again.
    Resume,
    /// Apply what has changed in the configuration.
    Reload,
    /// Say how the links to the peer are.
    Links,
}

impl Request {
    pub(super) fn timeout(self) -> Duration {
        match self {
            Request::Failover { timeout_ms }
            | Request::Promote { timeout_ms, .. }
            | Request::Drain { timeout_ms }
            | Request::Pause { timeout_ms } => Duration::from_millis(timeout_ms.into()),
            // The next turn of the loop answers; a configuration is read by the thread that was asked.
            Request::Resume | Request::Links | Request::Reload => Duration::ZERO,
        }
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done.
    Done,
    /// It was so already.
    Already,
    /// It was not begun, for safety.
    Refused,
    /// It was begun and did not get through; everything is as it was.
    TimedOut,
    /// Nobody could make sense of the request.
    Bad,
    /// Who asks may not.
    Denied,
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// How it went.
    pub outcome: Outcome,
    /// Why, where it is not done.
    #[serde(default)]
    pub why: String,
    /// The node that is primary now, if that is known: `a` or `b`.
    #[serde(default)]
    pub primary: Option<String>,
    /// The epoch that it serves in.
    #[serde(default)]
    pub epoch: Option<u16>,
    /// For how long nothing was read from outside, at most.
    #[serde(default)]
    pub stood_still_us: Option<u64>,
    /// The links to the peer, where they were asked for.
    #[serde(default)]
    pub links: Vec<LinkReport>,
    /// What of a changed configuration is in use now.
    #[serde(default)]
    pub applied: Vec<String>,
    /// What of it is not, and why.
    #[serde(default)]
    pub not_applied: Vec<NotApplied>,
}

/// A key of a configuration that has changed, and is not in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotApplied {
    /// The key.
    pub key: String,
    /// What it takes to have it in use.
    pub why: String,
}

impl Reply {
    /// An answer that says no more than this.
    pub fn new(outcome: Outcome, why: impl Into<String>) -> Reply {
        Reply {
            outcome,
            why: why.into(),
            primary: None,
            epoch: None,
            stood_still_us: None,
            links: Vec::new(),
            applied: Vec::new(),
            not_applied: Vec::new(),
        }
    }
}
