//! Slots for new objects.

use crate::letter::LETTER;
use crate::map::Map;
use crate::participant::Participant;
use crate::pool::OutOf;
use crate::region::{QueueId, Region};
use crate::sync::Ordering;
use crate::words::{InboxWord, SlotState, SlotWord};

/// A slot that this participant is filling.
pub(crate) struct Reserved {
    pub(crate) slot: u32,
    pub(crate) word: SlotWord,
    pub(crate) incarnation: u32,
}

/// The lane that a priority means: one beyond the queue's lanes means the last.
pub(crate) fn lane_within(map: &Map, queue: QueueId, priority: u8) -> u8 {
    (priority & !LETTER).min(map.lane_count(queue.0).saturating_sub(1))
}

/// `queue:8 | priority:8`.
pub(crate) fn placing_of(queue: QueueId, priority: u8) -> u32 {
    u32::from(queue.0) | u32::from(priority) << 8
}

/// Takes a free slot and gives it its next incarnation, the hash of its key and an empty, open inbox.
pub(crate) fn reserve_object(
    participant: &mut Participant,
    queue: QueueId,
    priority: u8,
    key_hash: u64,
) -> Result<Reserved, OutOf> {
    let region = participant.region.clone();
    let (slot, word) = participant.supply.take_slot(&region.map)?;
    let row = region.map.slot(slot).expect("a slot just taken exists");
    // The row is this participant's while it is Reserved: plain stores.
    let incarnation = row.incarnation.load(Ordering::Relaxed).wrapping_add(1);
    row.incarnation.store(incarnation, Ordering::Relaxed);
    row.placing.store(placing_of(queue, priority), Ordering::Relaxed);
    row.attempts.store(0, Ordering::Relaxed);
    row.key_hash.store(key_hash, Ordering::Relaxed);
    row.inbox.store(InboxWord::new(incarnation, false, 0, None).0, Ordering::SeqCst);
    Ok(Reserved { slot, word, incarnation })
}

/// Frees a slot that was reserved and not used.
pub(crate) fn release_reserved(region: &Region, slot: u32, word: SlotWord) {
    let Some(row) = region.map.slot(slot) else {
        return;
    };
    let free = word.next(SlotState::Free, 0, None);
    // ORDER slot/1 AcqRel, pairs with slot/1.
    if row.word.compare_exchange(word.0, free.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
        crate::pool::hint_free_slot(&region.map, slot);
    }
}
