//! What stands at the beginning of each file of a journal, and what the files are called.
//!
//! ```text
//!   0       8         12      16      20     24                                            80
//!   ├ magic ┼ version ┼ bytes ┼ crc32c ┼ zero ┼ kind, node, wire, epochs, number, pair, … ─┼ epochs, 24 bytes each ─┤
//! ```
//!
//! `bytes` counts what is behind the zero; the crc covers that. Integers are little-endian.

use crate::protocol::{History, Seq};
use crate::wire::{self, EpochStart};

const MAGIC: [u8; 8] = *b"HOTPJRNL";
/// Of the headers and of how files belong together; the frames have the version of the wire.
pub const VERSION: u32 = 1;

const LEAD_BYTES: usize = 24;
const FIXED_BYTES: usize = 56;
const EPOCH_BYTES: usize = 24;
/// Epochs that a header names: as many as a region remembers.
const EPOCHS_MAX: usize = 32;
/// The longest header.
pub const HEADER_BYTES_MAX: usize = LEAD_BYTES + FIXED_BYTES + EPOCHS_MAX * EPOCH_BYTES;

/// Whose journal it is. What differs in any of these cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Number of the pair.
    pub cluster: u64,
    /// Hash of the region's geometry: slots, queues and ports are named by number.
    pub geometry: u64,
}

/// The two kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FileKind {
    /// Batches, in their order.
    Segment = 1,
    /// A whole state.
    Checkpoint = 2,
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which kind.
    pub kind: FileKind,
    /// Rises from segment to segment. A checkpoint has that of the segment that goes on from it.
    pub number: u64,
    /// Whose it is.
    pub identity: Identity,
    /// The node that wrote it.
    pub node: u8,
    /// Number of a view that was known then.
    pub view: u64,
    /// When, in milliseconds since 1970: for people.
    pub unix_ms: u64,
    /// The last commit of the state before the first batch.
    pub from: Seq,
    /// What that state is made of, and the epoch that begins here if one does.
    pub epochs: Vec<EpochStart>,
}

/// Why the beginning of a file is no header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file ends in it.
    #[error("its header is cut off: it has {actual} of {needed} bytes")]
    Short {
        /// Bytes there are.
        actual: usize,
        /// Bytes it needs.
        needed: usize,
    },
    /// Something else altogether.
    #[error("it is no file of a journal")]
    Magic,
    /// Of another build.
    #[error("it has format {found}, this build reads {supported}")]
    Version {
        /// In the file.
        found: u32,
        /// Read here.
        supported: u32,
    },
    /// Its frames are of another build.
    #[error("its frames have version {found} of the protocol, this build reads {min} to {max}")]
    Wire {
        /// In the file.
        found: u16,
        /// Oldest that is read here.
        min: u16,
        /// Newest.
        max: u16,
    },
    /// Damaged.
    #[error("the crc of its header is {found:#010x}, its bytes have {computed:#010x}")]
    Crc {
        /// In the file.
        found: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// A number in it is impossible.
    #[error("{what} in its header is {found}, the limit is {max}")]
    Value {
        /// What it is.
        what: &'static str,
        /// The number found.
        found: u64,
        /// The largest one allowed.
        max: u64,
    },
}

impl Header {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let kept = &self.epochs[self.epochs.len().saturating_sub(EPOCHS_MAX)..];
        let mut body = Vec::with_capacity(FIXED_BYTES + kept.len() * EPOCH_BYTES);
        body.extend([self.kind as u8, self.node]);
        body.extend(wire::VERSIONS.end().to_le_bytes());
        body.extend((kept.len() as u32).to_le_bytes());
        let Identity { cluster, geometry } = self.identity;
        for number in [self.number, cluster, geometry, self.view, self.unix_ms, self.from.raw()] {
            body.extend(number.to_le_bytes());
        }
        for epoch in kept {
            for number in [epoch.epoch.into(), epoch.base, epoch.leader] {
                body.extend(u64::to_le_bytes(number));
            }
        }
        let mut bytes = Vec::with_capacity(LEAD_BYTES + body.len());
        bytes.extend(MAGIC);
        for number in [VERSION, body.len() as u32, crc32c::crc32c(&body), 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(body);
        bytes
    }

    /// Reads it off the beginning of a file, and says how long it is.
    ///
    /// # Errors
    /// A claim is believed only with its crc.
    pub fn decode(bytes: &[u8]) -> Result<(Header, usize), HeaderError> {
        let short = |needed| HeaderError::Short { actual: bytes.len(), needed };
        let lead = bytes.first_chunk::<LEAD_BYTES>().ok_or(short(LEAD_BYTES))?;
        if lead[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let word =
            |at: usize| u32::from_le_bytes([lead[at], lead[at + 1], lead[at + 2], lead[at + 3]]);
        let (version, len, found, zero) = (word(8), word(12), word(16), word(20));
        if version != VERSION {
            return Err(HeaderError::Version { found: version, supported: VERSION });
        }
        let most = HEADER_BYTES_MAX - LEAD_BYTES;
        let limit = |what, found: u64, max: u64| {
            if found > max { Err(HeaderError::Value { what, found, max }) } else { Ok(()) }
        };
        limit("the length", len.into(), most as u64)?;
        limit("what must be zero", zero.into(), 0)?;
        let whole = LEAD_BYTES + len as usize;
        let body = bytes.get(LEAD_BYTES..whole).ok_or(short(whole))?;
        let computed = crc32c::crc32c(body);
        if found != computed {
            return Err(HeaderError::Crc { found, computed });
        }
        let Some((fixed, epochs)) = body.split_first_chunk::<FIXED_BYTES>() else {
            return Err(short(LEAD_BYTES + FIXED_BYTES));
        };
        let kind = match fixed[0] {
            1 => FileKind::Segment,
            2 => FileKind::Checkpoint,
            other => {
                return Err(HeaderError::Value { what: "the kind", found: other.into(), max: 2 });
            }
        };
        let speaks = u16::from_le_bytes([fixed[2], fixed[3]]);
        if !wire::VERSIONS.contains(&speaks) {
            let (min, max) = (*wire::VERSIONS.start(), *wire::VERSIONS.end());
            return Err(HeaderError::Wire { found: speaks, min, max });
        }
        let numbers = |bytes: &[u8]| -> Vec<u64> {
            bytes.as_chunks::<8>().0.iter().map(|eight| u64::from_le_bytes(*eight)).collect()
        };
        let fields = numbers(&fixed[8..]);
        let mut starts = Vec::new();
        for epoch in epochs.chunks_exact(EPOCH_BYTES).map(numbers) {
            limit("an epoch", epoch[0], u16::MAX.into())?;
            starts.push(EpochStart { epoch: epoch[0] as u16, base: epoch[1], leader: epoch[2] });
        }
        let header = Header {
            kind,
            node: fixed[1],
            number: fields[0],
            identity: Identity { cluster: fields[1], geometry: fields[2] },
            view: fields[3],
            unix_ms: fields[4],
            from: Seq::from_raw(fields[5]),
            epochs: starts,
        };
        Ok((header, whole))
    }

    /// Whether what stands behind this header goes on from exactly this state.
    pub(crate) fn follows(&self, state: &History) -> bool {
        let all = History { epochs: self.epochs.clone(), end: Seq::from_raw(u64::MAX) };
        self.from == state.end && all.common(state) == Some(state.end)
    }
}

/// Its name in the directory.
pub(crate) fn file_name(kind: FileKind, number: u64) -> String {
    match kind {
        FileKind::Segment => format!("segment-{number:016}.log"),
        FileKind::Checkpoint => format!("checkpoint-{number:016}.state"),
    }
}

/// What a file of this name would be.
pub(crate) fn parse_name(name: &str) -> Option<(FileKind, u64)> {
    let number = |lead, tail| {
        let digits: &str = name.strip_prefix(lead)?.strip_suffix(tail)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let segment = number("segment-", ".log").map(|number| (FileKind::Segment, number));
    segment.or_else(|| Some((FileKind::Checkpoint, number("checkpoint-", ".state")?)))
}
