//! Where one frame of a stream ends and the next begins.
//!
//! ```text
//!   length      │ 00 05 │ h e l l o │ 00 02 │ o k │            each way
//!   delimiter   │ h e l l o │ \r \n │ o k │ \r \n │            each way
//!   pieces      │ hel │ loo │ k │                              as they come; what is sent goes as it is
//!   function    whatever the application finds; what is sent goes as it is
//! ```
//!
//! Nobody behind the stream is trusted: a frame longer than the port takes ends the connection when its length is known, or
//! when so many bytes have come without an end.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Longest delimiter, and the most that a frame may have around its payload.
pub const AROUND_BYTES_MAX: usize = 16;

pub(crate) const TOO_LONG: &str = "too long";

/// What the bytes of a stream begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A frame.
    Frame {
        /// Its payload.
        payload: Range<usize>,
        /// Where the next one begins: at least 1.
        next: usize,
    },
    /// The beginning of one.
    More,
    /// None, and there will be none: the connection ends, counted under this reason.
    Broken(&'static str),
}

/// How a stream is cut into frames.
#[derive(Clone, Debug, PartialEq)]
pub enum Framing {
    /// Each frame behind its length, in as many bytes (1, 2 or 4), the highest first; the length does not count itself.
    Length(u8),
    /// Each frame ends with these bytes, 1 to [`AROUND_BYTES_MAX`], which are no part of it.
    Delimiter(Vec<u8>),
    /// The bytes as they come: a message may hold any part of the stream.
    Pieces,
    /// A function of the application, which is asked again with each further byte.
    Function(FramingFunction),
}

/// What [`Framing::Function`] calls: bytes from the beginning of a frame on, to what they are. It must answer the same for the
/// same bytes.
#[derive(Clone, Copy, Debug)]
pub struct FramingFunction(pub fn(&[u8]) -> Cut);

impl PartialEq for FramingFunction {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}

impl Framing {
    /// Why it makes no sense, if so.
    pub fn objection(&self) -> Option<String> {
        match self {
            Framing::Length(bytes) if ![1, 2, 4].contains(bytes) => {
                Some(format!("a length of {bytes} bytes; it has 1, 2 or 4"))
            }
            Framing::Delimiter(bytes) if !(1..=AROUND_BYTES_MAX).contains(&bytes.len()) => Some(
                format!("a delimiter of {} bytes; it has 1 to {AROUND_BYTES_MAX}", bytes.len()),
            ),
            _ => None,
        }
    }

    /// What `bytes` begin with, where a payload has at most `payload_max` bytes.
    pub fn cut(&self, bytes: &[u8], payload_max: usize) -> Cut {
        let cut = match self {
            Framing::Length(width) => cut_length(bytes, usize::from(*width), payload_max),
            Framing::Delimiter(delimiter) => cut_delimiter(bytes, delimiter, payload_max),
            Framing::Pieces if bytes.is_empty() => Cut::More,
            Framing::Pieces => {
                let end = bytes.len().min(payload_max);
                Cut::Frame { payload: 0..end, next: end }
            }
            Framing::Function(function) => contained(*function, bytes),
        };
        match cut {
            Cut::Frame { payload, .. } if payload.len() > payload_max => Cut::Broken(TOO_LONG),
            Cut::More if bytes.len() >= payload_max + AROUND_BYTES_MAX => Cut::Broken(TOO_LONG),
            other => other,
        }
    }

    /// Writes `payload` as a frame behind `out`.
    ///
    /// # Errors
    /// When no length of this width can say how long it is; nothing is written.
    pub fn dress(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self {
            Framing::Length(width) => {
                let width = usize::from(*width);
                let length = (payload.len() as u64).to_be_bytes();
                let (high, low) = length.split_at(length.len() - width);
                if high.iter().any(|&byte| byte != 0) {
                    return Err(TOO_LONG);
                }
                out.extend_from_slice(low);
                out.extend_from_slice(payload);
            }
            Framing::Delimiter(delimiter) => {
                out.extend_from_slice(payload);
                out.extend_from_slice(delimiter);
            }
            Framing::Pieces | Framing::Function(_) => out.extend_from_slice(payload),
        }
        Ok(())
    }
}

fn cut_length(bytes: &[u8], width: usize, payload_max: usize) -> Cut {
    let Some((head, rest)) = bytes.split_at_checked(width) else { return Cut::More };
    let length = head.iter().fold(0, |length, &byte| length << 8 | u64::from(byte));
    if length > payload_max as u64 {
        return Cut::Broken(TOO_LONG);
    }
    let end = width + length as usize;
    match rest.len() as u64 >= length {
        true => Cut::Frame { payload: width..end, next: end },
        false => Cut::More,
    }
}

fn cut_delimiter(bytes: &[u8], delimiter: &[u8], payload_max: usize) -> Cut {
    let looked_at = bytes.len().min(payload_max + delimiter.len());
    let found = bytes[..looked_at].windows(delimiter.len()).position(|part| part == delimiter);
    match found {
        Some(end) => Cut::Frame { payload: 0..end, next: end + delimiter.len() },
        None if bytes.len() >= payload_max + delimiter.len() => Cut::Broken(TOO_LONG),
        None => Cut::More,
    }
}

/// The application's function sees what the network sends: a panic, or nonsense, costs the connection and not the port.
fn contained(function: FramingFunction, bytes: &[u8]) -> Cut {
    if bytes.is_empty() {
        return Cut::More;
    }
    match catch_unwind(AssertUnwindSafe(|| (function.0)(bytes))) {
        Err(_) => Cut::Broken("the framing panicked"),
        Ok(Cut::Frame { payload, next })
            if payload.start > payload.end
                || payload.end > next
                || next == 0
                || next > bytes.len() =>
        {
            Cut::Broken("the framing made no sense")
        }
        Ok(cut) => cut,
    }
}

#[cfg(test)]
mod tests;
