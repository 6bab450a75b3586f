//! The node's control socket: one line of JSON asks, one answers.
//!
//! ```text
//!   hotpair failover ──► abstract unix socket ──► thread ──► notice ──► loop
//!                   ◄──  one line             ◄──        ◄── answer ◄──┘
//! ```
//!
//! The socket has no file: its name ends with the process, however that ends, so a successor always gets it. It is one of
//! the network namespace that the node is in. Whoever asks must be of the node's user, or root, and so must whoever answers.
//! Each client has a thread of its own, a bound on its bytes and on its time; there are few at once, so a client that trickles
//! or floods keeps nobody waiting but clients.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::Notice;
use super::notices::Teller;
use crate::quic::LinkReport;

/// Longest request, and longest answer.
const LINE_BYTES_MAX: usize = 4096;
/// A request has arrived by then, or never does.
const REQUEST_WAIT: Duration = Duration::from_secs(1);
/// What the answer may take on top of what was asked for.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// Clients at once.
const CLIENTS_MAX: usize = 8;
/// How soon the thread notices that it is to end.
const NAP_MS: u16 = 100;

/// What a node can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, tag = "do")]
pub enum Request {
    /// Change roles with the peer.
    Failover {
        /// How long it may take.
        timeout_ms: u32,
    },
    /// Become primary.
    Promote {
        /// Also where something is lost.
        accept_loss: bool,
        /// How long it may take.
        timeout_ms: u32,
    },
    /// Say how the links to the peer are.
    Links,
}

impl Request {
    fn timeout(self) -> Duration {
        match self {
            Request::Failover { timeout_ms } | Request::Promote { timeout_ms, .. } => {
                Duration::from_millis(timeout_ms.into())
            }
            // The next turn of the loop answers.
            Request::Links => Duration::ZERO,
        }
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done.
    Done,
    /// It was so already.
    Already,
    /// It was not begun, for safety.
    Refused,
    /// It was begun and did not get through; everything is as it was.
    TimedOut,
    /// Nobody could make sense of the request.
    Bad,
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// How it went.
    pub outcome: Outcome,
    /// Why, where it is not done.
    #[serde(default)]
    pub why: String,
    /// The node that is primary now, if that is known: `a` or `b`.
    #[serde(default)]
    pub primary: Option<String>,
    /// The epoch that it serves in.
    #[serde(default)]
    pub epoch: Option<u16>,
    /// For how long nothing was read from outside, at most.
    #[serde(default)]
    pub stood_still_us: Option<u64>,
    /// The links to the peer, where they were asked for.
    #[serde(default)]
    pub links: Vec<LinkReport>,
}

impl Reply {
    pub(super) fn new(outcome: Outcome, why: impl Into<String>) -> Reply {
        Reply {
            outcome,
            why: why.into(),
            primary: None,
            epoch: None,
            stood_still_us: None,
            links: Vec::new(),
        }
    }
}

/// A request on its way to the loop, and where its answer goes.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) within: Duration,
    pub(super) answer: SyncSender<Reply>,
}

/// The listening thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Control {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    pub(super) fn start(region: &Path, tell: Teller<Notice>) -> io::Result<Self> {
        let address = address(region, geteuid().as_raw())?;
        let listener = UnixListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("control".to_owned()).spawn({
            let stopping = Arc::clone(&stopping);
            move || listen(&listener, &stopping, &tell)
        })?;
        Ok(Self { stopping, thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn address(region: &Path, user: u32) -> io::Result<SocketAddr> {
    let name = format!("hotpair/{user}/{}", region.display());
    SocketAddr::from_abstract_name(name)
}

fn listen(listener: &UnixListener, stopping: &AtomicBool, tell: &Teller<Notice>) {
    let clients = Arc::new(AtomicUsize::new(0));
    while !stopping.load(Ordering::Acquire) {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(NAP_MS)).is_ok_and(|ready| ready == 0) {
            continue;
        }
        let Ok((client, _)) = listener.accept() else {
            // Gone again, or out of descriptors for a moment.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        if clients.fetch_add(1, Ordering::AcqRel) >= CLIENTS_MAX {
            clients.fetch_sub(1, Ordering::AcqRel);
            continue; // closed without an answer
        }
        let (counted, tell) = (Arc::clone(&clients), tell.clone());
        let serve = move || {
            if let Err(error) = answer(client, &tell) {
                tracing::debug!(%error, "a client of the control socket was not answered");
            }
            counted.fetch_sub(1, Ordering::AcqRel);
        };
        if thread::Builder::new().name("control-client".to_owned()).spawn(serve).is_err() {
            clients.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn answer(mut client: UnixStream, tell: &Teller<Notice>) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_write_timeout(Some(REQUEST_WAIT))?;
    if !is_ours(&client.as_fd(), geteuid().as_raw())? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let line = read_line(&mut client, Instant::now() + REQUEST_WAIT)?;
    let reply = match serde_json::from_slice::<Request>(&line) {
        Err(error) => Reply::new(Outcome::Bad, error.to_string()),
        Ok(request) => {
            let (answer, answered) = mpsc::sync_channel(1);
            let within = request.timeout();
            tell.tell(Notice::Asked(Asked { request, within, answer }));
            answered
                .recv_timeout(within + ANSWER_GRACE)
                .unwrap_or_else(|_| Reply::new(Outcome::TimedOut, "the node's loop gave no answer"))
        }
    };
    write_line(&mut client, &reply)
}

/// Whether the other end is of this user, or root.
fn is_ours(stream: &impl AsFd, user: u32) -> io::Result<bool> {
    let peer = getsockopt(stream, sockopt::PeerCredentials)?;
    Ok(peer.uid() == 0 || peer.uid() == user)
}

fn read_line(stream: &mut UnixStream, until: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(256);
    let mut some = [0; 256];
    loop {
        // All of it within the time, however it trickles.
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut some) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => line.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok(line);
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(io::Error::other(format!("a line of more than {LINE_BYTES_MAX} bytes")));
        }
    }
}

fn write_line(stream: &mut UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    stream.write_all(&line)
}

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
    if !is_ours(&stream, user).map_err(AskError::Silent)? {
        return Err(AskError::Foreign { region: named() });
    }
    write_line(&mut stream, &request).map_err(AskError::Silent)?;
    let line = read_line(&mut stream, until).map_err(AskError::Silent)?;
    serde_json::from_slice(&line).map_err(AskError::Nonsense)
}

/// A queue of clients that nobody takes would hold up a connect for ever; this one has a bound.
fn dial(region: &Path, user: u32) -> io::Result<UnixStream> {
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let wait = TimeVal::milliseconds(REQUEST_WAIT.as_millis() as i64);
    setsockopt(&fd, sockopt::SendTimeout, &wait)?;
    let name = format!("hotpair/{user}/{}", region.display());
    connect(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    Ok(UnixStream::from(fd))
}

#[cfg(test)]
mod tests;
