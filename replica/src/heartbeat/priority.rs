//! Real-time priority for one thread.
#![expect(unsafe_code, reason = "sched_setscheduler has no safe wrapper in our dependencies")]

use std::io;

/// Lets the calling thread run before all ordinary ones, where this process may ask for that.
///
/// The lowest real-time priority is enough: detectors compete with busy workers, not with drivers.
pub(crate) fn raise() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY:
    // - the pointer is to a live `sched_param` that the kernel only reads during the call;
    // - thread 0 is the calling thread, so no other thread's scheduling changes.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
