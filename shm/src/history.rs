//! What a node must find again after its death: where the epochs of its state began, and the batch that it was
//! writing.
//!
//! Both are written by the node alone. The history is void while it is replaced (`count` is zero): then nothing is
//! known of the state, and all of it is asked for anew. A staged batch is whole before a single change of it is
//! made, so a node that finds itself in the middle of one (see [`Region::is_torn`]) writes it once more.

use crate::geometry::Geometry;
use crate::layout::OPERATIONS_MAX;
use crate::region::Region;
use crate::sync::{AtomicU64, Ordering};
use crate::words::Seq;

/// Epochs that a region remembers. State that is older is of no use to anybody.
pub const EPOCHS_MAX: usize = 32;

/// A batch is sealed at the first end of a commit beyond so many bytes.
const BATCH_BYTES: u64 = 256 << 10;
/// Rows that describe a batch, and what a frame has around them.
const FRAME_BYTES: u64 = 128 << 10;
/// The largest commit that is staged: of so many bytes at most, whatever the classes could hold.
const COMMIT_BYTES_MAX: u64 = 16 << 20;

/// The beginning of an epoch: two states that have one in common were equal there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochBegin {
    /// The epoch.
    pub epoch: u16,
    /// The last commit of older epochs that its primary held.
    pub base: Seq,
    /// Incarnation of that primary's region.
    pub leader: u64,
}

#[repr(C)]
pub(crate) struct EpochPlace {
    epoch: AtomicU64,
    base: AtomicU64,
    leader: AtomicU64,
}

/// The history, and what is known of the staged batch; its bytes follow behind.
#[repr(C, align(64))]
pub(crate) struct RecoveryRow {
    /// Epochs below, oldest first.
    count: AtomicU64,
    /// Seq before the staged batch, and its last.
    staged_prev: AtomicU64,
    staged_last: AtomicU64,
    staged_bytes: AtomicU64,
    epochs: [EpochPlace; EPOCHS_MAX],
}

/// Bytes that a staged batch can have in a region of this geometry: a multiple of 64.
pub(crate) fn stage_bytes(geometry: &Geometry) -> u64 {
    let largest = geometry.classes.iter().map(|class| class.payload_bytes).max().unwrap_or(0);
    let mut bytes = 0;
    bytes += BATCH_BYTES; // what fits before it is sealed
    bytes += (OPERATIONS_MAX as u64 * u64::from(largest)).min(COMMIT_BYTES_MAX); // the commit beyond
    bytes += FRAME_BYTES;
    bytes.next_multiple_of(64)
}

/// A batch that was about to be written when its node died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedBatch {
    /// The state before it.
    pub prev: Seq,
    /// The state after it.
    pub last: Seq,
    /// As they came; who staged them can tell whether they are whole.
    pub bytes: Vec<u8>,
}

impl Region {
    /// Where the epochs of its state began, oldest first. Empty: nothing is known of the state.
    pub fn history(&self) -> Vec<EpochBegin> {
        let row = self.map.recovery();
        let count = row.count.load(Ordering::Acquire) as usize;
        let epochs = row.epochs.iter().take(count).map(|place| EpochBegin {
            epoch: place.epoch.load(Ordering::Relaxed) as u16,
            base: Seq::from_bits(place.base.load(Ordering::Relaxed)),
            leader: place.leader.load(Ordering::Relaxed),
        });
        epochs.collect()
    }

    /// Replaces the history; of one that is too long the newest [`EPOCHS_MAX`] epochs are kept. For the node.
    pub fn set_history(&self, history: &[EpochBegin]) {
        let row = self.map.recovery();
        let kept = &history[history.len().saturating_sub(EPOCHS_MAX)..];
        // Void while it is neither the old nor the new one. Only a node reads it, and not this one meanwhile; what
        // counts is what its successor finds in the file, and that is the order of the stores of this process.
        row.count.store(0, Ordering::Release);
        for (place, begin) in row.epochs.iter().zip(kept) {
            place.epoch.store(begin.epoch.into(), Ordering::Release);
            place.base.store(begin.base.to_bits(), Ordering::Release);
            place.leader.store(begin.leader, Ordering::Release);
        }
        row.count.store(kept.len() as u64, Ordering::Release);
    }

    /// Keeps a batch until it is written. False if it is larger than any that this geometry should give rise to:
    /// a death in the middle of it then costs the state.
    pub fn stage(&self, prev: Seq, last: Seq, bytes: &[u8]) -> bool {
        let (row, words) = (self.map.recovery(), self.map.stage());
        row.staged_bytes.store(0, Ordering::Release);
        if bytes.len() > words.len() * 8 {
            return false;
        }
        let (whole, rest) = bytes.as_chunks::<8>();
        for (word, bytes) in words.iter().zip(whole) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        if let Some(word) = words.get(whole.len()) {
            let mut end = [0; 8];
            end[..rest.len()].copy_from_slice(rest);
            word.store(u64::from_le_bytes(end), Ordering::Relaxed);
        }
        row.staged_prev.store(prev.to_bits(), Ordering::Relaxed);
        row.staged_last.store(last.to_bits(), Ordering::Relaxed);
        row.staged_bytes.store(bytes.len() as u64, Ordering::Release);
        true
    }

    /// The batch in the middle of which this region stands, if its node died there.
    pub fn staged(&self) -> Option<StagedBatch> {
        let (row, words) = (self.map.recovery(), self.map.stage());
        let bytes = usize::try_from(row.staged_bytes.load(Ordering::Acquire)).ok()?;
        let staged = StagedBatch {
            prev: Seq::from_bits(row.staged_prev.load(Ordering::Relaxed)),
            last: Seq::from_bits(row.staged_last.load(Ordering::Relaxed)),
            bytes: words
                .get(..bytes.div_ceil(8))?
                .iter()
                .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
                .take(bytes)
                .collect(),
        };
        let is_this = staged.prev == self.gathered() && staged.last == self.commit_seq();
        (bytes > 0 && self.is_torn() && is_this).then_some(staged)
    }
}
