//! Getting connected: dialling or answering until there is a connection with a preface on it.

use std::error::Error;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, Incoming, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::LinkConfig;
use crate::heartbeat::HeartbeatKeys;
use crate::pace::Pace;
use crate::pki;

/// The first bytes on the stream: whoever changes the frames changes the versions in the hello, not this and not the name in TLS.
const MAGIC: [u8; 8] = *b"hotpair\n";
const PREFACE_BYTES: usize = 16;

/// Handshake and prefaces: a few round trips. The library's own retries grow further and further
/// apart, so a peer that has just started is found sooner by a fresh attempt.
const ATTEMPT: Duration = Duration::from_millis(400);
const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(200);
/// After a refusal that no retry will cure, such as another pair's certificate.
const RETRY_REFUSED: Duration = Duration::from_secs(5);
/// Handshakes under way at once; all but one are of no use to anybody honest.
const HANDSHAKES_MAX: usize = 4;
/// Of them, those of whoever dials from another address than the peer's, where one is enough.
const STRANGERS_MAX: usize = 2;
/// Handshakes a second that the peer's address may begin. One costs this node's loop a millisecond.
const PEER_PER_SECOND: u32 = 40;
/// The same for all other addresses together: the peer behind a translated address, or nobody honest.
const STRANGERS_PER_SECOND: u32 = 10;
/// Refusals are told so often, with how many there were.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("cannot dial")]
    Dial(#[from] quinn::ConnectError),
    #[error("no connection")]
    Connection(#[from] ConnectionError),
    #[error("no preface: {0}")]
    Preface(String),
    #[error("no answer within {ATTEMPT:?}")]
    TimedOut,
    #[error("no key for heartbeats")]
    Export,
}

impl AttemptError {
    /// Whether the other end, or we, turned the connection down for who it is.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Connection(ConnectionError::TransportError(error)) => is_crypto(error.code),
            Self::Connection(ConnectionError::ConnectionClosed(close)) => {
                is_crypto(close.error_code)
            }
            Self::Connection(ConnectionError::VersionMismatch) => true,
            _ => false,
        }
    }
}

fn is_crypto(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

/// What the task that connects has to say.
pub(super) enum News {
    Established(Box<Established>),
    /// So many connections were refused, by one end or the other, since the last time; and why.
    Refused {
        count: u64,
        reason: String,
    },
}

/// Refusals that were not told yet.
#[derive(Default)]
struct Refusals {
    count: u64,
    reason: String,
    told_at: Option<Instant>,
}

impl Refusals {
    fn note(&mut self, reason: String) {
        self.count += 1;
        self.reason = reason;
    }

    /// Tells of them, unless it did a moment ago or nobody listens at the moment.
    fn tell(&mut self, to: &mpsc::Sender<News>) {
        let told_lately = self.told_at.is_some_and(|at| at.elapsed() < TELL_EVERY);
        if self.count == 0 || told_lately {
            return;
        }
        let news = News::Refused { count: self.count, reason: self.reason.clone() };
        if to.try_send(news).is_ok() {
            *self = Self { told_at: Some(Instant::now()), ..Self::default() };
        }
    }

    /// When there will be something to tell.
    fn due(&self) -> Option<Instant> {
        let told_at = self.told_at.filter(|_| self.count > 0)?;
        Some(told_at + TELL_EVERY)
    }
}

/// A connection on which both prefaces were read.
pub(super) struct Established {
    pub(super) quic: Connection,
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    pub(super) launch: u64,
    pub(super) keys: Box<HeartbeatKeys>,
}

#[derive(Clone)]
pub(super) struct Connector {
    pub(super) endpoint: Endpoint,
    /// Our own name, and the name under which TLS knows the peer.
    pub(super) member: String,
    pub(super) server_name: String,
    pub(super) config: LinkConfig,
    pub(super) tell: mpsc::Sender<News>,
}

impl Connector {
    /// Dials until there is one connection, or answers for ever; either after a pause.
    pub(super) fn start(&self, pause: Duration) -> JoinHandle<()> {
        let connector = self.clone();
        tokio::spawn(async move {
            if connector.config.dials {
                sleep(pause).await;
                connector.dial().await;
            } else {
                connector.answer(Instant::now() + pause).await;
            }
        })
    }

    async fn dial(self) {
        let (mut pause, mut refusals) = (RETRY_MIN, Refusals::default());
        loop {
            match timeout(ATTEMPT, self.dial_once()).await.unwrap_or(Err(AttemptError::TimedOut)) {
                Ok(established) => {
                    // Fails only when the link itself is gone.
                    let _ = self.tell.send(News::Established(Box::new(established))).await;
                    return;
                }
                Err(error) if error.is_refusal() => {
                    refusals.note(chain(&error));
                    refusals.tell(&self.tell);
                    sleep(RETRY_REFUSED).await;
                }
                // A peer that is not there yet is no news.
                Err(error) => tracing::debug!(%error, peer = %self.config.peer, "not connected"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn dial_once(&self) -> Result<Established, AttemptError> {
        let quic = self.endpoint.connect(self.config.peer, &self.server_name)?.await?;
        let (send, recv) = quic.open_bi().await?;
        self.exchange(quic, send, recv).await
    }

    /// Answers for ever. Before `open_at` whoever dials is turned away.
    ///
    /// Whoever dials costs a handshake before it has shown who it is, on the thread that serves the pair:
    /// so there are few at once and few a second, and fewer for those who are not where the peer is.
    async fn answer(self, open_at: Instant) {
        let mut handshakes = JoinSet::new();
        let mut refusals = Refusals::default();
        let mut paces = [Pace::new(PEER_PER_SECOND), Pace::new(STRANGERS_PER_SECOND)];
        let mut strangers = 0;
        loop {
            let due = refusals.due();
            tokio::select! {
                incoming = self.endpoint.accept() => {
                    let Some(incoming) = incoming else { return };
                    let stranger = incoming.remote_address() != self.config.peer;
                    let crowded = handshakes.len() >= HANDSHAKES_MAX
                        || stranger && strangers >= STRANGERS_MAX;
                    let now = Instant::now();
                    if now < open_at || crowded || !paces[usize::from(stranger)].try_take(now.into_std()) {
                        incoming.ignore();
                        if now >= open_at {
                            refusals.note("too many attempts to connect".to_owned());
                            refusals.tell(&self.tell);
                        }
                        continue;
                    }
                    strangers += usize::from(stranger);
                    let connector = self.clone();
                    handshakes.spawn(async move {
                        let done = timeout(ATTEMPT * 2, connector.answer_once(incoming)).await;
                        (stranger, done.unwrap_or(Err(AttemptError::TimedOut)))
                    });
                }
                Some(Ok((stranger, done))) = handshakes.join_next() => {
                    strangers -= usize::from(stranger);
                    match done {
                        Ok(established) => {
                            let _ =
                                self.tell.send(News::Established(Box::new(established))).await;
                        }
                        Err(error) if error.is_refusal() => {
                            refusals.note(chain(&error));
                            refusals.tell(&self.tell);
                        }
                        Err(error) => tracing::debug!(%error, "a handshake came to nothing"),
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or(open_at)), if due.is_some() => {
                    refusals.tell(&self.tell);
                }
            }
        }
    }

    async fn answer_once(&self, incoming: Incoming) -> Result<Established, AttemptError> {
        let quic = incoming.await?;
        let (send, recv) = quic.accept_bi().await?;
        self.exchange(quic, send, recv).await
    }

    async fn exchange(
        &self,
        quic: Connection,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Result<Established, AttemptError> {
        let mut preface = [0; PREFACE_BYTES];
        preface[..8].copy_from_slice(&MAGIC);
        preface[8..].copy_from_slice(&self.config.launch.to_le_bytes());
        let lost = |error: &dyn Error| match quic.close_reason() {
            Some(reason) => AttemptError::Connection(reason),
            None => AttemptError::Preface(error.to_string()),
        };
        send.write_all(&preface).await.map_err(|error| lost(&error))?;
        recv.read_exact(&mut preface).await.map_err(|error| lost(&error))?;
        let [magic, launch] = [&preface[..8], &preface[8..]];
        if magic != MAGIC {
            return Err(AttemptError::Preface(format!("{magic:02x?} where {MAGIC:02x?} belongs")));
        }
        let launch = u64::from_le_bytes(launch.try_into().expect("8 of 16 bytes"));
        let keys =
            HeartbeatKeys::derive(&self.member, &self.config.peer_member, |out, label, context| {
                quic.export_keying_material(out, label, context)
            })
            .map_err(|_| AttemptError::Export)?;
        Ok(Established { quic, send, recv, launch, keys: Box::new(keys) })
    }
}

/// The whole text of an error.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    pki::without_wrapping(&text)
}
