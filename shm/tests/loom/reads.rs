//! Reading what one does not own: a word, what stands under it, the word again; and copies that bear a seq.
//! The second look is the crate's own source; the rest is modelled after `pool.rs` and `inspect.rs`.

use loom::sync::Arc;

use crate::door::{AtomicU64, Ordering, every_schedule, fence, spawn};
use crate::sync::unchanged;
use crate::words::{EntryState, EntryWord, SlotState, SlotWord};

struct Row {
    word: AtomicU64,
    /// What stands in the row, or in the block that its word names: two parts that belong together.
    parts: [AtomicU64; 2],
}

/// A row gets another owner, who writes it; a reader believes what it read if the word stood still.
fn nothing_torn_is_believed(writer: bool, look: fn(&AtomicU64, u64) -> bool) {
    every_schedule(move || {
        let before = SlotWord::new(SlotState::Idle, 0, None, 1);
        let row = Arc::new(Row {
            word: AtomicU64::new(before.0),
            parts: [AtomicU64::new(10), AtomicU64::new(10)],
        });
        let owner = spawn(&row, move |row| {
            let mine = before.next(SlotState::Reserved, 1, None);
            let order = (Ordering::AcqRel, Ordering::Relaxed);
            let taken = row.word.compare_exchange(before.0, mine.0, order.0, order.1);
            assert!(taken.is_ok(), "nobody else wants it");
            if writer {
                fence(Ordering::Release); // racy/1
            }
            row.parts.iter().for_each(|part| part.store(11, Ordering::Relaxed));
            row.word.store(mine.next(SlotState::Idle, 0, None).0, Ordering::Release);
        });
        let seen = SlotWord(row.word.load(Ordering::Acquire));
        if seen.is(SlotState::Idle) {
            let read = [0, 1].map(|at| row.parts[at].load(Ordering::Relaxed));
            if look(&row.word, seen.0) {
                let right = if seen == before { 10 } else { 11 };
                assert_eq!(read, [right; 2], "torn, and believed");
            }
        }
        owner.join().expect("it ends");
    });
}

#[test]
fn loom_nothing_torn_is_believed() {
    nothing_torn_is_believed(true, unchanged);
}

#[test]
#[should_panic(expected = "torn, and believed")]
fn loom_broken_without_the_writers_fence() {
    nothing_torn_is_believed(false, unchanged);
}

#[test]
#[should_panic(expected = "torn, and believed")]
fn loom_broken_second_look_with_acquire_alone() {
    nothing_torn_is_believed(true, |word, seen| word.load(Ordering::Acquire) == seen);
}

struct Slot {
    entry: AtomicU64,
    word: AtomicU64,
    last_seq: AtomicU64,
}

/// A committer decides, raises the slot's seq and changes the slot; a copier reads seq, word and entry.
fn a_copy_has_what_its_seq_says(through_the_entry: bool) {
    every_schedule(move || {
        let drawing = EntryWord::new(0, EntryState::Drawing);
        let claimed = SlotWord::new(SlotState::Claimed, 1, Some(1), 1);
        let after = claimed.next(SlotState::Idle, 0, Some(2));
        let slot = Arc::new(Slot {
            entry: AtomicU64::new(drawing.0),
            word: AtomicU64::new(claimed.0),
            last_seq: AtomicU64::new(1),
        });
        let committer = spawn(&slot, move |slot| {
            let decided = drawing.with(EntryState::Committed).0;
            let order = (Ordering::SeqCst, Ordering::SeqCst);
            let swapped = slot.entry.compare_exchange(drawing.0, decided, order.0, order.1);
            assert!(swapped.is_ok(), "nobody aborts it");
            slot.last_seq.store(2, Ordering::Release); // last_seq/1
            slot.word.store(after.0, Ordering::Release);
            slot.entry.store(drawing.with(EntryState::Applied).0, Ordering::Release);
        });
        let seq = slot.last_seq.load(Ordering::Acquire); // last_seq/2
        let seen = SlotWord(slot.word.load(Ordering::Acquire));
        let mut word = seen;
        if through_the_entry && seen == claimed {
            let entry = EntryWord(slot.entry.load(Ordering::SeqCst)); // entry/4
            if entry.state() == Some(EntryState::Committed) {
                word = after;
            }
        }
        if unchanged(&slot.word, seen.0) {
            let newest = if word.block() == Some(2) { 2 } else { 1 };
            assert!(newest >= seq, "the value of {newest} under the seq {seq}");
        }
        committer.join().expect("it ends");
    });
}

#[test]
fn loom_a_copy_has_what_its_seq_says() {
    a_copy_has_what_its_seq_says(true);
}

#[test]
#[should_panic(expected = "the value of 1 under the seq 2")]
fn loom_broken_copy_of_the_word_alone() {
    a_copy_has_what_its_seq_says(false);
}

struct Read {
    slot: AtomicU64,
    commit_seq: AtomicU64,
    readers: AtomicU64,
    hazard: AtomicU64,
    /// What stands in block 1.
    block: AtomicU64,
}

/// Which step of reading in place is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    ReadersFence,
    OwnersFence,
    RegistrationSwap,
    NextDraw,
}

/// A value is read in place by one process for the first time, while its owner replaces it, and uses its block again
/// after its next draw.
fn nothing_is_used_again_while_it_is_read(without: Without) {
    every_schedule(move || {
        let state = Arc::new(Read {
            slot: AtomicU64::new(1),
            commit_seq: AtomicU64::new(1),
            readers: AtomicU64::new(0),
            hazard: AtomicU64::new(0),
            block: AtomicU64::new(10),
        });
        let owner = spawn(&state, move |state| {
            state.slot.store(2, Ordering::Release); // slot/1
            if without != Without::NextDraw {
                state.commit_seq.fetch_add(1, Ordering::SeqCst); // draw/1
            }
            let mut free = state.readers.load(Ordering::Acquire) == 0; // hazard/4
            if !free {
                if without != Without::OwnersFence {
                    fence(Ordering::SeqCst); // hazard/2
                }
                free = state.hazard.load(Ordering::Acquire) != 1;
            }
            if free {
                state.block.store(11, Ordering::Relaxed);
            }
        });
        state.readers.fetch_or(1, Ordering::SeqCst); // hazard/3
        if without != Without::RegistrationSwap {
            state.commit_seq.fetch_add(0, Ordering::SeqCst);
        }
        state.hazard.store(1, Ordering::Relaxed);
        if without != Without::ReadersFence {
            fence(Ordering::SeqCst); // hazard/1
        }
        if state.slot.load(Ordering::SeqCst) == 1 {
            assert_eq!(state.block.load(Ordering::Relaxed), 10, "used again while it is read");
        }
        state.hazard.store(0, Ordering::Release); // hazard/5
        owner.join().expect("it ends");
    });
}

#[test]
fn loom_nothing_is_used_again_while_it_is_read() {
    nothing_is_used_again_while_it_is_read(Without::Nothing);
}

#[test]
#[should_panic(expected = "used again while it is read")]
fn loom_broken_without_the_readers_fence() {
    nothing_is_used_again_while_it_is_read(Without::ReadersFence);
}

#[test]
#[should_panic(expected = "used again while it is read")]
fn loom_broken_without_the_owners_fence() {
    nothing_is_used_again_while_it_is_read(Without::OwnersFence);
}

#[test]
#[should_panic(expected = "used again while it is read")]
fn loom_broken_without_the_swap_of_a_first_reader() {
    nothing_is_used_again_while_it_is_read(Without::RegistrationSwap);
}

#[test]
#[should_panic(expected = "used again while it is read")]
fn loom_broken_use_again_before_the_next_draw() {
    nothing_is_used_again_while_it_is_read(Without::NextDraw);
}
