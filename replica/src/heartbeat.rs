//! Heartbeats: the detector for lost hosts and cut cables, where no kernel is left to tell.
//!
//! ```text
//!   every 5 ms, on a thread and a socket of their own:
//!
//!   key id:8 | counter:8 | HMAC-SHA256:32      keys exported from the nodes' TLS session, one a direction
//! ```
//!
//! A dead *process* is known much sooner (see [`tripwire`](crate::tripwire)). Here the rule is: eight
//! periods without a heartbeat are silence, and a thread that ran late itself accuses nobody, since
//! what it missed may wait in its own socket, or be its own machine's fault.
//!
//! Nothing is sent or judged before the first connection gave a key. A new connection gives a new
//! one; the old one is believed until the peer uses the new one as well.

mod judge;
mod packet;
pub(crate) mod priority;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use judge::Judge;
pub use packet::HeartbeatKeys;
use packet::{PACKET_BYTES, Receiving, Sending};

/// How often heartbeats are sent, and how many must be missing.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatConfig {
    /// Where the peer listens for them.
    pub peer: SocketAddr,
    /// Time between two; both nodes should have the same.
    pub period: Duration,
    /// So many periods without one are silence.
    pub missed: u32,
}

impl HeartbeatConfig {
    /// The default rhythm: silence after 8 x 5 ms.
    #[must_use]
    pub fn new(peer: SocketAddr) -> Self {
        Self { peer, period: Duration::from_millis(5), missed: 8 }
    }
}

/// What the heartbeat thread has to say; each change once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatEvent {
    /// Nothing came for so long, and it is not this thread's fault.
    Silent {
        /// Time since the last heartbeat.
        lasted: Duration,
    },
    /// The peer is heard again.
    Heard,
}

/// Counters of a heartbeat thread. They only grow.
#[derive(Debug, Default)]
pub struct HeartbeatCounters {
    /// Heartbeats sent.
    pub sent: AtomicU64,
    /// Heartbeats received and believed.
    pub heard: AtomicU64,
    /// Packets that were not by the peer, or old.
    pub refused: AtomicU64,
    /// Turns that began more than a period late.
    pub late: AtomicU64,
}

/// The running heartbeat. Dropping it stops it; the peer will find this node silent.
#[derive(Debug)]
pub struct Heartbeat {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    new_keys: Mutex<Option<HeartbeatKeys>>,
    counters: HeartbeatCounters,
}

impl Heartbeat {
    /// Starts the thread. It sleeps until [`Self::rekey`].
    ///
    /// # Errors
    /// When the socket cannot be used or no thread can be had.
    pub fn start(
        socket: UdpSocket,
        config: HeartbeatConfig,
        events: impl FnMut(HeartbeatEvent) + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_on(vec![(socket, config.peer)], config, events)
    }

    /// The same on several networks at once: a socket of each, and where the peer listens there. The peer is silent when
    /// it is silent on all of them.
    ///
    /// # Errors
    /// When a socket cannot be used or no thread can be had.
    ///
    /// # Panics
    /// Without any network.
    pub fn start_on(
        roads: Vec<(UdpSocket, SocketAddr)>,
        config: HeartbeatConfig,
        events: impl FnMut(HeartbeatEvent) + Send + 'static,
    ) -> io::Result<Self> {
        for (socket, _) in &roads {
            socket.set_nonblocking(true)?;
        }
        let address = roads.first().expect("a network").0.local_addr()?;
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("heartbeat".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || Beating { shared: &shared, roads: &roads, config }.run(events)
        })?;
        Ok(Self { shared, address, thread: Some(thread) })
    }

    /// Where heartbeats are received.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> &HeartbeatCounters {
        &self.shared.counters
    }

    /// Uses the keys of a new connection from now on.
    pub fn rekey(&self, keys: HeartbeatKeys) {
        *self.shared.new_keys.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Beating<'b> {
    shared: &'b Shared,
    roads: &'b [(UdpSocket, SocketAddr)],
    config: HeartbeatConfig,
}

impl Beating<'_> {
    fn run(&self, mut events: impl FnMut(HeartbeatEvent)) {
        if let Err(error) = priority::raise() {
            tracing::debug!(%error, "heartbeats run without real-time priority");
        }
        let mut judge = Judge::new(self.config.period, self.config.missed);
        let mut sending: Option<Sending> = None;
        let mut receiving = Receiving::default();
        let mut planned = Instant::now();
        while !self.shared.stopping.load(Ordering::Acquire) {
            let new = self.shared.new_keys.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(keys) = new {
                sending = Some(Sending::new(&keys));
                receiving.add(&keys);
            }
            let Some(sending) = &mut sending else {
                thread::park();
                planned = Instant::now();
                continue;
            };

            let woke = Instant::now();
            if judge.wake(woke, planned) {
                self.shared.counters.late.fetch_add(1, Ordering::Relaxed);
            }
            self.send(sending);
            if self.drain(&mut receiving) && judge.heard(woke) {
                events(HeartbeatEvent::Heard);
            }
            if let Some(lasted) = judge.silence(woke) {
                events(HeartbeatEvent::Silent { lasted });
            }

            planned += self.config.period;
            let now = Instant::now();
            if planned < now {
                // Turns that were missed are gone: catching up would only send a burst.
                planned = now + self.config.period;
            }
            thread::sleep(planned - now);
        }
    }

    fn send(&self, sending: &mut Sending) {
        // The same packet on all networks: whichever comes first counts, and the others are old then.
        let packet = sending.next_packet();
        for (socket, peer) in self.roads {
            // Whatever the kernel says (unreachable, no buffers): the peer will miss it, and judge.
            if socket.send_to(&packet, *peer).is_ok() {
                self.shared.counters.sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Empties the sockets; whether a heartbeat of the peer was in one of them.
    fn drain(&self, receiving: &mut Receiving) -> bool {
        let mut heard = false;
        for (socket, _) in self.roads {
            heard |= self.drain_one(socket, receiving);
        }
        heard
    }

    fn drain_one(&self, socket: &UdpSocket, receiving: &mut Receiving) -> bool {
        let mut heard = false;
        let mut packet = [0; PACKET_BYTES + 1];
        // Bounded, so that a flood of packets cannot keep the thread from its next beat.
        for _ in 0..256 {
            match socket.recv_from(&mut packet) {
                Ok((bytes, _)) if receiving.accept(&packet[..bytes]) => {
                    heard = true;
                    self.shared.counters.heard.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {
                    self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP answer to an earlier send; the queue may still hold heartbeats.
                Err(_) => {}
            }
        }
        heard
    }
}

#[cfg(test)]
mod tests;
