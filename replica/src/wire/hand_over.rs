//! The messages of a planned change of roles. On the stream: each comes after all that was shipped before it.
#![allow(missing_docs, reason = "rkyv derives public twins of the private bodies")]

use rkyv::{Archive, Deserialize, Serialize};

use super::WireError;
use crate::protocol::{Declined, Seq};

/// Part of a planned change of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// The back-up was asked to bring it about.
    Wanted {
        /// How long it may take.
        within_ns: u64,
    },
    /// The primary is quiet, and the receiver has acknowledged all it had: it shall take over.
    Ready {
        /// The sender's epoch.
        epoch: u16,
        /// The last commit.
        last: Seq,
    },
    /// The primary serves on; it is not to take over.
    Withdrawn {
        /// Why.
        why: Declined,
    },
    /// The primary does not begin.
    Refused {
        /// Why.
        why: Declined,
    },
}

#[derive(Archive, Serialize, Deserialize, Debug)]
pub(super) struct HandOverBody {
    step: u8,
    why: u8,
    epoch: u16,
    number: u64,
}

impl HandOverBody {
    pub(super) fn of(message: HandOver) -> HandOverBody {
        let body = HandOverBody { step: 0, why: 0, epoch: 0, number: 0 };
        match message {
            HandOver::Wanted { within_ns } => HandOverBody { step: 1, number: within_ns, ..body },
            HandOver::Ready { epoch, last } => {
                HandOverBody { step: 2, epoch, number: last.raw(), ..body }
            }
            HandOver::Withdrawn { why } => HandOverBody { step: 3, why: why as u8, ..body },
            HandOver::Refused { why } => HandOverBody { step: 4, why: why as u8, ..body },
        }
    }

    pub(super) fn check(&self) -> Result<HandOver, WireError> {
        let why = || {
            let found = self.why.into();
            let max = Declined::COUNT as u64;
            Declined::from_byte(self.why).ok_or(WireError::Value { what: "a reason", found, max })
        };
        Ok(match self.step {
            1 => HandOver::Wanted { within_ns: self.number },
            2 => HandOver::Ready { epoch: self.epoch, last: Seq::from_raw(self.number) },
            3 => HandOver::Withdrawn { why: why()? },
            4 => HandOver::Refused { why: why()? },
            step => {
                let found = step.into();
                return Err(WireError::Value { what: "a step of a hand-over", found, max: 4 });
            }
        })
    }
}
