//! The gateway: a process beside the node that works in the region for workers and ports of other hosts.
//!
//! To the region it is one participant, like a worker: it claims and commits, and what it holds when it dies is ready again
//! by the ordinary reaping. To its workers it is the node: it hands them objects, carries their commits out, and answers when
//! these are released. See docs/decisions/0018-remote-workers.md.

mod act;
mod commit;
mod engine;
mod port;
mod receipt;
mod serve;
mod session;
mod watch;

use std::time::Duration;

pub use serve::{GatewayConfig, GatewayError, GatewayStopper, run};

/// The queue of the region in which receipts of remote commits are kept. Its objects are the gateway's.
pub const RECEIPTS: &str = "hotpair.receipts";

/// The port of the region whose bell tells a gateway of releases. Nothing is sent by it.
pub const BELL: &str = "hotpair.gateway";

/// What one worker, and all of them, may have at a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: u32,
    /// Handshakes a second from one address.
    pub connections_per_second: u32,
    /// Unanswered commits of one worker.
    pub lanes: u16,
    /// Objects in the hands of one worker.
    pub claims: u32,
    /// Objects in the hands of all of them.
    pub claims_all: u32,
    /// How long a worker may be at one object.
    pub lease: Duration,
    /// Receipts that are kept at once.
    pub receipts: u32,
    /// How long the receipts of a worker are kept after it was last heard of.
    pub receipts_kept: Duration,
    /// Largest request.
    pub frame_bytes: usize,
    /// Objects that one client watches.
    pub watches: u32,
    /// Objects that all of them watch; one that two watch counts twice.
    pub watches_all: u32,
    /// Ports of other hosts at once: each has a seat in the region.
    pub ports: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_second: 50,
            lanes: 64,
            claims: 64,
            claims_all: 1024,
            lease: Duration::from_secs(10),
            receipts: 16 * 1024,
            receipts_kept: receipt::KEPT,
            frame_bytes: 4 << 20,
            watches: 256,
            watches_all: 4096,
            ports: 4,
        }
    }
}

impl Limits {
    /// How often is looked at the clock, and at the role, while something is in hand.
    fn look_every(&self) -> Duration {
        (self.lease / 4).clamp(Duration::from_millis(1), Duration::from_millis(10))
    }
}

/// What a gateway has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    /// Objects that were handed to workers.
    pub(crate) claims: u64,
    /// Commits that happened.
    pub(crate) commits: u64,
    /// Commits that were refused because a later session had their lane.
    pub(crate) stale: u64,
    /// Questions about earlier commits that were answered.
    pub(crate) resolved: u64,
    /// Objects that were taken back because a worker had them for too long.
    pub(crate) leases: u64,
    /// Packets that ports of other hosts have sent.
    pub(crate) packets: u64,
}
