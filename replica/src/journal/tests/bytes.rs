//! Every cut and every flipped bit: what is read is what was written, up to where it is not.

use std::io::Cursor;

use super::super::format::{FileKind, Header, HeaderError};
use super::super::scan::{self, Ending, Record};
use super::super::survey::Survey;
use super::*;

/// Positions that the batches of a file lead to, and how it ends.
fn read(bytes: &[u8]) -> Result<(Vec<Seq>, Ending), HeaderError> {
    let (_, mut frames) = scan::open(Cursor::new(bytes)).expect("memory")?;
    let mut positions = Vec::new();
    while let Some(record) = frames.next().expect("memory") {
        match record {
            Record::Batch(batch) => positions.push(batch.last),
            other => panic!("nobody wrote {other:?}"),
        }
    }
    Ok((positions, frames.ending()))
}

/// A header and three batches: their bytes, and where each frame ends.
fn segment() -> (Vec<u8>, Vec<usize>, Vec<Seq>) {
    let positions: Vec<Seq> = (0..4).map(|count| seq(3, count)).collect();
    let header = header(FileKind::Segment, 5, positions[0], &[start(3, Seq::ZERO)]);
    let frames: Vec<_> = positions.windows(2).map(|pair| batch(pair[0], pair[1])).collect();
    let mut ends = vec![header.encode().len()];
    for frame in &frames {
        ends.push(ends[ends.len() - 1] + frame.len());
    }
    (file(&header, &frames), ends, positions[1..].to_vec())
}

#[test]
fn a_header_comes_back_as_it_was_and_no_other_does() {
    let epochs: Vec<_> = (1..40).map(|epoch| start(epoch, seq(epoch - 1, 7))).collect();
    let written =
        Header { from: seq(39, 2), ..header(FileKind::Checkpoint, 12, Seq::ZERO, &epochs) };
    let bytes = written.encode();
    let (read, len) = Header::decode(&bytes).expect("honest");
    assert_eq!(len, bytes.len());
    assert_eq!(read.epochs, epochs[epochs.len() - 32..], "the newest");
    assert_eq!(Header { epochs: Vec::new(), ..read }, Header { epochs: Vec::new(), ..written });
    for cut in 0..bytes.len() {
        assert!(matches!(Header::decode(&bytes[..cut]), Err(HeaderError::Short { .. })), "{cut}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::decode(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn every_cut_leaves_the_whole_frames_before_it() {
    let (bytes, ends, positions) = segment();
    assert_eq!(read(&bytes), Ok((positions.clone(), Ending::Whole)));
    for cut in 0..bytes.len() {
        let found = read(&bytes[..cut]);
        let Some(whole) = ends.iter().rposition(|end| *end <= cut) else {
            assert!(matches!(found, Err(HeaderError::Short { .. })), "{cut}: {found:?}");
            continue;
        };
        let torn = (cut - ends[whole]) as u64;
        let ending = if torn == 0 { Ending::Whole } else { Ending::Torn { bytes: torn } };
        assert_eq!(found, Ok((positions[..whole].to_vec(), ending)), "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_ends_what_is_read_where_it_stands() {
    let (bytes, ends, positions) = segment();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = read(&flipped);
        let Some(whole) = ends.iter().rposition(|end| *end <= bit / 8) else {
            assert!(found.is_err(), "bit {bit}: {found:?}");
            continue;
        };
        let (read, ending) = found.expect("the header is as it was");
        assert_eq!(read, positions[..whole], "bit {bit}");
        let (at, bytes) = (ends[whole] as u64, (bytes.len() - ends[whole]) as u64);
        if whole + 1 == positions.len() {
            assert_eq!(ending, Ending::Torn { bytes }, "bit {bit}: nothing stands behind it");
        } else {
            let damaged =
                matches!(ending, Ending::Damaged { at: a, bytes: b, .. } if (a, b) == (at, bytes));
            assert!(damaged, "bit {bit}: {ending:?}");
        }
    }
}

/// Zeros behind the last frame: what a file system leaves that had made the file longer and not written it.
#[test]
fn zeros_at_the_end_are_a_torn_tail() {
    let (mut bytes, _, positions) = segment();
    bytes.resize(bytes.len() + 5000, 0);
    assert_eq!(read(&bytes), Ok((positions, Ending::Torn { bytes: 5000 })));
}

/// Goal: whatever single bit or cut a directory suffers, a replay leads to a state that was, never beyond what is intact,
/// and falls back to an older checkpoint only where the newer one is of no use.
#[test]
fn no_cut_and_no_flip_leads_anywhere_but_to_a_state_that_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let epochs = [start(3, Seq::ZERO)];
    let at = |count| seq(3, count);
    let path = dir.path();
    let files = [
        (FileKind::Checkpoint, 1, store_checkpoint(path, 1, &epochs, at(0), at(1))),
        (FileKind::Segment, 1, store_segment(path, 1, &epochs, &[at(0), at(1), at(2)])),
        (FileKind::Checkpoint, 2, store_checkpoint(path, 2, &epochs, at(2), at(3))),
        (FileKind::Segment, 2, store_segment(path, 2, &epochs, &[at(2), at(3), at(4)])),
    ];
    let plan = Survey::of(path).expect("readable").plan.expect("it is whole");
    assert_eq!((plan.checkpoint, plan.state.end, plan.stop), (2, at(4), None));
    let mut ends = std::collections::BTreeMap::new();
    for (kind, number, bytes) in &files {
        let file = path.join(file_name(*kind, *number));
        let mut suffer = |damaged: &[u8], what: String| {
            std::fs::write(&file, damaged).expect("writable");
            let plan = Survey::of(path).expect("readable").plan;
            let plan = plan.unwrap_or_else(|| panic!("{what}: one checkpoint is always intact"));
            let first = plan.checkpoint == 1;
            match (kind, number) {
                // The older files are of no interest while the newer ones are good.
                (_, 1) => assert_eq!((plan.checkpoint, plan.state.end), (2, at(4)), "{what}"),
                (FileKind::Checkpoint, _) => {
                    assert_eq!((first, plan.state.end), (true, at(4)), "{what}")
                }
                // Up to 3 the checkpoint is no state that ever was.
                (FileKind::Segment, _) => {
                    let end = plan.state.end;
                    assert!((at(2)..=at(4)).contains(&end), "{what}: {end}");
                    assert_eq!(first, end < at(3), "{what}");
                }
            }
            *ends.entry((*kind as u8, *number, plan.checkpoint, plan.state.end)).or_insert(0) += 1;
        };
        for cut in 0..bytes.len() {
            suffer(&bytes[..cut], format!("{kind:?} {number} cut at {cut}"));
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            suffer(&flipped, format!("{kind:?} {number}, bit {bit}"));
        }
        std::fs::write(&file, bytes).expect("writable");
    }
    println!("{ends:?}");
}
