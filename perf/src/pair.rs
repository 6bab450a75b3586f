//! A pair in this process: a witness and two nodes, each in a thread of its own, over loopback.
//!
//! The same code runs as in processes of their own; what is left out is the supervisors, and with them
//! every failover. Dropping it stops the nodes and removes both regions.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_replica::node::{ArbiterConfig, Node, NodeConfig, NodeError, NodeStop};
use hotpair_replica::protocol::{Control, Limits, Mode, NodeId, Timing};
use hotpair_replica::tls::Credentials;
use hotpair_replica::witness::{Register, WitnessServer};
use hotpair_shm::{Geometry, Pages, Region, Role};

use crate::helper::Core;
use crate::registry::BenchError;
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
        })
    }

    fn start(&self, side: usize, events: Option<OwnedFd>) -> Result<RunningNode, BenchError> {
        let Stage { addresses, .. } = self;
        let config = NodeConfig {
            credentials: credentials(&self.certificates, MEMBERS[side])?,
            peer_member: MEMBERS[1 - side].to_owned(),
            listen: addresses.listen[side],
            peer: addresses.listen[1 - side],
            heartbeat_listen: addresses.heartbeat[side],
            heartbeat_peer: addresses.heartbeat[1 - side],
            more_links: Vec::new(),
            heartbeat_period: Duration::from_millis(5),
            // Nobody dies here, and a bench that makes the machine busy must not look like it.
            heartbeat_missed: 400,
            arbiter: ArbiterConfig::Witness(self.witness.address()),
            region: self.regions[side].path.clone(),
            geometry: self.geometry.clone(),
            policies: Vec::new(),
            port_modes: Vec::new(),
            pages: Pages::default(),
            first: side == 0,
            mode: Mode::Sync,
            timing: Timing { ack_wait: Duration::from_secs(5), ..Timing::default() },
            limits: Limits::default(),
            control: Control::default(),
            launch: 1,
            page: None,
            events,
            mtu: None,
            role_change_max: Duration::from_millis(100),
            divergences: self._register.path().join("divergent"),
            journal: None,
            busy_poll: false,
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
        let mut pair = Pair::alone(Stage::new(bench, certificates, geometry, cores)?, None)?;
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

fn launch(config: NodeConfig, core: Option<Core>) -> Result<RunningNode, BenchError> {
    let (tell, told) = mpsc::channel();
    // Threads begin on the core of the one that starts them.
    let _pinned = core.map(Core::hold).transpose()?;
    // A node is made where it runs: its runtime belongs to that thread.
    let thread = std::thread::Builder::new()
        .name(format!("node-{}", config.listen.port()))
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

/// Ports that were free a moment ago; both ends of each conversation must know them beforehand.
struct Addresses {
    listen: [SocketAddr; 2],
    heartbeat: [SocketAddr; 2],
}

impl Addresses {
    fn find() -> Result<Self, BenchError> {
        let mut held = Vec::new();
        let mut next = || -> std::io::Result<SocketAddr> {
            loop {
                // A node listens for its peer by UDP and for the peer's supervisor by TCP.
                let tcp = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
                let address = tcp.local_addr()?;
                if let Ok(udp) = UdpSocket::bind(address) {
                    held.push((tcp, udp));
                    return Ok(address);
                }
            }
        };
        let mut find = || next().map_err(BenchError::setup("find a free port"));
        Ok(Addresses { listen: [find()?, find()?], heartbeat: [find()?, find()?] })
    }
}
