//! Reading several objects at one instant of the commit order, without claiming them.

use crate::claim::OTHERS_PER_CLAIM;
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

/// The word of a slot; for a claimed one whose commit is decided, the word that the commit gives it.
fn decided_word(map: &Map, slot: u32) -> Option<SlotWord> {
    let row = map.slot(slot)?;
    // ORDER slot/1 Acquire, pairs with slot/1: the entry named below is at least as new.
    let word = SlotWord(row.word.load(Ordering::SeqCst));
    if !word.is(SlotState::Claimed) {
        return Some(word);
    }
    let seat = word.owner().checked_sub(1)?;
    let position = map.participant(seat)?.next_position.load(Ordering::SeqCst).checked_sub(1)?;
    let entry = map.entry(seat, position)?;
    // ORDER entry/4 SeqCst, pairs with entry/2: who sees Committed sees the steps.
    let seen = EntryWord(entry.word.load(Ordering::SeqCst));
    if seen != EntryWord::new(position, EntryState::Committed) {
        return Some(word);
    }
    let step = steps_of(entry)
        .find(|step| step.target == Target::Slot(slot) && step.expected == word.0)
        .map(|step| SlotWord(step.new));
    // The entry may have been reused while it was read; then the slot has changed as well.
    unchanged(&row.word, word.0).then_some(step.unwrap_or(word))
}
