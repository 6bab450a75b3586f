//! Ports for programs that must know their addresses beforehand.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::registry::BenchError;

/// Keeps what it gave until it is dropped, so that it gives nothing twice; from then on it was free a moment ago.
#[derive(Default)]
pub(crate) struct FreePorts(Vec<(TcpListener, UdpSocket, UdpSocket)>);

impl FreePorts {
    /// One of loopback that nobody has by TCP or UDP: a node listens for its peer by UDP, for the peer's supervisor by TCP, and
    /// for heartbeats by UDP on the port behind it.
    pub(crate) fn take(&mut self) -> Result<SocketAddr, BenchError> {
        self.find().map_err(BenchError::setup("find a free port"))
    }

    fn find(&mut self) -> std::io::Result<SocketAddr> {
        loop {
            let tcp = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            let address = tcp.local_addr()?;
            let behind = SocketAddr::new(address.ip(), address.port().wrapping_add(1));
            if let [Ok(one), Ok(other)] = [UdpSocket::bind(address), UdpSocket::bind(behind)] {
                self.0.push((tcp, one, other));
                return Ok(address);
            }
        }
    }
}
