//! The UDP socket of a node, as the QUIC library wants it, with as few wake-ups as can be.
//!
//! The library's own socket is watched for room to send as well. On loopback, and wherever the peer or
//! the card frees a packet later than it was sent, the kernel then wakes the sender for each packet only to
//! say that there is room again: a wake-up for every packet, on both hosts. Here room is watched only
//! while there is none. And a receive that did not fill all buffers has emptied the socket: there is no
//! second one just to be told so.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::watch::watch;

/// See the module.
pub(super) struct Socket {
    io: AsyncFd<OwnedFd>,
    address: SocketAddr,
    state: UdpSocketState,
    /// The last attempt to send found no room.
    full: AtomicBool,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("io", &self.io).finish_non_exhaustive()
    }
}

impl Socket {
    /// To be called inside a tokio runtime.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            address: socket.local_addr()?,
            state: UdpSocketState::new((&socket).into())?,
            io: watch(socket.into(), Interest::READABLE)?,
            full: AtomicBool::new(false),
        })
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, watch: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        if let Err(error) = &sent
            && error.kind() == io::ErrorKind::WouldBlock
        {
            self.full.store(true, Ordering::Relaxed);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut readable = ready!(self.io.poll_read_ready(cx))?;
            let received =
                readable.try_io(|io| self.state.recv(io.get_ref().into(), buffers, meta));
            if let Ok(received) = received {
                if received.as_ref().is_ok_and(|count| *count < buffers.len()) {
                    // Whatever has come since then is an event that was not taken yet.
                    readable.clear_ready();
                }
                return Poll::Ready(received);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// Waits for room to send: the kernel is asked to tell only while there is none.
#[derive(Debug)]
struct Room {
    socket: Arc<Socket>,
    watch: Option<AsyncFd<OwnedFd>>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.socket.full.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        if self.watch.is_none() {
            // A descriptor of its own: one can be watched only once.
            let own = self.socket.io.get_ref().try_clone()?;
            self.watch = Some(watch(own, Interest::WRITABLE)?);
        }
        if let Some(watch) = &self.watch {
            let _room = ready!(watch.poll_write_ready(cx))?;
        }
        self.watch = None;
        self.socket.full.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use nix::sys::socket::{setsockopt, sockopt};
    use quinn::udp::EcnCodepoint;

    use super::*;

    fn transmit(to: SocketAddr, contents: &[u8]) -> Transmit<'_> {
        let ecn = Some(EcnCodepoint::Ect0);
        Transmit { destination: to, ecn, contents, segment_size: None, src_ip: None }
    }

    async fn receive(socket: &Socket, buffer: &mut [u8]) -> usize {
        let mut meta = [RecvMeta::default()];
        let one = |cx: &mut Context<'_>| {
            socket.poll_recv(cx, &mut [IoSliceMut::new(&mut *buffer)], &mut meta)
        };
        assert_eq!(poll_fn(one).await.expect("loopback"), 1);
        meta[0].len
    }

    fn loopback() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").expect("a free port")
    }

    fn run(test: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().expect("a runtime").block_on(test);
    }

    /// Goal: a receive that emptied the socket does not miss what comes next.
    #[test]
    fn each_packet_arrives_whenever_it_comes() {
        run(async {
            let (a, b) = (Socket::new(loopback()), Socket::new(loopback()));
            let (a, b) = (a.expect("a socket"), b.expect("a socket"));
            let to = b.local_addr().expect("bound");
            let mut buffer = [0; 64];
            for burst in [1, 2, 5, 1] {
                for size in 1..=burst {
                    a.try_send(&transmit(to, &[7; 64][..size])).expect("room");
                }
                for size in 1..=burst {
                    assert_eq!(receive(&b, &mut buffer).await, size);
                }
                tokio::task::yield_now().await;
            }
        });
    }

    /// Goal: who found no room is woken when there is some again. A datagram that waits in its receiver's
    /// queue counts as unsent on this kind of socket.
    #[test]
    fn a_full_socket_says_when_there_is_room() {
        run(async {
            let (near, far) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
            near.set_nonblocking(true).expect("a flag");
            setsockopt(&near, sockopt::SndBuf, &4096).expect("small");
            while near.send(&[0; 512]).is_ok() {}
            let mut full = Socket::new(loopback()).expect("a socket");
            full.io = watch(near.into(), Interest::READABLE).expect("watched");
            full.full.store(true, Ordering::Relaxed);
            let mut room = Arc::new(full).create_io_poller();
            let waits = poll_fn(|cx| Poll::Ready(room.as_mut().poll_writable(cx).is_pending()));
            assert!(waits.await, "there is none");
            far.set_nonblocking(true).expect("a flag");
            while far.recv(&mut [0; 512]).is_ok() {}
            poll_fn(|cx| room.as_mut().poll_writable(cx)).await.expect("room");
        });
    }
}
