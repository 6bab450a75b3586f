//! Patches: what has changed of a value that the back-up has.
//!
//! ```text
//!   a patch's bytes    [ time left: 8 B ]  runs: u16, runs × [ first line: u16, lines: u16 ]  the lines
//!   FLAG_WHOLE         [ time left: 8 B ]  the value
//! ```
//!
//! The unit is a cache line of the value, 64 bytes from its beginning on; the last one may be shorter. A value is
//! compared with the one before only where that one is known to be what the back-up has: see
//! [`OpenBatch::set_patching`](super::OpenBatch). Whether it really was shows in the checksum of the result.

use super::WireError;
use super::batch::PutRef;
use super::rows::{ArchivedPatchRow, PatchRow, limit};
use crate::protocol::Seq;

/// Bytes of a line.
pub const LINE_BYTES: usize = 64;
/// A value of more lines is shipped whole.
const LINES_MAX: usize = u16::MAX as usize;
const RUN_BYTES: usize = 4;
const TIMER_BYTES: usize = 8;

const COUNT_BYTES: usize = 2;

const FLAG_WHOLE: u8 = 0x40;
const FLAG_TIMED: u8 = 0x20;
const FLAG_READY: u8 = 0x10;

/// An object whose value differs from the one before in some lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchRef<'a> {
    /// Index of its slot.
    pub slot: u32,
    /// Which object of this slot: the one that it held before.
    pub incarnation: u32,
    /// The commit that left it so.
    pub seq: Seq,
    /// Index of its queue.
    pub queue: u16,
    /// Its lane.
    pub prio: u8,
    /// Time left on its timer.
    pub timer_left_ns: Option<u64>,
    /// Whether it is ready without a message or a timer.
    pub ready: bool,
    /// Lower half of the checksum of key and value.
    pub check: u32,
    /// None: the lines are the whole value.
    runs: Option<&'a [u8]>,
    lines: &'a [u8],
}

impl<'a> PatchRef<'a> {
    /// The parts of the value that differ: where each begins, and what is there.
    pub fn edits(&self) -> impl Iterator<Item = (usize, &'a [u8])> + use<'a> {
        let whole = self.runs.is_none().then_some((0, self.lines));
        let mut rest = self.lines;
        let of_runs = runs(self.runs.unwrap_or_default()).map(move |(first, count)| {
            let (run, behind) = rest.split_at((count * LINE_BYTES).min(rest.len()));
            rest = behind;
            (first * LINE_BYTES, run)
        });
        of_runs.chain(whole)
    }
}

fn runs(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    bytes
        .as_chunks::<RUN_BYTES>()
        .0
        .iter()
        .map(|&[a, b, c, d]| (u16::from_le_bytes([a, b]).into(), u16::from_le_bytes([c, d]).into()))
}

/// The patches of the batch that is being filled.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    drafts: Vec<Draft>,
    bytes: Vec<u8>,
    /// Bytes that no draft uses any more.
    wasted: usize,
    /// The bytes do not lie in the order of the drafts any more.
    mixed: bool,
    dead: usize,
    /// Upper half of the seq of all.
    high: u32,
    /// Lines of the value at hand that differ, a bit each.
    marks: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Draft {
    row: PatchRow,
    at: usize,
    /// Bytes of the whole value.
    value_bytes: usize,
    dead: bool,
}

impl Drafts {
    pub(super) fn is_empty(&self) -> bool {
        self.drafts.len() == self.dead
    }

    /// Bytes that a frame needs for them, about.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() - self.wasted + (self.drafts.len() - self.dead) * size_of::<PatchRow>()
    }

    pub(super) fn clear(&mut self) {
        self.drafts.clear();
        self.bytes.clear();
        (self.wasted, self.mixed, self.dead) = (0, false, 0);
    }

    /// Gets the memory back of content that has become a frame.
    pub(super) fn recycle(&mut self, mut lines: Vec<u8>) {
        if self.bytes.capacity() == 0 {
            lines.clear();
            self.bytes = lines;
        }
    }

    /// What is shipped is another change of the same slot.
    pub(super) fn kill(&mut self, at: u32) {
        let draft = &mut self.drafts[at as usize];
        draft.dead = true;
        self.dead += 1;
        self.mixed = true;
        self.wasted += draft.row.len as usize;
    }

    /// Records how `put` differs from what was before, together with the draft `known` of the same slot if there is
    /// one. `None`: it has to be shipped whole.
    pub(super) fn push(&mut self, put: &PutRef<'_>, known: Option<u32>) -> Option<u32> {
        let basis = put.basis?;
        let (value, high) = (put.value, (put.seq.raw() >> 32) as u32);
        let before = known.map(|at| self.drafts[at as usize]);
        let fits = basis.value.len() == value.len()
            && value.len().div_ceil(LINE_BYTES) <= LINES_MAX
            && put.queue <= u8::MAX.into()
            && put.prio & !(LETTER | LANE) == 0
            && (self.drafts.is_empty() || self.high == high)
            && before.is_none_or(|draft| {
                draft.row.incarnation == put.incarnation && draft.value_bytes == value.len()
            });
        if !fits {
            return None;
        }
        self.high = high;
        let marked = self.mark(basis.value, value, before);
        let is_whole = marked == value.len().div_ceil(LINE_BYTES);
        let at = self.bytes.len();
        if let Some(left) = put.timer_left_ns {
            self.bytes.extend_from_slice(&left.to_le_bytes());
        }
        if is_whole {
            self.bytes.extend_from_slice(value);
        } else {
            self.write_runs(value);
        }
        let flag = |is_so, flag| if is_so { flag } else { 0 };
        let flags = flag(is_whole, FLAG_WHOLE)
            | flag(put.ready, FLAG_READY)
            | flag(put.timer_left_ns.is_some(), FLAG_TIMED);
        let Ok(len) = u16::try_from(self.bytes.len() - at) else {
            self.bytes.truncate(at);
            return None;
        };
        let row = PatchRow {
            seq_low: put.seq.raw() as u32,
            slot: put.slot,
            incarnation: put.incarnation,
            check: basis.check,
            len,
            queue: put.queue as u8,
            prio_flags: put.prio | flags,
        };
        let draft = Draft { row, at, value_bytes: value.len(), dead: false };
        let Some(known) = known else {
            self.drafts.push(draft);
            return Some(self.drafts.len() as u32 - 1);
        };
        let old = std::mem::replace(&mut self.drafts[known as usize], draft);
        self.wasted += old.row.len as usize;
        self.mixed = true;
        if self.wasted > self.bytes.len() / 2 && self.wasted > COMPACT_BYTES {
            self.compact();
        }
        Some(known)
    }

    /// Marks the lines that differ, and those that an earlier draft has. How many there are.
    fn mark(&mut self, old: &[u8], new: &[u8], draft: Option<Draft>) -> usize {
        let lines = new.len().div_ceil(LINE_BYTES);
        self.marks.clear();
        self.marks.resize(lines.div_ceil(64), 0);
        if let Some(draft) = draft {
            let bytes = &self.bytes[draft.at..draft.at + draft.row.len as usize];
            let (_, of_runs, _) = split(bytes, draft.row.prio_flags).expect("written here");
            let whole = of_runs.is_none().then_some((0, lines));
            for (first, count) in runs(of_runs.unwrap_or_default()).chain(whole) {
                (first..first + count).for_each(|line| self.marks[line / 64] |= 1 << (line % 64));
            }
        }
        let pairs = old.chunks(LINE_BYTES).zip(new.chunks(LINE_BYTES));
        for (line, (old, new)) in pairs.enumerate() {
            self.marks[line / 64] |= u64::from(differs(old, new)) << (line % 64);
        }
        self.marks.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn write_runs(&mut self, value: &[u8]) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; COUNT_BYTES]);
        let mut from = 0;
        while let Some(first) = next(&self.marks, from, true) {
            let end = next(&self.marks, first, false).unwrap_or(self.marks.len() * 64);
            self.bytes.extend_from_slice(&(first as u16).to_le_bytes());
            self.bytes.extend_from_slice(&((end - first) as u16).to_le_bytes());
            from = end;
        }
        let count = (self.bytes.len() - at - COUNT_BYTES) / RUN_BYTES;
        self.bytes[at..at + COUNT_BYTES].copy_from_slice(&(count as u16).to_le_bytes());
        let mut from = 0;
        while let Some(first) = next(&self.marks, from, true) {
            let end = next(&self.marks, first, false).unwrap_or(self.marks.len() * 64);
            let to = (end * LINE_BYTES).min(value.len());
            self.bytes.extend_from_slice(&value[first * LINE_BYTES..to]);
            from = end;
        }
    }

    /// The rows in their order, with their bytes in the same order and no others.
    pub(super) fn take(&mut self) -> (Vec<PatchRow>, Vec<u8>, u32) {
        if self.mixed {
            self.compact();
        }
        let rows = self.drafts.iter().filter(|draft| !draft.dead).map(|draft| draft.row).collect();
        let bytes = std::mem::take(&mut self.bytes);
        self.clear();
        (rows, bytes, self.high)
    }

    fn compact(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.wasted);
        for draft in &mut self.drafts {
            let at = bytes.len();
            if !draft.dead {
                bytes.extend_from_slice(&self.bytes[draft.at..draft.at + draft.row.len as usize]);
            } else {
                draft.row.len = 0;
            }
            draft.at = at;
        }
        (self.bytes, self.wasted, self.mixed) = (bytes, 0, false);
    }
}

/// Less is not worth the copying before the batch is closed.
const COMPACT_BYTES: usize = 64 << 10;

fn differs(old: &[u8], new: &[u8]) -> bool {
    match (old.first_chunk::<LINE_BYTES>(), new.first_chunk::<LINE_BYTES>()) {
        // Of a length that is known: a few wide comparisons instead of a call.
        (Some(old), Some(new)) => old != new,
        _ => old != new,
    }
}

/// The first bit from `from` on that is `set`.
fn next(marks: &[u64], from: usize, set: bool) -> Option<usize> {
    let mut at = from / 64;
    let mut mask = u64::MAX << (from % 64);
    while let Some(&word) = marks.get(at) {
        let word = if set { word } else { !word } & mask;
        if word != 0 {
            return Some(at * 64 + word.trailing_zeros() as usize);
        }
        (at, mask) = (at + 1, u64::MAX);
    }
    None
}

/// A priority's own bits: see `hotpair_shm::LETTER`.
const LETTER: u8 = 0x80;
const LANE: u8 = 0x0f;

type Parts<'a> = (Option<u64>, Option<&'a [u8]>, &'a [u8]);

/// Time left, runs, lines.
fn split(mut bytes: &[u8], flags: u8) -> Result<Parts<'_>, WireError> {
    let mut head = |len: usize| {
        let room = bytes.len() as u64;
        bytes.split_off(..len).ok_or(WireError::Value {
            what: "the head of a patch",
            found: len as u64,
            max: room,
        })
    };
    let timer = if flags & FLAG_TIMED != 0 { Some(head(TIMER_BYTES)?) } else { None };
    let runs = if flags & FLAG_WHOLE != 0 {
        None
    } else {
        let count = head(COUNT_BYTES)?.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes));
        Some(head(usize::from(count) * RUN_BYTES)?)
    };
    let timer = timer.and_then(|bytes| bytes.first_chunk()).map(|bytes| u64::from_le_bytes(*bytes));
    Ok((timer, runs, bytes))
}

/// The patches of a batch that came.
pub(super) fn patches<'a>(
    rows: &'a [ArchivedPatchRow],
    bytes: &'a [u8],
    high: u32,
) -> impl Iterator<Item = PatchRef<'a>> + use<'a> {
    let mut rest = bytes;
    rows.iter().map(move |row| {
        let bytes = rest.split_off(..row.len.to_native().into()).expect("checked");
        let (timer_left_ns, runs, lines) = split(bytes, row.prio_flags).expect("checked");
        PatchRef {
            slot: row.slot.to_native(),
            incarnation: row.incarnation.to_native(),
            seq: Seq::from_raw(u64::from(high) << 32 | u64::from(row.seq_low.to_native())),
            queue: row.queue.into(),
            prio: row.prio_flags & (LETTER | LANE),
            timer_left_ns,
            ready: row.prio_flags & FLAG_READY != 0,
            check: row.check.to_native(),
            runs,
            lines,
        }
    })
}

/// Every row has its bytes, every run its lines, and nothing is left over.
pub(super) fn check(rows: &[ArchivedPatchRow], bytes: &[u8]) -> Result<(), WireError> {
    let mut rest = bytes;
    for row in rows {
        let len = usize::from(row.len.to_native());
        limit("a patch's length", len as u64, rest.len() as u64)?;
        let (bytes, behind) = rest.split_at(len);
        rest = behind;
        let (_, Some(of_runs), lines) = split(bytes, row.prio_flags)? else { continue };
        let (mut room, mut free) = (0, 0);
        for (first, count) in runs(of_runs) {
            // In their order, and none twice.
            limit("the end of a run before", free, first as u64)?;
            limit("the least lines of a run", 1, count as u64)?;
            free = (first + count) as u64;
            room += count * LINE_BYTES;
        }
        limit("the last line of a value", free, LINES_MAX as u64)?;
        // The last line may be a short one, and no other.
        limit("the lines of a patch", lines.len() as u64, room as u64)?;
        let least = (room as u64).saturating_sub(LINE_BYTES as u64 - 1);
        limit("the least bytes of a patch's lines", least, lines.len() as u64)?;
    }
    limit("bytes of no patch", rest.len() as u64, 0)
}

#[cfg(test)]
mod tests;
