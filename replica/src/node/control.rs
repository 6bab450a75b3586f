//! The node's control socket: one line of JSON asks, one answers.
//!
//! ```text
//!   hotpair failover ──► abstract unix socket ──► thread ──► notice ──► loop
//!                   ◄──  one line             ◄──        ◄── answer ◄──┘
//! ```
//!
//! The socket has no file: its name ends with the process, however that ends, so a successor always gets it. It is one of
//! the network namespace that the node is in. Whoever asks must be of the node's user, root, or of a group that the
//! configuration names ([0033](../../../docs/decisions/0033-control.md)); who answers must be of the region's owner.
//! Strangers are told so and take no place. Each client has a thread of its own, a bound on its bytes and on its time; there
//! are few at once, so a client that trickles or floods keeps nobody waiting but clients.

mod asking;
mod messages;
mod who;

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::geteuid;
use serde::Serialize;

pub use self::asking::{AskError, ask};
pub use self::messages::{NotApplied, Outcome, Reply, Request};
use self::who::Allowed;
use super::Notice;
use super::notices::Teller;

/// Longest request.
const REQUEST_BYTES_MAX: usize = 4096;
/// Longest answer: what has changed in a configuration may be much.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// A request has arrived by then, or never does.
const REQUEST_WAIT: Duration = Duration::from_secs(1);
/// What the answer may take on top of what was asked for.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// Clients at once.
const CLIENTS_MAX: usize = 8;
/// How soon the thread notices that it is to end.
const NAP_MS: u16 = 100;
/// How often it tries to have the name, where somebody else has it.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// A request on its way to the loop, and where its answer goes.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) within: Duration,
    pub(super) answer: SyncSender<Reply>,
}

/// What the program around the node has to say about the socket, once it is there.
#[derive(Default)]
pub(super) struct Manners {
    group: OnceLock<u32>,
    reload: OnceLock<Box<dyn Fn() -> Reply + Send + Sync>>,
}

impl std::fmt::Debug for Manners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manners").field("group", &self.group).finish_non_exhaustive()
    }
}

impl Manners {
    /// From here on members of this group may ask.
    pub(super) fn admit(&self, group: u32) {
        let _ = self.group.set(group); // once
    }

    /// Who reads the configuration again.
    pub(super) fn on_reload(&self, reload: Box<dyn Fn() -> Reply + Send + Sync>) {
        let _ = self.reload.set(reload); // once
    }

    fn reload(&self) -> Reply {
        match self.reload.get() {
            Some(reload) => reload(),
            None => Reply::new(Outcome::Refused, "this node has no configuration to read again"),
        }
    }
}

/// The listening thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Control {
    manners: Arc<Manners>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    pub(super) fn start(region: &Path, tell: Teller<Notice>) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(name(region, geteuid().as_raw()))?;
        // At once, so that whoever sees the region finds the socket.
        let bound = bind(&address);
        let stopping = Arc::new(AtomicBool::new(false));
        let manners = Arc::new(Manners::default());
        let thread = thread::Builder::new().name("control".to_owned()).spawn({
            let (stopping, manners) = (Arc::clone(&stopping), Arc::clone(&manners));
            move || {
                let bound = match bound {
                    Ok(listener) => Some(listener),
                    Err(error) => bind_in_time(&address, &error, &stopping),
                };
                if let Some(listener) = bound {
                    listen(&listener, &stopping, &manners, &tell);
                }
            }
        })?;
        Ok(Self { manners, stopping, thread: Some(thread) })
    }

    pub(super) fn manners(&self) -> Arc<Manners> {
        Arc::clone(&self.manners)
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

/// The socket's name, of a node of this user.
fn name(region: &Path, user: u32) -> String {
    format!("hotpair/{user}/{}", region.display())
}

fn bind(address: &SocketAddr) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Names belong to who comes first, whoever that is: the node serves without one, and takes it when it is free.
fn bind_in_time(
    address: &SocketAddr,
    error: &io::Error,
    stopping: &AtomicBool,
) -> Option<UnixListener> {
    tracing::warn!(%error, "the node cannot be asked for anything: somebody has the name of its socket");
    let mut tried = Instant::now();
    while !stopping.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(NAP_MS.into()));
        if tried.elapsed() < BIND_AGAIN {
            continue;
        }
        tried = Instant::now();
        if let Ok(listener) = bind(address) {
            tracing::warn!("the node can be asked again");
            return Some(listener);
        }
    }
    None
}

fn listen(
    listener: &UnixListener,
    stopping: &AtomicBool,
    manners: &Arc<Manners>,
    tell: &Teller<Notice>,
) {
    let clients = Arc::new(AtomicUsize::new(0));
    while !stopping.load(Ordering::Acquire) {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(NAP_MS)).is_ok_and(|ready| ready == 0) {
            continue;
        }
        let Ok((mut client, _)) = listener.accept() else {
            // Gone again, or out of descriptors for a moment.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let allowed = Allowed { user: geteuid().as_raw(), group: manners.group.get().copied() };
        if let Err(refused) = allowed.check(&client) {
            // Into an empty buffer: nobody waits for a stranger.
            let _ = client.set_nonblocking(true);
            let _ = write_line(&mut client, &Reply::new(Outcome::Denied, refused.to_string()));
            continue;
        }
        if clients.fetch_add(1, Ordering::AcqRel) >= CLIENTS_MAX {
            clients.fetch_sub(1, Ordering::AcqRel);
            continue; // closed without an answer
        }
        let (counted, manners, tell) = (Arc::clone(&clients), Arc::clone(manners), tell.clone());
        let serve = move || {
            if let Err(error) = answer(client, &manners, &tell) {
                tracing::debug!(%error, "a client of the control socket was not answered");
            }
            counted.fetch_sub(1, Ordering::AcqRel);
        };
        if thread::Builder::new().name("control-client".to_owned()).spawn(serve).is_err() {
            clients.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn answer(mut client: UnixStream, manners: &Manners, tell: &Teller<Notice>) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_write_timeout(Some(REQUEST_WAIT))?;
    let line = read_line(&mut client, Instant::now() + REQUEST_WAIT, REQUEST_BYTES_MAX)?;
    let reply = match serde_json::from_slice::<Request>(&line) {
        Err(error) => Reply::new(Outcome::Bad, error.to_string()),
        // The loop has no time for files.
        Ok(Request::Reload) => manners.reload(),
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

fn read_line(stream: &mut UnixStream, until: Instant, bytes_max: usize) -> io::Result<Vec<u8>> {
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
        if line.len() > bytes_max {
            return Err(io::Error::other(format!("a line of more than {bytes_max} bytes")));
        }
    }
}

fn write_line(stream: &mut UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    stream.write_all(&line)
}

#[cfg(test)]
mod tests;
