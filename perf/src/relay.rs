//! The network between two nodes, as far as it can be had on one machine: whatever one sends to the other passes here, and is
//! counted.
//!
//! ```text
//!   node a ──► the peer that it knows │ count │ ──► node b
//!          ◄──                        │       │ ◄── the peer that it knows
//! ```
//!
//! A datagram is received as a network would carry it, also where its sender gave the kernel many at once.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::sys::socket::{setsockopt, sockopt};

/// In front of each datagram on the wire: IPv4 20, UDP 8.
pub(crate) const HEADER_BYTES: u64 = 28;

/// What Ethernet carries of UDP.
pub(crate) const PAYLOAD_BYTES_MAX: u16 = 1_500 - HEADER_BYTES as u16;

/// Room for what comes while the relay does not get the processor: a lost packet is sent again, and counts twice.
const SOCKET_BYTES: usize = 8 << 20;

/// Two sockets, and a thread for each direction. Dropping it ends them.
pub(crate) struct Relay {
    sockets: [Arc<UdpSocket>; 2],
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

/// What has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) datagrams: u64,
    /// Headers of IP and UDP among them.
    pub(crate) bytes: u64,
}

impl Passed {
    /// Between an earlier look and this one.
    pub(crate) fn since(self, earlier: Passed) -> Passed {
        Passed { datagrams: self.datagrams - earlier.datagrams, bytes: self.bytes - earlier.bytes }
    }
}

impl Relay {
    /// Between two addresses, of which nobody need listen yet.
    pub(crate) fn between(ends: [SocketAddr; 2]) -> io::Result<Self> {
        let sockets = [open()?, open()?];
        let mut relay = Relay { sockets, shared: Arc::default(), threads: Vec::new() };
        for (side, name) in ["relay-ab", "relay-ba"].into_iter().enumerate() {
            let [from, to] = [side, 1 - side].map(|side| Arc::clone(&relay.sockets[side]));
            let (end, shared) = (ends[1 - side], Arc::clone(&relay.shared));
            let pass = move || pass(&from, &to, end, &shared);
            relay.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(pass)?);
        }
        Ok(relay)
    }

    /// What end `side` takes for the address of the other one.
    pub(crate) fn peer_of(&self, side: usize) -> io::Result<SocketAddr> {
        self.sockets[side].local_addr()
    }

    /// In both directions since it began.
    pub(crate) fn passed(&self) -> Passed {
        let datagrams = self.shared.datagrams.load(Ordering::Relaxed);
        let payload = self.shared.bytes.load(Ordering::Relaxed);
        Passed { datagrams, bytes: payload + datagrams * HEADER_BYTES }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            // Whoever sleeps there hears of it.
            let _ = socket.local_addr().and_then(|own| socket.send_to(&[], own));
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn open() -> io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BYTES).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BYTES);
    }
    Ok(Arc::new(socket))
}

fn pass(from: &UdpSocket, to: &UdpSocket, end: SocketAddr, shared: &Shared) {
    let mut datagram = [0; 1 << 16];
    loop {
        let received = from.recv_from(&mut datagram);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        // What is refused is lost, as a network loses it: nobody may listen there yet.
        let Ok((bytes, _)) = received else { continue };
        shared.datagrams.fetch_add(1, Ordering::Relaxed);
        shared.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let _ = to.send_to(&datagram[..bytes], end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each end hears the other from the address that it sends to, and everything is counted once.
    #[test]
    fn what_passes_is_counted() {
        let ends = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("loopback"));
        let address = |side: usize| ends[side].local_addr().expect("it is bound");
        let relay = Relay::between([address(0), address(1)]).expect("loopback");
        for (side, text) in [(0, &b"there"[..]), (1, b"and back")] {
            let peer = relay.peer_of(side).expect("it is bound");
            ends[side].send_to(text, peer).expect("the relay listens");
            let mut heard = [0; 64];
            let (bytes, from) = ends[1 - side].recv_from(&mut heard).expect("it passes");
            assert_eq!(&heard[..bytes], text);
            assert_eq!(from, relay.peer_of(1 - side).expect("it is bound"));
        }
        assert_eq!(relay.passed(), Passed { datagrams: 2, bytes: 13 + 2 * HEADER_BYTES });
    }
}
