//! The witness as an arbiter: a connection, and one frame each way over it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::{FRAME_BYTES_MAX, FrameError, PROTOCOL, decode_answer, encode_question};
use crate::arbiter::{Arbiter, AttemptError, Question};
use crate::pki::Expect;
use crate::protocol::Answer;
use crate::tls::{Channel, ChannelError, Credentials};

/// The way to the witness.
#[derive(Debug)]
pub struct Witness {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    channel: Option<Channel>,
}

impl Witness {
    /// The witness at `address`, which is not dialled yet.
    ///
    /// # Errors
    /// When the credentials are of no use.
    pub fn new(address: SocketAddr, credentials: &Credentials) -> Result<Self, ChannelError> {
        let tls = |source| ChannelError::Tls { source };
        let config = credentials.client_config(Expect::witness(), PROTOCOL).map_err(tls)?;
        let name = credentials.server_name("witness").map_err(tls)?;
        Ok(Self { address, config: Arc::new(config), name, channel: None })
    }
}

impl Arbiter for Witness {
    /// A connection that did not answer is dropped: a late answer has nowhere to go.
    fn attempt(&mut self, question: &Question, deadline: Instant) -> Result<Answer, AttemptError> {
        let mut channel = match self.channel.take() {
            Some(channel) => channel,
            None => Channel::connect(
                self.address,
                Arc::clone(&self.config),
                self.name.clone(),
                FRAME_BYTES_MAX,
                deadline,
            )?,
        };
        channel.send(&encode_question(question), deadline)?;
        let patience = deadline.saturating_duration_since(Instant::now());
        let frame = channel.receive(deadline, patience)?;
        let (found, answer) = decode_answer(&frame)?;
        if found != question.id {
            let (expected, found) = (question.id.0, found.0);
            return Err(FrameError::OtherAnswer { expected, found }.into());
        }
        self.channel = Some(channel);
        Ok(answer)
    }

    fn is_connected(&self) -> bool {
        self.channel.is_some()
    }

    fn name(&self) -> String {
        format!("witness {}", self.address)
    }
}
