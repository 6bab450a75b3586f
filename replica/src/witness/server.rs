//! Serving the register: few clients, small frames, nobody waited for.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket;
use rustls::ServerConfig;

use super::{FRAME_BYTES_MAX, PROTOCOL, Register, decode_question, encode_answer};
use crate::pki::Expect;
use crate::tls::{Channel, ChannelError, Credentials};

/// Two nodes, each with an old connection that nobody has noticed to be dead, and tools.
const CLIENTS_MAX: usize = 16;
/// A handshake, or the rest of a frame that has begun.
const PATIENCE: Duration = Duration::from_secs(2);
/// Clients ask every few seconds even if they want nothing; one that does not is gone.
const IDLE: Duration = Duration::from_secs(30);

/// Why a witness could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The credentials do not make a server.
    #[error("cannot serve with these credentials")]
    Tls {
        /// What the library said.
        source: rustls::Error,
    },
}

/// A running witness. Dropping it stops it.
#[derive(Debug)]
pub struct WitnessServer {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    register: Mutex<Register>,
    clients: Mutex<HashMap<u64, Client>>,
    next_client: AtomicU64,
    stopping: AtomicBool,
    tls: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Client {
    tcp: TcpStream,
    thread: JoinHandle<()>,
}

impl WitnessServer {
    /// Starts to serve `register` to the nodes of the pair.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(
        address: SocketAddr,
        register: Register,
        credentials: &Credentials,
    ) -> Result<Self, ServeError> {
        let tls = credentials
            .server_config(Expect::any_node(), PROTOCOL)
            .map_err(|source| ServeError::Tls { source })?;
        let listen = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let accepting_on = listener.try_clone().map_err(listen)?;
        let shared = Arc::new(Shared {
            register: Mutex::new(register),
            clients: Mutex::default(),
            next_client: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            tls: Arc::new(tls),
        });
        let accepting = thread::Builder::new()
            .name("witness".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.accept(&accepting_on)
            })
            .map_err(listen)?;
        Ok(Self {
            address: bound,
            listener,
            shared,
            accepting: Some(accepting),
        })
    }

    /// Where it listens; the port is a real one even if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The view it would answer with now.
    #[must_use]
    pub fn view(&self) -> Option<crate::protocol::View> {
        lock(&self.shared.register).view()
    }
}

impl Drop for WitnessServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes `accept`, which std has no call for.
        let _ = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let clients: Vec<_> = lock(&self.shared.clients).drain().collect();
        for (_, client) in clients {
            let _ = client.tcp.shutdown(Shutdown::Both);
            let _ = client.thread.join();
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.stopping.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((tcp, from)) => self.admit(tcp, from),
                // Out of descriptors, or a client that gave up: neither may stop the witness.
                Err(error) if !self.stopping.load(Ordering::SeqCst) => {
                    tracing::warn!(%error, "cannot accept a client");
                    thread::sleep(Duration::from_millis(100));
                }
                Err(_) => {}
            }
        }
    }

    fn admit(self: &Arc<Self>, tcp: TcpStream, from: SocketAddr) {
        let mut clients = lock(&self.clients);
        if clients.len() >= CLIENTS_MAX {
            tracing::warn!(%from, limit = CLIENTS_MAX, "too many clients, refused one");
            return;
        }
        let Ok(handle) = tcp.try_clone() else { return };
        let number = self.next_client.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(self);
        let thread = thread::Builder::new()
            .name("witness-client".to_owned())
            .spawn(move || {
                match shared.serve(tcp) {
                    Err(ChannelError::Closed | ChannelError::TimedOut) | Ok(()) => {}
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::warn!(%from, %error, cause, "dropped a client");
                    }
                }
                lock(&shared.clients).remove(&number);
            });
        if let Ok(thread) = thread {
            clients.insert(
                number,
                Client {
                    tcp: handle,
                    thread,
                },
            );
        }
    }

    fn serve(&self, tcp: TcpStream) -> Result<(), ChannelError> {
        let tls = Arc::clone(&self.tls);
        let mut channel = Channel::accept(tcp, tls, FRAME_BYTES_MAX, Instant::now() + PATIENCE)?;
        loop {
            let frame = channel.receive(Instant::now() + IDLE, PATIENCE)?;
            let (id, request) = match decode_question(&frame) {
                Ok(question) => question,
                Err(error) => {
                    tracing::warn!(peer = %channel.peer(), %error, "dropped a client");
                    return Ok(());
                }
            };
            let answer = lock(&self.register).answer(&request);
            if let Err(error) = &answer {
                tracing::error!(%error, source = %error.source, "the view is not durable");
            }
            let frame = encode_answer(id, answer.as_ref().ok());
            channel.send(&frame, Instant::now() + PATIENCE)?;
        }
    }
}

/// A panic while the lock was held left nothing half-done: the register decides before it writes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
