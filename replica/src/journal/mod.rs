//! A journal of what a region went through, in a directory on a disk: for the day on which both regions are gone.
//!
//! ```text
//!   DIR/lock                     held by the one node that writes here, or by who replays
//!   DIR/checkpoint-N.state       header ─ chunk ─ chunk ─ … ─ end       the whole state, copied while it changed
//!   DIR/segment-N.log            header ─ batch ─ batch ─ …             what was changed from there on
//!   DIR/segment-N+1.log          header ─ batch ─ …
//!   DIR/checkpoint-N.state.tmp   one that is not whole yet
//!   DIR/aside-MILLISECONDS/      a journal that held what its successor does not
//! ```
//!
//! Batches, chunks and the end are frames just as they travel between the nodes: length, crc32c, rkyv. So what is
//! replayed is checked as what a peer sends. The headers (see [`Header`]) say of which pair, geometry and history
//! all that is.
//!
//! # What holds at all times
//! * **J1** An acknowledgement never waits for the journal. Where the disk is slower than the pair the journal falls
//!   behind: what it leaves out is counted, and a checkpoint makes up for it.
//! * **J2** A checkpoint counts once its frames, and the batches of its segment up to the position that its end
//!   names, are on the disk. Only then it gets its name, and only then what is older is removed.
//! * **J3** What is older is removed only if its state is part of the new one. Otherwise it is put aside.
//! * **J4** A segment follows another one only if it begins at the very position, of the same history, where that one
//!   ends. So a replay ends with a state that the pair had, or says that there is none.
//! * **J5** Nothing is ever appended to the segment of an earlier process, and a replay changes nothing here.
//!
//! [`mod@format`] and [`scan`] know bytes, [`survey`] knows a directory, `files` writes, `writer` is the thread.

pub mod format;
pub mod scan;
pub mod survey;

mod files;
mod lock;
mod writer;

pub use files::Fsync;
pub use format::{FileKind, Header, HeaderError, Identity};
pub use lock::{Lock, LockError};
pub use survey::{CheckpointLook, Plan, SegmentLook, Stop, Survey, SurveyError};
pub(crate) use writer::{Frame, Journal, Piece, Settings, State};

#[cfg(test)]
mod tests;
