//! What a state is made of: the epochs whose commits are in it, and its last commit.
//!
//! ```text
//!   this node   epoch 3 ──────────────┬─ epoch 5 ───────────►  end
//!   the other   epoch 3 ──────────────┼───────► end            (it ran ahead, and nobody followed)
//!                                     └ base of epoch 5 = what both have
//! ```
//!
//! An epoch has one primary, and begins with all that this primary had. So two states that have the beginning of
//! an epoch in common were equal there, and have in common what both hold of that epoch. What either changed
//! later is all that can differ.

use super::ids::Seq;
use crate::wire::EpochStart;

/// A node's history. Without epochs nothing is known of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Where its epochs began, oldest first. Old ones may be left out.
    pub epochs: Vec<EpochStart>,
    /// The last commit that the state contains, all before it included.
    pub end: Seq,
}

impl History {
    /// Whether anything is known of the state.
    pub fn is_known(&self) -> bool {
        !self.epochs.is_empty()
    }

    /// A new epoch begins with this state.
    pub(super) fn begin(&mut self, start: EpochStart) {
        self.epochs.push(start);
        self.end = Seq::new(start.epoch, 0);
    }

    /// The last position that two states have in common; `None` if there is none that is known.
    pub fn common(&self, other: &History) -> Option<Seq> {
        let (ours, theirs) = (0..self.epochs.len()).rev().find_map(|ours| {
            let theirs = other.epochs.iter().rposition(|start| *start == self.epochs[ours])?;
            Some((ours, theirs))
        })?;
        Some(self.upto(ours).min(other.upto(theirs)))
    }

    /// What this state holds of its epoch with this index.
    fn upto(&self, index: usize) -> Seq {
        self.epochs.get(index + 1).map_or(self.end, |next| Seq::from_raw(next.base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(epoch: u16, base: Seq, leader: u64) -> EpochStart {
        EpochStart { epoch, base: base.raw(), leader }
    }

    fn history(epochs: &[EpochStart], end: Seq) -> History {
        History { epochs: epochs.to_vec(), end }
    }

    /// Goal: the common position is what both hold of the last epoch whose beginning they share.
    #[test]
    fn two_histories_part_where_one_was_left() {
        let seq = Seq::new;
        let (one, two) = (start(1, Seq::ZERO, 10), start(2, seq(1, 90), 20));
        let three = start(3, seq(2, 5), 10);
        #[rustfmt::skip]
        let cases = [
            ("equal",                      history(&[one], seq(1, 50)),      history(&[one], seq(1, 50)),           Some(seq(1, 50))),
            ("behind in one epoch",        history(&[one], seq(1, 40)),      history(&[one], seq(1, 50)),           Some(seq(1, 40))),
            ("behind by an epoch",         history(&[one], seq(1, 70)),      history(&[one, two], seq(2, 9)),       Some(seq(1, 70))),
            ("ran ahead, left behind",     history(&[one], seq(1, 100)),     history(&[one, two], seq(2, 9)),       Some(seq(1, 90))),
            ("ahead by two epochs",        history(&[one, two], seq(2, 9)),  history(&[one, two, three], seq(3, 1)), Some(seq(2, 5))),
            ("an epoch without a commit",  history(&[one, two], seq(2, 0)),  history(&[one, two], seq(2, 0)),       Some(seq(2, 0))),
            ("old ones are left out",      history(&[two], seq(2, 3)),       history(&[one, two], seq(2, 9)),       Some(seq(2, 3))),
            ("nothing is known",           history(&[], seq(9, 9)),          history(&[one], seq(1, 50)),           None),
            ("another pair's",             history(&[start(1, Seq::ZERO, 11)], seq(1, 50)), history(&[one], seq(1, 50)), None),
            ("two went on alone",          history(&[one, start(2, seq(1, 95), 10)], seq(2, 7)), history(&[one, two], seq(2, 9)), Some(seq(1, 90))),
        ];
        for (why, ours, theirs, common) in cases {
            assert_eq!(ours.common(&theirs), common, "{why}");
            assert_eq!(theirs.common(&ours), common, "{why}, the other way round");
        }
    }
}
