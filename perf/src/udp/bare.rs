//! The limits: the plainest services that answer the same packets.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use hotpair_ioports::{Family, Receiver, Sender};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::PACKET_BYTES;
use crate::helper::obey_asleep;
use crate::page::Page;
use crate::registry::BenchError;

/// Packets of one system call, as a port has it.
pub(super) const BATCH: usize = 32;

/// What fails if there is no socket.
const BIND: &str = "bind a UDP socket";

/// A helper's part, `ADDRESS`: answers one packet after the other, and sleeps in the call that receives.
pub(crate) fn answer(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let socket = bind(arguments)?;
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

/// A helper's part, `ADDRESS`: receives and sends as many as there are with one call each, and sleeps when there are none.
pub(crate) fn turn_round(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let socket = bind(arguments)?;
    let address = socket.local_addr().map_err(BenchError::setup(BIND))?;
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

fn bind(arguments: &[String]) -> Result<UdpSocket, BenchError> {
    let [address] = arguments else {
        return Err(BenchError::setup(BIND)("its address is not given"));
    };
    UdpSocket::bind(address).map_err(BenchError::setup(BIND))
}

/// Works in a thread that ends with the process. If it ends before, the client hears nothing more, and says so.
fn aside(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), BenchError> {
    let thread = std::thread::Builder::new().name("bare".to_owned());
    thread.spawn(work).map(drop).map_err(BenchError::setup("start a thread"))
}
