//! Workers of other hosts.
//!
//! ```text
//!   host C                         host A, primary                 host B, back-up
//!   worker ── QUIC, mutual TLS ──► gateway ── claim, commit ──► region ══► region
//!      └───────── stands by ──────────────────────────────────────────────► gateway
//! ```
//!
//! A remote worker makes the same calls as a local one. When it loses the server that it works with, it carries on with the
//! other; each commit happens once or not at all, whatever was lost meanwhile. See docs/decisions/0018-remote-workers.md.

//!
//! # What differs from a local worker
//!
//! One suite of tests (`tests/conformance`) runs through both. On purpose these differ:
//!
//! - A [`RemoteSpace`] and its workers are made before anybody was reached: that there is no such queue says the first claim.
//! - Values, messages and objects are sent with the commit. What a local call finds out at once is found out there, and the object is
//!   ready again: a key that is taken ([`CommitError::KeyTaken`](crate::CommitError::KeyTaken)), no slot, or no block that is
//!   free or large enough ([`RemoteError::NoRoom`]). It counts as a failed attempt where the error of a handler would.
//! - A commit may end as [`RemoteError::Stale`]: it has not happened and never will, because the server was lost. An
//!   answer always means that the commit is released: `commit` is `commit_released`.
//! - A commit takes along one object less, for its receipt.
//! - Calls that ask (`read`, `also`) cost a round trip, and so does a claim that waits for no time at all; `read` gives a copy.
//! - Objects are handed to a worker ahead ([`RemoteConfig::prefetch`]): one that commits and claims no more keeps the next one until
//!   it claims, is dropped, or the lease ends.

mod client;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use super::client::fuzzing::Client;
    pub use super::gateway::fuzzing::Gateway;
}
#[cfg_attr(
    not(feature = "gateway"),
    allow(dead_code, unused_imports, reason = "the gateway's half")
)]
mod wire;

#[cfg(feature = "bindings")]
pub(crate) use client::STOP_CHECK;
#[cfg(feature = "tokio")]
pub use client::{AsyncRemoteJob, AsyncRemoteWorker};
pub use client::{
    Counts, Leaving, PolledRemoteWorker, PortCounts, RemoteClient, RemoteConfig, RemoteError,
    RemoteJob, RemoteNode, RemoteOther, RemoteOtherJob, RemotePort, RemoteReading, RemoteSpace,
    RemoteWatch, RemoteWorker, Seen,
};
pub use wire::WireError;
