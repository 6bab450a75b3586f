//! How often this process has come out of a fork.

#![expect(unsafe_code, reason = "the C library calls back in the child")]

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static FORKS: AtomicU64 = AtomicU64::new(0);

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Grows in the child of each fork. A seat in a region belongs to one process: what was made under another number is the
/// parent's.
pub(super) fn generation() -> u64 {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // SAFETY:
        // - the handler is a function of this library that does nothing but add to an atomic, which a child may do.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    now()
}

#[inline]
pub(super) fn now() -> u64 {
    FORKS.load(Ordering::Relaxed)
}
