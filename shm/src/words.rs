//! The 64-bit words that carry the truth of the region, and nothing but their encoding.
//!
//! Each shared word is changed only by a compare-and-swap whose expected value contains a
//! generation, so a process that was stopped between reading and swapping cannot undo what
//! happened meanwhile. Generations are local to a region: never shipped, never lowered.
//!
//! ```text
//!  slot    63 state 60│59 owner 52│51 committed block + 1  26│25 generation   0
//!  block   63 state 60│59 owner 52│51 home (slot or port)  26│25 generation   0
//!  inbox   63 incarnation (low 27) 37│36 closed│35 depth 26│25 newest block + 1 0
//!  bucket  63 first slot + 1      37│36 owner 29│28        generation          0
//!  entry   63 position                                    6│5     state        0
//!  role    63 role 56│55 epoch                          40│39     changes      0
//! ```
//!
//! An owner is a participant's index plus one; zero means nobody.

/// Number of blocks or slots that an index field can name (26 bits, zero means none).
pub(crate) const INDEX_LIMIT: u32 = (1 << 26) - 2;

const INDEX_MASK: u64 = (1 << 26) - 1;
const GENERATION_MASK: u64 = (1 << 26) - 1;

/// A position in the node's total commit order: `epoch:16 | count:48`.
///
/// Positions of different epochs never compare equal, and a later epoch is always greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

impl Seq {
    /// Before every commit.
    pub const ZERO: Seq = Seq(0);

    /// The `count`th commit of `epoch`; only the low 48 bits of `count` are kept.
    #[inline]
    pub const fn new(epoch: u16, count: u64) -> Seq {
        Seq((epoch as u64) << 48 | count & ((1 << 48) - 1))
    }

    /// The word as it is stored and shipped.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`to_bits`](Self::to_bits).
    #[inline]
    pub const fn from_bits(bits: u64) -> Seq {
        Seq(bits)
    }

    /// The epoch in which this position was drawn.
    #[inline]
    pub const fn epoch(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The position inside its epoch.
    #[inline]
    pub const fn count(self) -> u64 {
        self.0 & ((1 << 48) - 1)
    }
}

impl std::fmt::Debug for Seq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch(), self.count())
    }
}

impl std::fmt::Display for Seq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch(), self.count())
    }
}

/// What a slot is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum SlotState {
    /// No object.
    Free = 0,
    /// Being filled by a creator; not an object until its commit.
    Reserved = 1,
    /// An object; ready if its inbox holds a message or its timer is due.
    Idle = 2,
    /// An object that is ready whatever its inbox says.
    Ready = 3,
    /// An object in the hands of the owner.
    Claimed = 4,
    /// An object that was tried too often.
    Parked = 5,
    /// An idle object of which a hint stands in its lane: whoever gives it something to do need not add
    /// another.
    Queued = 6,
}

impl SlotState {
    #[inline]
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Free,
            1 => Self::Reserved,
            2 => Self::Idle,
            3 => Self::Ready,
            4 => Self::Claimed,
            5 => Self::Parked,
            6 => Self::Queued,
            _ => return None,
        })
    }
}

/// The truth about a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlotWord(pub(crate) u64);

impl SlotWord {
    #[inline]
    pub(crate) fn new(state: SlotState, owner: u8, block: Option<u32>, generation: u64) -> Self {
        let block = block.map_or(0, |index| u64::from(index) + 1);
        Self(
            (state as u64) << 60
                | u64::from(owner) << 52
                | block << 26
                | generation & GENERATION_MASK,
        )
    }

    /// `None` for a value that no correct process writes.
    #[inline]
    pub(crate) fn state(self) -> Option<SlotState> {
        SlotState::from_bits((self.0 >> 60) as u8)
    }

    #[inline]
    pub(crate) fn owner(self) -> u8 {
        (self.0 >> 52) as u8
    }

    #[inline]
    pub(crate) fn block(self) -> Option<u32> {
        ((self.0 >> 26 & INDEX_MASK) as u32).checked_sub(1)
    }

    #[inline]
    pub(crate) fn generation(self) -> u64 {
        self.0 & GENERATION_MASK
    }

    /// The same slot one generation later.
    #[inline]
    pub(crate) fn next(self, state: SlotState, owner: u8, block: Option<u32>) -> Self {
        Self::new(state, owner, block, self.generation() + 1)
    }

    #[inline]
    pub(crate) fn is(self, state: SlotState) -> bool {
        self.0 >> 60 == state as u64
    }

    /// There is an object, whatever becomes of it.
    pub(crate) fn is_object(self) -> bool {
        self.is_claimable() || self.is(SlotState::Claimed) || self.is(SlotState::Parked)
    }

    /// An object that nobody has in hands and that may be worked on.
    #[inline]
    pub(crate) fn is_claimable(self) -> bool {
        matches!(self.state(), Some(SlotState::Idle | SlotState::Queued | SlotState::Ready))
    }
}

/// What a block is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum BlockState {
    /// Nobody's.
    Free = 0,
    /// In its owner's magazine.
    Cached = 1,
    /// Being filled by its owner.
    Private = 2,
    /// The committed value of its home; immutable.
    Value = 3,
    /// A message on its way into the inbox of its home, by its owner.
    Linking = 4,
    /// A message waiting for its home.
    Linked = 5,
    /// A message in the hands of the claimer of its home.
    Taken = 6,
    /// An emitted packet waiting for its port.
    Emitted = 7,
    /// An emitted packet in the hands of a port process.
    Sending = 8,
    /// A packet that left; kept until the back-up knows.
    Sent = 9,
    /// Replaced or consumed by its owner's commit; reusable once that is gathered.
    Retired = 10,
    /// A message that made room for a newer one; in the chain of its home until the next claimer takes it out.
    Dropped = 11,
}

impl BlockState {
    pub(crate) const COUNT: usize = 12;

    #[inline]
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Free,
            1 => Self::Cached,
            2 => Self::Private,
            3 => Self::Value,
            4 => Self::Linking,
            5 => Self::Linked,
            6 => Self::Taken,
            7 => Self::Emitted,
            8 => Self::Sending,
            9 => Self::Sent,
            10 => Self::Retired,
            11 => Self::Dropped,
            _ => return None,
        })
    }
}

/// The truth about a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockWord(pub(crate) u64);

impl BlockWord {
    #[inline]
    pub(crate) fn new(state: BlockState, owner: u8, home: u32, generation: u64) -> Self {
        Self(
            (state as u64) << 60
                | u64::from(owner) << 52
                | (u64::from(home) & INDEX_MASK) << 26
                | generation & GENERATION_MASK,
        )
    }

    #[inline]
    pub(crate) fn state(self) -> Option<BlockState> {
        BlockState::from_bits((self.0 >> 60) as u8)
    }

    #[inline]
    pub(crate) fn owner(self) -> u8 {
        (self.0 >> 52) as u8
    }

    #[inline]
    pub(crate) fn home(self) -> u32 {
        (self.0 >> 26 & INDEX_MASK) as u32
    }

    #[inline]
    pub(crate) fn generation(self) -> u64 {
        self.0 & GENERATION_MASK
    }

    #[inline]
    pub(crate) fn next(self, state: BlockState, owner: u8, home: u32) -> Self {
        Self::new(state, owner, home, self.generation() + 1)
    }

    #[inline]
    pub(crate) fn is(self, state: BlockState) -> bool {
        self.0 >> 60 == state as u64
    }

    /// Whether this block is a message to `slot` that made room for a newer one.
    #[inline]
    pub(crate) fn is_dropped_from(self, slot: u32) -> bool {
        self.home() == slot && self.is(BlockState::Dropped)
    }

    /// Whether this block is a message that waits for, or is being worked on with, `slot`.
    #[inline]
    pub(crate) fn is_waiting_for(self, slot: u32) -> bool {
        self.home() == slot
            && matches!(
                self.state(),
                Some(BlockState::Linking | BlockState::Linked | BlockState::Taken)
            )
    }
}

/// The newest message of an object, and whether more may come.
///
/// The chain behind it is pushed to by anybody and pruned only by the claimer of the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct InboxWord(pub(crate) u64);

impl InboxWord {
    pub(crate) const DEPTH_MAX: u32 = (1 << 10) - 1;
    const INCARNATION_MASK: u32 = (1 << 27) - 1;

    #[inline]
    pub(crate) fn new(incarnation: u32, closed: bool, depth: u32, newest: Option<u32>) -> Self {
        let newest = newest.map_or(0, |index| u64::from(index) + 1);
        Self(
            u64::from(incarnation & Self::INCARNATION_MASK) << 37
                | u64::from(closed) << 36
                | u64::from(depth.min(Self::DEPTH_MAX)) << 26
                | newest,
        )
    }

    #[inline]
    pub(crate) fn is_of(self, incarnation: u32) -> bool {
        self.0 >> 37 == u64::from(incarnation & Self::INCARNATION_MASK)
    }

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 >> 36 & 1 == 1
    }

    #[inline]
    pub(crate) fn depth(self) -> u32 {
        (self.0 >> 26) as u32 & Self::DEPTH_MAX
    }

    #[inline]
    pub(crate) fn newest(self) -> Option<u32> {
        ((self.0 & INDEX_MASK) as u32).checked_sub(1)
    }

    #[inline]
    pub(crate) fn with(self, closed: bool, depth: u32, newest: Option<u32>) -> Self {
        Self::new((self.0 >> 37) as u32, closed, depth, newest)
    }
}

/// Head of a chain of the key index. While it names an owner, only that owner's entry decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BucketWord(pub(crate) u64);

impl BucketWord {
    const GENERATION_MASK: u64 = (1 << 29) - 1;

    #[inline]
    pub(crate) fn new(first: Option<u32>, owner: u8, generation: u64) -> Self {
        let first = first.map_or(0, |index| u64::from(index) + 1);
        Self(first << 37 | u64::from(owner) << 29 | generation & Self::GENERATION_MASK)
    }

    #[inline]
    pub(crate) fn first(self) -> Option<u32> {
        ((self.0 >> 37) as u32).checked_sub(1)
    }

    #[inline]
    pub(crate) fn owner(self) -> u8 {
        (self.0 >> 29) as u8
    }

    #[inline]
    pub(crate) fn next(self, first: Option<u32>, owner: u8) -> Self {
        Self::new(first, owner, (self.0 & Self::GENERATION_MASK) + 1)
    }
}

/// How far a commit has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum EntryState {
    /// Never used, or being filled.
    Idle = 0,
    /// Being prepared; its seq may be drawn at any moment. Not decided.
    Drawing = 1,
    /// Decided: it happens, whoever finishes it.
    Committed = 2,
    /// Every operation has been carried out.
    Applied = 3,
    /// Decided: it never happened.
    Aborted = 4,
}

/// `position | state` of a tx entry. The position is its generation: it only grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EntryWord(pub(crate) u64);

impl EntryWord {
    #[inline]
    pub(crate) fn new(position: u64, state: EntryState) -> Self {
        Self(position << 6 | state as u64)
    }

    #[inline]
    pub(crate) fn position(self) -> u64 {
        self.0 >> 6
    }

    #[inline]
    pub(crate) fn state(self) -> Option<EntryState> {
        Some(match self.0 & 63 {
            0 => EntryState::Idle,
            1 => EntryState::Drawing,
            2 => EntryState::Committed,
            3 => EntryState::Applied,
            4 => EntryState::Aborted,
            _ => return None,
        })
    }

    #[inline]
    pub(crate) fn with(self, state: EntryState) -> Self {
        Self::new(self.position(), state)
    }
}

/// What a node's region is used for at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Role {
    /// Nothing yet: no claim, no packet.
    Empty = 0,
    /// Workers claim and ports send.
    Primary = 1,
    /// Follows a primary; workers and ports sleep.
    Backup = 2,
    /// On its way between roles; nobody may begin anything.
    Changing = 3,
    /// Superseded: another node is primary of a later epoch.
    Fenced = 4,
    /// Still primary, about to hand over: ports send and workers finish what waits, but nothing is read any more.
    Draining = 5,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Empty => "empty",
            Role::Primary => "primary",
            Role::Backup => "backup",
            Role::Changing => "changing",
            Role::Fenced => "fenced",
            Role::Draining => "draining",
        })
    }
}

/// Role, epoch and a change counter in one word, so that promotion and fencing are one step.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct RoleEpoch(pub(crate) u64);

impl RoleEpoch {
    #[inline]
    pub(crate) fn new(role: Role, epoch: u16, changes: u64) -> Self {
        Self((role as u64) << 56 | u64::from(epoch) << 40 | changes & ((1 << 40) - 1))
    }

    /// The role; a nonsense value reads as [`Role::Changing`], in which nobody may do anything.
    #[inline]
    pub fn role(self) -> Role {
        match self.0 >> 56 {
            0 => Role::Empty,
            1 => Role::Primary,
            2 => Role::Backup,
            4 => Role::Fenced,
            5 => Role::Draining,
            _ => Role::Changing,
        }
    }

    /// The epoch of that role.
    #[inline]
    pub fn epoch(self) -> u16 {
        (self.0 >> 40) as u16
    }

    #[inline]
    pub(crate) fn next(self, role: Role, epoch: u16) -> Self {
        Self::new(role, epoch, (self.0 & ((1 << 40) - 1)) + 1)
    }

    /// Whether work goes on under it.
    #[inline]
    pub fn serves(self) -> bool {
        matches!(self.role(), Role::Primary | Role::Draining)
    }
}

impl std::fmt::Debug for RoleEpoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of epoch {}", self.role(), self.epoch())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every field survives its neighbours at both ends of its range.
    #[test]
    fn fields_do_not_touch_each_other() {
        for block in [None, Some(0), Some(INDEX_LIMIT)] {
            for owner in [0, 1, u8::MAX] {
                let word = SlotWord::new(SlotState::Parked, owner, block, GENERATION_MASK);
                assert_eq!(word.state(), Some(SlotState::Parked));
                assert_eq!((word.owner(), word.block()), (owner, block));
                assert_eq!(word.next(SlotState::Idle, 0, block).generation(), 0, "wraps");

                let bucket = BucketWord::new(block, owner, u64::MAX);
                assert_eq!((bucket.first(), bucket.owner()), (block, owner));
            }
            let inbox = InboxWord::new(u32::MAX, true, u32::MAX, block);
            assert!(inbox.is_of(u32::MAX) && inbox.is_closed());
            assert_eq!((inbox.depth(), inbox.newest()), (InboxWord::DEPTH_MAX, block));
            assert!(inbox.with(false, 0, None).is_of(u32::MAX));
        }
    }

    #[test]
    fn a_later_epoch_is_always_greater() {
        assert!(Seq::new(2, 0) > Seq::new(1, (1 << 48) - 1));
        assert_eq!(Seq::new(3, 7).epoch(), 3);
        assert_eq!(Seq::from_bits(Seq::new(3, 7).to_bits()).count(), 7);
    }
}
