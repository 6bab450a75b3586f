//! Stopping gracefully when the process is asked to end.

#![expect(unsafe_code, reason = "signal handlers are the kernel's to call")]

use std::io;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::worker::Stopper;

/// Workers of one process that signals stop, at most.
pub const STOPPED_BY_SIGNALS_MAX: usize = 256;

/// Flags of workers, each from an `Arc` that is never given back: a handler may run at any time.
static FLAGS: [AtomicPtr<AtomicBool>; STOPPED_BY_SIGNALS_MAX] =
    [const { AtomicPtr::new(null_mut()) }; STOPPED_BY_SIGNALS_MAX];

extern "C" fn stop_all(_signal: libc::c_int) {
    for flag in &FLAGS {
        let flag = flag.load(Ordering::Acquire);
        if flag.is_null() {
            return; // they are taken from the front
        }
        // SAFETY: from an `Arc` that is never given back; storing to an atomic is what a handler may do.
        unsafe { &*flag }.store(true, Ordering::Relaxed);
    }
}

impl Stopper {
    /// From now on SIGTERM and SIGINT stop the worker: it finishes the object in its hands and claims no more, so that
    /// [`Worker::run`](crate::Worker::run) returns within 100 ms or so. Replaces the handlers that the process has for them.
    ///
    /// # Errors
    /// If the system refuses, or more than [`STOPPED_BY_SIGNALS_MAX`] workers of this process have asked.
    pub fn on_termination(&self) -> io::Result<()> {
        let flag = Arc::into_raw(self.flag()).cast_mut();
        let take = |place: &AtomicPtr<AtomicBool>| {
            place.compare_exchange(null_mut(), flag, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if !FLAGS.iter().any(take) {
            // SAFETY: from `into_raw` above, and nobody else has it.
            drop(unsafe { Arc::from_raw(flag) });
            let text = format!("signals stop at most {STOPPED_BY_SIGNALS_MAX} workers");
            return Err(io::Error::other(text));
        }
        for signal in [libc::SIGTERM, libc::SIGINT] {
            // SAFETY:
            // - `action` is a plain structure for which zeros are valid, and lives while the call reads it;
            // - the handler does nothing but load and store atomics.
            let result = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = stop_all as extern "C" fn(libc::c_int) as usize;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(signal, &raw const action, null_mut())
            };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}
