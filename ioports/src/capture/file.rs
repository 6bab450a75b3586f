//! Capture files of the classic format (libpcap): a header, and records one behind the other.
//!
//! ```text
//!   │ magic │ 2.4 │ 0 │ 0 │ longest │ link type │      24 bytes, in the byte order of whoever wrote it
//!   │ seconds │ fraction │ kept │ on the wire │ …      16 bytes and `kept` bytes, again and again
//! ```
//!
//! It is so small that it is written here: records go straight from the file into blocks. Files of the newer format (pcapng)
//! are refused by name.

use std::io::{self, Read, Write};
use std::time::Duration;

/// Longest record that is believed: what capture programs take at most.
pub(super) const RECORD_BYTES_MAX: u32 = 262_144;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const NEWER: u32 = 0x0a0d_0d0a;
/// Link type: Ethernet.
const ETHERNET: u32 = 1;
const HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It is of the newer format.
    #[error("a pcapng file; `editcap -F pcap IN OUT` makes one of the format that is read here")]
    Newer,
    /// It is no capture file.
    #[error("no capture file: it begins with {found:#010x}, not with {MICROSECONDS:#010x}")]
    Foreign {
        /// Its first four bytes.
        found: u32,
    },
    /// A record cannot be.
    #[error("a record of {bytes} bytes; none has more than {RECORD_BYTES_MAX}")]
    Damaged {
        /// What it says of itself.
        bytes: u32,
    },
    /// It cannot be read.
    #[error("cannot be read")]
    Os(#[from] io::Error),
}

/// What stands before the bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// When, since 1970.
    pub(super) time: Duration,
    /// Bytes that follow.
    pub(super) kept: u32,
    /// Bytes that were on the wire.
    pub(super) whole: u32,
}

/// Reads records.
pub(super) struct CaptureReader<R> {
    file: R,
    swapped: bool,
    /// Of a second.
    fraction_ns: u32,
}

impl<R: Read> CaptureReader<R> {
    pub(super) fn new(mut file: R) -> Result<Self, CaptureError> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header)?;
        let magic = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let (swapped, fraction_ns) = match magic {
            MICROSECONDS => (false, 1000),
            NANOSECONDS => (false, 1),
            NEWER => return Err(CaptureError::Newer),
            other if other.swap_bytes() == MICROSECONDS => (true, 1000),
            other if other.swap_bytes() == NANOSECONDS => (true, 1),
            found => return Err(CaptureError::Foreign { found }),
        };
        Ok(CaptureReader { file, swapped, fraction_ns })
    }

    /// The next record's header; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Record>, CaptureError> {
        let mut header = [0; RECORD_HEADER_BYTES];
        let mut have = 0;
        while have < header.len() {
            match self.file.read(&mut header[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let part = |at: usize| {
            let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            if self.swapped { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        let kept = part(8);
        if kept > RECORD_BYTES_MAX {
            return Err(CaptureError::Damaged { bytes: kept });
        }
        let nanoseconds = part(4).saturating_mul(self.fraction_ns).min(999_999_999);
        let time = Duration::new(part(0).into(), nanoseconds);
        Ok(Some(Record { time, kept, whole: part(12) }))
    }

    /// The bytes of the record whose header was read last: as many as `into` has room for, the others are skipped.
    pub(super) fn read(&mut self, record: &Record, into: &mut [u8]) -> Result<usize, CaptureError> {
        let kept = record.kept as usize;
        let taken = kept.min(into.len());
        self.file.read_exact(&mut into[..taken])?;
        let rest = (kept - taken) as u64;
        let skipped = io::copy(&mut self.file.by_ref().take(rest), &mut io::sink())?;
        if skipped < rest {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(taken)
    }
}

/// The beginning of a file whose records have nanoseconds.
pub(super) fn write_header(file: &mut impl Write) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&NANOSECONDS.to_le_bytes());
    header[4..6].copy_from_slice(&2_u16.to_le_bytes());
    header[6..8].copy_from_slice(&4_u16.to_le_bytes());
    header[16..20].copy_from_slice(&RECORD_BYTES_MAX.to_le_bytes());
    header[20..24].copy_from_slice(&ETHERNET.to_le_bytes());
    file.write_all(&header)
}

/// A record of such a file.
pub(super) fn write_record(
    file: &mut impl Write,
    time: Duration,
    payload: &[u8],
) -> io::Result<()> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).min(RECORD_BYTES_MAX);
    let mut header = [0; RECORD_HEADER_BYTES];
    // The format has 32 bits for the seconds: until 2106.
    header[..4].copy_from_slice(&(time.as_secs() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&time.subsec_nanos().to_le_bytes());
    header[8..12].copy_from_slice(&len.to_le_bytes());
    header[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    file.write_all(&header)?;
    file.write_all(&payload[..len as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(records: &[(u64, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_header(&mut bytes).expect("memory");
        for (seconds, payload) in records {
            write_record(&mut bytes, Duration::new(*seconds, 5), payload).expect("memory");
        }
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = file(&[(1, b"first"), (2, b""), (9, b"the third")]);
        let mut reader = CaptureReader::new(&bytes[..]).expect("a capture");
        let mut room = [0; 6];
        for (seconds, len, taken) in [(1, 5, &b"first"[..]), (2, 0, b""), (9, 9, b"the th")] {
            let record = reader.next().expect("whole").expect("there is one");
            assert_eq!(record.time, Duration::new(seconds, 5));
            assert_eq!((record.kept, record.whole), (len, len));
            let count = reader.read(&record, &mut room).expect("whole");
            assert_eq!(&room[..count], taken);
        }
        assert_eq!(reader.next().expect("the end"), None);
    }

    #[test]
    fn files_of_either_byte_order_and_of_no_sense() {
        // Microseconds, written by a machine of the other byte order.
        let mut bytes = MICROSECONDS.to_be_bytes().to_vec();
        bytes.extend([0; 20]);
        for part in [7_u32, 3, 2, 60] {
            bytes.extend(part.to_be_bytes());
        }
        bytes.extend(b"ab");
        let mut reader = CaptureReader::new(&bytes[..]).expect("a capture");
        let record = reader.next().expect("whole").expect("there is one");
        assert_eq!(record, Record { time: Duration::new(7, 3000), kept: 2, whole: 60 });

        let newer = [&NEWER.to_le_bytes()[..], &[0; 20]].concat();
        assert!(matches!(CaptureReader::new(&newer[..]), Err(CaptureError::Newer)));
        let text = CaptureReader::new(&[b'x'; 24][..]).err().expect("foreign").to_string();
        assert!(text.contains("0x78787878"), "{text}");
        let short = file(&[(1, b"cut off")]);
        let mut reader = CaptureReader::new(&short[..short.len() - 1]).expect("a capture");
        let record = reader.next().expect("whole").expect("there is one");
        assert!(reader.read(&record, &mut [0; 100]).is_err());
        let mut huge = file(&[]);
        huge.extend([0xff; 16]);
        let mut reader = CaptureReader::new(&huge[..]).expect("a capture");
        assert!(matches!(reader.next(), Err(CaptureError::Damaged { bytes: u32::MAX })));
    }
}
