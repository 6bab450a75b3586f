//! Look again: a message and an object that becomes idle never miss each other. Modelled after `ready.rs`,
//! `inbox.rs`, `claim.rs` and `tx.rs`, with the crate's own words and lane.

use loom::sync::Arc;

use crate::door::{
    AtomicU64, Ordering, at_every_step, end, every_schedule, spawn, vanishing, with_interruptions,
};
use crate::lanes::Lane;
use crate::words::{InboxWord, SlotState, SlotWord};

const ME: u8 = 1;
const SLOT: u32 = 0;

/// One object, its inbox, and its lane. Messages 0 and 1 are blocks.
struct Object {
    slot: AtomicU64,
    inbox: AtomicU64,
    lane: Lane,
    /// Per message, what its header says: the next older one plus one, and a payload.
    next: [AtomicU64; 2],
    payload: [AtomicU64; 2],
}

impl Object {
    fn new(state: SlotState) -> Self {
        let owner = if state == SlotState::Claimed { ME } else { 0 };
        let lane = Lane::new();
        if state == SlotState::Queued {
            lane.ring().push(SLOT).expect("room for two");
        }
        let zero = || AtomicU64::new(0);
        Self {
            slot: AtomicU64::new(SlotWord::new(state, owner, None, 1).0),
            inbox: AtomicU64::new(InboxWord::new(1, false, 0, None).0),
            lane,
            next: [zero(), zero()],
            payload: [zero(), zero()],
        }
    }

    fn word(&self) -> SlotWord {
        SlotWord(self.slot.load(Ordering::SeqCst))
    }

    fn head(&self) -> InboxWord {
        InboxWord(self.inbox.load(Ordering::SeqCst))
    }

    fn has_work(&self) -> bool {
        self.head().newest().is_some()
    }

    fn swap_slot(&self, seen: SlotWord, state: SlotState, owner: u8) -> bool {
        let next = seen.next(state, owner, None);
        self.slot.compare_exchange(seen.0, next.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// ready/1.
    fn look_again(&self) {
        loop {
            let word = self.word();
            if !word.is(SlotState::Idle) || !self.has_work() {
                return;
            }
            if self.swap_slot(word, SlotState::Queued, 0) {
                self.lane.ring().push(SLOT).expect("room for two");
                return;
            }
        }
    }

    /// inbox/1, ready/2 if the order is SeqCst.
    fn link(&self, message: u32, order: Ordering) {
        let at = message as usize;
        self.payload[at].store(7, Ordering::Relaxed);
        loop {
            let head = InboxWord(self.inbox.load(Ordering::Relaxed));
            let next = head.newest().map_or(0, |older| u64::from(older) + 1);
            self.next[at].store(next, Ordering::Relaxed);
            let pushed = head.with(false, head.depth() + 1, Some(message)).0;
            if self.inbox.compare_exchange(head.0, pushed, order, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    fn push(&self, message: u32) {
        self.link(message, Ordering::SeqCst);
        self.look_again();
    }

    /// ready/3 if the order is SeqCst: the owner's store, then its look.
    fn commit(&self, order: Ordering) {
        let claimed = SlotWord(self.slot.load(Ordering::Relaxed));
        self.slot.store(claimed.next(SlotState::Idle, 0, None).0, order);
        self.look_again();
    }

    /// ready/3.
    fn give_back(&self) {
        let claimed = SlotWord(self.slot.load(Ordering::Relaxed));
        assert!(self.swap_slot(claimed, SlotState::Idle, 0), "nobody swaps a living owner's word");
        self.look_again();
    }

    /// A worker takes a hint and claims; if the object has nothing to do it lets go of both.
    fn take_hint(&self, look: bool) {
        if self.lane.ring().pop().is_none() {
            return;
        }
        let seen = self.word();
        let ready = match seen.state() {
            Some(SlotState::Ready) => true,
            Some(SlotState::Idle | SlotState::Queued) => self.has_work(),
            _ => false,
        };
        if ready {
            self.swap_slot(seen, SlotState::Claimed, ME);
        } else if seen.is(SlotState::Queued) {
            self.swap_slot(seen, SlotState::Idle, 0);
            if look {
                self.look_again();
            }
        }
    }

    /// What a sweep does in the end for an object whose hint has not come.
    fn sweep(&self) {
        let word = self.word();
        if word.is(SlotState::Idle) {
            self.look_again();
        } else if (word.is(SlotState::Queued) || word.is(SlotState::Ready))
            && self.lane.ring().is_empty()
        {
            self.lane.ring().push(SLOT).expect("room for two");
        }
    }

    /// A waiting message is in somebody's hands, or a hint leads to it.
    fn check_offered(&self) {
        let word = self.word();
        if !self.has_work() || word.is(SlotState::Claimed) {
            return;
        }
        let queued = word.is(SlotState::Queued) || word.is(SlotState::Ready);
        assert!(queued && self.lane.ring().pop() == Some(SLOT), "a lost message: {word:?}");
    }
}

/// `other` beside the push of a message.
fn beside_a_push(state: SlotState, other: fn(&Object)) {
    every_schedule(move || {
        let object = Arc::new(Object::new(state));
        let pusher = spawn(&object, |object| object.push(0));
        other(&object);
        pusher.join().expect("it ends");
        object.check_offered();
    });
}

#[test]
fn loom_a_message_beside_a_commit() {
    beside_a_push(SlotState::Claimed, |object| object.commit(Ordering::SeqCst));
}

#[test]
fn loom_a_message_beside_a_claim_given_back() {
    beside_a_push(SlotState::Claimed, Object::give_back);
}

#[test]
fn loom_a_message_beside_a_stale_hint() {
    beside_a_push(SlotState::Queued, |object| object.take_hint(true));
}

#[test]
fn loom_a_message_beside_another() {
    beside_a_push(SlotState::Idle, |object| object.push(1));
}

#[test]
fn loom_two_messages_beside_a_commit() {
    with_interruptions(3, || {
        let object = Arc::new(Object::new(SlotState::Claimed));
        let pushers = [0, 1].map(|message| spawn(&object, move |object| object.push(message)));
        object.commit(Ordering::SeqCst);
        end(pushers);
        object.check_offered();
    });
}

/// Whoever reads the head reads every message behind it (inbox/1, inbox/2).
fn chain_is_whole(order: Ordering) {
    every_schedule(move || {
        let object = Arc::new(Object::new(SlotState::Claimed));
        let pushers =
            [0, 1].map(|message| spawn(&object, move |object| object.link(message, order)));
        let head = object.head();
        let (mut at, mut length) = (head.newest(), 0);
        while let Some(message) = at {
            length += 1;
            let payload = object.payload[message as usize].load(Ordering::Relaxed);
            assert_eq!(payload, 7, "a message before its payload");
            let next = object.next[message as usize].load(Ordering::Relaxed);
            at = (next as u32).checked_sub(1);
        }
        assert_eq!(length, head.depth(), "a chain before its links");
        end(pushers);
    });
}

#[test]
fn loom_the_chain_behind_a_head_is_whole() {
    chain_is_whole(Ordering::SeqCst);
}

#[test]
#[should_panic(expected = "a message before its payload")]
fn loom_broken_messages_pushed_with_relaxed() {
    chain_is_whole(Ordering::Relaxed);
}

fn a_pusher_vanishes(swept: bool) {
    at_every_step(move |steps| {
        let object = Arc::new(Object::new(SlotState::Claimed));
        let victim = spawn(&object, move |object| vanishing(steps, || object.push(0)));
        object.commit(Ordering::SeqCst);
        if victim.join().expect("it ends").is_none() && swept {
            object.sweep();
        }
        object.check_offered();
    });
}

#[test]
fn loom_a_pusher_that_vanishes_is_swept_after() {
    a_pusher_vanishes(true);
}

#[test]
#[should_panic(expected = "a lost message")]
fn loom_broken_without_a_sweep() {
    a_pusher_vanishes(false);
}

#[test]
fn loom_a_committer_that_vanishes_is_reaped() {
    at_every_step(|steps| {
        let object = Arc::new(Object::new(SlotState::Claimed));
        let victim =
            spawn(&object, move |object| vanishing(steps, || object.commit(Ordering::SeqCst)));
        object.push(0);
        if victim.join().expect("it ends").is_none() {
            let word = object.word();
            if word.is(SlotState::Claimed) {
                // The reaper offers it whatever the inbox holds.
                assert!(object.swap_slot(word, SlotState::Ready, 0));
                object.lane.ring().push(SLOT).expect("room for two");
            }
            object.sweep();
        }
        object.check_offered();
    });
}

#[test]
#[should_panic(expected = "a lost message")]
fn loom_broken_commit_without_a_look() {
    beside_a_push(SlotState::Claimed, |object| {
        let claimed = object.word();
        object.slot.store(claimed.next(SlotState::Idle, 0, None).0, Ordering::SeqCst);
    });
}

#[test]
#[should_panic(expected = "a lost message")]
fn loom_broken_commit_with_a_release_store() {
    beside_a_push(SlotState::Claimed, |object| object.commit(Ordering::Release));
}

#[test]
#[should_panic(expected = "a lost message")]
fn loom_broken_stale_hint_without_a_look() {
    beside_a_push(SlotState::Queued, |object| object.take_hint(false));
}
