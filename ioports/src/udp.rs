//! The UDP port: one loop between a socket and a region.
//!
//! ```text
//!                    ┌──────────────────────────── run ───────────────────────────────┐
//!   no region there, │  attach ──► serve: read? (PRIMARY, node alive)                  │
//!   no free seat:    │               │    ingress: recvmmsg ─► classify ─► deliver     │
//!   try again        │               │    egress:  released? ─► sendmmsg ─► sent       │
//!                    │               └─── nothing to do: sleep on socket, bell, stop   │
//!                    │  ◄── the region was replaced by another one                     │
//!                    └─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! # When a port reads
//! Two ports of a pair hold the same socket, so reading is a right: only while the own region is
//! PRIMARY and its node lives, looked at again before every single read. At all other times the
//! socket is not even polled for input, because what waits there is for the other port and would
//! keep this one spinning. A port without that right sleeps on its bell, which the promotion rings.
//!
//! The port of a service address reads and sends only while the address is on this host, which the kernel
//! tells it: after a promotion the state is there first, then the address, then packets.
//!
//! # When a port sends
//! Whether an emitted packet may leave is decided by the region (`released >= seq`, PRIMARY); it is
//! looked at once more for each packet right before the system call.
//!
//! # What a port loses
//! Nothing without a number: see [`Counters`].

mod egress;
mod ingress;
mod seat;

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use hotpair_shm::Bell;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::address::Presence;
use crate::classify::Classifier;
use crate::counters::Counters;
use crate::descriptor::kernel_drops;
use crate::mmsg::BATCH_MAX;
use crate::source::{OpenError, SocketSource};
use crate::stop::Stop;
#[cfg(feature = "remote")]
pub(crate) use egress::reason_of;
use egress::{Egress, Held};
use ingress::Ingress;
#[cfg(feature = "remote")]
pub(crate) use ingress::{TOO_LONG, passing};
use seat::Seat;
pub use seat::SeatError;

/// Longest sleep: a bell that was lost with its ringer costs this much and no more.
const SLEEP_MS_MAX: u16 = 100;

/// Between two attempts to find the region.
const RETRY_MS: u16 = 20;

/// Longest sleep while packets are in hand that the kernel, or the region, has no room for.
const HELD_MS_MAX: u16 = 2;

/// How often the kernel is asked what it dropped, at most.
const KERNEL_DROPS_EVERY: Duration = Duration::from_millis(500);

/// How a port waits when it has nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Sleeps in the kernel: idle costs nothing.
    #[default]
    Sleep,
    /// Never sleeps while its region is primary: lowest latency for one whole core.
    BusyPoll,
}

/// What a UDP port is told.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Its name in the geometry: where workers emit to.
    pub port: String,
    /// The queue of the objects that its packets are for.
    pub queue: String,
    /// Where its socket comes from.
    pub socket: SocketSource,
    /// Packets read with one system call, `1..=BATCH_MAX`. As many blocks are kept in hand.
    pub receive_batch: usize,
    /// Packets sent with one system call, `1..=BATCH_MAX`.
    pub send_batch: usize,
    /// Longest packet taken; a longer one is counted and dropped, as is one that no block can hold.
    pub packet_bytes_max: usize,
    /// What to do when there is nothing to do.
    pub wait: Wait,
}

impl PortConfig {
    /// Port `port` for objects of `queue`, everything else as usual.
    pub fn new(port: &str, queue: &str, socket: SocketSource) -> Self {
        PortConfig {
            port: port.to_owned(),
            queue: queue.to_owned(),
            socket,
            receive_batch: 32,
            send_batch: 32,
            packet_bytes_max: 1984, // what a block of 2,048 has left behind the sender's address
            wait: Wait::Sleep,
        }
    }

    /// Refuses batch sizes that make no sense.
    pub(crate) fn check(&self) -> Result<(), RunError> {
        for (what, value) in
            [("receive_batch", self.receive_batch), ("send_batch", self.send_batch)]
        {
            if !(1..=BATCH_MAX).contains(&value) {
                return Err(RunError::Batch { what, value });
            }
        }
        Ok(())
    }
}

/// Why a port gave up. Whatever time can heal is waited for instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is no socket.
    #[error("port `{port}` has no socket")]
    Socket {
        /// The port's name.
        port: String,
        /// Why not.
        source: OpenError,
    },
    /// A batch size that makes no sense.
    #[error("{what} is {value}, it must be from 1 to {BATCH_MAX}")]
    Batch {
        /// The key.
        what: &'static str,
        /// What was given.
        value: usize,
    },
    /// The region is there, but it cannot serve this port.
    #[error("port `{port}` cannot work on this region")]
    Seat {
        /// The port's name.
        port: String,
        /// Why not.
        source: SeatError,
    },
    /// The kernel refused something that a port cannot live without.
    #[error("cannot {action}")]
    Os {
        /// What.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl RunError {
    /// What to do about it, where that is known.
    pub fn help(&self) -> Option<String> {
        match self {
            RunError::Socket { source, .. } => source.help(),
            _ => None,
        }
    }
}

/// Runs a port between its socket and the region at `path` until `stop`.
///
/// Waits for a region that is not there yet, and attaches again when it is replaced.
pub fn run(
    path: &Path,
    config: &PortConfig,
    classifier: &mut dyn Classifier,
    counters: &Counters,
    stop: &Stop,
) -> Result<(), RunError> {
    config.check()?;
    let socket = config
        .socket
        .open()
        .map_err(|source| RunError::Socket { port: config.port.clone(), source })?;
    let local = socket.local_addr().map_err(os("ask for the socket's address"))?;
    tracing::info!(port = %config.port, %local, source = %config.socket, "the port has its socket");

    let mut presence = match config.socket {
        SocketSource::Service(address) => {
            Some(Presence::watch(address.ip()).map_err(os("watch for the service address"))?)
        }
        _ => None,
    };

    let mut ingress = Ingress::new(config);
    let mut egress = Egress::new(config, local);
    let mut told = false;
    while !stop.is_stopped() {
        match Seat::take(path, config) {
            Ok(seat) => {
                told = false;
                counters.attached();
                let mut port = Port {
                    seat,
                    socket: &socket,
                    config,
                    ingress: &mut ingress,
                    egress: &mut egress,
                    counters,
                    presence: presence.as_mut(),
                    kernel_asked: None,
                    rung: false,
                };
                let ended = port.serve(classifier, stop);
                port.let_go();
                ended?;
            }
            Err(error) if error.heals() => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(port = %config.port, %error, "waiting for the region");
                }
                sleep(&mut [PollFd::new(stop.as_fd(), PollFlags::POLLIN)], RETRY_MS)?;
            }
            Err(source) => return Err(RunError::Seat { port: config.port.clone(), source }),
        }
    }
    tracing::info!(port = %config.port, counters = %counters.snapshot(), "the port stopped");
    Ok(())
}

/// A port with a seat in a region.
struct Port<'a> {
    seat: Seat,
    socket: &'a UdpSocket,
    config: &'a PortConfig,
    ingress: &'a mut Ingress,
    egress: &'a mut Egress,
    counters: &'a Counters,
    /// Of the service address, where it comes and goes.
    presence: Option<&'a mut Presence>,
    kernel_asked: Option<Instant>,
    /// The bell was rung, and is readable until it is quietened.
    rung: bool,
}

impl Port<'_> {
    /// Works until `stop`, or until the region at the path is another one.
    fn serve(&mut self, classifier: &mut dyn Classifier, stop: &Stop) -> Result<(), RunError> {
        let mut was_reading = false;
        while !stop.is_stopped() {
            let reading = self.may_read();
            if reading != was_reading {
                was_reading = reading;
                self.tell(reading);
            }
            let mut worked = false;
            if reading || (self.ingress.has_held() && self.seat.is_draining()) {
                let seat = &mut self.seat;
                worked |= self
                    .ingress
                    .step(seat, self.socket, classifier, self.counters)
                    .map_err(os("receive from the socket"))?;
            } else {
                self.ingress.give_back(&mut self.seat, self.counters);
            }
            if self.is_here() {
                worked |= self.egress.step(&mut self.seat, self.socket, self.counters);
            } else {
                self.egress.give_back(&mut self.seat);
            }
            if self.egress.held() == Some(Held::AddressGone)
                && let Some(presence) = &mut self.presence
            {
                presence.look();
                continue;
            }
            if worked {
                continue;
            }
            if !reading && !self.seat.is_current() {
                tracing::info!(port = %self.config.port, "the region was replaced");
                return Ok(());
            }
            let held = self.egress.held().is_some() || self.ingress.is_held();
            if reading && self.config.wait == Wait::BusyPoll && !held {
                std::hint::spin_loop();
                continue;
            }
            self.sleep(reading, stop)?;
        }
        Ok(())
    }

    /// Whether the socket's address is on this host.
    fn is_here(&self) -> bool {
        self.presence.as_ref().is_none_or(|presence| presence.is_here())
    }

    fn may_read(&self) -> bool {
        self.is_here() && self.seat.may_read()
    }

    /// Sleeps until there may be something to do: a packet, a bell, a request to stop.
    fn sleep(&mut self, reading: bool, stop: &Stop) -> Result<(), RunError> {
        self.ask_for_kernel_drops();
        let mut events = PollFlags::empty();
        // What waits in the socket is not wanted while there is no room for it.
        let full = self.ingress.is_held();
        if reading && !full {
            events |= PollFlags::POLLIN;
        }
        let millis = match self.egress.held() {
            None if full => HELD_MS_MAX,
            None => SLEEP_MS_MAX,
            Some(Held::BufferFull) => {
                events |= PollFlags::POLLOUT;
                HELD_MS_MAX
            }
            Some(Held::DeviceFull | Held::AddressGone) => HELD_MS_MAX,
        };
        // While packets are held the bell cannot be armed: it would announce, without end, those
        // behind them. A change of role, which waits for what we hold, is seen by waking often.
        let bell = Bell::Port(self.seat.port);
        // The same without our address, whose coming the kernel announces.
        let armed = self.egress.held().is_none() && self.is_here();
        if std::mem::take(&mut self.rung) {
            self.seat.participant.disarm_bell(bell);
        }
        let quiet = !armed || self.seat.participant.arm_bell(bell);
        // A promotion between our look at the role and the arming rang an unarmed bell.
        let result = if quiet && self.may_read() == reading {
            let moved = self.presence.as_ref().map_or(stop.as_fd(), |presence| presence.as_fd());
            let rung = self.seat.bell_fd().map_err(os("open the bell"))?;
            let mut fds = [
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(rung, PollFlags::POLLIN),
                // Where there is none, the first once more.
                PollFd::new(moved, PollFlags::POLLIN),
                PollFd::new(self.socket.as_fd(), events),
            ];
            // Not even without events: an error that waits on the socket would keep us awake.
            let count = if events.is_empty() { 3 } else { 4 };
            self.counters.slept();
            let result = sleep(&mut fds[..count], millis);
            self.rung = fds[1].any().unwrap_or(true);
            if fds[2].any().unwrap_or(true)
                && let Some(presence) = &mut self.presence
            {
                presence.look();
            }
            result
        } else {
            Ok(())
        };
        // What was rung for comes first: the bell is quietened before the next sleep.
        self.seat.participant.cancel_bell(bell);
        result
    }

    fn ask_for_kernel_drops(&mut self) {
        if self.kernel_asked.is_some_and(|asked| asked.elapsed() < KERNEL_DROPS_EVERY) {
            return;
        }
        self.kernel_asked = Some(Instant::now());
        if let Ok(total) = kernel_drops(self.socket.as_fd()) {
            self.counters.kernel_dropped(total);
        }
    }

    fn tell(&self, reading: bool) {
        let (port, role) = (&self.config.port, self.seat.region.role());
        if reading {
            tracing::info!(%port, ?role, "the port reads from its socket");
        } else {
            tracing::info!(%port, ?role, node_alive = self.seat.region.node_alive(),
                "the port stopped reading");
        }
    }

    /// Everything that is of this seat goes back before the seat itself does.
    fn let_go(mut self) {
        self.ingress.give_back(&mut self.seat, self.counters);
        self.egress.give_back(&mut self.seat);
        self.ask_for_kernel_drops();
    }
}

/// `poll(2)` that takes a signal for a wake-up.
pub(crate) fn sleep(fds: &mut [PollFd<'_>], millis: u16) -> Result<(), RunError> {
    match poll(fds, PollTimeout::from(millis)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(os("sleep")(errno.into())),
    }
}

pub(crate) fn os(action: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Os { action, source }
}
