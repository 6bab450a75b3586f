//! One file of a journal, frame by frame, up to its end or to where it is of no use any more.
//!
//! A frame that is cut short, or whose crc is wrong, ends what can be read: where it ends is not to be believed. If no
//! good frame stands anywhere behind it, this is how a writer that was killed, or a host that lost its power, leaves
//! a file: a torn tail. If there is one, the file was damaged later.

use std::io::{self, Read, Seek, SeekFrom};

use rkyv::util::AlignedVec;

use super::format::{HEADER_BYTES_MAX, Header, HeaderError};
use crate::wire::{
    BatchFrame, ChunkFrame, FRAME_BYTES_MAX, HEADER_BYTES, Message, SnapshotEnd, WireError,
    body_bytes,
};

/// What a file holds.
#[derive(Debug)]
pub enum Record {
    /// What some commits changed.
    Batch(BatchFrame),
    /// A part of a state.
    Chunk(ChunkFrame),
    /// The end of a state.
    End(SnapshotEnd),
}

/// How the readable part of a file ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// With the file.
    #[default]
    Whole,
    /// In a frame that was never written to its end.
    Torn {
        /// Bytes from there to the end of the file.
        bytes: u64,
    },
    /// In something that is no frame; there are good ones behind it.
    Damaged {
        /// Where.
        at: u64,
        /// Bytes from there to the end of the file.
        bytes: u64,
        /// What is wrong.
        why: WireError,
    },
}

/// So much is looked at in one piece for a frame behind a bad one.
const WINDOW_BYTES: usize = 1 << 20;
/// What looks like frames is read up to so many bytes: it decides nothing but how the end is called.
const SEARCH_BYTES_MAX: u64 = 256 << 20;

/// Reads a file.
#[derive(Debug)]
pub struct Frames<R> {
    from: R,
    /// Where `from` stands: it is moved only if it must be, since that costs what it has read ahead.
    stands: u64,
    at: u64,
    end: u64,
    ending: Option<Ending>,
}

/// Reads the header off a file; what follows it comes from [`Frames::next`].
///
/// # Errors
/// The outer one is the disk's.
pub fn open<R: Read + Seek>(mut from: R) -> io::Result<Result<(Header, Frames<R>), HeaderError>> {
    let end = from.seek(SeekFrom::End(0))?;
    from.seek(SeekFrom::Start(0))?;
    let mut lead = Vec::new();
    from.by_ref().take(HEADER_BYTES_MAX as u64).read_to_end(&mut lead)?;
    Ok(Header::decode(&lead).map(|(header, bytes)| {
        let stands = lead.len() as u64;
        (header, Frames { from, stands, at: bytes as u64, end, ending: None })
    }))
}

enum Bad {
    /// The file ends before the frame does.
    Short,
    Wire(WireError),
}

impl<R: Read + Seek> Frames<R> {
    /// The next frame; `None` at the end, about which [`ending`](Self::ending) knows more.
    ///
    /// # Errors
    /// The disk's.
    #[expect(clippy::should_implement_trait, reason = "it is fallible, and lends nothing")]
    pub fn next(&mut self) -> io::Result<Option<Record>> {
        if self.ending.is_some() {
            return Ok(None);
        }
        if self.at == self.end {
            self.ending = Some(Ending::Whole);
            return Ok(None);
        }
        let why = match self.record(self.at)? {
            Ok((record, bytes)) => {
                self.at += bytes;
                return Ok(Some(record));
            }
            Err(why) => why,
        };
        let bytes = self.end - self.at;
        self.ending = Some(match self.good_frame_after(self.at)? {
            false => Ending::Torn { bytes },
            true => {
                let why = match why {
                    Bad::Wire(why) => why,
                    Bad::Short => {
                        let left = usize::try_from(bytes).unwrap_or(usize::MAX);
                        WireError::Length { actual: left, claimed: HEADER_BYTES }
                    }
                };
                Ending::Damaged { at: self.at, bytes, why }
            }
        });
        Ok(None)
    }

    /// How it ended, once it did.
    pub fn ending(&self) -> Ending {
        self.ending.clone().unwrap_or_default()
    }

    fn record(&mut self, at: u64) -> io::Result<Result<(Record, u64), Bad>> {
        let left = self.end - at;
        let mut header = [0; HEADER_BYTES];
        if left < HEADER_BYTES as u64 {
            return Ok(Err(Bad::Short));
        }
        self.go_to(at)?;
        self.from.read_exact(&mut header)?;
        self.stands += HEADER_BYTES as u64;
        let body = match body_bytes(&header) {
            Ok(body) => body,
            Err(why) => return Ok(Err(Bad::Wire(why))),
        };
        let whole = HEADER_BYTES + body;
        if left < whole as u64 {
            return Ok(Err(Bad::Short));
        }
        let mut frame = AlignedVec::with_capacity(whole);
        frame.extend_from_slice(&header);
        frame.resize(whole, 0);
        self.from.read_exact(&mut frame[HEADER_BYTES..])?;
        self.stands += body as u64;
        Ok(match Message::decode(frame) {
            Ok(Message::Batch(batch)) => Ok((Record::Batch(batch), whole as u64)),
            Ok(Message::Chunk(chunk)) => Ok((Record::Chunk(chunk), whole as u64)),
            Ok(Message::SnapshotEnd(end)) => Ok((Record::End(end), whole as u64)),
            Ok(_) => Err(Bad::Wire(WireError::Kind { kind: header[8] })),
            Err(why) => Err(Bad::Wire(why)),
        })
    }

    fn go_to(&mut self, at: u64) -> io::Result<()> {
        if self.stands != at {
            self.from.seek(SeekFrom::Start(at))?;
            self.stands = at;
        }
        Ok(())
    }

    /// Whether a good frame begins anywhere behind this place.
    fn good_frame_after(&mut self, at: u64) -> io::Result<bool> {
        let mut budget = SEARCH_BYTES_MAX;
        let mut start = at + 1;
        let mut window = Vec::new();
        while start + HEADER_BYTES as u64 <= self.end {
            window.clear();
            self.go_to(start)?;
            self.from.by_ref().take(WINDOW_BYTES as u64).read_to_end(&mut window)?;
            self.stands += window.len() as u64;
            for (offset, header) in window.windows(HEADER_BYTES).enumerate() {
                let place = start + offset as u64;
                if !looks_like_a_header(header, self.end - place) {
                    continue;
                }
                let bytes = self.record(place)?;
                if bytes.is_ok() {
                    return Ok(true);
                }
                let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
                let Some(left) = budget.checked_sub(u64::from(len) + HEADER_BYTES as u64) else {
                    return Ok(true); // nothing in it looks like the end of a file
                };
                budget = left;
            }
            // The next window begins where no header of this one could end.
            start += (window.len() + 1).saturating_sub(HEADER_BYTES).max(1) as u64;
        }
        Ok(false)
    }
}

/// A kind of frame that a journal has, zeros behind it, and a length that the file has room for.
fn looks_like_a_header(bytes: &[u8], left: u64) -> bool {
    let len = u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    (4..=6).contains(&bytes[8])
        && bytes[9..HEADER_BYTES].iter().all(|byte| *byte == 0)
        && len + HEADER_BYTES as u64 <= left.min(FRAME_BYTES_MAX as u64)
}
