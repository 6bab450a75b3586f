//! The port's side: ask the holder for a socket by name.

use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::descriptor;

/// A holder answers at once or is overrun; its other clients hold it up for a second at most each.
const HOLDER_PATIENCE: Duration = Duration::from_secs(5);

/// A holder that is started at the same time as who asks it, as when a host boots, is there within so long. Who starts ports has
/// more patience than that with a port that ends right after its start.
pub const START_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Longest answer: all names of a holder with dozens of sockets.
const ANSWER_BYTES_MAX: usize = 4096;

/// Why the holder gave no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nobody listens at the path.
    #[error("no socket holder listens at {}", .path.display())]
    NotRunning {
        /// Where we asked.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It has no socket of that name.
    #[error("the holder at {} has no socket `{name}`, it has: {known}", .path.display())]
    Unknown {
        /// Where we asked.
        path: PathBuf,
        /// What we asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// It does not hand sockets to us.
    #[error("the holder at {} refused: {reason}", .path.display())]
    Refused {
        /// Where we asked.
        path: PathBuf,
        /// In its words.
        reason: String,
    },
    /// Something else answers there, or a holder of another version.
    #[error("what listens at {} answered `{answer}`, which is no holder's answer", .path.display())]
    Nonsense {
        /// Where we asked.
        path: PathBuf,
        /// The start of what it said.
        answer: String,
    },
    /// The conversation broke off.
    #[error("cannot talk to the holder at {}", .path.display())]
    Os {
        /// Where we asked.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl RequestError {
    /// What to do about it, where that is known.
    pub fn help(&self) -> Option<String> {
        match self {
            RequestError::NotRunning { .. } => {
                Some("start the process that holds the service sockets first".to_owned())
            }
            RequestError::Unknown { .. } => Some(
                "use one of its names, or add the socket where the holder is started".to_owned(),
            ),
            _ => None,
        }
    }
}

/// Asks the holder at `path` for its socket `name`; the result shares the socket with the holder.
///
/// Waits up to two seconds for a holder that is not there yet.
pub fn request(path: &Path, name: &str) -> Result<OwnedFd, RequestError> {
    let os = |source| RequestError::Os { path: path.to_owned(), source };
    let mut stream = connect(path, Instant::now() + START_PATIENCE)?;
    stream.set_read_timeout(Some(HOLDER_PATIENCE)).map_err(os)?;
    stream.set_write_timeout(Some(HOLDER_PATIENCE)).map_err(os)?;
    stream.write_all(format!("{name}\n").as_bytes()).map_err(os)?;

    let (answer, descriptor) = receive(&stream).map_err(os)?;
    let (word, rest) = answer.split_once(' ').unwrap_or((&answer, ""));
    match (word, descriptor) {
        ("ok", Some(descriptor)) => Ok(descriptor),
        ("unknown", None) => Err(RequestError::Unknown {
            path: path.to_owned(),
            name: name.to_owned(),
            known: if rest.is_empty() { "none".to_owned() } else { rest.to_owned() },
        }),
        ("refused", None) => {
            Err(RequestError::Refused { path: path.to_owned(), reason: rest.to_owned() })
        }
        _ => Err(RequestError::Nonsense {
            path: path.to_owned(),
            answer: answer.chars().take(40).collect(),
        }),
    }
}

fn connect(path: &Path, until: Instant) -> Result<UnixStream, RequestError> {
    loop {
        let source = match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(source) => source,
        };
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                if Instant::now() >= until {
                    return Err(RequestError::NotRunning { path, source });
                }
                thread::sleep(LOOK_EVERY);
            }
            _ => return Err(RequestError::Os { path, source }),
        }
    }
}

/// One line, and the descriptor that came with it.
fn receive(stream: &UnixStream) -> io::Result<(String, Option<OwnedFd>)> {
    let mut line = Vec::new();
    let mut descriptor = None;
    while !line.ends_with(b"\n") {
        let mut bytes = [0; 512];
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let mut control = cmsg_space!([std::os::fd::RawFd; 4]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut control), flags)?;
        let count = message.bytes;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                // All become owned, so that those we did not ask for are closed again.
                for number in numbers {
                    descriptor = Some(descriptor::received(number));
                }
            }
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&bytes[..count]);
        if line.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok((String::from_utf8_lossy(&line).trim_end().to_owned(), descriptor))
}
