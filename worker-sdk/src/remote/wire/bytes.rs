//! Fields in and out of bytes, and a stream cut into frames.

use super::{FRAME_BYTES_MAX, WireError};

const LEN_BYTES: usize = 4;

/// Memory that a frame gets before its bytes are there.
const USUAL_BYTES: usize = 16 << 10;

/// Writes frames one behind the other.
pub(crate) struct Writer<'b> {
    out: &'b mut Vec<u8>,
    from: usize,
}

impl<'b> Writer<'b> {
    /// Begins a frame.
    pub(crate) fn frame(out: &'b mut Vec<u8>, kind: u8) -> Self {
        let from = out.len();
        out.extend_from_slice(&[0; LEN_BYTES]);
        out.push(kind);
        Self { out, from }
    }

    /// Writes fields that are part of no frame yet.
    pub(crate) fn fields(out: &'b mut Vec<u8>) -> Self {
        let from = out.len();
        Self { out, from }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Bytes behind their length. Whoever writes keeps to the limits of the reader.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.raw(bytes);
    }

    /// Ends the frame.
    pub(crate) fn end(self) {
        let len = (self.out.len() - self.from - LEN_BYTES) as u32;
        self.out[self.from..self.from + LEN_BYTES].copy_from_slice(&len.to_le_bytes());
    }
}

/// Reads fields one behind the other.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn raw(&mut self, len: usize, what: &'static str) -> Result<&'b [u8], WireError> {
        match self.rest.split_at_checked(len) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(WireError::Short { what, missing: len - self.rest.len() }),
        }
    }

    fn number<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        self.raw(N, what).map(|bytes| bytes.try_into().unwrap_or([0; N]))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.number::<1>(what).map(|bytes| bytes[0])
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.number(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.number(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.number(what).map(u64::from_le_bytes)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], WireError> {
        self.number(what)
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, WireError> {
        self.at_most(1, what).map(|flag| flag == 1)
    }

    pub(crate) fn at_most(&mut self, max: u8, what: &'static str) -> Result<u8, WireError> {
        let found = self.u8(what)?;
        if found > max {
            return Err(WireError::Value { what, found: found.into(), max: max.into() });
        }
        Ok(found)
    }

    /// Bytes behind their length, at most so many.
    pub(crate) fn bytes(&mut self, max: usize, what: &'static str) -> Result<&'b [u8], WireError> {
        let len = self.u32(what)? as usize;
        if len > max {
            return Err(WireError::Value { what, found: len as u64, max: max as u64 });
        }
        self.raw(len, what)
    }

    pub(crate) fn text(&mut self, max: usize, what: &'static str) -> Result<&'b str, WireError> {
        std::str::from_utf8(self.bytes(max, what)?).map_err(|_| WireError::Text { what })
    }

    /// There is nothing behind the last field.
    pub(crate) fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(WireError::Rest { bytes: self.rest.len() })
    }
}

/// Cuts a stream into frames, and holds at most one.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
    max: usize,
}

impl Frames {
    /// A reader at a frame's boundary, of frames of at most `max` bytes behind their length.
    pub(crate) fn new(max: usize) -> Self {
        Self { buffer: Vec::new(), max: max.min(FRAME_BYTES_MAX) }
    }

    /// Bytes of a frame that is not complete.
    pub(crate) fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Hands each whole frame (kind and fields) to `each`. After an error the stream is of no use.
    pub(crate) fn push<E: From<WireError>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.push_while(bytes, |frame| each(frame).map(|()| true)).map(drop)
    }

    /// The same for as long as `each` says that it goes on. Tells how many of the bytes were taken.
    pub(crate) fn push_while<E: From<WireError>>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<bool, E>,
    ) -> Result<usize, E> {
        let all = bytes.len();
        loop {
            if self.buffer.is_empty() {
                // The usual case: whole frames, read where they are.
                match bytes.split_first_chunk::<LEN_BYTES>() {
                    Some((len, rest)) if rest.len() >= self.check(*len)? => {
                        let (frame, rest) = rest.split_at(self.check(*len)?);
                        let goes_on = each(frame)?;
                        bytes = rest;
                        if !goes_on {
                            return Ok(all - bytes.len());
                        }
                        continue;
                    }
                    _ if bytes.is_empty() => return Ok(all),
                    _ => {}
                }
            }
            let goal = match self.buffer.first_chunk::<LEN_BYTES>() {
                Some(len) => LEN_BYTES + self.check(*len)?,
                None => LEN_BYTES,
            };
            let take = bytes.len().min(goal - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.buffer.len() < goal {
                return Ok(all);
            }
            if goal > LEN_BYTES {
                let done = each(&self.buffer[LEN_BYTES..]);
                self.buffer.clear();
                self.buffer.shrink_to(USUAL_BYTES);
                if !done? {
                    return Ok(all - bytes.len());
                }
            } else if let Some(len) = self.buffer.first_chunk::<LEN_BYTES>() {
                self.check(*len)?;
            }
        }
    }

    fn check(&self, len: [u8; LEN_BYTES]) -> Result<usize, WireError> {
        let found = u32::from_le_bytes(len) as usize;
        match found {
            0 => Err(WireError::Short { what: "the kind of a frame", missing: 1 }),
            _ if found > self.max => Err(WireError::TooLong { found, max: self.max }),
            _ => Ok(found),
        }
    }
}
