//! Frames: length, checksum, kind; and how a stream is cut into them.

use std::sync::Arc;

use rkyv::util::AlignedVec;

use super::{FRAME_BYTES_MAX, WireError, spare};

/// Bytes before the body.
pub const HEADER_BYTES: usize = 16;

const CRC_FROM: usize = 8;

/// Batches and chunks are sealed well below this.
const USUAL_BYTES: usize = 512 << 10;

/// What a frame holds. The numbers are the protocol: never reused, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 1,
    Refuse = 2,
    Start = 3,
    Batch = 4,
    Chunk = 5,
    SnapshotEnd = 6,
    Ack = 7,
    Changed = 8,
    HandOver = 9,
    // Of the layer below the core, where there are several links.
    Join = 10,
    Onward = 11,
    Probe = 12,
}

impl Kind {
    fn from_byte(kind: u8) -> Result<Kind, WireError> {
        Ok(match kind {
            1 => Kind::Hello,
            2 => Kind::Refuse,
            3 => Kind::Start,
            4 => Kind::Batch,
            5 => Kind::Chunk,
            6 => Kind::SnapshotEnd,
            7 => Kind::Ack,
            8 => Kind::Changed,
            9 => Kind::HandOver,
            10 => Kind::Join,
            11 => Kind::Onward,
            12 => Kind::Probe,
            kind => return Err(WireError::Kind { kind }),
        })
    }
}

/// A whole frame, ready to be written, and cheap to keep until it is acknowledged.
#[derive(Clone, Debug)]
pub struct SharedFrame(Arc<Spared>);

/// Bytes whose memory is kept for other frames afterwards.
#[derive(Debug)]
struct Spared(AlignedVec);

impl Drop for Spared {
    fn drop(&mut self) {
        spare::give(std::mem::take(&mut self.0));
    }
}

impl SharedFrame {
    /// Bytes of the frame, header included.
    pub fn len(&self) -> usize {
        self.0.0.len()
    }

    /// Never: a frame has a header.
    pub fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }
}

impl AsRef<[u8]> for SharedFrame {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

/// An empty buffer with room for the header, into which a body is serialised.
pub(crate) fn begin(body_hint: usize) -> AlignedVec {
    let mut buffer = spare::take(HEADER_BYTES + body_hint);
    buffer.extend_from_slice(&[0; HEADER_BYTES]);
    buffer
}

/// Fills in the header of a buffer that [`begin`] made.
pub(crate) fn finish(kind: Kind, mut buffer: AlignedVec) -> SharedFrame {
    let body = buffer.len() - HEADER_BYTES;
    assert!(buffer.len() <= FRAME_BYTES_MAX, "limits keep what we build below the largest frame");
    buffer[0..4].copy_from_slice(&(body as u32).to_le_bytes());
    buffer[8] = kind as u8;
    let crc = crc32c::crc32c(&buffer[CRC_FROM..]);
    buffer[4..8].copy_from_slice(&crc.to_le_bytes());
    SharedFrame(Arc::new(Spared(buffer)))
}

/// Bytes of the body that follows this header; refused if no frame can be that long.
pub fn body_bytes(header: &[u8; HEADER_BYTES]) -> Result<usize, WireError> {
    let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let max = FRAME_BYTES_MAX - HEADER_BYTES;
    if len > max {
        return Err(WireError::TooLong { len, max });
    }
    Ok(len)
}

/// Checks a whole frame and says what it holds. The body is `frame[HEADER_BYTES..]`.
pub(crate) fn check(frame: &[u8]) -> Result<Kind, WireError> {
    let Some(header) = frame.first_chunk::<HEADER_BYTES>() else {
        return Err(WireError::Length { actual: frame.len(), claimed: HEADER_BYTES });
    };
    let claimed = HEADER_BYTES + body_bytes(header)?;
    if frame.len() != claimed {
        return Err(WireError::Length { actual: frame.len(), claimed });
    }
    let found = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let computed = crc32c::crc32c(&frame[CRC_FROM..]);
    if found != computed {
        return Err(WireError::Crc { found, computed });
    }
    Kind::from_byte(header[8])
}

/// Cuts a stream of bytes into frames, in aligned buffers, and never holds more than one of them.
///
/// ```
/// use hotpair_replica::wire::FrameReader;
/// let mut reader = FrameReader::new();
/// let mut bytes: &[u8] = b"\x00\x00"; // whatever came from the stream
/// while let Some(frame) = reader.push(&mut bytes)? {
///     // core.handle_frame(now, connection, frame);
/// }
/// # Ok::<(), hotpair_replica::wire::WireError>(())
/// ```
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: AlignedVec,
    /// Bytes of the frame under way, once its header is complete.
    whole: Option<usize>,
}

impl FrameReader {
    /// A reader at a frame boundary.
    pub fn new() -> FrameReader {
        FrameReader::default()
    }

    /// Bytes of a frame that is not complete.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Takes bytes off the front of `bytes`, up to the end of one frame. `None` when all were taken
    /// and the frame is not complete. After an error the stream is of no use.
    pub fn push(&mut self, bytes: &mut &[u8]) -> Result<Option<AlignedVec>, WireError> {
        loop {
            let goal = self.whole.unwrap_or(HEADER_BYTES);
            let take = bytes.len().min(goal - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..take]);
            *bytes = &bytes[take..];
            if self.buffer.len() < goal {
                return Ok(None);
            }
            if self.whole.is_some() {
                self.whole = None;
                return Ok(Some(std::mem::take(&mut self.buffer)));
            }
            let header = self.buffer.first_chunk().expect("the goal was a header");
            let whole = HEADER_BYTES + body_bytes(header)?;
            // The memory of a frame beyond the usual is taken as its bytes come, so a liar pays for what it
            // announces.
            let mut buffer = spare::take(whole.min(USUAL_BYTES));
            buffer.extend_from_slice(&self.buffer);
            self.buffer = buffer;
            self.whole = Some(whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> SharedFrame {
        let mut buffer = begin(body.len());
        buffer.extend_from_slice(body);
        finish(Kind::Ack, buffer)
    }

    #[test]
    fn a_stream_is_cut_into_its_frames_however_it_arrives() {
        let (one, two) = (frame(b"first"), frame(b""));
        let stream = [one.as_ref(), two.as_ref(), one.as_ref()].concat();
        for step in 1..stream.len() {
            let mut reader = FrameReader::new();
            let mut frames = Vec::new();
            for mut part in stream.chunks(step) {
                while let Some(frame) = reader.push(&mut part).expect("all frames are good") {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(frames, [one.as_ref(), two.as_ref(), one.as_ref()], "in steps of {step}");
        }
    }

    #[test]
    fn an_endless_frame_is_refused_by_its_header() {
        let mut reader = FrameReader::new();
        let mut bytes: &[u8] = &[0xff; HEADER_BYTES];
        assert!(matches!(reader.push(&mut bytes), Err(WireError::TooLong { .. })));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = frame(b"some body");
        assert_eq!(check(good.as_ref()), Ok(Kind::Ack));
        for bit in 0..good.len() * 8 {
            let mut bytes = good.as_ref().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bytes).is_err(), "bit {bit}");
        }
        assert!(check(&good.as_ref()[..good.len() - 1]).is_err());
        assert!(check(&[]).is_err());
    }
}
