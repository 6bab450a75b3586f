//! Batches: what the commits between two positions changed.

use std::collections::VecDeque;

use rkyv::rancor::Error as RkyvError;
use rkyv::util::AlignedVec;

use super::frame::{self, HEADER_BYTES, Kind, SharedFrame};
use super::patch::{self, Drafts, PatchRef};
use super::rows::{self, ArchivedBatchBody, ArchivedRows, BatchBody, ChangeRow, EmitRow, Rows};
use super::rows::{FLAG_KEYED, FLAG_READY, FLAG_REMOVED, NO_TIMER, SentRow};
use super::{OBJECT_BYTES_MAX, WireError, spare};
use crate::protocol::Seq;

/// An object as a commit left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutRef<'a> {
    /// Index of its slot, the same on both nodes.
    pub slot: u32,
    /// Which object of this slot. Another one than before means: withdrawn and created.
    pub incarnation: u32,
    /// The commit that left it so.
    pub seq: Seq,
    /// Index of its queue.
    pub queue: u16,
    /// Its lane.
    pub prio: u8,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: &'a [u8],
    /// Time left on its timer.
    pub timer_left_ns: Option<u64>,
    /// Whether it is ready without a message or a timer.
    pub ready: bool,
    /// What was there before, so that only what differs is shipped. None in what came.
    pub basis: Option<Basis<'a>>,
}

/// The value of which a [put](PutRef) made another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis<'a> {
    /// The same object's value before the commit.
    pub value: &'a [u8],
    /// Lower half of the checksum that key and value have after it.
    pub check: u32,
}

/// What happened to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// It holds this.
    Put(PutRef<'a>),
    /// It is free.
    Remove {
        /// Index of the slot.
        slot: u32,
        /// The object that was withdrawn.
        incarnation: u32,
        /// The commit that did it.
        seq: Seq,
    },
}

/// A packet that a commit emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmitRef<'a> {
    /// The commit.
    pub seq: Seq,
    /// Which of its packets.
    pub ordinal: u16,
    /// Index of the port.
    pub port: u16,
    /// Where to, as the region stores it.
    pub endpoint: [u8; 24],
    /// What.
    pub payload: &'a [u8],
}

/// A packet that has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SentRef {
    /// The commit that emitted it.
    pub seq: Seq,
    /// Which of its packets.
    pub ordinal: u16,
}

/// The batch that the primary is filling.
///
/// A slot that changes several times is in it once, as the last change left it: whole, or what differs from what it was
/// when the batch was begun. Nothing is kept while there is nobody to ship to; the calls are the same.
#[derive(Debug)]
pub struct OpenBatch {
    rows: Rows,
    patches: Drafts,
    /// The back-up has everything that was shipped before.
    patching: bool,
    /// Per slot: the batch that it is in, and its row, with [`PATCH`] that of a patch. Sized once.
    row_of: Vec<(u32, u32)>,
    /// Counts batches, so that `row_of` need not be cleared.
    tag: u32,
    /// Content that grew beyond the seal size, up to the commit that it is complete for.
    sealed: VecDeque<(Rows, Seq)>,
    seal_bytes: usize,
    recording: bool,
    /// Whether something is recorded beyond the last watermark, perhaps a part of a commit.
    ragged: bool,
    /// Somebody waits to hear of commits that write to this queue.
    awaited_queue: Option<u16>,
    /// One of them is recorded.
    awaited: bool,
}

impl OpenBatch {
    pub(crate) fn new(slots: u32, seal_bytes: usize) -> OpenBatch {
        OpenBatch {
            rows: Rows::default(),
            patches: Drafts::default(),
            patching: false,
            row_of: vec![(0, 0); slots as usize],
            tag: 1,
            sealed: VecDeque::new(),
            seal_bytes: seal_bytes.min(1 << 20),
            recording: false,
            ragged: false,
            awaited_queue: None,
            awaited: false,
        }
    }

    /// Somebody waits to hear of commits that write to this queue: they are not kept waiting for others.
    pub(crate) fn awaiting(mut self, queue: Option<u16>) -> OpenBatch {
        self.awaited_queue = queue;
        self
    }

    /// Records a change. A slot outside the geometry, or an object larger than can be, is a bug of
    /// the caller and is left out, counted by `false`.
    pub fn push(&mut self, change: Change<'_>) -> bool {
        if !self.recording {
            return true;
        }
        self.ragged = true;
        let slot = match change {
            Change::Put(PutRef { slot, queue, .. }) => {
                self.awaited |= self.awaited_queue == Some(queue);
                slot
            }
            Change::Remove { slot, .. } => slot,
        };
        let Some(&(tag, row)) = self.row_of.get(slot as usize) else {
            return false;
        };
        let (whole, patch) = match (tag == self.tag).then_some(row) {
            Some(row) if row & PATCH != 0 => (None, Some(row & !PATCH)),
            row => (row.map(|row| row as usize), None),
        };
        if let Change::Put(put) = &change
            && self.patching
            && whole.is_none()
            && let Some(at) = self.patches.push(put, patch)
        {
            self.row_of[slot as usize] = (self.tag, at | PATCH);
            return true;
        }
        let reusable = whole.map(|row| self.rows.changes[row].bytes);
        let Some(row) = change_row(&mut self.rows, change, reusable) else {
            return false;
        };
        if let Some(at) = patch {
            self.patches.kill(at);
        }
        if let Some(at) = whole {
            self.rows.changes[at] = row;
        } else {
            self.row_of[slot as usize] = (self.tag, self.rows.changes.len() as u32);
            self.rows.changes.push(row);
        }
        true
    }

    /// Records a packet.
    pub fn push_emit(&mut self, emit: EmitRef<'_>) {
        if self.recording {
            self.ragged = true;
            push_emit(&mut self.rows, emit);
        }
    }

    /// Records that a packet has been sent.
    pub fn push_sent(&mut self, sent: SentRef) {
        if self.recording {
            self.rows.sent.push(SentRow { seq: sent.seq.raw(), ordinal: sent.ordinal });
        }
    }

    /// Says that all of `seq` and of everything before it is recorded. Call it after each commit, so
    /// that a batch that has grown large can be sealed here.
    pub fn end_of_commit(&mut self, seq: Seq) {
        if self.rows.size() + self.patches.size() >= self.seal_bytes {
            self.seal(seq);
        }
    }

    /// Gets the memory back of content that has become a frame.
    pub(crate) fn recycle(&mut self, mut rows: Rows) {
        self.patches.recycle(std::mem::take(&mut rows.lines));
        if self.rows.has_no_memory() {
            rows.clear();
            self.rows = rows;
        }
    }

    fn seal(&mut self, last: Seq) {
        let rows = self.take();
        self.sealed.push_back((rows, last));
    }

    /// The oldest content that was sealed.
    pub(crate) fn take_sealed(&mut self) -> Option<(Rows, Seq)> {
        self.sealed.pop_front()
    }

    pub(crate) fn set_recording(&mut self, recording: bool) {
        self.recording = recording;
        self.patching = false;
        self.ragged = false;
        self.rows.clear();
        self.patches.clear();
        self.awaited = false;
        self.sealed.clear();
        self.next_tag();
    }

    /// From here on the back-up has whatever was shipped before, so only what differs need be: until the next call of
    /// [`set_recording`](Self::set_recording).
    pub fn set_patching(&mut self) {
        self.patching = self.recording;
    }

    /// Everything up to the watermark is recorded, and nothing behind it.
    pub(crate) fn complete(&mut self) {
        self.ragged = false;
    }

    /// Whether it may be closed at the watermark.
    pub(crate) fn is_complete(&self) -> bool {
        !self.ragged
    }

    pub(crate) fn take(&mut self) -> Rows {
        self.next_tag();
        self.awaited = false;
        let mut rows = std::mem::take(&mut self.rows);
        (rows.patches, rows.lines, rows.patches_high) = self.patches.take();
        rows
    }

    pub(crate) fn has_sealed(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// Bytes of all that is in no frame yet.
    pub(crate) fn bytes(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(|(rows, _)| rows.size()).sum();
        self.rows.size() + self.patches.size() + sealed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.patches.is_empty()
    }

    /// Whether somebody waits for its acknowledgement: a packet, or who asked for a commit from afar.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited || !self.rows.emits.is_empty()
    }

    fn next_tag(&mut self) {
        self.tag = self.tag.wrapping_add(1);
        if self.tag == 0 {
            // Once in four thousand million batches.
            self.row_of.fill((0, 0));
            self.tag = 1;
        }
    }
}

/// Marks the row of a patch: there are never so many rows.
const PATCH: u32 = 1 << 31;

/// Makes the row of a change, and stores its bytes: in the place of an older change if they fit.
pub(crate) fn change_row(
    rows: &mut Rows,
    change: Change<'_>,
    reusable: Option<rows::Span>,
) -> Option<ChangeRow> {
    let put = match change {
        Change::Remove { slot, incarnation, seq } => {
            return Some(ChangeRow {
                seq: seq.raw(),
                timer_left_ns: NO_TIMER,
                slot,
                incarnation,
                bytes: reusable.map_or_else(rows::Span::default, |s| rows::Span { len: 0, ..s }),
                key_len: 0,
                queue: 0,
                prio: 0,
                flags: FLAG_REMOVED,
            });
        }
        Change::Put(put) => put,
    };
    let key = put.key.unwrap_or_default();
    let len = key.len() + put.value.len();
    if len > OBJECT_BYTES_MAX {
        return None;
    }
    let bytes = match reusable {
        Some(span) if span.len as usize >= len => {
            let at = span.at as usize;
            rows.bytes[at..at + key.len()].copy_from_slice(key);
            rows.bytes[at + key.len()..at + len].copy_from_slice(put.value);
            rows::Span { at: span.at, len: len as u32 }
        }
        _ => {
            let span = rows.push_bytes(key);
            rows.bytes.extend_from_slice(put.value);
            rows::Span { at: span.at, len: len as u32 }
        }
    };
    let mut flags = 0;
    flags |= if put.ready { FLAG_READY } else { 0 };
    flags |= if put.key.is_some() { FLAG_KEYED } else { 0 };
    Some(ChangeRow {
        seq: put.seq.raw(),
        timer_left_ns: put.timer_left_ns.map_or(NO_TIMER, |left| left.min(NO_TIMER - 1)),
        slot: put.slot,
        incarnation: put.incarnation,
        bytes,
        key_len: key.len() as u32,
        queue: put.queue,
        prio: put.prio,
        flags,
    })
}

pub(crate) fn push_emit(rows: &mut Rows, emit: EmitRef<'_>) {
    let payload = rows.push_bytes(emit.payload);
    rows.emits.push(EmitRow {
        seq: emit.seq.raw(),
        payload,
        ordinal: emit.ordinal,
        port: emit.port,
        endpoint: emit.endpoint,
    });
}

pub(crate) fn encode_batch(body: &BatchBody) -> SharedFrame {
    let buffer = frame::begin(body.rows.size() + 128);
    let buffer = rkyv::api::high::to_bytes_in::<_, RkyvError>(body, buffer)
        .expect("serialising plain rows into memory cannot fail");
    frame::finish(Kind::Batch, buffer)
}

/// A batch as it came: checked, and still the bytes that came.
#[derive(Debug)]
pub struct BatchFrame {
    frame: AlignedVec,
    /// Number of this table in the primary's epoch; grows by one, also for an empty batch.
    pub table_no: u64,
    /// The primary's epoch.
    pub epoch: u16,
    /// Position before the batch.
    pub prev: Seq,
    /// Position after it: the batch holds everything in between.
    pub last: Seq,
    /// Digest of the primary's whole table at `last`, in some batches.
    pub digest: Option<u64>,
}

impl BatchFrame {
    pub(crate) fn decode(frame: AlignedVec) -> Result<BatchFrame, WireError> {
        let body = access(&frame)?;
        body.rows.check()?;
        Ok(BatchFrame {
            table_no: body.table_no.to_native(),
            epoch: body.epoch.to_native(),
            prev: Seq::from_raw(body.prev.to_native()),
            last: Seq::from_raw(body.last.to_native()),
            digest: body.digest.as_ref().map(|digest| digest.to_native()),
            frame,
        })
    }

    /// Its content.
    pub fn view(&self) -> BatchView<'_> {
        let body = access(&self.frame).expect("checked when the frame came, and not changed since");
        BatchView { rows: &body.rows }
    }

    /// The frame as it came, header included.
    pub fn bytes(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for BatchFrame {
    fn drop(&mut self) {
        spare::give(std::mem::take(&mut self.frame));
    }
}

fn access(frame: &[u8]) -> Result<&ArchivedBatchBody, WireError> {
    rkyv::access::<ArchivedBatchBody, RkyvError>(&frame[HEADER_BYTES..])
        .map_err(|_| WireError::Body { kind: Kind::Batch as u8 })
}

/// The content of a batch or a chunk.
#[derive(Clone, Copy)]
pub struct BatchView<'a> {
    pub(crate) rows: &'a ArchivedRows,
}

impl<'a> BatchView<'a> {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        let rows = self.rows;
        rows.changes.is_empty()
            && rows.patches.is_empty()
            && rows.emits.is_empty()
            && rows.sent.is_empty()
    }

    /// The slots that changed, in no particular order. A slot is here once, or among the [patches](Self::patches).
    pub fn changes(&self) -> impl ExactSizeIterator<Item = Change<'a>> + use<'a> {
        let rows = self.rows;
        rows.changes.iter().map(move |row| {
            let seq = Seq::from_raw(row.seq.to_native());
            let (slot, incarnation) = (row.slot.to_native(), row.incarnation.to_native());
            if row.flags & FLAG_REMOVED != 0 {
                return Change::Remove { slot, incarnation, seq };
            }
            let bytes =
                rows::part(&rows.bytes, &row.bytes).expect("checked by `ArchivedRows::check`");
            let (key, value) = bytes.split_at(row.key_len.to_native() as usize);
            let timer = row.timer_left_ns.to_native();
            Change::Put(PutRef {
                slot,
                incarnation,
                seq,
                queue: row.queue.to_native(),
                prio: row.prio,
                key: (row.flags & FLAG_KEYED != 0).then_some(key),
                value,
                timer_left_ns: (timer != NO_TIMER).then_some(timer),
                ready: row.flags & FLAG_READY != 0,
                basis: None,
            })
        })
    }

    /// The slots that hold the object that they held, of whose value a part changed.
    pub fn patches(&self) -> impl Iterator<Item = PatchRef<'a>> + use<'a> {
        let rows = self.rows;
        patch::patches(&rows.patches, &rows.lines, rows.patches_high.to_native())
    }

    /// The packets that were emitted, in order.
    pub fn emits(&self) -> impl ExactSizeIterator<Item = EmitRef<'a>> + use<'a> {
        let rows = self.rows;
        rows.emits.iter().map(move |row| EmitRef {
            seq: Seq::from_raw(row.seq.to_native()),
            ordinal: row.ordinal.to_native(),
            port: row.port.to_native(),
            endpoint: row.endpoint,
            payload: rows::part(&rows.bytes, &row.payload)
                .expect("checked by `ArchivedRows::check`"),
        })
    }

    /// The packets that have been sent since the last batch. Apply them after the emitted ones.
    pub fn sent(&self) -> impl ExactSizeIterator<Item = SentRef> + use<'a> {
        self.rows.sent.iter().map(|row| SentRef {
            seq: Seq::from_raw(row.seq.to_native()),
            ordinal: row.ordinal.to_native(),
        })
    }
}
