//! A node: the loop that owns a region and joins it to its peer. It moves bytes and time and decides
//! nothing; what to do comes from the [`protocol`](crate::protocol) core.
//!
//! ```text
//!                      ┌──────────────────── one thread ────────────────────┐
//!   region ── bell ───►│  gather ──► core ──► link (QUIC) ──► peer          │
//!   region ◄── apply ──│◄── actions ─┤ ▲ ◄─── frames, acks ◄── peer         │
//!   ports  ◄─ released │             ▼ │                                    │
//!                      └────────── notices ─────────────────────────────────┘
//!                                     ▲
//!        arbiter client ── heartbeat ── tripwire ── reaper: threads that wait for others
//! ```
//!
//! A commit that wakes the node is encoded, encrypted and on the wire before its thread sleeps again;
//! on the other side the batch is applied and acknowledged in the turn in which it arrived. No other
//! thread stands in between.

mod bell;
mod cold;
mod config;
mod control;
mod divergence;
mod draining;
mod drops;
mod events;
mod following;
mod journal;
#[doc(hidden)]
pub mod measure;
mod modes;
mod notices;
mod orders;
mod reaping;
mod replay;
mod roles;
mod save;
mod snapshot;
mod spinning;
mod stages;
mod standstill;
mod table;
mod timers;
mod turn;

use std::net::UdpSocket;
use std::time::Duration;

use hotpair_shm::{
    AttachError, Geometry, Kind, LeaseExpired, Participant, Reaped, Region, Role, monotonic_ns,
};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::arbiter::{Arbiter, ArbiterClient};
use crate::etcd::Etcd;
use crate::heartbeat::{Heartbeat, HeartbeatConfig, HeartbeatEvent};
use crate::own_register::OwnRegister;
use crate::pki::Date;
use crate::protocol::{self, Answer, Core, Member, NodeId, Past, RequestId, Tick};
use crate::quic::{LINKS_MAX, LinkConfig, Links};
use crate::tls::{Credentials, CredentialsWatch, LoadError, LookNow, Reload};
use crate::tripwire::{NodeSeat, TripwireEvent, TripwireServer};
use crate::witness::Witness;

pub use config::{
    ArbiterConfig, JournalConfig, LinkAddresses, NodeConfig, NodeError, SPIN_PERCENT,
};
use control::Control;
pub use control::{AskError, NotApplied, Outcome, Reply, Request, ask};
use divergence::Divergences;
use events::EventSink;
pub use following::{NodeEvents, RoleNews};
use journal::Journaling;
use notices::Teller;
use reaping::Reaping;
pub use replay::{ReplayConfig, ReplayError, Replayed, replay};
pub use save::{SaveConfig, SaveError, Saved, save};
use spinning::Spinning;
use table::Table;
use turn::Turns;

/// The runtime looks at its sockets and the bell after so many tasks at the latest: acks and commits must not wait for
/// a connection that has much to write.
const TASKS_BETWEEN_EVENTS: u32 = 3;

/// The queue, where a region has it, whose objects are written by commits of which somebody far away waits to hear. They are
/// shipped at once, as commits are that emit a packet.
pub const AWAITED_QUEUE: &str = "hotpair.receipts";

/// Something that one of the waiting threads has to say to the loop.
#[derive(Debug)]
enum Notice {
    Answer(RequestId, Answer),
    Heartbeat(HeartbeatEvent),
    Tripwire(TripwireEvent),
    Reaped(Reaped),
    LeaseExpired(LeaseExpired),
    Asked(control::Asked),
    BusyPoll(bool),
    SpinPercent(u8),
    Doubted,
    Stop,
}

/// Asks a running node to stop, or to wait in another way, from any thread.
#[derive(Clone, Debug)]
pub struct NodeStop(Teller<Notice>);

impl NodeStop {
    /// The node closes its connection and returns from [`Node::run`].
    pub fn stop(&self) {
        self.0.tell(Notice::Stop);
    }

    /// From its next turn on the node polls, or sleeps, while it waits:
    /// see [`busy_poll`](NodeConfig::busy_poll).
    pub fn set_busy_poll(&self, on: bool) {
        self.0.tell(Notice::BusyPoll(on));
    }

    /// The same of how much it spins for acknowledgements: see [`spin_percent`](NodeConfig::spin_percent).
    pub fn set_spin_percent(&self, percent: u8) {
        self.0.tell(Notice::SpinPercent(percent));
    }
}

/// A node that has everything it needs: its region, its seat in it, its sockets.
pub struct Node {
    runtime: Runtime,
    turns: Turns,
    tell: Teller<Notice>,
    certificates: CredentialsWatch,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

impl Node {
    /// Opens or makes the region, takes the node's seat, binds the sockets and starts the threads
    /// that wait. Nothing is served before [`run`](Self::run).
    ///
    /// # Errors
    /// Each for one thing that is missing, taken, or does not fit.
    pub fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let (ours, theirs) = node_ids(&config)?;
        let (tell, notices) = notices::channel();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(TASKS_BETWEEN_EVENTS)
            .build()
            .map_err(|source| NodeError::Os { action: "start the event loop", source })?;

        // Sockets first: a node that cannot be reached leaves the region as it is.
        let link = {
            let _inside = runtime.enter();
            Links::start(link_configs(&config)?, config.heartbeat_period, &config.credentials)?
        };
        let heartbeat = heartbeat(&config, tell.clone())?;
        let tripwire = TripwireServer::start(
            config.listen,
            &config.credentials,
            &config.peer_member,
            teller(&tell, Notice::Tripwire),
        )?;
        let region = open_region(&config)?;
        for (policy, at) in config.policies.iter().zip(0..) {
            if let Some(queue) = region.queue_at(at) {
                region.set_policy(queue, policy);
            }
        }
        let seat = region.join(Kind::Node, &config.credentials.identity().member)?;
        modes::set(&region, &config.port_modes);
        let past = past(&region);
        let table = settle_past(&region, seat, config.role_change_max)?;

        let core = Core::new(
            protocol::Config {
                awaited_queue: region.queue(AWAITED_QUEUE).map(|queue| queue.index().into()),
                first: config.first,
                past,
                history: table.history(),
                by_hand: matches!(config.arbiter, ArbiterConfig::None(_)),
                mode: config.mode,
                bounds: modes::bounds(&config.port_modes),
                modes: modes::number(&config.port_modes),
                timing: config.timing.clone(),
                limits: config.limits.clone(),
                control: config.control.clone(),
                ..protocol::Config::new(
                    config.credentials.cluster().id,
                    Member { node: ours, incarnation: region.incarnation() },
                    theirs,
                    geometry_hash(region.geometry()),
                    region.geometry().slots,
                )
            },
            now(),
        )?;
        let events = EventSink::new(&config.credentials.identity().member, config.events)
            .recorded_in(&region);
        let arbiter = arbiter(&config.arbiter, &config.credentials, ours)?;
        let arbiter = ArbiterClient::start(arbiter, core.testimony(), {
            let tell = tell.clone();
            move |id, answer| {
                tell.tell(Notice::Answer(id, answer));
            }
        })
        .map_err(|source| NodeError::Os { action: "start a thread for the arbiter", source })?;
        let late = teller(&tell, Notice::LeaseExpired);
        let dropping = {
            let events = events.clone();
            move |name: &'static str, fields| events.write(monotonic_ns(), name, fields)
        };
        let reaping = Reaping::start(region.clone(), teller(&tell, Notice::Reaped), late, dropping)
            .map_err(|source| NodeError::Os { action: "start the reaper", source })?;

        let control = Control::start(region.path(), tell.clone())
            .inspect_err(|error| tracing::warn!(%error, "the node cannot be asked for anything"))
            .ok();
        let journal = Journaling::start(
            config.journal,
            &region,
            config.credentials.cluster().id,
            geometry_hash(region.geometry()),
            ours,
            &events,
        )?;
        // Last: from here on the supervisor expects the loop to turn, and a large region takes a while.
        let page = config
            .page
            .map(NodeSeat::hold)
            .transpose()
            .map_err(|source| NodeError::Os { action: "hold the supervisor's page", source })?;

        events.write(
            monotonic_ns(),
            "started",
            json!({
                "region": region.path(), "launch": config.launch,
                "incarnation": format!("{:016x}", region.incarnation()),
            }),
        );
        let certificates = CredentialsWatch::start(&config.credentials, {
            let events = events.clone();
            move |found| tell_of_certificates(&events, found)
        })
        .map_err(|source| NodeError::Os { action: "watch the certificates", source })?;
        let turns = Turns::new(turn::Parts {
            core,
            link,
            table,
            heartbeat,
            arbiter,
            events,
            page,
            notices,
            arbiter_wait: config.timing.arbiter_wait,
            role_change_max: config.role_change_max,
            divergences: Divergences {
                directory: config.divergences,
                member: config.credentials.identity().member.clone(),
            },
            waiting: (tripwire, reaping, control),
            journal,
            busy_poll: config.busy_poll,
            spinning: Spinning::new(config.spin_percent),
        });
        Ok(Self { runtime, turns, tell, certificates })
    }

    /// A handle by which to stop it.
    #[must_use]
    pub fn stopper(&self) -> NodeStop {
        NodeStop(self.tell.clone())
    }

    /// A handle by which to make it look for new certificates now. It does so every few seconds.
    #[must_use]
    pub fn certificates(&self) -> LookNow {
        self.certificates.look_now()
    }

    /// Tells `follower` of this node's role from now on. It is called in the loop, and must return at once.
    pub fn follow_roles(&mut self, follower: impl FnMut(RoleNews) + Send + 'static) {
        self.turns.following.begin(Box::new(follower));
    }

    /// A handle by which to add to its timeline.
    #[must_use]
    pub fn events(&self) -> NodeEvents {
        NodeEvents { sink: self.turns.parts.events.clone(), tell: self.tell.clone() }
    }

    /// Members of this group may ask this node too; see [`ask`].
    pub fn admit_group(&self, group: u32) {
        if let Some(control) = &self.turns.parts.waiting.2 {
            control.manners().admit(group);
        }
    }

    /// Who answers [`Request::Reload`] from here on. It is called in a thread of its own.
    pub fn on_reload(&self, reload: impl Fn() -> Reply + Send + Sync + 'static) {
        if let Some(control) = &self.turns.parts.waiting.2 {
            control.manners().on_reload(Box::new(reload));
        }
    }

    /// The region that it owns.
    #[must_use]
    pub fn region(&self) -> &Region {
        self.turns.region()
    }

    /// Runs until it is stopped.
    ///
    /// # Errors
    /// When the kernel refuses to watch the region's bell.
    pub fn run(self) -> Result<(), NodeError> {
        let Self { runtime, turns, tell, certificates } = self;
        // As a task like the connection's: the future that a runtime blocks on is woken through the kernel,
        // even by a task of the same thread.
        let ended = runtime.block_on(async { tokio::spawn(turns.run()).await });
        let ended = ended.unwrap_or_else(|died| std::panic::resume_unwind(died.into_panic()));
        drop((tell, certificates));
        ended.map_err(|source| NodeError::Os { action: "watch the region's bell", source })
    }
}

/// The clock of the core is the monotonic clock of the host: deadlines in the region are of it too.
fn now() -> Tick {
    Tick::from_nanos(monotonic_ns())
}

fn teller<T: Send + 'static>(
    tell: &Teller<Notice>,
    wrap: fn(T) -> Notice,
) -> impl FnMut(T) + Send + 'static {
    let tell = tell.clone();
    move |what| {
        tell.tell(wrap(what));
    }
}

fn tell_of_certificates(events: &EventSink, found: Result<Reload, LoadError>) {
    let (name, fields) = match found {
        Ok(Reload { fingerprint, not_after }) => (
            "certificates_reloaded",
            json!({ "fingerprint": fingerprint, "valid_until": Date(not_after).to_string() }),
        ),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            ("certificates_refused", json!({ "because": error.to_string(), "cause": cause }))
        }
    };
    events.write(monotonic_ns(), name, fields);
}

/// The numbers of this node and its peer: what their certificates call them.
fn node_ids(config: &NodeConfig) -> Result<(NodeId, NodeId), NodeError> {
    let number = |member: &str| {
        NodeId::of_member(member).ok_or_else(|| NodeError::Member { member: member.to_owned() })
    };
    Ok((number(&config.credentials.identity().member)?, number(&config.peer_member)?))
}

fn arbiter(
    config: &ArbiterConfig,
    credentials: &Credentials,
    node: NodeId,
) -> Result<Box<dyn Arbiter>, NodeError> {
    Ok(match config {
        ArbiterConfig::Witness(address) => Box::new(Witness::new(*address, credentials)?),
        ArbiterConfig::Etcd(endpoints) => {
            Box::new(Etcd::new(endpoints, credentials.cluster(), node))
        }
        ArbiterConfig::None(dir) => Box::new(OwnRegister::open(dir, credentials.cluster().id)?),
    })
}

fn link_configs(config: &NodeConfig) -> Result<Vec<LinkConfig>, NodeError> {
    let more = config.more_links.iter().map(|link| (link.listen, link.peer));
    let roads: Vec<_> = std::iter::once((config.listen, config.peer)).chain(more).collect();
    if roads.len() > LINKS_MAX {
        return Err(NodeError::Links { found: roads.len(), max: LINKS_MAX });
    }
    let several = roads.len() > 1;
    let link = |(listen, peer)| LinkConfig {
        listen,
        peer,
        peer_member: config.peer_member.clone(),
        // One of the two, whatever their roles are and however often they change.
        dials: config.credentials.identity().member < config.peer_member,
        launch: config.launch,
        mtu: config.mtu,
        several,
    };
    Ok(roads.into_iter().map(link).collect())
}

fn heartbeat(config: &NodeConfig, tell: Teller<Notice>) -> Result<Heartbeat, NodeError> {
    let failed = |address| move |source| NodeError::Heartbeat { address, source };
    let more = config.more_links.iter().map(|link| (link.heartbeat_listen, link.heartbeat_peer));
    let first = (config.heartbeat_listen, config.heartbeat_peer);
    let mut roads = Vec::new();
    for (listen, peer) in std::iter::once(first).chain(more) {
        roads.push((UdpSocket::bind(listen).map_err(failed(listen))?, peer));
    }
    let rhythm = HeartbeatConfig {
        peer: config.heartbeat_peer,
        period: config.heartbeat_period,
        missed: config.heartbeat_missed,
    };
    Heartbeat::start_on(roads, rhythm, teller(&tell, Notice::Heartbeat))
        .map_err(failed(config.heartbeat_listen))
}

fn open_region(config: &NodeConfig) -> Result<Region, NodeError> {
    let attach = || Region::attach_with(&config.region, config.pages);
    let region = match attach() {
        Ok(region) => region,
        Err(AttachError::Missing { .. }) => {
            Region::create_with(&config.region, &config.geometry, config.pages)?
        }
        Err(AttachError::HalfRebuilt { .. }) => {
            tracing::warn!("finishing a rebuild of the region that was interrupted");
            Region::rebuild(&config.region).map_err(|source| NodeError::Rebuild { source })?;
            attach()?
        }
        Err(other) => return Err(other.into()),
    };
    for missing in region.shortfalls() {
        let source = std::error::Error::source(missing).map(ToString::to_string);
        tracing::warn!(because = source, "{missing}");
    }
    if geometry_hash(region.geometry()) != geometry_hash(&config.geometry) {
        return Err(NodeError::Geometry {
            path: config.region.clone(),
            found: format!("{:?}", region.geometry()),
            expected: format!("{:?}", config.geometry),
        });
    }
    Ok(region)
}

/// What the region remembers of the views under which it was used.
fn past(region: &Region) -> Option<Past> {
    let (role, view) = (region.role(), region.report().view);
    let epoch = role.epoch().max(region.commit_seq().epoch()).max(region.released().epoch());
    (epoch > 0 || view > 0).then_some(Past { epoch, view })
}

/// What an earlier node of this region left: its role is void, since a process that starts resumes no
/// epoch, and it may have died in the middle of a batch.
fn settle_past(region: &Region, seat: Participant, patience: Duration) -> Result<Table, NodeError> {
    let role = region.role();
    let torn = role.role() == Role::Backup && region.is_torn();
    match role.role() {
        // Its ports read and its workers commit as long as the word says so.
        Role::Primary | Role::Draining => region.begin_change(role.epoch()),
        Role::Backup if torn => roles::end_readings(region, patience),
        // A promotion that was confirmed and not finished is told from a transfer that was not
        // finished by the view: it names the incarnation of the one, not of the other.
        Role::Backup | Role::Changing | Role::Fenced | Role::Empty => {}
    }
    let mut table = Table::new(region.clone(), seat);
    if torn && !table.finish_batch(now()) {
        // A commit may be there in part: nobody shall count on this region.
        tracing::warn!("the last node died while it wrote a batch: the region is emptied");
        roles::quieten(region, role.epoch(), patience);
        region.wipe().map_err(|source| NodeError::Os { action: "empty the region", source })?;
        table.rewind(None);
    }
    Ok(table)
}

/// The same on both nodes of a pair, whatever their builds: FNV-1a over what must agree.
fn geometry_hash(geometry: &Geometry) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(&geometry.slots.to_le_bytes());
    let mut classes = geometry.classes.clone();
    classes.sort_by_key(|class| (class.payload_bytes, class.count));
    for class in classes {
        add(&class.payload_bytes.to_le_bytes());
        add(&class.count.to_le_bytes());
    }
    for queue in &geometry.queues {
        add(queue.name.as_bytes());
        add(&[queue.lanes]);
    }
    for port in &geometry.ports {
        add(port.as_bytes());
    }
    for number in [
        u32::from(geometry.participants),
        geometry.tx_entries,
        geometry.max_attempts.into(),
        geometry.inbox_limit.into(),
        geometry.shares.ingest_percent.into(),
        geometry.shares.magazine.into(),
    ] {
        add(&number.to_le_bytes());
    }
    hash
}

#[cfg(test)]
mod tests;
