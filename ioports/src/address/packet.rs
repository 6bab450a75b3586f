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

    fn open(index: u32, protocol: u16) -> io::Result<PacketSocket> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Of protocol 0 until it is bound: nothing of another interface is ever handed to it.
        // SAFETY: plain numbers; the kernel answers with a descriptor or -1.
        let fd = Errno::result(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: it was opened by the line above, and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
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

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
