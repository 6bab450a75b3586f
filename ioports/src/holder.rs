//! A process that maps nothing opens the service sockets once and hands them out.
//!
//! ```text
//!        holder (maps no region)                    ports of both sides
//!   ┌─────────────────────────────┐   "sip\n"      ┌──────────────────┐
//!   │ sip  ─► UDP 0.0.0.0:5060    │◄───────────────┤ port, primary    │ reads and sends
//!   │ echo ─► UDP 0.0.0.0:7       ├───────────────►│                  │
//!   │                             │ "ok …\n" + fd  └──────────────────┘
//!   │ listens at a unix path      │◄───────────────┬──────────────────┐
//!   │                             ├───────────────►│ port, back-up    │ only holds it
//!   └─────────────────────────────┘                └──────────────────┘
//! ```
//!
//! All descriptors are of one socket: what waits in its buffer when the primary dies is read by
//! the other side. A holder that goes away takes nothing from the ports that have their copy.
//!
//! A request is the socket's name and a newline. The answer is `ok` and the address with the
//! descriptor (`SCM_RIGHTS`), or `unknown` and the names there are. Only the holder's own user (and
//! root) is answered.

mod held;
mod path;
mod request;

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt};
use nix::unistd::geteuid;

use crate::source::OpenError;
use crate::stop::Stop;
use held::Held;
pub use held::{HeldAddress, ParseHeldError};
pub use path::PathError;
pub(crate) use path::{Bound as BoundPath, listen as listen_at};
pub use request::{RequestError, START_PATIENCE, request};

/// Longest name of a socket.
pub const NAME_BYTES_MAX: usize = 64;

/// How long one client may keep the others waiting.
const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

/// Open service sockets, and a unix socket at which ports ask for them.
#[derive(Debug)]
pub struct Holder {
    sockets: BTreeMap<String, Held>,
    listener: UnixListener,
    path: path::Bound,
}

/// Why a holder cannot be set up. Nothing stays open or on disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HolderError {
    /// One of the sockets cannot be opened.
    #[error("cannot open socket `{name}`")]
    Socket {
        /// Which one.
        name: String,
        /// Why not.
        source: OpenError,
    },
    /// A name that a request cannot carry.
    #[error("`{name}` cannot name a socket: 1 to {NAME_BYTES_MAX} visible characters, no spaces")]
    Name {
        /// What was given.
        name: String,
    },
    /// Two sockets of one name.
    #[error("socket `{name}` is defined twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// The unix socket cannot be put at its path.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl HolderError {
    /// What to do about it, where that is known.
    pub fn help(&self) -> Option<String> {
        match self {
            HolderError::Socket { source, .. } => source.help(),
            HolderError::Path(error) => error.help(),
            HolderError::Name { .. } | HolderError::Twice { .. } => None,
        }
    }
}

impl Holder {
    /// Opens all `sockets` (port 0 takes a free one) and listens at `path`.
    ///
    /// A path that a dead holder left is replaced; that of a living one is refused.
    pub fn open<'n, A: Into<HeldAddress>>(
        path: &Path,
        sockets: impl IntoIterator<Item = (&'n str, A)>,
    ) -> Result<Self, HolderError> {
        let mut opened = BTreeMap::new();
        for (name, address) in sockets {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_visible) {
                return Err(HolderError::Name { name: name.to_owned() });
            }
            let socket = Held::open(&address.into())
                .map_err(|source| HolderError::Socket { name: name.to_owned(), source })?;
            if opened.insert(name.to_owned(), socket).is_some() {
                return Err(HolderError::Twice { name: name.to_owned() });
            }
        }
        let (listener, path) = path::listen(path)?;
        Ok(Holder { sockets: opened, listener, path })
    }

    /// Where ports ask.
    pub fn path(&self) -> &Path {
        self.path.as_path()
    }

    /// The address of a UDP or TCP socket, with the port that the kernel chose if we left that to it.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.sockets.get(name)?.address()
    }

    /// The same, or the path of a socket that has no address.
    pub fn place(&self, name: &str) -> Option<String> {
        self.sockets.get(name).map(Held::to_string)
    }

    /// Answers requests until `stop`; then closes the sockets and removes the path.
    pub fn serve(self, stop: &Stop) -> io::Result<()> {
        while !stop.is_stopped() {
            let mut fds = [
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let asked = fds[0].any().unwrap_or(false);
            if !asked {
                continue;
            }
            match self.listener.accept() {
                Ok((client, _)) => {
                    if let Err(error) = self.answer(client) {
                        tracing::warn!(%error, "a client of the socket holder was not answered");
                    }
                }
                // Gone again, or out of descriptors for a moment: the others must still be served.
                Err(error) => {
                    tracing::warn!(%error, "the socket holder could not accept");
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
        Ok(())
    }

    /// Serves from a thread of its own; dropping the result stops it and waits for its end.
    pub fn spawn(self) -> io::Result<Serving> {
        let stop = Stop::new()?;
        let path = self.path().to_owned();
        let thread = thread::Builder::new().name("socket-holder".to_owned()).spawn({
            let stop = stop.clone();
            move || {
                if let Err(error) = self.serve(&stop) {
                    tracing::error!(%error, "the socket holder ended");
                }
            }
        })?;
        Ok(Serving { stop, path, thread: Some(thread) })
    }

    fn answer(&self, mut client: UnixStream) -> io::Result<()> {
        client.set_nonblocking(false)?;
        client.set_read_timeout(Some(CLIENT_PATIENCE))?;
        client.set_write_timeout(Some(CLIENT_PATIENCE))?;
        let peer = getsockopt(&client, sockopt::PeerCredentials)?;
        if peer.uid() != 0 && peer.uid() != geteuid().as_raw() {
            return reply(&client, "refused another user's sockets are not yours\n", None);
        }
        let name = read_name(&mut client)?;
        match self.sockets.get(&name) {
            Some(socket) => {
                reply(&client, &format!("ok {socket}\n"), Some(socket.as_fd()))?;
                tracing::info!(%name, address = %socket, pid = peer.pid(), "handed a service socket out");
                Ok(())
            }
            None => {
                let names: Vec<&str> = self.sockets.keys().map(String::as_str).collect();
                reply(&client, &format!("unknown {}\n", names.join(" ")), None)
            }
        }
    }
}

/// A holder at work in a thread of its own.
#[derive(Debug)]
pub struct Serving {
    stop: Stop,
    path: PathBuf,
    thread: Option<thread::JoinHandle<()>>,
}

impl Serving {
    /// Where ports ask.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn is_visible(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

/// One line of at most [`NAME_BYTES_MAX`] bytes; a client gets one time-out for each byte at worst.
fn read_name(client: &mut UnixStream) -> io::Result<String> {
    let mut line = [0; NAME_BYTES_MAX + 1];
    let mut used = 0;
    loop {
        match client.read(&mut line[used..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => used += count,
        }
        if let Some(end) = line[..used].iter().position(|&byte| byte == b'\n') {
            return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        if used == line.len() {
            return Err(io::Error::other("a request longer than any name"));
        }
    }
}

fn reply(client: &UnixStream, line: &str, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let descriptor = socket.map(|socket| [socket.as_raw_fd()]);
    let rights = descriptor.as_ref().map(|fd| ControlMessage::ScmRights(fd));
    let bytes = [IoSlice::new(line.as_bytes())];
    let flags = MsgFlags::MSG_NOSIGNAL;
    let sent = sendmsg::<()>(client.as_raw_fd(), &bytes, rights.as_slice(), flags, None)?;
    if sent < line.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
