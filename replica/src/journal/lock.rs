//! One process at a time writes a journal, or replays it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Why a journal is not ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// A node writes it.
    #[error("the journal in {} is in use by another process", .dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory cannot be used.
    #[error("cannot use {} for a journal", .path.display())]
    Io {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Held as long as this lives; the kernel gives it back when its process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] Flock<File>);

impl Lock {
    /// Makes the directory if need be, and takes it.
    ///
    /// # Errors
    /// In use, or not to be used at all.
    pub fn take(dir: &Path) -> Result<Lock, LockError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                Err(LockError::InUse { dir: dir.to_owned() })
            }
            Err((_, errno)) => Err(LockError::Io { path, source: errno.into() }),
        }
    }
}
