//! Frames over TLS over TCP, with a deadline on everything: for witness and tripwire.
//!
//! Both are small and rare conversations on threads of their own, so the calls block. A frame is a
//! length (u32, little endian) and that many bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::peer_of;
use crate::pki::{Identity, IdentityError};

const LENGTH_BYTES: usize = 4;

/// Until when the calls of a conversation may take.
pub type Deadline = Instant;

/// Why a conversation over a channel ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The other end closed, or its kernel did for it.
    #[error("the other end closed the connection")]
    Closed,
    /// Nothing, or not all of a frame, came in time.
    #[error("no answer in time")]
    TimedOut,
    /// Frames have a limit, so that nobody can make us allocate.
    #[error("a frame of {bytes} bytes, at most {limit} are accepted")]
    TooLarge {
        /// What the frame's header says.
        bytes: u64,
        /// What this end accepts.
        limit: usize,
    },
    /// The other end is not whom we want to talk to.
    #[error("refused the other end")]
    Refused {
        /// Why.
        source: IdentityError,
    },
    /// Encryption or handshake failed; also how the other end refuses us.
    #[error("TLS failed")]
    Tls {
        /// What the library said.
        source: rustls::Error,
    },
    /// The network failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ChannelError {
    fn io(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io { action, source },
        }
    }

    fn tls(source: rustls::Error) -> Self {
        match crate::pki::refusal(&source) {
            Some(reason) => Self::Refused { source: reason.clone() },
            None => Self::Tls { source },
        }
    }
}

/// An authenticated connection that carries frames of at most a fixed size.
#[derive(Debug)]
pub struct Channel {
    tcp: TcpStream,
    tls: Connection,
    peer: Identity,
    frame_bytes_max: usize,
    /// Decrypted and not yet taken: at most one frame and one TLS record.
    received: Vec<u8>,
}

impl Channel {
    /// Dials and shakes hands.
    ///
    /// # Errors
    /// [`ChannelError::Refused`] when the other end is not the one that `config` expects.
    pub fn connect(
        to: SocketAddr,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        frame_bytes_max: usize,
        deadline: Deadline,
    ) -> Result<Self, ChannelError> {
        let left = left(deadline).map_err(ChannelError::io("connect"))?;
        let tcp = TcpStream::connect_timeout(&to, left).map_err(ChannelError::io("connect"))?;
        let tls = ClientConnection::new(config, name).map_err(ChannelError::tls)?;
        Self::shake_hands(tcp, tls.into(), frame_bytes_max, deadline)
    }

    /// Shakes hands with somebody who dialled.
    ///
    /// # Errors
    /// [`ChannelError::Refused`] when the other end is not one that `config` expects.
    pub fn accept(
        tcp: TcpStream,
        config: Arc<ServerConfig>,
        frame_bytes_max: usize,
        deadline: Deadline,
    ) -> Result<Self, ChannelError> {
        let tls = ServerConnection::new(config).map_err(ChannelError::tls)?;
        Self::shake_hands(tcp, tls.into(), frame_bytes_max, deadline)
    }

    fn shake_hands(
        tcp: TcpStream,
        mut tls: Connection,
        frame_bytes_max: usize,
        deadline: Deadline,
    ) -> Result<Self, ChannelError> {
        tcp.set_nodelay(true).map_err(ChannelError::io("configure the socket"))?;
        notice_lost_hosts(&tcp);
        let mut timed = Timed { tcp: &tcp, deadline };
        while tls.is_handshaking() {
            pump(&mut tls, &mut timed)?;
        }
        // The last flight of a dialling end, and alerts, are still inside.
        flush(&mut tls, &mut timed)?;
        let peer =
            peer_of(tls.peer_certificates()).map_err(|source| ChannelError::Refused { source })?;
        Ok(Self { tcp, tls, peer, frame_bytes_max, received: Vec::new() })
    }

    /// Who is on the other end.
    #[must_use]
    pub fn peer(&self) -> &Identity {
        &self.peer
    }

    /// A second handle to the socket, to shut it down from another thread.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn socket(&self) -> io::Result<TcpStream> {
        self.tcp.try_clone()
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// After any error the connection is in the middle of a frame and must be dropped.
    pub fn send(&mut self, frame: &[u8], deadline: Deadline) -> Result<(), ChannelError> {
        let length =
            u32::try_from(frame.len()).ok().filter(|_| frame.len() <= self.frame_bytes_max);
        let Some(length) = length else {
            return Err(ChannelError::TooLarge {
                bytes: frame.len() as u64,
                limit: self.frame_bytes_max,
            });
        };
        let mut writer = self.tls.writer();
        writer
            .write_all(&length.to_le_bytes())
            .and_then(|()| writer.write_all(frame))
            .map_err(ChannelError::io("encrypt"))?;
        flush(&mut self.tls, &mut Timed { tcp: &self.tcp, deadline })
    }

    /// Sends bytes that need not be a frame, as only a hostile end would.
    #[cfg(test)]
    pub(crate) fn send_raw(
        &mut self,
        bytes: &[u8],
        deadline: Deadline,
    ) -> Result<(), ChannelError> {
        self.tls.writer().write_all(bytes).map_err(ChannelError::io("encrypt"))?;
        flush(&mut self.tls, &mut Timed { tcp: &self.tcp, deadline })
    }

    /// Waits for one frame: for its first byte until `begin`, then at most `rest` for all of it, so
    /// that nobody holds a thread by sending one byte at a time.
    ///
    /// # Errors
    /// [`ChannelError::TimedOut`] leaves the connection usable only while no frame has begun; to be
    /// safe, drop it.
    pub fn receive(&mut self, begin: Deadline, rest: Duration) -> Result<Vec<u8>, ChannelError> {
        let mut deadline = begin;
        let mut begun = false;
        loop {
            if !begun && !self.received.is_empty() {
                begun = true;
                deadline = Instant::now() + rest;
            }
            if let Some(frame) = self.take_frame()? {
                return Ok(frame);
            }
            pump(&mut self.tls, &mut Timed { tcp: &self.tcp, deadline })?;
            self.take_plain()?;
        }
    }

    fn take_frame(&mut self) -> Result<Option<Vec<u8>>, ChannelError> {
        let Some((length, rest)) = self.received.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_le_bytes(*length) as usize;
        if bytes > self.frame_bytes_max {
            return Err(ChannelError::TooLarge {
                bytes: bytes as u64,
                limit: self.frame_bytes_max,
            });
        }
        let Some(frame) = rest.get(..bytes) else {
            return Ok(None);
        };
        let frame = frame.to_vec();
        self.received.drain(..LENGTH_BYTES + bytes);
        Ok(Some(frame))
    }

    fn take_plain(&mut self) -> Result<(), ChannelError> {
        let mut piece = [0; 4096];
        loop {
            match self.tls.reader().read(&mut piece) {
                Ok(0) => return Err(ChannelError::Closed),
                Ok(bytes) => self.received.extend_from_slice(&piece[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The kernel closed for a process that did not say good-bye.
                Err(error) => return Err(ChannelError::io("read")(error)),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

/// These conversations are silent for days, and a host that is lost sends no FIN: without this its
/// connection would take up a thread for ever.
fn notice_lost_hosts(tcp: &TcpStream) {
    // Each is best effort: a kernel that refuses costs a thread, not correctness.
    let _ = setsockopt(tcp, sockopt::KeepAlive, &true);
    let _ = setsockopt(tcp, sockopt::TcpKeepIdle, &5);
    let _ = setsockopt(tcp, sockopt::TcpKeepInterval, &2);
    let _ = setsockopt(tcp, sockopt::TcpKeepCount, &3);
}

/// Sends what waits to be sent, then waits once for more to arrive.
fn pump(tls: &mut Connection, timed: &mut Timed<'_>) -> Result<(), ChannelError> {
    flush(tls, timed)?;
    if tls.wants_read() {
        match tls.read_tls(timed).map_err(ChannelError::io("read"))? {
            0 if tls.is_handshaking() => return Err(ChannelError::Closed),
            _ => {}
        }
        if let Err(error) = tls.process_new_packets() {
            // The alert that tells the other end why; it may be gone.
            let _ = flush(tls, timed);
            return Err(ChannelError::tls(error));
        }
    }
    Ok(())
}

fn flush(tls: &mut Connection, timed: &mut Timed<'_>) -> Result<(), ChannelError> {
    while tls.wants_write() {
        tls.write_tls(timed).map_err(ChannelError::io("write"))?;
    }
    Ok(())
}

/// A socket each of whose calls ends at the deadline, however slowly bytes trickle.
struct Timed<'t> {
    tcp: &'t TcpStream,
    deadline: Deadline,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(Some(left(self.deadline)?))?;
        retry(|| (&mut &*self.tcp).read(buffer))
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(Some(left(self.deadline)?))?;
        retry(|| (&mut &*self.tcp).write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn left(deadline: Deadline) -> io::Result<Duration> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err(io::ErrorKind::TimedOut.into()),
    }
}
