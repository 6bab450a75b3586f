//! Answering channels: a thread for each of a few clients, and an end to all of them on drop.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket;
use rustls::ServerConfig;

use super::{Channel, ChannelError};
use crate::pki::MEMBERS;

/// A handshake, or the rest of a frame that has begun, takes no longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Clients that have not shown who they are. Beyond it the oldest of them goes: a member needs
/// milliseconds to introduce itself, and whoever only takes up room is older than that.
const STRANGERS_MAX: usize = 8;
/// Trouble with clients is told so often; what happened in between is counted.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a listener allows its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections of one member. Beyond it its oldest goes, and nobody else's.
    pub(crate) per_member: usize,
    pub(crate) frame_bytes: usize,
}

impl Limits {
    /// Threads at most: all members that there can be, strangers, and as many again that were told to
    /// go and have not yet.
    fn clients(self) -> usize {
        2 * (self.per_member * MEMBERS.len() + STRANGERS_MAX)
    }
}

/// Why nobody can be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address is taken, or not ours.
    #[error("cannot listen on TCP {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The credentials do not make a server.
    #[error("cannot answer with these credentials")]
    Tls {
        /// What the library said.
        source: rustls::Error,
    },
}

/// Has a conversation with one client until it is over.
pub(crate) trait Serve: Send + Sync + 'static {
    /// `number` grows with each client that was accepted.
    fn serve(&self, number: u64, channel: Channel) -> Result<(), ChannelError>;
}

/// A listening socket and the threads behind it. Dropping it ends every conversation.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    socket: TcpListener,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    clients: Mutex<HashMap<u64, Client>>,
    stopping: AtomicBool,
    tls: Arc<ServerConfig>,
    limits: Limits,
    trouble: Mutex<Trouble>,
}

#[derive(Debug)]
struct Client {
    tcp: TcpStream,
    thread: JoinHandle<()>,
    /// Who it is, once it has shown that.
    member: Option<String>,
}

/// Clients that were turned away or dropped.
#[derive(Debug, Default)]
struct Trouble {
    count: u64,
    untold: u64,
    told_at: Option<Instant>,
}

impl Listener {
    pub(crate) fn start(
        address: SocketAddr,
        tls: ServerConfig,
        limits: Limits,
        serve: impl Serve,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Listen { address, source };
        let socket = TcpListener::bind(address).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        let accepting_on = socket.try_clone().map_err(failed)?;
        let shared = Arc::new(Shared {
            clients: Mutex::default(),
            stopping: AtomicBool::new(false),
            tls: Arc::new(tls),
            limits,
            trouble: Mutex::default(),
        });
        let accepting = thread::Builder::new()
            .name("accept".to_owned())
            .spawn({
                let (shared, serve) = (Arc::clone(&shared), Arc::new(serve));
                move || shared.accept(&accepting_on, &serve)
            })
            .map_err(failed)?;
        Ok(Self { address: bound, socket, shared, accepting: Some(accepting) })
    }

    /// Where it listens; the port is a real one even if 0 was asked for.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many clients were turned away or dropped for what they did.
    #[cfg(test)]
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// How many there are, whoever they are.
    #[cfg(test)]
    pub(crate) fn clients(&self) -> usize {
        self.shared.clients().len()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes `accept`, which std has no call for.
        let _ = socket::shutdown(self.socket.as_raw_fd(), socket::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let clients: Vec<_> = self.shared.clients().drain().collect();
        for (_, client) in clients {
            let _ = client.tcp.shutdown(Shutdown::Both);
            let _ = client.thread.join();
        }
    }
}

impl Shared {
    fn accept<S: Serve>(self: &Arc<Self>, socket: &TcpListener, serve: &Arc<S>) {
        let mut number = 0;
        while !self.stopping.load(Ordering::SeqCst) {
            match socket.accept() {
                Ok((tcp, from)) => {
                    number += 1;
                    self.admit(number, tcp, from, serve);
                }
                // Out of descriptors, or a client that gave up: neither may end the listening.
                Err(error) if !self.stopping.load(Ordering::SeqCst) => {
                    tracing::warn!(%error, "cannot accept a client");
                    thread::sleep(Duration::from_millis(100));
                }
                Err(_) => {}
            }
        }
    }

    fn admit<S: Serve>(
        self: &Arc<Self>,
        number: u64,
        tcp: TcpStream,
        from: SocketAddr,
        serve: &Arc<S>,
    ) {
        let mut clients = self.clients();
        let limit = self.limits.clients();
        if clients.len() >= limit {
            self.tell(from, &format!("there are {limit} clients, the limit"), None);
            return;
        }
        if let Some(oldest) = oldest_beyond(&clients, None, STRANGERS_MAX - 1) {
            self.tell(from, &format!("{STRANGERS_MAX} strangers, one of them goes"), None);
            let _ = oldest.tcp.shutdown(Shutdown::Both);
        }
        let Ok(handle) = tcp.try_clone() else { return };
        let (shared, serve) = (Arc::clone(self), Arc::clone(serve));
        let thread = thread::Builder::new().name("client".to_owned()).spawn(move || {
            if let Err(error) = shared.talk(number, tcp, &*serve) {
                shared.report(from, &error);
            }
            shared.clients().remove(&number);
        });
        if let Ok(thread) = thread {
            let tcp = handle;
            clients.insert(number, Client { tcp, thread, member: None });
        }
    }

    fn talk(&self, number: u64, tcp: TcpStream, serve: &impl Serve) -> Result<(), ChannelError> {
        let (tls, bytes) = (Arc::clone(&self.tls), self.limits.frame_bytes);
        let channel = Channel::accept(tcp, tls, bytes, Instant::now() + PATIENCE)?;
        self.welcome(number, &channel.peer().member);
        serve.serve(number, channel)
    }

    /// Notes who a client is; the oldest of too many that are the same goes.
    fn welcome(&self, number: u64, member: &str) {
        let mut clients = self.clients();
        if let Some(client) = clients.get_mut(&number) {
            client.member = Some(member.to_owned());
        }
        if let Some(oldest) = oldest_beyond(&clients, Some(member), self.limits.per_member) {
            let _ = oldest.tcp.shutdown(Shutdown::Both);
        }
    }

    fn report(&self, from: SocketAddr, error: &ChannelError) {
        if matches!(error, ChannelError::Closed | ChannelError::TimedOut) {
            return;
        }
        let cause = error.source().map(ToString::to_string);
        self.tell(from, &error.to_string(), cause);
    }

    /// A flood of bad clients is one line a second, with how many there were.
    fn tell(&self, from: SocketAddr, what: &str, cause: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.count += 1;
        if trouble.told_at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            trouble.untold += 1;
            return;
        }
        let (untold, count) = (trouble.untold, trouble.count);
        tracing::warn!(%from, cause, untold, count, "dropped a client: {what}");
        trouble.untold = 0;
        trouble.told_at = Some(Instant::now());
    }

    /// Nothing is half-done where this lock is held.
    fn clients(&self) -> MutexGuard<'_, HashMap<u64, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The oldest client of a member, or that is a stranger, if there are more than `limit` of them.
fn oldest_beyond<'c>(
    clients: &'c HashMap<u64, Client>,
    member: Option<&str>,
    limit: usize,
) -> Option<&'c Client> {
    let same = || clients.iter().filter(|(_, client)| client.member.as_deref() == member);
    if same().count() <= limit {
        return None;
    }
    same().min_by_key(|(number, _)| **number).map(|(_, client)| client)
}
