//! The connection to the peer: one ordered stream for frames, datagrams for what may be lost.
//!
//! ```text
//!   node-a                                                      node-b
//!   dials ───────────── QUIC, TLS 1.3, both certificates ─────► answers
//!         ───────────── preface: magic, launch number ────────►
//!         ◄───────────────────────────────────────────────────
//!         ◄════════════ frames, in order, on the same stream ═►   batches, chunks
//!         ◄ ─ ─ ─ ─ ─ ─ datagrams ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ►   acks: the newest says all
//! ```
//!
//! One of the two dials, by configuration, so that there is never more than one connection. A new
//! one replaces the old one: the peer that made it has given the old one up.
//!
//! A [`Link`] moves bytes and decides nothing. It runs on a current-thread runtime: what is sent in
//! a turn of the node's loop is encrypted and on the wire before that thread sleeps again.

mod connect;
mod links;
pub mod remote;
mod socket;
mod tuning;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, Endpoint, ReadError, WriteError};
use rkyv::util::AlignedVec;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use crate::bundle::ConversationEnd;
use crate::heartbeat::HeartbeatKeys;
use crate::pki;
use crate::protocol::ConnectionId;
use crate::tls::Credentials;
use crate::wire::{FrameReader, SharedFrame, WireError};
use connect::{Connector, Established, News};
pub use links::{LINKS_MAX, LinkReport, Links};

/// How long a connection that is given up may take to deliver what was written.
const LINGER: Duration = Duration::from_millis(200);
/// As much of the stream as is taken at once: larger than a datagram, smaller than a batch.
const READ_BYTES_MAX: usize = 256 << 10;
/// Acks that are read before the stream is looked at again: a flood of them must not hide a batch.
const DATAGRAMS_IN_A_ROW: u32 = 16;
/// The largest frame comes through a narrow link in this time. One that does not end holds its memory.
const FRAME_WITHIN: Duration = Duration::from_secs(30);

/// What a link needs to know.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Where this node listens (UDP).
    pub listen: SocketAddr,
    /// Where the peer listens.
    pub peer: SocketAddr,
    /// Name of the peer in its certificate.
    pub peer_member: String,
    /// Whether this node dials. Exactly one of the two does.
    pub dials: bool,
    /// Number of this start of the node, for the peer's tripwire.
    pub launch: u64,
    /// Largest UDP payload, where the network is known to carry more than the internet does.
    pub mtu: Option<u16>,
    /// Whether it is one of several, which make one conversation: both ends must think so.
    pub several: bool,
}

/// Why a link could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The address is taken, or not ours.
    #[error("cannot listen on UDP {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The credentials do not make an endpoint.
    #[error("cannot connect with these credentials")]
    Tls {
        /// What the library said.
        source: rustls::Error,
    },
}

/// Something that happened on the link.
#[derive(Debug)]
pub enum LinkEvent {
    /// A connection to the peer was made. An older one is gone.
    Up {
        /// Its number.
        connection: ConnectionId,
        /// Which start of the peer this is.
        launch: u64,
        /// Keys for heartbeats, bound to this connection.
        keys: Box<HeartbeatKeys>,
        /// Whom it is with.
        remote: SocketAddr,
    },
    /// A whole frame, unchecked.
    Frame {
        /// Where it came from.
        connection: ConnectionId,
        /// Header and body.
        frame: AlignedVec,
    },
    /// A datagram, unchecked.
    Datagram {
        /// Where it came from.
        connection: ConnectionId,
        /// What it holds.
        bytes: Bytes,
    },
    /// Connections were refused, by this end or the other, for who is on them.
    Refused {
        /// How many since the last time.
        count: u64,
        /// Why the last one.
        reason: String,
    },
    /// The connection is gone, not because of [`Link::disconnect`].
    Down {
        /// Which one.
        connection: ConnectionId,
        /// Why.
        reason: DownReason,
    },
    /// A link is part of the conversation. Only where there are several; counted from 0, in the configured order.
    Joined {
        /// Which one.
        link: usize,
    },
    /// A link is part of it no more, and is dialled again; the conversation goes on while there is another.
    Lost {
        /// Which one.
        link: usize,
        /// Why.
        reason: String,
    },
    /// Frames leave on this link from here on.
    InUse {
        /// Which one.
        link: usize,
        /// Frames that were sent again, for want of receipts.
        again: usize,
    },
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownReason {
    /// The transport says so.
    #[error("the connection is lost")]
    Lost(#[from] ConnectionError),
    /// The peer ended the stream.
    #[error("the peer ended the stream")]
    Ended,
    /// The stream cannot be cut into frames.
    #[error("the stream makes no sense")]
    Wire(#[from] WireError),
    /// The peer made a new connection.
    #[error("the peer connected anew")]
    Replaced,
    /// A conversation over several links is over.
    #[error("the conversation is over")]
    Conversation(#[from] ConversationEnd),
    /// The peer began a frame and did not end it.
    #[error("{bytes} bytes of a frame came, and no end of it within {within:?}")]
    Unfinished {
        /// What there is of it.
        bytes: usize,
        /// How long it was waited for.
        within: Duration,
    },
}

/// A live connection.
struct Live {
    id: ConnectionId,
    quic: Connection,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    reader: FrameReader,
    /// When the frame began that is under way.
    begun: Option<Instant>,
    datagrams_in_a_row: u32,
    /// Not yet taken by the transport; bounded by the window of the protocol core.
    outbox: VecDeque<Bytes>,
}

/// This node's end of the connection to its peer, for as long as the node lives.
pub struct Link {
    endpoint: Endpoint,
    connector: Connector,
    news: mpsc::Receiver<News>,
    connecting: JoinHandle<()>,
    live: Option<Live>,
    ready: VecDeque<LinkEvent>,
    connections: u64,
    frame_within: Duration,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("live", &self.live.as_ref().map(|live| live.id)).finish()
    }
}

/// A link's settings on loopback, for benches of a bare connection beside it.
#[doc(hidden)]
pub mod bare {
    use super::*;

    /// Largest UDP payload.
    pub const MTU: u16 = tuning::LOOPBACK_MTU;

    /// The transport's settings.
    #[must_use]
    pub fn transport() -> quinn::TransportConfig {
        tuning::transport(Some(MTU))
    }

    /// A socket on loopback, with the buffers of a link's.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn socket() -> io::Result<std::net::UdpSocket> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        tuning::enlarge_buffers(&socket);
        Ok(socket)
    }
}

impl Link {
    /// Binds the socket and starts to dial or to answer. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound or the credentials are of no use.
    pub fn start(config: LinkConfig, credentials: &Credentials) -> Result<Self, LinkError> {
        let endpoint = tuning::endpoint(&config, credentials)?;
        let (tell, news) = mpsc::channel(1);
        let connector = Connector {
            endpoint: endpoint.clone(),
            member: credentials.identity().member.clone(),
            server_name: pki::server_name(&config.peer_member, credentials.cluster()),
            config,
            tell,
        };
        let connecting = connector.start(Duration::ZERO);
        Ok(Self {
            endpoint,
            connector,
            news,
            connecting,
            live: None,
            ready: VecDeque::new(),
            connections: 0,
            frame_within: FRAME_WITHIN,
        })
    }

    /// Where this end listens; the port is a real one even if 0 was asked for.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// What was received together with an event of [`next`](Self::next) and needs no waiting.
    pub fn next_ready(&mut self) -> Option<LinkEvent> {
        self.ready.pop_front()
    }

    /// Waits for the next event, and meanwhile writes what was queued. Cancel-safe: nothing that
    /// was received is lost, and nothing is written twice.
    pub async fn next(&mut self) -> LinkEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            let Some(live) = &mut self.live else {
                if let Some(news) = self.news.recv().await {
                    self.hear(news);
                }
                continue;
            };
            let connection = live.id;
            let flooded = live.datagrams_in_a_row >= DATAGRAMS_IN_A_ROW;
            let frame_until = live.begun.map(|begun| begun + self.frame_within);
            let ended: DownReason = tokio::select! {
                biased;
                written = live.send.write_chunks(live.outbox.make_contiguous()),
                    if !live.outbox.is_empty() =>
                {
                    match written {
                        Ok(written) => {
                            live.outbox.drain(..written.chunks);
                            continue;
                        }
                        Err(WriteError::ConnectionLost(error)) => error.into(),
                        Err(_) => DownReason::Ended,
                    }
                }
                Some(news) = self.news.recv() => {
                    self.hear(news);
                    continue;
                }
                datagram = live.quic.read_datagram(), if !flooded => match datagram {
                    Ok(bytes) => {
                        live.datagrams_in_a_row += 1;
                        return LinkEvent::Datagram { connection, bytes };
                    }
                    Err(error) => error.into(),
                },
                chunk = live.recv.read_chunk(READ_BYTES_MAX, true) => match chunk {
                    Ok(Some(chunk)) => {
                        live.datagrams_in_a_row = 0;
                        match Self::cut(live, &chunk.bytes, &mut self.ready) {
                            Ok(()) => continue,
                            Err(error) => error.into(),
                        }
                    }
                    Ok(None) => DownReason::Ended,
                    Err(ReadError::ConnectionLost(error)) => error.into(),
                    Err(_) => DownReason::Ended,
                },
                // Nothing on the stream: on with the datagrams.
                () = std::future::ready(()), if flooded => {
                    live.datagrams_in_a_row = 0;
                    continue;
                }
                () = sleep_until(frame_until), if frame_until.is_some() => {
                    let bytes = live.reader.held();
                    DownReason::Unfinished { bytes, within: self.frame_within }
                }
            };
            self.drop_live();
            self.reconnect_after(Duration::ZERO);
            return LinkEvent::Down { connection, reason: ended };
        }
    }

    /// Queues a frame for the stream. Of no effect when that connection is gone.
    pub fn send_frame(&mut self, connection: ConnectionId, frame: SharedFrame) {
        if let Some(live) = self.live.as_mut().filter(|live| live.id == connection) {
            live.outbox.push_back(Bytes::from_owner(frame));
        }
    }

    /// Sends a datagram. Of no effect when that connection is gone: datagrams may be lost.
    pub fn send_datagram(&mut self, connection: ConnectionId, bytes: Vec<u8>) {
        if let Some(live) = self.live.as_ref().filter(|live| live.id == connection)
            && let Err(error) = live.quic.send_datagram(bytes.into())
        {
            tracing::debug!(%error, "a datagram was not sent");
        }
    }

    /// Ends a connection once what was queued for it is delivered, and makes no other before
    /// `retry_after` is over. No [`LinkEvent::Down`] follows.
    pub fn disconnect(&mut self, connection: ConnectionId, retry_after: Duration) {
        let Some(mut live) = self.live.take_if(|live| live.id == connection) else { return };
        self.ready.clear();
        tokio::spawn(async move {
            let deliver = async {
                live.send.write_all_chunks(live.outbox.make_contiguous()).await.ok()?;
                live.send.finish().ok()?;
                live.send.stopped().await.ok()
            };
            let _ = tokio::time::timeout(LINGER, deliver).await;
            live.quic.close(0u8.into(), b"given up");
        });
        self.reconnect_after(retry_after);
    }

    /// Makes no connection before `retry_after` is over, if there is none.
    fn pause(&mut self, retry_after: Duration) {
        if self.live.is_none() {
            self.reconnect_after(retry_after);
        }
    }

    /// Ends the connection and tells the peer, who would otherwise find out by a timeout.
    pub async fn close(mut self) {
        self.connecting.abort();
        self.drop_live();
        let _ = tokio::time::timeout(LINGER, self.endpoint.wait_idle()).await;
    }

    /// The smoothed round trip time of the live connection.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.live.as_ref().map(|live| live.quic.rtt())
    }

    /// Cuts a piece of the stream into events.
    fn cut(
        live: &mut Live,
        mut bytes: &[u8],
        ready: &mut VecDeque<LinkEvent>,
    ) -> Result<(), WireError> {
        while let Some(frame) = live.reader.push(&mut bytes)? {
            ready.push_back(LinkEvent::Frame { connection: live.id, frame });
            live.begun = None;
        }
        if live.reader.held() > 0 && live.begun.is_none() {
            live.begun = Some(Instant::now());
        }
        Ok(())
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Refused { count, reason } => {
                self.ready.push_back(LinkEvent::Refused { count, reason });
            }
            News::Established(established) => {
                if let Some(live) = &self.live {
                    let (connection, reason) = (live.id, DownReason::Replaced);
                    self.ready.push_back(LinkEvent::Down { connection, reason });
                    self.drop_live();
                }
                self.adopt(*established);
            }
        }
    }

    fn adopt(&mut self, established: Established) {
        self.connections += 1;
        let id = ConnectionId(self.connections);
        self.ready.push_back(LinkEvent::Up {
            connection: id,
            launch: established.launch,
            keys: established.keys,
            remote: established.quic.remote_address(),
        });
        self.live = Some(Live {
            id,
            quic: established.quic,
            send: established.send,
            recv: established.recv,
            reader: FrameReader::new(),
            begun: None,
            datagrams_in_a_row: 0,
            outbox: VecDeque::new(),
        });
    }

    fn drop_live(&mut self) {
        if let Some(live) = self.live.take() {
            live.quic.close(0u8.into(), b"");
        }
    }

    fn reconnect_after(&mut self, pause: Duration) {
        // One that answers keeps answering, unless it is told to pause.
        if self.connector.config.dials || !pause.is_zero() {
            self.connecting.abort();
            self.connecting = self.connector.start(pause);
        }
    }
}

/// Until a moment; for ever where there is none.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connecting.abort();
        self.drop_live();
        self.endpoint.close(0u8.into(), b"stopped");
    }
}

#[cfg(test)]
mod tests;
