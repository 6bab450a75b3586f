//! The flight recorder: the crate's own source, with two words of contents that belong together.

use std::sync::atomic::{AtomicU64 as Plain, Ordering as PlainOrdering};

use loom::sync::Arc;

use crate::door::{AtomicU64, at_every_step, end, spawn, vanishing, with_interruptions};
use crate::recorder::{Record, append};

struct Recorder {
    next: AtomicU64,
    ring: [Record<2>; 1],
}

impl Recorder {
    fn new() -> Arc<Self> {
        Arc::new(Self { next: AtomicU64::new(0), ring: [Record::new()] })
    }

    /// Both words of the contents say the same: a torn record would not.
    fn note(&self, value: u64) -> bool {
        append(&self.next, &self.ring, value as u32, &[value; 2], |_| false)
    }

    fn newest(&self) -> Option<(u64, u64)> {
        let seen = self.ring[0].read()?;
        let [one, other] = seen.contents;
        assert_eq!(one, other, "torn, and believed");
        assert_eq!(u64::from(seen.process), one, "the contents of another");
        Some((seen.position, one))
    }
}

/// A record is overwritten while it is read: the reader has the old one, the new one, or none.
#[test]
fn loom_no_torn_record_is_believed() {
    with_interruptions(4, || {
        let recorder = Recorder::new();
        assert!(recorder.note(1));
        let writer = spawn(&recorder, |recorder| recorder.note(2));
        if let Some((position, value)) = recorder.newest() {
            assert_eq!(position, value);
        }
        assert!(writer.join().expect("it ends"), "nobody else writes");
        assert_eq!(recorder.newest(), Some((2, 2)));
    });
}

/// Two writers and one place: what stands there in the end is whole, of one of them, and nobody waits.
#[test]
fn loom_two_writers_share_a_place() {
    with_interruptions(3, || {
        let recorder = Recorder::new();
        let writers = [1, 2].map(|value| spawn(&recorder, move |recorder| recorder.note(value)));
        recorder.newest();
        let wrote = end(writers);
        let newest = recorder.newest();
        assert!(wrote[0] || wrote[1], "one of them has found its place");
        assert!(newest.is_some_and(|(_, value)| wrote[value as usize - 1]), "{newest:?}");
    });
}

/// A writer vanishes after any of its accesses: what it leaves open is not read, and written again once it is known to be dead.
#[test]
fn loom_a_dead_writer_costs_one_record() {
    at_every_step(|steps| {
        let recorder = Recorder::new();
        let victim = spawn(&recorder, move |recorder| vanishing(steps, || recorder.note(1)));
        recorder.newest();
        let lived = victim.join().expect("it ends").is_some();
        let asked = Plain::new(0);
        let wrote = append(&recorder.next, &recorder.ring, 2, &[2; 2], |pid| {
            asked.fetch_add(1, PlainOrdering::Relaxed);
            pid == 1
        });
        assert!(wrote, "the place of the dead is free");
        assert!(!lived || asked.into_inner() == 0, "nothing is open of who lived");
        assert_eq!(recorder.newest().map(|(_, value)| value), Some(2));
    });
}

/// Two writers of which each takes the other for dead.
#[test]
#[should_panic(expected = "the contents of another")]
fn loom_broken_where_the_living_are_taken_for_dead() {
    with_interruptions(4, || {
        let recorder = Recorder::new();
        let writers = [1, 2].map(|value| {
            spawn(&recorder, move |recorder| {
                append(&recorder.next, &recorder.ring, value as u32, &[value; 2], |_| true)
            })
        });
        end(writers);
        recorder.newest();
    });
}
