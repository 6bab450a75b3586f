//! The one door through which atomics enter this crate, so that a model checker can take their place.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Whether `word` still reads `seen`, after everything that the caller has read since.
///
/// For readers that own nothing: what they read under a word counts only if the word stood still meanwhile.
#[inline]
pub(crate) fn unchanged(word: &AtomicU64, seen: u64) -> bool {
    // ORDER racy/2 Acquire fence, pairs with racy/1: if anything read so far was written by a later owner,
    // the load below sees that the word has moved on. An Acquire load alone may be carried out before them.
    fence(Ordering::Acquire);
    word.load(Ordering::Relaxed) == seen
}
