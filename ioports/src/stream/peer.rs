//! One connection: what has come and is not handed on, what is to go, and how far its end has come.
//!
//! ```text
//!   input   │ settled │ offered, in the order of `sizes` │ not cut yet │
//!                  done                              given
//! ```
//!
//! A frame stays in the input until the port says what became of it. One that there is no room for is offered again, and the
//! connection is not read meanwhile: then the kernel's buffer fills, and then the peer waits.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use super::framing::{Cut, Framing};
use crate::connection::Connection;
use crate::kind::Settled;

/// How long a connection waits before a frame that there was no room for is offered again.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

/// Memory that a connection keeps for the next time.
const KEPT_BYTES: usize = 16 << 10;

/// Reads at a time of a peer of which nothing is wanted any more.
const READS_FORGOTTEN: usize = 4;

/// What is to be handed to the loop next.
pub(super) enum Item {
    /// A frame, as a part of [`Peer::unoffered`].
    Frame { payload: std::ops::Range<usize>, next: usize },
    /// What came and is no frame.
    Refused(&'static str),
    /// The end.
    End,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Its object is to be told.
    Due,
    Offered,
    Told,
}

pub(super) struct Peer {
    pub(super) name: Connection,
    socket: OwnedFd,
    input: Vec<u8>,
    given: usize,
    done: usize,
    sizes: VecDeque<usize>,
    output: Vec<u8>,
    written: usize,
    /// There may be something to read.
    readable: bool,
    /// A read that did not fill its buffer has emptied the socket: whatever comes then is an event of its own. Not once
    /// anything but bytes has been announced, and not of unix sockets: there a read ends before a descriptor that is sent.
    short_is_all: bool,
    /// In the queue of those that may have something.
    pub(super) queued: bool,
    pub(super) paused_until: Option<Instant>,
    partial_since: Option<Instant>,
    pub(super) last_heard: Instant,
    /// A frame of it has become a message.
    known: bool,
    /// Nothing more comes from the peer.
    read_closed: bool,
    /// Nothing more goes to the peer.
    write_closed: bool,
    /// Why it ends, once it does.
    pub(super) reason: Option<&'static str>,
    /// Since when it ends.
    ending_since: Option<Instant>,
    /// What is left of the input is no frame, and has to be told.
    rubbish: Option<&'static str>,
    end: End,
}

impl Peer {
    /// One of TCP, or of a unix socket.
    pub(super) fn new(name: Connection, socket: OwnedFd, tcp: bool) -> Peer {
        Peer {
            name,
            socket,
            input: Vec::new(),
            given: 0,
            done: 0,
            sizes: VecDeque::new(),
            output: Vec::new(),
            written: 0,
            readable: true,
            short_is_all: tcp,
            queued: false,
            paused_until: None,
            partial_since: None,
            last_heard: Instant::now(),
            known: false,
            read_closed: false,
            write_closed: false,
            reason: None,
            ending_since: None,
            rubbish: None,
            end: End::Open,
        }
    }

    /// The kernel has announced something: bytes to read, or an end or urgent bytes besides, which are met by reading on.
    pub(super) fn hear(&mut self, only_bytes: bool) {
        self.readable = true;
        self.short_is_all &= only_bytes;
    }

    /// What comes next, read from the peer if need be.
    pub(super) fn next(
        &mut self,
        framing: &Framing,
        payload_max: usize,
        scratch: &mut [u8],
    ) -> Option<Item> {
        if self.paused_until.is_some() {
            return None;
        }
        while self.end == End::Open && self.rubbish.is_none() {
            match framing.cut(&self.input[self.given..], payload_max) {
                Cut::Frame { payload, next } => {
                    self.partial_since = None;
                    return Some(Item::Frame { payload, next });
                }
                Cut::Broken(reason) => self.break_off(reason),
                Cut::More if self.readable && !self.read_closed => self.read(scratch),
                Cut::More if self.read_closed => {
                    let rest = self.given < self.input.len();
                    self.rubbish = rest.then_some("cut off");
                    self.end = End::Due;
                }
                Cut::More => {
                    let partial = self.given < self.input.len();
                    if partial && self.partial_since.is_none() {
                        self.partial_since = Some(Instant::now());
                    }
                    return None;
                }
            }
        }
        if self.end == End::Told {
            self.read_and_forget(scratch);
            return None;
        }
        // Those before it first: it is about what comes behind them.
        if !self.sizes.is_empty() {
            return None;
        }
        if let Some(reason) = self.rubbish.take() {
            self.forget_input();
            return Some(Item::Refused(reason));
        }
        (self.end == End::Due && self.known).then_some(Item::End)
    }

    /// The part of the input that items count from.
    pub(super) fn unoffered(&self) -> &[u8] {
        &self.input[self.given..]
    }

    /// The frame that [`next`](Self::next) found is in the loop's hands.
    pub(super) fn offer(&mut self, size: usize) {
        self.given += size;
        self.sizes.push_back(size);
    }

    /// The same of the end.
    pub(super) fn offer_end(&mut self) {
        self.end = End::Offered;
    }

    /// What became of the oldest thing that was offered.
    pub(super) fn settle(&mut self, end: bool, settled: Settled) {
        match settled {
            Settled::Held => {
                self.given = self.done;
                self.sizes.clear();
                self.paused_until = Some(Instant::now() + PAUSE);
                if end {
                    self.end = End::Due;
                }
            }
            Settled::Delivered | Settled::Dropped if end => {
                self.end = End::Told;
            }
            settled => {
                self.done += self.sizes.pop_front().unwrap_or(0);
                self.known |= settled == Settled::Delivered;
                if self.done == self.input.len() {
                    self.forget_input();
                }
                if settled == Settled::Refused {
                    // A stream with a hole is none.
                    self.given = self.done;
                    self.sizes.clear();
                    self.break_off("no room");
                }
            }
        }
    }

    fn forget_input(&mut self) {
        self.input.clear();
        self.input.shrink_to(KEPT_BYTES);
        (self.given, self.done) = (0, 0);
    }

    fn read(&mut self, scratch: &mut [u8]) {
        match recv(self.socket.as_raw_fd(), scratch, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => {
                self.read_closed = true;
                self.ends("closed by the peer");
            }
            Ok(count) => {
                self.last_heard = Instant::now();
                self.readable = count == scratch.len() || !self.short_is_all;
                if self.sizes.is_empty() && self.done > 0 {
                    self.input.drain(..self.done);
                    (self.given, self.done) = (0, 0);
                }
                self.input.extend_from_slice(&scratch[..count]);
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => self.readable = false,
            Err(_) => self.lost(),
        }
    }

    /// Nothing of it is wanted any more; it is read so that the peer's kernel is content, and takes what was sent.
    fn read_and_forget(&mut self, scratch: &mut [u8]) {
        for _ in 0..READS_FORGOTTEN {
            if !self.readable || self.read_closed {
                return;
            }
            match recv(self.socket.as_raw_fd(), scratch, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => self.read_closed = true,
                Err(Errno::EINTR) => {}
                Err(_) => self.readable = false,
                Ok(_) => {}
            }
        }
    }

    /// What it sends is of no use: it is disconnected, and told so by that alone.
    pub(super) fn break_off(&mut self, reason: &'static str) {
        if self.end == End::Open {
            self.end = End::Due;
            let rest = self.given < self.input.len();
            self.rubbish = rest.then_some(reason);
        }
        self.ends(reason);
        self.read_closed = true;
        self.write_closed = true;
        self.flush();
    }

    /// The same, and what it was to get is forgotten.
    pub(super) fn cut_off(&mut self, reason: &'static str) {
        self.output.clear();
        self.written = 0;
        self.break_off(reason);
    }

    /// The connection is gone.
    fn lost(&mut self) {
        self.cut_off("reset");
    }

    /// The service wants it to end, once what was sent is out.
    pub(super) fn finish(&mut self) {
        if self.end == End::Open {
            self.end = End::Due;
        }
        self.ends("closed by the service");
        self.write_closed = true;
        self.flush();
    }

    fn ends(&mut self, reason: &'static str) {
        self.reason.get_or_insert(reason);
        self.ending_since.get_or_insert_with(Instant::now);
    }

    /// Room for `bytes` more to be sent?
    pub(super) fn takes(&self, bytes: usize, unsent_max: usize) -> bool {
        self.output.len() - self.written + bytes <= unsent_max
    }

    /// Whether something may still be sent.
    pub(super) fn is_open(&self) -> bool {
        !self.write_closed
    }

    /// Where what is to be sent is written to.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Sends what the kernel takes.
    pub(super) fn flush(&mut self) {
        while self.written < self.output.len() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.socket.as_raw_fd(), &self.output[self.written..], flags) {
                Ok(count) => self.written += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => return,
                Err(_) => return self.lost(),
            }
        }
        self.output.clear();
        self.output.shrink_to(KEPT_BYTES);
        self.written = 0;
        if self.write_closed {
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
        }
    }

    /// What its patience says now.
    pub(super) fn look_at_clock(
        &mut self,
        now: Instant,
        frame_wait: Duration,
        idle_max: Option<Duration>,
    ) {
        if self.end != End::Open {
            return;
        }
        if self.partial_since.is_some_and(|since| now - since > frame_wait) {
            self.break_off("frame never finished");
        } else if idle_max.is_some_and(|max| now.saturating_duration_since(self.last_heard) > max)
            && self.paused_until.is_none()
        {
            self.break_off("idle");
        }
    }

    /// Whether nobody has anything to do with it any more.
    pub(super) fn is_over(&self, now: Instant, linger: Duration) -> bool {
        let late = self.ending_since.is_some_and(|since| now - since > linger);
        let sent = self.written == self.output.len();
        self.sizes.is_empty()
            && self.rubbish.is_none()
            && match self.end {
                End::Told => late || (sent && self.write_closed && self.read_closed),
                // Nobody knows of it, so nobody answers.
                End::Due => !self.known && (late || sent),
                End::Open | End::Offered => false,
            }
    }

    /// Whether a frame in the loop's hands is still to be delivered: not behind one that was not.
    pub(super) fn wants(&self) -> bool {
        !self.sizes.is_empty()
    }

    /// Whether there may be something that no event announces: a peer that is to be disconnected, and goes on sending.
    pub(super) fn is_talking(&self) -> bool {
        self.end == End::Told && self.readable && !self.read_closed
    }

    /// Frames that have come and are not handed on, what is no whole frame included.
    pub(super) fn left_over(&self, framing: &Framing, payload_max: usize) -> u64 {
        let mut rest = &self.input[self.done..];
        let mut count = 0;
        while let Cut::Frame { next, .. } = framing.cut(rest, payload_max) {
            rest = &rest[next..];
            count += 1;
        }
        count + u64::from(!rest.is_empty())
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Answers leave at once: they are not collected until there is more.
pub(super) fn prepare(socket: &OwnedFd, tcp: bool) -> io::Result<()> {
    if tcp {
        nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::TcpNoDelay, &true)?;
    }
    Ok(())
}
