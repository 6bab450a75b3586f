//! Chunks: parts of a state transfer.

use rkyv::rancor::Error as RkyvError;
use rkyv::util::AlignedVec;

use super::batch::{self, BatchView, Change, EmitRef, SentRef};
use super::frame::{self, HEADER_BYTES, Kind, SharedFrame};
use super::rows::{ArchivedChunkBody, ChunkBody, EmitRow};
use super::{WireError, spare};

/// A part of a state transfer that the primary's host is filling: copies of slots, each with the seq
/// of its last change, and packets that are not known to be sent.
#[derive(Debug, Default)]
pub struct OpenChunk {
    body: ChunkBody,
}

impl OpenChunk {
    /// An empty one.
    pub fn new() -> OpenChunk {
        OpenChunk::default()
    }

    /// Adds a slot. `false`, and left out, if the object is larger than can be.
    pub fn push(&mut self, slot: Change<'_>) -> bool {
        match batch::change_row(&mut self.body.rows, slot, None) {
            Some(row) => self.body.rows.changes.push(row),
            None => return false,
        }
        true
    }

    /// Adds a packet that is not known to be sent.
    pub fn push_emit(&mut self, emit: EmitRef<'_>) {
        batch::push_emit(&mut self.body.rows, emit);
    }

    /// How many packets are in it.
    pub fn packets(&self) -> usize {
        self.body.rows.emits.len()
    }

    /// Takes a packet out again.
    pub fn forget_packet(&mut self, sent: SentRef) {
        let is_it = |row: &EmitRow| row.seq == sent.seq.raw() && row.ordinal == sent.ordinal;
        self.body.rows.emits.retain(|row| !is_it(row));
    }

    /// Bytes that it needs as a frame, about. A chunk of 64 to 256 KiB keeps the stream busy without
    /// standing in the way of batches for long.
    pub fn bytes(&self) -> usize {
        self.body.rows.size()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.body.rows.is_empty()
    }

    pub(crate) fn forget_packets(&mut self) {
        self.body.rows.emits.clear();
    }

    pub(crate) fn encode(mut self, chunk_no: u64) -> SharedFrame {
        self.body.chunk_no = chunk_no;
        let buffer = frame::begin(self.body.rows.size() + 128);
        let buffer = rkyv::api::high::to_bytes_in::<_, RkyvError>(&self.body, buffer)
            .expect("serialising plain rows into memory cannot fail");
        frame::finish(Kind::Chunk, buffer)
    }
}

/// A part of a state transfer as it came: checked, and still the bytes that came.
#[derive(Debug)]
pub struct ChunkFrame {
    frame: AlignedVec,
    /// Number of the chunk in its transfer, from 1.
    pub chunk_no: u64,
}

impl ChunkFrame {
    pub(crate) fn decode(frame: AlignedVec) -> Result<ChunkFrame, WireError> {
        let body = access(&frame)?;
        body.rows.check()?;
        Ok(ChunkFrame { chunk_no: body.chunk_no.to_native(), frame })
    }

    /// Its content. A copy is applied only if its seq is above that of the slot (or the slot has none):
    /// batches overtake copies, and a copy may name a commit that it does not show yet.
    pub fn view(&self) -> BatchView<'_> {
        let body = access(&self.frame).expect("checked when the frame came, and not changed since");
        BatchView { rows: &body.rows }
    }
}

impl Drop for ChunkFrame {
    fn drop(&mut self) {
        spare::give(std::mem::take(&mut self.frame));
    }
}

fn access(frame: &[u8]) -> Result<&ArchivedChunkBody, WireError> {
    rkyv::access::<ArchivedChunkBody, RkyvError>(&frame[HEADER_BYTES..])
        .map_err(|_| WireError::Body { kind: Kind::Chunk as u8 })
}
