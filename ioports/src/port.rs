//! The one loop between a port's kind and a region.
//!
//! ```text
//!                    ┌──────────────────────────── run ───────────────────────────────┐
//!   no region there, │  attach ──► serve: read? (PRIMARY, node alive)                  │
//!   no free seat:    │               │    ingress: receive ─► classify ─► deliver      │
//!   try again        │               │    egress:  released? ─► send ─► sent           │
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
//!
//! # Connections
//! They end with the process that has them, and so with a change of role. Their objects outlive them: the port that serves
//! next looks through the table, a part at each turn, and tells each object of a connection that is none of its own.

mod config;
mod egress;
mod error;
mod ingress;
mod open;
mod orphans;
mod seat;

use std::os::fd::AsFd;
use std::path::Path;

use hotpair_shm::Bell;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::address::Presence;
use crate::classify::Classifier;
use crate::counters::Counters;
use crate::kind::{PacketSink, PacketSource};
use crate::stop::Stop;
pub use config::{Attach, HAS_XDP, Ingest, PortConfig, PortKind, Wait};
#[cfg(feature = "remote")]
pub(crate) use egress::reason_of;
use egress::{Egress, Held};
pub use error::RunError;
pub(crate) use error::os;
use ingress::Ingress;
#[cfg(feature = "remote")]
pub(crate) use ingress::{TOO_LONG, passing};
pub use open::OpenPort;
use orphans::Orphans;
use seat::Seat;
pub use seat::SeatError;

/// Longest sleep: a bell that was lost with its ringer costs this much and no more.
const SLEEP_MS_MAX: u16 = 100;

/// Between two attempts to find the region.
const RETRY_MS: u16 = 20;

/// Longest sleep while packets are in hand that the kernel, or the region, has no room for.
const HELD_MS_MAX: u16 = 2;

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
    OpenPort::open(config, counters)?.run(path, classifier, stop)
}

/// Runs a port of any kind until `stop`.
fn drive<K: PacketSource + PacketSink>(
    path: &Path,
    config: &PortConfig,
    kind: &mut K,
    mut presence: Option<Presence>,
    classifier: &mut dyn Classifier,
    counters: &Counters,
    stop: &Stop,
) -> Result<(), RunError> {
    let mut ingress = Ingress::new(config, K::PUSHES_BACK);
    let mut egress = Egress::new(config);
    let mut told = false;
    while !stop.is_stopped() {
        match Seat::take(path, config) {
            Ok(seat) => {
                told = false;
                counters.attached();
                let mut port = Port {
                    seat,
                    kind: &mut *kind,
                    config,
                    ingress: &mut ingress,
                    egress: &mut egress,
                    counters,
                    presence: presence.as_mut(),
                    serving: false,
                    orphans: Orphans::default(),
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
struct Port<'a, K> {
    seat: Seat,
    kind: &'a mut K,
    config: &'a PortConfig,
    ingress: &'a mut Ingress,
    egress: &'a mut Egress,
    counters: &'a Counters,
    /// Of the service address, where it comes and goes.
    presence: Option<&'a mut Presence>,
    /// The kind knows that this host serves.
    serving: bool,
    orphans: Orphans,
    /// The bell was rung, and is readable until it is quietened.
    rung: bool,
}

impl<K: PacketSource + PacketSink> Port<'_, K> {
    /// Works until `stop`, or until the region at the path is another one.
    fn serve(&mut self, classifier: &mut dyn Classifier, stop: &Stop) -> Result<(), RunError> {
        let mut was_reading = false;
        while !stop.is_stopped() {
            let reading = self.may_read();
            if reading != was_reading {
                was_reading = reading;
                self.tell(reading);
            }
            self.follow_role(reading)?;
            let mut worked = false;
            let unfinished = self.ingress.has_held() || self.kind.has_left_over();
            if reading || (unfinished && self.seat.is_draining()) {
                let seat = &mut self.seat;
                worked |= self
                    .ingress
                    .step(seat, self.kind, classifier, self.counters)
                    .map_err(os("receive packets"))?;
            } else {
                self.ingress.give_back(&mut self.seat, self.kind, self.counters);
            }
            if reading && K::PUSHES_BACK {
                worked |= self.orphans.step(
                    &self.config.port,
                    &mut self.seat,
                    self.kind,
                    self.ingress,
                    self.counters,
                );
            }
            if self.config.ingest == Ingest::Replicated {
                self.seat.participant.offer_letters();
            }
            if self.is_here() {
                worked |= self.egress.step(&mut self.seat, self.kind, self.counters);
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

    /// Tells the kind when this host begins to serve, and when it does no longer: a node that is away for a moment, or
    /// finishes what it has, is no such change.
    fn follow_role(&mut self, reading: bool) -> Result<(), RunError> {
        if reading && !self.serving {
            self.serving = true;
            self.orphans.begin();
            self.kind.begin().map_err(os("begin to receive"))?;
        } else if self.serving && !(self.is_here() && self.seat.serves()) {
            self.serving = false;
            self.kind.end();
        }
        Ok(())
    }

    /// Whether the socket's address is on this host.
    fn is_here(&self) -> bool {
        self.presence.as_ref().is_none_or(|presence| presence.is_here())
    }

    fn may_read(&self) -> bool {
        !self.config.send_only && self.is_here() && self.seat.may_read()
    }

    /// Sleeps until there may be something to do: a packet, a bell, a request to stop.
    fn sleep(&mut self, reading: bool, stop: &Stop) -> Result<(), RunError> {
        self.ask_for_lost();
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
        let millis = match self.kind.next_due() {
            // Rounded up, or the last part of a millisecond would be spent in turns of the loop.
            Some(due) if reading => {
                let due = due.as_micros().div_ceil(1000);
                millis.min(u16::try_from(due).unwrap_or(u16::MAX))
            }
            _ => millis,
        };
        let millis = match self.seat.participant.next_offer() {
            Some(due) => millis.min(u16::try_from(due.as_millis() + 1).unwrap_or(u16::MAX)),
            None => millis,
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
            // Where there is none, the first once more. Not even without events: an error that waits on the socket would
            // keep us awake.
            let source = self.kind.descriptor().filter(|_| !events.is_empty());
            let mut fds = [
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(rung, PollFlags::POLLIN),
                PollFd::new(moved, PollFlags::POLLIN),
                PollFd::new(source.unwrap_or(stop.as_fd()), events),
            ];
            let count = if source.is_none() { 3 } else { 4 };
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

    fn ask_for_lost(&mut self) {
        if let Some(total) = self.kind.lost_before() {
            self.counters.kernel_dropped(total, self.kind.lost_by_reason());
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
        if self.serving {
            self.kind.end();
        }
        self.ingress.give_back(&mut self.seat, self.kind, self.counters);
        self.egress.give_back(&mut self.seat);
        self.ask_for_lost();
    }
}

/// `poll(2)` that takes a signal for a wake-up.
pub(crate) fn sleep(fds: &mut [PollFd<'_>], millis: u16) -> Result<(), RunError> {
    match poll(fds, PollTimeout::from(millis)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(os("sleep")(errno.into())),
    }
}
