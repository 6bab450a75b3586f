//! A region with everything that either kind of worker needs, and a port by which messages come.

use std::net::SocketAddr;

use hotpair_shm::{Geometry, ObjectImage, QueueSpec, Region, Shares, SizeClass};
use hotpair_worker::testing::{Certificates, Host, Node, Port};
pub(crate) use hotpair_worker::testing::{PATIENCE, until};
use hotpair_worker::{Error, Wait};

use crate::calls::{AnyJob, AnyWorker};
use crate::sdk;

/// Attempts before an object is parked.
pub(crate) const ATTEMPTS_MAX: u32 = 3;

/// Largest payload of a block.
pub(crate) const LARGEST: usize = 1024;

/// Where a message comes from.
pub(crate) const PEER: ([u8; 4], u16) = ([127, 0, 0, 1], 5060);

/// Which workers a place has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Local,
    Remote,
}

/// See the module.
pub(crate) struct Place {
    pub(crate) side: Side,
    pub(crate) region: Region,
    // In this order: the port's seat and the node's thread go before the region.
    port: Port,
    _node: Node,
    host: Host,
    certificates: Certificates,
}

impl Place {
    pub(crate) fn new(side: Side) -> Place {
        let queue = |name: &str, lanes| QueueSpec { name: name.to_owned(), lanes };
        let geometry = Geometry {
            slots: 64,
            classes: vec![
                SizeClass { payload_bytes: 128, count: 512 },
                SizeClass { payload_bytes: LARGEST as u32, count: 64 },
            ],
            queues: vec![queue("work", 2), queue("done", 1)],
            ports: vec!["out".to_owned()],
            participants: 16,
            tx_entries: 64,
            max_attempts: ATTEMPTS_MAX as u16,
            inbox_limit: 100,
            shares: Shares { ingest_percent: 100, ..Shares::default() },
        };
        let mut host = Host::new(&geometry);
        let region = host.region().clone();
        region.become_primary(1);
        let (port, node) = (Port::new(&region), Node::alone(&region));
        let certificates = Certificates::new();
        if side == Side::Remote {
            host.open("node-a", &certificates);
        }
        Place { side, region, port, _node: node, host, certificates }
    }

    /// A worker of this place's kind.
    pub(crate) fn worker_of(&self, queue: &str) -> Result<Box<dyn AnyWorker + Send>, Error> {
        match self.side {
            Side::Local => sdk::local(self.host.name(), queue),
            Side::Remote => sdk::remote(&self.host, &self.certificates, queue),
        }
    }

    pub(crate) fn worker(&self) -> Box<dyn AnyWorker + Send> {
        self.worker_of("work").expect("a seat, or a thread")
    }

    /// A message to an object of the queue `work`.
    pub(crate) fn send(&mut self, key: &[u8], text: &[u8]) {
        self.send_at(key, text, 0);
    }

    /// The same, to one that is created with this priority if there is none.
    pub(crate) fn send_at(&mut self, key: &[u8], text: &[u8], priority: u8) {
        self.port.deliver(("work", priority), key, Some(SocketAddr::from(PEER)), text);
    }

    /// The next packet that leaves by the port `out`.
    pub(crate) fn packet(&mut self) -> Option<(Option<SocketAddr>, Vec<u8>)> {
        self.port.take("out").map(|packet| (packet.to, packet.payload))
    }

    /// An object, as the region holds it.
    pub(crate) fn object(&self, queue: &str, key: &[u8]) -> Option<ObjectImage> {
        self.region.find(self.region.queue(queue).expect("of the geometry"), key)
    }

    /// Objects of a queue that are no messages on their way.
    pub(crate) fn objects_of(&self, queue: &str) -> usize {
        let queue = self.region.queue(queue).expect("of the geometry");
        self.region.objects().filter(|object| object.queue == queue && !object.letter).count()
    }
}

/// An object that is bound to be ready.
#[track_caller]
pub(crate) fn next(worker: &mut (dyn AnyWorker + Send)) -> Box<dyn AnyJob + '_> {
    let wait = Wait::default().for_at_most(PATIENCE);
    worker.claim(wait).expect("a region or a gateway").expect("a ready object")
}
