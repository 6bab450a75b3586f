//! Atomics as loom has them, and a thread that vanishes: killed between two of its accesses.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64 as Modelled;
pub(crate) use loom::sync::atomic::{Ordering, fence};

loom::thread_local! {
    /// Accesses that this thread may still make.
    static LEFT: Cell<u32> = Cell::new(u32::MAX);
}

std::thread_local! {
    /// Whether a thread vanished in any schedule since this was looked at last.
    static VANISHED: Cell<bool> = const { Cell::new(false) };
}

/// What a vanishing thread unwinds with.
struct Vanished;

/// Runs `body` up to its `steps`th access; `None` if it had more.
pub(crate) fn vanishing<T>(steps: u32, body: impl FnOnce() -> T) -> Option<T> {
    LEFT.with(|left| left.set(steps));
    let result = catch_unwind(AssertUnwindSafe(body));
    LEFT.with(|left| left.set(u32::MAX));
    match result {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Vanished>() => {
            VANISHED.set(true);
            None
        }
        Err(payload) => resume_unwind(payload),
    }
}

/// Checks every schedule of a model of two threads.
pub(crate) fn every_schedule(model: impl Fn() + Send + Sync + 'static) {
    check(None, model);
}

/// Checks the schedules of a model of three threads in which a running thread is interrupted so often at most:
/// all of them are too many.
pub(crate) fn with_interruptions(most: usize, model: impl Fn() + Send + Sync + 'static) {
    check(Some(most), model);
}

/// Checks a model with a victim that vanishes before its first access, before its second, and so on, until it
/// has no more: each time the schedules with four interruptions at most.
pub(crate) fn at_every_step(model: impl Fn(u32) + Copy + Send + Sync + 'static) {
    for steps in 0.. {
        VANISHED.set(false);
        check(Some(4), move || model(steps));
        if !VANISHED.get() {
            assert!(
                steps > 2,
                "the victim made {steps} accesses: has it the atomics of this door?"
            );
            return;
        }
    }
}

fn check(interruptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = interruptions;
    builder.check(model);
}

/// Starts a thread of a model on a shared state.
pub(crate) fn spawn<S: 'static, T: 'static>(
    state: &Arc<S>,
    body: impl FnOnce(&S) -> T + 'static,
) -> loom::thread::JoinHandle<T> {
    let state = state.clone();
    loom::thread::spawn(move || body(&state))
}

/// Waits for the threads of a model.
pub(crate) fn end<T, const N: usize>(threads: [loom::thread::JoinHandle<T>; N]) -> [T; N] {
    threads.map(|thread| thread.join().expect("it ends"))
}

pub(crate) struct AtomicU64 {
    word: Modelled,
    /// Loom remembers of each atomic the last access alone, and so overlooks that a write races with a read if
    /// the writer has read in between. Before each access there is one that all others of the word depend
    /// on: a swap that never succeeds, so that it orders nothing but the schedules.
    turn: Modelled,
}

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        let word = Modelled::new(value);
        // Loom believes that a SeqCst load may read an older store unless both were SeqCst: a false alarm.
        word.store(value, Ordering::SeqCst);
        Self { word, turn: Modelled::new(0) }
    }

    /// One more access of this thread, unless it vanishes here.
    fn word(&self) -> &Modelled {
        LEFT.with(|left| match left.get() {
            u32::MAX => {}
            0 => resume_unwind(Box::new(Vanished)),
            more => left.set(more - 1),
        });
        let never = self.turn.compare_exchange(1, 1, Ordering::Relaxed, Ordering::Relaxed);
        assert!(never.is_err(), "it is always zero");
        &self.word
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.word().load(order)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.word().store(value, order);
    }

    pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.word().swap(value, order)
    }

    pub(crate) fn compare_exchange(
        &self,
        expected: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.word().compare_exchange(expected, new, success, failure)
    }

    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.word().fetch_add(value, order)
    }

    pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.word().fetch_or(value, order)
    }

    pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.word().fetch_and(value, order)
    }

    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.word().fetch_max(value, order)
    }
}
