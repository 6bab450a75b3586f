//! A small journal, made of honest frames, and what becomes of it when it is cut, flipped, or left half done.

mod bytes;
mod plans;
mod writing;

use std::path::Path;

use super::format::{FileKind, Header, Identity, file_name};
use crate::protocol::{History, Seq};
use crate::wire::{
    self, BatchBody, Change, EmitRef, EpochStart, OpenBatch, OpenChunk, Outgoing, PutRef,
    SharedFrame, SnapshotEnd,
};

const IDENTITY: Identity = Identity { cluster: 0x1111, geometry: 0x2222 };

fn seq(epoch: u16, count: u64) -> Seq {
    Seq::new(epoch, count)
}

fn put(slot: u32, seq: Seq, value: &[u8]) -> Change<'_> {
    Change::Put(PutRef {
        slot,
        incarnation: 1,
        seq,
        queue: 0,
        prio: 0,
        key: Some(b"key"),
        value,
        timer_left_ns: None,
        ready: false,
        basis: None,
    })
}

/// A batch that changes one slot and emits a packet.
fn batch(prev: Seq, last: Seq) -> SharedFrame {
    let mut open = OpenBatch::new(16, 1 << 20);
    open.set_recording(true);
    open.push(put((last.count() % 16) as u32, last, &last.raw().to_le_bytes()));
    open.push_emit(EmitRef { seq: last, ordinal: 0, port: 0, endpoint: [7; 24], payload: b"out" });
    let (prev, last, epoch) = (prev.raw(), last.raw(), last.epoch());
    wire::encode_batch(&BatchBody {
        table_no: 0,
        prev,
        last,
        digest: None,
        epoch,
        rows: open.take(),
    })
}

fn chunk(number: u64, at: Seq) -> SharedFrame {
    let mut chunk = OpenChunk::new();
    chunk.push(put(1, at, b"copied"));
    chunk.encode(number)
}

fn end(chunks: u64, through: Seq) -> SharedFrame {
    wire::encode(Outgoing::SnapshotEnd(SnapshotEnd { chunks, through: through.raw() }))
}

fn start(epoch: u16, base: Seq) -> EpochStart {
    EpochStart { epoch, base: base.raw(), leader: 77 }
}

fn header(kind: FileKind, number: u64, from: Seq, epochs: &[EpochStart]) -> Header {
    let identity = IDENTITY;
    Header { kind, number, identity, node: 2, view: 9, unix_ms: 1, from, epochs: epochs.to_vec() }
}

fn file(header: &Header, frames: &[SharedFrame]) -> Vec<u8> {
    frames.iter().fold(header.encode(), |mut bytes, frame| {
        bytes.extend(frame.as_ref());
        bytes
    })
}

fn store(dir: &Path, header: &Header, bytes: &[u8]) {
    std::fs::write(dir.join(file_name(header.kind, header.number)), bytes).expect("writable");
}

/// Stores a segment of these positions: from the first, a batch to each further one.
fn store_segment(dir: &Path, number: u64, epochs: &[EpochStart], positions: &[Seq]) -> Vec<u8> {
    let header = header(FileKind::Segment, number, positions[0], epochs);
    let frames: Vec<_> = positions.windows(2).map(|pair| batch(pair[0], pair[1])).collect();
    let bytes = file(&header, &frames);
    store(dir, &header, &bytes);
    bytes
}

fn store_checkpoint(
    dir: &Path,
    number: u64,
    epochs: &[EpochStart],
    from: Seq,
    through: Seq,
) -> Vec<u8> {
    let header = header(FileKind::Checkpoint, number, from, epochs);
    let bytes = file(&header, &[chunk(1, from), chunk(2, through), end(2, through)]);
    store(dir, &header, &bytes);
    bytes
}

fn history(epochs: &[EpochStart], end: Seq) -> History {
    History { epochs: epochs.to_vec(), end }
}
