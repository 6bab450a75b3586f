//! What a core is told once, at its start.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::history::History;
use super::ids::NodeId;
use super::view::Member;
use crate::wire::VERSIONS;

/// Whether output waits for the back-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A packet leaves only when the in-sync back-up holds its commit and all before it.
    #[default]
    Sync,
    /// No replication: the back-up gets empty tables, nothing waits. What the outside was told is
    /// lost with the primary; this is the control of the failover tests.
    Local,
}

/// How far a port may be ahead of the acks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Index of the port.
    pub port: u8,
    /// Nothing new leaves when the oldest commit without ack was gathered so long ago.
    pub age: Duration,
    /// Nothing leaves that makes more bytes of batches than these without ack.
    pub bytes: u64,
}

/// What a region remembers of the views under which it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// The highest epoch of which it has commits.
    pub epoch: u16,
    /// A view that there was; there may have been later ones.
    pub view: u64,
}

/// Everything that a core needs to know about itself and its peer.
#[derive(Clone, Debug)]
pub struct Config {
    /// Both nodes of a pair, and nobody else, have this number.
    pub cluster: u64,
    /// This node.
    pub node: NodeId,
    /// The other node of the pair.
    pub peer: NodeId,
    /// Incarnation of this node's region.
    pub incarnation: u64,
    /// Hash over the geometry of the region; both nodes must have the same.
    pub geometry_hash: u64,
    /// Versions of the protocol that this node speaks: [`VERSIONS`], but in tests of nodes of other builds.
    pub versions: RangeInclusive<u16>,
    /// State slots in the region. Sizes the tables of the core, once.
    pub slots: u32,
    /// This node may found the pair when the arbiter has no view at all. One node of the two.
    pub first: bool,
    /// What its region was used for before this start; `None` if it is new.
    pub past: Option<Past>,
    /// What the state in its region is made of.
    pub history: History,
    /// There is no arbiter but a register of this node's own: see `by_hand.rs` for what follows. Both nodes alike.
    pub by_hand: bool,
    /// Whether output waits for the back-up.
    pub mode: Mode,
    /// Ports whose packets may leave ahead of the acks.
    pub bounds: Vec<Bound>,
    /// The queue whose objects are written by commits of which somebody outside waits to hear: such a commit closes a batch as a
    /// packet does.
    pub awaited_queue: Option<u16>,
    /// A number that two nodes share only if their ports have the same modes.
    pub modes: u64,
    /// How long things may take.
    pub timing: Timing,
    /// How much may be under way.
    pub limits: Limits,
    /// Deliberate defects, for tests that must fail. All off by default.
    pub control: Control,
}

impl Config {
    /// A configuration with default timing and limits.
    pub fn new(cluster: u64, this: Member, peer: NodeId, geometry_hash: u64, slots: u32) -> Config {
        Config {
            cluster,
            node: this.node,
            peer,
            incarnation: this.incarnation,
            geometry_hash,
            versions: VERSIONS,
            slots,
            first: false,
            past: None,
            history: History::default(),
            by_hand: false,
            mode: Mode::Sync,
            bounds: Vec::new(),
            awaited_queue: None,
            modes: 0,
            timing: Timing::default(),
            limits: Limits::default(),
            control: Control::default(),
        }
    }

    /// This node as a member of an in-sync set.
    pub fn this(&self) -> Member {
        Member { node: self.node, incarnation: self.incarnation }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let timing = &self.timing;
        if self.node == self.peer {
            return Err(ConfigError::OwnPeer { node: self.node });
        }
        if self.by_hand && self.node.0 % 2 == self.peer.0 % 2 {
            return Err(ConfigError::Parity { node: self.node, peer: self.peer });
        }
        if timing.period.is_zero() || timing.idle_period < timing.period {
            return Err(ConfigError::Periods { period: timing.period, idle: timing.idle_period });
        }
        // A process that starts has forgotten what it promised.
        let most = timing.takeover_wait;
        if self.lease().is_some_and(|lease| lease.is_zero() || lease > most) {
            return Err(ConfigError::Lease { lease: timing.lease, most });
        }
        if self.limits.window_batches <= self.limits.prompt_batches {
            return Err(ConfigError::Window {
                window: self.limits.window_batches,
                prompt: self.limits.prompt_batches,
            });
        }
        Ok(())
    }
}

/// Why a configuration cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A pair has two nodes.
    #[error("node {node} is configured as its own peer")]
    OwnPeer {
        /// The number that both have.
        node: NodeId,
    },
    /// Without an arbiter epochs are told apart by the parity of the node that begins them.
    #[error(
        "without an arbiter one node has an even number and one an odd one, these are {node} and {peer}"
    )]
    Parity {
        /// This node.
        node: NodeId,
        /// The other.
        peer: NodeId,
    },
    /// The idle period stretches the period, it cannot undercut it.
    #[error("a period of {period:?} with an idle period of {idle:?}")]
    Periods {
        /// The configured period.
        period: Duration,
        /// The configured idle period.
        idle: Duration,
    },
    /// A back-up that is started again could ask before its last promise has ended.
    #[error("a lease of {lease:?}, it must be more than nothing and at most {most:?}")]
    Lease {
        /// The configured lease.
        lease: Duration,
        /// The wait after a start.
        most: Duration,
    },
    /// Batches that are closed at once are batches in flight.
    #[error("{prompt} batches may be closed at once, but only {window} may be in flight")]
    Window {
        /// Batches that may be in flight.
        window: u32,
        /// Of them, closed as soon as a packet waits.
        prompt: u32,
    },
}

/// How long things may take.
#[derive(Clone, Debug)]
pub struct Timing {
    /// A batch is closed at least this often while anything is under way: the periodic state table.
    pub period: Duration,
    /// The same for a pair in which everything is acknowledged and nothing changes.
    pub idle_period: Duration,
    /// How long a node that was in sync looks for its peer after its own start before it asks to go on alone.
    pub takeover_wait: Duration,
    /// How long a primary waits for its back-up to connect again before it asks to go solo.
    pub reconnect_wait: Duration,
    /// A peer whose heartbeats stopped is not taken for lost before its last message is so old. Longer
    /// than the idle period, or an idle pair proves nothing by its tables.
    pub proof_of_life: Duration,
    /// A back-up that leaves a batch unacknowledged for so long is evicted.
    pub ack_wait: Duration,
    /// Where a port is bounded: how long an ack keeps its sender from asking to be promoted. With at most three
    /// quarters of the proof of life no failover waits for it.
    pub lease: Duration,
    /// How much faster one node's clock can run than the other's, in thousandths.
    pub clock_drift_per_mille: u32,
    /// An arbiter that has not answered for so long has not answered.
    pub arbiter_wait: Duration,
    /// Pause before an arbiter that did not answer is asked again.
    pub arbiter_retry: Duration,
    /// Pause before a node that has no part in the view looks at the arbiter again.
    pub look_again: Duration,
    /// Pause before a peer that was refused is met again.
    pub refused_retry: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            period: Duration::from_millis(1),
            idle_period: Duration::from_millis(20),
            takeover_wait: Duration::from_secs(1),
            reconnect_wait: Duration::from_millis(50),
            // What eight heartbeats of 5 ms take: a host that is lost sends neither.
            proof_of_life: Duration::from_millis(40),
            // Above what a loaded machine with few cores takes to schedule a process: an eviction
            // that was not needed leaves the service without protection for a while.
            ack_wait: Duration::from_millis(100),
            // Three quarters of the proof of life.
            lease: Duration::from_millis(30),
            // Hundreds of times what a quartz is off.
            clock_drift_per_mille: 10,
            arbiter_wait: Duration::from_millis(500),
            arbiter_retry: Duration::from_millis(50),
            look_again: Duration::from_millis(250),
            refused_retry: Duration::from_secs(5),
        }
    }
}

/// How much may be under way between primary and back-up.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Unacknowledged batches up to which a batch is closed at once when a packet waits.
    pub prompt_batches: u32,
    /// Unacknowledged batches.
    pub window_batches: u32,
    /// Unacknowledged bytes, all batches together.
    pub window_bytes: usize,
    /// A batch is sealed at the first commit boundary beyond this size.
    pub batch_bytes: usize,
    /// Unacknowledged chunks of a state transfer.
    pub window_chunks: u32,
    /// Batches between two that carry a digest of the whole table.
    pub digest_every: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            prompt_batches: 4,
            window_batches: 512,
            window_bytes: 16 << 20,
            batch_bytes: 256 << 10,
            window_chunks: 32,
            digest_every: 64,
        }
    }
}

/// Deliberate defects. A failover test whose control does not fail proves nothing; these are the controls.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// **Loses acknowledged state.** The primary replicates, but releases without waiting.
    pub release_without_ack: bool,
    /// **Loses acknowledged state** together with the above: the back-up applies, and so
    /// acknowledges, each batch that much later, and drops what it still holds when it is promoted.
    pub ack_delay: Duration,
    /// One broken rule, for tests of the tests.
    #[doc(hidden)]
    pub mutation: Option<Mutation>,
}

/// Protocol bugs that the simulator must find. Each names the rule that it breaks.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutation {
    /// The in-sync set names the node, not its region's incarnation.
    NodeInsteadOfIncarnation,
    /// Acks say "received" instead of "applied".
    AckBeforeApply,
    /// The back-up goes on acking after it asked to be promoted.
    AckWhilePromoting,
    /// The primary asks to admit before it requires acks.
    AdmitBeforeAcks,
    /// The primary asks to admit as soon as the last slot is copied, whatever is acknowledged.
    AdmitWhileCopying,
    /// The primary releases by a solo view that it only asked for.
    SoloBeforeConfirmed,
    /// A read that still shows the old view settles an unanswered compare-and-set.
    ReadSettles,
    /// State is shipped to a node that is still in the in-sync set.
    ShipToMember,
    /// A restarted primary goes on in its old epoch.
    ResumeEpoch,
    /// A back-up asks to be promoted whether or not it is in the set.
    PromoteOutsideSet,
    /// Packets not yet known to be sent are left out of a state transfer.
    ForgetUnsent,
    /// What the returning node has changed by itself is not sent to it again.
    ForgetDiverged,
    /// What the other side lacks is shipped as a change of what it had.
    PatchWhileCopying,
    /// The end of the returning node's history is taken for what both have in common.
    TrustTheirEnd,
    /// A node takes over its primary's history before the transfer is whole.
    HistoryBeforeWhole,
    /// The back-up asks to be promoted whatever its acks promised.
    LeaseIgnored,
    /// The primary counts a lease from the arrival of the ack, and adds the drift.
    LeaseFromAck,
    /// A bounded port is allowed whatever its bounds say, as long as the lease lasts.
    BoundsIgnored,
    /// The back-up is asked to take over, and does, before it has applied all that the primary had.
    HandOverBeforeAcked,
    /// A back-up whose state is still coming asks to be promoted.
    PromoteWhileSyncing,
    /// A primary goes on releasing while a request of its own may land.
    ReleaseWhileUndetermined,
    /// An ack that belongs to an earlier transfer counts for the present one.
    AckOfAnotherTransfer,
    /// A new primary takes over the epoch of the old one.
    PromoteInSameEpoch,
}
