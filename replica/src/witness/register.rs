//! The register on disk: what was answered as won is there after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::arbiter::Question;
use crate::protocol::{Answer, Judgement, NodeId, Record, View, ViewError};

const MAGIC: [u8; 8] = *b"HOTPVIEW";
const VERSION: u32 = 1;
/// Magic, version, checksum, cluster, view.
const FILE_BYTES: usize = 8 + 4 + 4 + 8 + View::BYTES;

/// Why a register could not be opened. A damaged one is never taken for an empty one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Two witnesses with one register would not see each other's writes.
    #[error("another witness uses {}", .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file or directory could not be read or made.
    #[error("cannot open {}", .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file has another length than any register ever had.
    #[error("{} is {found} bytes, a register is {FILE_BYTES}", .path.display())]
    Length {
        /// The register.
        path: PathBuf,
        /// Its length.
        found: usize,
    },
    /// The file is something else, or of another version.
    #[error("{} is no register of version {VERSION} (it says {found})", .path.display())]
    Format {
        /// The register.
        path: PathBuf,
        /// The version it claims, 0 when it is none at all.
        found: u32,
    },
    /// The bytes are not those that were written.
    #[error("{} is damaged: checksum {found:08x}, expected {expected:08x}", .path.display())]
    Damaged {
        /// The register.
        path: PathBuf,
        /// The checksum of the content.
        expected: u32,
        /// The checksum in the file.
        found: u32,
    },
    /// The register is of another pair.
    #[error("{} belongs to pair {found:016x}, this witness serves {expected:016x}", .path.display())]
    OtherPair {
        /// The register.
        path: PathBuf,
        /// The id of this pair.
        expected: u64,
        /// The id in the file.
        found: u64,
    },
    /// The checksum holds and the content still is no view.
    #[error("{} holds no possible view", .path.display())]
    View {
        /// The register.
        path: PathBuf,
        /// What is impossible about it.
        source: ViewError,
    },
}

impl OpenError {
    /// Whether the bytes that are kept are the trouble: they say nothing about the view.
    pub fn is_about_content(&self) -> bool {
        matches!(
            self,
            Self::Length { .. } | Self::Format { .. } | Self::Damaged { .. } | Self::View { .. }
        )
    }
}

/// A view could not be made durable. What the disk holds now is unknown.
#[derive(Debug, thiserror::Error)]
#[error("cannot store the view in {}", .path.display())]
pub struct StoreError {
    /// The register.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

/// The record, in memory and on disk alike.
///
/// ```text
///   DIR/lock      held by the one witness that uses the directory
///   DIR/view      magic, version, crc, pair, view; replaced by a rename
///   DIR/view.tmp  the next one, until it is whole
/// ```
/// No file: new, or lost. Nobody can tell, so [`Record`] asks the nodes.
#[derive(Debug)]
pub struct Register {
    dir: PathBuf,
    cluster: u64,
    record: Record,
    /// A write failed half-way: nobody can say what a restart would find.
    broken: bool,
    _lock: Flock<File>,
}

impl Register {
    /// Opens the register of a pair in `dir`, which is made if need be.
    ///
    /// # Errors
    /// A register that is damaged, foreign or in use is refused: an operator has to decide.
    pub fn open(dir: &Path, cluster: u64) -> Result<Self, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| OpenError::InUse { path: dir.to_owned() })?;
        let path = view_path(dir);
        let view = match fs::read(&path) {
            Ok(bytes) => Some(decode(&path, &bytes, cluster)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(OpenError::Io { path, source }),
        };
        let record = Record::new(view);
        Ok(Self { dir: dir.to_owned(), cluster, record, broken: false, _lock: lock })
    }

    /// Opens an empty register where one with damaged content is, which is kept beside it as
    /// `view.damaged`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn set_aside(dir: &Path, cluster: u64) -> Result<Self, OpenError> {
        let path = view_path(dir);
        fs::rename(&path, dir.join("view.damaged"))
            .map_err(|source| OpenError::Io { path, source })?;
        Self::open(dir, cluster)
    }

    /// What `node` says is enough to fill this register, if it is empty: an operator's decision.
    #[must_use]
    pub fn believing(mut self, node: NodeId) -> Self {
        self.record = self.record.believing(node);
        self
    }

    /// The view that it answers by, if there is one.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        self.record.view()
    }

    /// Answers a question of `node`; what follows from it is durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`] means that the change may or may not survive a restart, so neither "won" nor
    /// "lost" would be true; from then on nothing is answered.
    pub fn answer(&mut self, node: NodeId, question: &Question) -> Result<Answer, StoreError> {
        if self.broken {
            let source = io::Error::other("an earlier write failed; the witness must be restarted");
            return Err(StoreError { path: view_path(&self.dir), source });
        }
        let Judgement { store, answer } =
            self.record.judge(node, question.testimony, &question.request);
        if let Some(view) = store {
            self.store(&view).map_err(|source| {
                self.broken = true;
                StoreError { path: view_path(&self.dir), source }
            })?;
        }
        Ok(answer)
    }

    /// Makes this the view, whatever was: for a node that keeps a record of its own.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub(crate) fn keep(&mut self, view: &View) -> Result<(), StoreError> {
        let failed = |source| StoreError { path: view_path(&self.dir), source };
        if self.broken {
            return Err(failed(io::Error::other("an earlier write failed; start the node again")));
        }
        self.store(view).inspect_err(|_| self.broken = true).map_err(failed)?;
        self.record = Record::new(Some(*view));
        Ok(())
    }

    fn store(&self, view: &View) -> io::Result<()> {
        let temporary = self.dir.join("view.tmp");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&encode(view, self.cluster))?;
        file.sync_all()?;
        fs::rename(&temporary, view_path(&self.dir))?;
        // The rename itself is durable only when the directory is.
        File::open(&self.dir)?.sync_all()
    }
}

fn view_path(dir: &Path) -> PathBuf {
    dir.join("view")
}

fn encode(view: &View, cluster: u64) -> Vec<u8> {
    let mut content = cluster.to_le_bytes().to_vec();
    content.extend(view.to_bytes());
    let mut file = MAGIC.to_vec();
    file.extend(VERSION.to_le_bytes());
    file.extend(crc32c::crc32c(&content).to_le_bytes());
    file.extend(content);
    file
}

fn decode(path: &Path, bytes: &[u8], cluster: u64) -> Result<View, OpenError> {
    let path = || path.to_owned();
    let Ok(bytes) = <&[u8; FILE_BYTES]>::try_from(bytes) else {
        return Err(OpenError::Length { path: path(), found: bytes.len() });
    };
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let version = if bytes[..8] == MAGIC { word(8) } else { 0 };
    if version != VERSION {
        return Err(OpenError::Format { path: path(), found: version });
    }
    let (found, content) = (word(12), &bytes[16..]);
    let expected = crc32c::crc32c(content);
    if found != expected {
        return Err(OpenError::Damaged { path: path(), expected, found });
    }
    let (pair, view) = content.split_at(8);
    let pair = u64::from_le_bytes(pair.try_into().expect("split at 8"));
    if pair != cluster {
        return Err(OpenError::OtherPair { path: path(), expected: cluster, found: pair });
    }
    View::from_bytes(view.try_into().expect("the length was checked"))
        .map_err(|source| OpenError::View { path: path(), source })
}
