//! What a region is to hold, and how many bytes that takes: every limit is a number given at start.

use crate::shares::Shares;
use crate::words::INDEX_LIMIT;

/// Bytes of a block's header, in front of each payload.
pub(crate) const BLOCK_HEADER_BYTES: u32 = 64;

/// Payloads are a multiple of this many bytes, and start at one: so that typed values are aligned.
pub(crate) const BLOCK_STEP: u32 = 16;

/// Longest key of an object, in bytes.
pub const KEY_BYTES_MAX: usize = 128;

/// Everything a region can hold. Fixed at creation; both nodes of a pair use the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Objects that can exist at once.
    pub slots: u32,
    /// Sizes of payload, in any order.
    pub classes: Vec<SizeClass>,
    /// Named classes of objects that the same workers serve.
    pub queues: Vec<QueueSpec>,
    /// Names of the I/O ports that packets can be emitted to.
    pub ports: Vec<String>,
    /// Seats for processes: node, ports, workers. At most 64.
    pub participants: u16,
    /// Commits of one participant that may wait to be gathered. A power of two.
    pub tx_entries: u32,
    /// Executions of one object that may fail in a row before it is parked.
    pub max_attempts: u16,
    /// Messages that may wait for one object. At most 1,023.
    pub inbox_limit: u16,
    /// Who may have how much of it.
    pub shares: Shares,
}

/// Blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// Bytes of key or address plus data; a multiple of 16, from 16 to 1 MiB.
    ///
    /// A multiple of 64 keeps each block on cache lines of its own.
    pub payload_bytes: u32,
    /// How many.
    pub count: u32,
}

/// A named class of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// Up to 31 bytes.
    pub name: String,
    /// Priority lanes, 1 to 8; lane 0 is the most urgent.
    pub lanes: u8,
}

impl Geometry {
    /// Most size classes, queues and ports that a header has room for.
    pub const CLASSES_MAX: usize = 8;
    /// See [`CLASSES_MAX`](Self::CLASSES_MAX).
    pub const QUEUES_MAX: usize = 16;
    /// See [`CLASSES_MAX`](Self::CLASSES_MAX).
    pub const PORTS_MAX: usize = 16;
    /// Most participants: one bit each in a doorbell.
    pub const PARTICIPANTS_MAX: u16 = 64;

    /// A geometry for `objects` small objects: enough spare blocks for their messages and answers.
    pub fn for_objects(objects: u32) -> Geometry {
        let shares = Shares::default();
        let mut small = 0;
        small += shares.with_reserve(objects); // one committed value each, made by ports
        small += 64 * 64; // magazines: 64 participants, up to 64 blocks each
        small += 8 * 1024; // values that were replaced and wait to be gathered
        let packets = 16 * 1024; // messages that wait, packets that are not acknowledged yet
        Geometry {
            slots: shares.with_reserve(objects + 4 * 1024), // objects without a key come and go
            classes: vec![
                SizeClass { payload_bytes: 256, count: small },
                SizeClass { payload_bytes: 2048, count: packets },
            ],
            queues: vec![QueueSpec { name: "default".into(), lanes: 1 }],
            ports: vec!["udp".into()],
            participants: 32,
            tx_entries: 256,
            max_attempts: 5,
            inbox_limit: 1000,
            shares,
        }
    }

    /// Size of the region file, or why there cannot be such a region.
    pub fn region_bytes(&self) -> Result<u64, GeometryError> {
        self.validate()?;
        Ok(crate::layout::Layout::of(self).region_bytes)
    }

    pub(crate) fn blocks(&self) -> u32 {
        self.classes.iter().map(|class| class.count).sum()
    }

    pub(crate) fn validate(&self) -> Result<(), GeometryError> {
        let within = |what, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(GeometryError::Range { what, value, least, most })
            }
        };
        within("slots", self.slots.into(), 1, INDEX_LIMIT.into())?;
        within("size classes", self.classes.len() as u64, 1, Self::CLASSES_MAX as u64)?;
        within("queues", self.queues.len() as u64, 1, Self::QUEUES_MAX as u64)?;
        within("ports", self.ports.len() as u64, 0, Self::PORTS_MAX as u64)?;
        within("participants", self.participants.into(), 2, Self::PARTICIPANTS_MAX.into())?;
        within("tx_entries", self.tx_entries.into(), 4, 1 << 16)?;
        within("max_attempts", self.max_attempts.into(), 1, 10_000)?;
        within("inbox_limit", self.inbox_limit.into(), 1, 1023)?;
        within("ingest_percent", self.shares.ingest_percent.into(), 1, 100)?;
        within("magazine", self.shares.magazine.into(), 1, Shares::MAGAZINE_MAX.into())?;
        let blocks: u64 = self.classes.iter().map(|class| u64::from(class.count)).sum();
        within("blocks of all classes", blocks, 1, INDEX_LIMIT.into())?;
        if !self.tx_entries.is_power_of_two() {
            return Err(GeometryError::NotPowerOfTwo { value: self.tx_entries });
        }
        for class in &self.classes {
            within("payload_bytes", class.payload_bytes.into(), BLOCK_STEP.into(), 1 << 20)?;
            if !class.payload_bytes.is_multiple_of(BLOCK_STEP) {
                return Err(GeometryError::Unaligned { value: class.payload_bytes });
            }
        }
        for queue in &self.queues {
            within("lanes of a queue", queue.lanes.into(), 1, 8)?;
        }
        let names = [
            self.queues.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(),
            self.ports.iter().map(String::as_str).collect(),
        ];
        for group in &names {
            for (at, name) in group.iter().enumerate() {
                if name.is_empty() || name.len() > 31 || name.bytes().any(|byte| byte < b' ') {
                    return Err(GeometryError::Name { name: (*name).into() });
                }
                if group[..at].contains(name) {
                    return Err(GeometryError::Twice { name: (*name).into() });
                }
            }
        }
        Ok(())
    }
}

/// Why there cannot be a region of this geometry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// A count is outside of what the format can express.
    #[error("{what} is {value}, it must be from {least} to {most}")]
    Range {
        /// The field.
        what: &'static str,
        /// What was asked for.
        value: u64,
        /// Smallest possible value.
        least: u64,
        /// Largest possible value.
        most: u64,
    },
    /// Positions map to entries with a mask.
    #[error("tx_entries is {value}, it must be a power of two")]
    NotPowerOfTwo {
        /// What was asked for.
        value: u32,
    },
    /// Payloads come in steps.
    #[error("payload_bytes is {value}, it must be a multiple of {BLOCK_STEP}")]
    Unaligned {
        /// What was asked for.
        value: u32,
    },
    /// Names are stored in 32 bytes.
    #[error("the name {name:?} is not 1 to 31 printable bytes")]
    Name {
        /// What was asked for.
        name: String,
    },
    /// Two queues or two ports of one name.
    #[error("the name {name:?} is given twice")]
    Twice {
        /// What was asked for.
        name: String,
    },
}
