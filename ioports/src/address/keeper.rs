//! The thread that adds, refreshes, announces and removes the service addresses of one host.
//!
//! ```text
//!                take                        claimed by another ─► told ─┐
//!   ┌─────────┐ ────────►  ┌────────────────────────────────────┐        ▼
//!   │ let go  │            │ held: refreshed, announced, watched│ ◄── announce, by who knows that
//!   └─────────┘ ◄────────  └────────────────────────────────────┘     it is primary still
//!                let go
//! ```
//!
//! Whoever holds the address on another host, a stopped predecessor for instance, still answers questions (ARP, neighbour
//! solicitations) with its kernel. So a holder that hears of another one tells its owner; when the owner confirms, it announces again, and from
//! then on after each question that it hears: the last word counts. It does not fight by itself: it may be the one
//! that was stopped.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::frames::{self, HardwareAddress, Heard};
use super::netlink::{self, Netlink};
use super::packet::PacketSocket;
use super::{AddressError, LIFETIME, ServiceAddress};

/// When an address is announced, counted from its take-over. Switches and neighbours may miss some of them.
const BURST: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
];
/// And later on.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(30);
/// Several times in each life of the address.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// After a failure.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Two holders that hear each other do not flood the network.
const BURST_EVERY: Duration = Duration::from_secs(1);
/// A step that is so late was held up by a stop of this process: the role may have moved meanwhile, and the owner is
/// to find out first.
const LATE: Duration = Duration::from_millis(250);
/// A question is answered by whoever else holds the address as well; ours is the later answer.
const ANSWER_AFTER: Duration = Duration::from_millis(2);
/// For so long after the last sign of another holder questions are answered.
const CONTENDED_FOR: Duration = Duration::from_secs(60);
/// The same holder is reported this often.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Frames taken in one turn.
const FRAMES_MAX: usize = 64;

/// What became of an address.
#[derive(Debug)]
#[non_exhaustive]
pub enum AddressNews {
    /// It is on this host, and the network was told.
    Added {
        /// Which.
        address: ServiceAddress,
        /// From the order to here.
        took: Duration,
    },
    /// It is not on this host any more.
    Removed {
        /// Which.
        address: ServiceAddress,
    },
    /// Another host says that it has it.
    Claimed {
        /// Which.
        address: ServiceAddress,
        /// The other host's network card.
        by: HardwareAddress,
    },
    /// Something could not be done. It is tried again.
    Failed {
        /// What.
        action: &'static str,
        /// With which address.
        address: ServiceAddress,
        /// What the kernel said.
        error: io::Error,
    },
}

#[derive(Clone, Copy, Debug)]
enum Command {
    Take(Instant),
    LetGo,
    Announce,
    Stop,
}

/// Keeps the service addresses of one host. Dropping it removes them.
#[derive(Debug)]
pub struct AddressKeeper {
    commands: Sender<Command>,
    ring: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl AddressKeeper {
    /// Removes what an earlier one left, and starts the thread, which holds nothing yet. `told` is called on it.
    ///
    /// # Errors
    /// When an interface does not exist, or this process may not change addresses.
    pub fn start(
        addresses: &[ServiceAddress],
        told: impl FnMut(AddressNews) + Send + 'static,
    ) -> Result<AddressKeeper, AddressError> {
        let failed = |action| move |source| AddressError::Start { action, source };
        let mut netlink = Netlink::open().map_err(failed("talk to the kernel (rtnetlink)"))?;
        let mut places = Vec::new();
        for address in addresses {
            let place = Place::find(&mut netlink, address)?;
            // Finds out at the start, and not at the first failover, whether we may.
            netlink.remove(place.index, address.ip, address.prefix).map_err(|source| {
                AddressError::Os { action: "remove", address: address.clone(), source }
            })?;
            places.push(place);
        }
        let (ring, bell) = UnixStream::pair().map_err(failed("make a socket pair"))?;
        for end in [&ring, &bell] {
            end.set_nonblocking(true).map_err(failed("make a socket pair"))?;
        }
        let (commands, taken) = mpsc::channel();
        let keeper =
            Keeper { netlink, places, commands: taken, bell, told: Box::new(told), held: false };
        let thread = thread::Builder::new()
            .name("addresses".to_owned())
            .spawn(move || keeper.run())
            .map_err(failed("start a thread"))?;
        Ok(AddressKeeper { commands, ring, thread: Some(thread) })
    }

    /// This host is primary: adds the addresses and announces them. Returns at once.
    pub fn take(&self) {
        self.tell(Command::Take(Instant::now()));
    }

    /// This host is not primary: removes the addresses. Returns at once.
    pub fn let_go(&self) {
        self.tell(Command::LetGo);
    }

    /// This host is primary still, though somebody else claimed an address, or was out of sight: says so again.
    pub fn announce(&self) {
        self.tell(Command::Announce);
    }

    fn tell(&self, command: Command) {
        // The thread ends with this handle alone; a full socket is rung already.
        let _ = self.commands.send(command);
        let _ = (&self.ring).write(&[1]);
    }
}

impl Drop for AddressKeeper {
    fn drop(&mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One address, and what it takes to keep it.
struct Place {
    address: ServiceAddress,
    index: u32,
    /// Where nobody can be told there is nothing to tell: loopback, tunnels.
    card: Option<(HardwareAddress, PacketSocket)>,
    holding: Option<Holding>,
}

/// A held address.
struct Holding {
    ordered: Instant,
    /// It was told that it is there.
    added: bool,
    refresh_at: Instant,
    burst: Instant,
    /// The next step of the burst; behind its end, the regular announcements.
    step: usize,
    announce_at: Instant,
    ears: Option<PacketSocket>,
    /// Who claimed it last, and when that was told.
    claimed: Option<(HardwareAddress, Instant)>,
    contended_until: Option<Instant>,
    answer_at: Option<Instant>,
    answered: Option<Instant>,
}

impl Holding {
    fn new(ordered: Instant, now: Instant) -> Holding {
        Holding {
            ordered,
            added: false,
            refresh_at: now,
            burst: now,
            step: 0,
            announce_at: now,
            ears: None,
            claimed: None,
            contended_until: None,
            answer_at: None,
            answered: None,
        }
    }

    fn wake_at(&self) -> Instant {
        let mut at = self.refresh_at;
        if self.added {
            at = at.min(self.announce_at);
        }
        self.answer_at.map_or(at, |answer_at| at.min(answer_at))
    }

    fn begin_burst(&mut self, at: Instant) {
        (self.burst, self.step, self.announce_at) = (at, 0, at);
    }

    fn announced(&mut self, now: Instant) {
        self.step = (self.step + 1).min(BURST.len());
        self.announce_at = match BURST.get(self.step) {
            Some(after) => self.burst + *after,
            None => now + ANNOUNCE_EVERY,
        };
    }
}

impl Place {
    fn find(netlink: &mut Netlink, address: &ServiceAddress) -> Result<Place, AddressError> {
        let missing = |source| AddressError::Interface {
            interface: address.interface.clone(),
            ip: address.ip,
            source,
        };
        let index = netlink::index_of(&address.interface).map_err(missing)?;
        let card = netlink.hardware_address(index).map_err(missing)?;
        let card = card
            .map(|card| PacketSocket::sender(index).map(|socket| (card, socket)))
            .transpose()
            .map_err(|source| AddressError::Os {
                action: "open a packet socket for",
                address: address.clone(),
                source,
            })?;
        Ok(Place { address: address.clone(), index, card, holding: None })
    }

    fn announce(&self) -> io::Result<()> {
        let Some((card, socket)) = &self.card else { return Ok(()) };
        socket.send(&frames::announcement(self.address.ip, *card))
    }

    fn probe(&self) -> io::Result<()> {
        let Some((card, socket)) = &self.card else { return Ok(()) };
        socket.send(&frames::probe(self.address.ip, *card))
    }

    fn ears(&self) -> io::Result<PacketSocket> {
        match self.address.ip {
            IpAddr::V4(_) => PacketSocket::arp(self.index),
            IpAddr::V6(_) => PacketSocket::neighbours(self.index),
        }
    }
}

struct Keeper {
    netlink: Netlink,
    places: Vec<Place>,
    commands: Receiver<Command>,
    bell: UnixStream,
    told: Box<dyn FnMut(AddressNews) + Send>,
    held: bool,
}

impl Keeper {
    fn run(mut self) {
        loop {
            let planned = self
                .places
                .iter()
                .filter_map(|place| Some(place.holding.as_ref()?.wake_at()))
                .min();
            self.sleep(planned);
            let _ = (&self.bell).read(&mut [0; 64]);
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Take(ordered) => self.take(ordered),
                    Command::LetGo => self.let_go(),
                    Command::Announce => self.announce_again(),
                    Command::Stop => return self.let_go(),
                }
            }
            for at in 0..self.places.len() {
                self.listen(at);
                self.keep(at);
            }
        }
    }

    fn sleep(&self, until: Option<Instant>) {
        let mut fds = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        let ears = self.places.iter().filter_map(|place| place.holding.as_ref()?.ears.as_ref());
        fds.extend(ears.map(|ears| PollFd::new(ears.as_fd(), PollFlags::POLLIN)));
        let timeout = until
            .map(|until| TimeSpec::from_duration(until.saturating_duration_since(Instant::now())));
        // Interrupted or failed: everything is looked at again in any case.
        let _ = ppoll(&mut fds, timeout, None);
    }

    /// All of them first: clients of one must not wait for the announcement of another.
    fn take(&mut self, ordered: Instant) {
        if std::mem::replace(&mut self.held, true) {
            return self.announce_again();
        }
        for at in 0..self.places.len() {
            let now = Instant::now();
            self.places[at].holding = Some(Holding::new(ordered, now));
            self.refresh(at, now);
        }
    }

    fn let_go(&mut self) {
        self.held = false;
        for at in 0..self.places.len() {
            // To be dropped last: closing a packet socket takes the kernel some 10 ms, in which the address would still be here, and
            // answered for.
            let Some(_held) = self.places[at].holding.take() else { continue };
            let place = &self.places[at];
            let address = place.address.clone();
            // One that cannot be removed dies by itself: nobody refreshes it any more.
            match self.netlink.remove(place.index, address.ip, address.prefix) {
                Ok(true) => (self.told)(AddressNews::Removed { address }),
                Ok(false) => {}
                Err(error) => (self.told)(AddressNews::Failed { action: "remove", address, error }),
            }
        }
    }

    fn announce_again(&mut self) {
        let now = Instant::now();
        for holding in self.places.iter_mut().filter_map(|place| place.holding.as_mut()) {
            if holding.claimed.is_some() {
                holding.contended_until = Some(now + CONTENDED_FOR);
            }
            if holding.step < BURST.len() {
                // The rest of the burst is to come. It is not put off: whoever spoke last, until then, was the other.
                holding.answer_at.get_or_insert(now + ANSWER_AFTER);
            } else {
                let earliest = holding.burst + BURST_EVERY;
                holding.begin_burst(now.max(earliest));
            }
        }
    }

    /// Adds the address, or lengthens its life.
    fn refresh(&mut self, at: usize, now: Instant) {
        let place = &mut self.places[at];
        let Some(holding) = &mut place.holding else { return };
        let ServiceAddress { ip, prefix, .. } = place.address;
        let first = !holding.added;
        match self.netlink.add(place.index, ip, prefix, LIFETIME) {
            Ok(()) => {
                holding.refresh_at = now + REFRESH_EVERY;
                holding.added = true;
                if first {
                    holding.begin_burst(now);
                    self.announce(at, now);
                    self.tell_added(at);
                }
            }
            Err(error) => {
                holding.refresh_at = now + RETRY_AFTER;
                let address = place.address.clone();
                // The interface may have been made anew, with another number.
                if let Ok(found) = Place::find(&mut self.netlink, &address) {
                    (place.index, place.card) = (found.index, found.card);
                    holding.ears = None;
                    holding.added = false;
                }
                (self.told)(AddressNews::Failed { action: "add", address, error });
            }
        }
    }

    fn tell_added(&mut self, at: usize) {
        let place = &mut self.places[at];
        let address = place.address.clone();
        let heard = place.card.is_some().then(|| place.ears());
        let Some(holding) = &mut place.holding else { return };
        let took = holding.ordered.elapsed();
        if let Some(heard) = heard {
            match heard {
                Ok(ears) => holding.ears = Some(ears),
                Err(error) => {
                    let address = address.clone();
                    (self.told)(AddressNews::Failed {
                        action: "listen for others with",
                        address,
                        error,
                    });
                }
            }
            // Answers come to the ears; one that gets lost comes to those of the next burst.
            let _ = place.probe();
        }
        (self.told)(AddressNews::Added { address, took });
    }

    fn announce(&mut self, at: usize, now: Instant) {
        let place = &mut self.places[at];
        let result = place.announce();
        if let Some(holding) = &mut place.holding {
            holding.announced(now);
        }
        if let Err(error) = result {
            let address = place.address.clone();
            (self.told)(AddressNews::Failed { action: "announce", address, error });
        }
    }

    /// Everything that is due.
    fn keep(&mut self, at: usize) {
        let now = Instant::now();
        let Some(holding) = &mut self.places[at].holding else { return };
        if holding.added && holding.announce_at <= now {
            if now > holding.announce_at + LATE {
                holding.announce_at = now + RETRY_AFTER;
            } else {
                self.announce(at, now);
            }
        }
        let Some(holding) = &mut self.places[at].holding else { return };
        if holding.answer_at.is_some_and(|answer_at| answer_at <= now) {
            let late = holding.answer_at.take().is_some_and(|answer_at| now > answer_at + LATE);
            holding.answered = Some(now);
            if !late {
                // The next question is answered as well.
                let _ = self.places[at].announce();
            }
        }
        let Some(holding) = &mut self.places[at].holding else { return };
        if holding.refresh_at <= now {
            self.refresh(at, now);
        }
    }

    /// What others say about the address.
    fn listen(&mut self, at: usize) {
        let place = &mut self.places[at];
        let (Some(holding), Some((card, _))) = (&mut place.holding, &place.card) else { return };
        let ip = place.address.ip;
        let Some(ears) = &holding.ears else { return };
        let now = Instant::now();
        let mut buffer = [0; 128];
        for _ in 0..FRAMES_MAX {
            let Some(frame) = ears.receive(&mut buffer) else { break };
            match frames::hear(frame, ip, *card) {
                None => {}
                Some(Heard::Asked) => {
                    let contended = holding.contended_until.is_some_and(|until| until > now);
                    let just = holding.answered.is_some_and(|last| now < last + 10 * ANSWER_AFTER);
                    if contended && !just {
                        holding.answer_at.get_or_insert(now + ANSWER_AFTER);
                    }
                }
                Some(Heard::Claimed(by)) => {
                    if holding.contended_until.is_some() {
                        holding.contended_until = Some(now + CONTENDED_FOR);
                    }
                    let known = |(who, when): (HardwareAddress, Instant)| {
                        who == by && now < when + REPORT_EVERY
                    };
                    if !holding.claimed.is_some_and(known) {
                        holding.claimed = Some((by, now));
                        let address = place.address.clone();
                        (self.told)(AddressNews::Claimed { address, by });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
