//! The kinds `tcp` and `unix`: a listener, its connections, and a framing that cuts them into messages.
//!
//! ```text
//!   listener ─► accept (or refuse) ─► connections, edge-triggered in one epoll
//!                                        │ each in turn: one frame
//!               ready ◄── woken ─────────┴─► receive ─► blocks ─► classify, deliver
//!                                            settle: held? the connection pauses, and is not read
//!   send ─► the connection's output ─► kernel ─► peer     too much of it: disconnected
//! ```
//!
//! # What workers see
//! A frame's source is the [`Connection`] that it came by; an answer to that address goes out by it, framed as what came in
//! was. By [`ByConnection`](crate::ByConnection) each connection has an object of its own. An empty message whose source is
//! [`Connection::end`] is the last one: nothing comes after it, and the worker withdraws the object. A packet to that address
//! ends the connection, once everything before it is out; the last message comes all the same.
//!
//! # What a stream never loses
//! A frame that there is no room for waits in its connection, which is not read meanwhile, if the queue's policy is `hold`.
//! `reject` ends the connection; the other policies drop the frame, counted, and the stream has a hole.
//!
//! # What is bounded
//! Connections in all and of one source, the input of each (a frame and one read), its output, the time for a frame, for
//! silence, and for the end.

mod config;
mod framing;
mod peer;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::connection::Connection;
use crate::counters::Counters;
use crate::kind::{PacketSink, PacketSource, Settled};
use crate::listener::{Accepted, Listener};
use crate::mmsg::{Datagram, SendError};
use crate::port::PortConfig;
pub use config::StreamConfig;
pub use framing::{AROUND_BYTES_MAX, Cut, Framing, FramingFunction};
use peer::{Item, Peer};

/// Read with one system call.
const READ_BYTES: usize = 16 << 10;
/// Connections that are accepted in one turn of the loop: the others are served in between.
const ACCEPT_MAX: usize = 64;
/// How often patience is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The listener among the connections, whose numbers begin with 1.
const LISTENER: u64 = 0;

pub(crate) struct StreamPort {
    listener: Listener,
    epoll: Epoll,
    config: StreamConfig,
    payload_max: usize,
    peers: HashMap<u32, Peer>,
    /// Connections of each address.
    sources: HashMap<IpAddr, usize>,
    /// Those that may have something, in the order of their turns.
    ready: VecDeque<u32>,
    /// Those that wait for room, the longest first.
    paused: VecDeque<u32>,
    next_number: u32,
    serving: bool,
    /// There may be somebody to accept.
    knocking: bool,
    looked: Instant,
    scratch: Box<[u8]>,
    events: Vec<EpollEvent>,
    touched: Vec<u32>,
    counters: Counters,
}

impl StreamPort {
    pub(crate) fn new(
        listener: Listener,
        port: &PortConfig,
        config: &StreamConfig,
        counters: &Counters,
    ) -> io::Result<StreamPort> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(listener.as_fd(), EpollEvent::new(events, LISTENER))?;
        Ok(StreamPort {
            listener,
            epoll,
            config: config.clone(),
            payload_max: port.packet_bytes_max,
            peers: HashMap::new(),
            sources: HashMap::new(),
            ready: VecDeque::new(),
            paused: VecDeque::new(),
            next_number: RandomState::new().hash_one(std::process::id()) as u32,
            serving: false,
            knocking: false,
            looked: Instant::now(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            events: vec![EpollEvent::empty(); 256],
            touched: Vec::new(),
            counters: counters.clone(),
        })
    }

    /// What the kernel has to say.
    fn look(&mut self) -> io::Result<()> {
        let count = match self.epoll.wait(&mut self.events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        for at in 0..count {
            let event = self.events[at];
            if event.data() == LISTENER {
                self.knocking = true;
                continue;
            }
            let number = event.data() as u32;
            let Some(peer) = self.peers.get_mut(&number) else { continue };
            if event.events().contains(EpollFlags::EPOLLOUT) {
                peer.flush();
            }
            let heard = event.events() - EpollFlags::EPOLLOUT;
            if !heard.is_empty() {
                peer.hear(heard == EpollFlags::EPOLLIN);
            }
            self.enqueue(number);
        }
        if self.knocking && self.serving {
            self.accept();
        }
        let now = Instant::now();
        while let Some(&number) = self.paused.front() {
            match self.peers.get_mut(&number) {
                Some(peer) if peer.paused_until.is_some_and(|until| until > now) => break,
                Some(peer) => peer.paused_until = None,
                None => {}
            }
            self.paused.pop_front();
            self.enqueue(number);
        }
        if now - self.looked >= LOOK_EVERY {
            self.looked = now;
            self.look_at_clock(now);
        }
        Ok(())
    }

    fn enqueue(&mut self, number: u32) {
        if let Some(peer) = self.peers.get_mut(&number)
            && !std::mem::replace(&mut peer.queued, true)
        {
            self.ready.push_back(number);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPT_MAX {
            match self.listener.accept() {
                Ok(Some(accepted)) => self.admit(accepted),
                Ok(None) => {
                    self.knocking = false;
                    return;
                }
                Err(error) => {
                    // Out of descriptors, as a rule: those that are here go on, and it is tried again with the next look.
                    tracing::warn!(%error, "cannot accept a connection");
                    self.knocking = false;
                    return;
                }
            }
        }
    }

    fn admit(&mut self, accepted: Accepted) {
        self.counters.connected();
        let ip = accepted.peer.map(|peer| peer.ip());
        let of_source = ip.and_then(|ip| self.sources.get(&ip)).copied().unwrap_or(0);
        if self.peers.len() >= self.config.connections_max {
            return self.counters.disconnected("too many connections");
        }
        if of_source >= self.config.connections_per_source {
            return self.counters.disconnected("too many connections of one source");
        }
        let number = self.free_number();
        let name = Connection::new(number, accepted.peer);
        let events = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLPRI
            | EpollFlags::EPOLLET;
        let prepared = peer::prepare(&accepted.socket, self.listener.is_tcp()).and_then(|()| {
            let event = EpollEvent::new(events, number.into());
            Ok(self.epoll.add(accepted.socket.as_fd(), event)?)
        });
        if prepared.is_err() {
            return self.counters.disconnected("reset");
        }
        if let Some(ip) = ip {
            *self.sources.entry(ip).or_default() += 1;
        }
        self.peers.insert(number, Peer::new(name, accepted.socket, self.listener.is_tcp()));
        self.enqueue(number);
    }

    fn free_number(&mut self) -> u32 {
        loop {
            self.next_number = self.next_number.wrapping_add(1);
            if self.next_number != 0 && !self.peers.contains_key(&self.next_number) {
                return self.next_number;
            }
        }
    }

    fn look_at_clock(&mut self, now: Instant) {
        let mut over = Vec::new();
        let mut talking = Vec::new();
        for (&number, peer) in &mut self.peers {
            peer.look_at_clock(now, self.config.frame_wait, self.config.idle_max);
            if peer.is_over(now, self.config.linger) {
                over.push(number);
            } else if peer.reason.is_some() || peer.is_talking() {
                talking.push(number);
            }
        }
        over.into_iter().for_each(|number| self.remove(number, "reset"));
        talking.into_iter().for_each(|number| self.enqueue(number));
        // A knock that could not be answered.
        self.knocking = true;
    }

    /// The connection is closed; what it still had is counted. `reason` stands where it has none of its own.
    fn remove(&mut self, number: u32, reason: &'static str) {
        let Some(peer) = self.peers.remove(&number) else { return };
        let left = peer.left_over(&self.config.framing, self.payload_max);
        self.counters.received(left);
        self.counters.dropped("connection ended", left);
        self.counters.disconnected(peer.reason.unwrap_or(reason));
        if let Some(ip) = peer.name.peer().map(|peer| peer.ip())
            && let Some(count) = self.sources.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&ip);
            }
        }
    }

    fn remove_if_over(&mut self, number: u32) {
        let over = |peer: &Peer| peer.is_over(Instant::now(), self.config.linger);
        if self.peers.get(&number).is_some_and(over) {
            self.remove(number, "reset");
        }
    }

    /// The next thing of whose turn it is; the connection stays first in the queue.
    fn next(&mut self) -> Option<(u32, Item)> {
        while let Some(&number) = self.ready.front() {
            if let Some(peer) = self.peers.get_mut(&number) {
                let (framing, payload_max) = (&self.config.framing, self.payload_max);
                if let Some(item) = peer.next(framing, payload_max, &mut self.scratch) {
                    return Some((number, item));
                }
                peer.queued = false;
                self.remove_if_over(number);
            }
            self.ready.pop_front();
        }
        None
    }

    fn peer_at(&mut self, to: SocketAddr) -> Option<(Connection, &mut Peer)> {
        let name = Connection::of(to)?;
        let peer = self.peers.get_mut(&name.number())?;
        let same = peer.name.end() == name.end() && peer.is_open();
        same.then_some((name, peer))
    }

    /// Puts a packet behind what its connection has to send.
    fn put(&mut self, payload: &[u8], to: SocketAddr) -> Result<(), &'static str> {
        let unsent_max = self.config.unsent_bytes_max;
        let framing = self.config.framing.clone();
        let wish_to_end = payload.is_empty() && Connection::of(to).is_some_and(|to| to.is_end());
        let Some((name, peer)) = self.peer_at(to) else {
            // What is to end has ended: that is no failure.
            return if wish_to_end { Ok(()) } else { Err("connection gone") };
        };
        let number = name.number();
        if !name.is_end() || !payload.is_empty() {
            if !peer.takes(payload.len() + AROUND_BYTES_MAX, unsent_max + AROUND_BYTES_MAX) {
                peer.flush();
            }
            if !peer.takes(payload.len() + AROUND_BYTES_MAX, unsent_max + AROUND_BYTES_MAX) {
                peer.cut_off("reads too slowly");
                self.enqueue(number);
                return Err("peer reads too slowly");
            }
            framing.dress(payload, peer.output())?;
        }
        if name.is_end() {
            peer.finish();
            self.enqueue(number);
        }
        if self.touched.last() != Some(&number) {
            self.touched.push(number);
        }
        Ok(())
    }
}

impl PacketSource for StreamPort {
    const PUSHES_BACK: bool = true;

    fn receive<'b>(
        &mut self,
        buffers: impl Iterator<Item = &'b mut [u8]>,
        into: &mut Vec<Datagram>,
    ) -> io::Result<()> {
        self.look()?;
        let mut buffers = buffers.peekable();
        while buffers.peek().is_some()
            && let Some((number, item)) = self.next()
            && let Some(buffer) = buffers.next()
        {
            let peer = self.peers.get_mut(&number).expect("it has just said what comes next");
            let source = Some(peer.name.address());
            match item {
                Item::Frame { payload, next } => {
                    let len = payload.len();
                    // Frames have a limit, and the blocks of this region may have a lower one.
                    let kept = len.min(buffer.len());
                    buffer[..kept].copy_from_slice(&peer.unoffered()[payload][..kept]);
                    peer.offer(next);
                    into.push(Datagram { truncated: kept < len, ..Datagram::new(len, source) });
                }
                Item::Refused(reason) => {
                    into.push(Datagram { refused: Some(reason), ..Datagram::new(0, source) });
                }
                Item::End => {
                    peer.offer_end();
                    let source = Some(peer.name.end());
                    into.push(Datagram { end: true, ..Datagram::new(0, source) });
                }
            }
            // The others first.
            self.ready.rotate_left(1);
        }
        Ok(())
    }

    fn discard(&mut self, _count: usize, _into: &mut Vec<Datagram>) -> io::Result<()> {
        Ok(()) // what there is no room for stays with its peer
    }

    fn wants(&mut self, packet: &Datagram) -> bool {
        let connection = packet.source.and_then(Connection::of);
        let peer = connection.and_then(|connection| self.peers.get(&connection.number()));
        packet.refused.is_some() || peer.is_some_and(Peer::wants)
    }

    fn settle(&mut self, packet: &Datagram, settled: Settled) {
        let Some(connection) = packet.source.and_then(Connection::of) else { return };
        let number = connection.number();
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.settle(packet.end, settled);
        if settled == Settled::Held {
            self.paused.push_back(number);
        } else {
            self.enqueue(number);
        }
        if packet.end {
            self.remove_if_over(number);
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }

    fn next_due(&self) -> Option<Duration> {
        let first = self.paused.front().and_then(|number| self.peers.get(number))?;
        Some(first.paused_until?.saturating_duration_since(Instant::now()))
    }

    fn begin(&mut self) -> io::Result<()> {
        self.serving = true;
        self.knocking = true;
        self.listener.begin()
    }

    fn end(&mut self) {
        self.serving = false;
        self.listener.end();
        let all: Vec<u32> = self.peers.keys().copied().collect();
        all.into_iter().for_each(|number| self.remove(number, "not primary any more"));
        self.ready.clear();
        self.paused.clear();
    }

    fn has_connection(&self, number: u32) -> bool {
        self.peers.contains_key(&number)
    }
}

impl PacketSink for StreamPort {
    fn send<'p>(
        &mut self,
        packets: impl Iterator<Item = (&'p [u8], SocketAddr)>,
    ) -> Result<usize, SendError> {
        let mut count = 0;
        let mut refused = None;
        for (payload, to) in packets {
            if let Err(reason) = self.put(payload, to) {
                refused = Some(reason);
                break;
            }
            count += 1;
        }
        while let Some(number) = self.touched.pop() {
            if let Some(peer) = self.peers.get_mut(&number) {
                peer.flush();
            }
            self.remove_if_over(number);
        }
        match refused {
            Some(reason) if count == 0 => Err(SendError::Refused(reason)),
            _ => Ok(count),
        }
    }
}
