//! Serving the register: few clients, small frames, nobody waited for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{FRAME_BYTES_MAX, PROTOCOL, Register, decode_question, encode_answer};
use crate::pace::Pace;
use crate::pki::Expect;
use crate::protocol::{NodeId, View};
use crate::tls::{
    Channel, ChannelError, Credentials, Limits, ListenError, Listener, PATIENCE, Serve,
};

/// Of each node: one, older ones that nobody has noticed to be dead, and tools.
const CONNECTIONS_MAX: usize = 8;
/// Questions of one node in a second, on all its connections together; a failover asks a handful. Who
/// asks more waits, so that its writes to disk do not stand in the other node's way.
const QUESTIONS_PER_SECOND: u32 = 100;
/// Clients ask every few seconds even if they want nothing; one that does not is gone.
const IDLE: Duration = Duration::from_secs(30);

/// A running witness. Dropping it stops it.
#[derive(Debug)]
pub struct WitnessServer {
    register: SharedRegister,
    listener: Listener,
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
    ) -> Result<Self, ListenError> {
        let tls = credentials
            .server_config(Expect::any_node(), PROTOCOL)
            .map_err(|source| ListenError::Tls { source })?;
        let limits = Limits { per_member: CONNECTIONS_MAX, frame_bytes: FRAME_BYTES_MAX };
        let register =
            SharedRegister { register: Arc::new(Mutex::new(register)), paces: Arc::default() };
        let listener = Listener::start(address, tls, limits, register.clone())?;
        Ok(Self { register, listener })
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

    /// The view it would answer with now.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        self.register.lock().view()
    }
}

#[derive(Clone, Debug)]
struct SharedRegister {
    register: Arc<Mutex<Register>>,
    paces: Arc<Mutex<HashMap<NodeId, Pace>>>,
}

impl SharedRegister {
    /// A panic while the lock was held left nothing half-done: the register decides before it writes.
    fn lock(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a question of `node` has to wait.
    fn wait_of(&self, node: NodeId) -> Duration {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        paces.entry(node).or_insert_with(|| Pace::new(QUESTIONS_PER_SECOND)).take(Instant::now())
    }
}

impl Serve for SharedRegister {
    fn serve(&self, _number: u64, mut channel: Channel) -> Result<(), ChannelError> {
        let Some(node) = NodeId::of_member(&channel.peer().member) else { return Ok(()) };
        loop {
            let frame = channel.receive(Instant::now() + IDLE, PATIENCE)?;
            let question = match decode_question(&frame) {
                Ok(question) => question,
                Err(error) => {
                    tracing::warn!(peer = %channel.peer(), %error, "dropped a client");
                    return Ok(());
                }
            };
            thread::sleep(self.wait_of(node));
            let answer = self.lock().answer(node, &question);
            if let Err(error) = &answer {
                tracing::error!(%error, source = %error.source, "the view is not durable");
            }
            let frame = encode_answer(question.id, answer.as_ref().ok());
            channel.send(&frame, Instant::now() + PATIENCE)?;
        }
    }
}
