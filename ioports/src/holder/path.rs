//! A unix socket's place in the file system: replaced when its owner is dead, removed at the end.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};

/// Longest path that fits the kernel's `sockaddr_un` with its terminator.
const PATH_BYTES_MAX: usize = 107;

/// A path that we put a socket at. Dropping it removes it, if it is still ours.
#[derive(Debug)]
pub(crate) struct Bound {
    path: PathBuf,
    identity: (u64, u64),
}

impl Bound {
    pub(crate) fn as_path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Somebody may have removed it by hand and put another holder there.
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Why a socket could not be put at a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A living holder listens there.
    #[error("{} already belongs to a holder (pid {pid})", .path.display())]
    InUse {
        /// The path.
        path: PathBuf,
        /// Who listens; 0 if that is hidden from us.
        pid: i32,
    },
    /// Something that is not a socket is there, and is left alone.
    #[error("{} is not a socket", .path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// The kernel limits the length of such a path.
    #[error("{} has {bytes} bytes; the kernel takes at most {PATH_BYTES_MAX}", .path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The kernel refused.
    #[error("cannot listen at {}", .path.display())]
    Os {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl PathError {
    /// What to do about it, where that is known.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            PathError::InUse { pid, .. } if *pid > 0 => {
                Some(format!("stop it (kill {pid}), or choose another name"))
            }
            PathError::InUse { .. } => Some("choose another name".to_owned()),
            PathError::Occupied { path } => {
                Some(format!("move {} away, or choose another path", path.display()))
            }
            PathError::TooLong { .. } => {
                Some("choose a shorter directory, such as /run".to_owned())
            }
            PathError::Os { .. } => None,
        }
    }
}

/// Listens at `path`, for the owner alone.
pub(crate) fn listen(path: &Path) -> Result<(UnixListener, Bound), PathError> {
    let bytes = path.as_os_str().len();
    if bytes > PATH_BYTES_MAX {
        return Err(PathError::TooLong { path: path.to_owned(), bytes });
    }
    let os = |source| PathError::Os { path: path.to_owned(), source };

    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            // Another starter may have come first; then this is its error to give us.
            match UnixListener::bind(path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    let pid = listener_at(path).map_or(0, |alive| alive.unwrap_or(0));
                    return Err(PathError::InUse { path: path.to_owned(), pid });
                }
                other => other.map_err(os)?,
            }
        }
        other => other.map_err(os)?,
    };
    let bound = Bound { path: path.to_owned(), identity: identity(path).map_err(os)? };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(os)?;
    listener.set_nonblocking(true).map_err(os)?;
    Ok((listener, bound))
}

/// Removes the socket of a dead holder; anything else at `path` is an error.
fn remove_stale(path: &Path) -> Result<(), PathError> {
    let os = |source| PathError::Os { path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(os(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(PathError::Occupied { path: path.to_owned() });
    }
    let probed = (metadata.dev(), metadata.ino());
    if let Some(pid) = listener_at(path).map_err(os)? {
        return Err(PathError::InUse { path: path.to_owned(), pid });
    }
    // Only what we probed: another starter may have replaced it in the meantime.
    if identity(path).is_ok_and(|found| found == probed) {
        fs::remove_file(path).map_err(os)?;
    }
    Ok(())
}

/// The process that listens at `path`, if one does: a connection to a dead one is refused.
fn listener_at(path: &Path) -> io::Result<Option<i32>> {
    match UnixStream::connect(path) {
        Ok(stream) => Ok(Some(
            getsockopt(&stream.as_fd(), sockopt::PeerCredentials).map_or(0, |peer| peer.pid()),
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}
