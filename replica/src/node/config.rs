//! What a node is told at its start, and why it may not start.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use hotpair_shm::{
    AttachError, CreateError, Geometry, JoinError, Pages, PortMode, QueuePolicy, RebuildError,
};

use crate::journal::{Fsync, LockError};
use crate::protocol::{self, Control, Limits, Mode, Timing};
use crate::quic::LinkError;
use crate::tls::{Credentials, ListenError};
use crate::tripwire::SharedPage;
use crate::witness::OpenError;

/// Everything that a node needs. Addresses of the peer must be reachable from here and vice versa.
#[derive(Debug)]
pub struct NodeConfig {
    /// Who this node is, and by whom it knows the others.
    pub credentials: Credentials,
    /// Name of the other node in its certificate: `node-b` for `node-a`.
    pub peer_member: String,
    /// Where this node listens: UDP for the peer, and TCP on the same port for its supervisor.
    pub listen: SocketAddr,
    /// Where the peer listens.
    pub peer: SocketAddr,
    /// Where this node listens for heartbeats.
    pub heartbeat_listen: SocketAddr,
    /// Where the peer listens for heartbeats.
    pub heartbeat_peer: SocketAddr,
    /// Further networks between the two nodes, in the same order on both; at most three.
    pub more_links: Vec<LinkAddresses>,
    /// Time between heartbeats, and between probes where there are several links.
    pub heartbeat_period: Duration,
    /// So many missing heartbeats are silence.
    pub heartbeat_missed: u32,
    /// Who decides when a role changes.
    pub arbiter: ArbiterConfig,
    /// Where the region lies; it is created if there is none.
    pub region: PathBuf,
    /// What the region must look like; the same on both nodes.
    pub geometry: Geometry,
    /// How each of its queues is served, in the geometry's order; those that are not named as usual. This node's own
    /// business: the other one may do otherwise.
    pub policies: Vec<QueuePolicy>,
    /// When the packets of each of its ports may leave, in the geometry's order; those that are not named wait for the
    /// back-up. The other node should have the same: what holds is what the primary has.
    pub port_modes: Vec<PortMode>,
    /// What this node's mapping of it is to be.
    pub pages: Pages,
    /// This node founds the pair when the arbiter has no view at all. One of the two.
    pub first: bool,
    /// Whether output waits for the back-up.
    pub mode: Mode,
    /// How long things may take.
    pub timing: Timing,
    /// How much may be under way.
    pub limits: Limits,
    /// Deliberate defects for tests that must fail.
    pub control: Control,
    /// Number of this start, given by the supervisor: it names this process in its notice of death.
    pub launch: u64,
    /// The page shared with the supervisor.
    pub page: Option<SharedPage>,
    /// Where events go, one JSON object a line.
    pub events: Option<OwnedFd>,
    /// Largest UDP payload, where the network is known to carry more than the internet does.
    pub mtu: Option<u16>,
    /// A participant that does not let go of an older role within this time is killed.
    pub role_change_max: Duration,
    /// Where the state that this node has and its new primary has not is written, before it is overwritten.
    pub divergences: PathBuf,
    /// What is written down for the day on which both regions are gone.
    pub journal: Option<JournalConfig>,
    /// The loop looks again and again instead of sleeping: no wake-up delays a commit, and a core is
    /// busy as long as the node runs.
    pub busy_poll: bool,
    /// While an answer waits for an acknowledgement that is about to come, the loop looks again and again: at most for so many
    /// percent of a core, in the long run. Zero: it sleeps.
    pub spin_percent: u8,
}

/// What a node spends, unless told otherwise, on looking for acknowledgements: see [`NodeConfig::spin_percent`].
pub const SPIN_PERCENT: u8 = 10;

/// Addresses of both nodes on one more network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddresses {
    /// Where this node listens.
    pub listen: SocketAddr,
    /// Where the peer listens.
    pub peer: SocketAddr,
    /// Where this node listens for heartbeats.
    pub heartbeat_listen: SocketAddr,
    /// Where the peer listens for heartbeats.
    pub heartbeat_peer: SocketAddr,
}

/// How a journal is kept; see [`journal`](crate::journal).
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// A directory of this node alone.
    pub dir: PathBuf,
    /// What a power cut may cost.
    pub fsync: Fsync,
    /// A segment that has grown so large is followed by a checkpoint, and the older ones go.
    pub segment_bytes: u64,
}

/// Where the pair's view is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ArbiterConfig {
    /// At the built-in witness, over TCP.
    Witness(SocketAddr),
    /// In etcd, at one of these endpoints (`http://host:port`); at least one.
    Etcd(Vec<String>),
    /// Nowhere but in a register of this node's own, in this directory: nobody is promoted but by hand.
    None(PathBuf),
}

/// Why a node could not start. Nothing of the region's content was touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The certificate's name is none of the two that nodes have.
    #[error("{member} is not the name of a node (node-a or node-b)")]
    Member {
        /// The name.
        member: String,
    },
    /// The region that is there cannot be used.
    #[error("cannot attach to the region")]
    Attach {
        /// Why.
        #[from]
        source: AttachError,
    },
    /// There is none and none can be made.
    #[error("cannot create the region")]
    Create {
        /// Why.
        #[from]
        source: CreateError,
    },
    /// Its hints are half-built, and cannot be finished.
    #[error("cannot finish the rebuild of the region")]
    Rebuild {
        /// Why.
        source: RebuildError,
    },
    /// The region was made for another configuration.
    #[error("{} was made for another geometry: it has {found}, the configuration says {expected}", .path.display())]
    Geometry {
        /// The region.
        path: PathBuf,
        /// The first difference, as it is.
        found: String,
        /// And as it should be.
        expected: String,
    },
    /// There is a node already, or no seat.
    #[error("cannot take the node's seat in the region")]
    Join {
        /// Why.
        #[from]
        source: JoinError,
    },
    /// An address is taken.
    #[error("cannot listen for the peer")]
    Link {
        /// Why.
        #[from]
        source: LinkError,
    },
    /// An address is taken.
    #[error("cannot listen for the peer's supervisor")]
    Tripwire {
        /// Why.
        #[from]
        source: ListenError,
    },
    /// An address is taken.
    #[error("cannot listen for heartbeats on UDP {address}")]
    Heartbeat {
        /// Which one.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The credentials are of no use with the arbiter.
    #[error("cannot talk to the arbiter")]
    Arbiter {
        /// Why.
        #[from]
        source: crate::tls::ChannelError,
    },
    /// The register of this node cannot be used.
    #[error("cannot use the register of the view")]
    Register {
        /// Why.
        #[from]
        source: OpenError,
    },
    /// Its directory is in use, or of no use.
    #[error("cannot keep a journal")]
    Journal {
        /// Why.
        #[from]
        source: LockError,
    },
    /// Limits or times that cannot work together.
    #[error("the configuration of the pair cannot work")]
    Protocol {
        /// Why.
        #[from]
        source: protocol::ConfigError,
    },
    /// More networks than a pair can have.
    #[error("{found} links between the nodes, at most {max} are possible")]
    Links {
        /// Configured.
        found: usize,
        /// Possible.
        max: usize,
    },
    /// The kernel refused something that every process needs.
    #[error("cannot {action}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}
