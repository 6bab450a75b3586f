//! The supervisor's end: a connection to the peer's node that says all by being there.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::{FRAME_BYTES, PROTOCOL};
use crate::pki::Expect;
use crate::tls::{Channel, ChannelError, Credentials};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const SEND_WITHIN: Duration = Duration::from_millis(100);
const RETRY_MIN: Duration = Duration::from_millis(10);
/// A peer that has just come back is watched before it can be killed again: until then only its silence tells of its death.
const RETRY_MAX: Duration = Duration::from_millis(40);
/// After a refusal that no retry will cure, such as another pair's certificate.
const RETRY_REFUSED: Duration = Duration::from_secs(5);

/// A supervisor's connection to the peer's node. Dropping it closes the connection, which the peer
/// takes for the death of this side.
#[derive(Debug)]
pub struct TripwireClient {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    stop: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    channel: Option<Channel>,
}

impl Shared {
    /// Nothing is half-done where this lock is held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TripwireClient {
    /// Starts a thread that keeps a connection to the node `peer` at `address`.
    ///
    /// # Errors
    /// When the credentials are of no use, or no thread can be had.
    pub fn start(
        address: SocketAddr,
        credentials: &Credentials,
        peer: &str,
    ) -> Result<Self, ChannelError> {
        let tls = |source| ChannelError::Tls { source };
        let shared = Arc::new(Shared::default());
        let wire = Wire {
            shared: Arc::clone(&shared),
            address,
            config: Arc::new(credentials.client_config(Expect::node(peer), PROTOCOL).map_err(tls)?),
            name: credentials.server_name(peer).map_err(tls)?,
        };
        let thread = thread::Builder::new()
            .name("tripwire".to_owned())
            .spawn(move || wire.run())
            .map_err(|source| ChannelError::Io { action: "start a thread", source })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whether the peer would notice the death of this process now.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.shared.state().channel.is_some()
    }

    /// Tells the peer, from the calling thread and at once, that the node of this side is dead.
    /// Returns whether there was a connection to say it on.
    pub fn node_died(&self, launch: u64) -> bool {
        let mut state = self.shared.state();
        let Some(channel) = &mut state.channel else {
            return false;
        };
        match channel.send(&launch.to_le_bytes(), Instant::now() + SEND_WITHIN) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "the tripwire broke");
                shut(channel);
                false
            }
        }
    }
}

impl Drop for TripwireClient {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopping = true;
        if let Some(channel) = &state.channel {
            shut(channel);
        }
        drop(state);
        self.shared.stop.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Wakes the thread that waits on the connection; it will drop it.
fn shut(channel: &Channel) {
    if let Ok(tcp) = channel.socket() {
        let _ = tcp.shutdown(Shutdown::Both);
    }
}

/// Why the other end closed, if it said so: it refuses a certificate only after it was shown, when this end
/// takes the connection for good already.
fn last_words(mut channel: Channel) -> Option<ChannelError> {
    match channel.receive(Instant::now() + SEND_WITHIN, SEND_WITHIN) {
        Err(error @ (ChannelError::Tls { .. } | ChannelError::Refused { .. })) => Some(error),
        _ => None,
    }
}

struct Wire {
    shared: Arc<Shared>,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Wire {
    fn run(self) {
        let mut pause = RETRY_MIN;
        let mut complaint = String::new();
        loop {
            match self.connect() {
                Ok((channel, watched)) => {
                    let mut state = self.shared.state();
                    if state.stopping {
                        return;
                    }
                    state.channel = Some(channel);
                    drop(state);
                    self.hold(&watched);
                    let ended = self.shared.state().channel.take();
                    if let Some(error) = ended.and_then(last_words) {
                        pause = RETRY_REFUSED;
                        self.complain(&mut complaint, &error);
                    } else {
                        pause = RETRY_MIN;
                        complaint.clear();
                    }
                }
                // A peer that is not there yet is no news; one that refuses us is, once.
                Err(ChannelError::Closed | ChannelError::TimedOut | ChannelError::Io { .. }) => {}
                Err(error) => {
                    pause = RETRY_REFUSED;
                    self.complain(&mut complaint, &error);
                }
            }
            let state = self.shared.state();
            let stopping = |state: &mut State| !state.stopping;
            let (state, _) = self
                .shared
                .stop
                .wait_timeout_while(state, pause, stopping)
                .unwrap_or_else(PoisonError::into_inner);
            if state.stopping {
                return;
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Tells each reason once, not at every attempt.
    fn complain(&self, told: &mut String, error: &ChannelError) {
        let text = match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        if *told != text {
            tracing::warn!(peer = %self.address, "no tripwire: {text}");
            *told = text;
        }
    }

    fn connect(&self) -> Result<(Channel, TcpStream), ChannelError> {
        let channel = Channel::connect(
            self.address,
            Arc::clone(&self.config),
            self.name.clone(),
            FRAME_BYTES,
            Instant::now() + CONNECT_WITHIN,
        )?;
        let watched = channel
            .socket()
            .map_err(|source| ChannelError::Io { action: "watch the connection", source })?;
        Ok((channel, watched))
    }

    /// Sleeps until the connection ends. The peer never speaks, so anything to read is its end.
    fn hold(&self, watched: &TcpStream) {
        let mut fds = [PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
        while matches!(poll(&mut fds, PollTimeout::NONE), Ok(0) | Err(nix::errno::Errno::EINTR)) {}
    }
}
