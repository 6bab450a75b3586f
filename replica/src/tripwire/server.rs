//! The node's end: listens for the peer's supervisor, and for its silence of death.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{FRAME_BYTES, PROTOCOL};
use crate::heartbeat::priority;
use crate::pki::Expect;
use crate::tls::{
    Channel, ChannelError, Credentials, Limits, ListenError, Listener, PATIENCE, Serve,
};

/// One supervisor; and its older connections, whose end nobody has noticed yet.
const CONNECTIONS_MAX: usize = 4;
/// A supervisor says nothing for days. A dead host is the heartbeats' business.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// What the peer's kernel and supervisor have to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripwireEvent {
    /// The peer's supervisor is connected: its death will be noticed.
    Armed,
    /// The kernel closed the connection of the peer's supervisor, whose death its node does not survive.
    SupervisorGone,
    /// The peer's supervisor saw its node die.
    NodeDied {
        /// Which one, so that a late notice is not taken for the death of its successor.
        launch: u64,
    },
}

/// Listens for the peer's supervisor. Dropping it closes its connection.
#[derive(Debug)]
pub struct TripwireServer {
    listener: Listener,
}

struct Wire<F> {
    /// The newest connection: only its end means anything.
    newest: AtomicU64,
    events: Mutex<F>,
}

impl TripwireServer {
    /// Starts to listen. `peer` is the one node whose supervisor is believed.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(
        address: SocketAddr,
        credentials: &Credentials,
        peer: &str,
        events: impl FnMut(TripwireEvent) + Send + 'static,
    ) -> Result<Self, ListenError> {
        let tls = credentials
            .server_config(Expect::node(peer), PROTOCOL)
            .map_err(|source| ListenError::Tls { source })?;
        let limits = Limits { per_member: CONNECTIONS_MAX, frame_bytes: FRAME_BYTES };
        let wire = Wire { newest: AtomicU64::new(0), events: Mutex::new(events) };
        Ok(Self { listener: Listener::start(address, tls, limits, wire)? })
    }

    /// Where it listens; the port is a real one even if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    #[cfg(test)]
    pub(crate) fn listener(&self) -> &Listener {
        &self.listener
    }
}

impl<F: FnMut(TripwireEvent) + Send + 'static> Wire<F> {
    fn tell(&self, event: TripwireEvent) {
        if let Ok(mut events) = self.events.lock() {
            events(event);
        }
    }
}

impl<F: FnMut(TripwireEvent) + Send + 'static> Serve for Wire<F> {
    fn serve(&self, number: u64, mut channel: Channel) -> Result<(), ChannelError> {
        // It sleeps for days, and then it is the first to know.
        if let Err(error) = priority::raise() {
            tracing::debug!(%error, "the tripwire is watched without real-time priority");
        }
        self.newest.fetch_max(number, Ordering::SeqCst);
        self.tell(TripwireEvent::Armed);
        loop {
            match channel.receive(Instant::now() + FOREVER, PATIENCE) {
                Ok(frame) => {
                    let Ok(launch) = frame.try_into().map(u64::from_le_bytes) else {
                        return Ok(());
                    };
                    self.tell(TripwireEvent::NodeDied { launch });
                }
                Err(error) => {
                    if matches!(error, ChannelError::Closed)
                        && self.newest.load(Ordering::SeqCst) == number
                    {
                        self.tell(TripwireEvent::SupervisorGone);
                    }
                    return Err(error);
                }
            }
        }
    }
}
