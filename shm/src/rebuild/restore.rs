//! Hints out of the truth: key chains, inboxes, lanes, rings, bitmaps.

use std::collections::{HashMap, HashSet};

use crate::index::chain_word;
use crate::map::Map;
use crate::pool;
use crate::rebuild::Rebuilt;
use crate::rebuild::settle::object_in;
use crate::region::Region;
use crate::sync::Ordering;
use crate::words::{BlockState, BlockWord, BucketWord, InboxWord, SlotState, SlotWord};

pub(super) fn restore(region: &Region, rebuilt: &mut Rebuilt) {
    restore_keys(region, rebuilt);
    let oldest = restore_inboxes(&region.map, rebuilt);
    restore_lanes(region, &oldest, rebuilt);
    restore_packets(&region.map, rebuilt);
    pool::restore_hints(&region.map);
}

fn restore_keys(region: &Region, rebuilt: &mut Rebuilt) {
    let map: &Map = &region.map;
    let mut objects: Vec<(u64, u32)> = (0..map.geometry().slots)
        .filter(|&slot| object_in(map, slot).is_some())
        .filter_map(|slot| Some((map.slot(slot)?.last_seq.load(Ordering::Relaxed), slot)))
        .collect();
    rebuilt.objects = objects.len() as u64;
    // Each goes to the front of its chain: the one that changed last stands before its double.
    objects.sort_unstable();
    let mut seen = HashSet::new();
    for (_, slot) in objects {
        let Some(row) = map.slot(slot) else { continue };
        let queue = row.placing.load(Ordering::Relaxed) as u8;
        let key = key_of(map, slot).unwrap_or_default();
        let hash = region.key_hash(queue, &key);
        row.key_hash.store(hash, Ordering::Relaxed);
        if key.is_empty() {
            continue;
        }
        rebuilt.keys += 1;
        rebuilt.duplicates += u64::from(!seen.insert((queue, key)));
        let (_, head) = map.bucket(hash);
        let first = BucketWord(head.load(Ordering::Relaxed));
        let chain = row.index_next.load(Ordering::Relaxed);
        row.index_next.store(chain_word(chain, first.first()), Ordering::Release);
        head.store(first.next(Some(slot), 0).0, Ordering::SeqCst);
    }
}

fn key_of(map: &Map, slot: u32) -> Option<Vec<u8>> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    map.block(object_in(map, slot)?.block()?)?.copy_racy(&mut key, &mut value).ok()?;
    Some(key)
}

/// Links all messages, and says when the oldest one of each object arrived.
fn restore_inboxes(map: &Map, rebuilt: &mut Rebuilt) -> HashMap<u32, u64> {
    let mut messages = Vec::new();
    for index in 0..map.block_count() {
        let Some(block) = map.block(index) else { continue };
        let word = BlockWord(block.row.word.load(Ordering::Acquire));
        if word.is_waiting_for(word.home()) && object_in(map, word.home()).is_some() {
            let stamp = block.row.stamp.load(Ordering::Relaxed);
            // Two of one instant are of one sender, which numbers them.
            messages.push((word.home(), stamp, block.row.id.load(Ordering::Relaxed), index));
        }
    }
    messages.sort_unstable();
    let mut oldest = HashMap::new();
    for (home, stamp, _, index) in messages {
        let (Some(row), Some(block)) = (map.slot(home), map.block(index)) else { continue };
        oldest.entry(home).or_insert(stamp);
        let head = InboxWord(row.inbox.load(Ordering::Relaxed));
        block.row.next.store(head.newest().map_or(0, |older| older + 1), Ordering::Relaxed);
        row.inbox.store(head.with(false, head.depth() + 1, Some(index)).0, Ordering::SeqCst);
        rebuilt.messages += 1;
    }
    oldest
}

/// Offers what is ready, in the order in which it has waited.
fn restore_lanes(region: &Region, oldest: &HashMap<u32, u64>, rebuilt: &mut Rebuilt) {
    let map: &Map = &region.map;
    let mut objects = Vec::new();
    for slot in 0..map.geometry().slots {
        let Some(row) = map.slot(slot) else { continue };
        let word = SlotWord(row.word.load(Ordering::Acquire));
        if word.is_claimable() {
            objects.push((oldest.get(&slot).copied().unwrap_or(0), slot));
        }
        rebuilt.free_slots += u64::from(word.is(SlotState::Free));
    }
    objects.sort_unstable();
    for (_, slot) in objects {
        let Some(row) = map.slot(slot) else { continue };
        let word = || SlotWord(row.word.load(Ordering::Acquire));
        if word().is(SlotState::Idle) {
            region.look_again(slot); // queues it if it has something to do
        } else {
            region.hint(slot, row); // its word says that a hint stands in its lane
        }
        rebuilt.ready += u64::from(!word().is(SlotState::Idle));
    }
}

fn restore_packets(map: &Map, rebuilt: &mut Rebuilt) {
    let mut emitted = Vec::new();
    for index in 0..map.block_count() {
        let Some(block) = map.block(index) else { continue };
        let word = BlockWord(block.row.word.load(Ordering::Acquire));
        match word.state() {
            Some(BlockState::Emitted) => {
                let seq = block.row.seq.load(Ordering::Relaxed);
                emitted.push((seq, block.row.id.load(Ordering::Relaxed), word.home(), index));
            }
            Some(BlockState::Sent) => {
                // A full ring: the node scans all blocks then.
                let _ = map.sent_ring().push(index);
                rebuilt.sent += 1;
            }
            Some(BlockState::Free) => rebuilt.free_blocks += 1,
            _ => {}
        }
    }
    emitted.sort_unstable();
    for (_, _, port, index) in emitted {
        if let Some(ring) = map.port_ring(port) {
            rebuilt.packets += u64::from(ring.push(index).is_ok());
        }
    }
}
