//! The kind `xdp`: whole Ethernet frames of one interface by AF_XDP, before the kernel makes packets of them.
//!
//! As kind `packet`, with two differences. While the host serves, a frame that comes in is the port's alone: the host itself does
//! not see it. And the card's own way of frames is short-cut, so nothing that the kernel would do for them is done: no tag is put back
//! that the card has taken off (`ethtool -K IFACE rxvlan off`), no checksum computed that a virtual peer has left out.
//!
//! There is a socket for each queue of the interface, as the card shares frames out among queues; all are sent by the first.
//! The frames lie in memory of the port's own ([0030](../../docs/decisions/0030-xdp.md)).

mod program;
mod queue;
mod ring;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::inlet::NowAndThen;
use crate::kind::{PacketSink, PacketSource};
use crate::mmsg::{Datagram, SendError};
use crate::port::{Attach, PortConfig};
use crate::raw::ONE_PLACE;
use crate::source::OpenError;
use program::Program;
use queue::{Drops, FRAME_BYTES_MAX, Frame, Queue};

/// Most queues of an interface, each with 10 MiB for frames.
const QUEUES_MAX: u32 = 16;

/// So long after a port has ended the kernel may still have what was its.
const LET_GO: Duration = Duration::from_millis(500);

/// When frames are offered to the kernel again that it had no room for.
const UNSENT: Duration = Duration::from_millis(1);

/// Two addresses and a type: less is no frame.
const HEADER_BYTES: usize = 14;
const TAG_BYTES: usize = 4;
/// Behind both addresses of a frame.
const TAG_AT: usize = 12;

pub(crate) struct XdpPort {
    // Ends first: it directs frames to the sockets.
    program: Program,
    queues: Vec<Queue>,
    /// Readable when one of the queues has something.
    any: Epoll,
    /// The queue that is looked at first.
    turn: usize,
    /// What one frame of the interface may carry.
    mtu: usize,
    /// Came in while this host did not serve.
    late: u64,
    asked: NowAndThen,
    trouble: Option<io::Error>,
}

impl XdpPort {
    pub(crate) fn open(
        interface: &str,
        attach: Attach,
        config: &PortConfig,
    ) -> Result<XdpPort, OpenError> {
        let failed = |action| {
            let interface = interface.to_owned();
            move |source: io::Error| OpenError::Xdp { interface, action, source }
        };
        let index =
            if_nametoindex(interface).map_err(io::Error::from).map_err(failed("find it"))?;
        let frame_bytes = config.packet_bytes_max.min(FRAME_BYTES_MAX);
        let mtu = queue::mtu(interface).map_err(failed("ask for its MTU"))?;
        let queues = once_free(|| open_queues(index, frame_bytes))
            .map_err(failed("open AF_XDP sockets on its queues"))?;
        let any = watch(&queues).map_err(failed("wait for its frames"))?;
        let mut program =
            Program::load(QUEUES_MAX).map_err(failed("load the program for its frames"))?;
        for (number, queue) in (0..).zip(&queues) {
            program
                .direct(number, queue.as_fd())
                .map_err(failed("direct its frames to a socket"))?;
        }
        let by_driver = once_free(|| program.attach(index, attach))
            .map_err(failed("attach the program for its frames"))?;
        tracing::info!(interface, by_driver, queues = queues.len(), "frames come by AF_XDP");
        Ok(XdpPort {
            program,
            queues,
            any,
            turn: 0,
            mtu,
            late: 0,
            asked: NowAndThen::default(),
            trouble: None,
        })
    }

    /// The next frame and the queue that has it, from the queue on whose turn it is.
    fn next(&mut self) -> Option<(usize, Frame)> {
        for _ in 0..self.queues.len() {
            if let Some(frame) = self.queues[self.turn].next() {
                return Some((self.turn, frame));
            }
            self.turn = (self.turn + 1) % self.queues.len();
        }
        None
    }

    /// Hands frames to `take`, one for each of `places`.
    fn each<P>(
        &mut self,
        places: impl Iterator<Item = P>,
        mut take: impl FnMut(&[u8], P),
    ) -> io::Result<()> {
        if let Some(error) = self.trouble.take() {
            return Err(error);
        }
        self.send_what_waits();
        let mut taken = false;
        for place in places {
            let Some((number, frame)) = self.next() else { break };
            let queue = &mut self.queues[number];
            take(queue.bytes(&frame), place);
            queue.give_back(frame);
            taken = true;
        }
        if !taken {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        self.queues.iter_mut().for_each(Queue::rest);
        // One that always has more leaves the others their turn.
        self.turn = (self.turn + 1) % self.queues.len();
        Ok(())
    }

    /// Forgets all that has come in.
    fn empty(&mut self) {
        while let Some((number, frame)) = self.next() {
            self.queues[number].give_back(frame);
            self.late += 1;
        }
        self.queues.iter_mut().for_each(Queue::rest);
    }

    /// What the kernel has taken and had no room for is offered again.
    fn send_what_waits(&mut self) {
        if self.queues[0].is_sending() {
            let _ = self.queues[0].push();
        }
    }

    /// Why `frame` cannot leave.
    fn objection(&self, frame: &[u8]) -> Option<SendError> {
        let tagged = matches!(frame.get(TAG_AT..TAG_AT + 2), Some([0x81, 0] | [0x88, 0xa8]));
        let head = HEADER_BYTES + if tagged { TAG_BYTES } else { 0 };
        if frame.len() < HEADER_BYTES {
            Some(SendError::Refused("too short"))
        } else if frame.len() > (self.mtu + head).min(self.queues[0].frame_bytes_max()) {
            Some(io::Error::from_raw_os_error(libc::EMSGSIZE).into())
        } else {
            None
        }
    }

    fn drops(&self) -> Drops {
        self.queues.iter().map(Queue::drops).fold(Drops::default(), |sum, one| Drops {
            rx_full: sum.rx_full + one.rx_full,
            fill_empty: sum.fill_empty + one.fill_empty,
            other: sum.other + one.other,
        })
    }
}

/// Tries again what is in use: the kernel lets go of an interface a moment after the port that had it has ended.
fn once_free<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match open() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && begun.elapsed() < LET_GO => {
                std::thread::sleep(LET_GO / 50);
            }
            other => return other,
        }
    }
}

/// One for each queue that the interface has.
fn open_queues(index: u32, frame_bytes: usize) -> io::Result<Vec<Queue>> {
    let mut queues = Vec::new();
    for number in 0..=QUEUES_MAX {
        match Queue::open(index, number, frame_bytes) {
            Ok(_) if number == QUEUES_MAX => {
                let why = format!("it has more than {QUEUES_MAX}; `ethtool -L` makes fewer");
                return Err(io::Error::other(why));
            }
            Ok(queue) => queues.push(queue),
            // It has no such queue.
            Err(error) if number > 0 && error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(queues)
}

fn watch(queues: &[Queue]) -> io::Result<Epoll> {
    let any = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (number, queue) in (0..).zip(queues) {
        any.add(queue, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
    }
    Ok(any)
}

impl PacketSource for XdpPort {
    const PUSHES_BACK: bool = false;

    fn receive<'b>(
        &mut self,
        buffers: impl Iterator<Item = &'b mut [u8]>,
        into: &mut Vec<Datagram>,
    ) -> io::Result<()> {
        self.each(buffers, |frame, buffer| {
            let fits = frame.len().min(buffer.len());
            buffer[..fits].copy_from_slice(&frame[..fits]);
            let truncated = fits < frame.len();
            into.push(Datagram { truncated, ..Datagram::new(frame.len(), Some(ONE_PLACE)) });
        })
    }

    fn discard(&mut self, count: usize, into: &mut Vec<Datagram>) -> io::Result<()> {
        self.each(0..count, |frame, _| into.push(Datagram::new(frame.len(), Some(ONE_PLACE))))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.any.0.as_fd())
    }

    fn next_due(&self) -> Option<Duration> {
        self.queues[0].is_sending().then_some(UNSENT)
    }

    fn lost_before(&mut self) -> Option<u64> {
        if !self.asked.is_due() {
            return None;
        }
        self.trouble = self.queues.iter().find_map(Queue::trouble);
        let drops = self.drops();
        Some(self.late + drops.rx_full + drops.fill_empty + drops.other)
    }

    fn lost_by_reason(&self) -> Vec<(&'static str, u64)> {
        let drops = self.drops();
        vec![
            ("not serving", self.late),
            ("rx ring full", drops.rx_full),
            ("fill ring empty", drops.fill_empty),
            ("refused by the socket", drops.other),
        ]
    }

    fn begin(&mut self) -> io::Result<()> {
        // What was on its way when this host ceased to serve.
        self.empty();
        self.program.let_in();
        Ok(())
    }

    fn end(&mut self) {
        self.program.keep_out();
        // What came before: it is not answered here any more.
        self.empty();
        self.send_what_waits();
    }
}

impl PacketSink for XdpPort {
    const ADDRESSED: bool = false;

    fn send<'p>(
        &mut self,
        packets: impl Iterator<Item = (&'p [u8], SocketAddr)>,
    ) -> Result<usize, SendError> {
        let mut count = 0;
        for (frame, _) in packets {
            let objection = match self.objection(frame) {
                None if self.queues[0].take(frame) => None,
                None => Some(io::Error::from_raw_os_error(libc::EAGAIN).into()),
                refused => refused,
            };
            match objection {
                None => count += 1,
                Some(_) if count > 0 => break,
                Some(error) => {
                    // What is under way has to leave before there is room; it may tell why there is none.
                    self.queues[0].push()?;
                    return Err(error);
                }
            }
        }
        // What the kernel has no room for now stays with it, and is offered again.
        let _ = self.queues[0].push();
        Ok(count)
    }
}
