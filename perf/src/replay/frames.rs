//! The capture file of the bench, and whether another one has the same frames.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::ops::Range;
use std::path::Path;

/// The shortest that Ethernet has, its checksum counted in.
pub(super) const FRAME_BYTES: usize = 64;
const HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;
const RECORD_BYTES: usize = RECORD_HEADER_BYTES + FRAME_BYTES;
/// Of a frame: whose it is, and which.
const SOURCE_PORT: Range<usize> = 34..36;
const NUMBER: Range<usize> = 42..46;
/// Read and written with one system call, as the port does.
const BUFFER_BYTES: usize = 1 << 20;

/// A capture of `count` UDP frames of `flows` flows in turn.
pub(super) fn file(count: u32, flows: u32) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER_BYTES + count as usize * RECORD_BYTES);
    for part in [0xa1b2_3c4d_u32, 4 << 16 | 2, 0, 0, 262_144, 1] {
        file.extend(part.to_le_bytes());
    }
    for number in 0..count {
        for part in [number / 1_000_000, number % 1_000_000, FRAME_BYTES as u32, FRAME_BYTES as u32]
        {
            file.extend(part.to_le_bytes());
        }
        file.extend(frame(number, number % flows));
    }
    file
}

/// Ethernet, IPv4, UDP; checksums are nobody's business here.
fn frame(number: u32, flow: u32) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17]);
    frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    frame[SOURCE_PORT].copy_from_slice(&(10_000 + flow as u16).to_be_bytes());
    frame[36..38].copy_from_slice(&9_u16.to_be_bytes());
    frame[38..40].copy_from_slice(&30_u16.to_be_bytes());
    frame[NUMBER].copy_from_slice(&number.to_be_bytes());
    frame
}

/// The limit: each record is read, and written.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, File::open(from)?);
    let mut to = BufWriter::with_capacity(BUFFER_BYTES, File::create(to)?);
    let mut header = [0; HEADER_BYTES];
    from.read_exact(&mut header)?;
    to.write_all(&header)?;
    let (mut header, mut frame) = ([0; RECORD_HEADER_BYTES], [0; FRAME_BYTES]);
    loop {
        match from.read_exact(&mut header) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return to.flush(),
            other => other?,
        }
        from.read_exact(&mut frame)?;
        to.write_all(&header)?;
        to.write_all(&frame)?;
    }
}

/// Whether `written` has every frame of `given`, and no other, each flow in its order. Times are those of the writer.
pub(super) fn compare(given: &[u8], written: &[u8], flows: u32) -> Result<(), String> {
    let frames = |file| -> Vec<&[u8]> { records(file).collect() };
    let (given, written) = (frames(given), frames(written));
    if given.len() != written.len() {
        return Err(format!("{} frames were given, {} came out", given.len(), written.len()));
    }
    let mut next: Vec<usize> = (0..flows as usize).collect();
    for frame in written {
        let number = u32::from_be_bytes(frame[NUMBER].try_into().expect("four bytes")) as usize;
        let flow = number % flows as usize;
        if next[flow] != number {
            return Err(format!("flow {flow}: frame {number} came, {} was next", next[flow]));
        }
        next[flow] += flows as usize;
        if given[number] != frame {
            return Err(format!("frame {number} came out as another one"));
        }
    }
    Ok(())
}

fn records(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file[HEADER_BYTES..].chunks_exact(RECORD_BYTES).map(|record| &record[RECORD_HEADER_BYTES..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is missing, doubled, changed or out of order is noticed, and another order of flows is none.
    #[test]
    fn differences_are_noticed() {
        let given = file(12, 3);
        let order = |numbers: &[usize]| -> Vec<u8> {
            let record = |at: &usize| given[HEADER_BYTES..].chunks(RECORD_BYTES).nth(*at);
            let records: Vec<&[u8]> = numbers.iter().filter_map(record).collect();
            [&given[..HEADER_BYTES], &records.concat()].concat()
        };
        let all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        assert_eq!(compare(&given, &order(&all), 3), Ok(()));
        assert_eq!(compare(&given, &order(&[2, 5, 1, 0, 3, 4, 6, 8, 7, 11, 10, 9]), 3), Ok(()));
        #[rustfmt::skip]
        let wrong = [
            ("12 frames were given, 11", order(&all[..11])),
            ("frame 3 came, 0 was next", order(&[3, 1, 2, 0, 4, 5, 6, 7, 8, 9, 10, 11])),
            ("frame 1 came, 4 was next", order(&[0, 1, 2, 3, 1, 5, 6, 7, 8, 9, 10, 11])),
        ];
        for (expected, file) in wrong {
            let error = compare(&given, &file, 3).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let mut changed = given.clone();
        *changed.last_mut().expect("not empty") ^= 1;
        let error = compare(&given, &changed, 3).expect_err("a byte is another");
        assert!(error.contains("frame 11 came out as another one"), "{error}");
    }
}
