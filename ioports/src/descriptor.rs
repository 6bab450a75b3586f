//! File descriptors that arrive as numbers: inherited over `exec`, or in a control message.

#![expect(unsafe_code, reason = "a descriptor's number becomes an owner of it; one raw getsockopt")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

/// Becomes the owner of a descriptor that `recvmsg` has just put into our table.
pub(crate) fn received(number: RawFd) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for us in the call that returned its number; the one
    // caller passes each number on once, so nobody else owns or closes it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// A duplicate of descriptor `number` that closes on `exec`; the inherited one stays open.
///
/// Whoever started us may have promised `number` to somebody else in this process as well, so we
/// take a copy instead of the thing itself.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the borrow lasts for the next call only, which merely fails if `number` is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    borrowed.try_clone_to_owned()
}

/// A descriptor that `owner` keeps open and told us the number of.
pub(crate) fn borrowed_from<T>(_owner: &T, number: RawFd) -> BorrowedFd<'_> {
    // SAFETY: `number` came from `owner`, which is borrowed as long as the result lives and closes
    // its descriptor only when it is dropped.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Makes `fd` survive `exec`, so that a child can inherit it under the same number.
pub fn keep_over_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

/// Calls on `fd` do not block, whoever else has it.
pub(crate) fn never_block(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// `SO_MEMINFO`, which the libc crate does not name.
const SO_MEMINFO: libc::c_int = 55;

/// Datagrams that the kernel dropped before anybody could receive them from this socket, because
/// its receive buffer was full. Wraps at 2^32.
pub(crate) fn kernel_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut values = [0u32; 16];
    let mut len = size_of_val(&values) as libc::socklen_t;
    // SAFETY: `values` and `len` are ours for the call; `len` is the true size of `values`, and the
    // kernel writes at most that much and the length that it used.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(values[libc::SK_MEMINFO_DROPS as usize])
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_number_that_is_not_open_is_an_error() {
        for number in [-1, 1_000_000] {
            let error = inherited(number).expect_err("nobody has such a descriptor open");
            assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{number}");
        }
    }

    #[test]
    fn an_inherited_descriptor_is_copied() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind to a free port");
        let copy = inherited(socket.as_raw_fd()).expect("it is open");
        assert_ne!(copy.as_raw_fd(), socket.as_raw_fd());
        drop(copy);
        socket.local_addr().expect("the original is still open");
    }

    #[test]
    fn packets_that_the_kernel_dropped_are_known() {
        let to = UdpSocket::bind("127.0.0.1:0").expect("bind to a free port");
        let from = UdpSocket::bind("127.0.0.1:0").expect("bind to a free port");
        nix::sys::socket::setsockopt(&to, nix::sys::socket::sockopt::RcvBuf, &1)
            .expect("the smallest buffer there is");
        assert_eq!(kernel_drops(to.as_fd()).expect("the kernel tells"), 0);
        for _ in 0..100 {
            from.send_to(&[0; 1000], to.local_addr().expect("bound")).expect("loopback takes it");
        }
        assert!(kernel_drops(to.as_fd()).expect("the kernel tells") > 0);
    }
}
