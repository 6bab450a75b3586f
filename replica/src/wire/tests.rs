//! The bytes of every message, frozen, and what happens to bytes that are none.

use rkyv::util::AlignedVec;

use super::batch::{change_row, encode_batch, push_emit};
use super::frame::{self, Kind};
use super::rows::{BatchBody, Rows};
use super::*;
use crate::protocol::{Declined, Member, NodeId, Seq, View};

const A: Member = Member { node: NodeId(1), incarnation: 0x0102_0304_0506_0708 };
const B: Member = Member { node: NodeId(2), incarnation: 0x1112_1314_1516_1718 };

fn put() -> Change<'static> {
    Change::Put(PutRef {
        slot: 7,
        incarnation: 3,
        seq: Seq::new(2, 9),
        queue: 1,
        prio: 2,
        key: Some(b"key"),
        value: b"value",
        timer_left_ns: Some(5),
        ready: true,
        basis: None,
    })
}

fn emit() -> EmitRef<'static> {
    EmitRef { seq: Seq::new(2, 9), ordinal: 1, port: 4, endpoint: [6; 24], payload: b"packet" }
}

fn rows() -> Rows {
    let mut rows = Rows::default();
    for change in [put(), Change::Remove { slot: 8, incarnation: 1, seq: Seq::new(2, 10) }] {
        let row = change_row(&mut rows, change, None).expect("it is small");
        rows.changes.push(row);
    }
    (rows.patches, rows.lines, rows.patches_high) = {
        let mut open = OpenBatch::new(16, 1 << 20);
        open.set_recording(true);
        open.set_patching();
        let Change::Put(put) = put() else { panic!("it is a put") };
        let basis = Some(Basis { value: b"valve", check: 0x0c0d_0e0f });
        assert!(open.push(Change::Put(PutRef { slot: 9, basis, ..put })));
        let value = [1; 200];
        let mut before = value;
        before[70] = 2;
        let basis = Some(Basis { value: &before, check: 0x1c1d_1e1f });
        let timer_left_ns = None;
        assert!(open.push(Change::Put(PutRef {
            slot: 10,
            value: &value,
            timer_left_ns,
            basis,
            ..put
        })));
        let rows = open.take();
        (rows.patches, rows.lines, rows.patches_high)
    };
    push_emit(&mut rows, emit());
    rows.sent.push(super::rows::SentRow { seq: Seq::new(1, 4).raw(), ordinal: 2 });
    rows
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let hello = Hello {
        version_min: 2,
        version_max: 2,
        cluster: 99,
        node: NodeId(1),
        geometry_hash: 77,
        incarnation: A.incarnation,
        standing: Standing::Backup,
        view: Some(View::pair(5, 2, B, A)),
        epoch: 2,
        transfer: 3,
        table_no: 40,
        applied: Seq::new(2, 8),
        epoch_starts: vec![EpochStart { epoch: 2, base: Seq::new(1, 5).raw(), leader: 0xfeed }],
        lease_ns: 30_000_000,
        modes: 0xb0b1,
    };
    let start = Start {
        view: View::alone(4, 2, B),
        transfer: 3,
        table_no: 30,
        prev: Seq::new(2, 6),
        since: Some(Seq::new(1, 5)),
    };
    let changed = Changed { transfer: 3, slots: vec![7, 9, 4000], last: true };
    let ack = Ack {
        epoch: 2,
        transfer: 3,
        table_no: 41,
        applied: Seq::new(2, 10).raw(),
        chunks: 6,
        incarnation: A.incarnation,
        complete: true,
        needed_ns: 21_000,
    };
    let batch = BatchBody {
        table_no: 41,
        prev: Seq::new(2, 8).raw(),
        last: Seq::new(2, 10).raw(),
        digest: Some(0xd1d2),
        epoch: 2,
        rows: rows(),
    };
    let mut chunk = OpenChunk::new();
    assert!(chunk.push(put()));
    chunk.push_emit(emit());
    let ready = HandOver::Ready { epoch: 2, last: Seq::new(2, 10) };
    let bytes = |frame: SharedFrame| frame.as_ref().to_vec();
    vec![
        ("hello", bytes(encode(Outgoing::Hello(&hello)))),
        ("refuse", bytes(encode(Outgoing::Refuse(Refuse { reason: 4, theirs: 1, ours: 2 })))),
        ("start", bytes(encode(Outgoing::Start(start)))),
        ("batch", bytes(encode_batch(&batch))),
        ("chunk", bytes(chunk.encode(6))),
        (
            "snapshot end",
            bytes(encode(Outgoing::SnapshotEnd(SnapshotEnd { chunks: 6, through: 1 }))),
        ),
        ("ack", encode_datagram(&ack)),
        ("changed", bytes(encode(Outgoing::Changed(&changed)))),
        ("hand over", bytes(encode(Outgoing::HandOver(ready)))),
    ]
}

fn aligned(bytes: &[u8]) -> AlignedVec {
    let mut buffer = AlignedVec::new();
    buffer.extend_from_slice(bytes);
    buffer
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Goal: two builds understand each other. A change here is a new protocol version: see `VERSIONS`.
#[test]
fn the_bytes_of_each_message_are_frozen() {
    let golden = include_str!("golden.txt");
    let now: String =
        messages().iter().map(|(name, bytes)| format!("{name}: {}\n", hex(bytes))).collect();
    assert_eq!(now, golden, "left is what this build makes, right is wire/golden.txt");
}

#[test]
fn each_step_of_a_hand_over_survives_its_bytes() {
    for message in [
        HandOver::Wanted { within_ns: u64::MAX },
        HandOver::Ready { epoch: 2, last: Seq::new(2, 10) },
        HandOver::Withdrawn { why: Declined::NotTaken },
        HandOver::Refused { why: Declined::PeerServes },
    ] {
        let frame = encode(Outgoing::HandOver(message));
        match Message::decode(aligned(frame.as_ref())) {
            Ok(Message::HandOver(read)) => assert_eq!(read, message),
            other => panic!("{message:?} became {other:?}"),
        }
    }
}

#[test]
fn a_batch_says_what_was_put_into_it() {
    let (_, bytes) = messages().swap_remove(3);
    let Ok(Message::Batch(batch)) = Message::decode(aligned(&bytes)) else {
        panic!("it is a batch");
    };
    assert_eq!((batch.table_no, batch.epoch, batch.digest), (41, 2, Some(0xd1d2)));
    assert_eq!((batch.prev, batch.last), (Seq::new(2, 8), Seq::new(2, 10)));
    let view = batch.view();
    let removed = Change::Remove { slot: 8, incarnation: 1, seq: Seq::new(2, 10) };
    assert_eq!(view.changes().collect::<Vec<_>>(), [put(), removed]);
    let patches: Vec<_> = view.patches().map(|patch| (patch.slot, patch.timer_left_ns)).collect();
    assert_eq!(patches, [(9, Some(5)), (10, None)]);
    let parts: Vec<_> = view.patches().map(|patch| patch.edits().collect::<Vec<_>>()).collect();
    assert_eq!(parts, [vec![(0, &b"value"[..])], vec![(64, &[1; 64][..])]]);
    assert_eq!(view.emits().collect::<Vec<_>>(), [emit()]);
    assert_eq!(view.sent().collect::<Vec<_>>(), [SentRef { seq: Seq::new(1, 4), ordinal: 2 }]);
}

/// Goal: a slot that changes several times is shipped once, as the last change left it.
#[test]
fn changes_of_one_slot_are_folded() {
    let value = |seq, value: &'static [u8]| match put() {
        Change::Put(put) => Change::Put(PutRef { seq: Seq::new(2, seq), value, ..put }),
        remove => remove,
    };
    let removed = Change::Remove { slot: 7, incarnation: 3, seq: Seq::new(2, 12) };
    #[rustfmt::skip]
    let cases: [(&str, Vec<Change<'_>>); 5] = [
        ("shorter",           vec![value(9, b"value"), value(10, b"v")]),
        ("longer",            vec![value(9, b"v"), value(10, b"a longer value")]),
        ("withdrawn",         vec![value(9, b"value"), removed]),
        ("and created again", vec![value(9, b"value"), removed, value(13, b"other")]),
        ("three times",       vec![value(9, b"1"), value(10, b"333"), value(11, b"22")]),
    ];
    for (why, changes) in cases {
        let mut open = OpenBatch::new(16, 1 << 20);
        open.set_recording(true);
        assert!(open.push(Change::Remove { slot: 3, incarnation: 1, seq: Seq::new(2, 1) }));
        for change in &changes {
            assert!(open.push(*change));
        }
        let rows = open.take();
        let frame = encode_batch(&BatchBody { rows, ..BatchBody::default() });
        let batch = BatchFrame::decode(aligned(frame.as_ref())).expect("it is a batch");
        assert_eq!(batch.view().changes().nth(1), changes.last().copied(), "{why}");
        assert_eq!(batch.view().changes().len(), 2, "{why}");
    }
}

#[test]
fn a_batch_that_grows_is_sealed_at_the_end_of_a_commit() {
    let mut open = OpenBatch::new(16, 100);
    open.set_recording(true);
    open.push(put());
    open.end_of_commit(Seq::new(2, 9));
    assert!(open.has_sealed() || open.take_sealed().is_none());
    for _ in 0..4 {
        open.push_emit(emit());
    }
    open.end_of_commit(Seq::new(2, 10));
    let sealed = std::iter::from_fn(|| open.take_sealed()).last();
    assert_eq!(sealed.map(|(_, last)| last), Some(Seq::new(2, 10)));
    assert!(open.is_empty(), "what comes next is another batch");
}

#[test]
fn a_change_that_cannot_be_is_left_out() {
    let mut open = OpenBatch::new(4, 1 << 20);
    open.set_recording(true);
    assert!(!open.push(put()), "slot 7 of 4");
    let value = vec![0; OBJECT_BYTES_MAX + 1];
    let Change::Put(put) = put() else { panic!("it is a put") };
    assert!(!open.push(Change::Put(PutRef { slot: 1, value: &value, ..put })));
    assert!(open.is_empty());
}

/// Goal: no bytes from a peer can do worse than be refused. The crc is put right after each change, so
/// that validation is reached.
#[test]
fn damaged_messages_are_refused_or_harmless() {
    let mut refused = 0;
    let mut tried = 0;
    for (_, good) in messages() {
        for at in 8..good.len() {
            for change in [1u8, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= change;
                tried += 1;
                refused += u32::from(!read_all(&mend(bytes)));
            }
        }
        for len in 0..good.len() {
            assert!(Message::decode(aligned(&good[..len])).is_err(), "cut at {len}");
            refused += u32::from(!read_all(&mend(good[..len].to_vec())));
        }
    }
    assert!(refused > tried / 10, "{refused} of {tried}: validation is not reached");
}

/// Makes length and checksum fit, so that what is inside is looked at.
fn mend(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= HEADER_BYTES {
        let len = (bytes.len() - HEADER_BYTES) as u32;
        bytes[0..4].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// Whether it is a message; everything in it is looked at.
fn read_all(bytes: &[u8]) -> bool {
    let _ = Message::decode_datagram(bytes);
    let message = match Message::decode(aligned(bytes)) {
        Ok(message) => message,
        Err(_) => return false,
    };
    let view = match &message {
        Message::Batch(batch) => batch.view(),
        Message::Chunk(chunk) => chunk.view(),
        _ => return true,
    };
    let mut seen = 0;
    for change in view.changes() {
        if let Change::Put(put) = change {
            seen += put.value.len() + put.key.map_or(0, <[u8]>::len);
        }
    }
    for patch in view.patches() {
        seen += patch.edits().map(|(at, bytes)| at.min(1) + bytes.len()).sum::<usize>();
    }
    seen += view.emits().map(|emit| emit.payload.len()).sum::<usize>();
    seen += view.sent().len();
    seen < bytes.len() * bytes.len() + 1
}

#[test]
fn only_acks_come_as_datagrams() {
    for (name, bytes) in messages() {
        assert_eq!(Message::decode_datagram(&bytes).is_ok(), name == "ack", "{name}");
    }
    let endless = vec![0; DATAGRAM_BYTES_MAX + 1];
    assert!(matches!(Message::decode_datagram(&endless), Err(WireError::TooLong { .. })));
    let unknown = frame::finish(Kind::Ack, frame::begin(0));
    assert!(Message::decode_datagram(unknown.as_ref()).is_err(), "an ack without a body");
}
