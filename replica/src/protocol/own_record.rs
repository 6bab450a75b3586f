//! The record of a pair that has no arbiter: each node keeps one of its own, for itself alone.

use super::record::{Judgement, Testimony};
use super::view::{Answer, Request, View};

/// The newest view that a node knows of, as it survives its process. What is newer says the epoch, then the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnRecord {
    view: Option<View>,
}

impl OwnRecord {
    /// A record that was kept, or an empty one.
    pub fn new(view: Option<View>) -> OwnRecord {
        OwnRecord { view }
    }

    /// The newest view.
    pub fn view(&self) -> Option<View> {
        self.view
    }

    /// Answers its node, which may have learned of a view from its peer.
    ///
    /// If what is to be stored could not be stored, this record must not be asked again.
    pub fn judge(&mut self, testimony: Testimony, request: &Request) -> Judgement {
        let learned = match testimony {
            Testimony::Known(view) if self.is_outranked_by(&view) => Some(view),
            _ => None,
        };
        self.view = learned.or(self.view);
        match *request {
            Request::Read => Judgement { store: learned, answer: Answer::Current(self.view) },
            Request::CompareAndSet { expected, view } => {
                let fits = self.view.is_none_or(|held| held.number == expected);
                if fits && self.is_outranked_by(&view) {
                    self.view = Some(view);
                    return Judgement { store: Some(view), answer: Answer::Won(view) };
                }
                Judgement { store: learned, answer: Answer::Lost(self.view) }
            }
        }
    }

    fn is_outranked_by(&self, view: &View) -> bool {
        self.view.is_none_or(|held| view.rank() > held.rank())
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::NodeId;
    use super::super::view::Member;
    use super::*;

    const A: Member = Member { node: NodeId(1), incarnation: 11 };
    const B: Member = Member { node: NodeId(2), incarnation: 22 };

    #[test]
    fn it_takes_what_is_newer_by_epoch_then_number_and_nothing_else() {
        let solo = View::alone(20, 3, A);
        let mut record = OwnRecord::new(Some(View::pair(10, 3, A, B)));
        let learned = record.judge(Testimony::Known(solo), &Request::Read);
        assert_eq!(learned, Judgement { store: Some(solo), answer: Answer::Current(Some(solo)) });

        // The other node was promoted by force and counts its views from an older one.
        let forced = View::alone(11, 4, B);
        let learned = record.judge(Testimony::Known(forced), &Request::Read);
        assert_eq!(learned.store, Some(forced));
        let stale = record.judge(Testimony::Known(solo), &Request::Read);
        assert_eq!(stale, Judgement { store: None, answer: Answer::Current(Some(forced)) });
    }

    #[test]
    fn a_change_that_landed_is_told_by_asking_again() {
        let (old, new) = (View::pair(7, 3, A, B), View::alone(8, 3, A));
        let mut record = OwnRecord::new(Some(old));
        let change = Request::CompareAndSet { expected: 7, view: new };
        let known = Testimony::Known(old);
        assert_eq!(record.judge(known, &change).answer, Answer::Won(new));
        assert_eq!(record.judge(known, &change).answer, Answer::Lost(Some(new)));
        let other = Request::CompareAndSet { expected: 7, view: View::alone(8, 4, B) };
        assert_eq!(record.judge(known, &other).answer, Answer::Lost(Some(new)));
    }
}
