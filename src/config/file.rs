//! The configuration file as serde reads it. `docs/hotpair.toml` explains every key.

use std::net::SocketAddr;
use std::path::PathBuf;

use hotpair_replica::node::SPIN_PERCENT;
use hotpair_replica::protocol::Timing;
use hotpair_shm::{Pages, Shares};
use serde::Deserialize;
use toml::Spanned;

use super::mode::PortMode;
use super::port::{Framing, Speed};
use super::units::{Size, Span};

/// One node of a pair, with its ports and workers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) pair: Pair,
    pub(crate) pki: Pki,
    #[serde(default)]
    pub(crate) arbiter: Arbiter,
    pub(crate) witness: Option<Witness>,
    pub(crate) replication: Replication,
    #[serde(default)]
    pub(crate) heartbeat: Heartbeat,
    #[serde(default)]
    pub(crate) journal: Journal,
    pub(crate) region: Region,
    #[serde(default)]
    pub(crate) service: Service,
    #[serde(default)]
    pub(crate) gateway: Gateway,
    #[serde(default)]
    pub(crate) queue: Vec<Queue>,
    #[serde(default)]
    pub(crate) port: Vec<Port>,
    #[serde(default)]
    pub(crate) worker: Vec<Worker>,
    #[serde(default)]
    pub(crate) admin: Admin,
    #[serde(default)]
    pub(crate) metrics: Metrics,
    #[serde(default)]
    pub(crate) dashboard: Dashboard,
    #[serde(default)]
    pub(crate) control: Control,
}

/// Where the node's figures are, for Prometheus.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    /// None: nowhere.
    pub(crate) listen: Option<SocketAddr>,
}

/// Where a browser sees the node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Dashboard {
    /// None: nowhere.
    pub(crate) listen: Option<Spanned<SocketAddr>>,
    /// Whether that may be an address that other hosts reach.
    pub(crate) beyond_loopback: bool,
}

/// Who may ask the node for something, besides root and its own user.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    /// Members of this group.
    pub(crate) group: Option<Spanned<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    pub(crate) name: Spanned<String>,
    pub(crate) node: Member,
}

/// Which of the two nodes this is. The name is only a name: either can be the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Member {
    A,
    B,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pki {
    pub(crate) dir: PathBuf,
}

/// Where the pair's view is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Arbiter {
    pub(crate) kind: Spanned<ArbiterKind>,
    pub(crate) endpoints: Option<Spanned<Vec<String>>>,
    pub(crate) store: Option<Spanned<PathBuf>>,
}

impl Default for Arbiter {
    fn default() -> Arbiter {
        Arbiter { kind: Spanned::new(0..0, ArbiterKind::default()), endpoints: None, store: None }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ArbiterKind {
    /// The built-in one, at the address of `[witness]`.
    #[default]
    Witness,
    /// One key in etcd.
    Etcd,
    /// No third place: a register of this node, and promotion by hand.
    None,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Witness {
    pub(crate) address: SocketAddr,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replication {
    pub(crate) listen: Spanned<SocketAddr>,
    pub(crate) peer: SocketAddr,
    #[serde(default)]
    pub(crate) mode: Mode,
    #[serde(default = "default_period")]
    pub(crate) period: Spanned<Span>,
    pub(crate) divergences: Option<PathBuf>,
    #[serde(default = "default_ack_wait")]
    pub(crate) ack_wait: Spanned<Span>,
    #[serde(default = "default_lease")]
    pub(crate) lease: Spanned<Span>,
    #[serde(default)]
    pub(crate) busy_poll: bool,
    #[serde(default = "default_spin_percent")]
    pub(crate) spin_percent: Spanned<u8>,
    #[serde(default)]
    pub(crate) links: Vec<Spanned<Addresses>>,
}

/// Both nodes on one more network.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Addresses {
    pub(crate) listen: SocketAddr,
    pub(crate) peer: SocketAddr,
}

/// When an answer may leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// When the back-up holds the commit that emitted it.
    #[default]
    Sync,
    /// At once: nothing is replicated. The control that shows what replication is for.
    Local,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Heartbeat {
    pub(crate) every: Spanned<Span>,
    pub(crate) misses: Spanned<u32>,
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        let every = Span(std::time::Duration::from_millis(5));
        Heartbeat { every: Spanned::new(0..0, every), misses: Spanned::new(0..0, 8) }
    }
}

/// What is written down for the day on which both regions are gone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Journal {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) fsync: FsyncPolicy,
    pub(crate) interval: Spanned<Span>,
    pub(crate) segment: Spanned<Size>,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            dir: None,
            fsync: FsyncPolicy::default(),
            interval: Spanned::new(0..0, Span(std::time::Duration::from_millis(100))),
            segment: Spanned::new(0..0, Size(64 << 20)),
        }
    }
}

/// What a power cut may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FsyncPolicy {
    Never,
    #[default]
    Interval,
    Batch,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Region {
    pub(crate) name: Spanned<String>,
    pub(crate) slots: u32,
    #[serde(default = "default_participants")]
    pub(crate) participants: u16,
    #[serde(default = "default_tx_entries")]
    pub(crate) tx_entries: u32,
    #[serde(default = "default_max_attempts")]
    pub(crate) max_attempts: u16,
    #[serde(default = "default_inbox_limit")]
    pub(crate) inbox_limit: u16,
    #[serde(default = "default_ingest_percent")]
    pub(crate) ingest_percent: u8,
    #[serde(default = "default_magazine")]
    pub(crate) magazine: u16,
    #[serde(default)]
    pub(crate) huge_pages: HugePages,
    #[serde(default = "default_prefault")]
    pub(crate) prefault: bool,
    #[serde(default)]
    pub(crate) mlock: Mlock,
    #[serde(default)]
    pub(crate) keep: bool,
    pub(crate) class: Vec<Class>,
}

/// Whether the region is to lie in pages of 2 MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HugePages {
    Off,
    #[default]
    Try,
}

/// Whether the region is to be kept from being swapped out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mlock {
    #[default]
    Off,
    Try,
    Require,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Class {
    pub(crate) payload_bytes: u32,
    pub(crate) blocks: u32,
}

/// What moves with the role.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Service {
    pub(crate) addresses: Vec<Spanned<String>>,
    pub(crate) on_primary: Option<Spanned<Vec<String>>>,
    pub(crate) on_backup: Option<Spanned<Vec<String>>>,
    pub(crate) hook_limit: Spanned<Span>,
}

impl Default for Service {
    fn default() -> Service {
        let limit = Span(std::time::Duration::from_secs(10));
        Service {
            addresses: Vec::new(),
            on_primary: None,
            on_backup: None,
            hook_limit: Spanned::new(0..0, limit),
        }
    }
}

/// Where workers of other hosts come in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gateway {
    pub(crate) listen: Vec<SocketAddr>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Queue {
    pub(crate) name: Spanned<String>,
    #[serde(default = "default_lanes")]
    pub(crate) lanes: u8,
    #[serde(default)]
    pub(crate) deadline: Option<Spanned<Span>>,
    #[serde(default)]
    pub(crate) lease: Option<Spanned<Span>>,
    #[serde(default)]
    pub(crate) on_lease_expiry: OnLeaseExpiry,
    #[serde(default)]
    pub(crate) overload: Overload,
}

/// What is done about a claim that outlasts its lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnLeaseExpiry {
    #[default]
    Report,
    Kill,
}

/// What becomes of a message that there is no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Overload {
    #[default]
    Reject,
    DropNewest,
    DropOldest,
    Hold,
}

impl Overload {
    /// As in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Overload::Reject => "reject",
            Overload::DropNewest => "drop-newest",
            Overload::DropOldest => "drop-oldest",
            Overload::Hold => "hold",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Port {
    pub(crate) name: Spanned<String>,
    pub(crate) kind: PortKind,
    pub(crate) bind: Option<SocketAddr>,
    pub(crate) holder: Option<PathBuf>,
    /// Of kind `unix`.
    pub(crate) path: Option<Spanned<PathBuf>>,
    /// Of kinds `packet` and `xdp`.
    pub(crate) interface: Option<Spanned<String>>,
    /// Of kind `xdp`.
    pub(crate) attach: Option<Spanned<Attach>>,
    /// Of kind `pcap`, as the next two.
    pub(crate) replay: Option<Spanned<PathBuf>>,
    pub(crate) capture: Option<Spanned<PathBuf>>,
    pub(crate) speed: Option<Spanned<Speed>>,
    /// Of kind `udp`, as the next three.
    pub(crate) multicast: Option<Spanned<Vec<String>>>,
    pub(crate) reuse_port: Option<Spanned<bool>>,
    pub(crate) gro: Option<Spanned<bool>>,
    pub(crate) fair_shares: Option<Spanned<bool>>,
    /// Volatile without it.
    pub(crate) ingest: Option<Spanned<Ingest>>,
    /// Of kinds `tcp` and `unix`, as all up to `linger`.
    pub(crate) framing: Option<Spanned<Framing>>,
    pub(crate) connections: Option<Spanned<usize>>,
    pub(crate) connections_per_source: Option<Spanned<usize>>,
    pub(crate) unsent_max: Option<Spanned<Size>>,
    pub(crate) frame_wait: Option<Spanned<Span>>,
    pub(crate) idle: Option<Spanned<Span>>,
    pub(crate) linger: Option<Spanned<Span>>,
    #[serde(default = "default_sandbox")]
    pub(crate) sandbox: bool,
    pub(crate) user: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) remote: bool,
    pub(crate) queue: Spanned<String>,
    /// What it is without one depends on the kind: see `key_or_usual`.
    pub(crate) key: Option<Spanned<Key>>,
    #[serde(default)]
    pub(crate) command: Option<Spanned<Vec<String>>>,
    #[serde(default = "default_packet_bytes_max")]
    pub(crate) packet_bytes_max: usize,
    #[serde(default)]
    pub(crate) busy_poll: bool,
    #[serde(default = "default_port_mode")]
    pub(crate) mode: Spanned<PortMode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PortKind {
    Udp,
    Tcp,
    Unix,
    Packet,
    Xdp,
    Pcap,
}

/// Who runs the program that hands frames to a port of kind `xdp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Attach {
    Any,
    Driver,
    Generic,
}

/// What becomes of packets that were handed in when the primary dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ingest {
    Volatile,
    Replicated,
}

impl Ingest {
    /// As in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ingest::Volatile => "volatile",
            Ingest::Replicated => "replicated",
        }
    }
}

/// What names the object that a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Key {
    /// The sender's address and port: one object per peer.
    Peer,
    /// One object per connection.
    Connection,
    /// Protocol, addresses and ports of a frame, each way the same.
    Flow,
    /// Nothing: every packet is an object of its own.
    None,
    /// The bytes of the packet from the first number up to the second.
    Bytes([usize; 2]),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Worker {
    pub(crate) queue: Spanned<String>,
    pub(crate) command: Spanned<Vec<String>>,
    #[serde(default = "default_count")]
    pub(crate) count: u16,
}

/// Faults on purpose, for the tests that must fail.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Control {
    pub(crate) open_gate: bool,
    pub(crate) delay_acks: Option<Span>,
}

fn default_period() -> Spanned<Span> {
    Spanned::new(0..0, Span(std::time::Duration::from_millis(1)))
}
fn default_ack_wait() -> Spanned<Span> {
    Spanned::new(0..0, Span(Timing::default().ack_wait))
}
fn default_lease() -> Spanned<Span> {
    Spanned::new(0..0, Span(Timing::default().lease))
}
fn default_port_mode() -> Spanned<PortMode> {
    Spanned::new(0..0, PortMode::default())
}
fn default_packet_bytes_max() -> usize {
    1984
}
fn default_sandbox() -> bool {
    true
}
fn default_participants() -> u16 {
    32
}
fn default_tx_entries() -> u32 {
    1024
}
fn default_max_attempts() -> u16 {
    5
}
fn default_inbox_limit() -> u16 {
    64
}
fn default_spin_percent() -> Spanned<u8> {
    Spanned::new(0..0, SPIN_PERCENT)
}

fn default_ingest_percent() -> u8 {
    Shares::default().ingest_percent
}
fn default_magazine() -> u16 {
    Shares::default().magazine
}
fn default_prefault() -> bool {
    Pages::default().prefault
}
fn default_lanes() -> u8 {
    1
}
fn default_count() -> u16 {
    1
}
