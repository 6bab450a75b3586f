//! The inbox of an object: messages that wait for it, newest first.
//!
//! That a message waits is a fact of its own block word (`Linking`, `Linked` or `Taken`, with the
//! object as home); the chain through the blocks is where the claimer finds it.
//!
//! ```text
//!   slot.inbox ─► newest ─► … ─► oldest ─► none
//!      ▲ anybody pushes by CAS       └ only the claimer of the object prunes
//! ```
//!
//! A message that makes room for a newer one is marked (`Dropped`) and stays where it is: only a claimer may take it out
//! and use its block again.
//!
//! # Long chains
//! The oldest messages are taken first and stand at the far end. A claimer that finds more than it can take notes what it
//! has walked over: in each message which one is the next newer, in the slot which one is the oldest. The next claimers go from
//! there, and their commits cut off what they took, until all that was noted is used up: so each message is walked over
//! once, and not once with every claim.
//!
//! A note is a hint. It counts where the messages themselves say so: the oldest leads to nothing, each newer one to the
//! one before, and one that is `Linked` to the object is in its chain, and so is all that it leads to.
//!
//! With one remover a compare-and-swap of the head cannot be fooled: the block it names cannot have
//! left and come back meanwhile.

use crate::claim::MESSAGES_PER_CLAIM;
use crate::layout::SlotRow;
use crate::letter;
use crate::map::{Block, Map};
use crate::policy::Overload;
use crate::sync::Ordering;
use crate::words::{BlockState, BlockWord, InboxWord};

/// Chains that are longer are noted: of a shorter one a single claim takes all.
const NOTED_MIN: u32 = MESSAGES_PER_CLAIM as u32;

/// Why a message could not be linked.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum PushError {
    /// The object is of another incarnation: look the key up again.
    Gone,
    /// The object is being withdrawn; it may yet stay.
    Closed,
    /// As many messages wait as may wait.
    Full,
}

/// Messages that the chain of an object may hold, dropped ones included.
fn chain_limit(map: &Map, slot: u32) -> u32 {
    let limit = u32::from(map.geometry().inbox_limit);
    match overload_of(map, slot) {
        // What was dropped during a claim stays in the chain as long as that lasts.
        Overload::DropOldest => (2 * limit).min(InboxWord::DEPTH_MAX),
        _ => limit,
    }
}

fn overload_of(map: &Map, slot: u32) -> Overload {
    let queue = map.slot(slot).map_or(0, |row| row.placing.load(Ordering::Relaxed) as u8);
    map.policy(queue).map_or_else(Overload::default, |policy| policy.overload())
}

/// Marks the oldest messages of an object that wait beyond the limit; returns how many.
///
/// By whoever has pushed a message and still calls it `Linking`: a reaper that finds it so does this in its place. Others
/// may claim, push and drop meanwhile: the chain as it is seen here is a hint, each mark a swap from `Linked`. Messages in a
/// worker's hands do not count, and stay.
pub(crate) fn drop_oldest(map: &Map, slot: u32) -> u64 {
    let Some(row) = map.slot(slot) else { return 0 };
    // ORDER inbox/2 SeqCst, pairs with inbox/1.
    let head = InboxWord(row.inbox.load(Ordering::SeqCst));
    let limit = usize::from(map.geometry().inbox_limit);
    if head.depth() as usize <= limit || overload_of(map, slot) != Overload::DropOldest {
        return 0;
    }
    let waits = |word: &BlockWord| word.is_waiting_for(slot) && !word.is(BlockState::Taken);
    // A block that has left the chain since leads elsewhere: no further than a chain is long.
    let chain = Chain::of(map, head).take(InboxWord::DEPTH_MAX as usize);
    let waiting: Vec<_> = chain.filter(|(_, word)| waits(word)).collect();
    let excess = waiting.len().saturating_sub(limit);
    // What a letter holds is part of a commit.
    let is_copy =
        |index| map.block(index).is_some_and(|block| letter::original(block.row).is_some());
    let oldest = waiting.iter().rev().filter(|&&(index, _)| !is_copy(index));
    let mut dropped = 0;
    for &(index, word) in oldest.take(excess) {
        let marked = word.is(BlockState::Linked) && mark(map, index, word, BlockState::Dropped, 0);
        dropped += u64::from(marked);
    }
    dropped
}

/// Pushes the message `block` (`Linking`, by the caller) to an object.
pub(crate) fn push(map: &Map, slot: u32, incarnation: u32, block: u32) -> Result<(), PushError> {
    let (Some(row), Some(message)) = (map.slot(slot), map.block(block)) else {
        return Err(PushError::Gone);
    };
    let limit = chain_limit(map, slot);
    loop {
        let head = InboxWord(row.inbox.load(Ordering::Relaxed));
        if !head.is_of(incarnation) {
            return Err(PushError::Gone);
        }
        if head.is_closed() {
            return Err(PushError::Closed);
        }
        if head.depth() >= limit {
            return Err(PushError::Full);
        }
        message.row.next.store(head.newest().map_or(0, |index| index + 1), Ordering::Relaxed);
        let pushed = head.with(false, head.depth() + 1, Some(block));
        // ORDER inbox/1 SeqCst, pairs with inbox/2: the claimer that sees this head sees the message; and the
        // pusher's later look at the slot does not pass it (ready/2).
        if row.inbox.compare_exchange(head.0, pushed.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        {
            return Ok(());
        }
    }
}

/// The blocks of the chain, newest first. Stable for the claimer of the object only.
pub(crate) struct Chain<'m> {
    map: &'m Map,
    next: Option<u32>,
    /// A chain cannot be longer than there are blocks; a longer one was scribbled into a circle.
    left: u32,
    /// The words are about to be swapped.
    to_write: bool,
}

impl<'m> Chain<'m> {
    pub(crate) fn of(map: &'m Map, head: InboxWord) -> Self {
        Self { map, next: head.newest(), left: map.block_count(), to_write: false }
    }

    /// The same for somebody who is about to take what it finds.
    pub(crate) fn to_take(map: &'m Map, head: InboxWord) -> Self {
        Self { to_write: true, ..Self::of(map, head) }
    }
}

impl Iterator for Chain<'_> {
    type Item = (u32, BlockWord);

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next?;
        self.left = self.left.checked_sub(1)?;
        let block = self.map.block(index)?;
        if self.to_write {
            block.fetch_header();
        }
        self.next = block.row.next.load(Ordering::Relaxed).checked_sub(1);
        Some((index, BlockWord(block.row.word.load(Ordering::Acquire))))
    }
}

/// Notes a whole chain, oldest first: every message of it waits. By the claimer.
pub(crate) fn note(map: &Map, slot: u32, messages: &[u32]) {
    let (Some(row), Some(&oldest)) = (map.slot(slot), messages.first()) else { return };
    let newer = messages[1..].iter().map(|&index| u64::from(index) + 1).chain([0]);
    for (block, newer) in messages.iter().filter_map(|&index| map.block(index)).zip(newer) {
        block.row.sum.store(newer, Ordering::Relaxed);
    }
    row.oldest.store(oldest + 1, Ordering::Relaxed);
}

/// The messages that were noted, oldest first, as long as each leads to the one before.
struct Noted<'m> {
    map: &'m Map,
    /// Plus one.
    next: u64,
    /// The one before, plus one.
    older: u32,
    left: u32,
}

impl<'m> Noted<'m> {
    #[inline]
    fn of(map: &'m Map, row: &SlotRow) -> Self {
        let oldest = row.oldest.load(Ordering::Relaxed);
        Self { map, next: oldest.into(), older: 0, left: map.block_count() }
    }
}

impl<'m> Iterator for Noted<'m> {
    type Item = (Block<'m>, BlockWord);

    fn next(&mut self) -> Option<Self::Item> {
        let index = u32::try_from(self.next.checked_sub(1)?).ok()?;
        self.left = self.left.checked_sub(1)?;
        let block = self.map.block(index)?;
        let word = BlockWord(block.row.word.load(Ordering::Acquire));
        if block.row.next.load(Ordering::Relaxed) != self.older {
            return None;
        }
        self.older = index + 1;
        self.next = block.row.sum.load(Ordering::Relaxed);
        Some((block, word))
    }
}

fn is_linked_to(word: BlockWord, slot: u32) -> bool {
    word.is(BlockState::Linked) && word.is_waiting_for(slot)
}

/// The oldest messages, at most `count`, by what was noted; none if that is nothing, or does not count. By the claimer.
#[inline]
pub(crate) fn noted(map: &Map, slot: u32, count: usize, into: &mut Vec<u32>) {
    let Some(row) = map.slot(slot).filter(|row| row.oldest.load(Ordering::Relaxed) != 0) else {
        return;
    };
    let linked = Noted::of(map, row).take_while(|&(_, word)| is_linked_to(word, slot));
    into.extend(linked.take(count).map(|(block, _)| block.index));
    if into.is_empty() {
        row.oldest.store(0, Ordering::Relaxed);
    }
}

/// Cuts off what no longer waits and is older than the oldest that does, by what was noted. False if that does not reach so far.
fn cut_noted(map: &Map, row: &SlotRow, slot: u32) -> bool {
    for (cut, (block, word)) in (0..).zip(Noted::of(map, row)) {
        if is_linked_to(word, slot) && cut > 0 {
            block.row.next.store(0, Ordering::Relaxed);
            row.oldest.store(block.index + 1, Ordering::Relaxed);
            shorten(row, cut);
            return true;
        }
        if word.is_waiting_for(slot) || word.is_dropped_from(slot) {
            return false;
        }
    }
    false
}

fn shorten(row: &SlotRow, by: u32) {
    loop {
        let head = InboxWord(row.inbox.load(Ordering::SeqCst));
        let shorter = head.with(head.is_closed(), head.depth().saturating_sub(by), head.newest());
        let swapped =
            row.inbox.compare_exchange(head.0, shorter.0, Ordering::SeqCst, Ordering::Relaxed);
        if swapped.is_ok() {
            return;
        }
    }
}

/// Takes everything out of the chain that no longer waits for `slot`, but what was dropped from it. By the claimer, or by
/// the reaper in its place; may be repeated.
pub(crate) fn prune(map: &Map, slot: u32) {
    let Some(row) = map.slot(slot) else { return };
    if row.oldest.load(Ordering::Relaxed) != 0 {
        if cut_noted(map, row, slot) {
            return;
        }
        row.oldest.store(0, Ordering::Relaxed);
    }
    // More cuts than there are blocks: the chain was scribbled into a circle.
    let mut left = map.block_count();
    'again: loop {
        // ORDER inbox/2 SeqCst, pairs with inbox/1.
        let head = InboxWord(row.inbox.load(Ordering::SeqCst));
        let mut kept: Option<u32> = None;
        let mut waiting = 0;
        let mut newer = 0;
        // What is kept is noted on the way: if there is much of it, its claimers need not walk over it again.
        for (index, word) in Chain::to_take(map, head) {
            if word.is_waiting_for(slot) || word.is_dropped_from(slot) {
                if let Some(block) = map.block(index) {
                    block.row.sum.store(newer, Ordering::Relaxed);
                }
                newer = u64::from(index) + 1;
                kept = Some(index);
                waiting += 1;
                continue;
            }
            let Some(block) = map.block(index) else { break };
            let next = block.row.next.load(Ordering::Relaxed);
            match kept.and_then(|kept| map.block(kept)) {
                Some(before) => before.row.next.store(next, Ordering::Relaxed),
                None => {
                    let newest = next.checked_sub(1).filter(|_| left > 0);
                    left = left.saturating_sub(1);
                    let depth = head.depth().saturating_sub(1);
                    let shorter = head.with(head.is_closed(), depth, newest);
                    // Lost to a pusher: the same block is then in the middle of the chain.
                    let _ = row.inbox.compare_exchange(
                        head.0,
                        shorter.0,
                        Ordering::SeqCst,
                        Ordering::Relaxed,
                    );
                    continue 'again;
                }
            }
        }
        if waiting > NOTED_MIN {
            row.oldest.store(newer as u32, Ordering::Relaxed);
        }
        // The depth is only the limit's business; it drifts if a pruner dies, and is set right here.
        if head.depth() == waiting {
            return;
        }
        let right = head.with(head.is_closed(), waiting, head.newest());
        if row.inbox.compare_exchange(head.0, right.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        {
            return;
        }
    }
}

/// Opens or closes the inbox of an object that the caller has claimed.
///
/// Closing fails if anything waits that the claimer has not `taken`, or was dropped since it looked.
pub(crate) fn close(map: &Map, slot: u32, taken: &[u32]) -> bool {
    let Some(row) = map.slot(slot) else {
        return false;
    };
    loop {
        let head = InboxWord(row.inbox.load(Ordering::SeqCst));
        let waits = Chain::of(map, head).any(|(index, word)| {
            word.is_waiting_for(slot) && !taken.contains(&index) || word.is_dropped_from(slot)
        });
        if waits {
            return false;
        }
        let closed = head.with(true, head.depth(), head.newest());
        if row.inbox.compare_exchange(head.0, closed.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        {
            return true;
        }
    }
}

pub(crate) fn reopen(map: &Map, slot: u32) {
    let Some(row) = map.slot(slot) else { return };
    let head = InboxWord(row.inbox.load(Ordering::SeqCst));
    if head.is_closed() {
        // Nobody pushes to a closed inbox, so only its claimer changes it: this cannot fail.
        let open = head.with(false, head.depth(), head.newest());
        let _ = row.inbox.compare_exchange(head.0, open.0, Ordering::SeqCst, Ordering::Relaxed);
    }
}

/// Whether a message waits. Cheap: looks at the head alone.
pub(crate) fn has_waiting(map: &Map, slot: u32) -> bool {
    // ORDER inbox/2 SeqCst, pairs with inbox/1.
    map.slot(slot).is_some_and(|row| InboxWord(row.inbox.load(Ordering::SeqCst)).newest().is_some())
}

/// Marks a message as being worked on by `owner`, or as waiting again.
pub(crate) fn mark(map: &Map, block: u32, seen: BlockWord, state: BlockState, owner: u8) -> bool {
    let Some(message) = map.block(block) else {
        return false;
    };
    let marked = seen.next(state, owner, seen.home());
    // ORDER block/1 AcqRel, pairs with block/1 and block/2.
    message.row.word.compare_exchange(seen.0, marked.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}
