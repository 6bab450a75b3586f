//! The two halves of a batch, without what lies between them: for the bench `delta`.

use hotpair_shm::{ApplyError, GatheredCommit, JoinError, Kind, Region};
use rkyv::util::AlignedVec;

use super::now;
use super::table::{Table, record};
use super::timers::Timers;
use crate::digest::TableDigest;
use crate::protocol::Seq;
use crate::wire::{self, BatchBody, Message, OpenBatch, SharedFrame, WireError};

/// A batch is closed by the bench, not by its size.
const SEAL_BYTES: usize = 1 << 20;

/// The primary's half: what the loop does with commits once they are gathered.
#[derive(Debug)]
pub struct Encoding {
    open: OpenBatch,
    timers: Timers,
    digest: TableDigest,
    tables: u64,
    batched: Seq,
}

impl Encoding {
    /// For a table of `slots`.
    pub fn new(slots: u32) -> Self {
        let mut open = OpenBatch::new(slots, SEAL_BYTES);
        open.set_recording(true);
        let (timers, digest) = (Timers::new(slots), TableDigest::new(slots));
        Self { open, timers, digest, tables: 0, batched: Seq::new(1, 0) }
    }

    /// Makes a batch of some commits, all of them newer than those before.
    pub fn encode(&mut self, commits: &[GatheredCommit<'_>]) -> SharedFrame {
        let now = now();
        let prev = self.batched;
        for commit in commits {
            record(&mut self.open, commit, now, &mut self.timers, &mut self.digest);
            self.batched = Seq::from_raw(commit.seq.to_bits());
            self.open.end_of_commit(self.batched);
        }
        self.tables += 1;
        let body = BatchBody {
            table_no: self.tables,
            prev: prev.raw(),
            last: self.batched.raw(),
            digest: self.digest.at(self.batched),
            epoch: 1,
            rows: self.open.take(),
        };
        let frame = wire::encode_batch(&body);
        self.open.recycle(body.rows);
        frame
    }
}

/// A frame as it came from the stream.
#[derive(Debug)]
pub struct Received(AlignedVec);

impl Received {
    /// A copy of what was sent.
    pub fn of(frame: &SharedFrame) -> Self {
        let mut bytes = AlignedVec::with_capacity(frame.len());
        bytes.extend_from_slice(frame.as_ref());
        Self(bytes)
    }
}

/// The back-up's half.
pub struct Applying {
    table: Table,
}

impl std::fmt::Debug for Applying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applying").finish_non_exhaustive()
    }
}

/// Why a batch is not in the region.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotApplied {
    /// It is none.
    #[error("the frame is no batch")]
    Wire(#[from] WireError),
    /// It does not fit.
    #[error("the region does not take it")]
    Apply(#[from] ApplyError),
}

impl Applying {
    /// Makes an empty region a back-up.
    ///
    /// # Errors
    /// When it has a node already.
    pub fn new(region: Region) -> Result<Self, JoinError> {
        let seat = region.join(Kind::Node, "bench")?;
        region.begin_change(1);
        region.become_backup(1);
        Ok(Self { table: Table::new(region, seat) })
    }

    /// Checks a batch as one from a peer, and writes it into the region. Gives the digest of the table.
    ///
    /// # Errors
    /// Any: nothing is left out.
    pub fn apply(&mut self, frame: Received) -> Result<u64, NotApplied> {
        let batch = match Message::decode(frame.0)? {
            Message::Batch(batch) => batch,
            _ => return Err(WireError::Kind { kind: 0 }.into()),
        };
        self.table.apply_batch(&batch, now())?;
        Ok(self.table.digest_applied())
    }
}
