//! The objects' timers, as the node knows them: a hint over what the region holds.
//!
//! ```text
//!   wanted[slot]   the deadline of the slot's last change; 0: none
//!   queued[slot]   the deadline under which the slot stands in the heap; 0: it does not
//! ```
//!
//! A slot stands in the heap about once: a deadline that moves away is found out when the old one
//! comes, one that moves nearer is queued anew and the older entry is skipped. So an object that is
//! changed a thousand times a second, each time with a timer of half a minute, costs one entry.
//! What is missed here costs the time between two looks of the sweeper.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Deadlines by slot, in monotonic nanoseconds of this host.
#[derive(Debug)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    wanted: Vec<u64>,
    queued: Vec<u64>,
}

impl Timers {
    pub(super) fn new(slots: u32) -> Self {
        let slots = slots as usize;
        Self {
            heap: BinaryHeap::with_capacity(slots),
            wanted: vec![0; slots],
            queued: vec![0; slots],
        }
    }

    /// Notes what a change of the slot says about its timer.
    pub(super) fn note(&mut self, slot: u32, deadline: Option<u64>) {
        let at = slot as usize;
        let Some(wanted) = self.wanted.get_mut(at) else { return };
        *wanted = deadline.unwrap_or(0);
        let queued = self.queued[at];
        if *wanted != 0 && (queued == 0 || *wanted < queued) {
            self.queued[at] = *wanted;
            self.heap.push(Reverse((*wanted, slot)));
        }
    }

    /// Forgets everything: the region was emptied.
    pub(super) fn clear(&mut self) {
        self.heap.clear();
        self.wanted.fill(0);
        self.queued.fill(0);
    }

    /// When to look again, at the latest.
    pub(super) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// A slot whose timer is due. Call until `None`.
    pub(super) fn due(&mut self, now: u64) -> Option<u32> {
        while let Some(&Reverse((deadline, slot))) = self.heap.peek() {
            if deadline > now {
                return None;
            }
            self.heap.pop();
            let at = slot as usize;
            if self.queued[at] != deadline {
                continue; // it was queued again for an earlier time
            }
            self.queued[at] = 0;
            let wanted = self.wanted[at];
            if wanted == 0 {
                continue;
            }
            if wanted <= now {
                self.wanted[at] = 0;
                return Some(slot);
            }
            self.queued[at] = wanted;
            self.heap.push(Reverse((wanted, slot)));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_at(timers: &mut Timers, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| timers.due(now)).collect()
    }

    #[test]
    fn a_timer_fires_once_when_it_is_due() {
        let mut timers = Timers::new(4);
        timers.note(2, Some(20));
        timers.note(1, Some(10));
        assert_eq!(timers.next(), Some(10));
        assert!(due_at(&mut timers, 9).is_empty());
        assert_eq!(due_at(&mut timers, 20), [1, 2]);
        assert!(due_at(&mut timers, 100).is_empty());
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_timer_that_moves_fires_where_it_is_last() {
        #[rustfmt::skip]
        type Case<'c> = (&'c str, &'c [Option<u64>], Option<u64>);
        #[rustfmt::skip]
        let cases: [Case<'_>; 6] = [
            ("away",            &[Some(10), Some(30)],           Some(30)),
            ("nearer",          &[Some(30), Some(10)],           Some(10)),
            ("away and back",   &[Some(10), Some(30), Some(10)], Some(10)),
            ("nearer and back", &[Some(30), Some(10), Some(30)], Some(30)),
            ("cleared",         &[Some(10), None],               None),
            ("cleared and set", &[Some(10), None, Some(20)],     Some(20)),
        ];
        for (why, notes, fires) in cases {
            let mut timers = Timers::new(1);
            for note in notes {
                timers.note(0, *note);
            }
            let fired: Vec<u64> = (0..50).filter(|now| timers.due(*now).is_some()).collect();
            assert_eq!(fired, fires.into_iter().collect::<Vec<_>>(), "{why}");
        }
    }

    #[test]
    fn an_object_that_changes_often_does_not_grow_the_heap() {
        let mut timers = Timers::new(2);
        for now in 0..10_000 {
            timers.note(0, Some(now + 1_000));
            assert_eq!(timers.due(now), None);
            assert!(timers.heap.len() <= 2);
        }
    }

    #[test]
    fn a_slot_that_does_not_exist_is_ignored() {
        let mut timers = Timers::new(1);
        timers.note(7, Some(1));
        assert_eq!(timers.due(10), None);
    }
}
