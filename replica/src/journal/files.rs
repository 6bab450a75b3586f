//! The files of a journal, as its one writer sees them. What can fail on a disk does, so each step leaves a directory
//! that a replay understands.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::format::{FileKind, Header, Identity, file_name, parse_name};
use super::lock::{Lock, LockError};
use crate::protocol::Seq;
use crate::wire::EpochStart;

/// What a power cut may cost, beside what is still in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// What the kernel had not written by itself. The death of a process costs nothing.
    Never,
    /// So much time.
    Interval(Duration),
    /// Nothing: what has been taken off the queue is on the disk before more is.
    Batch,
}

/// A checkpoint is written to the disk in pieces of this size, so that its end does not take long at once.
const SYNC_EVERY: u64 = 8 << 20;
/// For the end of a process that was killed and is not gone yet.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many journals that were put aside are kept, the newest.
const ASIDE_MAX: usize = 4;

pub(super) struct Files {
    dir: PathBuf,
    _lock: Lock,
    identity: Identity,
    node: u8,
    next: u64,
    segment: Option<OpenSegment>,
    draft: Option<Draft>,
}

struct OpenSegment {
    file: File,
    header: Header,
    bytes: u64,
    is_dirty: bool,
}

/// A checkpoint that has no name yet.
struct Draft {
    file: BufWriter<File>,
    path: PathBuf,
    number: u64,
    bytes: u64,
    unsynced: u64,
}

impl Files {
    /// Takes the directory for this process.
    pub(super) fn open(dir: &Path, identity: Identity, node: u8) -> Result<Files, LockError> {
        let lock = Lock::take(dir, PATIENCE)?;
        let failed = |source| LockError::Io { path: dir.to_owned(), source };
        let mut last = 0;
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if let Some((_, number)) = parse_name(&name) {
                last = last.max(number);
            }
            if name.strip_suffix(".tmp").and_then(parse_name).is_some() {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        let dir = dir.to_owned();
        Ok(Files { dir, _lock: lock, identity, node, next: last + 1, segment: None, draft: None })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Begins a segment that goes on from this state, and gives its number.
    pub(super) fn begin_segment(
        &mut self,
        from: Seq,
        epochs: &[EpochStart],
        view: u64,
    ) -> io::Result<u64> {
        self.sync()?;
        self.segment = None;
        let header = Header {
            kind: FileKind::Segment,
            number: self.next,
            identity: self.identity,
            node: self.node,
            view,
            unix_ms: unix_ms(),
            from,
            epochs: epochs.to_vec(),
        };
        self.next += 1;
        let path = self.dir.join(file_name(FileKind::Segment, header.number));
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        let bytes = header.encode();
        file.write_all(&bytes)?;
        self.sync_dir()?;
        let number = header.number;
        let bytes = bytes.len() as u64;
        self.segment = Some(OpenSegment { file, header, bytes, is_dirty: true });
        Ok(number)
    }

    /// Bytes of the segment that is written.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment.as_ref().map_or(0, |segment| segment.bytes)
    }

    /// Adds a frame to the segment.
    pub(super) fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        let Some(segment) = &mut self.segment else {
            return Err(io::Error::other("no segment has been begun"));
        };
        segment.file.write_all(frame)?;
        segment.bytes += frame.len() as u64;
        segment.is_dirty = true;
        Ok(())
    }

    /// Whether something of the segment may not be on the disk.
    pub(super) fn is_dirty(&self) -> bool {
        self.segment.as_ref().is_some_and(|segment| segment.is_dirty)
    }

    /// What was added is on the disk when this returns.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match &mut self.segment {
            Some(segment) if segment.is_dirty => {
                segment.file.sync_data()?;
                segment.is_dirty = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Begins the checkpoint from which the present segment goes on.
    pub(super) fn begin_checkpoint(&mut self) -> io::Result<()> {
        self.abandon_checkpoint();
        let Some(segment) = &self.segment else {
            return Err(io::Error::other("no segment has been begun"));
        };
        let header = Header { kind: FileKind::Checkpoint, ..segment.header.clone() };
        let number = header.number;
        let path = self.dir.join(format!("{}.tmp", file_name(FileKind::Checkpoint, number)));
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let file = BufWriter::with_capacity(256 << 10, file);
        self.draft = Some(Draft { file, path, number, bytes: 0, unsynced: 0 });
        self.add(&header.encode())
    }

    /// Adds a frame to the checkpoint.
    pub(super) fn add(&mut self, frame: &[u8]) -> io::Result<()> {
        let Some(draft) = &mut self.draft else {
            return Err(io::Error::other("no checkpoint has been begun"));
        };
        draft.file.write_all(frame)?;
        draft.bytes += frame.len() as u64;
        draft.unsynced += frame.len() as u64;
        if draft.unsynced >= SYNC_EVERY {
            draft.file.flush()?;
            draft.file.get_ref().sync_data()?;
            draft.unsynced = 0;
        }
        Ok(())
    }

    /// Gives the checkpoint its name (J2). Its number and its bytes.
    pub(super) fn finish_checkpoint(&mut self, end: &[u8]) -> io::Result<(u64, u64)> {
        self.sync()?;
        self.add(end)?;
        let Some(mut draft) = self.draft.take() else {
            return Err(io::Error::other("no checkpoint has been begun"));
        };
        draft.file.flush()?;
        draft.file.get_ref().sync_all()?;
        fs::rename(&draft.path, self.dir.join(file_name(FileKind::Checkpoint, draft.number)))?;
        self.sync_dir()?;
        Ok((draft.number, draft.bytes))
    }

    pub(super) fn abandon_checkpoint(&mut self) {
        if let Some(draft) = self.draft.take() {
            // Whoever opens the directory next removes what this cannot.
            let _ = fs::remove_file(draft.path);
        }
    }

    /// Leaves the segment as it is.
    pub(super) fn close(&mut self) {
        self.abandon_checkpoint();
        self.segment = None;
    }

    /// Removes what is older than this checkpoint.
    pub(super) fn remove_older(&self, number: u64) -> io::Result<()> {
        self.each(|at| at < number, |path, _| fs::remove_file(path))
    }

    /// Removes these segments and all newer ones.
    pub(super) fn remove_from(&self, number: u64) -> io::Result<()> {
        self.each(|at| at >= number, |path, _| fs::remove_file(path))
    }

    /// Moves what is older than this checkpoint into a directory of its own, and says which.
    pub(super) fn put_aside(&self, number: u64) -> io::Result<PathBuf> {
        let aside = self.dir.join(format!("aside-{:013}", unix_ms()));
        fs::create_dir_all(&aside)?;
        self.each(|at| at < number, |path, name| fs::rename(path, aside.join(name)))?;
        let mut others: Vec<PathBuf> = fs::read_dir(&self.dir)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                name.and_then(|name| name.strip_prefix("aside-")?.parse::<u64>().ok()).is_some()
            })
            .collect();
        // Their names sort by time.
        others.sort_unstable();
        let spare = others.len().saturating_sub(ASIDE_MAX);
        others[..spare].iter().try_for_each(fs::remove_dir_all)?;
        Ok(aside)
    }

    fn each(
        &self,
        wanted: impl Fn(u64) -> bool,
        act: impl Fn(&Path, &str) -> io::Result<()>,
    ) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if parse_name(name).is_some_and(|(_, number)| wanted(number)) {
                act(&entry.path(), name)?;
            }
        }
        self.sync_dir()
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
