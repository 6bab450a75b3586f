//! `handoff`, `wake`, `handoff-rate`: messages from one process to a worker in another.
//!
//! ```text
//!   helper, core 2                              this process, core 1
//!   stamp, write, deliver ── object's inbox ──► claim, read, stop the clock, commit
//!   stamp, write, number  ── cells ───────────► number, read, stop the clock              (limit)
//!   stamp, loan, send     ── iceoryx2 ────────► receive, read, stop the clock             (peer)
//!   stamp, send           ── ipc-channel ─────► receive, read, stop the clock             (peer, `handoff` alone)
//! ```
//!
//! One way: the stamp is the monotonic clock of the host, which both processes read. All bytes are written
//! and read in all three. `handoff` and `wake` send one message after a pause, and none before the worker
//! is through with the one before: nothing queues, so that a value is one hand-over, and a stall of the
//! machine spoils one value and not the thousand behind it. In `handoff` both ends look without pause; in
//! `wake` the worker sleeps and the clock runs until it is awake and has the message. `handoff-rate` sends
//! as fast as the receiver takes.

mod ends;
#[cfg(feature = "peers")]
#[path = "handoff/iceoryx.rs"]
mod peer;
#[cfg(not(feature = "peers"))]
#[path = "handoff/no_peer.rs"]
mod peer;

#[cfg(feature = "peers")]
#[path = "handoff/ipc_channel.rs"]
mod channel;
#[cfg(not(feature = "peers"))]
#[path = "handoff/no_channel.rs"]
mod channel;

use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hotpair_shm::{Region, monotonic_ns};

use crate::failover::write_files;
use crate::helper::{Core, Helper, Pinned, obey};
use crate::histogram::Histogram;
use crate::options::{MessageSize, Options};
use crate::page::Page;
use crate::registry::{Bench, BenchError};
use crate::report::{LatencyReport, RateReport, Report, Tally, Unit};
use crate::ring::Shape;
use crate::scratch::Scratch;
use crate::slices::{Span, in_turn};
use ends::{ObjectReceiver, ObjectSender, RingReceiver, RingSender};

const SECONDS: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(500);

/// How messages are sent, and how the other end waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Manner {
    name: &'static str,
    /// From one message to the next; zero for as fast as they are taken.
    pause: Duration,
    sleeping: bool,
    /// Messages of the thing, then of the limit, then of the peer.
    slice: u64,
    /// Objects that take turns as receivers.
    objects: u32,
    /// Messages that may be on their way to one object, and in the limit's ring altogether.
    waiting: u16,
    in_ring: usize,
}

const POLL: Manner = Manner {
    name: "poll",
    pause: Duration::from_micros(5),
    sleeping: false,
    slice: 1_000,
    objects: 1,
    waiting: 16,
    in_ring: 1,
};

const SLEEP: Manner = Manner {
    name: "sleep",
    // Long enough for the worker to be fast asleep, and its core idle.
    pause: Duration::from_micros(300),
    sleeping: true,
    slice: 100,
    ..POLL
};

const FLOOD: Manner = Manner {
    name: "flood",
    pause: Duration::ZERO,
    slice: 20_000,
    objects: 64,
    in_ring: 1_024,
    ..POLL
};

const MANNERS: [Manner; 3] = [POLL, SLEEP, FLOOD];

/// The sending end of one of the three ways.
trait Sender {
    /// Sends a message, which begins with its number in this slice, as soon as there is room.
    fn send(&mut self, number: u64, message: &[u8]) -> Result<(), BenchError>;
}

/// The receiving end.
trait Receiver {
    /// Shows what has arrived to `see`, without its first eight bytes, and is through with it.
    fn receive(&mut self, next: u64, see: &mut impl FnMut(&[u8])) -> Result<u64, BenchError>;

    /// Sleeps until there may be something.
    fn sleep(&mut self);
}

pub(crate) fn polling(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let size = options.size.unwrap_or(MessageSize::LINE);
    let (sides, peer_is) = latencies(bench, options, POLL, size)?;
    let report = LatencyReport::new(
        bench.name,
        bench.question,
        Unit::Nanoseconds,
        &sides[0],
        &format!("{size} through a cell that goes to and fro"),
        &sides[1],
    );
    let report = report.with_peer(sides.get(2).map(|peer| (peer_is.as_str(), peer)));
    let channel_is = format!("{} {size}", channel::NAME);
    Ok(Report::Latency(report.with_peer(sides.get(3).map(|peer| (channel_is.as_str(), peer)))))
}

pub(crate) fn waking(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let size = options.size.unwrap_or(MessageSize::LINE);
    let (sides, _) = latencies(bench, options, SLEEP, size)?;
    Ok(Report::Latency(LatencyReport::new(
        bench.name,
        bench.question,
        Unit::Microseconds,
        &sides[0],
        &format!("{size} and a bare wake of a shared futex"),
        &sides[1],
    )))
}

pub(crate) fn rate(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let size = options.size.unwrap_or(MessageSize::LINE);
    let mut line = Line::new(bench, options, FLOOD, size)?;
    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let sides = in_turn(line.sides(), span, |side, tally: &mut Tally| {
        let begun = monotonic_ns();
        line.slice(side, |_| ())?;
        tally.add(FLOOD.slice, monotonic_ns() - begun);
        Ok(())
    })?;
    let limit_is = format!("a plain ring of {size} cells");
    let report = RateReport::new(bench.name, bench.question, &sides[0], &limit_is, &sides[1]);
    let peer_is = peer::describe(size);
    let peer = sides.get(2).map(|peer| (peer_is.as_str(), peer));
    Ok(Report::Rate(report.against_peer(&sides[0], peer)))
}

fn latencies(
    bench: &Bench,
    options: &Options,
    manner: Manner,
    size: MessageSize,
) -> Result<(Vec<Histogram>, String), BenchError> {
    let mut line = Line::new(bench, options, manner, size)?;
    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let sides = in_turn(line.sides(), span, |side, histogram: &mut Histogram| {
        line.slice(side, |stamp| histogram.record_ns(monotonic_ns().saturating_sub(stamp)))
    })?;
    write_files(options, &sides[0])?;
    Ok((sides, peer::describe(size)))
}

/// The helper, which sends, and the receiving ends in this process.
struct Line {
    // Ends first, while what it sends into is still there.
    helper: Helper,
    manner: Manner,
    objects: ObjectReceiver,
    ring: RingReceiver,
    peer: Option<peer::Receiver>,
    channel: Option<channel::Receiver>,
    _pinned: Pinned,
    _scratch: Scratch,
}

impl Line {
    fn new(
        bench: &Bench,
        options: &Options,
        manner: Manner,
        size: MessageSize,
    ) -> Result<Self, BenchError> {
        let size = size.bytes();
        let [here, there] = Core::two()?;
        let pinned = here.hold()?;
        let scratch = Scratch::new(bench.name);
        let geometry = ends::geometry(size, manner.objects, manner.waiting);
        let region = Region::create(&scratch.path, &geometry)
            .map_err(BenchError::setup("create the region"))?;
        region.become_primary(1);
        let objects = ObjectReceiver::join(&region, manner.objects)?;
        // Nobody sleeps for a peer: its question is another one there.
        let peer = match peer::THERE && !manner.sleeping {
            true => Some(peer::Receiver::open(&scratch.path, size, manner.in_ring)?),
            false => None,
        };
        // It carries a tenth of what the others do: that is no rate to compare with.
        let server = if manner == POLL { channel::Server::new()? } else { None };
        let path = scratch.path.display().to_string();
        let channel = server.as_ref().map(|server| server.name.clone());
        let mut arguments = vec![manner.name.to_owned(), size.to_string(), path];
        arguments.extend(channel);
        let helper = Helper::start(options, there, "send", &arguments)?;
        let channel = server.map(channel::Server::accept).transpose()?;
        let ring = RingReceiver::new(helper.share(), Shape::new(size, manner.in_ring));
        Ok(Line {
            helper,
            manner,
            objects,
            ring,
            peer,
            channel,
            _pinned: pinned,
            _scratch: scratch,
        })
    }

    fn sides(&self) -> usize {
        2 + usize::from(self.peer.is_some()) + usize::from(self.channel.is_some())
    }

    /// One slice of a side: `see` is told each message's stamp once its bytes are read.
    fn slice(&mut self, side: usize, mut see: impl FnMut(u64)) -> Result<(), BenchError> {
        self.helper.page().taken.store(0, Ordering::Relaxed);
        self.ring.reset();
        let order = side as u8 + 1;
        match side {
            0 => take(&mut self.helper, self.manner, order, &mut self.objects, &mut see),
            1 => take(&mut self.helper, self.manner, order, &mut self.ring, &mut see),
            2 => {
                let peer = self.peer.as_mut().expect("a third side is a peer");
                take(&mut self.helper, self.manner, order, peer, &mut see)
            }
            _ => {
                let channel = self.channel.as_mut().expect("a fourth side is the other peer");
                take(&mut self.helper, self.manner, order, channel, &mut see)
            }
        }
    }
}

/// Receives a slice.
fn take(
    helper: &mut Helper,
    manner: Manner,
    order: u8,
    receiver: &mut impl Receiver,
    see: &mut impl FnMut(u64),
) -> Result<(), BenchError> {
    helper.order(order);
    let mut taken = 0;
    let mut empty: u32 = 0;
    while taken < manner.slice {
        let received = receiver.receive(taken + 1, &mut |message| see(read(message)))?;
        if received > 0 {
            taken += received;
            helper.page().taken.store(taken, Ordering::Release);
            continue;
        }
        if manner.sleeping {
            receiver.sleep();
        }
        empty = empty.wrapping_add(1);
        if empty.is_multiple_of(1 << 14) {
            helper.check()?;
        }
    }
    helper.finish()
}

/// Reads all of a message behind its number, and gives its stamp.
#[inline]
fn read(message: &[u8]) -> u64 {
    let words = message.as_chunks::<8>().0;
    black_box(words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_le_bytes(*word))));
    words.first().map_or(0, |stamp| u64::from_le_bytes(*stamp))
}

/// The helper's part: `MANNER SIZE REGION`, and the name of a channel where there is one.
pub(crate) fn send(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let bad = || BenchError::setup("send")("the arguments make no sense");
    let [manner, size, path, channel @ ..] = arguments else {
        return Err(bad());
    };
    let manner = *MANNERS.iter().find(|known| known.name == manner).ok_or_else(bad)?;
    let size: usize = size.parse().map_err(|_| bad())?;
    let path = std::path::Path::new(path);
    let region = Region::attach(path).map_err(BenchError::setup("attach to the region"))?;
    let mut objects = ObjectSender::join(&region, manner.objects)?;
    let shape = Shape::new(size, manner.in_ring);
    let mut ring = RingSender { page, shape, wake: manner.sleeping };
    let mut peer = match peer::THERE && !manner.sleeping {
        true => Some(peer::Sender::open(path, size, manner.in_ring)?),
        false => None,
    };
    let mut channel = channel.first().map(|name| channel::Sender::open(name)).transpose()?;
    obey(page, |order| match (order, &mut peer, &mut channel) {
        (1, ..) => give(page, manner, size, &mut objects),
        (2, ..) => give(page, manner, size, &mut ring),
        (3, Some(peer), _) => give(page, manner, size, peer),
        (4, _, Some(channel)) => give(page, manner, size, channel),
        _ => Err(bad()),
    })
}

/// Sends a slice.
fn give(
    page: &Page,
    manner: Manner,
    size: usize,
    sender: &mut impl Sender,
) -> Result<(), BenchError> {
    let mut message = vec![7; size];
    let pause = manner.pause.as_nanos() as u64;
    let mut due = monotonic_ns() + pause;
    for number in 1..=manner.slice {
        message[..8].copy_from_slice(&number.to_le_bytes());
        if pause > 0 {
            while page.taken.load(Ordering::Acquire) + 1 < number {
                std::hint::spin_loop();
            }
            let mut now = monotonic_ns();
            while now < due {
                std::hint::spin_loop();
                now = monotonic_ns();
            }
            due = now + pause;
            message[8..16].copy_from_slice(&now.to_le_bytes());
        }
        sender.send(number, &message)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_to_its_end() {
        let mut message = [1_u8; 56];
        message[..8].copy_from_slice(&77_u64.to_le_bytes());
        assert_eq!(read(&message), 77);
        assert_eq!(read(&[]), 0);
    }

    #[test]
    fn a_helper_without_sense_is_refused() {
        let page = crate::page::SharedPage::create().expect("memory");
        for line in ["", "poll 64", "poll x /dev/shm/none", "shout 64 /dev/shm/none"] {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert!(send(&page, &arguments).is_err(), "{line}");
        }
    }
}
