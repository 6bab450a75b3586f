//! Addresses for programs that must know them beforehand.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::registry::BenchError;

/// Below those that the kernel draws for who asks for any.
const PORTS: Range<u16> = 10_000..30_000;

/// One whose UDP and TCP port, and the UDP port above it, nobody has: a node listens for its peer by UDP, for the peer's
/// supervisor by TCP, and for heartbeats by UDP on the port behind it.
///
/// It stays free until it is used: all of 127.0.0.0/8 is loopback, so each process has an address of its own there. A port
/// that the kernel drew and that is given back may be drawn by somebody else in between.
pub(crate) fn free_address() -> Result<SocketAddr, BenchError> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Process ids have 22 bits at most.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = [127, 128 | high, middle, low];
    let mut refused = None;
    for _ in PORTS.step_by(2) {
        let port = PORTS.start + NEXT.fetch_add(2, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        let [at, above] = [port, port + 1].map(|port| SocketAddr::from((ip, port)));
        match is_free(at, above) {
            Ok(()) => return Ok(at),
            Err(error) => refused = Some(error),
        }
    }
    Err(BenchError::setup("find a free address")(refused.expect("there are ports")))
}

fn is_free(at: SocketAddr, above: SocketAddr) -> io::Result<()> {
    TcpListener::bind(at)?;
    UdpSocket::bind(at)?;
    UdpSocket::bind(above)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Goal: none is given twice, and none can be drawn by who asks the kernel for any port.
    #[test]
    fn nobody_else_comes_by_one() {
        let all: HashSet<_> = (0..100).map(|_| free_address().expect("there are many")).collect();
        assert_eq!(all.len(), 100);
        let drawn = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let drawn = drawn.expect("Linux says");
        let first: u16 = drawn.split_whitespace().next().and_then(|n| n.parse().ok()).expect("two");
        assert!(all.iter().all(|at| at.port() + 1 < first), "{first} {all:?}");
        assert!(all.iter().all(|at| at.ip() != std::net::Ipv4Addr::LOCALHOST), "{all:?}");
    }
}
