//! The other end of the control socket: who asks.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::geteuid;

use super::messages::{Outcome, Reply, Request};
use super::who::is_of;
use super::{ANSWER_BYTES_MAX, ANSWER_GRACE, REQUEST_WAIT, name, read_line, write_line};

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens.
    #[error("no node of region {region} listens")]
    NotRunning {
        /// The region's file.
        region: String,
    },
    /// Somebody else has taken the name of its socket.
    #[error("the one that listens for region {region} is of another user")]
    Foreign {
        /// The region's file.
        region: String,
    },
    /// Who asks is not one of those who may.
    #[error("{why}")]
    Denied {
        /// The node's own words.
        why: String,
    },
    /// It does not answer in time.
    #[error("the node does not answer")]
    Silent(#[source] io::Error),
    /// It answered something else.
    #[error("the node's answer makes no sense")]
    Nonsense(#[source] serde_json::Error),
}

/// Asks the node that owns the region in this file, and waits for the outcome.
///
/// # Errors
/// Where there is no node, none of this user, or no answer.
pub fn ask(region: &Path, request: Request) -> Result<Reply, AskError> {
    let named = || region.display().to_string();
    // Root may ask for another user's node: the socket bears the name of who owns the region.
    let own = geteuid().as_raw();
    let user = std::fs::metadata(region).map_or(own, |file| file.uid());
    let until = Instant::now() + request.timeout() + ANSWER_GRACE * 2;
    let mut stream = match dial(region, user) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(AskError::NotRunning { region: named() });
        }
        Err(error) => return Err(AskError::Silent(error)),
    };
    if !is_of(&stream, user).map_err(AskError::Silent)? {
        return Err(AskError::Foreign { region: named() });
    }
    // A stranger is told so before it has said anything: the answer is there, whatever became of the question.
    let told = write_line(&mut stream, &request);
    let line = read_line(&mut stream, until, ANSWER_BYTES_MAX).map_err(AskError::Silent)?;
    let reply: Reply = serde_json::from_slice(&line).map_err(AskError::Nonsense)?;
    if reply.outcome == Outcome::Denied {
        return Err(AskError::Denied { why: reply.why });
    }
    told.map_err(AskError::Silent)?;
    Ok(reply)
}

/// A queue of clients that nobody takes would hold up a connect for ever; this one has a bound.
pub(super) fn dial(region: &Path, user: u32) -> io::Result<UnixStream> {
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let wait = TimeVal::milliseconds(REQUEST_WAIT.as_millis() as i64);
    setsockopt(&fd, sockopt::SendTimeout, &wait)?;
    connect(fd.as_raw_fd(), &UnixAddr::new_abstract(name(region, user).as_bytes())?)?;
    Ok(UnixStream::from(fd))
}
