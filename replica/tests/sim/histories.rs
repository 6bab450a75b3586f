//! What clients saw of each object, for a checker that knows nothing of pairs: is there one order of all operations,
//! in step with real time, that explains every answer?
//!
//! An operation appends its number to an object's value, and its answer is the value. It begins when its commit does,
//! and ends when its packet leaves, whoever sends it: less time than a client sees, so an order is harder to find. What
//! was never answered may have happened at any time, or never.

use std::collections::{BTreeMap, BTreeSet};

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::ledger::{Checked, Violation};
use super::region::{Commit, KEPT_SLOTS};

#[derive(Clone, Copy, Debug)]
enum Moment {
    Invoked(u32),
    Returned(u32),
}

/// An object, as a client thinks of it.
#[derive(Clone, Debug, Default)]
struct Appended(Vec<u32>);

impl SequentialSpec for Appended {
    type Op = u32;
    type Ret = Vec<u32>;

    fn invoke(&mut self, operation: &u32) -> Vec<u32> {
        self.0.push(*operation);
        self.0.clone()
    }
}

/// The operations of a run, by object.
#[derive(Debug, Default)]
pub(crate) struct Histories {
    moments: [Vec<Moment>; KEPT_SLOTS as usize],
    /// The value that each operation left, which is its answer.
    values: BTreeMap<u32, Vec<u32>>,
    returned: BTreeSet<u32>,
}

/// How much there was to explain.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Explained {
    pub(crate) objects: u64,
    pub(crate) answered: u64,
    /// Not answered, and seen in later answers all the same.
    pub(crate) unanswered: u64,
}

impl Explained {
    pub(crate) fn add(&mut self, other: Explained) {
        self.objects += other.objects;
        self.answered += other.answered;
        self.unanswered += other.unanswered;
    }
}

impl Histories {
    pub(crate) fn on_commit(&mut self, operation: u32, commit: &Commit) {
        let Some(moments) = self.moments.get_mut(commit.slot as usize) else { return };
        moments.push(Moment::Invoked(operation));
        let (numbers, _) = commit.after.value.as_deref().unwrap_or_default().as_chunks::<4>();
        let value = numbers.iter().map(|number| u32::from_le_bytes(*number));
        self.values.insert(operation, value.collect());
    }

    /// Its packet leaves. One that leaves again says nothing new.
    pub(crate) fn on_sent(&mut self, operation: u32, slot: u32) {
        if let Some(moments) = self.moments.get_mut(slot as usize)
            && self.returned.insert(operation)
        {
            moments.push(Moment::Returned(operation));
        }
    }

    /// Whether each object's answers can be explained.
    pub(crate) fn check(&self) -> Checked<Explained> {
        let mut explained = Explained::default();
        let known: BTreeSet<u32> = self
            .returned
            .iter()
            .filter_map(|answered| self.values.get(answered))
            .flatten()
            .copied()
            .collect();
        for (slot, moments) in self.moments.iter().enumerate() {
            let mut tester = LinearizabilityTester::new(Appended::default());
            let nonsense =
                |words| Violation(format!("the history of slot {slot} is none: {words}"));
            for moment in moments {
                match *moment {
                    // What nobody ever saw is explained by its not having happened.
                    Moment::Invoked(operation) if known.contains(&operation) => {
                        tester.on_invoke(operation, operation).map_err(nonsense)?;
                        let answered = self.returned.contains(&operation);
                        explained.answered += u64::from(answered);
                        explained.unanswered += u64::from(!answered);
                    }
                    Moment::Invoked(_) => {}
                    Moment::Returned(operation) => {
                        let value = self.values.get(&operation).cloned().unwrap_or_default();
                        tester.on_return(operation, value).map_err(nonsense)?;
                    }
                }
            }
            if !tester.is_consistent() {
                return Err(Violation(format!(
                    "no order of the operations on slot {slot} explains its answers: {}",
                    self.told(moments)
                )));
            }
            explained.objects += u64::from(!moments.is_empty());
        }
        Ok(explained)
    }

    fn told(&self, moments: &[Moment]) -> String {
        let words = moments.iter().map(|moment| match moment {
            Moment::Invoked(operation) => format!("{operation} begins"),
            Moment::Returned(operation) => {
                format!("{operation} is answered {:?}", self.values.get(operation))
            }
        });
        words.collect::<Vec<_>>().join(", ")
    }
}
