//! The arbiter of a pair that has none: a register of this node's own, in a directory.

use std::path::Path;
use std::time::Instant;

use crate::arbiter::{Arbiter, AttemptError, Question};
use crate::protocol::{Answer, Judgement, OwnRecord};
use crate::witness::{OpenError, Register};

/// Answers this node alone. What that means is told in `protocol/by_hand.rs`.
#[derive(Debug)]
pub(crate) struct OwnRegister {
    register: Register,
    record: OwnRecord,
    place: String,
}

impl OwnRegister {
    /// Opens the register in `dir`, which is made if need be.
    ///
    /// # Errors
    /// A register that is damaged, foreign or in use is refused: a person has to decide.
    pub(crate) fn open(dir: &Path, cluster: u64) -> Result<Self, OpenError> {
        let register = Register::open(dir, cluster)?;
        let record = OwnRecord::new(register.view());
        Ok(Self { register, record, place: format!("the register in {}", dir.display()) })
    }
}

impl Arbiter for OwnRegister {
    fn attempt(&mut self, question: &Question, _: Instant) -> Result<Answer, AttemptError> {
        let mut record = self.record;
        let Judgement { store, answer } = record.judge(question.testimony, &question.request);
        if let Some(view) = store {
            self.register.keep(&view)?;
        }
        self.record = record;
        Ok(answer)
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn keeps(&self) -> bool {
        true
    }

    fn name(&self) -> String {
        self.place.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Member, NodeId, Request, RequestId, Testimony, View};

    #[test]
    fn what_it_answered_or_was_told_is_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let member = |node| Member { node: NodeId(node), incarnation: 7 };
        let (solo, forced) = (View::alone(9, 3, member(1)), View::alone(5, 4, member(2)));
        let ask = |register: &mut OwnRegister, testimony, request| {
            let question = Question { id: RequestId(1), testimony, request };
            register.attempt(&question, Instant::now()).expect("the disk works")
        };
        let mut register = OwnRegister::open(dir.path(), 77).expect("a new one");
        assert_eq!(ask(&mut register, Testimony::Nothing, Request::Read), Answer::Current(None));
        let change = Request::CompareAndSet { expected: 8, view: solo };
        assert_eq!(ask(&mut register, Testimony::Nothing, change), Answer::Won(solo));
        assert!(matches!(OwnRegister::open(dir.path(), 77), Err(OpenError::InUse { .. })));
        drop(register);

        let mut register = OwnRegister::open(dir.path(), 77).expect("it was closed");
        let read = ask(&mut register, Testimony::Known(forced), Request::Read);
        assert_eq!(read, Answer::Current(Some(forced)), "a later epoch, whatever its number");
        drop(register);
        let mut register = OwnRegister::open(dir.path(), 77).expect("it was closed");
        let read = ask(&mut register, Testimony::Known(solo), Request::Read);
        assert_eq!(read, Answer::Current(Some(forced)));
    }
}
