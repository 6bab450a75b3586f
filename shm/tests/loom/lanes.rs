//! The ring of hints: the crate's own source.

use loom::sync::Arc;

use crate::door::{
    AtomicU64, Ordering, at_every_step, end, every_schedule, spawn, vanishing, with_interruptions,
};
use crate::ring::Ring;

pub(crate) struct Lane {
    head: AtomicU64,
    tail: AtomicU64,
    cells: [AtomicU64; 2],
}

impl Lane {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { head: zero(), tail: zero(), cells: [zero(), zero()] }
    }

    pub(crate) fn ring(&self) -> Ring<'_> {
        Ring::new(&self.head, &self.tail, &self.cells)
    }

    /// Used once: the next two hints lie in two laps.
    fn used() -> Self {
        let lane = Self::new();
        lane.ring().push(9).expect("an empty ring has room");
        assert_eq!(lane.ring().pop(), Some(9));
        lane
    }

    fn drain(&self) -> Vec<u32> {
        std::iter::from_fn(|| self.ring().pop()).collect()
    }
}

#[test]
fn loom_each_hint_comes_out_once() {
    with_interruptions(3, || {
        let lane = Arc::new(Lane::used());
        let pushers = [1, 2].map(|hint| spawn(&lane, move |lane| lane.ring().push(hint).is_ok()));
        let mut out: Vec<u32> = lane.ring().pop().into_iter().collect();
        for pusher in pushers {
            assert!(pusher.join().expect("it ends"), "there is room for two");
        }
        out.extend(lane.drain());
        out.sort_unstable();
        assert_eq!(out, [1, 2], "lost or doubled");
        assert!(lane.ring().is_empty());
    });
}

/// A pop that misses a hint is no loss if whoever pushed it rings afterwards. A push that is done is found.
#[test]
fn loom_what_is_pushed_is_found_by_two_takers() {
    with_interruptions(3, || {
        let lane = Arc::new(Lane::used());
        lane.ring().push(1).expect("room for two");
        lane.ring().push(2).expect("room for two");
        let takers = [(); 2].map(|()| spawn(&lane, |lane| lane.ring().pop()));
        let mut out = end(takers);
        out.sort_unstable();
        assert_eq!(out, [Some(1), Some(2)], "lost or doubled");
    });
}

#[test]
fn loom_a_pusher_that_vanishes_blocks_nobody() {
    at_every_step(|steps| {
        let lane = Arc::new(Lane::used());
        let victim = spawn(&lane, move |lane| vanishing(steps, || lane.ring().push(1).is_ok()));
        lane.ring().push(2).expect("there is room for two");
        victim.join().expect("it ends");
        let out = lane.drain();
        let count = |hint| out.iter().filter(|&&other| other == hint).count();
        assert_eq!(count(2), 1, "a living pusher's hint: {out:?}");
        assert!(count(1) <= 1 && out.len() <= 2, "{out:?}");
        lane.ring().push(3).expect("an empty ring has room");
        assert_eq!(lane.drain(), [3]);
    });
}

#[test]
fn loom_a_taker_that_vanishes_loses_one_hint_at_most() {
    at_every_step(|steps| {
        let lane = Arc::new(Lane::used());
        lane.ring().push(1).expect("room for two");
        lane.ring().push(2).expect("room for two");
        let victim = spawn(&lane, move |lane| vanishing(steps, || lane.ring().pop()));
        let mut out: Vec<u32> = lane.ring().pop().into_iter().collect();
        let taken = victim.join().expect("it ends").flatten();
        out.extend(taken);
        out.extend(lane.drain());
        out.sort_unstable();
        let whole = out == [1, 2];
        assert!(whole || taken.is_none() && (out == [1] || out == [2]), "{out:?}");
    });
}

/// A ring whose cells are filled by a store, once they were seen empty.
#[test]
#[should_panic(expected = "lost or doubled")]
fn loom_broken_cells_filled_by_a_store() {
    fn push(lane: &Lane, hint: u32) {
        let tail = lane.tail.load(Ordering::Relaxed);
        let cell = &lane.cells[tail as usize % 2];
        let seen = cell.load(Ordering::SeqCst);
        cell.store(seen | (u64::from(hint) + 1), Ordering::SeqCst);
        lane.tail.store(tail + 1, Ordering::Relaxed);
    }
    every_schedule(|| {
        let lane = Arc::new(Lane::used());
        let pushers = [1, 2].map(|hint| spawn(&lane, move |lane| push(lane, hint)));
        end(pushers);
        let mut out = lane.drain();
        out.sort_unstable();
        assert_eq!(out, [1, 2], "lost or doubled");
    });
}
