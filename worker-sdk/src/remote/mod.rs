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

mod client;
#[cfg(feature = "gateway")]
pub mod gateway;
mod wire;

pub use client::{
    Counts, Leaving, PortCounts, RemoteClient, RemoteConfig, RemoteError, RemoteJob, RemoteNode,
    RemoteOther, RemoteOtherJob, RemotePort, RemoteReading, RemoteSpace, RemoteWatch, RemoteWorker,
    Seen,
};
pub use wire::WireError;
