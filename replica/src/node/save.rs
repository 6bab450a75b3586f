//! The state of a region that stands still, as a journal of one checkpoint: [`replay`](super::replay()) makes a region of it.
//!
//! Nothing is written into the region, and its node is not asked. Whether it stood still all the time is told by its role word,
//! which no change leaves as it was, and by the last position that was drawn.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use hotpair_shm::{AttachError, Region, Role, RoleEpoch, Seq as RegionSeq};
use serde_json::Value;

use super::geometry_hash;
use super::journal::Copies;
use super::table::{history_of, seq_of};
use crate::journal::{Fsync, Identity, Journal, LockError, Settings};
use crate::protocol::Seq;

/// A disk that has written nothing for so long does not write.
const PATIENCE: Duration = Duration::from_secs(600);
/// No segment of it is ever full.
const SEGMENT_BYTES: u64 = 1 << 40;

/// What is saved, and where.
#[derive(Clone, Debug)]
pub struct SaveConfig {
    /// The region.
    pub region: PathBuf,
    /// A directory that is empty, or is made.
    pub dir: PathBuf,
    /// Number of the pair.
    pub cluster: u64,
    /// Number of the node: 1 is a.
    pub node: u8,
}

/// What was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The last commit that is part of it.
    pub at: Seq,
    /// Objects.
    pub objects: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// Why nothing was saved. What was begun in the directory counts for nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// It is not there, or of another build.
    #[error("the region cannot be looked at")]
    Attach {
        /// Why.
        #[from]
        source: AttachError,
    },
    /// Its node runs and it serves, or follows.
    #[error("the region does not stand still: it is {role}")]
    Moving {
        /// What it is.
        role: Role,
    },
    /// Somebody let it go on meanwhile.
    #[error("the region did not stand still all the time: it was at {before}, and is at {after}")]
    Moved {
        /// The last commit before.
        before: RegionSeq,
        /// And after.
        after: RegionSeq,
    },
    /// It has never been anybody's.
    #[error("the region holds no state that is anybody's")]
    Nothing,
    /// Something is there.
    #[error("{} is not empty", .dir.display())]
    NotEmpty {
        /// Where.
        dir: PathBuf,
    },
    /// It cannot be used.
    #[error("cannot write there")]
    Lock {
        /// Why.
        #[from]
        source: LockError,
    },
    /// The disk, or a block of the region that is damaged.
    #[error("it cannot be written: {because}")]
    Failed {
        /// What the writer said.
        because: String,
    },
    /// A disk that says nothing.
    #[error("the disk has not written it within {waited:?}")]
    Late {
        /// How long was waited.
        waited: Duration,
    },
}

/// What does not change while a region stands still.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stand {
    role: RoleEpoch,
    last: RegionSeq,
    gathered: RegionSeq,
    report_view: u64,
}

/// Saves the state, and says what it is.
///
/// # Errors
/// Each says what is in the way.
pub fn save(config: &SaveConfig) -> Result<Saved, SaveError> {
    let region = Region::observe(&config.region)?;
    let before = stand(&region)?;
    let history = history_of(&region);
    if history.epochs.is_empty() {
        return Err(SaveError::Nothing);
    }
    if !is_empty(&config.dir) {
        return Err(SaveError::NotEmpty { dir: config.dir.clone() });
    }
    let objects = region.objects().count() as u64;
    let settings = Settings {
        dir: config.dir.clone(),
        // Once, at its end.
        fsync: Fsync::Batch,
        segment_bytes: SEGMENT_BYTES,
        identity: Identity { cluster: config.cluster, geometry: geometry_hash(region.geometry()) },
        node: config.node,
    };
    let (tell, told) = mpsc::channel();
    let tell = move |event: &str, fields: Value| {
        // Who waits no longer has an answer.
        let _ = tell.send((event.to_owned(), fields));
    };
    let copies = Box::new(Copies::of(region.clone()));
    let mut journal = Journal::start(settings, copies, Box::new(tell))?;
    if !journal.begin(history, before.report_view, false) {
        return Err(SaveError::Failed { because: "its queue is full".to_owned() });
    }
    let bytes = loop {
        let Ok((event, fields)) = told.recv_timeout(PATIENCE) else {
            return Err(SaveError::Late { waited: PATIENCE });
        };
        match event.as_str() {
            "journal_checkpoint" => break fields["bytes"].as_u64().unwrap_or(0),
            "journal_failed" => return Err(SaveError::Failed { because: fields.to_string() }),
            _ => {}
        }
    };
    drop(journal);
    let after = stand(&region)?;
    if after == before {
        return Ok(Saved { at: seq_of(before.last), objects, bytes });
    }
    // Pieces of several states: the end of it must not be found.
    let _ = std::fs::remove_dir_all(&config.dir);
    Err(SaveError::Moved { before: before.last, after: after.last })
}

/// What the region is, if nothing can change it but who lets it go on.
fn stand(region: &Region) -> Result<Stand, SaveError> {
    let role = region.role();
    let still = match role.role() {
        Role::Changing => region.holdouts().is_empty() && region.gathered() == region.commit_seq(),
        // Without a node nobody is let begin anything, but who is in the middle of something may end it.
        _ => !region.node_alive() && region.participants().iter().all(|it| !it.alive),
    };
    if !still {
        return Err(SaveError::Moving { role: role.role() });
    }
    let report_view = region.report().view;
    Ok(Stand { role, last: region.commit_seq(), gathered: region.gathered(), report_view })
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}
