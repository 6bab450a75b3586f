//! What can be wrong with a region: values with both sides of the disagreement.

use std::fmt;

use crate::words::{BlockWord, EntryState, Seq, SlotWord};

/// One disagreement between a word and what must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What was found, and what was expected.
    pub wrong: Wrong,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.wrong)
    }
}

/// A part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The header.
    Header,
    /// A participant's seat.
    Seat(u8),
    /// A tx entry.
    Entry {
        /// Seat of its ring.
        seat: u8,
        /// Place in the ring.
        index: u32,
    },
    /// A row of the state table.
    Slot(u32),
    /// A block.
    Block(u32),
    /// A chain of the key index.
    Bucket(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header => f.write_str("header"),
            Place::Seat(seat) => write!(f, "seat {seat}"),
            Place::Entry { seat, index } => write!(f, "entry {index} of seat {seat}"),
            Place::Slot(slot) => write!(f, "slot {slot}"),
            Place::Block(block) => write!(f, "block {block}"),
            Place::Bucket(bucket) => write!(f, "bucket {bucket}"),
        }
    }
}

/// A slot's word as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeenSlot(pub(crate) u64);

impl From<SlotWord> for SeenSlot {
    fn from(word: SlotWord) -> Self {
        Self(word.0)
    }
}

impl fmt::Display for SeenSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = SlotWord(self.0);
        let Some(state) = word.state() else { return write!(f, "{:#018x}", self.0) };
        write!(f, "{state:?}({})", word.generation())?;
        if let Some(seat) = word.owner().checked_sub(1) {
            write!(f, " of seat {seat}")?;
        }
        match word.block() {
            Some(block) => write!(f, " with block {block}"),
            None => f.write_str(" without a block"),
        }
    }
}

impl fmt::Debug for SeenSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A block's word as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeenBlock(pub(crate) u64);

impl From<BlockWord> for SeenBlock {
    fn from(word: BlockWord) -> Self {
        Self(word.0)
    }
}

impl fmt::Display for SeenBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = BlockWord(self.0);
        let Some(state) = word.state() else { return write!(f, "{:#018x}", self.0) };
        write!(f, "{state:?}({})", word.generation())?;
        if let Some(seat) = word.owner().checked_sub(1) {
            write!(f, " of seat {seat}")?;
        }
        write!(f, " with home {}", word.home())
    }
}

impl fmt::Debug for SeenBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A disagreement. The place that it belongs to stands in [`Finding::place`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's text says what its fields are")]
pub enum Wrong {
    // The header.
    #[error("describes another region than the one that was mapped")]
    Geometry,
    #[error("the file is {found} bytes, the region needs {expected}")]
    FileLength { found: u64, expected: u64 },
    #[error("a rebuild was begun and not finished")]
    HalfRebuilt,
    #[error("a batch up to {commit_seq} was being written, only {gathered} is complete")]
    Torn { commit_seq: Seq, gathered: Seq },
    #[error("gathered up to {found}, but the last commit is {limit}")]
    GatheredAhead { found: Seq, limit: Seq },

    // Seats.
    #[error("its word is {found:#018x}, which no process writes")]
    SeatNonsense { found: u64 },
    #[error("process {pid} sits on it ({})", if *.alive { "alive" } else { "dead, not reaped" })]
    SeatTaken { pid: u32, alive: bool },

    // Entries.
    #[error("its word is {found:#x}, the seat's next position is {next}")]
    EntryNonsense { found: u64, next: u64 },
    #[error("its owner left it in state {state}")]
    EntryUnfinished { state: u8 },
    #[error("step {step} leads outside of the region")]
    StepOutside { step: u32 },

    // Slots and their values.
    #[error("its word is {found}, which no process writes")]
    SlotNonsense { found: SeenSlot },
    #[error("it is {found}, whose owner has no seat")]
    SlotOwner { found: SeenSlot },
    #[error("its object is in lane {priority} of queue {queue}, which does not exist")]
    NoSuchLane { queue: u8, priority: u8 },
    #[error("last changed at {found}, but the last commit is {limit}")]
    ChangeAhead { found: Seq, limit: Seq },
    #[error("it is {slot}, but that block is {found}")]
    ValueElsewhere { slot: SeenSlot, found: SeenBlock },
    #[error("its value in block {block} claims {prefix} + {len} bytes of {capacity}")]
    ValueShape { block: u32, prefix: usize, len: usize, capacity: usize },
    #[error("its value in block {block} has checksum {found:016x}, its bytes give {expected:016x}")]
    ValueChecksum { block: u32, found: u64, expected: u64 },
    #[error("its value in block {block} is of incarnation {found}, the object is {expected}")]
    ValueIncarnation { block: u32, found: u32, expected: u32 },

    // Inboxes.
    #[error("its inbox {found:#018x} is not that of incarnation {expected}")]
    InboxIncarnation { found: u64, expected: u32 },
    #[error("it is {slot}, but its inbox is closed")]
    InboxClosed { slot: SeenSlot },
    #[error("its inbox leads to block {block}, which does not exist")]
    ChainOutside { block: u32 },
    #[error("its inbox runs in a circle at block {block}")]
    ChainCircle { block: u32 },
    #[error("its inbox holds block {block}, which is {found}")]
    ChainStranger { block: u32, found: SeenBlock },

    // Blocks.
    #[error("its word is {found}, which no process writes")]
    BlockNonsense { found: SeenBlock },
    #[error("it is {found}, whose owner has no seat")]
    BlockOwner { found: SeenBlock },
    #[error("it is {found}, but that slot is {slot}")]
    ValueUnnamed { found: SeenBlock, slot: SeenSlot },
    #[error("it is {found}, but that slot is {slot}")]
    MessageAstray { found: SeenBlock, slot: SeenSlot },
    #[error("it waits for incarnation {found} of slot {slot}, which is at {expected}")]
    MessageIncarnation { slot: u32, found: u32, expected: u32 },
    #[error("it is {found}, but the inbox of that slot does not lead to it")]
    MessageUnlinked { found: SeenBlock },
    #[error("it is {found}, a port that does not exist")]
    NoSuchPort { found: SeenBlock },
    #[error("it is free, but its bitmap does not say so")]
    Unmarked,

    // The key index.
    #[error("seat {seat}, on which nobody sits, has reserved it")]
    BucketHeld { seat: u8 },
    #[error("it leads to slot {slot}, which does not exist")]
    IndexOutside { slot: u32 },
    #[error("it comes to slot {slot} a second time")]
    IndexCircle { slot: u32 },
    #[error("it holds slot {slot}, which is {found} and bears no key of this bucket")]
    IndexStranger { slot: u32, found: SeenSlot },
    #[error("its key has hash {expected:016x}, the slot says {found:016x}")]
    KeyHash { found: u64, expected: u64 },
    #[error("its key is not found in bucket {bucket}")]
    KeyMissing { bucket: u32 },
    #[error("slot {other} bears the same key")]
    KeyTwice { other: u32 },
}

impl Wrong {
    /// A word for machines: the same as long as the meaning is.
    pub fn kind(&self) -> &'static str {
        match self {
            Wrong::Geometry => "geometry",
            Wrong::FileLength { .. } => "file_length",
            Wrong::HalfRebuilt => "half_rebuilt",
            Wrong::Torn { .. } => "torn",
            Wrong::GatheredAhead { .. } => "gathered_ahead",
            Wrong::SeatNonsense { .. } => "seat_nonsense",
            Wrong::SeatTaken { .. } => "seat_taken",
            Wrong::EntryNonsense { .. } => "entry_nonsense",
            Wrong::EntryUnfinished { .. } => "entry_unfinished",
            Wrong::StepOutside { .. } => "step_outside",
            Wrong::SlotNonsense { .. } => "slot_nonsense",
            Wrong::SlotOwner { .. } => "slot_owner",
            Wrong::NoSuchLane { .. } => "no_such_lane",
            Wrong::ChangeAhead { .. } => "change_ahead",
            Wrong::ValueElsewhere { .. } => "value_elsewhere",
            Wrong::ValueShape { .. } => "value_shape",
            Wrong::ValueChecksum { .. } => "value_checksum",
            Wrong::ValueIncarnation { .. } => "value_incarnation",
            Wrong::InboxIncarnation { .. } => "inbox_incarnation",
            Wrong::InboxClosed { .. } => "inbox_closed",
            Wrong::ChainOutside { .. } => "chain_outside",
            Wrong::ChainCircle { .. } => "chain_circle",
            Wrong::ChainStranger { .. } => "chain_stranger",
            Wrong::BlockNonsense { .. } => "block_nonsense",
            Wrong::BlockOwner { .. } => "block_owner",
            Wrong::ValueUnnamed { .. } => "value_unnamed",
            Wrong::MessageAstray { .. } => "message_astray",
            Wrong::MessageIncarnation { .. } => "message_incarnation",
            Wrong::MessageUnlinked { .. } => "message_unlinked",
            Wrong::NoSuchPort { .. } => "no_such_port",
            Wrong::Unmarked => "unmarked",
            Wrong::BucketHeld { .. } => "bucket_held",
            Wrong::IndexOutside { .. } => "index_outside",
            Wrong::IndexCircle { .. } => "index_circle",
            Wrong::IndexStranger { .. } => "index_stranger",
            Wrong::KeyHash { .. } => "key_hash",
            Wrong::KeyMissing { .. } => "key_missing",
            Wrong::KeyTwice { .. } => "key_twice",
        }
    }

    /// Wrong by itself, not by what stands elsewhere.
    pub(crate) fn is_nonsense(&self) -> bool {
        matches!(
            self,
            Wrong::Geometry
                | Wrong::FileLength { .. }
                | Wrong::SeatNonsense { .. }
                | Wrong::EntryNonsense { .. }
                | Wrong::SlotNonsense { .. }
                | Wrong::BlockNonsense { .. }
        )
    }

    pub(crate) fn unfinished(state: EntryState) -> Wrong {
        Wrong::EntryUnfinished { state: state as u8 }
    }
}
