//! Where connections come from: a TCP address, or a path.
//!
//! A listener of this host's own listens only while the host serves: at any other time a connection is refused by the kernel
//! at once, instead of waiting in a queue that nobody looks into. One that a holder keeps listens all the time, because both
//! ports have it; what waits in its queue is for whoever serves next.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrLike, SockaddrStorage,
    getpeername, getsockname, getsockopt, setsockopt, sockopt,
};

use crate::descriptor;
use crate::holder::{BoundPath, listen_at};
use crate::source::{OpenError, SocketSource};

/// Connections that wait to be accepted, at most: the kernel's own limit is lower where it says so.
const BACKLOG: i32 = 4096;

/// A socket that connections come from.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    local: Option<SocketAddr>,
    /// Ours alone: it listens while we serve.
    own: bool,
    /// Removed at the end.
    path: Option<BoundPath>,
}

/// A connection that was just accepted.
pub(crate) struct Accepted {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Option<SocketAddr>,
}

impl Listener {
    /// Binds to a TCP address, and does not listen yet; with `moves` the address may not be there yet.
    pub(crate) fn bind(address: SocketAddr, moves: bool) -> Result<Listener, OpenError> {
        let listener =
            bind_tcp(address, moves).map_err(|source| OpenError::Listen { address, source })?;
        Ok(Listener { own: true, ..listener })
    }

    /// Listens at a TCP address from now on, for others.
    pub(crate) fn for_holder(address: SocketAddr) -> Result<Listener, OpenError> {
        let failed = |source| OpenError::Listen { address, source };
        let listener = bind_tcp(address, false).map_err(failed)?;
        listener.listen().map_err(failed)?;
        Ok(listener)
    }

    /// Listens at a path.
    pub(crate) fn at(path: &Path) -> Result<Listener, OpenError> {
        let (listener, bound) = listen_at(path)?;
        let socket = OwnedFd::from(listener);
        // No other port is at this path: who comes while nobody serves waits.
        Ok(Listener { socket, local: None, own: false, path: Some(bound) })
    }

    /// Checks that a descriptor from elsewhere is a stream socket that listens.
    pub(crate) fn held(socket: OwnedFd, from: &SocketSource) -> Result<Listener, OpenError> {
        let wanted = "a listening socket";
        let foreign = |found: String| OpenError::Foreign { from: from.clone(), found, wanted };
        match getsockopt(&socket, sockopt::SockType) {
            Ok(SockType::Stream) => {}
            Ok(other) => return Err(foreign(format!("a {other:?} socket"))),
            Err(errno) => return Err(foreign(format!("no socket ({errno})"))),
        }
        if !getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false) {
            return Err(foreign("a stream socket that does not listen".to_owned()));
        }
        let local = address_of(getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok());
        // Who else has it may be quicker to accept: then nobody must wait for the next one.
        descriptor::never_block(socket.as_fd())
            .map_err(|error| foreign(format!("unusable ({error})")))?;
        Ok(Listener { socket, local, own: false, path: None })
    }

    fn listen(&self) -> io::Result<()> {
        Ok(socket::listen(&self.socket, Backlog::new(BACKLOG)?)?)
    }

    /// This host serves from now on.
    pub(crate) fn begin(&self) -> io::Result<()> {
        if self.own { self.listen() } else { Ok(()) }
    }

    /// This host serves no longer: whoever comes is refused, unless another process has the same listener.
    pub(crate) fn end(&self) {
        if self.own {
            // A listener that is shut down keeps its address, and may listen again.
            let _ = socket::shutdown(self.socket.as_raw_fd(), Shutdown::Read);
        }
    }

    /// The next connection, if one waits.
    pub(crate) fn accept(&self) -> io::Result<Option<Accepted>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        match socket::accept4(self.socket.as_raw_fd(), flags) {
            Ok(number) => {
                let peer = address_of(getpeername::<SockaddrStorage>(number).ok());
                Ok(Some(Accepted { socket: descriptor::received(number), peer }))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            // Gone before we came, or not listening any more.
            Err(Errno::ECONNABORTED | Errno::EPROTO | Errno::EINVAL) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The address, with the port that the kernel chose.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Whether it is of TCP.
    pub(crate) fn is_tcp(&self) -> bool {
        self.local.is_some()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.local, &self.path) {
            (Some(address), _) => write!(f, "{address}"),
            (None, Some(path)) => write!(f, "{}", path.as_path().display()),
            (None, None) => f.write_str("a listener of unix sockets"),
        }
    }
}

fn bind_tcp(address: SocketAddr, moves: bool) -> io::Result<Listener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, SockType::Stream, flags, None)?;
    // Connections of the last process may linger; they are in nobody's way.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if moves {
        setsockopt(&socket, sockopt::IpFreebind, &true)?;
    }
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    let local = address_of(Some(getsockname::<SockaddrStorage>(socket.as_raw_fd())?));
    Ok(Listener { socket, local, own: false, path: None })
}

fn address_of(storage: Option<SockaddrStorage>) -> Option<SocketAddr> {
    let storage = storage?;
    match storage.family()? {
        AddressFamily::Inet => storage.as_sockaddr_in().map(|&v4| SocketAddr::V4(v4.into())),
        AddressFamily::Inet6 => storage.as_sockaddr_in6().map(|&v6| {
            let v6 = std::net::SocketAddrV6::from(v6);
            SocketAddr::new(std::net::IpAddr::V6(*v6.ip()).to_canonical(), v6.port())
        }),
        _ => None,
    }
}
