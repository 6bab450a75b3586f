//! What travels between a remote worker and a gateway, and how bytes become messages.
//!
//! ```text
//!   0     4      5                  4 + len
//!   ├ len ┼ kind ┼ fields, one behind the other ─┤      integers little-endian
//! ```
//! Bytes of any length stand behind their length; a list stands behind its count. TLS has checked that nobody has changed
//! a byte.
//!
//! # Trust
//! A worker has a valid certificate and may still send anything. The length is checked before a byte is stored, and the
//! memory of a frame grows only as its bytes come. A field is checked before it is used; what is left over at the end of a
//! frame is an error, so that nobody means what the other does not read.

mod bytes;
mod effects;
mod event;
mod request;

pub(crate) use bytes::Frames;
pub(crate) use effects::{Effect, Effects, EffectsDraft};
pub(crate) use event::{Event, JobView, MessageView, Outcome, Refusal, encode_event};
pub(crate) use request::{Request, encode_request};

use hotpair_shm::KEY_BYTES_MAX;

/// Versions of the conversation that this build speaks.
pub(crate) const VERSIONS: std::ops::RangeInclusive<u16> = 1..=1;

/// Largest value, message or packet.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Longest name of a queue or port, as in the region.
pub(crate) const NAME_BYTES_MAX: usize = 31;

/// `Get`s of one connection that have no answer yet.
pub(crate) const GETS_MAX: usize = 64;

/// Longest text of an error.
pub(crate) const TEXT_BYTES_MAX: usize = 400;

/// Largest frame in either direction: a claim with as many messages as one takes, or the commit of as much.
pub(crate) const FRAME_BYTES_MAX: usize = frame_bytes_max();

const fn frame_bytes_max() -> usize {
    let mut bytes = 0;
    bytes += PAYLOAD_BYTES_MAX + KEY_BYTES_MAX; // the value and the key
    bytes += hotpair_shm::MESSAGES_PER_CLAIM * (PAYLOAD_BYTES_MAX + 64); // messages, or what is emitted
    bytes += 1 << 16; // everything else
    bytes
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Refused before a byte of it is stored.
    #[error("a frame announces {found} bytes, the limit is {max}")]
    TooLong {
        /// Bytes announced.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A field reaches beyond the end.
    #[error("a frame ends {missing} bytes before the end of {what}")]
    Short {
        /// What it is.
        what: &'static str,
        /// So many bytes are not there.
        missing: usize,
    },
    /// Something stands behind the last field.
    #[error("{bytes} bytes are left over at the end of a frame")]
    Rest {
        /// How many.
        bytes: usize,
    },
    /// A number that means nothing.
    #[error("{what} is {found}, the limit is {max}")]
    Value {
        /// What it is.
        what: &'static str,
        /// The number found.
        found: u64,
        /// The largest one allowed.
        max: u64,
    },
    /// Not text.
    #[error("{what} is no text")]
    Text {
        /// What it should be.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests;
