//! The kernel's notice of a death, bare: a robust mutex in memory that two processes share.

#![expect(unsafe_code, reason = "mutexes of the C library")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::page::Page;
use crate::registry::BenchError;
use crate::ring::futex_wait;

const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= 64);

/// The futex word of the page's mutex.
fn word(page: &Page) -> &AtomicU32 {
    &page.lock[0]
}

/// Makes the page's mutex and takes it, for life.
pub(super) fn hold(page: &Page) -> Result<(), BenchError> {
    let place = page.lock.as_ptr().cast_mut().cast::<libc::pthread_mutex_t>();
    let mut attributes = std::mem::MaybeUninit::uninit();
    // SAFETY: the attributes are initialised by the first call, which cannot fail on Linux, and used only
    // after. The place is zeroed, aligned, large enough (asserted above), mapped for as long as this
    // process lives, and nobody else makes or takes a mutex there.
    let code = unsafe {
        libc::pthread_mutexattr_init(attributes.as_mut_ptr());
        libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
        libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
        let made = libc::pthread_mutex_init(place, attributes.as_ptr());
        libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
        if made == 0 { libc::pthread_mutex_lock(place) } else { made }
    };
    match code {
        0 => Ok(()),
        code => {
            let error = std::io::Error::from_raw_os_error(code);
            Err(BenchError::setup("hold a robust mutex")(error))
        }
    }
}

/// Sleeps until the kernel says that the holder is dead, at most for `timeout`. True if it is.
pub(super) fn wait(page: &Page, timeout: Duration) -> bool {
    let word = word(page);
    // The kernel wakes only where this bit says that somebody waits.
    let seen = word.fetch_or(WAITERS, Ordering::AcqRel) | WAITERS;
    if seen & OWNER_DIED == 0 {
        futex_wait(word, seen, timeout);
    }
    word.load(Ordering::Acquire) & OWNER_DIED != 0
}
