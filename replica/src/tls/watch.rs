//! Noticing new certificates while the process runs, on a thread that nobody waits for.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::{Credentials, LoadError};
use crate::pki;

/// Three calls of `stat` that often cost nothing, and nobody waits longer for a rotation.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The certificate that came into use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// Its last moment, since 1970.
    pub not_after: Duration,
}

impl Reload {
    pub(super) fn of(leaf: &CertificateDer<'_>) -> Self {
        let not_after = pki::validity(leaf).map_or(Duration::ZERO, |(_, not_after)| not_after);
        Self { fingerprint: pki::fingerprint(leaf), not_after }
    }
}

impl fmt::Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, _) = self.fingerprint.split_at(self.fingerprint.len().min(16));
        write!(f, "{start}, valid until {}", pki::Date(self.not_after))
    }
}

/// A thread that looks at the files of some credentials, and reloads them. Dropping it ends it.
#[derive(Debug)]
pub struct CredentialsWatch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    look: bool,
}

impl Shared {
    /// Nothing is half-done where this lock is held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a watch look at once, from any thread.
#[derive(Clone, Debug)]
pub struct LookNow(Arc<Shared>);

impl LookNow {
    /// Returns at once; what is found is told as always.
    pub fn look(&self) {
        self.0.state().look = true;
        self.0.wake.notify_all();
    }
}

impl CredentialsWatch {
    /// Starts to look every two seconds. `tell` hears of each exchange, and of files that cannot be
    /// used: of each reason once, until the files are good again. Files that are copied one by one
    /// do not fit together for a moment, so what is wrong at one look alone is not told.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(
        credentials: &Credentials,
        tell: impl FnMut(Result<Reload, LoadError>) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("certificates".to_owned()).spawn({
            let (shared, credentials) = (Arc::clone(&shared), credentials.clone());
            move || watch(&shared, &credentials, tell)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A handle by which to make it look now.
    #[must_use]
    pub fn look_now(&self) -> LookNow {
        LookNow(Arc::clone(&self.shared))
    }
}

impl Drop for CredentialsWatch {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(
    shared: &Shared,
    credentials: &Credentials,
    mut tell: impl FnMut(Result<Reload, LoadError>),
) {
    let (mut seen, mut told) = (String::new(), String::new());
    loop {
        let idle = |state: &mut State| !state.stopping && !state.look;
        let (mut state, _) = shared
            .wake
            .wait_timeout_while(shared.state(), LOOK_EVERY, idle)
            .unwrap_or_else(PoisonError::into_inner);
        if state.stopping {
            return;
        }
        let asked = std::mem::take(&mut state.look);
        drop(state);
        match credentials.reload() {
            Ok(found) => {
                (seen, told) = (String::new(), String::new());
                if let Some(reload) = found {
                    tell(Ok(reload));
                }
            }
            Err(error) => {
                let text = match std::error::Error::source(&error) {
                    Some(cause) => format!("{error}: {cause}"),
                    None => error.to_string(),
                };
                if text != told && (asked || text == seen) {
                    told.clone_from(&text);
                    tell(Err(error));
                }
                seen = text;
            }
        }
    }
}
