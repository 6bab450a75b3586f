//! The client of a service, bare or ours.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hotpair_ioports::{Family, Receiver};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::bare::BATCH;
use super::{PACKET_BYTES, Together};
use crate::registry::BenchError;

/// A packet that is not answered by then is lost, as UDP may lose it; it is sent again, and its time runs on.
const ANSWER_MS: u64 = 200;

/// A service that has not answered by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// What fails if it does not.
const EXCHANGE: &str = "exchange packets with the service";

/// A socket, and the number of its last packet.
pub(super) struct Client {
    socket: UdpSocket,
    to: SocketAddr,
    number: u32,
    buffers: Vec<[u8; PACKET_BYTES]>,
}

impl Client {
    /// Waits until the service answers.
    pub(super) fn connect(to: SocketAddr) -> Result<Self, BenchError> {
        let connect = || -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            socket.set_read_timeout(Some(Duration::from_millis(ANSWER_MS)))?;
            Ok(socket)
        };
        let socket = connect().map_err(BenchError::setup("bind a UDP socket"))?;
        let buffers = vec![[0; PACKET_BYTES]; BATCH];
        let mut client = Client { socket, to, number: 0, buffers };
        client.round_trip()?;
        Ok(client)
    }

    /// Sends a packet and sleeps until its answer is there.
    pub(super) fn round_trip(&mut self) -> Result<(), BenchError> {
        self.number = self.number.wrapping_add(1);
        let packet = packet(0, self.number);
        let begun = Instant::now();
        loop {
            match self.socket.send_to(&packet, self.to) {
                Ok(_) if self.answered(&packet).map_err(BenchError::setup(EXCHANGE))? => {
                    return Ok(());
                }
                Ok(_) => {}
                // What listened there before, or does not yet.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(BenchError::setup(EXCHANGE)(error)),
            }
            if begun.elapsed() > PATIENCE {
                return Err(BenchError::setup(EXCHANGE)(format!(
                    "no answer from {} within {PATIENCE:?}",
                    self.to
                )));
            }
        }
    }

    /// Whether the answer comes; older ones, of packets that were taken for lost, are passed over.
    fn answered(&mut self, packet: &[u8]) -> std::io::Result<bool> {
        let mut answer = [0; PACKET_BYTES];
        loop {
            match self.socket.recv_from(&mut answer) {
                Ok((bytes, _)) if &answer[..bytes] == packet => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps `window` packets of `sessions` under way for so long, and waits for the last of them: how many came back, in which
    /// time.
    pub(super) fn flood(
        &mut self,
        sessions: u32,
        window: usize,
        time: Duration,
        together: Together,
    ) -> Result<(u64, Duration), BenchError> {
        let failed = || BenchError::setup(EXCHANGE);
        let is_together = together == Together::Yes;
        setsockopt(&self.socket, sockopt::UdpGroSegment, &is_together).map_err(failed())?;
        let mut sender = together.sender(Family::of(&self.to));
        let mut receiver = Receiver::new(BATCH);
        let (mut under_way, mut back) = (0_usize, 0_u64);
        let begun = Instant::now();
        loop {
            let over = begun.elapsed() >= time;
            if over && under_way == 0 {
                return Ok((back, begun.elapsed()));
            }
            let room = if over { 0 } else { (window - under_way).min(BATCH) };
            // Small batches would cost more than they bring, for either service.
            if room == BATCH || (room > 0 && under_way == 0) {
                let number = self.number;
                let packets: Vec<_> = (0..room as u32)
                    .map(|at| packet(number.wrapping_add(at) % sessions, number.wrapping_add(at)))
                    .collect();
                let packets = packets.iter().map(|packet| (&packet[..], self.to));
                let sent = sender
                    .send(self.socket.as_fd(), packets)
                    .map_err(BenchError::setup(EXCHANGE))?;
                self.number = number.wrapping_add(sent as u32);
                under_way += sent;
            }
            let buffers = self.buffers.iter_mut().map(|buffer| &mut buffer[..]);
            match receiver.receive(self.socket.as_fd(), buffers) {
                Ok(received) => {
                    // All are as long, whether they came together or not.
                    let count = received.map(|one| one.len.div_ceil(PACKET_BYTES)).sum::<usize>();
                    back += count as u64;
                    under_way = under_way.saturating_sub(count);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(BenchError::setup(EXCHANGE)(error)),
            }
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, ANSWER_MS as u16) {
                // The rest is lost, as UDP may lose it.
                Ok(0) => under_way = 0,
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(BenchError::setup(EXCHANGE)(errno)),
            }
        }
    }
}

/// `session:32 | number:32 | zeros`
fn packet(session: u32, number: u32) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[..4].copy_from_slice(&session.to_le_bytes());
    packet[4..8].copy_from_slice(&number.to_le_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the client counts what comes back, and is not held up by what does not.
    #[test]
    fn packets_are_counted_and_lost_ones_are_not_waited_for() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let to = server.local_addr().expect("it is bound");
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; PACKET_BYTES];
            let mut seen = 0_u32;
            // A short packet ends it.
            while let Ok((PACKET_BYTES, from)) = server.recv_from(&mut buffer) {
                seen += 1;
                if seen != 40 {
                    server.send_to(&buffer, from).expect("loopback");
                }
            }
            seen
        });
        let mut client = Client::connect(to).expect("it answers");
        let (count, lasted) =
            client.flood(8, 64, Duration::from_millis(20), Together::No).expect("it answers");
        client.round_trip().expect("nothing is left in the way");
        client.socket.send_to(b"end", to).expect("loopback");
        let seen = echo.join().expect("it ends");
        assert_eq!(count + 3, u64::from(seen), "all but one, and two round trips: {lasted:?}");
    }
}
