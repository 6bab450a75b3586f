//! The UDP port of a host without a region: one loop between a socket and both nodes' gateways.
//!
//! ```text
//!   socket ─► recvmmsg ─► classify ─► take_in ─► whichever node is primary
//!   socket ◄─ sendmmsg ◄───────────── leaving ◄─
//! ```
//!
//! The same promises as beside a region, with one more: what was read and is not acknowledged is kept, and offered to
//! the node that is left. A packet is read only while a primary is there and there is room to hand it on; until then it waits
//! in the socket.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use hotpair_worker::Error;
use hotpair_worker::remote::{RemotePort, RemoteSpace};
use nix::poll::{PollFd, PollFlags};

use crate::classify::{Classified, Classifier, PacketKey, contained};
use crate::counters::Counters;
use crate::kind::{PacketSink, PacketSource};
use crate::mmsg::{Datagram, SendError};
use crate::port::{PortConfig, PortKind, RunError, TOO_LONG, os, passing, reason_of, sleep};
use crate::stop::Stop;
use crate::udp::UdpPort;

/// Longest sleep.
const SLEEP_MS_MAX: u16 = 100;
const STOPPED: &str = "the port stopped";

/// Longest sleep while something is held that there was no room for.
const HELD_MS_MAX: u16 = 2;

/// Why a port of another host gave up. Servers that are not there are waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteRunError {
    /// The socket, or what is done with it.
    #[error(transparent)]
    Local(#[from] RunError),
    /// The gateways do not take this port.
    #[error("port `{port}` cannot work through the gateways")]
    Gateway {
        /// The port's name.
        port: String,
        /// Why not.
        source: Error,
    },
}

/// Runs a port between its socket and the gateways of `space` until `stop`.
///
/// # Errors
/// When there is no socket, or when a gateway refuses the port.
pub fn run_remote(
    space: &RemoteSpace,
    config: &PortConfig,
    classifier: &mut dyn Classifier,
    counters: &Counters,
    stop: &Stop,
) -> Result<(), RemoteRunError> {
    config.check()?;
    let refused = |source| RemoteRunError::Gateway { port: config.port.clone(), source };
    let PortKind::Udp(udp) = &config.kind else {
        return Err(RunError::NotRemote { port: config.port.clone() }.into());
    };
    let socket = config
        .socket
        .open_udp(udp.reuse_port)
        .map_err(|source| RunError::Socket { port: config.port.clone(), source })?;
    let local = socket.local_addr().map_err(os("ask for the socket's address"))?;
    tracing::info!(port = %config.port, %local, source = %config.socket, "the port has its socket");
    let count = config.receive_batch.min(RemotePort::BATCH);
    let mut udp = UdpPort::new(socket, config, udp).map_err(os("prepare the socket"))?;
    // Whichever node is primary, it is this host that hears the groups.
    udp.begin().map_err(os("begin to receive"))?;
    let mut port = Far {
        port: space.port(&config.port, &config.queue).map_err(refused)?,
        udp,
        counters,
        buffers: vec![vec![0; config.packet_bytes_max]; count],
        batch: Vec::with_capacity(count),
        keys: Vec::with_capacity(count),
        second_try: false,
        buffer_full: false,
        delivered: 0,
    };
    while !stop.is_stopped() {
        port.port.turn().map_err(refused)?;
        let reads = port.port.has_room();
        let mut worked = false;
        if reads {
            worked |= port.ingress(classifier).map_err(refused)?;
        }
        worked |= port.egress();
        port.count();
        if !worked {
            port.sleep(reads, stop)?;
        }
    }
    let left_over = port.udp.forget_left_over();
    counters.received(left_over);
    counters.dropped(STOPPED, left_over);
    tracing::info!(port = %config.port, counters = %counters.snapshot(), far = ?port.port.counts(),
        "the port stopped");
    Ok(())
}

struct Far<'a> {
    port: RemotePort,
    udp: UdpPort,
    counters: &'a Counters,
    buffers: Vec<Vec<u8>>,
    batch: Vec<Datagram>,
    /// What the classifier has said of each datagram of the batch.
    keys: Vec<Option<(Option<PacketKey>, SocketAddr)>>,
    /// The first packet met an error that belongs to an earlier one, and is tried once more.
    second_try: bool,
    buffer_full: bool,
    /// As it was counted last.
    delivered: u64,
}

impl Far<'_> {
    /// Reads one batch and hands it on; says whether there was anything.
    fn ingress(&mut self, classifier: &mut dyn Classifier) -> Result<bool, Error> {
        self.batch.clear();
        self.keys.clear();
        let buffers = self.buffers.iter_mut().map(Vec::as_mut_slice);
        if let Err(error) = self.udp.receive(buffers, &mut self.batch) {
            // What is wrong with the socket for good shows itself when it is asked for readiness.
            return Ok(passing(error).unwrap_or(false));
        }
        self.counters.received(self.batch.len() as u64);
        self.counters.waited_in_kernel(&self.batch);
        for (datagram, buffer) in self.batch.iter().zip(&self.buffers) {
            let classified = match datagram.source {
                _ if datagram.truncated => Err(TOO_LONG),
                None => Err("no source address"),
                Some(source) => match contained(classifier, &buffer[..datagram.len], source) {
                    Classified::Key(key) => Ok((Some(key), source)),
                    Classified::Keyless => Ok((None, source)),
                    Classified::Drop(reason) => Err(reason),
                },
            };
            if let Err(reason) = classified {
                self.counters.dropped(reason, 1);
            }
            self.keys.push(classified.ok());
        }
        let Self { batch, keys, buffers, port, .. } = self;
        let packets = batch.iter().zip(&*keys).zip(&*buffers);
        let packets = packets.filter_map(|((datagram, key), buffer)| {
            let (key, source) = key.as_ref()?;
            Some((key.as_ref().map(PacketKey::as_bytes), *source, &buffer[..datagram.len]))
        });
        port.take_in(packets)?;
        Ok(!self.batch.is_empty())
    }

    /// Sends one batch; says whether there was anything that could be sent.
    fn egress(&mut self) -> bool {
        self.buffer_full = false;
        let Some(first) = self.port.leaving().next() else { return false };
        if first.to.is_none() {
            self.counters.send_failed("no destination");
            self.port.left(1);
            return true;
        }
        let packets = self.port.leaving().map_while(|packet| Some((packet.payload, packet.to?)));
        match self.udp.send(packets) {
            Ok(count) => {
                self.second_try = false;
                self.counters.sent(count as u64, 0);
                self.port.left(count);
                true
            }
            Err(error) => self.not_sent(&error),
        }
    }

    /// The error is about the first packet.
    fn not_sent(&mut self, error: &SendError) -> bool {
        let code = match error {
            SendError::Family(_) | SendError::Refused(_) => None,
            SendError::Os(error) => error.raw_os_error(),
        };
        match code {
            Some(libc::EINTR) => return true,
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {
                self.counters.send_waited();
                self.buffer_full = true;
                return false;
            }
            // The kernel reports here what became of an earlier packet.
            Some(libc::ECONNREFUSED) if !self.second_try => {
                self.second_try = true;
                return true;
            }
            _ => {}
        }
        self.second_try = false;
        tracing::debug!(%error, "a packet cannot be sent");
        self.counters.send_failed(reason_of(code));
        self.port.left(1);
        true
    }

    fn count(&mut self) {
        let delivered = self.port.counts().delivered;
        for _ in std::mem::replace(&mut self.delivered, delivered)..delivered {
            self.counters.delivered(false);
        }
        for (reason, count) in self.port.take_dropped() {
            self.counters.dropped(reason, count);
        }
    }

    /// Sleeps until there may be something to do: a packet, news of a gateway, a request to stop.
    fn sleep(&mut self, reads: bool, stop: &Stop) -> Result<(), RunError> {
        if let Some(total) = self.udp.lost_before() {
            self.counters.kernel_dropped(total, self.udp.lost_by_reason());
        }
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, reads);
        events.set(PollFlags::POLLOUT, self.buffer_full);
        let held = self.buffer_full || self.port.is_pausing();
        let millis = if held { HELD_MS_MAX } else { SLEEP_MS_MAX };
        let mut fds = [
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.port.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.udp.descriptor().unwrap_or(stop.as_fd()), events),
        ];
        // Not even without events: an error that waits on the socket would keep us awake.
        let count = if events.is_empty() { 2 } else { 3 };
        self.counters.slept();
        sleep(&mut fds[..count], millis)
    }
}
