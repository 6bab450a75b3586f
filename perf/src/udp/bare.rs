//! The limits: the plainest services that answer the same packets.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use hotpair_ioports::{Family, Receiver, Sender};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};

use super::{PACKET_BYTES, Together};
use crate::helper::obey_asleep;
use crate::page::Page;
use crate::registry::BenchError;

/// Packets of one system call, as a port has it.
pub(super) const BATCH: usize = 32;

/// What fails if there is no socket.
const BIND: &str = "bind a UDP socket";

/// A helper's part, `ADDRESS apart`: answers one packet after the other, and sleeps in the call that receives.
pub(crate) fn answer(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let (socket, _) = bind(arguments)?;
    aside(move || {
        let mut buffer = [0; PACKET_BYTES];
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((bytes, from)) => drop(socket.send_to(&buffer[..bytes], from)?),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    })?;
    obey_asleep(page)
}

/// A helper's part, `ADDRESS together|apart`: receives and sends as many as there are with one call each, and sleeps when there
/// are none.
pub(crate) fn turn_round(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let (socket, together) = bind(arguments)?;
    let address = socket.local_addr().map_err(BenchError::setup(BIND))?;
    if together == Together::Yes {
        setsockopt(&socket, sockopt::UdpGroSegment, &true).map_err(BenchError::setup(BIND))?;
        aside(move || turn_round_together(&socket))?;
        return obey_asleep(page);
    }
    aside(move || {
        let (mut receiver, mut sender) =
            (Receiver::new(BATCH), Sender::new(BATCH, Family::of(&address)));
        let mut buffers = vec![[0; PACKET_BYTES]; BATCH];
        let mut answers: Vec<(usize, SocketAddr)> = Vec::with_capacity(BATCH);
        loop {
            answers.clear();
            let room = buffers.iter_mut().map(|buffer| &mut buffer[..]);
            match receiver.receive(socket.as_fd(), room) {
                Ok(received) => {
                    answers.extend(received.filter_map(|one| Some((one.len, one.source?))));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                    poll(&mut fds, PollTimeout::NONE)?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            let packets = buffers.iter().zip(&answers);
            let packets = packets.map(|(buffer, (bytes, to))| (&buffer[..*bytes], *to));
            // What the kernel has no room for is lost, as UDP may lose it.
            sender.send(socket.as_fd(), packets).map_err(io::Error::other)?;
        }
    })?;
    obey_asleep(page)
}

/// What has come together goes back together, as it lies.
fn turn_round_together(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut control = nix::cmsg_space!(libc::c_int);
    loop {
        let mut room = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::empty();
        let got =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut room, Some(&mut control), flags);
        let got = match got {
            Ok(got) => got,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let (bytes, from) = (got.bytes, got.address);
        let segment = got.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::UdpGroSegments(bytes) => u16::try_from(bytes).ok(),
            _ => None,
        });
        let cut = segment.as_ref().map(ControlMessage::UdpGsoSegments);
        let payload = [IoSlice::new(&buffer[..bytes])];
        sendmsg(socket.as_raw_fd(), &payload, cut.as_slice(), flags, from.as_ref())?;
    }
}

fn bind(arguments: &[String]) -> Result<(UdpSocket, Together), BenchError> {
    let [address, together] = arguments else {
        return Err(BenchError::setup(BIND)("its address and way are not given"));
    };
    let socket = UdpSocket::bind(address).map_err(BenchError::setup(BIND))?;
    Ok((socket, Together::from_argument(together)))
}

/// Works in a thread that ends with the process. If it ends before, the client hears nothing more, and says so.
fn aside(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), BenchError> {
    let thread = std::thread::Builder::new().name("bare".to_owned());
    thread.spawn(work).map(drop).map_err(BenchError::setup("start a thread"))
}
