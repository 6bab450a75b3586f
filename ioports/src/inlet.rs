//! What kinds that read packets from one socket have in common.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::mmsg::{Datagram, Receiver};

/// How often the kernel is asked what it dropped, at most.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// A socket, and what is received from it.
pub(crate) struct Inlet<S> {
    pub(crate) socket: S,
    receiver: Receiver,
    scratch: Vec<[u8; 1]>,
    asked: NowAndThen,
}

impl<S: AsFd> Inlet<S> {
    /// Receives `count` packets a call with `receiver`.
    pub(crate) fn new(socket: S, receiver: Receiver, count: usize) -> Self {
        Inlet { socket, receiver, scratch: vec![[0]; count], asked: NowAndThen::default() }
    }

    /// As [`Receiver::receive`].
    pub(crate) fn receive<'b>(
        &mut self,
        buffers: impl Iterator<Item = &'b mut [u8]>,
    ) -> io::Result<impl ExactSizeIterator<Item = Datagram> + '_> {
        self.receiver.receive(self.socket.as_fd(), buffers)
    }

    /// Takes at most `count` packets and forgets them, all but who sent them.
    pub(crate) fn discard(&mut self, count: usize, into: &mut Vec<Datagram>) -> io::Result<()> {
        let buffers = self.scratch.iter_mut().map(<[u8; 1]>::as_mut_slice).take(count);
        into.extend(self.receiver.receive(self.socket.as_fd(), buffers)?);
        Ok(())
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether the kernel may be asked again what it dropped.
    pub(crate) fn may_ask(&mut self) -> bool {
        self.asked.is_due()
    }
}

/// Questions to the kernel that are not asked at every turn.
#[derive(Default)]
pub(crate) struct NowAndThen(Option<Instant>);

impl NowAndThen {
    /// Whether the question is to be asked, which then counts as asked.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|asked| asked.elapsed() >= ASK_EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}
