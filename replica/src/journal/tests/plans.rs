//! What leads on from what.

use super::super::survey::{Plan, Stop, Survey};
use super::*;

fn plan(dir: &Path) -> Option<Plan> {
    Survey::of(dir).expect("readable").plan
}

/// Goal: a promotion in the middle of a journal is no gap; a state of another history is, however its numbers look.
#[test]
fn segments_go_on_only_from_the_very_state_before_them() {
    let (one, two) = (start(1, Seq::ZERO), start(2, seq(1, 3)));
    let at = |count| seq(1, count);
    let other = EpochStart { leader: 99, ..one };
    #[rustfmt::skip]
    let cases: [(&str, Vec<EpochStart>, Seq, Option<Seq>); 7] = [
        // why                          the second segment's epochs, its beginning, the end of a replay
        ("the same epoch",              vec![one],       at(3),      Some(seq(1, 4))),
        ("a new epoch",                 vec![one, two],      at(3),      Some(seq(2, 1))),
        ("a batch is missing",          vec![one],        at(4),      None),
        ("one too many",                vec![one],        at(2),      None),
        ("another history",             vec![other],       at(3),      None),
        ("an epoch that began earlier", vec![one, start(2, at(2))], at(3), None),
        ("nothing is known of it",      vec![],            at(3),      None),
    ];
    for (why, epochs, from, leads_to) in &cases {
        let dir = tempfile::tempdir().expect("a directory");
        store_checkpoint(dir.path(), 1, &[one], at(0), at(1));
        store_segment(dir.path(), 1, &[one], &[at(0), at(1), at(2), at(3)]);
        let next = epochs.last().map_or(1, |start| start.epoch);
        let to = if next == 2 { seq(2, 1) } else { seq(1, from.count() + 1) };
        store_segment(dir.path(), 2, epochs, &[*from, to]);
        let plan = plan(dir.path()).expect("the first segment is good");
        let gap = Stop::Gap { segment: 2, begins: *from, ends: at(3) };
        let (end, stop) = leads_to.map_or((at(3), Some(gap)), |end| (end, None));
        assert_eq!((plan.state.end, &plan.stop), (end, &stop), "{why}");
        assert_eq!(plan.segments.len(), if stop.is_some() { 1 } else { 2 }, "{why}");
    }
}

#[test]
fn a_checkpoint_counts_only_with_the_batches_that_its_copies_saw() {
    let epochs = [start(1, Seq::ZERO)];
    let at = |count| seq(1, count);
    let dir = tempfile::tempdir().expect("a directory");
    store_checkpoint(dir.path(), 4, &epochs, at(0), at(3));
    assert_eq!(plan(dir.path()), None, "not even a segment");
    store_segment(dir.path(), 4, &epochs, &[at(0), at(2)]);
    assert_eq!(plan(dir.path()), None, "it saw a commit that is nowhere");
    store_segment(dir.path(), 5, &epochs, &[at(2), at(3)]);
    let whole = plan(dir.path()).expect("now it is a state");
    assert_eq!(
        (whole.state, whole.segments, whole.batches),
        (history(&epochs, at(3)), vec![4, 5], 2)
    );
    assert_eq!(whole.view, 9);
}

/// A segment that was torn by the death of its writer, and another process went on from what it had applied.
#[test]
fn a_torn_end_that_costs_nothing_is_no_gap() {
    let epochs = [start(1, Seq::ZERO)];
    let at = |count| seq(1, count);
    let dir = tempfile::tempdir().expect("a directory");
    store_checkpoint(dir.path(), 1, &epochs, at(0), at(0));
    let mut torn = store_segment(dir.path(), 1, &epochs, &[at(0), at(1)]);
    torn.extend(&batch(at(1), at(2)).as_ref()[..40]);
    store(dir.path(), &header(FileKind::Segment, 1, at(0), &epochs), &torn);
    store_segment(dir.path(), 2, &epochs, &[at(1), at(5)]);
    let survey = Survey::of(dir.path()).expect("readable");
    assert_eq!(survey.torn().collect::<Vec<_>>(), [(1, 40)]);
    assert_eq!(survey.plan.map(|plan| (plan.state.end, plan.stop)), Some((at(5), None)));
}

#[test]
fn a_journal_of_another_pair_is_no_continuation() {
    let epochs = [start(1, Seq::ZERO)];
    let at = |count| seq(1, count);
    let dir = tempfile::tempdir().expect("a directory");
    store_checkpoint(dir.path(), 1, &epochs, at(0), at(0));
    store_segment(dir.path(), 1, &epochs, &[at(0), at(1)]);
    let mut foreign = header(FileKind::Segment, 2, at(1), &epochs);
    foreign.identity.cluster += 1;
    store(dir.path(), &foreign, &file(&foreign, &[batch(at(1), at(2))]));
    let plan = plan(dir.path()).expect("what is before it is good");
    assert_eq!((plan.state.end, plan.segments), (at(1), vec![1]));
}
