//! Gateways of the hosts, and certificates for them and their workers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use hotpair_replica::pki;
use hotpair_replica::tls::Credentials;
use hotpair_shm::{Geometry, QueueSpec};

use super::{Host, PATIENCE};
use crate::remote::gateway::{self, GatewayConfig, GatewayStopper, Limits};
use crate::remote::{RemoteConfig, RemoteNode};

/// A directory with the certificates of a pair, removed with this.
#[derive(Debug)]
pub struct Certificates(PathBuf);

impl Certificates {
    /// New ones.
    #[expect(clippy::new_without_default, reason = "it writes files")]
    pub fn new() -> Certificates {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("hotpair.kit.{}.{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory for certificates");
        pki::create(&path, "test").expect("an empty directory");
        Certificates(path)
    }

    /// Where they lie.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Those of `member`: `node-a`, `node-b`, `worker`.
    pub fn of(&self, member: &str) -> Credentials {
        Credentials::from_dir(&self.0, member).expect("just made")
    }

    /// For workers that know `hosts`.
    pub fn config(&self, hosts: &[&Host]) -> RemoteConfig {
        let nodes = hosts.iter().map(|host| host.node()).collect();
        let mut config = RemoteConfig::new(self.of("worker"), nodes);
        config.patience = PATIENCE;
        config
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One that runs, or has run.
pub(super) struct Gateway {
    member: String,
    credentials: Credentials,
    address: SocketAddr,
    running: Option<(GatewayStopper, JoinHandle<()>)>,
}

/// The same with what a gateway needs.
pub(super) fn with_gateway(geometry: &Geometry) -> Geometry {
    let mut geometry = geometry.clone();
    geometry.queues.push(QueueSpec { name: gateway::RECEIPTS.to_owned(), lanes: 1 });
    geometry.ports.push(gateway::BELL.to_owned());
    geometry
}

/// On a loopback address of this process, and on a port that the kernel gives nobody by chance: it is still free when a gateway
/// opens again.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(30_000);
    // Process ids have 22 bits at most.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = [127, 64 | high, middle, low];
    SocketAddr::from((ip, NEXT.fetch_add(1, Ordering::Relaxed)))
}

impl Host {
    /// Opens a gateway on loopback, as `member`.
    pub fn open(&mut self, member: &str, certificates: &Certificates) {
        let address = own_address();
        let (member, credentials) = (member.to_owned(), certificates.of(member));
        self.gateway = Some(Gateway { member, credentials, address, running: None });
        self.reopen();
    }

    /// Opens it again after [`close`](Self::close), at the address that it had.
    ///
    /// # Panics
    /// If there was none.
    pub fn reopen(&mut self) {
        let region = self.name().to_owned();
        let gateway = self.gateway.as_mut().expect("a gateway that was opened");
        let config = GatewayConfig {
            region,
            listen: vec![gateway.address],
            credentials: gateway.credentials.clone(),
            limits: Limits::default(),
        };
        let stopper = GatewayStopper::default();
        let (tell, told) = mpsc::channel();
        let asked = stopper.clone();
        let thread = std::thread::spawn(move || {
            let ready = |addresses: &[SocketAddr]| {
                let _ = tell.send(addresses[0]);
            };
            gateway::run(&config, &asked, ready).expect("a gateway");
        });
        gateway.address = told.recv_timeout(PATIENCE).expect("it listens");
        gateway.running = Some((stopper, thread));
    }

    /// Ends the gateway: remote workers lose this host.
    pub fn close(&mut self) {
        let running = self.gateway.as_mut().and_then(|gateway| gateway.running.take());
        if let Some((stopper, thread)) = running {
            stopper.stop();
            let _ = thread.join(); // its panic has been printed
        }
    }

    /// As remote workers reach it.
    ///
    /// # Panics
    /// If it has no gateway.
    pub fn node(&self) -> RemoteNode {
        let gateway = self.gateway.as_ref().expect("a gateway that was opened");
        RemoteNode { member: gateway.member.clone(), addresses: vec![gateway.address] }
    }
}
