//! Why a port gave up.

use std::io;

use super::SeatError;
use crate::mmsg::BATCH_MAX;
use crate::source::{OpenError, SocketSource};

/// Why a port gave up. Whatever time can heal is waited for instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is no socket.
    #[error("port `{port}` has no socket")]
    Socket {
        /// The port's name.
        port: String,
        /// Why not.
        source: OpenError,
    },
    /// Such packets do not come from there.
    #[error("port `{port}` is of kind {kind}, which `{socket}` is not")]
    Kind {
        /// The port's name.
        port: String,
        /// What it is.
        kind: &'static str,
        /// Where its packets are to come from.
        socket: SocketSource,
    },
    /// What it is told makes no sense.
    #[error("port `{port}`: {why}")]
    Config {
        /// The port's name.
        port: String,
        /// What, and why.
        why: String,
    },
    /// Ports of hosts without a region are of kind `udp`.
    #[error("port `{port}` is not of kind udp, and no other kind works through the gateways")]
    NotRemote {
        /// The port's name.
        port: String,
    },
    /// A batch size that makes no sense.
    #[error("{what} is {value}, it must be from 1 to {BATCH_MAX}")]
    Batch {
        /// The key.
        what: &'static str,
        /// What was given.
        value: usize,
    },
    /// The region is there, but it cannot serve this port.
    #[error("port `{port}` cannot work on this region")]
    Seat {
        /// The port's name.
        port: String,
        /// Why not.
        source: SeatError,
    },
    /// The kernel refused something that a port cannot live without.
    #[error("cannot {action}")]
    Os {
        /// What.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl RunError {
    /// What to do about it, where that is known.
    pub fn help(&self) -> Option<String> {
        match self {
            RunError::Socket { source, .. } => source.help(),
            _ => None,
        }
    }
}

pub(crate) fn os(action: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Os { action, source }
}
