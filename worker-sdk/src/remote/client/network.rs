//! What every program on another host has: an id of its own, a state machine, and the thread that moves its bytes.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::io::{Shared, To, run};
use super::session::{Purpose, Session};
use super::{RemoteConfig, RemoteError};
use crate::error::Error;

/// Warm connections to both nodes, until it is dropped.
pub(super) struct Network {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    client: [u8; 16],
}

impl Network {
    /// Starts the thread.
    pub(super) fn start(config: RemoteConfig, purpose: Purpose) -> Result<Network, Error> {
        let mut client = [0; 16];
        getrandom::fill(&mut client)
            .map_err(|error| RemoteError::Start(io::Error::other(error.to_string())))?;
        let paths: Vec<To> = config
            .nodes
            .iter()
            .flat_map(|node| {
                let to = |&address| To { member: node.member.clone(), address };
                node.addresses.iter().map(to)
            })
            .collect();
        let (lanes, prefetch) = (config.unanswered, config.prefetch);
        let members = paths.iter().map(|to| to.member.clone()).collect();
        let session = Session::new(client, purpose, members, lanes, prefetch);
        let shared = Shared::new(session, paths.len());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("hotpair-remote".to_owned())
            .spawn(move || {
                if let Err(error) = run(&config, paths, &theirs) {
                    let text = format!("its network thread has ended: {error}");
                    theirs.with(|session| session.refused = Some(text));
                    theirs.wake();
                }
            })
            .map_err(RemoteError::Start)?;
        Ok(Network { shared, thread: Some(thread), client })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// By which both nodes know it; of no two programs the same.
    pub(super) fn client(&self) -> [u8; 16] {
        self.client
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it has no panics to pass on
        }
    }
}
