//! Programs that are not workers: they look at objects, and change them without having been given work.

use std::thread;
use std::time::{Duration, Instant};

use hotpair_shm::Seq;

use super::super::wire::{Effect, EffectsDraft, Outcome, Refusal};
use super::job::{limit, limit_key, outcome_of};
use super::looking::Seen;
use super::network::Network;
use super::session::{Counts, Purpose, Session, Ticket};
use super::worker::index;
use super::{RemoteConfig, RemoteError};
use crate::error::Error;
use crate::wait::Wait;

/// Until what was in another's way is tried again: it doubles.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Looks at the objects of whichever node is primary, and changes them; several threads may use it at once.
///
/// What it shows is released: no failover takes it back. It bears the certificate of a worker, and is bound by the same limits.
/// It connects to both nodes by itself, and goes on with whichever is left. Of a node that has lost its office without
/// knowing it yet, it shows what was released up to then; once it has worked with a node of a later epoch, it never goes back.
pub struct RemoteClient {
    network: Network,
    patience: Duration,
}

impl std::fmt::Debug for RemoteClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteClient").finish_non_exhaustive()
    }
}

impl RemoteClient {
    pub(super) fn new(config: RemoteConfig) -> Result<RemoteClient, Error> {
        let patience = config.patience;
        let network = Network::start(config, Purpose::Client)?;
        Ok(RemoteClient { network, patience })
    }

    /// What has happened to it.
    pub fn counts(&self) -> Counts {
        self.network.shared().with(|session| session.counts)
    }

    /// The object of `queue` that bears `key`, as the last released commit left it or a later one.
    ///
    /// # Errors
    /// [`RemoteError::Unanswered`] if no node has answered within the patience of the configuration.
    pub fn get(&self, queue: &str, key: &[u8]) -> Result<Seen, Error> {
        let ask = self.begin(queue, key, true)?;
        let seen = self.wait(|session| session.looks.take(ask).map(Ok));
        match seen {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(refusal)) => Err(refused(&format!("{refusal:?}"))),
            Err(error) => {
                self.network.shared().with(|session| session.end_look(ask));
                Err(error)
            }
        }
    }

    /// Watches the object of `queue` that bears `key`, whether or not there is one yet.
    ///
    /// # Errors
    /// [`RemoteError::Unanswered`] if no node has answered within the patience of the configuration.
    pub fn watch(&self, queue: &str, key: &[u8]) -> Result<RemoteWatch<'_>, Error> {
        let ask = self.begin(queue, key, false)?;
        Ok(RemoteWatch { client: self, ask })
    }

    /// Makes `value` the value of the object of `queue` that bears `key`; creates the object, idle, if there is none.
    ///
    /// It returns when the outside may know that it has happened, and it has happened once. It waits for a worker that has the
    /// object in its hands.
    ///
    /// # Errors
    /// [`RemoteError::Unanswered`] if no node has answered within the patience of the configuration: then it is not known
    /// whether it happens. After any other error it has not happened and never will.
    pub fn put(&self, queue: &str, key: &[u8], value: &[u8]) -> Result<Seq, Error> {
        limit(value)?;
        let queue = self.queue(queue, key)?;
        self.act(Effect::Put { queue, key, value })
    }

    /// Sends a message to the object of `queue` that bears `key`, or to a new one if there is none.
    ///
    /// It returns when the outside may know that the message waits; it waits once, and no death or failover loses it.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn send(&self, queue: &str, key: &[u8], payload: &[u8]) -> Result<Seq, Error> {
        limit(payload)?;
        let queue = self.queue(queue, key)?;
        self.act(Effect::Send { queue, key, payload })
    }

    /// What is known not to have happened is tried again as long as there is patience; what is not known is asked for.
    fn act(&self, effect: Effect<'_>) -> Result<Seq, Error> {
        let mut effects = EffectsDraft::default();
        effects.push(effect);
        let (begun, mut pause) = (Instant::now(), PAUSE);
        loop {
            let ticket = self.wait(|session| session.act(&effects).map(Ok))?;
            let (outcome, text) = self.answer(ticket)?;
            let again = matches!(
                outcome,
                Outcome::Stale
                    | Outcome::Refused(Refusal::Conflict | Refusal::Busy | Refusal::KeyTaken)
            );
            if !again || begun.elapsed() + pause > self.patience {
                return match outcome {
                    // It is the value that is: a commit of one effect is never too long.
                    Outcome::Refused(Refusal::TooLarge) => Err(RemoteError::NoRoom { text }.into()),
                    outcome => outcome_of(outcome, text),
                };
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn answer(&self, ticket: Ticket) -> Result<(Outcome, String), Error> {
        let shared = self.network.shared();
        let answer = shared.wait(Some(self.patience), |session| session.take_answer(ticket));
        answer.ok_or_else(|| {
            shared.with(|session| session.forget(ticket));
            RemoteError::Unanswered { waited: self.patience }.into()
        })
    }

    fn begin(&self, queue: &str, key: &[u8], once: bool) -> Result<u32, Error> {
        let queue = self.queue(queue, key)?;
        self.wait(|session| session.begin_look(queue, key, once).map(Ok))
    }

    /// The number of a queue, when a node that serves has been found.
    fn queue(&self, name: &str, key: &[u8]) -> Result<u8, Error> {
        limit_key(key)?;
        self.wait(|session| {
            let found = session.is_active().then(|| index(&session.queues, name))?;
            Some(found.map_err(|known| Error::NoSuchQueue { name: name.to_owned(), known }))
        })
    }

    /// Waits for what `look` looks for, and not where the gateways do not want this client.
    fn wait<T>(
        &self,
        mut look: impl FnMut(&mut Session) -> Option<Result<T, Error>>,
    ) -> Result<T, Error> {
        let found =
            self.network.shared().wait(Some(self.patience), |session| match look(session) {
                Some(found) => Some(found),
                None => session.take_refusal().map(|text| Err(refused(&text))),
            });
        found.unwrap_or_else(|| Err(RemoteError::Unanswered { waited: self.patience }.into()))
    }
}

/// The states of an object, one after the other; see [`RemoteClient::watch`].
pub struct RemoteWatch<'c> {
    client: &'c RemoteClient,
    ask: u32,
}

impl std::fmt::Debug for RemoteWatch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteWatch").field("ask", &self.ask).finish_non_exhaustive()
    }
}

impl RemoteWatch<'_> {
    /// The present state at first, then each time a later one; `None` when the wait is over.
    ///
    /// Never an older one after a newer one. Of several that came since the last call it is the last one; after a failover it
    /// may have the value that was seen before. While no node that is reached is primary this waits.
    ///
    /// # Errors
    /// When the gateway refuses: the client watches as much as it may.
    pub fn next(&mut self, wait: Wait) -> Result<Option<Seen>, Error> {
        let ask = self.ask;
        let found = self.client.network.shared().wait(wait.at_most, |session| {
            match session.looks.take(ask) {
                Some(Ok(seen)) => Some(Ok(seen)),
                // It stays refused.
                Some(Err(refusal)) => {
                    session.looks.told(ask, Some(refusal), 0, None);
                    Some(Err(refused("as many objects are watched as may be")))
                }
                None => session.take_refusal().map(|text| Err(refused(&text))),
            }
        });
        found.transpose()
    }
}

impl Drop for RemoteWatch<'_> {
    fn drop(&mut self) {
        self.client.network.shared().with(|session| session.end_look(self.ask));
    }
}

fn refused(text: &str) -> Error {
    RemoteError::Refused { text: text.to_owned() }.into()
}
