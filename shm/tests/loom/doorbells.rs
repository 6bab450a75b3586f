//! Doorbells: a sleeper and a ringer never miss each other. Modelled after `bell.rs`.

use loom::sync::Arc;

use crate::door::{AtomicU64, Ordering, end, every_schedule, spawn, with_interruptions};
use crate::lanes::Lane;

const AWAKE: u64 = 0;
const ASLEEP: u64 = 1;

struct Door {
    bits: AtomicU64,
    /// Per sleeper.
    states: [AtomicU64; 2],
    lane: Lane,
    released: AtomicU64,
}

impl Door {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { bits: zero(), states: [zero(), zero()], lane: Lane::new(), released: zero() }
    }

    /// bell/1, bell/2.
    fn arm(&self, seat: usize) {
        self.states[seat].store(ASLEEP, Ordering::SeqCst);
        self.bits.fetch_or(1 << seat, Ordering::SeqCst);
    }

    /// bell/4: wakes one sleeper, if there is one.
    fn ring(&self) {
        let mut asleep = self.bits.load(Ordering::SeqCst);
        while asleep != 0 {
            let seat = asleep.trailing_zeros() as usize;
            let before = self.bits.fetch_and(!(1 << seat), Ordering::SeqCst);
            if before >> seat & 1 == 1 && self.states[seat].swap(AWAKE, Ordering::SeqCst) == ASLEEP
            {
                return;
            }
            asleep = before & !(1 << seat);
        }
    }

    fn is_awake(&self, seat: usize) -> bool {
        self.states[seat].load(Ordering::SeqCst) == AWAKE
    }
}

/// One sleeper; `thing` happens and is rung for; `look` is the sleeper's second look.
fn one_sleeper(thing: fn(&Door), look: fn(&Door) -> bool) {
    every_schedule(move || {
        let door = Arc::new(Door::new());
        let sleeper = spawn(&door, move |door| {
            door.arm(0);
            look(door)
        });
        thing(&door);
        door.ring();
        let found = sleeper.join().expect("it ends");
        assert!(found || door.is_awake(0), "a lost wake-up");
    });
}

fn push(door: &Door) {
    door.lane.ring().push(7).expect("room for two");
}

fn release(door: &Door, order: Ordering) {
    door.released.fetch_max(1, order);
}

#[test]
fn loom_a_hint_wakes_or_is_seen() {
    one_sleeper(push, |door| !door.lane.ring().is_empty());
}

#[test]
fn loom_what_is_released_wakes_or_is_seen() {
    one_sleeper(
        |door| release(door, Ordering::SeqCst),
        |door| door.released.load(Ordering::SeqCst) == 1,
    );
}

/// What the bell is rung for must be SeqCst as well: the bits alone do not carry it.
#[test]
#[should_panic(expected = "a lost wake-up")]
fn loom_broken_released_with_acquire_and_release() {
    one_sleeper(
        |door| release(door, Ordering::AcqRel),
        |door| door.released.load(Ordering::Acquire) == 1,
    );
}

#[test]
#[should_panic(expected = "a lost wake-up")]
fn loom_broken_without_a_second_look() {
    one_sleeper(push, |_| false);
}

/// Two hints, two ringers, two sleepers: whoever sleeps on has been left nothing.
#[test]
fn loom_two_ringers_wake_for_two_hints() {
    with_interruptions(3, || {
        let door = Arc::new(Door::new());
        let ringers = [1, 2].map(|hint| {
            spawn(&door, move |door| {
                door.lane.ring().push(hint).expect("room for two");
                door.ring();
            })
        });
        door.arm(0);
        let found = !door.lane.ring().is_empty();
        end(ringers);
        assert!(found || door.is_awake(0), "a lost wake-up");
        assert!(!door.lane.ring().is_empty());
    });
}

#[test]
fn loom_one_of_two_sleepers_wakes() {
    with_interruptions(3, || {
        let door = Arc::new(Door::new());
        let sleepers = [0, 1].map(|seat| {
            spawn(&door, move |door| {
                door.arm(seat);
                door.released.load(Ordering::SeqCst) == 1
            })
        });
        door.released.fetch_max(1, Ordering::SeqCst);
        door.ring();
        let found = end(sleepers);
        let served = (0..2).any(|seat| found[seat] || door.is_awake(seat));
        assert!(served, "a lost wake-up");
    });
}
