//! What the arbiter stores, and the three things it can be asked.
//!
//! The arbiter is a register with a compare-and-set on the view's number; it decides nothing. All
//! views are proposed by the node that they name as primary, which is why a node that meets exactly
//! the view that it proposed knows that its own request landed.

use super::ids::NodeId;

/// A node together with the incarnation of its region.
///
/// A region that was created anew has another incarnation: a rebooted, empty node is not the member
/// it used to be, and must never be promoted in its stead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// The incarnation of the region that holds the state.
    pub incarnation: u64,
}

/// The arbiter's record: who is primary of which epoch, and whose regions hold everything released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Serves every compare-and-set; grows by one with each change.
    pub number: u64,
    /// Grows with each new primary, and only then.
    pub epoch: u16,
    /// The one node that may release output in this epoch.
    pub primary: NodeId,
    /// The in-sync set: one or two members, the primary first.
    members: [Option<Member>; 2],
}

/// Why bytes are not a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// Neither one nor two.
    #[error("a view has {count} members, it can have one or two")]
    Members {
        /// What was claimed.
        count: u8,
    },
    /// The same node twice.
    #[error("node {node} is a member twice")]
    Twice {
        /// The node in question.
        node: u8,
    },
    /// Number zero stands for "no view".
    #[error("a view has number 0")]
    NumberZero,
    /// A view has one form only.
    #[error("byte {at} of a view has no meaning there and is not zero")]
    Rest {
        /// The first such byte.
        at: u8,
    },
}

impl View {
    /// Bytes of [`Self::to_bytes`].
    pub const BYTES: usize = 32;

    /// A view in which `primary` works without a back-up.
    pub fn alone(number: u64, epoch: u16, primary: Member) -> View {
        View { number, epoch, primary: primary.node, members: [Some(primary), None] }
    }

    /// A view in which `backup` is in sync with `primary`.
    pub fn pair(number: u64, epoch: u16, primary: Member, backup: Member) -> View {
        assert_ne!(primary.node, backup.node, "a node cannot be its own back-up");
        View { number, epoch, primary: primary.node, members: [Some(primary), Some(backup)] }
    }

    /// The in-sync set, the primary first.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.members.iter().copied().flatten()
    }

    /// Whether this node with this incarnation of its region is in the in-sync set.
    pub fn has(&self, member: Member) -> bool {
        self.members().any(|m| m == member)
    }

    /// The member of that node, whatever its incarnation.
    pub fn member(&self, node: NodeId) -> Option<Member> {
        self.members().find(|m| m.node == node)
    }

    /// Whether the primary works without a back-up.
    pub fn is_solo(&self) -> bool {
        self.members[1].is_none()
    }

    /// What two views are compared by where no arbiter gives them their order.
    pub(super) fn rank(&self) -> (u16, u64) {
        (self.epoch, self.number)
    }

    /// The record as arbiters store it: little-endian, fixed length, the same in every version.
    ///
    /// ```text
    ///   0        8       10        11      12       13    16            24            32
    ///   ├ number ┼ epoch ┼ primary ┼ count ┼ second ┼ zero ┼ incarnation ┼ incarnation ┤
    /// ```
    /// The first incarnation is the primary's, the other the second member's, if there is one.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0..8].copy_from_slice(&self.number.to_le_bytes());
        out[8..10].copy_from_slice(&self.epoch.to_le_bytes());
        out[10] = self.primary.0;
        out[11] = self.members().count() as u8;
        if let Some(second) = self.members[1] {
            out[12] = second.node.0;
            out[24..32].copy_from_slice(&second.incarnation.to_le_bytes());
        }
        if let Some(first) = self.members[0] {
            out[16..24].copy_from_slice(&first.incarnation.to_le_bytes());
        }
        out
    }

    /// Reads [`Self::to_bytes`] back; whatever is not a possible view is an error.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<View, ViewError> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let number = word(0);
        if number == 0 {
            return Err(ViewError::NumberZero);
        }
        // What nobody reads must say nothing: two views that are equal have equal bytes.
        let second = if bytes[11] == 1 { 12..13 } else { 0..0 };
        let incarnation = if bytes[11] == 1 { 24..Self::BYTES } else { 0..0 };
        if let Some(at) = second.chain(13..16).chain(incarnation).find(|&at| bytes[at] != 0) {
            return Err(ViewError::Rest { at: at as u8 });
        }
        let epoch = u16::from_le_bytes([bytes[8], bytes[9]]);
        let primary = Member { node: NodeId(bytes[10]), incarnation: word(16) };
        match bytes[11] {
            1 => Ok(View::alone(number, epoch, primary)),
            2 if bytes[12] == bytes[10] => Err(ViewError::Twice { node: bytes[12] }),
            2 => {
                let second = Member { node: NodeId(bytes[12]), incarnation: word(24) };
                Ok(View::pair(number, epoch, primary, second))
            }
            count => Err(ViewError::Members { count }),
        }
    }
}

/// Names one question to the arbiter, so that a late answer to an earlier one is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A question to the arbiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// What is the current view?
    Read,
    /// Store `view` if the current view's number is `expected`, or if there is none yet and the arbiter
    /// takes the asker for the founder of the pair.
    ///
    /// May be sent again unchanged: the second time it either wins or loses against a view that
    /// tells whether the first one landed.
    CompareAndSet {
        /// Number of the view that this one replaces.
        expected: u64,
        /// The view to store; its number is `expected + 1`.
        view: View,
    },
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a read: the current view, if there is one.
    Current(Option<View>),
    /// The compare-and-set took place and is durable.
    Won(View),
    /// It did not; this is the current view, if there is one.
    Lost(Option<View>),
    /// The arbiter does not know the view, or knows that it does not know the newest: it grants
    /// nothing before both nodes, or an operator, have told it.
    Forgotten,
    /// Nothing, in time or at all. A compare-and-set without answer may have landed, and may land later.
    NoAnswer,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Member = Member { node: NodeId(1), incarnation: 0x1122_3344_5566_7788 };
    const B: Member = Member { node: NodeId(2), incarnation: u64::MAX - 1 };

    #[test]
    fn views_survive_their_bytes() {
        for view in [View::alone(1, 1, A), View::pair(u64::MAX, u16::MAX, B, A)] {
            assert_eq!(View::from_bytes(&view.to_bytes()), Ok(view));
        }
    }

    #[test]
    fn impossible_views_are_refused() {
        let good = View::pair(7, 3, A, B).to_bytes();
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            View::from_bytes(&bytes)
        };
        assert_eq!(with(0, 0), Err(ViewError::NumberZero));
        assert_eq!(with(11, 0), Err(ViewError::Members { count: 0 }));
        assert_eq!(with(11, 3), Err(ViewError::Members { count: 3 }));
        assert_eq!(with(12, 1), Err(ViewError::Twice { node: 1 }));
        for at in 13..16 {
            assert_eq!(with(at, 1), Err(ViewError::Rest { at: at as u8 }));
        }
        let alone = View::alone(7, 3, A).to_bytes();
        for at in [12, 13, 14, 15, 24, 31] {
            let mut bytes = alone;
            bytes[at] = 1;
            assert_eq!(View::from_bytes(&bytes), Err(ViewError::Rest { at: at as u8 }));
        }
    }

    #[test]
    fn membership_names_the_incarnation() {
        let view = View::pair(7, 3, A, B);
        assert!(view.has(B) && !view.is_solo());
        assert!(!view.has(Member { incarnation: 5, ..B }), "a rebooted node is another member");
        assert_eq!(view.member(B.node), Some(B));
    }
}
