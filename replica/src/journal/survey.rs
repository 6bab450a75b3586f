//! A directory as it is found: which files there are, how far each can be read, and what a replay would lead to.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::format::{FileKind, Header, HeaderError, Identity, parse_name};
use super::scan::{self, Ending, Record};
use crate::protocol::{History, Seq};

/// A journal that has more files than this is none of ours.
const FILES_MAX: usize = 100_000;

/// A segment.
#[derive(Debug)]
pub struct SegmentLook {
    /// Where it is.
    pub path: PathBuf,
    /// As its name says.
    pub number: u64,
    /// Its length.
    pub bytes: u64,
    /// What it says of itself.
    pub header: Result<Header, HeaderError>,
    /// Batches that can be read, each going on from the one before.
    pub batches: u64,
    /// The last commit of the last of them.
    pub upto: Seq,
    /// How it ends.
    pub ending: Ending,
    /// A batch does not go on from the one before: the position that it begins with instead.
    pub jumps_to: Option<Seq>,
}

/// A checkpoint.
#[derive(Debug)]
pub struct CheckpointLook {
    /// Where it is.
    pub path: PathBuf,
    /// As its name says: that of the segment that goes on from it.
    pub number: u64,
    /// Its length.
    pub bytes: u64,
    /// What it says of itself.
    pub header: Result<Header, HeaderError>,
    /// Objects in it.
    pub objects: u64,
    /// Packets in it that were not known to be sent.
    pub packets: u64,
    /// It is a state that was only together with all batches up to here. `None`: it is not whole.
    pub through: Option<Seq>,
    /// How it ends.
    pub ending: Ending,
}

/// What a replay would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// It begins with this checkpoint,
    pub checkpoint: u64,
    /// goes on with these segments,
    pub segments: Vec<u64>,
    /// and reads so many batches.
    pub batches: u64,
    /// The state that it ends with.
    pub state: History,
    /// Number of a view that was known then.
    pub view: u64,
    /// What it cannot go on with, if anything is left.
    pub stop: Option<Stop>,
}

/// Why a replay ends before the last segment does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stop {
    /// Its header is none.
    #[error("segment {segment} cannot be read: {why}")]
    Header {
        /// Which one.
        segment: u64,
        /// Why.
        why: HeaderError,
    },
    /// It was damaged.
    #[error(
        "segment {segment} is damaged at byte {at} ({why}); {bytes} bytes from there on are left out"
    )]
    Damaged {
        /// Which one.
        segment: u64,
        /// Where.
        at: u64,
        /// Bytes from there on.
        bytes: u64,
        /// What is wrong there.
        why: crate::wire::WireError,
    },
    /// What is between them is missing.
    #[error("segment {segment} begins at {begins}, and what is before it ends at {ends}")]
    Gap {
        /// Which one.
        segment: u64,
        /// Where it begins.
        begins: Seq,
        /// Where the state before it ends.
        ends: Seq,
    },
}

/// Why a directory could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurveyError {
    /// A file or the directory could not be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is some other directory.
    #[error("{} has more than {FILES_MAX} files of a journal", .path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
}

/// Everything that is in a directory, oldest first.
#[derive(Debug, Default)]
pub struct Survey {
    /// The segments.
    pub segments: Vec<SegmentLook>,
    /// The checkpoints.
    pub checkpoints: Vec<CheckpointLook>,
    /// What a replay would do; `None`: there is no state in it.
    pub plan: Option<Plan>,
}

impl Survey {
    /// Reads every file in `dir`, each once. A directory that does not exist is empty.
    ///
    /// # Errors
    /// What cannot be read. What can be read and makes no sense is part of the survey.
    pub fn of(dir: &Path) -> Result<Survey, SurveyError> {
        let mut survey = Survey::default();
        for (kind, number, path) in files_of(dir)? {
            let failed = |source| SurveyError::Io { path: path.clone(), source };
            match kind {
                FileKind::Segment => {
                    survey.segments.push(segment(&path, number).map_err(failed)?);
                }
                FileKind::Checkpoint => {
                    survey.checkpoints.push(checkpoint(&path, number).map_err(failed)?);
                }
            }
        }
        let newest_first = survey.checkpoints.iter().rev();
        survey.plan = newest_first.filter_map(|checkpoint| survey.plan_from(checkpoint)).next();
        Ok(survey)
    }

    /// Whose journal it is, as its newest readable file says.
    pub fn identity(&self) -> Option<Identity> {
        let checkpoints = self.checkpoints.iter().rev().map(|file| &file.header);
        let mut headers = checkpoints.chain(self.segments.iter().rev().map(|file| &file.header));
        headers.find_map(|header| Some(header.as_ref().ok()?.identity))
    }

    /// Bytes at the ends of segments that were never written as a whole, with the segments' numbers.
    pub fn torn(&self) -> impl Iterator<Item = (u64, u64)> {
        self.segments.iter().filter_map(|segment| match segment.ending {
            Ending::Torn { bytes } => Some((segment.number, bytes)),
            _ => None,
        })
    }

    fn plan_from(&self, checkpoint: &CheckpointLook) -> Option<Plan> {
        let (through, header) = (checkpoint.through?, checkpoint.header.as_ref().ok()?);
        let mut plan = Plan {
            checkpoint: checkpoint.number,
            segments: Vec::new(),
            batches: 0,
            state: History { epochs: header.epochs.clone(), end: header.from },
            view: header.view,
            stop: None,
        };
        for segment in self.segments.iter().filter(|one| one.number >= checkpoint.number) {
            if let Err(stop) = plan.goes_on_with(segment, header.identity) {
                plan.stop = Some(stop);
                break;
            }
        }
        // The copies were made while it changed.
        (plan.state.end >= through).then_some(plan)
    }
}

impl Plan {
    fn goes_on_with(&mut self, look: &SegmentLook, identity: Identity) -> Result<(), Stop> {
        let segment = look.number;
        let header = match &look.header {
            Ok(header) => header,
            // Killed before it had written anything.
            Err(HeaderError::Short { .. }) => return Ok(()),
            Err(why) => return Err(Stop::Header { segment, why: why.clone() }),
        };
        if !header.follows(&self.state) || header.identity != identity {
            return Err(Stop::Gap { segment, begins: header.from, ends: self.state.end });
        }
        self.segments.push(segment);
        self.batches += look.batches;
        self.view = self.view.max(header.view);
        self.state = History { epochs: header.epochs.clone(), end: look.upto };
        if let Some(begins) = look.jumps_to {
            return Err(Stop::Gap { segment, begins, ends: look.upto });
        }
        match &look.ending {
            Ending::Whole | Ending::Torn { .. } => Ok(()),
            Ending::Damaged { at, bytes, why } => {
                Err(Stop::Damaged { segment, at: *at, bytes: *bytes, why: why.clone() })
            }
        }
    }
}

/// Segments and checkpoints in `dir` by their names, in order.
pub(super) fn files_of(dir: &Path) -> Result<Vec<(FileKind, u64, PathBuf)>, SurveyError> {
    let failed = |source| SurveyError::Io { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Some((kind, number)) = entry.file_name().to_str().and_then(parse_name) {
            files.push((kind, number, entry.path()));
        }
        if files.len() > FILES_MAX {
            return Err(SurveyError::TooMany { path: dir.to_owned() });
        }
    }
    files.sort_by_key(|(_, number, _)| *number);
    Ok(files)
}

fn segment(path: &Path, number: u64) -> io::Result<SegmentLook> {
    let file = File::open(path)?;
    let mut look = SegmentLook {
        path: path.to_owned(),
        number,
        bytes: file.metadata()?.len(),
        header: Err(HeaderError::Magic),
        batches: 0,
        upto: Seq::ZERO,
        ending: Ending::Whole,
        jumps_to: None,
    };
    let (header, mut frames) = match opened(file, FileKind::Segment, number)? {
        Ok(opened) => opened,
        Err(why) => {
            if let HeaderError::Short { .. } = why {
                look.ending = Ending::Torn { bytes: look.bytes };
            }
            look.header = Err(why);
            return Ok(look);
        }
    };
    look.upto = header.from;
    while let Some(record) = frames.next()? {
        match record {
            Record::Batch(batch) if batch.prev == look.upto && batch.last >= batch.prev => {
                look.batches += 1;
                look.upto = batch.last;
            }
            Record::Batch(batch) => {
                look.jumps_to = Some(batch.prev);
                break;
            }
            Record::Chunk(_) | Record::End(_) => {
                look.jumps_to = Some(Seq::ZERO);
                break;
            }
        }
    }
    look.header = Ok(header);
    look.ending = frames.ending();
    Ok(look)
}

fn checkpoint(path: &Path, number: u64) -> io::Result<CheckpointLook> {
    let file = File::open(path)?;
    let mut look = CheckpointLook {
        path: path.to_owned(),
        number,
        bytes: file.metadata()?.len(),
        header: Err(HeaderError::Magic),
        objects: 0,
        packets: 0,
        through: None,
        ending: Ending::Whole,
    };
    let (header, mut frames) = match opened(file, FileKind::Checkpoint, number)? {
        Ok(opened) => opened,
        Err(why) => {
            look.header = Err(why);
            return Ok(look);
        }
    };
    let mut chunks = 0;
    while let Some(record) = frames.next()? {
        match record {
            Record::Chunk(chunk) if look.through.is_none() && chunk.chunk_no == chunks + 1 => {
                chunks += 1;
                look.objects += chunk.view().changes().len() as u64;
                look.packets += chunk.view().emits().count() as u64;
            }
            Record::End(end) if look.through.is_none() && end.chunks == chunks => {
                look.through = Some(Seq::from_raw(end.through));
            }
            _ => {
                // Nothing that was ever written.
                look.through = None;
                break;
            }
        }
    }
    look.header = Ok(header);
    look.ending = frames.ending();
    if look.ending != Ending::Whole {
        look.through = None;
    }
    Ok(look)
}

type Opened = Result<(Header, scan::Frames<io::BufReader<File>>), HeaderError>;

/// Opens a file; its name and its header must agree.
pub(crate) fn opened(file: File, kind: FileKind, number: u64) -> io::Result<Opened> {
    let opened = scan::open(io::BufReader::with_capacity(256 << 10, file))?;
    Ok(opened.and_then(|(header, frames)| {
        if header.kind == kind && header.number == number {
            Ok((header, frames))
        } else {
            let (found, max) = (header.number, number);
            Err(HeaderError::Value { what: "the number", found, max })
        }
    }))
}
