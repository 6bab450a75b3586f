//! Programs that are not workers: they look at objects, and change them without having been given work.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::io::{Shared, start};
use super::job::limit_key;
use super::looking::Seen;
use super::session::{Counts, Session};
use super::worker::index;
use super::{RemoteConfig, RemoteError};
use crate::error::Error;
use crate::wait::Wait;

/// Looks at the objects of whichever node is primary, and changes them; several threads may use it at once.
///
/// What it shows is released: no failover takes it back. It bears the certificate of a worker, and is bound by the same limits.
/// It connects to both nodes by itself, and goes on with whichever is left. Of a node that has lost its office without
/// knowing it yet, it shows what was released up to then; once it has worked with a node of a later epoch, it never goes back.
pub struct RemoteClient {
    shared: Arc<Shared>,
    patience: Duration,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for RemoteClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteClient").finish_non_exhaustive()
    }
}

impl RemoteClient {
    /// A client that has begun to connect.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(config: RemoteConfig) -> Result<RemoteClient, Error> {
        let patience = config.patience;
        let (shared, thread) = start(config, "")?;
        Ok(RemoteClient { shared, patience, thread: Some(thread) })
    }

    /// What has happened to it.
    pub fn counts(&self) -> Counts {
        self.shared.with(|session| session.counts)
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
                self.shared.with(|session| session.end_look(ask));
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

    fn begin(&self, queue: &str, key: &[u8], once: bool) -> Result<u32, Error> {
        limit_key(key)?;
        self.wait(|session| {
            if !session.is_active() {
                return None;
            }
            match index(&session.queues, queue) {
                Ok(at) => session.begin_look(at, key, once).map(Ok),
                Err(known) => Some(Err(Error::NoSuchQueue { name: queue.to_owned(), known })),
            }
        })
    }

    /// Waits for what `look` looks for, and not where the gateways do not want this client.
    fn wait<T>(
        &self,
        mut look: impl FnMut(&mut Session) -> Option<Result<T, Error>>,
    ) -> Result<T, Error> {
        let found = self.shared.wait(Some(self.patience), |session| match look(session) {
            Some(found) => Some(found),
            None => session.take_refusal().map(|text| Err(refused(&text))),
        });
        found.unwrap_or_else(|| Err(RemoteError::Unanswered { waited: self.patience }.into()))
    }
}

impl Drop for RemoteClient {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it has no panics to pass on
        }
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
        let found = self.client.shared.wait(wait.at_most, |session| {
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
        self.client.shared.with(|session| session.end_look(self.ask));
    }
}

fn refused(text: &str) -> Error {
    RemoteError::Refused { text: text.to_owned() }.into()
}
