//! What travels between the nodes, and how bytes become messages.
//!
//! ```text
//!   0     4       8      9         16                                 16 + len
//!   ├ len ┼ crc32c ┼ kind ┼ zero … ┼ body: rkyv, its root at the end ─┤
//! ```
//!
//! `len` counts the body alone; the crc covers everything behind it, `kind` included. The header has
//! 16 bytes so that a body is aligned whenever its frame is. Integers are little-endian.
//!
//! # Trust
//! A peer has a valid certificate and may still send anything. Lengths are checked before a byte is
//! stored, the crc before anything is believed, the body with bytecheck, and every range inside it
//! before it is used. Whatever is wrong is a [`WireError`]; nothing here panics on input.

mod batch;
mod chunk;
mod frame;
mod hand_over;
#[cfg(feature = "quic")]
pub(crate) mod links;
mod message;
mod patch;
mod rows;
mod spare;

pub(crate) use batch::encode_batch;
pub use batch::{Basis, BatchFrame, BatchView, Change, EmitRef, OpenBatch, PutRef, SentRef};
pub use chunk::{ChunkFrame, OpenChunk};
pub use frame::{FrameReader, HEADER_BYTES, SharedFrame, body_bytes};
pub use hand_over::HandOver;
pub use message::{
    Ack, CHANGED_MAX, Changed, EpochStart, Hello, Message, Refuse, SnapshotEnd, Standing, Start,
};
pub(crate) use message::{Outgoing, encode, encode_datagram};
pub use patch::{LINE_BYTES, PatchRef};
pub(crate) use rows::{BatchBody, Rows};

/// Versions of the protocol that this build speaks: its own, and from the first release on the one before, so that the nodes of
/// a pair can be upgraded one after the other ([`hello`](Hello) says which).
pub const VERSIONS: std::ops::RangeInclusive<u16> = 4..=4;

// What nobody runs any more is not spoken any more.
const _: () = assert!(*VERSIONS.end() - *VERSIONS.start() <= 1);

/// Largest value of one object, with its key.
pub const OBJECT_BYTES_MAX: usize = 1 << 20;

/// Largest frame that is sent or accepted, header included.
pub const FRAME_BYTES_MAX: usize = frame_bytes_max();

/// Largest datagram that is sent or accepted: what every path with an MTU of 1,280 lets through.
pub const DATAGRAM_BYTES_MAX: usize = 1_200;

const fn frame_bytes_max() -> usize {
    let mut bytes = 0;
    bytes += HEADER_BYTES;
    bytes += 1 << 20; // a batch or chunk just below its seal size, the largest configurable
    bytes += 16 * OBJECT_BYTES_MAX; // the commit that went beyond: its value, what it creates and emits
    bytes += 1 << 20; // rows that describe them
    bytes
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Refused before a byte of it is stored.
    #[error("a frame announces {len} bytes, the limit is {max}")]
    TooLong {
        /// Bytes announced.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The frame ends before or after its announced length.
    #[error("a frame of {actual} bytes announces {claimed}")]
    Length {
        /// Bytes there are.
        actual: usize,
        /// Bytes there should be.
        claimed: usize,
    },
    /// Damaged on the way, or by a bug.
    #[error("a frame's crc is {found:#010x}, its bytes have {computed:#010x}")]
    Crc {
        /// In the header.
        found: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// Not a kind of message, or not one that may come on this road.
    #[error("a frame has unknown kind {kind}")]
    Kind {
        /// The number found.
        kind: u8,
    },
    /// The body is not what its kind says.
    #[error("a frame of kind {kind} does not validate")]
    Body {
        /// The kind.
        kind: u8,
    },
    /// A number in it is impossible.
    #[error("{what} is {found}, the limit is {max}")]
    Value {
        /// What it is.
        what: &'static str,
        /// The number found.
        found: u64,
        /// The largest one allowed.
        max: u64,
    },
    /// The view in it is none.
    #[error("a message names an impossible view")]
    View(#[from] crate::protocol::ViewError),
}

#[cfg(test)]
mod tests;
