//! The gateway: a process beside the node that works in the region for workers and ports of other hosts.
//!
//! To the region it is one participant, like a worker: it claims and commits, and what it holds when it dies is ready again
//! by the ordinary reaping. To its workers it is the node: it hands them objects, carries their commits out, and answers when
//! these are released. See docs/decisions/0018-remote-workers.md.

mod act;
mod budget;
mod commit;
mod door;
mod engine;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod jobs;
mod lanes;
mod port;
mod receipt;
mod serve;
mod session;
mod shares;
mod watch;

use std::time::Duration;

pub use serve::{GatewayConfig, GatewayError, GatewayStopper, run};

/// The queue of the region in which receipts of remote commits are kept. Its objects are the gateway's.
pub const RECEIPTS: &str = hotpair_replica::node::AWAITED_QUEUE;

/// The port of the region whose bell tells a gateway of releases. Nothing is sent by it.
pub const BELL: &str = "hotpair.gateway";

/// What one worker, and all of them, may have at a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: u32,
    /// Connections at once of one host: of an IPv4 address, or of the 64 bits of a network by IPv6.
    pub connections_per_host: u32,
    /// Handshakes a second of one host.
    pub connections_per_second: u32,
    /// Unanswered commits of one worker.
    pub lanes: u16,
    /// Objects in the hands of one worker.
    pub claims: u32,
    /// Objects in the hands of the workers of one host.
    pub claims_per_host: u32,
    /// Objects in the hands of all of them.
    pub claims_all: u32,
    /// How long a worker may be at one object.
    pub lease: Duration,
    /// Receipts that are kept at once. Never more than a quarter of the region's objects.
    pub receipts: u32,
    /// Receipts of the workers of one host. Never more than half of them all.
    pub receipts_per_host: u32,
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
    /// How long a request may take to come, and how long a worker may leave answers unread.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_host: 64,
            connections_per_second: 50,
            lanes: 64,
            claims: 64,
            claims_per_host: 256,
            claims_all: 1024,
            lease: Duration::from_secs(10),
            receipts: 16 * 1024,
            receipts_per_host: 4 * 1024,
            receipts_kept: receipt::KEPT,
            frame_bytes: 4 << 20,
            watches: 256,
            watches_all: 4096,
            ports: 4,
            patience: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// How often is looked at the clock, and at the role, while something is in hand.
    fn look_every(&self) -> Duration {
        (self.lease / 4).clamp(Duration::from_millis(1), Duration::from_millis(10))
    }
}

/// What a gateway has at present, and has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections.
    pub connections: u32,
    /// Objects in the hands of workers.
    pub in_hand: usize,
    /// Receipts.
    pub receipts: u32,
    /// Bytes in memory on account of workers: frames that have not come whole, and frames that wait to be written.
    pub bytes: usize,
    /// The most that they have been.
    pub bytes_max: usize,
    /// Objects that were handed to workers.
    pub claims: u64,
    /// Commits that happened.
    pub commits: u64,
    /// Commits that were refused because a later session had their lane.
    pub stale: u64,
    /// Questions about earlier commits that were answered.
    pub resolved: u64,
    /// Packets that ports of other hosts have sent.
    pub packets: u64,
    /// Objects that were taken back because a worker had them for too long.
    pub leases: u64,
    /// Handshakes that were begun.
    pub handshakes: u64,
    /// Handshakes that were not answered: there were too many, or too many connections.
    pub turned_away: u64,
    /// Workers that were told that they are not wanted, and why.
    pub refused: u64,
}

#[cfg(test)]
mod tests;
