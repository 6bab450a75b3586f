//! The witness as an arbiter: a connection, and one frame each way over it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::{FRAME_BYTES_MAX, PROTOCOL, decode_answer, encode_question};
use crate::arbiter::{Arbiter, AttemptError, Question};
use crate::frames::FrameError;
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
    /// Until when it is not dialled again, because it and we do not belong together.
    refused_until: Option<Instant>,
}

/// A refusal is not cured by a further attempt, only by other files.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

impl Witness {
    /// The witness at `address`, which is not dialled yet.
    ///
    /// # Errors
    /// When the credentials are of no use.
    pub fn new(address: SocketAddr, credentials: &Credentials) -> Result<Self, ChannelError> {
        let tls = |source| ChannelError::Tls { source };
        let config = credentials.client_config(Expect::witness(), PROTOCOL).map_err(tls)?;
        let name = credentials.server_name("witness").map_err(tls)?;
        Ok(Self { address, config: Arc::new(config), name, channel: None, refused_until: None })
    }
}

impl Arbiter for Witness {
    fn attempt(&mut self, question: &Question, deadline: Instant) -> Result<Answer, AttemptError> {
        if self.refused_until.is_some_and(|until| Instant::now() < until) {
            return Err(FrameError::RefusedBefore.into());
        }
        self.refused_until = None;
        let answer = self.ask(question, deadline);
        if let Err(error) = &answer
            && let Some(ChannelError::Refused { .. } | ChannelError::Tls { .. }) =
                error.downcast_ref()
        {
            self.refused_until = Some(Instant::now() + REFUSED_PAUSE);
        }
        answer
    }

    fn is_connected(&self) -> bool {
        self.channel.is_some()
    }

    fn name(&self) -> String {
        format!("witness {}", self.address)
    }
}

impl Witness {
    /// A connection that did not answer is dropped: a late answer has nowhere to go.
    fn ask(&mut self, question: &Question, deadline: Instant) -> Result<Answer, AttemptError> {
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
}
