//! A relay in the cable between the nodes, which has some packets come twice, late, or after a while.
//!
//! ```text
//!   node a ── eth1 ══ x (b's address)  relay  y (a's address) ══ eth1 ── node b
//! ```
//!
//! It is a process of its own. Each datagram from a port of one node to a port of the other goes on from the same port to the same
//! port, so neither of them can tell. What becomes of a packet is drawn from a seed: the same numbers in the same order. TCP does
//! not pass: behind this cable a node is lost by its silence alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;

use crate::clock::monotonic_ns;
use crate::exit::Exit;
use crate::process::{Lines, wait};
use crate::report::{Failure, Outcome, print_data};

/// Ports on which the nodes listen: QUIC, and heartbeats.
const LISTEN: [u16; 2] = [7410, 7411];
/// A node has a handful of sockets.
const SOCKETS_MAX: usize = 256;
/// Packets under way; more are lost, as in any queue.
const QUEUE_MAX: usize = 65_536;
const SOCKET_BYTES: usize = 8 << 20;
/// So long after its turn comes one that is late: a few of its successors pass it.
const LATE_NS: u64 = 2_000_000;
const IDLE: Duration = Duration::from_millis(200);

/// Where the relay stands.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Namespace at node a's end of the cable
    #[arg(long)]
    x: PathBuf,
    /// Namespace at node b's end
    #[arg(long)]
    y: PathBuf,
    /// Decides what becomes of which packet
    #[arg(long)]
    seed: u64,
}

/// Relays until it is killed, or nobody is left to tell it anything.
pub(crate) fn run(options: &Options) -> Outcome {
    let failed =
        |error: std::io::Error| Failure::new("cannot stand in the cable").caused_by(&error);
    let (a, b) = (Ipv4Addr::new(10, 98, 0, 1), Ipv4Addr::new(10, 98, 0, 2));
    let sides = [
        Side::open(&options.x, b, a).map_err(failed)?,
        Side::open(&options.y, a, b).map_err(failed)?,
    ];
    let stdin: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let words = Lines::new(stdin).map_err(failed)?;
    let dice = Dice::new(options.seed);
    let mut relay = Relay {
        sides,
        words,
        dice,
        how: How::default(),
        queue: BinaryHeap::new(),
        order: 0,
        counts: Counts::default(),
    };
    print_data("{\"event\":\"ready\"}\n")?;
    while !relay.words.is_closed() {
        relay.turn()?;
    }
    Ok(Exit::Ok)
}

/// What is done to packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct How {
    twice: u8,
    late: u8,
    jitter_ns: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    packets: u64,
    twice: u64,
    late: u64,
    lost: u64,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fate {
    after_ns: u64,
    /// When its double comes, if it has one.
    double: Option<u64>,
    late: bool,
}

/// xorshift64*: the same seed, the same throws.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn throw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below.max(1)
    }

    fn fate(&mut self, how: How) -> Fate {
        // Always as many throws, so that a packet's fate depends on its number alone.
        let (late, twice) = (self.throw(100), self.throw(100));
        let (first, second) = (self.throw(how.jitter_ns + 1), self.throw(how.jitter_ns + 1));
        let late = late < u64::from(how.late);
        let late_ns = if late { LATE_NS } else { 0 };
        let double = (twice < u64::from(how.twice)).then_some(second + late_ns);
        Fate { after_ns: first + late_ns, double, late }
    }
}

/// A packet under way: out of which side, when, from which port to which.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    due_ns: u64,
    order: u64,
    side: usize,
    from: u16,
    to: u16,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Side {
    space: File,
    own: Ipv4Addr,
    node: Ipv4Addr,
    sockets: BTreeMap<u16, UdpSocket>,
}

impl Side {
    fn open(space: &PathBuf, own: Ipv4Addr, node: Ipv4Addr) -> std::io::Result<Side> {
        let mut side = Side { space: File::open(space)?, own, node, sockets: BTreeMap::new() };
        for port in LISTEN {
            side.bind(port)?;
        }
        Ok(side)
    }

    /// A socket of this port, on this side.
    fn bind(&mut self, port: u16) -> std::io::Result<()> {
        if self.sockets.contains_key(&port) || self.sockets.len() >= SOCKETS_MAX {
            return Ok(());
        }
        // This process has one thread, so what it opens next is in that namespace.
        setns(&self.space, CloneFlags::CLONE_NEWNET)?;
        let socket = UdpSocket::bind((self.own, port))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BYTES)?;
        self.sockets.insert(port, socket);
        Ok(())
    }
}

struct Relay {
    sides: [Side; 2],
    words: Lines,
    dice: Dice,
    how: How,
    queue: BinaryHeap<Reverse<UnderWay>>,
    order: u64,
    counts: Counts,
}

impl Relay {
    fn turn(&mut self) -> Result<(), Failure> {
        self.listen()?;
        self.take_in();
        self.send_due();
        let due = self.queue.peek().map(|Reverse(next)| next.due_ns);
        let sleep =
            due.map_or(IDLE, |due| Duration::from_nanos(due.saturating_sub(monotonic_ns())));
        let sockets = self.sides.iter().flat_map(|side| side.sockets.values().map(AsFd::as_fd));
        let fds: Vec<BorrowedFd<'_>> = sockets.chain([self.words.as_fd()]).collect();
        if !sleep.is_zero() {
            wait(&fds, sleep.min(IDLE));
        }
        Ok(())
    }

    fn listen(&mut self) -> Result<(), Failure> {
        for line in self.words.read() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("disturb") => {
                    let mut number =
                        || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                    let percent = |number: u64| u8::try_from(number.min(100)).unwrap_or(100);
                    let (twice, late) = (percent(number()), percent(number()));
                    self.how = How { twice, late, jitter_ns: number() * 1_000 };
                }
                Some("count") => {
                    let Counts { packets, twice, late, lost } = self.counts;
                    let line = json!({
                        "event": "counts", "packets": packets, "twice": twice, "late": late,
                        "lost": lost,
                    });
                    print_data(&format!("{line}\n"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn take_in(&mut self) {
        let mut buffer = [0; 65_536];
        for side in 0..2 {
            let mut came = Vec::new();
            for (port, socket) in &self.sides[side].sockets {
                // An error is an unreachable port at the other end: as lost as can be.
                while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    if from.ip() == IpAddr::V4(self.sides[side].node) {
                        came.push((from.port(), *port, buffer[..len].to_vec()));
                    }
                }
            }
            for (from, to, bytes) in came {
                self.pass_on(1 - side, from, to, bytes);
            }
        }
    }

    fn pass_on(&mut self, side: usize, from: u16, to: u16, bytes: Vec<u8>) {
        let fate = self.dice.fate(self.how);
        if self.sides[side].bind(from).is_err() || self.queue.len() + 2 > QUEUE_MAX {
            self.counts.lost += 1;
            return;
        }
        self.counts.packets += 1;
        self.counts.late += u64::from(fate.late);
        let now_ns = monotonic_ns();
        let mut queue = |after_ns: u64, bytes: Vec<u8>| {
            self.order += 1;
            let due_ns = now_ns + after_ns;
            let packet = UnderWay { due_ns, order: self.order, side, from, to, bytes };
            self.queue.push(Reverse(packet));
        };
        if let Some(after_ns) = fate.double {
            queue(after_ns, bytes.clone());
            self.counts.twice += 1;
        }
        queue(fate.after_ns, bytes);
    }

    fn send_due(&mut self) {
        let now_ns = monotonic_ns();
        while self.queue.peek().is_some_and(|Reverse(next)| next.due_ns <= now_ns) {
            let Some(Reverse(packet)) = self.queue.pop() else { return };
            let side = &self.sides[packet.side];
            if let Some(socket) = side.sockets.get(&packet.from) {
                // What cannot be sent is lost, as in any cable.
                let _ = socket.send_to(&packet.bytes, (side.node, packet.to));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOW: How = How { twice: 50, late: 20, jitter_ns: 5_000_000 };

    #[test]
    fn a_seed_decides_and_the_shares_are_as_asked() {
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            (0..10_000).map(|_| dice.fate(HOW)).collect::<Vec<_>>()
        };
        let fates = throws(7);
        assert_eq!(fates, throws(7));
        assert_ne!(fates, throws(8));
        let twice = fates.iter().filter(|fate| fate.double.is_some()).count();
        assert!((4_700..5_300).contains(&twice), "{twice} of 10,000 twice");
        let most = fates.iter().map(|fate| fate.after_ns).max();
        assert!(most.is_some_and(|most| most > 6_000_000 && most <= 7_000_000), "{most:?}");
    }

    #[test]
    fn an_undisturbed_packet_goes_on_at_once() {
        let mut dice = Dice::new(1);
        assert!((0..1_000).all(|_| dice.fate(How::default()) == Fate::default()));
    }

    #[test]
    fn packets_leave_in_the_order_of_their_times() {
        let packet = |due_ns, order| {
            Reverse(UnderWay { due_ns, order, side: 0, from: 1, to: 2, bytes: Vec::new() })
        };
        let mut queue = BinaryHeap::from([packet(9, 1), packet(5, 3), packet(5, 2)]);
        let mut next = || queue.pop().map(|Reverse(packet)| (packet.due_ns, packet.order));
        assert_eq!([next(), next(), next()], [Some((5, 2)), Some((5, 3)), Some((9, 1))]);
    }
}
