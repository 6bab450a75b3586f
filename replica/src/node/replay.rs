//! A region made anew from a journal, because somebody decided so.
//!
//! The region gets an incarnation of its own, so no view names it: a node that starts with it waits, and a person lets it
//! serve ([`Request::Promote`](super::Request::Promote) with the loss accepted). A peer that has kept more, or serves, is
//! brought into step with it as with any node that returns.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hotpair_shm::{
    ApplyError, CreateError, Geometry, JoinError, Kind, NodeReport, Pages, Region, monotonic_ns,
};

use super::table::Table;
use super::{geometry_hash, roles};
use crate::journal::scan::Record;
use crate::journal::survey::opened;
use crate::journal::{FileKind, Identity, Lock, LockError, Plan, Survey, SurveyError};
use crate::protocol::{Seq, Tick};
use crate::wire::EpochStart;

/// Nobody lives in the region yet, and whoever wrote the journal is dead or dying.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is replayed, and into what.
#[derive(Clone, Debug)]
pub struct ReplayConfig {
    /// The journal's directory.
    pub dir: PathBuf,
    /// Number of the pair.
    pub cluster: u64,
    /// As in the node's certificate.
    pub member: String,
    /// The region to be made.
    pub region: PathBuf,
    /// What it looks like.
    pub geometry: Geometry,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// What was read.
    pub plan: Plan,
    /// Ends of segments that were never written as a whole and are left out: segment, bytes.
    pub torn: Vec<(u64, u64)>,
    /// Objects in the region.
    pub objects: u64,
    /// Packets that are sent again by a promotion.
    pub packets: u64,
    /// Where the digest of the state is another one than that of the node which made it.
    pub differs_at: Option<Seq>,
}

/// Why there is no region now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A node writes the journal.
    #[error("the journal cannot be taken")]
    Lock {
        /// Why.
        #[from]
        source: LockError,
    },
    /// It cannot be read.
    #[error("the journal cannot be read")]
    Survey {
        /// Why.
        #[from]
        source: SurveyError,
    },
    /// Nothing to begin with.
    #[error("{} holds no whole checkpoint with the batches that belong to it ({checkpoints} checkpoints, {segments} segments)", .dir.display())]
    Nothing {
        /// The directory.
        dir: PathBuf,
        /// Checkpoints that are there, whole or not.
        checkpoints: usize,
        /// Segments.
        segments: usize,
    },
    /// Of another pair, or of another geometry.
    #[error(
        "the journal is of another {what}: {found:016x}, the configuration says {expected:016x}"
    )]
    Other {
        /// Pair or geometry.
        what: &'static str,
        /// In the journal.
        found: u64,
        /// In the configuration.
        expected: u64,
    },
    /// There is one, perhaps with a newer state.
    #[error("there is a region at {}", .path.display())]
    Exists {
        /// Its file.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot create the region")]
    Create {
        /// Why.
        #[from]
        source: CreateError,
    },
    /// It cannot be used.
    #[error("cannot take the node's seat in the region")]
    Join {
        /// Why.
        #[from]
        source: JoinError,
    },
    /// What was read does not fit in.
    #[error("what the journal says at {at} cannot be written into the region")]
    Apply {
        /// The last commit before it.
        at: Seq,
        /// Why.
        source: ApplyError,
    },
    /// A file is not any more what it was a moment ago.
    #[error("{} has changed while it was read", .path.display())]
    Changed {
        /// Which one.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Makes the region. Where that fails there is none.
///
/// # Errors
/// Each says what is in the way; the journal is as it was.
pub fn replay(config: &ReplayConfig) -> Result<Replayed, ReplayError> {
    let path = &config.region;
    if path.exists() {
        return Err(ReplayError::Exists { path: path.clone() });
    }
    let _lock = Lock::take(&config.dir, PATIENCE)?;
    let survey = Survey::of(&config.dir)?;
    let expected = Identity { cluster: config.cluster, geometry: geometry_hash(&config.geometry) };
    if let Some(found) = survey.identity() {
        same("pair", found.cluster, expected.cluster)?;
        same("geometry", found.geometry, expected.geometry)?;
    }
    let Some(plan) = &survey.plan else {
        return Err(ReplayError::Nothing {
            dir: config.dir.clone(),
            checkpoints: survey.checkpoints.len(),
            segments: survey.segments.len(),
        });
    };
    let pages = Pages { prefault: false, ..Pages::default() };
    let region = Region::create_with(path, &config.geometry, pages)?;
    let replayed = into(&region, config, &survey, plan);
    if replayed.is_err() {
        // Half of a state is none. The directory of regions lets us, since it let us make it.
        let _ = Region::remove(path);
    }
    replayed
}

fn same(what: &'static str, found: u64, expected: u64) -> Result<(), ReplayError> {
    if found == expected { Ok(()) } else { Err(ReplayError::Other { what, found, expected }) }
}

fn into(
    region: &Region,
    config: &ReplayConfig,
    survey: &Survey,
    plan: &Plan,
) -> Result<Replayed, ReplayError> {
    let seat = region.join(Kind::Node, &config.member)?;
    let epoch = plan.state.end.epoch();
    roles::quieten(region, epoch, PATIENCE);
    let mut table = Table::new(region.clone(), seat);
    table.rewind(None);
    for checkpoint in survey.checkpoints.iter().filter(|one| one.number == plan.checkpoint) {
        let at = checkpoint.header.as_ref().map_or(Seq::ZERO, |header| header.from);
        each(&checkpoint.path, FileKind::Checkpoint, checkpoint.number, |record| match record {
            Record::Chunk(chunk) => table.apply_chunk(chunk.view(), now()).map(|()| true),
            Record::Batch(_) | Record::End(_) => Ok(true),
        })?
        .map_err(|source| ReplayError::Apply { at, source })?;
    }
    let through = survey.checkpoints.iter().find(|one| one.number == plan.checkpoint);
    let through = through.and_then(|one| one.through).unwrap_or_default();
    let mut differs_at = None;
    let mut at = Seq::ZERO;
    let wanted = |number| plan.segments.contains(&number);
    for segment in survey.segments.iter().filter(|one| wanted(one.number)) {
        let mut left = segment.batches;
        each(&segment.path, FileKind::Segment, segment.number, |record| {
            let Record::Batch(batch) = record else { return Ok(false) };
            if left == 0 {
                return Ok(false); // the survey ends here
            }
            left -= 1;
            table.apply_batch(&batch, now())?;
            at = batch.last;
            let whole = batch.last >= through && differs_at.is_none();
            if batch.digest.is_some_and(|digest| whole && digest != table.digest_applied()) {
                differs_at = Some(batch.last);
            }
            Ok(true)
        })?
        .map_err(|source| ReplayError::Apply { at, source })?;
        if left > 0 {
            return Err(ReplayError::Changed { path: segment.path.clone() });
        }
    }
    table.end_replay(plan.state.end, &plan.state.epochs);
    region.become_backup(epoch);
    region.set_report(NodeReport { view: plan.view, ..region.report() });
    Ok(Replayed {
        plan: plan.clone(),
        torn: survey.torn().filter(|(number, _)| wanted(*number)).collect(),
        objects: region.objects().count() as u64,
        packets: region.packets().len() as u64,
        differs_at,
    })
}

/// Hands over what is in a file, as long as it is wanted.
fn each(
    path: &Path,
    kind: FileKind,
    number: u64,
    mut take: impl FnMut(Record) -> Result<bool, ApplyError>,
) -> Result<Result<(), ApplyError>, ReplayError> {
    let failed = |source| ReplayError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let Ok((_, mut frames)) = opened(file, kind, number).map_err(failed)? else {
        return Err(ReplayError::Changed { path: path.to_owned() });
    };
    while let Some(record) = frames.next().map_err(failed)? {
        match take(record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

/// Timers go on with the time that they had left when their objects were last changed.
fn now() -> Tick {
    Tick::from_nanos(monotonic_ns())
}

impl Table {
    /// Everything has been written: it is the state up to here.
    fn end_replay(&mut self, upto: Seq, epochs: &[EpochStart]) {
        self.set_applied(upto);
        self.become_whole(epochs);
    }
}
