//! What is recorded of some commits, and what the other side makes of it.

use rkyv::util::AlignedVec;

use super::*;
use crate::wire::{Basis, BatchBody, BatchFrame, Change, OpenBatch, encode_batch};

/// Numbers that look random: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ word >> 31) % limit as u64) as usize
    }
}

fn put<'a>(slot: u32, seq: u64, value: &'a [u8], before: Option<&'a [u8]>) -> PutRef<'a> {
    PutRef {
        slot,
        incarnation: 1,
        seq: Seq::new(3, seq),
        queue: 2,
        prio: 0x83,
        key: Some(b"key"),
        value,
        timer_left_ns: seq.is_multiple_of(3).then_some(seq),
        ready: seq.is_multiple_of(2),
        basis: before.map(|value| Basis { value, check: seq as u32 }),
    }
}

fn patching(slots: u32) -> OpenBatch {
    let mut open = OpenBatch::new(slots, 64 << 20);
    open.set_recording(true);
    open.set_patching();
    open
}

fn shipped(open: &mut OpenBatch) -> BatchFrame {
    let body = BatchBody { rows: open.take(), ..BatchBody::default() };
    let mut bytes = AlignedVec::new();
    bytes.extend_from_slice(encode_batch(&body).as_ref());
    open.recycle(body.rows);
    BatchFrame::decode(bytes).expect("what is made here is sound")
}

fn apply(patch: &PatchRef<'_>, value: &mut [u8]) {
    patch.edits().for_each(|(at, bytes)| value[at..at + bytes.len()].copy_from_slice(bytes));
}

/// Goal: whatever commits do to some values in a batch, the other side ends with the same values, whether it takes them
/// from patches or whole. Replay: the seed is in the message.
#[test]
fn the_other_side_ends_with_the_same_values() {
    for seed in 0..300 {
        let mut numbers = Numbers(seed);
        let slots = 6;
        let len = |numbers: &mut Numbers| [0, 1, 63, 64, 65, 256, 4096, 5000][numbers.below(8)];
        let mut ours: Vec<Vec<u8>> = (0..slots).map(|_| vec![0; len(&mut numbers)]).collect();
        let mut theirs = ours.clone();
        let mut open = patching(slots);
        for batch in 0..4 {
            let mut last = vec![None; slots as usize];
            for turn in 0..numbers.below(40) as u64 {
                let (slot, seq) = (numbers.below(slots as usize), batch * 100 + turn + 1);
                let before = ours[slot].clone();
                if numbers.below(12) == 0 {
                    ours[slot] = vec![7; len(&mut numbers)];
                } else {
                    for _ in 0..numbers.below(5) {
                        let at = numbers.below(before.len().max(1));
                        if let Some(byte) = ours[slot].get_mut(at) {
                            *byte = byte.wrapping_add(1);
                        }
                    }
                }
                let known = (numbers.below(15) > 0).then_some(&before[..]);
                let put = put(slot as u32, seq, &ours[slot], known);
                assert!(open.push(Change::Put(put)));
                last[slot] = Some(put.seq);
            }
            let frame = shipped(&mut open);
            let mut seen = vec![None; slots as usize];
            for change in frame.view().changes() {
                let Change::Put(put) = change else { panic!("nothing was withdrawn") };
                theirs[put.slot as usize] = put.value.to_vec();
                assert_eq!(seen[put.slot as usize].replace(put.seq), None, "seed {seed}: twice");
            }
            for patch in frame.view().patches() {
                let slot = patch.slot as usize;
                apply(&patch, &mut theirs[slot]);
                assert_eq!(seen[slot].replace(patch.seq), None, "seed {seed}: twice");
                let count = patch.seq.count();
                assert_eq!(patch.check, count as u32, "seed {seed}");
                assert_eq!(
                    patch.timer_left_ns,
                    count.is_multiple_of(3).then_some(count),
                    "seed {seed}"
                );
                assert_eq!(
                    (patch.ready, patch.prio, patch.queue),
                    (count.is_multiple_of(2), 0x83, 2)
                );
            }
            assert_eq!(seen, last, "seed {seed}: the last change of each slot");
            assert_eq!(theirs, ours, "seed {seed}, batch {batch}");
        }
    }
}

/// Goal: of a large value of which a few lines change, little is shipped, however often they do.
#[test]
fn what_has_not_changed_is_not_shipped() {
    let mut open = patching(4);
    let mut value = vec![0; 64 << 10];
    for turn in 0..500_u64 {
        let before = value.clone();
        value[1000..1008].copy_from_slice(&turn.to_le_bytes());
        value[60_000] = turn as u8;
        assert!(open.push(Change::Put(put(1, turn + 1, &value, Some(&before)))));
    }
    let rows = open.take();
    assert_eq!(
        rows.lines.len() - 2 * LINE_BYTES - 2 * RUN_BYTES,
        COUNT_BYTES,
        "two lines in two runs"
    );
    assert_eq!(rows.size(), 2 * LINE_BYTES + 2 * RUN_BYTES + COUNT_BYTES + size_of::<PatchRow>());
}

/// Goal: until somebody says that the back-up has what was shipped, everything is shipped whole.
#[test]
fn a_back_up_that_may_lack_something_gets_all() {
    let mut open = OpenBatch::new(4, 1 << 20);
    let count = |open: &mut OpenBatch| {
        assert!(open.push(Change::Put(put(1, 1, &[1; 100], Some(&[0; 100])))));
        let frame = shipped(open);
        (frame.view().changes().count(), frame.view().patches().count())
    };
    open.set_recording(true);
    assert_eq!(count(&mut open), (1, 0));
    open.set_patching();
    assert_eq!(count(&mut open), (0, 1));
    open.set_recording(true);
    assert_eq!(count(&mut open), (1, 0), "another back-up");
}

/// Goal: what becomes of an object after it was patched replaces the patch.
#[test]
fn a_withdrawn_object_is_not_patched() {
    let mut open = patching(4);
    assert!(open.push(Change::Put(put(1, 1, &[1; 100], Some(&[0; 100])))));
    let removed = Change::Remove { slot: 1, incarnation: 1, seq: Seq::new(3, 2) };
    assert!(open.push(removed));
    let frame = shipped(&mut open);
    assert_eq!(frame.view().changes().collect::<Vec<_>>(), [removed]);
    assert_eq!(frame.view().patches().count(), 0);
}

/// Goal: runs that overlap, lie outside or lack their lines are refused, whatever the numbers.
#[test]
fn runs_that_cannot_be_are_refused() {
    let refused = |runs: &[(u16, u16)], lines: usize| {
        let mut bytes = (runs.len() as u16).to_le_bytes().to_vec();
        for (first, count) in runs {
            bytes.extend_from_slice(&first.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes.resize(bytes.len() + lines, 0);
        let row = PatchRow {
            seq_low: 1,
            slot: 0,
            incarnation: 1,
            check: 0,
            len: bytes.len() as u16,
            queue: 0,
            prio_flags: 0,
        };
        let rows = crate::wire::Rows { patches: vec![row], lines: bytes, ..Default::default() };
        let frame = encode_batch(&BatchBody { rows, ..BatchBody::default() });
        let mut bytes = AlignedVec::new();
        bytes.extend_from_slice(frame.as_ref());
        BatchFrame::decode(bytes).is_err()
    };
    assert!(!refused(&[(0, 1), (2, 1)], 128));
    assert!(!refused(&[(0, 1), (2, 1)], 65), "the last line of a value may be short");
    assert!(!refused(&[], 0), "nothing has changed");
    assert!(refused(&[], 1), "lines of no run");
    assert!(refused(&[(0, 1), (0, 1)], 128), "the same line twice");
    assert!(refused(&[(2, 1), (0, 1)], 128), "not in their order");
    assert!(refused(&[(0, 0)], 0), "a run of nothing");
    assert!(refused(&[(0, 2)], 64), "a line is missing");
    assert!(refused(&[(0, 1)], 65), "more than the run has");
    assert!(refused(&[(65535, 1)], 64), "beyond the largest value");
    assert!(refused(&[(0, 1); 9], 0), "nothing but heads");
}
