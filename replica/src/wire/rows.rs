//! The rows of batches and chunks, as they lie in a frame.
//!
//! A row has a fixed size; keys, values and payloads lie together in one run of bytes behind the
//! rows, and a row names its part by offset and length. So encoding is a few copies, validation
//! is linear in the rows and not in the bytes, and there is no allocation per change.
#![allow(missing_docs, reason = "rkyv derives public twins of these private types")]

use rkyv::{Archive, Deserialize, Serialize};

use super::WireError;

/// A part of the run of bytes.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub(crate) at: u32,
    pub(crate) len: u32,
}

/// One slot as the last commit of the batch left it.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug)]
pub(crate) struct ChangeRow {
    pub(crate) seq: u64,
    /// [`NO_TIMER`] when the object has none.
    pub(crate) timer_left_ns: u64,
    pub(crate) slot: u32,
    pub(crate) incarnation: u32,
    /// The key, directly followed by the value.
    pub(crate) bytes: Span,
    pub(crate) key_len: u32,
    pub(crate) queue: u16,
    pub(crate) prio: u8,
    pub(crate) flags: u8,
}

pub(crate) const NO_TIMER: u64 = u64::MAX;
/// The slot is free: nothing but slot, incarnation and seq means anything.
pub(crate) const FLAG_REMOVED: u8 = 1;
pub(crate) const FLAG_READY: u8 = 2;
pub(crate) const FLAG_KEYED: u8 = 4;

/// One slot whose object is the one before, with a value of which some lines are new; see [`patch`](super::patch). A
/// row of few bytes: it is the usual one.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug)]
pub(crate) struct PatchRow {
    /// Lower half; the upper one is the same for all.
    pub(crate) seq_low: u32,
    pub(crate) slot: u32,
    pub(crate) incarnation: u32,
    /// Lower half of the checksum of key and value afterwards.
    pub(crate) check: u32,
    /// Its bytes follow those of the row before.
    pub(crate) len: u16,
    pub(crate) queue: u8,
    /// Letter: 1 bit, flags: 3 bits, lane: 4 bits.
    pub(crate) prio_flags: u8,
}

/// A packet that a commit emitted and nobody is known to have sent.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug)]
pub(crate) struct EmitRow {
    pub(crate) seq: u64,
    pub(crate) payload: Span,
    pub(crate) ordinal: u16,
    pub(crate) port: u16,
    pub(crate) endpoint: [u8; 24],
}

/// A packet that has been sent.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug)]
pub(crate) struct SentRow {
    pub(crate) seq: u64,
    pub(crate) ordinal: u16,
}

/// The content of a [`Kind::Batch`](super::frame::Kind::Batch) frame.
#[derive(Archive, Serialize, Deserialize, Debug, Default)]
pub(crate) struct BatchBody {
    pub(crate) table_no: u64,
    pub(crate) prev: u64,
    pub(crate) last: u64,
    pub(crate) digest: Option<u64>,
    pub(crate) epoch: u16,
    pub(crate) rows: Rows,
}

/// The content of a [`Kind::Chunk`](super::frame::Kind::Chunk) frame.
#[derive(Archive, Serialize, Deserialize, Debug, Default)]
pub(crate) struct ChunkBody {
    pub(crate) chunk_no: u64,
    pub(crate) rows: Rows,
}

/// What batches and chunks have in common.
#[derive(Archive, Serialize, Deserialize, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) changes: Vec<ChangeRow>,
    pub(crate) patches: Vec<PatchRow>,
    /// Upper half of the seq of all patches.
    pub(crate) patches_high: u32,
    pub(crate) emits: Vec<EmitRow>,
    pub(crate) sent: Vec<SentRow>,
    pub(crate) bytes: Vec<u8>,
    /// Of the patches.
    pub(crate) lines: Vec<u8>,
}

impl Rows {
    pub(crate) fn clear(&mut self) {
        self.changes.clear();
        self.patches.clear();
        self.lines.clear();
        self.emits.clear();
        self.sent.clear();
        self.bytes.clear();
    }

    /// Bytes that a frame of this content needs, about.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
            + self.lines.len()
            + self.patches.len() * size_of::<PatchRow>()
            + self.changes.len() * size_of::<ChangeRow>()
            + self.emits.len() * size_of::<EmitRow>()
            + self.sent.len() * size_of::<SentRow>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.patches.is_empty()
            && self.emits.is_empty()
            && self.sent.is_empty()
    }

    pub(crate) fn has_no_memory(&self) -> bool {
        self.is_empty() && self.bytes.capacity() == 0
    }

    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) -> Span {
        let at = u32::try_from(self.bytes.len()).expect("a batch is sealed long before 4 GiB");
        let len = u32::try_from(bytes.len()).expect("objects are at most OBJECT_BYTES_MAX");
        self.bytes.extend_from_slice(bytes);
        Span { at, len }
    }
}

impl ArchivedRows {
    /// Every range inside the bytes, every number below its limit.
    pub(crate) fn check(&self) -> Result<(), WireError> {
        for row in self.changes.iter() {
            let bytes = part(&self.bytes, &row.bytes)?;
            limit("an object's length", bytes.len() as u64, super::OBJECT_BYTES_MAX as u64)?;
            limit("a key's length", row.key_len.to_native().into(), bytes.len() as u64)?;
            limit("a change's flags", row.flags.into(), 7)?;
        }
        for row in self.emits.iter() {
            let payload = part(&self.bytes, &row.payload)?;
            limit("a packet's length", payload.len() as u64, super::OBJECT_BYTES_MAX as u64)?;
        }
        super::patch::check(&self.patches, &self.lines)
    }
}

/// The bytes a span names, if they exist.
pub(crate) fn part<'a>(bytes: &'a [u8], span: &ArchivedSpan) -> Result<&'a [u8], WireError> {
    let at = span.at.to_native() as usize;
    // Two `u32`s: the sum cannot overflow on the 64-bit machines we build for.
    let end = at + span.len.to_native() as usize;
    bytes.get(at..end).ok_or(WireError::Value {
        what: "the end of a row's bytes",
        found: end as u64,
        max: bytes.len() as u64,
    })
}

pub(super) fn limit(what: &'static str, found: u64, max: u64) -> Result<(), WireError> {
    if found > max { Err(WireError::Value { what, found, max }) } else { Ok(()) }
}
