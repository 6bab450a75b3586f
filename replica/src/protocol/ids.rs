//! The small numbers of the protocol, as types that cannot be swapped for one another.

use std::fmt;
use std::time::Duration;

/// A point in time: nanoseconds since an arbitrary start that one node chose for itself.
///
/// The core owns no clock. Its host passes a `Tick` with every input; ticks must not decrease from
/// one call to the next, and those of two nodes are never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The arbitrary start.
    pub const ZERO: Tick = Tick(0);

    /// The tick that many nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Tick {
        Tick(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This tick moved into the future; stays at the end of time rather than wrap.
    #[must_use]
    pub fn after(self, wait: Duration) -> Tick {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Tick(self.0.saturating_add(nanos))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// One of the two nodes of a pair. The number is configuration: it is in the node's certificate too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u8);

impl NodeId {
    /// The node that certificates call `member`: `node-a` is 1, `node-b` is 2, there are no others.
    pub fn of_member(member: &str) -> Option<NodeId> {
        match member {
            "node-a" => Some(NodeId(1)),
            "node-b" => Some(NodeId(2)),
            _ => None,
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One connection to the peer, numbered by the host.
///
/// What arrives under a number that is not the newest is ignored, so a driver that is still draining
/// an old connection cannot mix its bytes into the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Position of a commit in the total commit order: `epoch:16 | count:48`.
///
/// The epoch is part of it, so a position in one epoch is never mistaken for the same position in
/// another. Order is the order of the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// Before every commit of every epoch.
    pub const ZERO: Seq = Seq(0);
    /// Counts need this many bits.
    pub const COUNT_BITS: u32 = 48;
    /// The largest count of one epoch.
    pub const COUNT_MAX: u64 = (1 << Self::COUNT_BITS) - 1;

    /// The position `count` of `epoch`. A count beyond [`Self::COUNT_MAX`] is a bug of the caller.
    pub const fn new(epoch: u16, count: u64) -> Seq {
        assert!(count <= Self::COUNT_MAX, "a count has 48 bits");
        Seq((epoch as u64) << Self::COUNT_BITS | count)
    }

    /// From the number as the region and the wire store it.
    pub const fn from_raw(raw: u64) -> Seq {
        Seq(raw)
    }

    /// The number as the region and the wire store it.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The epoch it belongs to.
    pub const fn epoch(self) -> u16 {
        (self.0 >> Self::COUNT_BITS) as u16
    }

    /// The position inside its epoch.
    pub const fn count(self) -> u64 {
        self.0 & Self::COUNT_MAX
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch(), self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seqs_of_a_later_epoch_are_later_whatever_their_count() {
        let old = Seq::new(3, Seq::COUNT_MAX);
        let new = Seq::new(4, 0);
        assert!(new > old);
        assert_eq!((old.epoch(), old.count()), (3, Seq::COUNT_MAX));
        assert_eq!(Seq::from_raw(new.raw()), new);
        assert_eq!(new.to_string(), "4:0");
    }

    #[test]
    fn ticks_saturate_at_both_ends() {
        let end = Tick::from_nanos(u64::MAX);
        assert_eq!(end.after(Duration::from_secs(1)), end);
        assert_eq!(Tick::ZERO.since(end), Duration::ZERO);
    }
}
