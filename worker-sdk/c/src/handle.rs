//! The handle of a worker: whose it is, and a call on it.

#![expect(unsafe_code, reason = "handles and slices come from C as pointers")]

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use ::hotpair_worker::Stopper;
use ::hotpair_worker::bindings::Bound;

use crate::errno;
use crate::failure::Failure;

/// A worker, and the object in its hands if it has one.
///
/// It belongs to the thread that made it: calls of other threads end with `-EPERM` and change nothing, but for
/// `hotpair_stop`. See `hotpair_release` for handing it to another thread.
pub struct hotpair_worker {
    /// Number of the thread that it belongs to; zero: of none.
    owner: AtomicU64,
    stopper: Stopper,
    bound: UnsafeCell<Bound>,
}

/// A number that no other thread of this process has had.
#[inline]
fn this_thread() -> u64 {
    thread_local! {
        // Zero: it has none yet. Without a first time to be looked for it is one load.
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    NUMBER.with(|number| match number.get() {
        0 => {
            static NEXT: AtomicU64 = AtomicU64::new(1);
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
            number.get()
        }
        known => known,
    })
}

impl hotpair_worker {
    pub(crate) fn boxed(bound: Bound) -> *mut hotpair_worker {
        let (owner, stopper) = (AtomicU64::new(this_thread()), bound.stopper());
        Box::into_raw(Box::new(hotpair_worker { owner, stopper, bound: UnsafeCell::new(bound) }))
    }

    #[inline]
    fn check_owner(&self) -> Result<(), Failure> {
        // Acquire: what the thread did that released it comes before.
        let owner = self.owner.load(Ordering::Acquire);
        if owner == this_thread() { Ok(()) } else { Err(Self::not_mine(owner)) }
    }

    #[cold]
    fn not_mine(owner: u64) -> Failure {
        match owner {
            0 => Failure::new(errno::EPERM, "this worker was released and nobody has adopted it"),
            _ => Failure::new(errno::EPERM, "this worker belongs to another thread"),
        }
    }

    pub(crate) fn release(&self) -> Result<(), Failure> {
        self.check_owner()?;
        // Release, pairs with the adopter's swap and the load of `check_owner`.
        self.owner.store(0, Ordering::Release);
        Ok(())
    }

    pub(crate) fn adopt(&self) -> Result<(), Failure> {
        let mine = this_thread();
        match self.owner.compare_exchange(0, mine, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(owner) if owner == mine => Ok(()),
            Err(_) => Err(Failure::new(errno::EPERM, "this worker belongs to another thread")),
        }
    }

    pub(crate) fn stopper(&self) -> &Stopper {
        &self.stopper
    }
}

/// A handle that C gave.
///
/// # Safety
/// `worker` is null, or a handle that was made here and is not closed.
pub(crate) unsafe fn handle<'h>(
    worker: *const hotpair_worker,
) -> Result<&'h hotpair_worker, Failure> {
    // SAFETY:
    // - valid: the caller's promise; nobody has a `&mut` to a handle: what changes in it is atomic or in a cell.
    unsafe { worker.as_ref() }.ok_or_else(|| Failure::new(errno::EINVAL, "the worker is NULL"))
}

/// Closes a handle: gives back what is in hand and frees it.
///
/// # Safety
/// As of [`handle`]; it is not used afterwards.
pub(crate) unsafe fn close(worker: *mut hotpair_worker) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    unsafe { handle(worker) }?.check_owner()?;
    // SAFETY:
    // - from a box: `boxed` makes every handle;
    // - not aliased: its only user is this thread, which is here.
    drop(unsafe { Box::from_raw(worker) });
    Ok(())
}

/// Does something with the worker behind a handle, if it is this thread's; no panic passes.
///
/// # Safety
/// As of [`handle`].
pub(crate) unsafe fn with(
    worker: *const hotpair_worker,
    act: impl FnOnce(&mut Bound) -> Result<i64, Failure>,
) -> c_int {
    contained(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { handle(worker) }?;
        handle.check_owner()?;
        // SAFETY:
        // - valid: as the handle is;
        // - not aliased: this is the only place that looks into the cell. Other threads do not come here, by the check above, and
        //   `act` calls nothing of the user's, so this thread is here once.
        let bound = unsafe { &mut *handle.bound.get() };
        bound.check()?;
        act(bound)
    })
}

/// Turns a failure or a panic into a number. That is a small one; as wide as a word, it is read the way it was written, which saves each
/// call a dozen cycles.
#[inline]
pub(crate) fn contained(act: impl FnOnce() -> Result<i64, Failure>) -> c_int {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(number)) => number as c_int,
        Ok(Err(failure)) => failure.report(),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no words");
            let text = format!("a panic, which is a bug of hotpair: {text}");
            Failure::new(errno::ENOTRECOVERABLE, text).report()
        }
    }
}

/// Bytes that C gave. Null is fine where there are none.
///
/// # Safety
/// `start` points to `length` bytes that nobody changes while the call lasts.
pub(crate) unsafe fn bytes<'b>(start: *const u8, length: usize) -> Result<&'b [u8], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    if start.is_null() || length > isize::MAX as usize {
        let text = format!("{length} bytes at {start:?} are no bytes");
        return Err(Failure::new(errno::EINVAL, text));
    }
    // SAFETY:
    // - valid and unchanged: the caller's promise; not null and not too long: checked above.
    Ok(unsafe { std::slice::from_raw_parts(start, length) })
}

/// Text that C gave.
///
/// # Safety
/// `text` is null or ends with a zero byte, and nobody changes it while the call lasts.
pub(crate) unsafe fn text<'t>(text: *const c_char, what: &str) -> Result<&'t str, Failure> {
    if text.is_null() {
        return Err(Failure::new(errno::EINVAL, format!("{what} is NULL")));
    }
    // SAFETY: the caller's promise, and it is not null.
    let text = unsafe { CStr::from_ptr(text) };
    let wrong = |_| Failure::new(errno::EINVAL, format!("{what} is not UTF-8: {text:?}"));
    text.to_str().map_err(wrong)
}

/// Writes a result to where C wants it; null: it is not wanted.
///
/// # Safety
/// `place` is null, or may be written.
pub(crate) unsafe fn give<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: the caller's promise; aligned as C aligns its variables.
        unsafe { place.write(value) };
    }
}
