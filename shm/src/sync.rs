//! The one door through which atomics enter this crate, so that a model checker can take their place.
//!
//! `tests/loom.rs` is a crate of its own that compiles this file, the ring and the words against the model
//! checker's atomics. Those cannot stand in a mapping, so this crate itself always has the real ones.

#[cfg(all(test, loom))]
pub(crate) use crate::door::{AtomicU64, Ordering, fence};
#[cfg(not(all(test, loom)))]
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
