//! The node's death: seen by the kernel's mark in a shared page, told to the peer at once.
//!
//! Each node that is started gets a page of its own as its standard input, and a launch number. A
//! thread sleeps on the page; when the kernel marks it, that thread itself tells the peer: nothing
//! that the supervisor's main thread may be doing stands between a death and its notice.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hotpair_ioports::ServiceAddress;
use hotpair_replica::tls::{Credentials, CredentialsWatch};
use hotpair_replica::tripwire::{SharedPage, TripwireClient, Watch};

use super::events::Events;
use crate::clock::monotonic_ns;
use crate::config::Config;
use crate::credentials;
use crate::report::Failure;
use crate::service::Leftovers;

/// A node whose loop has not turned for this long is stopped or stuck: a solo primary like that
/// would keep the service down, and nobody else may replace it while it lives.
const SILENCE: Duration = Duration::from_secs(2);
/// The watching thread looks at least this often, should a wake-up have been missed.
const LOOK: Duration = Duration::from_millis(100);

/// Environment variable that tells a node its launch number.
pub(crate) const LAUNCH: &str = "HOTPAIR_LAUNCH";

/// The supervisor's watch over its node.
#[derive(Debug)]
pub(crate) struct Notice {
    peer: Arc<TripwireClient>,
    watched: Option<Watched>,
    certificates: CredentialsWatch,
    leftovers: Leftovers,
    events: Events,
}

#[derive(Debug)]
struct Watched {
    page: SharedPage,
    progress: u64,
    since: Instant,
}

/// What a node is started with.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Its standard input: the page.
    pub(crate) stdin: OwnedFd,
    /// Tells it from its predecessors and successors.
    pub(crate) number: u64,
}

impl Notice {
    /// Connects to the peer's node, and keeps doing so.
    pub(crate) fn start(config: &Config, events: &Events) -> Result<Notice, Failure> {
        let credentials: Credentials = credentials::of_node(config)?;
        let peer = config.file.pair.node.other().certificate();
        let client = TripwireClient::start(config.file.replication.peer, &credentials, peer)
            .map_err(|error| Failure::new("cannot watch for the peer").caused_by(&error))?;
        // The node reports; here only a failure of its own would be news, and it has none.
        let certificates = CredentialsWatch::start(&credentials, |found| match found {
            Ok(reload) => tracing::debug!("the supervisor uses certificate {reload}"),
            Err(error) => tracing::debug!(%error, "the supervisor keeps its certificate"),
        })
        .map_err(|error| Failure::new("cannot watch the certificates").caused_by(&error))?;
        let leftovers = Leftovers::of(config);
        Ok(Notice {
            peer: Arc::new(client),
            watched: None,
            certificates,
            leftovers,
            events: events.clone(),
        })
    }

    /// Looks for new certificates now.
    pub(crate) fn reload(&self) {
        self.certificates.look_now().look();
    }

    /// Prepares the start of a node, and the watch over it.
    pub(crate) fn launch(&mut self) -> Result<Launch, Failure> {
        let failed =
            |error: std::io::Error| Failure::new("cannot watch the node").caused_by(&error);
        let page = SharedPage::create().map_err(failed)?;
        let stdin = page.as_fd().try_clone_to_owned().map_err(failed)?;
        // Two nodes of one supervisor never start in the same nanosecond.
        let number = monotonic_ns();
        tell_removed(&self.events, self.leftovers.launching(number));
        let (watching, peer) = (page.clone(), Arc::clone(&self.peer));
        let (leftovers, events) = (self.leftovers.clone(), self.events.clone());
        thread::Builder::new()
            .name("watch-node".to_owned())
            .spawn(move || {
                // One that dies before it takes its seat was never anybody's primary.
                let until = Instant::now() + Duration::from_secs(60);
                loop {
                    match watching.watch(LOOK) {
                        Watch::Died => break,
                        Watch::NotHeld if Instant::now() > until => return,
                        Watch::NotHeld | Watch::Alive { .. } => {}
                    }
                }
                peer.node_died(number);
                // Its kernel answers for the address until then.
                tell_removed(&events, leftovers.died(number));
            })
            .map_err(failed)?;
        self.watched = Some(Watched { page, progress: 0, since: Instant::now() });
        Ok(Launch { stdin, number })
    }

    /// There is no node any more, nor will there be one.
    pub(crate) fn ended(&self) {
        tell_removed(&self.events, self.leftovers.launching(0));
    }

    /// For how long the node has said nothing, when that is too long. Counts from now on again.
    pub(crate) fn silence(&mut self) -> Option<Duration> {
        let watched = self.watched.as_mut()?;
        let now = Instant::now();
        match watched.page.look() {
            Watch::Alive { progress } if progress == watched.progress => {
                let silent = now.duration_since(watched.since);
                if silent < SILENCE {
                    return None;
                }
                watched.since = now;
                Some(silent)
            }
            Watch::Alive { progress } => {
                watched.progress = progress;
                watched.since = now;
                None
            }
            Watch::NotHeld | Watch::Died => {
                watched.since = now;
                None
            }
        }
    }
}

fn tell_removed(events: &Events, removed: Vec<ServiceAddress>) {
    for address in removed {
        events.address_removed(&address.to_string());
    }
}
