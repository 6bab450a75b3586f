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

#![expect(unsafe_code, reason = "recvmmsg and sendmmsg take arrays of raw pointers")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::sockaddr::{Family, KERNEL_ADDRESS_BYTES, KernelAddress, WrongFamily};

/// Most datagrams that one call may carry. The kernel's own limit (`UIO_MAXIOV`) is 1,024.
pub const BATCH_MAX: usize = 1024;

/// What is known of a datagram that was received into a buffer of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes on the wire. More than the buffer had room for when `truncated`.
    pub len: usize,
    /// The buffer was too small: the rest is gone.
    pub truncated: bool,
    /// Who sent it, in canonical form. Unix and unnamed senders have none.
    pub source: Option<SocketAddr>,
}

/// The kernel's view of a batch: headers, names and buffers, index by index.
struct Headers {
    headers: Box<[libc::mmsghdr]>,
    iovecs: Box<[libc::iovec]>,
    names: Box<[KernelAddress]>,
}

impl Headers {
    fn new(capacity: usize) -> Self {
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
            iovecs: vec![no_buffer; capacity].into_boxed_slice(),
            names: vec![KernelAddress::none(); capacity].into_boxed_slice(),
        }
    }

    /// Points header `index` at a buffer of `len` bytes and at its own name field.
    fn aim(&mut self, index: usize, base: *mut u8, len: usize, name_len: libc::socklen_t) {
        self.iovecs[index] = libc::iovec { iov_base: base.cast(), iov_len: len };
        let header = &mut self.headers[index];
        header.msg_len = 0;
        header.msg_hdr.msg_name = ptr::from_mut(&mut self.names[index]).cast();
        header.msg_hdr.msg_namelen = name_len;
        header.msg_hdr.msg_iov = ptr::from_mut(&mut self.iovecs[index]);
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = ptr::null_mut();
        header.msg_hdr.msg_controllen = 0;
        header.msg_hdr.msg_flags = 0;
    }
}

// SAFETY: the raw pointers inside are rewritten by `aim` before every system call and never
// followed by this process, so moving the headers to another thread takes nothing with it.
unsafe impl Send for Headers {}

/// Receives up to a fixed number of datagrams with one call.
pub struct Receiver {
    batch: Headers,
}

impl Receiver {
    /// Room for `capacity` datagrams a call, `1..=BATCH_MAX`.
    pub fn new(capacity: usize) -> Self {
        Receiver { batch: Headers::new(capacity) }
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
        let mut count = 0;
        for (index, buffer) in buffers.take(self.batch.headers.len()).enumerate() {
            self.batch.names[index] = KernelAddress::none();
            self.batch.aim(index, buffer.as_mut_ptr(), buffer.len(), KERNEL_ADDRESS_BYTES);
            count = index + 1;
        }
        // MSG_TRUNC as a request makes the kernel report the length on the wire.
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY:
        // - the first `count` headers were aimed just above: each names one exclusive buffer
        //   (`&'b mut [u8]`, alive for the whole of this call because `'b` outlives it) and one
        //   name field of `self`, with their true lengths;
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
        Ok(headers.zip(&self.batch.names[..received]).map(|(header, name)| Datagram {
            len: header.msg_len as usize,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            source: name.get(),
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
}

/// Sends up to a fixed number of datagrams with one call.
pub struct Sender {
    batch: Headers,
    family: Family,
}

impl Sender {
    /// Room for `capacity` datagrams a call, `1..=BATCH_MAX`, from a socket of `family`.
    pub fn new(capacity: usize, family: Family) -> Self {
        Sender { batch: Headers::new(capacity), family }
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
        let mut count = 0;
        for (index, (payload, to)) in packets.take(self.batch.headers.len()).enumerate() {
            let name_len = match self.batch.names[index].set(to, self.family) {
                Ok(name_len) => name_len,
                Err(wrong) if index == 0 => return Err(wrong.into()),
                Err(_) => break,
            };
            self.batch.aim(index, payload.as_ptr().cast_mut(), payload.len(), name_len);
            count = index + 1;
        }
        if count == 0 {
            return Ok(0);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY:
        // - the first `count` headers were aimed just above at payloads that `'p` keeps alive and
        //   at name fields of `self`, with their true lengths;
        // - sendmmsg only reads the payloads, so the cast to a mutable pointer writes nothing; it
        //   writes `msg_len` of the headers, which are ours.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.batch.headers.as_mut_ptr(),
                count as libc::c_uint,
                flags as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error().into())
    }
}

#[cfg(test)]
mod tests;
