//! Asking for cache lines before they are used.
//!
//! What another core wrote last lies in that core's cache: to bring it here takes as long as a hundred instructions. A swap of a
//! word that was read before takes that twice, once for reading and once for the right to write. Asked for in advance, and
//! for writing, a line comes once, and several come at the same time.

#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "hints to the processor"))]

/// Bytes that come at once.
pub(crate) const LINE_BYTES: usize = 64;

/// Asks for the line at `at`, to be written.
#[inline(always)]
pub(crate) fn to_write<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        // Of the intrinsic the compiler makes a fetch for reading: it does not know that all processors take this one.
        // SAFETY: a hint to the processor: it reads and writes nothing, and no address is a fault. Processors without it do
        // nothing.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for the line at `at`, to be read.
#[inline(always)]
pub(crate) fn to_read<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
