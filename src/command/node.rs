//! The node process itself, started by its supervisor with a page as its standard input.

mod reload;

use std::fs::{Permissions, set_permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hotpair_replica::journal::Fsync;
use hotpair_replica::node::{
    ArbiterConfig, JournalConfig, LinkAddresses, Node, NodeConfig, NodeError,
};
use hotpair_replica::protocol::{Control, Limits, Mode as Output, Timing};
use hotpair_replica::tripwire::SharedPage;
use hotpair_shm::{AttachError, CreateError, Region, Source};
use nix::unistd::{Group, User};

use self::reload::Reloader;
use crate::config::{ArbiterKind, Config, FsyncPolicy, Member, Mode};
use crate::credentials;
use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::recording;
use crate::report::{Failure, Outcome};
use crate::supervisor::LAUNCH;

/// Of a region that its group may map: nobody else.
const REGION_MODE: u32 = 0o660;

/// A participant that does not let go of an older role within this time is killed.
const ROLE_CHANGE_MAX: Duration = Duration::from_millis(50);

/// Runs the node until a signal asks to stop.
pub(crate) fn run(config: &Config) -> Outcome {
    // Before the node starts its threads, so that all of them leave the signals to ours.
    let signals = Signals::listen()?;
    recording::begin(config, Source::Node);
    let mut node = Node::start(settings(config)?).map_err(|error| explain(&error))?;
    open_to_ports(config)?;
    open_to_operators(config, &node)?;
    crate::service::follow(config, &mut node)?;
    let stopper = node.stopper();
    let reloader = Arc::new(Reloader::new(config, &node)?);
    node.on_reload({
        let reloader = Arc::clone(&reloader);
        move || reloader.reload()
    });
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            loop {
                let asked = signals.asked();
                if asked.stop {
                    break stopper.stop();
                }
                if asked.reload {
                    reloader.reload();
                }
                wait(&[signals.as_fd()], Duration::from_secs(60));
            }
        })
        .map_err(|error| Failure::new("cannot start the node").caused_by(&error))?;
    node.run().map_err(|error| Failure::new("the node stopped").caused_by(&error))?;
    Ok(Exit::Ok)
}

/// Who may ask it for something, besides its own user and root.
fn open_to_operators(config: &Config, node: &Node) -> Result<(), Failure> {
    let Some(group) = &config.file.admin.group else { return Ok(()) };
    let name = group.get_ref();
    let failed = || Failure::new(format!("cannot let group {name} ask this node"));
    let found = Group::from_name(name).map_err(|errno| failed().caused_by(&errno))?;
    let found =
        found.ok_or_else(|| failed().because("there is no such group").exit(Exit::Config))?;
    node.admit_group(found.gid.as_raw());
    Ok(())
}

/// Ports that run as another user may map the region all the same: its file gets that user's group.
fn open_to_ports(config: &Config) -> Result<(), Failure> {
    let Some(user) = config.port_user() else { return Ok(()) };
    let failed = || Failure::new(format!("cannot open the region to user {user}"));
    let found = User::from_name(user).map_err(|errno| failed().caused_by(&errno))?;
    let found =
        found.ok_or_else(|| failed().because("there is no such user").exit(Exit::Config))?;
    let path = Region::path_for(config.region_name());
    chown(&path, None, Some(found.gid.as_raw()))
        .and_then(|()| set_permissions(&path, Permissions::from_mode(REGION_MODE)))
        .map_err(|error| failed().caused_by(&error))
}

fn settings(config: &Config) -> Result<NodeConfig, Failure> {
    let file = &config.file;
    let failed = |error: io::Error| Failure::new("cannot start the node").caused_by(&error);
    let (page, launch) = match std::env::var(LAUNCH).ok().and_then(|number| number.parse().ok()) {
        Some(launch) => {
            let stdin: OwnedFd = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
            (Some(SharedPage::from_fd(stdin).map_err(failed)?), launch)
        }
        None => (None, crate::clock::monotonic_ns()), // started by hand, without a supervisor
    };
    let events: OwnedFd = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
    let timing = Timing {
        period: file.replication.period.get_ref().0,
        ack_wait: file.replication.ack_wait.get_ref().0,
        lease: file.replication.lease.get_ref().0,
        ..Timing::default()
    };
    let listen = *file.replication.listen.get_ref();
    Ok(NodeConfig {
        credentials: credentials::of_node(config)?,
        peer_member: file.pair.node.other().certificate().to_owned(),
        listen,
        peer: file.replication.peer,
        heartbeat_listen: heartbeats(listen),
        heartbeat_peer: heartbeats(file.replication.peer),
        more_links: file
            .replication
            .links
            .iter()
            .map(|link| LinkAddresses {
                listen: link.get_ref().listen,
                peer: link.get_ref().peer,
                heartbeat_listen: heartbeats(link.get_ref().listen),
                heartbeat_peer: heartbeats(link.get_ref().peer),
            })
            .collect(),
        heartbeat_period: file.heartbeat.every.get_ref().0,
        heartbeat_missed: *file.heartbeat.misses.get_ref(),
        arbiter: arbiter(config)?,
        region: Region::path_for(config.region_name()),
        geometry: config.geometry(),
        policies: config.policies(),
        port_modes: config.port_modes(),
        pages: config.pages(),
        first: file.pair.node == Member::A,
        mode: match file.replication.mode {
            Mode::Sync => Output::Sync,
            Mode::Local => Output::Local,
        },
        timing,
        limits: Limits::default(),
        control: Control {
            release_without_ack: file.control.open_gate,
            ack_delay: file.control.delay_acks.map_or_else(Default::default, |delay| delay.0),
            ..Control::default()
        },
        launch,
        page,
        events: Some(events),
        mtu: None,
        role_change_max: ROLE_CHANGE_MAX,
        divergences: config.divergences(),
        journal: journal(config),
        busy_poll: file.replication.busy_poll,
        spin_percent: *file.replication.spin_percent.get_ref(),
    })
}

/// None, unless it has a place.
fn journal(config: &Config) -> Option<JournalConfig> {
    let journal = &config.file.journal;
    config.journal_dir().map(|dir| JournalConfig {
        dir: dir.to_owned(),
        fsync: match journal.fsync {
            FsyncPolicy::Never => Fsync::Never,
            FsyncPolicy::Interval => Fsync::Interval(journal.interval.get_ref().0),
            FsyncPolicy::Batch => Fsync::Batch,
        },
        segment_bytes: journal.segment.get_ref().0,
    })
}

/// Checked when the file was read: there is what the kind needs.
fn arbiter(config: &Config) -> Result<ArbiterConfig, Failure> {
    let file = &config.file;
    let chosen = match (file.arbiter.kind.get_ref(), &file.witness, &file.arbiter.endpoints) {
        (ArbiterKind::Witness, Some(witness), _) => Some(ArbiterConfig::Witness(witness.address)),
        (ArbiterKind::Etcd, _, Some(endpoints)) => {
            Some(ArbiterConfig::Etcd(endpoints.get_ref().clone()))
        }
        (ArbiterKind::None, _, _) => {
            let store = file.arbiter.store.as_ref();
            store.map(|store| ArbiterConfig::None(store.get_ref().clone()))
        }
        _ => None,
    };
    chosen.ok_or_else(|| Failure::new("cannot start the node").because("it has no arbiter"))
}

/// Heartbeats have a socket of their own, on the next port.
fn heartbeats(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port().wrapping_add(1))
}

/// What failed, why, and what to do.
fn explain(error: &NodeError) -> Failure {
    let failure = Failure::new("cannot start the node").caused_by(error);
    match error {
        NodeError::Create { source: CreateError::Space { .. } } => {
            failure.help("make [region] smaller, or remove old regions: see `hotpair region list`")
        }
        NodeError::Create { source: CreateError::Lock { .. } }
        | NodeError::Attach { source: AttachError::Lock { .. } } => failure
            .help("raise the limit (`ulimit -l`, LimitMEMLOCK=), or set [region] mlock = \"try\""),
        NodeError::Attach { .. } | NodeError::Geometry { .. } => failure
            .help("stop the node, then `hotpair region remove NAME`; its state comes from the peer")
            .exit(Exit::Refused),
        NodeError::Join { .. } => failure.exit(Exit::Refused),
        NodeError::Register { .. } => failure
            .help("each node has a `store` of its own under [arbiter]; one that is damaged is for a person to remove")
            .exit(Exit::Refused),
        NodeError::Journal { .. } => failure
            .help("`dir` under [journal] is a directory of this node alone, on a disk")
            .exit(Exit::Refused),
        NodeError::Link { .. } | NodeError::Tripwire { .. } | NodeError::Heartbeat { .. } => {
            failure
                .help("`ss -lnptu` shows who has the address; change `listen` under [replication]")
        }
        NodeError::Member { .. } | NodeError::Protocol { .. } => failure.exit(Exit::Config),
        _ => failure,
    }
}
