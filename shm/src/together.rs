//! Reading several objects at one instant of the commit order, without claiming them.

use crate::also::OTHERS_PER_CLAIM;
use crate::index::{self, Lookup};
use crate::map::Map;
use crate::region::{QueueId, Region};
use crate::sync::{Ordering, fence, unchanged};
use crate::tx::{Target, steps_of};
use crate::words::{EntryState, EntryWord, SlotState, SlotWord};

/// Looks that found the objects changing before a reader gives up.
const LOOKS_MAX: usize = 10_000;

/// The objects changed too fast to be read at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the objects changed during each of {LOOKS_MAX} looks")]
pub struct NeverStill;

impl Region {
    /// The values of the objects of `queue` that bear `keys`, as of one instant: of a commit over several of
    /// them this shows all or nothing. `None` for a key that no object bears.
    ///
    /// Works on a read-only mapping and waits for nobody: a commit whose owner was stopped before it had
    /// carried out its steps is read from its entry.
    ///
    /// # Panics
    /// If there are more keys than a commit can change objects.
    pub fn read_together(
        &self,
        queue: QueueId,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<Vec<u8>>>, NeverStill> {
        assert!(keys.len() <= OTHERS_PER_CLAIM + 1, "more keys than a commit has objects");
        for _ in 0..LOOKS_MAX {
            let Some(before) = self.words_of(queue, keys) else { continue };
            let values = before.iter().map(|seen| self.value_at(*seen)).collect();
            // ORDER racy/2 Acquire fence, pairs with racy/1: the copies come before the second look.
            fence(Ordering::Acquire);
            if self.words_of(queue, keys) == Some(before) {
                return Ok(values);
            }
        }
        Err(NeverStill)
    }

    /// The slots that bear the keys, with the words that they bear once every decided commit is carried out.
    fn words_of(&self, queue: QueueId, keys: &[&[u8]]) -> Option<Vec<Option<(u32, SlotWord)>>> {
        let of = |key: &&[u8]| {
            let hash = self.key_hash(queue.0, key);
            match index::lookup(&self.map, hash, queue.0, key) {
                Lookup::Found { slot, .. } => Some(Some((slot, decided_word(&self.map, slot)?))),
                Lookup::Absent { .. } => Some(None),
                Lookup::Undecided { .. } | Lookup::Unstable => None,
            }
        };
        keys.iter().map(of).collect()
    }

    /// A copy of the value that the word names; to be believed if the word is still the same afterwards.
    fn value_at(&self, seen: Option<(u32, SlotWord)>) -> Option<Vec<u8>> {
        let (_, word) = seen?;
        if word.is(SlotState::Free) || word.is(SlotState::Reserved) {
            return None;
        }
        let (mut key, mut value) = (Vec::new(), Vec::new());
        if let Some(block) = word.block().and_then(|index| self.map.block(index)) {
            block.copy_racy(&mut key, &mut value).ok()?;
        }
        Some(value)
    }
}

/// The word of a slot; for one whose commit is decided, the word that the commit gives it.
fn decided_word(map: &Map, slot: u32) -> Option<SlotWord> {
    let row = map.slot(slot)?;
    // ORDER slot/1 SeqCst, pairs with slot/1: the entry named below is at least as new.
    let seen = SlotWord(row.word.load(Ordering::SeqCst));
    let decided = once_decided(map, slot, seen);
    unchanged(&row.word, seen.0).then_some(decided)
}

/// What the decided commit of the owner makes of `seen`, an acquired word of the slot; `seen` itself if there
/// is none. To be believed if the slot bears the same word afterwards: else the entry may be of a later commit.
pub(crate) fn once_decided(map: &Map, slot: u32, seen: SlotWord) -> SlotWord {
    if !seen.is(SlotState::Claimed) && !seen.is(SlotState::Reserved) {
        return seen;
    }
    let step = || {
        let seat = seen.owner().checked_sub(1)?;
        let position =
            map.participant(seat)?.next_position.load(Ordering::SeqCst).checked_sub(1)?;
        let entry = map.entry(seat, position)?;
        // ORDER entry/4 SeqCst, pairs with entry/2: who sees Committed sees the steps.
        let word = EntryWord(entry.word.load(Ordering::SeqCst));
        if word != EntryWord::new(position, EntryState::Committed) {
            return None;
        }
        steps_of(entry)
            .find(|step| step.target == Target::Slot(slot) && step.expected == seen.0)
            .map(|step| SlotWord(step.new))
    };
    step().unwrap_or(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::Delivery;
    use crate::endpoint::Endpoint;
    use crate::gather::{Change, Gatherer};
    use crate::geometry::{Geometry, QueueSpec, SizeClass};
    use crate::inspect::SlotImage;
    use crate::participant::Kind;
    use crate::shares::Shares;
    use crate::tx::{self, Operation};
    use std::path::PathBuf;

    /// A region's file, removed with it.
    struct File(PathBuf);

    impl Drop for File {
        fn drop(&mut self) {
            let _ = Region::remove(&self.0);
        }
    }

    /// Goal: a commit whose owner was stopped after it had raised the slot's seq, before it had changed the
    /// slot, is part of every copy that bears this seq.
    #[test]
    fn a_copy_holds_what_its_seq_says() {
        let file = File(Region::path_for(&format!("test.copy.{}", std::process::id())));
        let geometry = Geometry {
            slots: 8,
            classes: vec![SizeClass { payload_bytes: 256, count: 64 }],
            queues: vec![QueueSpec { name: "q".into(), lanes: 1 }],
            ports: vec![],
            participants: 4,
            tx_entries: 4,
            max_attempts: 5,
            inbox_limit: 8,
            shares: Shares::default(),
        };
        let region = Region::create(&file.0, &geometry).expect("a new region");
        region.become_primary(1);
        let mut worker = region.join(Kind::Worker, "worker").expect("a seat");
        let packet = worker.packet_of(b"m", Endpoint::NONE).expect("a block");
        worker
            .deliver(Delivery { queue: QueueId(0), key: Some(b"k"), priority: 0 }, packet)
            .expect("delivered");
        let mut claim = worker.claim(QueueId(0)).expect("a ready object");
        claim.set_value(b"new").expect("a block");
        let (slot, word, role) = (claim.held.slot, claim.held.word, claim.role);
        let value = claim.held.value.expect("a private block");

        let seat = claim.participant.seat;
        let (entry, drawing) = tx::begin_entry(&region, seat, role).expect("an entry");
        let step = Operation {
            target: Target::Slot(slot),
            expected: word.0,
            new: word.next(SlotState::Idle, 0, Some(value)).0,
            incarnation: claim.held.incarnation,
            placing: claim.held.placing,
        };
        step.write(entry, 0);
        entry.operation_count.store(1, Ordering::Relaxed);
        let copy = || match region.image(slot) {
            Ok(Some(SlotImage::Object(object))) => (object.seq, object.value),
            other => panic!("an object: {other:?}"),
        };
        let before = copy();
        assert_eq!(before.1, b"", "not decided");
        let decided = tx::decide(&region, role, entry, drawing, |_| ()).expect("not fenced");
        let seq = decided.expect("nobody has aborted it");
        assert_eq!(copy(), (before.0, b"new".to_vec()), "decided, and at most too low");
        tx::raise_last_seq(region.map.slot(slot).expect("a slot"), seq.to_bits());
        assert_eq!(copy(), (seq, b"new".to_vec()), "raised");

        let mut shown = Vec::new();
        Gatherer::new(region.clone()).unapplied(|commit| {
            assert!(matches!(commit.changes[..], [Change::Put { value: b"new", .. }]));
            shown.push(commit.seq);
        });
        assert_eq!(shown, [seq]);
        claim.settled = true;
    }
}
