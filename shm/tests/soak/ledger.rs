//! The books: what the ports say they delivered, against what they say they sent and what is left in the
//! objects.

use std::collections::{HashMap, HashSet};

use super::account::{Account, Word};

/// What a port reports, in the order in which it happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Record {
    /// The region has taken this message.
    Delivered { number: u64 },
    /// This packet is about to be marked as sent. Who dies before it is marked sends it again.
    Sent { seq: u64, ordinal: u32, word: Word },
}

impl Record {
    pub(crate) const BYTES: usize = 8 * (3 + Word::WORDS);

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (head, body) = bytes.split_at_mut(24);
        let words = match self {
            Record::Delivered { number } => [0, number, 0],
            Record::Sent { seq, ordinal, word } => {
                body.copy_from_slice(&word.to_bytes());
                [1, seq, u64::from(ordinal)]
            }
        };
        for (place, word) in head.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (head, body) = bytes.split_at(24);
        let word = |at: usize| u64::from_le_bytes(head.as_chunks::<8>().0[at]);
        Some(match word(0) {
            0 => Record::Delivered { number: word(1) },
            1 => {
                let ordinal = u32::try_from(word(2)).ok()?;
                Record::Sent { seq: word(1), ordinal, word: Word::from_bytes(body)? }
            }
            _ => return None,
        })
    }
}

/// What was reported since the books were last closed, and what has been counted in all.
#[derive(Default)]
pub(crate) struct Ledger {
    delivered: HashSet<u64>,
    /// Answers, with the packet that bore each.
    answers: HashMap<u64, (u64, u32)>,
    /// Errands that an answer has announced, and those that were run.
    announced: HashSet<u64>,
    errands: HashMap<u64, (u64, u32)>,
    wills: HashMap<(u64, u32), Account>,
    /// The sum of what has ended.
    ended: Account,
    /// Numbers mixed, of all answers to messages of objects with a key.
    answered: Account,
    /// Numbers below have been settled when the books were closed last.
    settled: u64,
    pub(crate) totals: Totals,
    problems: Vec<String>,
}

/// Figures for the report.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    pub(crate) packets: u64,
    pub(crate) sent_again: u64,
    pub(crate) errands: u64,
    pub(crate) wills: u64,
    pub(crate) timers: u64,
}

impl Ledger {
    pub(crate) fn enter(&mut self, record: Record) {
        match record {
            Record::Delivered { number } => {
                self.delivered.insert(number);
            }
            Record::Sent { seq, ordinal, word } => {
                let id = (seq, ordinal);
                if let Word::Answer { number, .. } | Word::Errand { number } = word
                    && number < self.settled
                {
                    self.problems.push(format!("doubled: {word:x?} comes again, in packet {id:?}"));
                }
                let before = match word {
                    Word::Answer { number, errand } => {
                        if errand {
                            self.announced.insert(number);
                        }
                        self.answers.insert(number, id)
                    }
                    Word::Errand { number } => self.errands.insert(number, id),
                    Word::Will(account) => self.wills.insert(id, account).map(|_| id),
                };
                match before {
                    None => self.totals.packets += 1,
                    // The port died before it could mark it: the same packet, by the same id.
                    Some(before) if before == id => self.totals.sent_again += 1,
                    Some(before) => self
                        .problems
                        .push(format!("doubled: {word:?} is in the packets {before:?} and {id:?}")),
                }
            }
        }
    }

    /// Closes the books while nothing is under way: every message delivered is answered, every errand
    /// announced is run, and `left`, the objects with a key, account for all of it. Returns what does not fit.
    /// Numbers below `next` do not come again.
    pub(crate) fn close(&mut self, left: &[Account], next: u64) -> Vec<String> {
        let mut problems = std::mem::take(&mut self.problems);
        let lost: Vec<_> =
            self.delivered.iter().filter(|number| !self.answers.contains_key(number)).collect();
        if !lost.is_empty() {
            problems.push(format!(
                "lost: {} messages: {:x?}",
                lost.len(),
                &lost[..lost.len().min(9)]
            ));
        }
        for number in self.announced.iter().filter(|number| !self.errands.contains_key(number)) {
            problems.push(format!("lost: the errand of message {number:x}"));
        }
        for number in self.errands.keys().filter(|number| !self.announced.contains(number)) {
            problems.push(format!("the errand of message {number:x} was run and never announced"));
        }
        for number in self.answers.keys().filter(|&&number| has_key(number)) {
            self.answered.consume(*number);
        }
        for account in self.wills.values() {
            self.ended.add(account);
        }
        let mut sum = self.ended;
        left.iter().for_each(|account| sum.add(account));
        let expected = (self.answered.messages, self.answered.mixed, 0);
        if (sum.messages, sum.mixed, sum.balance) != expected {
            problems.push(format!(
                "the objects counted (messages, numbers, balance) {:x?}, the packets say {expected:x?}",
                (sum.messages, sum.mixed, sum.balance)
            ));
        }
        if sum.pending() != 0 {
            problems.push(format!("lost: {} timers that were set and never fired", sum.pending()));
        }
        self.totals.messages += self.answers.len() as u64;
        self.totals.errands += self.errands.len() as u64;
        self.totals.wills += self.wills.len() as u64;
        self.totals.timers = sum.fired;
        self.settled = next;
        self.delivered.clear();
        self.answers.clear();
        self.announced.clear();
        self.errands.clear();
        self.wills.clear();
        problems
    }
}

/// Every fourth message makes an object of its own.
pub(crate) fn has_key(number: u64) -> bool {
    number % 4 != 3
}
