//! The worker's side: the same calls as [`crate::Space`], [`crate::Worker`] and [`crate::Job`], over the network.

#[cfg(feature = "tokio")]
mod asynchronous;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod io;
mod job;
mod looking;
mod network;
mod outside;
mod polled;
mod port;
mod session;
mod silence;
mod worker;

use std::net::SocketAddr;
use std::time::Duration;

use hotpair_replica::tls::Credentials;

#[cfg(feature = "tokio")]
pub use asynchronous::{AsyncRemoteJob, AsyncRemoteWorker};
pub use job::{RemoteJob, RemoteOther, RemoteOtherJob, RemoteReading};
pub use looking::Seen;
pub use outside::{RemoteClient, RemoteWatch};
pub use polled::PolledRemoteWorker;
pub use port::{Leaving, PortCounts, RemotePort};
pub use session::Counts;
pub use worker::RemoteWorker;
#[cfg(feature = "bindings")]
pub(crate) use worker::STOP_CHECK;

use crate::error::Error;

/// One of the two nodes, as remote workers reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteNode {
    /// Its name in its certificate: `node-a`, `node-b`.
    pub member: String,
    /// Its gateway's addresses, on however many networks. Losing one path is not losing the server.
    pub addresses: Vec<SocketAddr>,
}

/// What a remote worker needs to know.
#[derive(Clone, Debug)]
pub struct RemoteConfig {
    /// Of a worker.
    pub credentials: Credentials,
    /// Both nodes: who knows one of them only loses his work with it.
    pub nodes: Vec<RemoteNode>,
    /// Objects that a worker gets ahead of the one in its hands, itself included. At least 1.
    pub prefetch: u32,
    /// Commits that [`RemoteWorker::run`] may leave unanswered while it goes on.
    pub unanswered: u16,
    /// How long a call waits for an answer: for a failover, and more.
    pub patience: Duration,
}

impl RemoteConfig {
    /// The usual.
    pub fn new(credentials: Credentials, nodes: Vec<RemoteNode>) -> Self {
        let patience = Duration::from_secs(30);
        Self { credentials, nodes, prefetch: 8, unanswered: 16, patience }
    }
}

/// The region of whichever node is primary, as workers of other hosts see it.
#[derive(Clone, Debug)]
pub struct RemoteSpace {
    config: RemoteConfig,
}

impl RemoteSpace {
    /// Workers of this space connect to both nodes by themselves.
    pub fn new(config: RemoteConfig) -> RemoteSpace {
        RemoteSpace { config }
    }

    /// A worker of the queue `queue`. It claims nothing while no node that it reaches is primary.
    pub fn worker(&self, queue: &str) -> Result<RemoteWorker, Error> {
        RemoteWorker::new(self.config.clone(), queue)
    }

    /// A worker whose claims and commits are awaited.
    #[cfg(feature = "tokio")]
    pub fn async_worker(&self, queue: &str) -> Result<AsyncRemoteWorker, Error> {
        AsyncRemoteWorker::new(self.worker(queue)?)
    }

    /// For a program that is no worker.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn client(&self) -> Result<RemoteClient, Error> {
        RemoteClient::new(self.config.clone())
    }

    /// The port `port`, whose packets are for objects of `queue`. One program at a time is this port; another one stands by, and takes
    /// over when that is gone.
    pub fn port(&self, port: &str, queue: &str) -> Result<RemotePort, Error> {
        RemotePort::new(self.config.clone(), port, queue)
    }
}

/// What can go wrong for a remote worker besides what can for a local one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The system gives no thread, socket or random bytes.
    #[error("cannot start a remote worker")]
    Start(#[source] std::io::Error),
    /// The commit did not happen and never will; the object is ready for others. The server, or the path to it, was lost
    /// while the object was in hand.
    #[error("the commit did not happen: the object was given back when its server was lost")]
    Stale,
    /// Nobody has answered for so long. What has become of the commit is not known, and is found out when a node answers.
    #[error("no node has answered within {waited:?}")]
    Unanswered {
        /// How long was waited.
        waited: Duration,
    },
    /// The commit did not happen: the region has no block or slot for it, or no block is so large. A local worker learns it from
    /// the call that asks for the block ([`Error::OutOf`]).
    #[error("there is no room: {text}")]
    NoRoom {
        /// What the gateway says.
        text: String,
    },
    /// A gateway has given this reason.
    #[error("the gateway refuses: {text}")]
    Refused {
        /// What it says.
        text: String,
    },
}
