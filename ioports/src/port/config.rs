//! What a port is told, whatever its kind.

use super::RunError;
use crate::capture::Speed;
use crate::mmsg::BATCH_MAX;
use crate::source::SocketSource;
use crate::stream::StreamConfig;
use crate::udp::UdpConfig;

/// How a port waits when it has nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Sleeps in the kernel: idle costs nothing.
    #[default]
    Sleep,
    /// Never sleeps while its region is primary: lowest latency for one whole core.
    BusyPoll,
}

/// Whether ports of kind `xdp` are built in: the feature `xdp`.
pub const HAS_XDP: bool = cfg!(feature = "xdp");

/// Who runs the program that hands frames to a port of kind `xdp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// The card's driver if it can, else the kernel.
    #[default]
    Any,
    /// The card's driver, before the kernel has made packets of its frames.
    Driver,
    /// The kernel, for any card: later, and so slower.
    Generic,
}

/// What becomes of a packet that was handed in and that no worker has committed yet, when the primary dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ingest {
    /// It is lost.
    #[default]
    Volatile,
    /// It is a commit of the port, shipped as any other, and the survivor works it off, once. It needs a slot and a block more
    /// until it is read.
    Replicated,
}

/// What kind a port is, and what it is told beyond what all are.
#[derive(Clone, Debug)]
pub enum PortKind {
    /// Datagrams: the source is an address, a holder or an inherited socket.
    Udp(UdpConfig),
    /// Connections, cut into frames: TCP, or unix sockets where the source is a path.
    Stream(StreamConfig),
    /// Whole Ethernet frames: the source is an interface.
    Frames,
    /// The same by AF_XDP: frames are this port's alone. Needs the feature `xdp`.
    Xdp(Attach),
    /// A capture file, replayed at this speed, and one that is written: the source names them.
    Capture(Speed),
}

impl PortKind {
    fn name(&self) -> &'static str {
        match self {
            PortKind::Udp(_) => "udp",
            PortKind::Stream(_) => "tcp or unix",
            PortKind::Frames => "packet",
            PortKind::Xdp(_) => "xdp",
            PortKind::Capture(_) => "pcap",
        }
    }
}

/// What a port is told.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Its name in the geometry: where workers emit to.
    pub port: String,
    /// The queue of the objects that its packets are for.
    pub queue: String,
    /// Where its socket comes from.
    pub socket: SocketSource,
    /// What comes from there.
    pub kind: PortKind,
    /// Packets read with one system call, `1..=BATCH_MAX`. As many blocks are kept in hand.
    pub receive_batch: usize,
    /// Packets sent with one system call, `1..=BATCH_MAX`.
    pub send_batch: usize,
    /// Longest packet taken; a longer one is counted and dropped, as is one that no block can hold.
    pub packet_bytes_max: usize,
    /// While there is not room for all, each source has its share: who floods does not crowd out who sends little. Of kind
    /// `udp`; streams make each peer wait for itself.
    pub fair_shares: bool,
    /// What becomes of what was handed in. A port of a host without a region commits what it takes in, whatever this says.
    pub ingest: Ingest,
    /// Nothing is read: another port reads there, and this one is there for what leaves, in a mode of its own.
    pub send_only: bool,
    /// What to do when there is nothing to do.
    pub wait: Wait,
}

impl PortConfig {
    /// UDP port `port` for objects of `queue`, everything else as usual.
    pub fn new(port: &str, queue: &str, socket: SocketSource) -> Self {
        PortConfig {
            port: port.to_owned(),
            queue: queue.to_owned(),
            socket,
            kind: PortKind::Udp(UdpConfig::default()),
            receive_batch: 32,
            send_batch: 32,
            packet_bytes_max: 1984, // what a block of 2,048 has left behind the sender's address
            fair_shares: true,
            ingest: Ingest::Volatile,
            send_only: false,
            wait: Wait::Sleep,
        }
    }

    /// Port `port` of connections whose bytes `stream` cuts into frames.
    pub fn stream(port: &str, queue: &str, socket: SocketSource, stream: StreamConfig) -> Self {
        PortConfig { kind: PortKind::Stream(stream), ..PortConfig::new(port, queue, socket) }
    }

    /// Port `port` of whole frames of an interface.
    pub fn frames(port: &str, queue: &str, interface: &str) -> Self {
        let socket = SocketSource::Interface(interface.to_owned());
        PortConfig { kind: PortKind::Frames, ..PortConfig::new(port, queue, socket) }
    }

    /// The same by AF_XDP.
    pub fn xdp(port: &str, queue: &str, interface: &str, attach: Attach) -> Self {
        PortConfig { kind: PortKind::Xdp(attach), ..PortConfig::frames(port, queue, interface) }
    }

    /// Port `port` of capture files.
    pub fn capture(port: &str, queue: &str, files: SocketSource, speed: Speed) -> Self {
        PortConfig { kind: PortKind::Capture(speed), ..PortConfig::new(port, queue, files) }
    }

    pub(super) fn not_of_this_kind(&self) -> RunError {
        RunError::Kind {
            port: self.port.clone(),
            kind: self.kind.name(),
            socket: self.socket.clone(),
        }
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<(), RunError> {
        for (what, value) in
            [("receive_batch", self.receive_batch), ("send_batch", self.send_batch)]
        {
            if !(1..=BATCH_MAX).contains(&value) {
                return Err(RunError::Batch { what, value });
            }
        }
        let wrong = |why| RunError::Config { port: self.port.clone(), why };
        match &self.kind {
            PortKind::Udp(_) if matches!(self.socket, SocketSource::Path(_)) => {
                return Err(self.not_of_this_kind());
            }
            PortKind::Udp(udp) => {
                let ip = match self.socket {
                    SocketSource::Bind(address) | SocketSource::Service(address) => address.ip(),
                    _ => return Ok(()),
                };
                if let Some(group) = udp.multicast.iter().find(|group| !group.fits(ip)) {
                    let any = group.any();
                    return Err(wrong(format!(
                        "a socket bound to {ip} hears nothing of group {group}; bind it to {any}"
                    )));
                }
            }
            PortKind::Stream(stream) => {
                stream.objection(self.packet_bytes_max).map_or(Ok(()), |why| Err(wrong(why)))?;
            }
            PortKind::Capture(Speed::Rate(0)) => {
                return Err(wrong("a rate of 0 packets a second never ends".to_owned()));
            }
            PortKind::Xdp(_) if self.send_only => {
                let why = "only one port of kind xdp has an interface: one that only sends is of \
                    kind packet";
                return Err(wrong(why.to_owned()));
            }
            PortKind::Frames | PortKind::Xdp(_) | PortKind::Capture(_) => {}
        }
        Ok(())
    }
}
