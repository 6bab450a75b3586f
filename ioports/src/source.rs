//! Where a port's socket comes from: bound by the port, asked of a holder, or inherited.
//!
//! On one host the two ports of a pair must share a socket, or the packets that wait in the dead
//! side's socket die with it. So a process that maps no region (and therefore dies and is seen to
//! die at once) opens it, and both ports hold a descriptor of the same socket.
//!
//! Between hosts it is the address that moves. The port of each host is bound to it all the time, so that
//! nothing but the address stands between a promotion and the first packet.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::str::FromStr;

use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrStorage, getsockopt, setsockopt, sockopt,
};

use crate::capture::CaptureError;
use crate::descriptor;
use crate::holder::{self, PathError, RequestError};
use crate::listener::Listener;
use crate::owner::{Owner, owner_of};

/// Receive buffer asked of the kernel for a service socket: what waits there while nobody is
/// primary must fit. 4 MiB is about 3,000 packets of 512 bytes with the kernel's overhead; the
/// kernel caps it at `net.core.rmem_max` unless we may exceed that.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Where the service socket of a port comes from.
///
/// Written `127.0.0.1:5060`, `service:192.0.2.10:5060`, `holder:/run/hotpair/demo.sock#sip`, `fd:3`, `unix:/run/calls.sock`,
/// `interface:eth1` or `pcap:in.pcap>out.pcap` (either may be missing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketSource {
    /// The port binds to this address itself.
    Bind(SocketAddr),
    /// The same, and the address comes and goes with the role: the port binds before it is there
    /// (`IP_FREEBIND`), and reads and sends only while it is.
    Service(SocketAddr),
    /// The port asks the [`Holder`](crate::Holder) that listens at `path` for socket `name`.
    Holder {
        /// Where the holder listens.
        path: PathBuf,
        /// Which of its sockets.
        name: String,
    },
    /// Whoever started this process left the socket open under this number.
    Inherited(RawFd),
    /// A unix socket at this path, at which the port listens.
    Path(PathBuf),
    /// The network interface of this name, for whole frames.
    Interface(String),
    /// Capture files.
    Capture {
        /// Whose packets come in.
        replay: Option<PathBuf>,
        /// Which what leaves is written into.
        write: Option<PathBuf>,
    },
}

impl SocketSource {
    /// Opens, asks for, or takes over the UDP socket.
    pub fn open(&self) -> Result<UdpSocket, OpenError> {
        self.open_udp(false)
    }

    /// The same; `shared` lets others bind to the address as well, and the kernel shares the senders among them.
    pub(crate) fn open_udp(&self, shared: bool) -> Result<UdpSocket, OpenError> {
        match self {
            SocketSource::Bind(address) => bind_as(*address, false, shared),
            SocketSource::Service(address) => bind_as(*address, true, shared),
            SocketSource::Path(_) | SocketSource::Interface(_) | SocketSource::Capture { .. } => {
                Err(OpenError::NotThere { from: self.clone(), what: "UDP" })
            }
            SocketSource::Holder { path, name } => {
                let fd = holder::request(path, name)?;
                as_udp(fd, self)
            }
            SocketSource::Inherited(number) => {
                let fd = descriptor::inherited(*number)
                    .map_err(|source| OpenError::Inherited { number: *number, source })?;
                as_udp(fd, self)
            }
        }
    }

    /// Opens, asks for, or takes over a listener: TCP, or of unix sockets.
    pub(crate) fn open_listener(&self) -> Result<Listener, OpenError> {
        match self {
            SocketSource::Bind(address) => Listener::bind(*address, false),
            SocketSource::Service(address) => Listener::bind(*address, true),
            SocketSource::Path(path) => Listener::at(path),
            SocketSource::Holder { path, name } => {
                let fd = holder::request(path, name)?;
                Listener::held(fd, self)
            }
            SocketSource::Inherited(number) => {
                let fd = descriptor::inherited(*number)
                    .map_err(|source| OpenError::Inherited { number: *number, source })?;
                Listener::held(fd, self)
            }
            SocketSource::Interface(_) | SocketSource::Capture { .. } => {
                Err(OpenError::NotThere { from: self.clone(), what: "connections" })
            }
        }
    }
}

impl fmt::Display for SocketSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketSource::Bind(address) => write!(f, "{address}"),
            SocketSource::Service(address) => write!(f, "service:{address}"),
            SocketSource::Holder { path, name } => write!(f, "holder:{}#{name}", path.display()),
            SocketSource::Inherited(number) => write!(f, "fd:{number}"),
            SocketSource::Path(path) => write!(f, "unix:{}", path.display()),
            SocketSource::Interface(name) => write!(f, "interface:{name}"),
            SocketSource::Capture { replay, write } => {
                let text = |path: &Option<PathBuf>| {
                    path.as_ref().map_or(String::new(), |path| path.display().to_string())
                };
                write!(f, "pcap:{}>{}", text(replay), text(write))
            }
        }
    }
}

/// A text that names no socket source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is none of IP:PORT, service:IP:PORT, holder:PATH#NAME, fd:NUMBER, unix:PATH, interface:NAME, pcap:IN>OUT"
)]
pub struct ParseSourceError {
    /// What was given.
    pub text: String,
}

impl FromStr for SocketSource {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseSourceError { text: text.to_owned() };
        if let Some(number) = text.strip_prefix("fd:") {
            let number = number.parse::<u16>().map_err(|_| wrong())?;
            return Ok(SocketSource::Inherited(number.into()));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(wrong()),
                path => Ok(SocketSource::Path(path.into())),
            };
        }
        if let Some(name) = text.strip_prefix("interface:").filter(|name| !name.is_empty()) {
            return Ok(SocketSource::Interface(name.to_owned()));
        }
        if let Some(files) = text.strip_prefix("pcap:") {
            let (replay, write) = files.split_once('>').unwrap_or((files, ""));
            let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
            let (replay, write) = (path(replay), path(write));
            if replay.is_none() && write.is_none() {
                return Err(wrong());
            }
            return Ok(SocketSource::Capture { replay, write });
        }
        if let Some(address) = text.strip_prefix("service:") {
            return address.parse().map(SocketSource::Service).map_err(|_| wrong());
        }
        if let Some(held) = text.strip_prefix("holder:") {
            return match held.rsplit_once('#') {
                Some((path, name)) if !path.is_empty() && !name.is_empty() => {
                    Ok(SocketSource::Holder { path: path.into(), name: name.to_owned() })
                }
                _ => Err(wrong()),
            };
        }
        text.parse().map(SocketSource::Bind).map_err(|_| wrong())
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another socket is bound there.
    #[error("UDP {address} is in use by {}", owner.as_ref().map_or("another process".to_owned(), Owner::to_string))]
    InUse {
        /// What we wanted.
        address: SocketAddr,
        /// Who has it, if we may see that.
        owner: Option<Owner>,
    },
    /// The kernel refused the address.
    #[error("cannot bind UDP {address}")]
    Bind {
        /// What we wanted.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The number that we were to inherit is not open.
    #[error("descriptor {number} was not inherited")]
    Inherited {
        /// The number we were told.
        number: RawFd,
        /// What the kernel said.
        source: io::Error,
    },
    /// The holder did not hand the socket out.
    #[error("no socket from the holder")]
    Holder(#[from] RequestError),
    /// What we got is open, but is not what was expected.
    #[error("{from} is {found}, not {wanted}")]
    Foreign {
        /// Where it came from.
        from: SocketSource,
        /// What it is instead.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Packets of another kind come from there.
    #[error("{from} is no place for {what}")]
    NotThere {
        /// What was given.
        from: SocketSource,
        /// What the port is for.
        what: &'static str,
    },
    /// A TCP address that cannot be listened at.
    #[error("cannot listen at TCP {address}")]
    Listen {
        /// What we wanted.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// An interface whose frames cannot be had.
    #[error("cannot open interface {interface}")]
    Interface {
        /// Its name.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// An interface whose frames cannot be had by AF_XDP.
    #[error("AF_XDP at interface `{interface}`: cannot {action}")]
    Xdp {
        /// Its name.
        interface: String,
        /// What is needed of it.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A capture file that cannot be used.
    #[error("cannot use {from}")]
    Capture {
        /// The files.
        from: SocketSource,
        /// Why not.
        source: CaptureError,
    },
    /// A path that cannot be listened at.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl OpenError {
    /// What to do about it, where that is known.
    pub fn help(&self) -> Option<String> {
        match self {
            OpenError::InUse { address, owner: Some(owner) } => Some(format!(
                "stop it (kill {}), or configure another port than {}",
                owner.pid,
                address.port()
            )),
            OpenError::InUse { address, owner: None } => Some(format!(
                "see `ss -lunp sport = :{}`, or configure another port",
                address.port()
            )),
            OpenError::Bind { source, address } => match source.raw_os_error() {
                Some(libc::EADDRNOTAVAIL) => {
                    Some(format!("{} is no address of this host: see `ip address`", address.ip()))
                }
                Some(libc::EACCES) => {
                    Some("ports below 1024 need CAP_NET_BIND_SERVICE; take a higher one".to_owned())
                }
                _ => None,
            },
            OpenError::Holder(request) => request.help(),
            OpenError::Listen { source, address } => match source.kind() {
                io::ErrorKind::AddrInUse => Some(format!(
                    "see `ss -ltnp sport = :{}`, or configure another port",
                    address.port()
                )),
                _ => None,
            },
            OpenError::Path(error) => error.help(),
            OpenError::Interface { source, .. } => match source.raw_os_error() {
                Some(libc::EPERM) => Some("frames need CAP_NET_RAW".to_owned()),
                Some(libc::ENODEV | libc::ENXIO) => {
                    Some("see `ip link` for those there are".to_owned())
                }
                _ => None,
            },
            OpenError::Xdp { interface, source, .. } => match source.raw_os_error() {
                Some(libc::EPERM) => {
                    Some("AF_XDP needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF".to_owned())
                }
                Some(libc::EBUSY | libc::EEXIST) => Some(format!(
                    "another program has it: see `ip link show dev {interface}`; one port of kind xdp has an interface"
                )),
                Some(libc::ENODEV | libc::ENXIO) => {
                    Some("see `ip link` for those there are".to_owned())
                }
                Some(libc::EAFNOSUPPORT | libc::ENOSYS) => {
                    Some("it takes Linux 5.9 or later, with CONFIG_XDP_SOCKETS".to_owned())
                }
                _ => None,
            },
            OpenError::Capture { .. } => None,
            OpenError::Inherited { .. }
            | OpenError::Foreign { .. }
            | OpenError::NotThere { .. } => None,
        }
    }
}

/// Binds a service socket: room for a burst, and a clear word about who is in the way.
pub(crate) fn bind(address: SocketAddr, moves: bool) -> Result<UdpSocket, OpenError> {
    bind_as(address, moves, false)
}

fn bind_as(address: SocketAddr, moves: bool, shared: bool) -> Result<UdpSocket, OpenError> {
    let bound = match moves || shared {
        true => bind_ahead(address, moves, shared),
        false => UdpSocket::bind(address),
    };
    let socket = bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => OpenError::InUse { address, owner: owner_of(address) },
        _ => OpenError::Bind { address, source },
    })?;
    // Best effort, the privileged way first: a smaller buffer only drops sooner, and counted.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES);
    }
    Ok(socket)
}

/// Binds to an address that may not be there yet, or that others bind to as well.
fn bind_ahead(address: SocketAddr, moves: bool, shared: bool) -> io::Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket::socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    if moves {
        // IPv6 sockets obey it too.
        setsockopt(&socket, sockopt::IpFreebind, &true)?;
    }
    if shared {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(UdpSocket::from(socket))
}

/// Checks that a descriptor from elsewhere is what we take it for.
fn as_udp(fd: OwnedFd, from: &SocketSource) -> Result<UdpSocket, OpenError> {
    let wanted = "a bound UDP socket";
    let foreign = |found: String| OpenError::Foreign { from: from.clone(), found, wanted };
    match getsockopt(&fd, sockopt::SockType) {
        Ok(SockType::Datagram) => {}
        Ok(other) => return Err(foreign(format!("a {other:?} socket"))),
        Err(errno) => return Err(foreign(format!("no socket ({errno})"))),
    }
    let socket = UdpSocket::from(fd);
    match socket.local_addr() {
        Ok(address) if address.port() != 0 => Ok(socket),
        Ok(_) => Err(foreign("an unbound socket".to_owned())),
        Err(error) => Err(foreign(format!("a datagram socket without IP ({error})"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn sources_are_written_as_they_are_read() {
        for text in [
            "127.0.0.1:5060",
            "[::]:53",
            "service:192.0.2.1:9",
            "service:[2001:db8::1]:9",
            "holder:/run/a#b.sock#sip",
            "fd:3",
            "unix:/run/calls.sock",
            "interface:eth1",
            "pcap:in.pcap>out.pcap",
            "pcap:>out.pcap",
        ] {
            let source: SocketSource = text.parse().expect(text);
            assert_eq!(source.to_string(), text);
        }
        for text in [
            "",
            "5060",
            "localhost:5060",
            "service:5060",
            "holder:/run/x",
            "holder:#a",
            "holder:/x#",
            "fd:-1",
            "unix:",
            "interface:",
            "pcap:>",
        ] {
            let error = text.parse::<SocketSource>().expect_err(text);
            assert!(error.to_string().contains("IP:PORT"), "{error}");
        }
    }

    #[test]
    fn an_address_in_use_names_its_user() {
        let first = UdpSocket::bind("127.0.0.1:0").expect("bind to a free port");
        let address = first.local_addr().expect("bound");
        let error = SocketSource::Bind(address).open().expect_err("it is taken");
        let text = error.to_string();
        assert!(text.contains(&address.to_string()), "{text}");
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
        assert!(error.help().expect("there is something to do").contains("another port"));
    }

    #[test]
    fn an_address_of_another_host_is_explained() {
        let error = SocketSource::Bind("192.0.2.1:9".parse().expect("an address")).open();
        let help = error.expect_err("a documentation address").help();
        assert!(help.expect("a known cause").contains("192.0.2.1"));
    }

    #[test]
    fn a_service_address_is_bound_before_it_is_there() {
        for text in ["192.0.2.1:9999", "[2001:db8::1]:9999"] {
            let address: SocketAddr = text.parse().expect("valid");
            let socket = SocketSource::Service(address).open().expect(text);
            assert_eq!(socket.local_addr().expect("bound"), address);
        }
    }

    #[test]
    fn only_bound_udp_sockets_are_inherited() {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("bind to a free port");
        let copy = SocketSource::Inherited(udp.as_raw_fd()).open().expect("what it should be");
        assert_eq!(copy.local_addr().expect("bound"), udp.local_addr().expect("bound"));

        let file = tempfile_in_memory();
        let unix = UnixDatagram::unbound().expect("a socket");
        for (number, found) in [(file.as_raw_fd(), "no socket"), (unix.as_raw_fd(), "datagram")] {
            let error = SocketSource::Inherited(number).open().expect_err(found);
            assert!(error.to_string().contains(found), "{error}");
        }
        let gone = SocketSource::Inherited(999_999).open().expect_err("not open");
        assert!(gone.to_string().contains("999999"), "{gone}");
    }

    fn tempfile_in_memory() -> OwnedFd {
        std::fs::File::open("/dev/null").expect("always there").into()
    }
}
