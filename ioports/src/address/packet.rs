//! A socket for whole Ethernet frames on one interface.
#![expect(unsafe_code, reason = "the kernel's sockaddr_ll has no safe spelling")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

#[derive(Debug)]
pub(super) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// One that sends, and is handed nothing.
    pub(super) fn sender(index: u32) -> io::Result<PacketSocket> {
        PacketSocket::open(index, 0)
    }

    /// One that is handed every ARP packet that arrives, and not those that this host sends.
    pub(super) fn arp(index: u32) -> io::Result<PacketSocket> {
        PacketSocket::open(index, libc::ETH_P_ARP as u16)
    }

    /// One that is handed every neighbour solicitation and advertisement that arrives, and nothing else of IPv6.
    pub(super) fn neighbours(index: u32) -> io::Result<PacketSocket> {
        // Of a frame: its next header, its hop limit (a router would have lowered it), and its type.
        let keep = [
            load(20),
            unless(58, 6),
            load(21),
            unless(255, 4),
            load(54),
            skip_if(135, 1),
            unless(136, 1),
            answer(u32::MAX),
            answer(0),
        ];
        // Bound to nothing yet, so nothing comes in before the filter is there.
        let socket = PacketSocket::unbound()?;
        let program = libc::sock_fprog { len: keep.len() as u16, filter: keep.as_ptr().cast_mut() };
        // SAFETY: the program points to that many instructions, which the kernel copies within the call and does not change.
        Errno::result(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        })?;
        PacketSocket::bind(socket, index, libc::ETH_P_IPV6 as u16)
    }

    fn open(index: u32, protocol: u16) -> io::Result<PacketSocket> {
        PacketSocket::bind(PacketSocket::unbound()?, index, protocol)
    }

    fn unbound() -> io::Result<OwnedFd> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Of protocol 0 until it is bound: nothing of another interface is ever handed to it.
        // SAFETY: plain numbers; the kernel answers with a descriptor or -1.
        let fd = Errno::result(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: it was opened by the line above, and is nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn bind(socket: OwnedFd, index: u32, protocol: u16) -> io::Result<PacketSocket> {
        // SAFETY: integers and arrays of integers, for which all zeroes are a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = i32::try_from(index)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no index of an interface"))?;
        // SAFETY: the address is borrowed for the call, which reads as many bytes as it has.
        Errno::result(unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        Ok(PacketSocket(socket))
    }

    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.0.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next frame that waits, cut to the buffer; none if none does.
    pub(super) fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let len = recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT).ok()?;
        buffer.get(..len)
    }
}

// Classic packet filters: an accumulator, jumps forward by so many instructions, an answer of how many bytes are kept.

/// The byte at this offset of the frame.
fn load(at: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, at, 0, 0)
}

/// Skips instructions if the byte is this one.
fn skip_if(byte: u32, skipped: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, byte, skipped, 0)
}

/// Skips instructions unless the byte is this one.
fn unless(byte: u32, skipped: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, byte, 0, skipped)
}

fn answer(kept: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, kept, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
