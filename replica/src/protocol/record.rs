//! The arbiter's record: one view, and the knowledge whether it is the newest there ever was.
//!
//! ```text
//!              both nodes say the same, or the believed one speaks
//!   ┌───────────┐                                            ┌───────┐
//!   │ forgotten ├───────────────────────────────────────────►│ holds │──┐ compare-and-set
//!   └───────────┘◄───────────────────────────────────────────┴───────┘◄─┘
//!              a node knows a newer view: this copy is an old one
//! ```
//!
//! A record without a view is either that of a new pair or one that lost its disk, and nobody can
//! tell by looking at it. So it asks the nodes: each question bears what the asker knows of its own
//! (a [`Testimony`]). While the record has forgotten no view is granted, hence the last one stays
//! the last, and whoever made it either still knows it or says that it does not know any more.
//! Where both nodes know the same view, that is the one. Where neither region was ever used there
//! was none, and a pair may be founded. Everything else is for an operator to decide.
//!
//! The number of the view is identity enough: a copy of another pair is told by the pair's id
//! (where bytes are kept), an older copy of this one by a node that knows a higher number.

use super::ids::NodeId;
use super::view::{Answer, Request, View};

const RECORD_VERSION: u8 = 1;
/// Of a pair.
const NODES: usize = 2;

/// What a node knows of the view by itself.
///
/// A process counts what its peer tells it from the moment on at which the arbiter told it a view.
/// Before, for instance because the arbiter had forgotten already when the process started, that
/// would be the peer's word, said twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Testimony {
    /// Its region is new: as far as this node can tell there never was a view.
    Nothing,
    /// There was a view of this number, under which its region was used or of which its peer told.
    /// Which one was the last, this process does not know.
    Something(u64),
    /// The newest view that it knows to be confirmed.
    Known(View),
}

impl Testimony {
    /// Number of a view that was confirmed at some time, 0 for none.
    pub fn number(self) -> u64 {
        match self {
            Testimony::Nothing => 0,
            Testimony::Something(number) => number,
            Testimony::Known(view) => view.number,
        }
    }
}

/// The record, in memory. Who keeps it on disk stores what [`judge`](Self::judge) says before the
/// answer leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The newest view that it was told to hold.
    view: Option<View>,
    /// A node knew of a newer one.
    outdated: bool,
    /// What each of the two nodes said last, since the record has forgotten.
    said: Vec<(NodeId, Testimony)>,
    believed: Option<NodeId>,
}

/// What to do about a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// To be made durable before anything is answered.
    pub store: Option<View>,
    /// The answer, once that is done.
    pub answer: Answer,
}

impl Record {
    /// A record that was kept, or (`None`) one that may be new or lost.
    pub fn new(view: Option<View>) -> Record {
        Record { view, ..Record::default() }
    }

    /// As long as it has forgotten, what this node says is enough: an operator's decision.
    #[must_use]
    pub fn believing(mut self, node: NodeId) -> Record {
        self.believed = Some(node);
        self
    }

    /// The view that it answers by.
    pub fn view(&self) -> Option<View> {
        self.view.filter(|_| !self.outdated)
    }

    /// Whether it grants nothing, for want of a view that is known to be the newest.
    pub fn has_forgotten(&self) -> bool {
        self.view().is_none()
    }

    /// Answers a question of `node`, and takes over what follows from it.
    ///
    /// If what is to be stored could not be stored, this record must not be asked again.
    pub fn judge(&mut self, node: NodeId, testimony: Testimony, request: &Request) -> Judgement {
        let restored = self.hear(node, testimony);
        let answer = match (self.view(), *request) {
            (None, _) if !self.is_new(node) => Answer::Forgotten,
            (current, Request::Read) => Answer::Current(current),
            (current, Request::CompareAndSet { expected, view }) => {
                let fits = match current {
                    Some(current) => current.number == expected && view.number > expected,
                    // The first view there is; its number is the founder's choice.
                    None => expected == view.number.wrapping_sub(1),
                };
                if fits {
                    self.hold(view);
                    return Judgement { store: Some(view), answer: Answer::Won(view) };
                }
                Answer::Lost(current)
            }
        };
        Judgement { store: restored, answer }
    }

    /// The record as a value of some other store, little-endian. What an operator decided is not in it.
    ///
    /// ```text
    ///   0         1          2       3      4      36
    ///   ├ version ┼ outdated ┼ count ┼ zero ┼ view ┼ count x (node:1 knows:1 view, or number:8 zero …)
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![RECORD_VERSION, self.outdated.into(), self.said.len() as u8, 0];
        out.extend(self.view.map_or([0; View::BYTES], |view| view.to_bytes()));
        for (node, said) in &self.said {
            let (knows, bytes) = match said {
                Testimony::Nothing => (0, [0; View::BYTES]),
                Testimony::Something(number) => {
                    let mut bytes = [0; View::BYTES];
                    bytes[..8].copy_from_slice(&number.to_le_bytes());
                    (1, bytes)
                }
                Testimony::Known(view) => (2, view.to_bytes()),
            };
            out.extend([node.0, knows]);
            out.extend(bytes);
        }
        out
    }

    /// Reads [`to_bytes`](Self::to_bytes) back. Anything else is `None`, never an empty record.
    pub fn from_bytes(bytes: &[u8]) -> Option<Record> {
        let ([RECORD_VERSION, outdated @ (0 | 1), count, 0], rest) = bytes.split_first_chunk()?
        else {
            return None;
        };
        let (view, rest) = rest.split_first_chunk::<{ View::BYTES }>()?;
        let view = match view {
            [0, ..] if *view == [0; View::BYTES] => None,
            view => Some(View::from_bytes(view).ok()?),
        };
        let entries = rest.chunks_exact(2 + View::BYTES);
        if entries.len() != usize::from(*count)
            || !entries.remainder().is_empty()
            || usize::from(*count) > NODES
        {
            return None;
        }
        let said = entries.map(|entry| {
            let (node, bytes) = (NodeId(entry[0]), entry[2..].first_chunk::<{ View::BYTES }>()?);
            let (number, rest) = bytes.split_first_chunk::<8>()?;
            let testimony = match entry[1] {
                0 if *bytes == [0; View::BYTES] => Testimony::Nothing,
                1 if rest.iter().all(|byte| *byte == 0) => {
                    Testimony::Something(u64::from_le_bytes(*number))
                }
                2 => Testimony::Known(View::from_bytes(bytes).ok()?),
                _ => return None,
            };
            Some((node, testimony))
        });
        let said = said.collect::<Option<Vec<_>>>()?;
        if let [(one, _), (other, _)] = said[..]
            && one == other
        {
            return None; // one node's word would count for both
        }
        Some(Record { view, outdated: *outdated == 1, said, believed: None })
    }

    /// The view that becomes known by what a node says.
    fn hear(&mut self, node: NodeId, testimony: Testimony) -> Option<View> {
        if let Some(view) = self.view() {
            self.outdated = testimony.number() > view.number;
        }
        if !self.has_forgotten() {
            return None;
        }
        match self.said.iter_mut().find(|(who, _)| *who == node) {
            Some((_, said)) => *said = testimony,
            None => {
                // A third node is none of the pair's, whoever wrote that down.
                if self.said.len() == NODES {
                    self.said.remove(0);
                }
                self.said.push((node, testimony));
            }
        }
        let Testimony::Known(known) = testimony else { return None };
        if self.agree_on(testimony) || self.believed == Some(node) {
            self.hold(known);
            return Some(known);
        }
        None
    }

    fn hold(&mut self, view: View) {
        *self = Record::new(Some(view));
    }

    fn agree_on(&self, testimony: Testimony) -> bool {
        self.said.len() == NODES && self.said.iter().all(|(_, said)| *said == testimony)
    }

    /// Whether `node` may found the pair.
    fn is_new(&self, node: NodeId) -> bool {
        self.believed == Some(node) || (self.view.is_none() && self.agree_on(Testimony::Nothing))
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::Member;
    use super::*;

    const A: Member = Member { node: NodeId(1), incarnation: 11 };
    const B: Member = Member { node: NodeId(2), incarnation: 22 };

    fn read(record: &mut Record, node: Member, testimony: Testimony) -> Answer {
        record.judge(node.node, testimony, &Request::Read).answer
    }

    fn set(record: &mut Record, expected: u64, view: View) -> Answer {
        let request = Request::CompareAndSet { expected, view };
        record.judge(view.primary, Testimony::Nothing, &request).answer
    }

    #[test]
    fn a_pair_is_founded_when_both_say_that_there_was_nothing() {
        let mut record = Record::default();
        assert_eq!(read(&mut record, A, Testimony::Nothing), Answer::Forgotten);
        assert_eq!(read(&mut record, A, Testimony::Nothing), Answer::Forgotten, "one voice, twice");
        let first = View::alone(1, 1, A);
        let mut other = record.clone();
        assert_eq!(read(&mut other, B, Testimony::Something(9)), Answer::Forgotten);
        assert_eq!(set(&mut other, 0, first), Answer::Forgotten);

        assert_eq!(read(&mut record, B, Testimony::Nothing), Answer::Current(None));
        assert_eq!(set(&mut record, 0, first), Answer::Won(first));
        assert_eq!(set(&mut record, 0, View::alone(1, 1, B)), Answer::Lost(Some(first)));
    }

    #[test]
    fn what_both_know_is_restored_and_what_one_knows_is_not() {
        let (old, new) = (View::pair(8, 3, A, B), View::alone(9, 3, A));
        for (a, b, restored) in [
            (Testimony::Known(new), Testimony::Known(new), true),
            (Testimony::Known(old), Testimony::Known(old), true),
            (Testimony::Known(new), Testimony::Known(old), false),
            (Testimony::Known(new), Testimony::Something(9), false),
            (Testimony::Known(new), Testimony::Nothing, false),
            (Testimony::Something(9), Testimony::Something(9), false),
            (Testimony::Something(9), Testimony::Nothing, false),
        ] {
            let mut record = Record::default();
            assert_eq!(read(&mut record, A, a), Answer::Forgotten);
            let found = record.judge(B.node, b, &Request::Read);
            match b {
                Testimony::Known(view) if restored => {
                    let answer = Answer::Current(Some(view));
                    assert_eq!(found, Judgement { store: Some(view), answer });
                }
                _ => {
                    let answer = Answer::Forgotten;
                    assert_eq!(found, Judgement { store: None, answer }, "{a:?}, {b:?}");
                    // Nothing is granted, whatever is asked for.
                    let wish = View::alone(10, 4, B);
                    assert_eq!(set(&mut record, 9, wish), Answer::Forgotten, "{a:?}, {b:?}");
                    assert_eq!(set(&mut record, 0, View::alone(1, 1, B)), Answer::Forgotten);
                }
            }
        }
    }

    #[test]
    fn an_old_copy_is_found_out_and_corrected_by_both() {
        let (old, new) = (View::pair(8, 3, A, B), View::alone(9, 3, A));
        let mut record = Record::new(Some(old));
        assert_eq!(read(&mut record, B, Testimony::Something(8)), Answer::Current(Some(old)));
        assert_eq!(read(&mut record.clone(), B, Testimony::Something(9)), Answer::Forgotten);
        assert_eq!(read(&mut record, A, Testimony::Known(new)), Answer::Forgotten);
        assert_eq!(read(&mut record, B, Testimony::Known(old)), Answer::Forgotten);
        assert_eq!(read(&mut record, B, Testimony::Known(new)), Answer::Current(Some(new)));
    }

    #[test]
    fn an_operator_says_whom_to_believe_and_nobody_else_is_heard() {
        let view = View::alone(9, 3, A);
        let mut record = Record::default().believing(A.node);
        assert_eq!(read(&mut record, B, Testimony::Nothing), Answer::Forgotten);
        assert_eq!(read(&mut record, A, Testimony::Known(view)), Answer::Current(Some(view)));

        // It lost its own memory as well: it may begin again, above what it has.
        let mut record = Record::default().believing(A.node);
        assert_eq!(set(&mut record, 9, View::alone(10, 4, B)), Answer::Forgotten);
        assert_eq!(read(&mut record, A, Testimony::Something(9)), Answer::Current(None));
        let again = View::alone(10, 4, A);
        assert_eq!(set(&mut record, 9, again), Answer::Won(again));
    }

    /// Goal: somebody else's word in the record keeps nobody from agreeing, and no word counts twice.
    #[test]
    fn foreign_words_do_not_spoil_a_record() {
        let stranger = Member { node: NodeId(65), incarnation: 1 };
        let view = View::alone(9, 3, A);
        let mut record = Record::default();
        read(&mut record, stranger, Testimony::Something(463_873_244_690));
        read(&mut record, A, Testimony::Known(view));
        assert_eq!(read(&mut record, B, Testimony::Known(view)), Answer::Current(Some(view)));

        let mut record = Record::default();
        for node in [stranger, A, B, stranger, A] {
            read(&mut record, node, Testimony::Nothing);
            assert_eq!(Record::from_bytes(&record.to_bytes()).as_ref(), Some(&record));
        }
        let mut twice = Record::default();
        read(&mut twice, A, Testimony::Something(7));
        let mut bytes = twice.to_bytes();
        bytes[2] = 2;
        bytes.extend_from_within(4 + View::BYTES..);
        assert_eq!(Record::from_bytes(&bytes), None, "one node's word for both");
    }

    #[test]
    fn records_survive_their_bytes_and_nothing_else_is_one() {
        let (old, new) = (View::pair(8, 3, A, B), View::alone(9, 3, A));
        let mut record = Record::new(Some(old));
        let mut records = vec![Record::default(), record.clone()];
        for (node, said) in [
            (A, Testimony::Known(new)),
            (B, Testimony::Something(8)),
            (B, Testimony::Nothing),
            (B, Testimony::Known(old)),
        ] {
            read(&mut record, node, said);
            records.push(record.clone());
        }
        for record in records {
            let bytes = record.to_bytes();
            assert_eq!(Record::from_bytes(&bytes).as_ref(), Some(&record));
            for end in 0..bytes.len() {
                assert_eq!(Record::from_bytes(&bytes[..end]), None, "{record:?} cut at {end}");
            }
            assert_eq!(Record::from_bytes(&[&bytes[..], &[0]].concat()), None);
        }
        assert_eq!(Record::from_bytes(&[2; 36]), None);
    }
}
