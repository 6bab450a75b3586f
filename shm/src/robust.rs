//! Robust process-shared mutexes: how the kernel itself tells that a thread has died.
//!
//! The kernel walks a dying thread's list of held robust mutexes *before* it tears the address space
//! down, marks each futex word with `FUTEX_OWNER_DIED` and wakes a waiter. For a process that maps a
//! large region this comes tens of milliseconds before its pidfd or its sockets tell.

#![expect(unsafe_code, reason = "mutexes of the C library and futex system calls")]

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use crate::layout::MutexPlace;
use crate::map::Map;
use crate::sync::{AtomicU32, Ordering};

const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

impl MutexPlace {
    fn as_mutex(&self) -> *mut libc::pthread_mutex_t {
        self.0.as_ptr().cast_mut().cast()
    }

    fn word(&self) -> &AtomicU32 {
        &self.0[0]
    }

    /// Makes a fresh mutex here. The place must not be in use: it belongs to a seat or header that the
    /// caller owns.
    pub(crate) fn initialise(&self) -> io::Result<()> {
        for word in &self.0 {
            word.store(0, Ordering::Relaxed);
        }
        let mut attributes = std::mem::MaybeUninit::uninit();
        // SAFETY: `attributes` is initialised by the first call, which cannot fail on Linux, and used
        // only after; the mutex place is 64 zeroed, aligned bytes (layout.rs asserts that it is large
        // enough) that nobody uses yet by the caller's promise.
        let code = unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(
                attributes.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            );
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            let code = libc::pthread_mutex_init(self.as_mutex(), attributes.as_ptr());
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
            code
        };
        check(code)
    }

    /// Takes the mutex if nobody alive holds it.
    pub(crate) fn try_lock(&self) -> bool {
        // SAFETY: the place holds a mutex made by `initialise`; a robust mutex may be tried at any time.
        match unsafe { libc::pthread_mutex_trylock(self.as_mutex()) } {
            0 => true,
            libc::EOWNERDEAD => {
                // What it guards is written so that it can be continued by the next.
                // SAFETY: this thread has just become the owner.
                unsafe { libc::pthread_mutex_consistent(self.as_mutex()) };
                true
            }
            _ => false,
        }
    }

    /// As [`try_lock`](Self::try_lock), until the guard is dropped. Also by a panic: a mutex that its thread
    /// still holds when the region is unmapped would crash the thread's next one.
    pub(crate) fn try_guard(&self) -> Option<Locked<'_>> {
        self.try_lock().then_some(Locked(self))
    }

    /// Gives back what this thread took with [`try_lock`](Self::try_lock).
    pub(crate) fn unlock(&self) {
        // SAFETY: this thread owns the mutex by the contract of the function.
        unsafe { libc::pthread_mutex_unlock(self.as_mutex()) };
    }

    /// Whether the thread that held this has died.
    pub(crate) fn owner_died(&self) -> bool {
        self.word().load(Ordering::Acquire) & OWNER_DIED != 0
    }

    /// Marks the mutex as the kernel does for a dying thread that holds it; true if one of `threads` does.
    #[cfg(feature = "testing")]
    pub(crate) fn mark_dead(&self, threads: &[u32]) -> bool {
        const THREAD: u32 = 0x3fff_ffff;
        let seen = self.word().load(Ordering::Acquire);
        if seen & THREAD == 0 || !threads.contains(&(seen & THREAD)) {
            return false;
        }
        self.word().store(seen & WAITERS | OWNER_DIED, Ordering::Release);
        true
    }

    /// The futex word and the value to wait on for a notice of death; `None` if it has died already or
    /// is held by nobody.
    fn notice(&self) -> Option<(&AtomicU32, u32)> {
        let word = self.word();
        loop {
            let seen = word.load(Ordering::Acquire);
            if seen & OWNER_DIED != 0 || seen & !WAITERS == 0 {
                return None;
            }
            if seen & WAITERS != 0 {
                return Some((word, seen));
            }
            // The kernel wakes only where this bit says that somebody waits.
            let marked = seen | WAITERS;
            if word.compare_exchange(seen, marked, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some((word, marked));
            }
        }
    }
}

/// A mutex that this thread holds.
pub(crate) struct Locked<'m>(&'m MutexPlace);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

fn check(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Sleeps until one of the holders dies or `timeout` passes. True if one is dead.
pub(crate) fn wait_for_death(places: &[&MutexPlace], timeout: Duration) -> bool {
    #[repr(C)]
    struct Waiter {
        value: u64,
        address: u64,
        flags: u32,
        reserved: u32,
    }
    const FUTEX2_SIZE_U32: u32 = 2;
    let mut waiters = Vec::with_capacity(places.len());
    for place in places {
        match place.notice() {
            Some((word, value)) => waiters.push(Waiter {
                value: value.into(),
                address: word.as_ptr() as u64,
                flags: FUTEX2_SIZE_U32, // shared between processes: the private flag is not set
                reserved: 0,
            }),
            None if place.owner_died() => return true,
            None => {}
        }
    }
    if waiters.is_empty() {
        std::thread::sleep(timeout);
        return false;
    }
    waiters.truncate(128); // the system call's own limit; there are at most 64 seats
    let now = crate::process::monotonic_ns() + timeout.as_nanos() as u64;
    let until = libc::timespec {
        tv_sec: (now / 1_000_000_000) as i64,
        tv_nsec: (now % 1_000_000_000) as i64,
    };
    // SAFETY: the array and the deadline outlive the call; each address is a word of the mapping that
    // `places` borrows.
    unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            waiters.len(),
            0,
            &raw const until,
            libc::CLOCK_MONOTONIC,
        );
    }
    places.iter().any(|place| place.owner_died())
}

/// Sleeps on a shared futex word while it holds `value`, at most for `timeout`.
pub(crate) fn futex_wait(word: &AtomicU32, value: u32, timeout: Duration) {
    let timeout =
        libc::timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
    // SAFETY: the word is borrowed and the timeout outlives the call. A wrong wake-up or an error only
    // makes the caller look again.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const timeout);
    }
}

/// Wakes one sleeper of a shared futex word.
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word is borrowed; waking touches nothing else.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
    }
}

/// A thread that holds a seat's mutex for as long as its process lives.
///
/// The process's other threads may come and go, and handles may move between them, without the kernel
/// reporting a death that is none.
pub(crate) struct Keeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread and returns once it holds the mutex of `seat`.
    pub(crate) fn start(map: Arc<Map>, seat: u8) -> io::Result<Keeper> {
        let (ready, is_ready) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let keep = move || {
            block_signals();
            let Some(row) = map.participant(seat) else {
                return;
            };
            let locked = row.lock.try_lock();
            if ready.send(locked).is_err() || !locked {
                return;
            }
            // Ends when the handle is dropped; a process that dies takes this thread with it.
            let _ = stopped.recv();
            row.lock.unlock();
        };
        let thread = std::thread::Builder::new()
            .name("hotpair-keeper".into())
            .stack_size(64 * 1024)
            .spawn(keep)?;
        match is_ready.recv() {
            Ok(true) => Ok(Keeper { stop: Some(stop), thread: Some(thread) }),
            _ => Err(io::Error::other("the seat's mutex is held by somebody else")),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Signals of the process belong to its own threads.
fn block_signals() {
    use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
    // Cannot fail with these arguments; without it a handler would merely run on this thread.
    let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None);
}
