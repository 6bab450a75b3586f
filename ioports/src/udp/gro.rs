//! Datagrams that the kernel has put together (GRO): taken apart again, in order.
//!
//! ```text
//!   kernel ─► one that is alone ──────────────────────────────► block
//!          ─► several as one: │ 100 │ 100 │ 100 │ 40 │ ─ cut ─► block, block, block, block
//!                                                  └─ no block left: waits here for the next call
//! ```
//!
//! Where each segment of a datagram would have to go is known only once it is here. So it is received into a block and, as far as
//! it is longer, into a buffer beside it: what was alone is where it stays, and what has come together is copied once.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use crate::mmsg::{Datagram, Receiver};

/// Datagrams of one call, each of which may be many.
const BATCH: usize = 16;

/// Longer than any UDP datagram.
const DATAGRAM_BYTES: usize = 1 << 16;

pub(super) struct Together {
    receiver: Receiver,
    /// For each datagram of a call: as much as a block may take, and all the rest.
    spills: Box<[Vec<u8>]>,
    /// Whole in `spills`, and not yet handed on.
    waiting: VecDeque<Several>,
}

/// A datagram that is cut.
struct Several {
    spill: usize,
    datagram: Datagram,
    /// Bytes of the datagrams that it is made of, but for the last; as long as it is if it is one.
    segment: usize,
    /// Where the next one begins.
    at: usize,
}

impl Several {
    fn of(spill: usize, datagram: Datagram) -> Several {
        let segment = datagram.segment.unwrap_or(datagram.len).max(1);
        Several { spill, datagram, segment, at: 0 }
    }

    fn count(&self) -> usize {
        match self.datagram.len {
            0 => 1,
            len => len.saturating_sub(self.at).div_ceil(self.segment),
        }
    }

    /// The next one out of `bytes`, the whole; true if it was the last.
    fn cut(&mut self, bytes: &[u8], buffer: &mut [u8], into: &mut Vec<Datagram>) -> bool {
        let end = (self.at + self.segment).min(self.datagram.len);
        let len = end - self.at;
        let here = bytes.get(self.at..end.min(bytes.len())).unwrap_or(&[]);
        let fits = here.len().min(buffer.len());
        buffer[..fits].copy_from_slice(&here[..fits]);
        into.push(Datagram { len, truncated: fits < len, segment: None, ..self.datagram });
        self.at = end;
        end == self.datagram.len
    }
}

impl Together {
    /// Takes at most `count` datagrams a call, or sets of such, into buffers of at most `bytes_max`.
    pub(super) fn new(count: usize, bytes_max: usize) -> Together {
        let count = count.min(BATCH);
        Together {
            receiver: Receiver::spilling(count),
            spills: vec![vec![0; bytes_max + DATAGRAM_BYTES]; count].into_boxed_slice(),
            waiting: VecDeque::with_capacity(count),
        }
    }

    /// Whether nothing waits here.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// As [`PacketSource::receive`](crate::PacketSource::receive).
    pub(super) fn receive<'b>(
        &mut self,
        socket: BorrowedFd<'_>,
        mut buffers: impl Iterator<Item = &'b mut [u8]>,
        into: &mut Vec<Datagram>,
    ) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.hand_on(buffers, into);
            return Ok(());
        }
        let mut lent: [&mut [u8]; BATCH] = std::array::from_fn(|_| Default::default());
        let mut count = 0;
        for (place, buffer) in lent.iter_mut().zip(buffers.by_ref()).take(self.spills.len()) {
            *place = buffer;
            count += 1;
        }
        let rooms = lent[..count].iter_mut().zip(&mut self.spills);
        let rooms = rooms.map(|(buffer, spill)| {
            let beside = buffer.len();
            [&mut **buffer, &mut spill[beside..]]
        });
        let received = self.receiver.receive_over(socket, rooms)?;
        let mut in_place = 0;
        for (index, datagram) in received.enumerate() {
            if self.waiting.is_empty() && datagram.segment.is_none() {
                let truncated = datagram.len > lent[index].len();
                into.push(Datagram { truncated, ..datagram });
                in_place += 1;
            } else {
                // From here on the buffers belong to others.
                let begin = datagram.len.min(lent[index].len());
                self.spills[index][..begin].copy_from_slice(&lent[index][..begin]);
                self.waiting.push_back(Several::of(index, datagram));
            }
        }
        self.hand_on(lent.into_iter().take(count).skip(in_place).chain(buffers), into);
        Ok(())
    }

    fn hand_on<'b>(
        &mut self,
        buffers: impl Iterator<Item = &'b mut [u8]>,
        into: &mut Vec<Datagram>,
    ) {
        for buffer in buffers {
            let Some(first) = self.waiting.front_mut() else { return };
            if first.cut(&self.spills[first.spill], buffer, into) {
                self.waiting.pop_front();
            }
        }
    }

    /// As [`PacketSource::discard`](crate::PacketSource::discard).
    pub(super) fn discard(
        &mut self,
        socket: BorrowedFd<'_>,
        count: usize,
        into: &mut Vec<Datagram>,
    ) -> io::Result<()> {
        if self.waiting.is_empty() {
            let rooms = self.spills.iter_mut().take(count).map(|spill| [&mut [][..], spill]);
            let received = self.receiver.receive_over(socket, rooms)?;
            self.waiting.extend(received.map(|datagram| Several::of(0, datagram)));
        }
        self.hand_on(std::iter::repeat_with(|| &mut [][..]).take(count), into);
        Ok(())
    }

    /// Forgets what waits here, and says how many that were.
    pub(super) fn forget(&mut self) -> u64 {
        self.waiting.drain(..).map(|several| several.count() as u64).sum()
    }
}

#[cfg(test)]
mod tests;
