//! A pair in this process: a witness and two nodes, each in a thread of its own, over loopback.
//!
//! The same code runs as in processes of their own; what is left out is the supervisors, and with them
//! every failover. Dropping it stops the nodes and removes both regions.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_replica::node::{ArbiterConfig, Node, NodeConfig, NodeError, NodeStop, SPIN_PERCENT};
use hotpair_replica::protocol::{Control, Limits, Mode, NodeId, Timing};
use hotpair_replica::tls::Credentials;
use hotpair_replica::witness::{Register, WitnessServer};
use hotpair_shm::{Geometry, Pages, PortMode, Region, Role};

use crate::free_address::free_address;
use crate::helper::Core;
use crate::proc::Watched;
use crate::registry::BenchError;
use crate::relay::{PAYLOAD_BYTES_MAX, Passed, Relay};
use crate::scratch::Scratch;

/// A pair that has not formed by then will not.
const FORM_MAX: Duration = Duration::from_secs(20);

/// What two nodes need around them: a witness, names, addresses, places for their regions.
pub(crate) struct Stage {
    certificates: PathBuf,
    geometry: Geometry,
    cores: [Option<Core>; 2],
    addresses: Addresses,
    witness: WitnessServer,
    _register: tempfile::TempDir,
    regions: [Scratch; 2],
    /// What carries changes, and what carries heartbeats, where that is counted.
    relays: Option<[Relay; 2]>,
    timing: Timing,
    port_modes: Vec<PortMode>,
}

/// Two nodes, the first of them primary.
pub(crate) struct Pair {
    // Stopped in this order: the primary first, so that it does not go solo for a moment.
    primary: RunningNode,
    backup: Option<RunningNode>,
    stage: Stage,
}

struct RunningNode {
    region: Region,
    stop: NodeStop,
    thread: Option<JoinHandle<Result<(), NodeError>>>,
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const MEMBERS: [&str; 2] = ["node-a", "node-b"];

impl Stage {
    /// For nodes of this geometry, each on its core. `certificates` is a directory made by `pki::create`.
    pub(crate) fn new(
        bench: &str,
        certificates: &Path,
        geometry: &Geometry,
        cores: [Option<Core>; 2],
    ) -> Result<Self, BenchError> {
        let register = tempfile::tempdir().map_err(BenchError::setup("make a directory"))?;
        let credentials = credentials(certificates, "witness")?;
        let opened = Register::open(register.path(), credentials.cluster().id)
            .map_err(BenchError::setup("open the witness's register"))?
            // The first one may begin alone.
            .believing(NodeId(1));
        let witness =
            WitnessServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), opened, &credentials)
                .map_err(BenchError::setup("start the witness"))?;
        Ok(Stage {
            certificates: certificates.to_owned(),
            geometry: geometry.clone(),
            cores,
            addresses: Addresses::find()?,
            witness,
            _register: register,
            regions: [Scratch::new(&format!("{bench}-a")), Scratch::new(&format!("{bench}-b"))],
            relays: None,
            timing: Timing { ack_wait: Duration::from_secs(5), ..Timing::default() },
            port_modes: Vec::new(),
        })
    }

    /// The nodes' packets are of a size that an Ethernet carries, and are counted on their way.
    pub(crate) fn counted(mut self) -> Result<Self, BenchError> {
        let Addresses { listen, heartbeat } = self.addresses;
        let open = |ends| Relay::between(ends).map_err(BenchError::setup("open a relay"));
        self.relays = Some([open(listen)?, open(heartbeat)?]);
        Ok(self)
    }

    /// A batch is closed this often, unless somebody waits for it.
    pub(crate) fn with_period(mut self, period: Duration) -> Self {
        self.timing.period = period;
        // An idle pair sends its tables no more often than a busy one.
        self.timing.idle_period = self.timing.idle_period.max(period);
        self
    }

    /// Packets of all ports leave as soon as they are committed, whoever has the commit.
    pub(crate) fn with_local_ports(mut self) -> Self {
        self.port_modes = vec![PortMode::Local; self.geometry.ports.len()];
        self
    }

    fn start(&self, side: usize, events: Option<OwnedFd>) -> Result<RunningNode, BenchError> {
        let Stage { addresses, .. } = self;
        let other = 1 - side;
        let (peer, heartbeat_peer) = match &self.relays {
            None => (addresses.listen[other], addresses.heartbeat[other]),
            Some([changes, heartbeats]) => {
                let peers = (changes.peer_of(side), heartbeats.peer_of(side));
                let failed = || BenchError::setup("find a relay's address");
                (peers.0.map_err(failed())?, peers.1.map_err(failed())?)
            }
        };
        let config = NodeConfig {
            credentials: credentials(&self.certificates, MEMBERS[side])?,
            peer_member: MEMBERS[other].to_owned(),
            listen: addresses.listen[side],
            peer,
            heartbeat_listen: addresses.heartbeat[side],
            heartbeat_peer,
            more_links: Vec::new(),
            heartbeat_period: Duration::from_millis(5),
            // Nobody dies here, and a bench that makes the machine busy must not look like it.
            heartbeat_missed: 400,
            arbiter: ArbiterConfig::Witness(self.witness.address()),
            region: self.regions[side].path.clone(),
            geometry: self.geometry.clone(),
            policies: Vec::new(),
            port_modes: self.port_modes.clone(),
            pages: Pages::default(),
            first: side == 0,
            mode: Mode::Sync,
            timing: self.timing.clone(),
            limits: Limits::default(),
            control: Control::default(),
            launch: 1,
            page: None,
            events,
            mtu: self.relays.as_ref().map(|_| PAYLOAD_BYTES_MAX),
            role_change_max: Duration::from_millis(100),
            divergences: self._register.path().join("divergent"),
            journal: None,
            busy_poll: false,
            spin_percent: SPIN_PERCENT,
        };
        launch(config, self.cores[side])
    }
}

fn credentials(certificates: &Path, member: &str) -> Result<Credentials, BenchError> {
    Credentials::from_dir(certificates, member).map_err(BenchError::setup("load a certificate"))
}

impl Pair {
    /// Forms a pair and waits until the back-up protects it.
    pub(crate) fn form(
        bench: &str,
        certificates: &Path,
        geometry: &Geometry,
        cores: [Option<Core>; 2],
    ) -> Result<Self, BenchError> {
        Pair::on(Stage::new(bench, certificates, geometry, cores)?)
    }

    /// The same on a stage that is set already.
    pub(crate) fn on(stage: Stage) -> Result<Self, BenchError> {
        let mut pair = Pair::alone(stage, None)?;
        pair.start_backup()?;
        pair.wait_until("the back-up is in step", |primary| primary.report().protected)?;
        Ok(pair)
    }

    /// Starts the first node alone, and waits until it serves.
    pub(crate) fn alone(stage: Stage, events: Option<OwnedFd>) -> Result<Self, BenchError> {
        let pair = Pair { primary: stage.start(0, events)?, backup: None, stage };
        pair.wait_until("it serves", |primary| primary.role().role() == Role::Primary)?;
        Ok(pair)
    }

    /// Starts the second node, and does not wait.
    pub(crate) fn start_backup(&mut self) -> Result<(), BenchError> {
        self.backup = Some(self.stage.start(1, None)?);
        Ok(())
    }

    /// Stops the second node, removes its region, and waits until the first one serves alone.
    pub(crate) fn lose_backup(&mut self) -> Result<(), BenchError> {
        self.backup = None;
        std::fs::remove_file(&self.stage.regions[1].path)
            .map_err(BenchError::setup("remove a region"))?;
        self.wait_until("it serves alone", |primary| !primary.report().protected)
    }

    /// Lets both nodes poll, or sleep, while they wait.
    pub(crate) fn set_busy_poll(&self, on: bool) {
        for node in std::iter::once(&self.primary).chain(&self.backup) {
            node.stop.set_busy_poll(on);
        }
    }

    /// The primary's region.
    pub(crate) fn region(&self) -> &Region {
        &self.primary.region
    }

    /// What has passed between the nodes, changes and heartbeats, of a stage that is counted.
    pub(crate) fn passed(&self) -> [Passed; 2] {
        self.stage
            .relays
            .as_ref()
            .map_or([Passed::default(); 2], |relays| [relays[0].passed(), relays[1].passed()])
    }

    /// The thread of node `side`, the primary's first; nobody if it does not run.
    pub(crate) fn watched(&self, side: usize) -> Watched {
        Watched::own_threads(&thread_name(self.stage.addresses.listen[side]))
    }

    /// The primary's region as others attach to it.
    pub(crate) fn region_name(&self) -> String {
        let file = self.stage.regions[0].path.file_name().unwrap_or_default();
        file.to_string_lossy().trim_start_matches("hotpair.").to_owned()
    }

    fn wait_until(&self, what: &str, done: impl Fn(&Region) -> bool) -> Result<(), BenchError> {
        let begun = Instant::now();
        while !done(&self.primary.region) {
            if begun.elapsed() > FORM_MAX {
                let role = self.primary.region.role();
                let what =
                    format!("after {FORM_MAX:?} the primary is {role:?}, not so that {what}");
                return Err(BenchError::setup("form a pair")(what));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

fn thread_name(listen: SocketAddr) -> String {
    format!("node-{}", listen.port())
}

fn launch(config: NodeConfig, core: Option<Core>) -> Result<RunningNode, BenchError> {
    let (tell, told) = mpsc::channel();
    // Threads begin on the core of the one that starts them.
    let _pinned = core.map(Core::hold).transpose()?;
    // A node is made where it runs: its runtime belongs to that thread.
    let thread = std::thread::Builder::new()
        .name(thread_name(config.listen))
        .spawn(move || {
            let node = Node::start(config)?;
            let _ = tell.send((node.stopper(), node.region().clone()));
            drop(tell);
            node.run()
        })
        .map_err(BenchError::setup("start a node's thread"))?;
    match told.recv() {
        Ok((stop, region)) => Ok(RunningNode { region, stop, thread: Some(thread) }),
        Err(_) => match thread.join() {
            Ok(Err(error)) => Err(BenchError::setup("start a node")(error)),
            _ => Err(BenchError::setup("start a node")("its thread ended")),
        },
    }
}

/// Both ends of each conversation must know them beforehand.
struct Addresses {
    listen: [SocketAddr; 2],
    heartbeat: [SocketAddr; 2],
}

impl Addresses {
    fn find() -> Result<Self, BenchError> {
        let two = || Ok([free_address()?, free_address()?]);
        Ok(Addresses { listen: two()?, heartbeat: two()? })
    }
}
