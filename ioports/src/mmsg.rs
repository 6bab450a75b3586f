//! Many datagrams with one system call: `recvmmsg(2)` and `sendmmsg(2)` over borrowed buffers.
//!
//! ```text
//!   buffers of the caller      headers (ours)            kernel
//!   ┌────────────┐  iovec  ┌───────────────────┐
//!   │ block 17   │◄────────┤ name, len, flags  │◄──── recvmmsg: fills both
//!   ├────────────┤         ├───────────────────┤
//!   │ block 42   │◄────────┤ name, len, flags  │────► sendmmsg: reads both
//!   └────────────┘         └───────────────────┘
//! ```
//!
//! The buffers are lent for the length of one call, so nothing here outlives them: the headers are
//! pointed at them just before the call and never looked at through those pointers afterwards. All
//! room is taken in `new`; a call allocates nothing and never blocks (`MSG_DONTWAIT`, because the
//! socket may be shared with another process whose flags are not ours to set).
//!
//! Neighbours in a batch that go to one address and are equally long leave as one datagram that the kernel cuts (GSO): the
//! blocks stay where they are, one header lists several of them.

#![expect(unsafe_code, reason = "recvmmsg and sendmmsg take arrays of raw pointers")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use crate::control::Control;
use crate::sockaddr::{Family, KERNEL_ADDRESS_BYTES, KernelAddress, WrongFamily};

/// Most datagrams that one call may carry. The kernel's own limit (`UIO_MAXIOV`) is 1,024.
pub const BATCH_MAX: usize = 1024;

/// Most datagrams that the kernel cuts out of one (`UDP_MAX_SEGMENTS` of older kernels).
const SEGMENTS_MAX: usize = 64;

/// Longest datagram that is sent as a part of a larger one: longer ones might be cut again on their way, which the kernel
/// refuses. What every network carries as IPv6, less the headers.
const SEGMENT_BYTES_MAX: usize = 1232;

/// What fits into a datagram that is to be cut.
const SEGMENTED_BYTES_MAX: usize = 65_000;

/// What is known of a packet that was received into a buffer of the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes on the wire. More than the buffer had room for when `truncated`.
    pub len: usize,
    /// The buffer was too small: the rest is gone.
    pub truncated: bool,
    /// Who sent it, in canonical form. Unix and unnamed senders have none.
    pub source: Option<SocketAddr>,
    /// The address of this host that it was sent to, where the socket was told to say so.
    pub local: Option<IpAddr>,
    /// The source refuses it: it is counted under this reason, and nothing else.
    pub refused: Option<&'static str>,
    /// No packet: the connection has ended.
    pub end: bool,
    pub(crate) received_at: Option<Duration>,
    pub(crate) vlan: Option<(u16, u16)>,
    /// Several that the kernel has put together, each of so many bytes but the last.
    pub(crate) segment: Option<usize>,
}

impl Datagram {
    /// When the kernel got it, by its wall clock since 1970; `None` where it was not asked, or does not tell.
    pub fn received_at(&self) -> Option<Duration> {
        self.received_at
    }

    /// A packet of `len` bytes from `source`.
    pub fn new(len: usize, source: Option<SocketAddr>) -> Self {
        Datagram { len, source, ..Datagram::default() }
    }

    /// The same, which came in at this time, by the wall clock.
    pub fn at(self, received_at: Duration) -> Self {
        Datagram { received_at: Some(received_at), ..self }
    }
}

/// The kernel's view of a batch: headers, names and buffers, index by index.
struct Headers {
    headers: Box<[libc::mmsghdr]>,
    /// As many for each header as a datagram may have pieces.
    iovecs: Box<[libc::iovec]>,
    names: Box<[KernelAddress]>,
    /// None where the kernel has nothing to say, and is told nothing.
    controls: Box<[Control]>,
}

impl Headers {
    fn new(capacity: usize, pieces: usize, control: bool) -> Self {
        assert!(
            (1..=BATCH_MAX).contains(&capacity),
            "a batch of {capacity} datagrams is outside 1..={BATCH_MAX}"
        );
        // SAFETY: `mmsghdr` is made of integers and raw pointers; all zero bytes are a value of it
        // (null pointers, zero lengths).
        let empty: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let no_buffer = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Headers {
            headers: vec![empty; capacity].into_boxed_slice(),
            iovecs: vec![no_buffer; capacity * pieces].into_boxed_slice(),
            names: vec![KernelAddress::none(); capacity].into_boxed_slice(),
            controls: vec![Control::none(); if control { capacity } else { 0 }].into_boxed_slice(),
        }
    }

    /// Points header `index` at `count` buffers from `first` on, at its own name field, and at as much of its control buffer.
    fn aim(
        &mut self,
        index: usize,
        (first, count): (usize, usize),
        name_len: libc::socklen_t,
        control_len: usize,
    ) {
        let header = &mut self.headers[index];
        header.msg_len = 0;
        header.msg_hdr.msg_name = match name_len {
            0 => ptr::null_mut(),
            _ => ptr::from_mut(&mut self.names[index]).cast(),
        };
        header.msg_hdr.msg_namelen = name_len;
        header.msg_hdr.msg_iov = self.iovecs[first..first + count].as_mut_ptr();
        header.msg_hdr.msg_iovlen = count as _;
        header.msg_hdr.msg_control = match self.controls.get_mut(index) {
            Some(control) if control_len > 0 => ptr::from_mut(control).cast(),
            _ => ptr::null_mut(),
        };
        header.msg_hdr.msg_controllen =
            if header.msg_hdr.msg_control.is_null() { 0 } else { control_len as _ };
        header.msg_hdr.msg_flags = 0;
    }

    fn lend(&mut self, index: usize, base: *mut u8, len: usize) {
        self.iovecs[index] = libc::iovec { iov_base: base.cast(), iov_len: len };
    }
}

// SAFETY: the raw pointers inside are rewritten by `aim` before every system call and never
// followed by this process, so moving the headers to another thread takes nothing with it.
unsafe impl Send for Headers {}

/// Receives up to a fixed number of datagrams with one call.
pub struct Receiver {
    batch: Headers,
    /// Buffers of one datagram.
    pieces: usize,
}

impl Receiver {
    /// Room for `capacity` datagrams a call, `1..=BATCH_MAX`.
    pub fn new(capacity: usize) -> Self {
        Receiver { batch: Headers::new(capacity, 1, false), pieces: 1 }
    }

    /// The same, and what the kernel says beside the bytes is read: when a datagram came, and to which address.
    pub fn informed(capacity: usize) -> Self {
        Receiver { batch: Headers::new(capacity, 1, true), pieces: 1 }
    }

    /// The same, and a datagram may go on in a second buffer: see [`receive_over`](Self::receive_over).
    pub(crate) fn spilling(capacity: usize) -> Self {
        Receiver { batch: Headers::new(capacity, 2, true), pieces: 2 }
    }

    /// Receives into `buffers`, one datagram each, as many as are waiting; never blocks.
    ///
    /// Uses at most as many buffers as the receiver has room for. The result is one [`Datagram`]
    /// for each of the first buffers, in order. Nothing waiting is `ErrorKind::WouldBlock`.
    pub fn receive<'b>(
        &mut self,
        socket: BorrowedFd<'_>,
        buffers: impl Iterator<Item = &'b mut [u8]>,
    ) -> io::Result<impl ExactSizeIterator<Item = Datagram> + '_> {
        self.receive_over(socket, buffers.map(|buffer| [buffer, &mut []]))
    }

    /// The same; a datagram for which the first of its two buffers is too short goes on in the second, if this receiver is
    /// [`spilling`](Self::spilling).
    pub(crate) fn receive_over<'b>(
        &mut self,
        socket: BorrowedFd<'_>,
        buffers: impl Iterator<Item = [&'b mut [u8]; 2]>,
    ) -> io::Result<impl ExactSizeIterator<Item = Datagram> + '_> {
        let pieces = self.pieces;
        let mut count = 0;
        for (index, buffers) in buffers.take(self.batch.headers.len()).enumerate() {
            self.batch.names[index] = KernelAddress::none();
            for (piece, buffer) in buffers.into_iter().take(pieces).enumerate() {
                self.batch.lend(index * pieces + piece, buffer.as_mut_ptr(), buffer.len());
            }
            self.batch.aim(index, (index * pieces, pieces), KERNEL_ADDRESS_BYTES, Control::BYTES);
            count = index + 1;
        }
        // MSG_TRUNC as a request makes the kernel report the length on the wire.
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY:
        // - the first `count` headers were aimed just above: each names one or two exclusive buffers
        //   (`&'b mut [u8]`, alive for the whole of this call because `'b` outlives it), one name field and at most one
        //   control buffer of `self`, with their true lengths;
        // - the kernel writes nothing else, and keeps no pointer after it returns;
        // - a null time-out is allowed and irrelevant with MSG_DONTWAIT.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.batch.headers.as_mut_ptr(),
                count as libc::c_uint,
                flags as _,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let headers = self.batch.headers[..received].iter();
        Ok(headers.zip(&self.batch.names[..received]).map(|(header, name)| {
            let told = Control::read(&header.msg_hdr);
            Datagram {
                len: header.msg_len as usize,
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                source: name.get(),
                local: told.local,
                received_at: told.received_at,
                vlan: told.vlan,
                segment: told.segment,
                ..Datagram::default()
            }
        }))
    }
}

/// Why a batch, or its first datagram, was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The first datagram of the batch has a destination that this socket cannot express.
    #[error(transparent)]
    Family(#[from] WrongFamily),
    /// The kernel refused the first datagram of the batch.
    #[error("the kernel refused the packet")]
    Os(#[from] io::Error),
    /// The first packet cannot go where it is to go.
    #[error("not sent: {0}")]
    Refused(&'static str),
}

/// A packet as it leaves.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'p> {
    /// Its bytes.
    pub payload: &'p [u8],
    /// Where it goes; `None` where the socket has one other end only.
    pub to: Option<SocketAddr>,
    /// The address of this host that it leaves from, if not the one that the kernel chooses.
    pub from: Option<IpAddr>,
}

/// Sends up to a fixed number of datagrams with one call.
pub struct Sender {
    batch: Headers,
    family: Family,
    /// Datagrams of each header.
    counts: Box<[usize]>,
    /// Whether neighbours become one datagram that the kernel cuts.
    segments: bool,
    /// Not for the next call: which of them the kernel refuses is not known yet.
    one_by_one: bool,
}

impl Sender {
    /// Room for `capacity` datagrams a call, `1..=BATCH_MAX`, from a socket of `family`.
    pub fn new(capacity: usize, family: Family) -> Self {
        Sender {
            batch: Headers::new(capacity, 1, true),
            family,
            counts: vec![0; capacity].into_boxed_slice(),
            segments: false,
            one_by_one: false,
        }
    }

    /// The same, from a UDP socket: neighbours that go to one address leave as one datagram, where the kernel can cut it.
    pub fn segmenting(capacity: usize, family: Family) -> Self {
        Sender { segments: true, ..Sender::new(capacity, family) }
    }

    /// Sends `packets` in order; returns how many of the first ones the kernel took; never blocks.
    ///
    /// An error is always about the first packet, and then nothing was sent. A later packet that
    /// cannot be sent ends the batch before it, and shows its error as the first of the next one.
    pub fn send<'p>(
        &mut self,
        socket: BorrowedFd<'_>,
        packets: impl Iterator<Item = (&'p [u8], SocketAddr)>,
    ) -> Result<usize, SendError> {
        let packets = packets.map(|(payload, to)| Outgoing { payload, to: Some(to), from: None });
        self.send_all(socket, packets)
    }

    /// The same, of packets of which more may be said.
    ///
    /// # Errors
    /// As [`send`](Self::send). `EINTR` also means: once more, and the error shows by itself.
    pub fn send_all<'p>(
        &mut self,
        socket: BorrowedFd<'_>,
        packets: impl Iterator<Item = Outgoing<'p>>,
    ) -> Result<usize, SendError> {
        let segments = self.segments && !std::mem::take(&mut self.one_by_one);
        let mut headers = 0;
        let mut group: Option<Group> = None;
        for (lent, packet) in packets.take(self.batch.headers.len()).enumerate() {
            let joins = segments && group.as_mut().is_some_and(|group| group.takes(&packet));
            if !joins {
                let name_len = match packet.to {
                    None => 0,
                    Some(to) => match self.batch.names[headers].set(to, self.family) {
                        Ok(name_len) => name_len,
                        Err(wrong) if headers == 0 => return Err(wrong.into()),
                        Err(_) => break,
                    },
                };
                if let Some(group) = group.replace(Group::of(&packet, headers, lent, name_len)) {
                    self.close(&group);
                }
                headers += 1;
            }
            let payload = packet.payload;
            self.batch.lend(lent, payload.as_ptr().cast_mut(), payload.len());
        }
        let Some(last) = group else { return Ok(0) };
        self.close(&last);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY:
        // - the first `headers` headers were aimed by `close` at payloads that `'p` keeps alive and
        //   at name fields and control buffers of `self`, with their true lengths;
        // - sendmmsg only reads the payloads, so the cast to a mutable pointer writes nothing; it
        //   writes `msg_len` of the headers, which are ours.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.batch.headers.as_mut_ptr(),
                headers as libc::c_uint,
                flags as _,
            )
        };
        match usize::try_from(sent) {
            Ok(sent) => Ok(self.counts[..sent].iter().sum()),
            Err(_) => Err(self.refused(io::Error::last_os_error()).into()),
        }
    }

    fn close(&mut self, group: &Group) {
        let segment = (group.count > 1).then_some(group.segment as u16);
        let control = &mut self.batch.controls[group.header];
        let control_len = control.write(self.family, group.from, segment);
        self.counts[group.header] = group.count;
        self.batch.aim(group.header, (group.first, group.count), group.name_len, control_len);
    }

    /// An error of several packets at once is none of the first one: they are tried one by one.
    fn refused(&mut self, error: io::Error) -> io::Error {
        let passing = [libc::EINTR, libc::EAGAIN, libc::ENOBUFS, libc::ENOMEM];
        let of_itself = error.raw_os_error().is_some_and(|code| passing.contains(&code));
        if self.counts[0] == 1 || of_itself {
            return error;
        }
        self.one_by_one = true;
        if error.raw_os_error() == Some(libc::EIO) {
            self.segments = false; // the device cannot, nor can the kernel in its place
        }
        io::Error::from_raw_os_error(libc::EINTR)
    }
}

/// Datagrams that become one header.
struct Group {
    header: usize,
    first: usize,
    count: usize,
    to: Option<SocketAddr>,
    from: Option<IpAddr>,
    segment: usize,
    bytes: usize,
    name_len: libc::socklen_t,
    /// One was shorter than the others: it is the last.
    closed: bool,
}

impl Group {
    fn of(packet: &Outgoing<'_>, header: usize, first: usize, name_len: libc::socklen_t) -> Self {
        let bytes = packet.payload.len();
        Group {
            header,
            first,
            count: 1,
            to: packet.to,
            from: packet.from,
            segment: bytes,
            bytes,
            name_len,
            closed: bytes == 0 || bytes > SEGMENT_BYTES_MAX,
        }
    }

    fn takes(&mut self, packet: &Outgoing<'_>) -> bool {
        let bytes = packet.payload.len();
        let fits = !self.closed
            && self.to == packet.to
            && self.from == packet.from
            && (1..=self.segment).contains(&bytes)
            && self.count < SEGMENTS_MAX
            && self.bytes + bytes <= SEGMENTED_BYTES_MAX;
        if fits {
            self.count += 1;
            self.bytes += bytes;
            self.closed = bytes < self.segment;
        }
        fits
    }
}

#[cfg(test)]
mod tests;
