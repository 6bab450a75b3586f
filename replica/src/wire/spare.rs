//! Memory of frames that are done with, for the next ones.
//!
//! A batch of some hundred KiB in fresh memory costs a page fault for every 4 KiB, more than all that is
//! done with its bytes: the allocator gives such pieces back to the kernel. A node makes, sends, receives
//! and drops its frames in one thread, so that thread keeps what it has.

use std::cell::RefCell;

use rkyv::util::AlignedVec;

/// As many as a window of full batches at its default size.
const SPARES_MAX: usize = 64;
/// Smaller ones the allocator keeps by itself.
const BYTES_MIN: usize = 16 << 10;
/// Larger ones are rare, and would stay for good.
const BYTES_MAX: usize = 1 << 20;

thread_local! {
    static SPARES: RefCell<Vec<AlignedVec>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for `bytes`.
pub(super) fn take(bytes: usize) -> AlignedVec {
    if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
        return AlignedVec::with_capacity(bytes);
    }
    // The last one is warm; it grows if it must, and stays as large.
    let mut buffer = SPARES.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.reserve(bytes);
    buffer
}

/// Keeps a buffer, unless it is not worth it.
pub(super) fn give(mut buffer: AlignedVec) {
    if !(BYTES_MIN..=2 * BYTES_MAX).contains(&buffer.capacity()) {
        return;
    }
    buffer.clear();
    // A thread that ends has nothing to keep.
    let _ = SPARES.try_with(|spares| {
        let mut spares = spares.borrow_mut();
        if spares.len() < SPARES_MAX {
            spares.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_come_again_and_never_more_than_so_many() {
        let mut first = take(100_000);
        first.extend_from_slice(&[1; 100_000]);
        let at = first.as_ptr();
        give(first);
        let again = take(50_000);
        assert!(again.is_empty() && again.capacity() >= 100_000);
        assert_eq!(again.as_ptr(), at);
        for _ in 0..2 * SPARES_MAX {
            give(AlignedVec::with_capacity(BYTES_MIN));
        }
        give(again);
        assert_eq!(SPARES.with_borrow(Vec::len), SPARES_MAX);
        give(AlignedVec::with_capacity(8 * BYTES_MAX));
        give(AlignedVec::with_capacity(100));
        assert!(SPARES.with_borrow(|spares| spares.iter().all(|spare| spare.capacity() < 1 << 21)));
    }
}
