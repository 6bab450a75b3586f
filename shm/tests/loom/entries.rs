//! Tx entries: the order of draws, the watermark, abort against the commit point, a change of role, death.
//! Modelled after `tx.rs`, `gather.rs`, `role.rs` and `reap.rs`, with the crate's own words.

use loom::sync::Arc;

use crate::door::{
    AtomicU64, Ordering, at_every_step, every_schedule, fence, spawn, vanishing, with_interruptions,
};
use crate::words::{EntryState, EntryWord, Role, RoleEpoch, SlotState, SlotWord};

const EPOCH: u16 = 0;

/// A seat with a ring of one entry, and the one slot that its commits change.
struct Seat {
    next_position: AtomicU64,
    word: AtomicU64,
    seq: AtomicU64,
    floor: AtomicU64,
    slot: AtomicU64,
    last_seq: AtomicU64,
}

impl Seat {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            next_position: zero(),
            word: zero(),
            seq: zero(),
            floor: zero(),
            slot: AtomicU64::new(claimed().0),
            last_seq: zero(),
        }
    }

    fn entry(&self) -> EntryWord {
        EntryWord(self.word.load(Ordering::SeqCst))
    }

    fn swap(&self, seen: EntryWord, state: EntryState) -> bool {
        let next = seen.with(state).0;
        self.word.compare_exchange(seen.0, next, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The owner's steps, by stores.
    fn apply(&self, seq: u64) {
        self.last_seq.store(seq, Ordering::Release);
        self.slot.store(after().0, Ordering::Release);
    }

    /// What the reaper does once the owner's death is confirmed.
    fn reap(&self, bug: Bug) {
        let mut seen = self.entry();
        if seen.state() == Some(EntryState::Drawing) {
            self.swap(seen, EntryState::Aborted);
            seen = self.entry();
        }
        if seen.state() == Some(EntryState::Committed) && bug != Bug::CommittedNotFinished {
            let seq = self.seq.load(Ordering::Relaxed);
            if self.slot.load(Ordering::Relaxed) == claimed().0 {
                self.last_seq.store(seq, Ordering::Release);
                let order = (Ordering::SeqCst, Ordering::SeqCst);
                let _ = self.slot.compare_exchange(claimed().0, after().0, order.0, order.1);
            }
            self.word.store(seen.with(EntryState::Applied).0, Ordering::Release);
        }
    }
}

fn claimed() -> SlotWord {
    SlotWord::new(SlotState::Claimed, 1, None, 1)
}

fn after() -> SlotWord {
    claimed().next(SlotState::Idle, 0, Some(3))
}

fn primary() -> RoleEpoch {
    RoleEpoch::new(Role::Primary, EPOCH, 1)
}

struct Space {
    commit_seq: AtomicU64,
    role: AtomicU64,
    seats: [Seat; 2],
}

/// In which way a commit or a gatherer is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    AnnouncedAfterTheDraw,
    DecidedByAStore,
    DrawingOverlooked,
    EntriesBeforeTheCounter,
    CounterNotSwapped,
    RoleNotRead,
    CommittedNotFinished,
}

impl Space {
    fn new() -> Self {
        Self {
            commit_seq: AtomicU64::new(0),
            role: AtomicU64::new(primary().0),
            seats: [Seat::new(), Seat::new()],
        }
    }

    /// The first commit of a seat; its seq if it happened.
    fn commit(&self, seat: usize, bug: Bug) -> Option<u64> {
        let row = &self.seats[seat];
        let drawing = EntryWord::new(0, EntryState::Drawing);
        row.word.store(drawing.with(EntryState::Idle).0, Ordering::Relaxed);
        fence(Ordering::Release); // reuse/1
        row.seq.store(0, Ordering::Relaxed);
        row.floor.store(self.commit_seq.load(Ordering::SeqCst), Ordering::Relaxed);
        let announce = || {
            row.next_position.store(1, Ordering::Release); // entry/1
            row.word.store(drawing.0, Ordering::Release);
        };
        if bug != Bug::AnnouncedAfterTheDraw {
            announce();
        }
        let seq = self.commit_seq.fetch_add(1, Ordering::SeqCst) + 1; // draw/1
        if bug == Bug::AnnouncedAfterTheDraw {
            announce();
        }
        if bug != Bug::RoleNotRead && self.role.load(Ordering::SeqCst) != primary().0 {
            row.word.store(drawing.with(EntryState::Aborted).0, Ordering::SeqCst); // role/3
            return None;
        }
        row.seq.store(seq, Ordering::Relaxed);
        if bug == Bug::DecidedByAStore {
            row.word.store(drawing.with(EntryState::Committed).0, Ordering::SeqCst);
        } else if !row.swap(drawing, EntryState::Committed) {
            return None; // entry/2: aborted by somebody
        }
        row.apply(seq);
        row.word.store(drawing.with(EntryState::Applied).0, Ordering::Release); // entry/3
        Some(seq)
    }

    /// The entry of a seat that may be undecided, as `gather::latest` finds it.
    fn latest(&self, seat: usize) -> Option<EntryWord> {
        let row = &self.seats[seat];
        let position = row.next_position.load(Ordering::SeqCst).checked_sub(1)?;
        Some(row.entry()).filter(|word| word.position() == position)
    }

    /// watermark/1.
    fn watermark(&self, bug: Bug) -> u64 {
        let bounds = || {
            let undecided = |seat: &usize| {
                self.latest(*seat).and_then(EntryWord::state) == Some(EntryState::Drawing)
            };
            let floor = |seat: usize| self.seats[seat].floor.load(Ordering::Relaxed);
            (0..2).filter(undecided).map(floor).min().unwrap_or(u64::MAX)
        };
        let counter = || self.commit_seq.load(Ordering::SeqCst);
        match bug {
            Bug::DrawingOverlooked => counter(),
            Bug::EntriesBeforeTheCounter => {
                let bound = bounds();
                bound.min(counter())
            }
            _ => {
                let counter = counter();
                counter.min(bounds())
            }
        }
    }

    /// The decided commits up to a position, as a gatherer collects them.
    fn collect(&self, upto: u64) -> Vec<u64> {
        let mut found = Vec::new();
        for row in &self.seats {
            let word = row.entry(); // entry/4
            if matches!(word.state(), Some(EntryState::Committed | EntryState::Applied)) {
                let seq = row.seq.load(Ordering::Relaxed);
                if seq <= upto {
                    found.push(seq);
                }
            }
        }
        found
    }

    /// role/1, role/4, and the aborts. Returns what the changer has seen decided.
    fn change_role(&self, bug: Bug) -> bool {
        let changing = primary().next(Role::Changing, EPOCH + 1).0;
        let order = (Ordering::SeqCst, Ordering::SeqCst);
        let swapped = self.role.compare_exchange(primary().0, changing, order.0, order.1);
        assert!(swapped.is_ok(), "nobody else changes it");
        if bug != Bug::CounterNotSwapped {
            self.commit_seq.fetch_add(0, Ordering::SeqCst);
        }
        let mut decided = false;
        if let Some(mut seen) = self.latest(0) {
            while seen.state() == Some(EntryState::Drawing) {
                if self.seats[0].swap(seen, EntryState::Aborted) {
                    break;
                }
                seen = self.seats[0].entry();
            }
            decided = matches!(seen.state(), Some(EntryState::Committed | EntryState::Applied));
        }
        decided
    }
}

/// What is gathered up to a watermark is all that will ever be decided up to it.
fn passes_over_nothing(committers: usize, bug: Bug) {
    let space = Arc::new(Space::new());
    let threads: Vec<_> =
        (0..committers).map(|seat| spawn(&space, move |space| space.commit(seat, bug))).collect();
    let upto = space.watermark(bug);
    let found = space.collect(upto);
    let seqs = threads.into_iter().map(|thread| thread.join().expect("it ends"));
    let mut seqs: Vec<u64> = seqs.flatten().collect();
    for seq in seqs.iter().filter(|&&seq| seq <= upto) {
        assert!(found.contains(seq), "{seq} was passed over at {upto}");
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=committers as u64).collect::<Vec<_>>(), "nobody aborts here");
    assert_eq!(space.watermark(bug), committers as u64, "all is decided");
}

#[test]
fn loom_the_watermark_passes_over_no_second_committer() {
    with_interruptions(2, || passes_over_nothing(2, Bug::None));
}

#[test]
fn loom_the_watermark_passes_over_nothing() {
    every_schedule(|| passes_over_nothing(1, Bug::None));
}

#[test]
#[should_panic(expected = "was passed over")]
fn loom_broken_announced_after_the_draw() {
    every_schedule(|| passes_over_nothing(1, Bug::AnnouncedAfterTheDraw));
}

#[test]
#[should_panic(expected = "was passed over")]
fn loom_broken_drawing_overlooked() {
    every_schedule(|| passes_over_nothing(1, Bug::DrawingOverlooked));
}

#[test]
#[should_panic(expected = "was passed over")]
fn loom_broken_entries_read_before_the_counter() {
    every_schedule(|| passes_over_nothing(1, Bug::EntriesBeforeTheCounter));
}

/// A gatherer gives up on an entry while its owner comes to the commit point: one of the two wins.
fn aborted_or_committed(bug: Bug) {
    every_schedule(move || {
        let space = Arc::new(Space::new());
        let committer = spawn(&space, move |space| space.commit(0, bug));
        let seen = space.latest(0).filter(|word| word.state() == Some(EntryState::Drawing));
        let aborted = seen.is_some_and(|word| space.seats[0].swap(word, EntryState::Aborted));
        let seq = committer.join().expect("it ends");
        assert!(aborted != seq.is_some(), "aborted {aborted}, committed {seq:?}");
        let slot = space.seats[0].slot.load(Ordering::SeqCst);
        assert_eq!(slot == after().0, seq.is_some(), "applied only if committed");
    });
}

#[test]
fn loom_a_stalled_entry_is_aborted_or_committed() {
    aborted_or_committed(Bug::None);
}

#[test]
#[should_panic(expected = "aborted true, committed Some")]
fn loom_broken_commit_point_without_a_swap() {
    aborted_or_committed(Bug::DecidedByAStore);
}

/// After a change of role nothing of the older one is decided any more.
fn nothing_commits_later(bug: Bug) {
    every_schedule(move || {
        let space = Arc::new(Space::new());
        let committer = spawn(&space, move |space| space.commit(0, bug));
        let decided = space.change_role(bug);
        let seq = committer.join().expect("it ends");
        assert!(seq.is_none() || decided, "committed after the change of role");
    });
}

#[test]
fn loom_nothing_commits_after_a_change_of_role() {
    nothing_commits_later(Bug::None);
}

#[test]
#[should_panic(expected = "committed after the change of role")]
fn loom_broken_change_of_role_without_a_swap_of_the_counter() {
    nothing_commits_later(Bug::CounterNotSwapped);
}

#[test]
#[should_panic(expected = "committed after the change of role")]
fn loom_broken_role_not_read_after_the_draw() {
    nothing_commits_later(Bug::RoleNotRead);
}

/// A committer that vanishes anywhere is finished or undone, and holds up nobody.
fn finished_or_undone(bug: Bug) {
    at_every_step(move |steps| {
        let space = Arc::new(Space::new());
        let victim =
            spawn(&space, move |space| vanishing(steps, || space.commit(0, Bug::None)).flatten());
        let upto = space.watermark(Bug::None);
        let found = space.collect(upto);
        victim.join().expect("it ends");
        let row = &space.seats[0];
        row.reap(bug);
        row.reap(bug); // a reaper that dies half-way is continued by the next
        let word = row.entry();
        let seq = row.seq.load(Ordering::SeqCst);
        let slot = row.slot.load(Ordering::SeqCst);
        match word.state() {
            Some(EntryState::Applied) => {
                assert_eq!(slot, after().0, "committed, so it is there");
                assert_eq!(row.last_seq.load(Ordering::SeqCst), seq);
                assert!(seq > upto || found.contains(&seq), "{seq} was passed over at {upto}");
            }
            Some(EntryState::Aborted | EntryState::Idle) => {
                assert_eq!(slot, claimed().0, "not committed, so nothing of it is there");
                assert_eq!(row.last_seq.load(Ordering::SeqCst), 0);
            }
            other => panic!("{other:?} after the reaper"),
        }
        let drawn = space.commit_seq.load(Ordering::SeqCst);
        assert_eq!(space.watermark(Bug::None), drawn, "nobody is held up");
    });
}

#[test]
fn loom_a_committer_that_vanishes_is_finished_or_undone() {
    finished_or_undone(Bug::None);
}

#[test]
#[should_panic(expected = "Some(Committed) after the reaper")]
fn loom_broken_reaper_that_does_not_finish() {
    finished_or_undone(Bug::CommittedNotFinished);
}

/// A change of role beside a committer that vanishes: it and the reaper agree on what was decided.
#[test]
fn loom_a_committer_that_vanishes_beside_a_change_of_role() {
    at_every_step(|steps| {
        let space = Arc::new(Space::new());
        let victim =
            spawn(&space, move |space| vanishing(steps, || space.commit(0, Bug::None)).flatten());
        let decided = space.change_role(Bug::None);
        victim.join().expect("it ends");
        space.seats[0].reap(Bug::None);
        let slot = space.seats[0].slot.load(Ordering::SeqCst);
        assert_eq!(slot == after().0, decided, "decided when the role had changed, or never");
    });
}

/// An entry that is used again is never read as the one that it was.
fn reused(writer: bool, reader: bool) {
    every_schedule(move || {
        let seat = Seat::new();
        let first = EntryWord::new(0, EntryState::Applied);
        seat.seq.store(1, Ordering::SeqCst);
        seat.word.store(first.0, Ordering::SeqCst);
        let seat = Arc::new(seat);
        let owner = spawn(&seat, move |seat| {
            let again = EntryWord::new(1, EntryState::Idle);
            seat.word.store(again.0, Ordering::Relaxed);
            if writer {
                fence(Ordering::Release); // reuse/1
            }
            seat.seq.store(2, Ordering::Relaxed);
        });
        if seat.entry() == first {
            let seq = seat.seq.load(Ordering::Relaxed);
            if reader {
                fence(Ordering::Acquire); // reuse/2
            }
            if EntryWord(seat.word.load(Ordering::Relaxed)).position() == 0 {
                assert_eq!(seq, 1, "another commit's seq");
            }
        }
        owner.join().expect("it ends");
    });
}

#[test]
fn loom_an_entry_used_again_is_noticed() {
    reused(true, true);
}

#[test]
#[should_panic(expected = "another commit's seq")]
fn loom_broken_reuse_without_the_owners_fence() {
    reused(false, true);
}

#[test]
#[should_panic(expected = "another commit's seq")]
fn loom_broken_reuse_without_the_readers_fence() {
    reused(true, false);
}
