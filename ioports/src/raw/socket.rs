//! A packet socket on one interface.

#![expect(
    unsafe_code,
    reason = "packet sockets: an address and options that no crate of ours names"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};

/// Room for a burst: about 4,000 frames of 512 bytes, with the kernel's overhead.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

const PACKET_STATISTICS: libc::c_int = 6;
const PACKET_AUXDATA: libc::c_int = 8;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// `struct tpacket_stats`: since it was asked last.
#[repr(C)]
#[derive(Default)]
struct Statistics {
    packets: u32,
    drops: u32,
}

pub(super) struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens it, with every frame kept out.
    pub(super) fn open(interface: &str) -> io::Result<FrameSocket> {
        let index = if_nametoindex(interface)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Of no protocol: nothing comes before it is bound.
        let socket = FrameSocket(socket(AddressFamily::Packet, SockType::Raw, flags, None)?);
        if setsockopt(&socket.0, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            let _ = setsockopt(&socket.0, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES);
        }
        socket.set(libc::SOL_PACKET, PACKET_AUXDATA, &1_i32)?;
        // Kernels before 4.20 do not know it, and would show us what we send.
        socket.set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32)?;
        socket.filter()?;
        socket.bind(index)?;
        Ok(socket)
    }

    fn bind(&self, index: u32) -> io::Result<()> {
        // SAFETY: `sockaddr_ll` is made of integers, for which all zero bytes are a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as i32;
        // SAFETY: the kernel reads as many bytes of `address` as it has, and keeps no pointer to it.
        let result = unsafe {
            libc::bind(
                self.0.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Frames come in from now on.
    pub(super) fn let_in(&self) -> io::Result<()> {
        match self.set(libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0_i32) {
            // There was none.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Frames are kept away from now on.
    pub(super) fn keep_out(&self) {
        if let Err(error) = self.filter() {
            tracing::warn!(%error, "frames cannot be kept out; they are read when this host serves again");
        }
    }

    fn filter(&self) -> io::Result<()> {
        // A program of one instruction: take nothing of it.
        let code = (libc::BPF_RET | libc::BPF_K) as u16;
        let mut nothing = libc::sock_filter { code, jt: 0, jf: 0, k: 0 };
        let program = libc::sock_fprog { len: 1, filter: &raw mut nothing };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// Frames that the kernel has dropped since it was asked last.
    pub(super) fn take_drops(&self) -> u32 {
        let mut statistics = Statistics::default();
        let mut len = size_of::<Statistics>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes into `statistics`, which is that long, and the length that it used.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut len,
            )
        };
        if result == 0 { statistics.drops } else { 0 }
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: the kernel reads `size_of::<T>()` bytes of `value`, and, of a filter, the program that it names, which is alive
        // for the call; it keeps copies.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
