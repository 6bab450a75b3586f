//! Addresses for tests whose ends must know each other's beforehand.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// One whose UDP and TCP ports nobody has, and that stays free until it is used: all of 127.0.0.0/8 is loopback, so each
/// process has an address of its own there, and the kernel gives nobody a port this low by chance.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    // Process ids have 22 bits at most.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    loop {
        let at = SocketAddr::from((
            [127, 192 | high, middle, low],
            NEXT.fetch_add(1, Ordering::Relaxed),
        ));
        if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            return at;
        }
    }
}
