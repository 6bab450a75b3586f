//! The thread of a remote worker that moves bytes: a connection for each address of each node, kept warm.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hotpair_replica::quic::remote;
use hotpair_replica::tls::Credentials;
use quinn::{ConnectionError, Endpoint, RecvStream, SendStream};
use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout, timeout_at};

use super::RemoteConfig;
use super::session::{PathId, Session};
use super::silence::{LOOK_EVERY, Silence};
use crate::remote::wire::{FRAME_BYTES_MAX, Frames, WireError};

const ATTEMPT: Duration = Duration::from_millis(500);
const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(200);
/// After a refusal, which a retry hardly cures: the first pause, and the longest.
const REFUSED_MIN: Duration = Duration::from_millis(100);
const REFUSED_MAX: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 256 << 10;
/// How long the last frames may take.
const LINGER: Duration = Duration::from_millis(200);

/// What a worker and its thread share.
pub(super) struct Shared {
    session: Mutex<Session>,
    /// Something has come for who waits.
    news: Condvar,
    /// The same, for who waits in `poll`: one end is readable then.
    bell: OnceLock<(UnixDatagram, UnixDatagram)>,
    writers: Vec<Notify>,
    stop: Notify,
}

impl Shared {
    pub(super) fn new(session: Session, paths: usize) -> Arc<Self> {
        let writers = (0..paths).map(|_| Notify::new()).collect();
        Arc::new(Self {
            session: Mutex::new(session),
            news: Condvar::new(),
            bell: OnceLock::new(),
            writers,
            stop: Notify::new(),
        })
    }

    /// The state machine. What was asked of it is written when the guard of [`with`](Self::with) is gone.
    fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the state machine, and wakes the writers that have something to do.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Session) -> T) -> T {
        let (result, speakers) = {
            let mut session = self.lock();
            let result = act(&mut session);
            (result, session.take_speakers())
        };
        speakers.into_iter().for_each(|path| self.writers[path].notify_one());
        result
    }

    /// Waits until `look` finds something; `None` after `limit`.
    pub(super) fn wait<T>(
        &self,
        limit: Option<Duration>,
        mut look: impl FnMut(&mut Session) -> Option<T>,
    ) -> Option<T> {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut session = self.lock();
        loop {
            let found = look(&mut session);
            session.take_speakers().into_iter().for_each(|path| self.writers[path].notify_one());
            if found.is_some() {
                return found;
            }
            let left = match until {
                Some(until) => until.checked_duration_since(Instant::now())?,
                None => Duration::from_secs(1),
            };
            let waited = self.news.wait_timeout(session, left);
            session = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Wakes whoever waits.
    pub(super) fn wake(&self) {
        self.news.notify_all();
        if let Some((ringing, _)) = self.bell.get() {
            let _ = ringing.send(&[1]); // full: it is readable already
        }
    }

    /// The bell, if somebody has opened it.
    pub(super) fn bell(&self) -> Option<&UnixDatagram> {
        self.bell.get().map(|(_, rung)| rung)
    }

    /// Readable after [`wake`](Self::wake), until it is read. Who opens it looks before he waits.
    pub(super) fn open_bell(&self) -> io::Result<UnixDatagram> {
        if self.bell.get().is_none() {
            let (ringing, rung) = UnixDatagram::pair()?;
            ringing.set_nonblocking(true)?;
            rung.set_nonblocking(true)?;
            let _ = self.bell.set((ringing, rung)); // whoever was quicker has made one as good
        }
        self.bell.get().expect("set above, once and for ever").1.try_clone()
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.stop.notify_one();
    }
}

/// An address, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct To {
    pub(super) member: String,
    pub(super) address: SocketAddr,
}

/// The body of the thread.
pub(super) fn run(config: &RemoteConfig, paths: Vec<To>, shared: &Arc<Shared>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let mut tasks = Vec::new();
        let (stop, stopped) = watch::channel(false);
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let silence = Silence::new(paths.iter().map(|to| to.member.clone()).collect());
        let connections: Connections = Rc::new(RefCell::new(vec![None; paths.len()]));
        for (path, to) in paths.into_iter().enumerate() {
            let endpoint = remote::client(source_for(to.address.ip()), &config.credentials)
                .map_err(|error| io::Error::other(error.to_string()))?;
            endpoints.push(endpoint.clone());
            let keeper = Keeper {
                path,
                to,
                endpoint,
                credentials: config.credentials.clone(),
                shared: Arc::clone(shared),
                stopped: stopped.clone(),
                connections: Rc::clone(&connections),
                keep_alive: silence.has_sibling(path).then_some(LOOK_EVERY),
            };
            tasks.push(tokio::task::spawn_local(keeper.keep()));
        }
        // It looks for ever: it ends with the runtime.
        if silence.is_of_use() {
            drop(tokio::task::spawn_local(leave_silent_paths(silence, connections)));
        }
        shared.stop.notified().await;
        // What was just given back is written, and the gateway has taken it, before the connections go.
        stop.send_replace(true);
        let until = tokio::time::Instant::now() + LINGER;
        for task in &mut tasks {
            if timeout_at(until, &mut *task).await.is_err() {
                task.abort();
            }
        }
        for endpoint in &endpoints {
            endpoint.close(0u8.into(), b"the worker stops");
        }
        for endpoint in &endpoints {
            let _ = timeout(LINGER, endpoint.wait_idle()).await;
        }
        Ok(())
    })
}

/// Of each path, the connection.
type Connections = Rc<RefCell<Vec<Option<quinn::Connection>>>>;

/// Closes connections by which nothing comes while another one to the same node is heard: neither end speaks on them again, so
/// what the gateway says there of this program's new connection is not heard as if it were meant for that.
async fn leave_silent_paths(mut silence: Silence, connections: Connections) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let connections = connections.borrow();
        let of = |connection: &Option<quinn::Connection>| {
            connection.as_ref().map(|connection| connection.stats().udp_rx.datagrams)
        };
        let datagrams: Vec<Option<u64>> = connections.iter().map(of).collect();
        for path in silence.look(&datagrams) {
            if let Some(connection) = &connections[path] {
                tracing::debug!(gateway = %connection.remote_address(), "a silent path is left");
                connection.close(0u8.into(), b"silent");
            }
        }
    }
}

/// Any port, of the family and, on loopback, of the host itself.
fn source_for(to: IpAddr) -> SocketAddr {
    let any: IpAddr = match to {
        IpAddr::V4(_) if to.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, 0)
}

/// Whether a connection has ended because the other side does not accept the certificate; and its words.
fn unwanted(reason: &ConnectionError) -> Option<String> {
    // Alerts of TLS, as codes of QUIC: RFC 9001, section 4.8.
    const ALERTS: std::ops::Range<u64> = 0x100..0x200;
    match reason {
        ConnectionError::ConnectionClosed(close) => {
            let alert = ALERTS.contains(&u64::from(close.error_code));
            alert.then(|| format!("it does not accept this worker's certificate ({reason})"))
        }
        _ => None,
    }
}

/// Keeps one path.
struct Keeper {
    path: PathId,
    to: To,
    endpoint: Endpoint,
    credentials: Credentials,
    shared: Arc<Shared>,
    /// The worker stops.
    stopped: watch::Receiver<bool>,
    connections: Connections,
    /// Shorter than usual, where the path is one of several to its node.
    keep_alive: Option<Duration>,
}

impl Keeper {
    async fn keep(self) {
        let this = Rc::new(self);
        let mut stopped = this.stopped.clone();
        let (mut pause, mut refused_pause) = (RETRY_MIN, REFUSED_MIN);
        loop {
            let connected = tokio::select! {
                connected = timeout(ATTEMPT, this.connect()) => connected,
                _ = stopped.wait_for(|&stopped| stopped) => return,
            };
            let refused = match connected {
                Ok(Ok((connection, send, recv))) => {
                    this.connections.borrow_mut()[this.path] = Some(connection.clone());
                    this.shared.with(|session| session.connected(this.path));
                    let writing = tokio::task::spawn_local(Rc::clone(&this).write(send));
                    let ended = this.read(recv).await;
                    writing.abort();
                    this.connections.borrow_mut()[this.path] = None;
                    // Closing it makes this the reason.
                    let reason = connection.close_reason();
                    connection.close(0u8.into(), b"");
                    let (welcomed, mut refused) =
                        this.shared.with(|session| session.lost(this.path));
                    if welcomed {
                        pause = RETRY_MIN;
                    }
                    // A gateway judges certificates when its worker believes to be connected already.
                    if let Some(text) = reason.as_ref().and_then(unwanted) {
                        this.shared.with(|session| session.unwanted(this.path, &text));
                        refused = true;
                    }
                    this.shared.wake();
                    if let Err(error) = &ended {
                        tracing::warn!(gateway = %this.to.address, %error, "the gateway makes no sense");
                    }
                    refused || ended.is_err()
                }
                Ok(Err(error)) => {
                    tracing::debug!(gateway = %this.to.address, error, "not connected");
                    let refused = error.contains("certificate");
                    if refused {
                        this.shared.with(|session| session.unwanted(this.path, &error));
                        this.shared.wake();
                    }
                    refused
                }
                Err(_) => false,
            };
            // Nobody is asked again and again what he has refused.
            let wait = if refused { refused_pause } else { pause };
            if refused {
                refused_pause = (refused_pause * 2).min(REFUSED_MAX);
            } else {
                refused_pause = REFUSED_MIN;
                pause = (pause * 2).min(RETRY_MAX);
            }
            tokio::select! {
                () = sleep(wait) => {}
                _ = stopped.wait_for(|&stopped| stopped) => return,
            }
        }
    }

    async fn connect(&self) -> Result<(quinn::Connection, SendStream, RecvStream), String> {
        let To { member, address } = &self.to;
        let connecting =
            remote::dial(&self.endpoint, &self.credentials, *address, member, self.keep_alive)
                .map_err(|error| error.to_string())?;
        let connection = connecting.await.map_err(|error| error.to_string())?;
        let (send, recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
        Ok((connection, send, recv))
    }

    async fn read(&self, mut recv: RecvStream) -> Result<(), WireError> {
        let mut frames = Frames::new(FRAME_BYTES_MAX);
        while let Ok(Some(chunk)) = recv.read_chunk(READ_BYTES, true).await {
            let news = self.shared.with(|session| {
                frames.push(&chunk.bytes, |frame| session.handle(self.path, frame))?;
                Ok::<_, WireError>(session.take_news())
            })?;
            if news {
                self.shared.wake();
            }
        }
        Ok(())
    }

    async fn write(self: Rc<Self>, mut send: SendStream) {
        let mut stopped = self.stopped.clone();
        loop {
            let out = self.shared.with(|session| session.take_out(self.path));
            if !out.is_empty() {
                if send.write_chunk(out.into()).await.is_err() {
                    return;
                }
                continue;
            }
            if *stopped.borrow() {
                // The gateway ends the connection when it has read to the end.
                let _ = send.finish();
                return std::future::pending().await;
            }
            tokio::select! {
                () = self.shared.writers[self.path].notified() => {}
                _ = stopped.changed() => {}
            }
        }
    }
}
