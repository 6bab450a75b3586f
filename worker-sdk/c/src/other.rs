//! Further objects of a commit.

#![expect(unsafe_code, reason = "names that C finds, and pointers from it")]

use std::ffi::{c_char, c_int};
use std::time::Duration;

use crate::handle::{bytes, give, hotpair_worker, text, with};

/// Takes the object of `queue` that bears the key into the same commit; gives the number by which it is called from now on. Tries and never
/// waits.
///
/// -EAGAIN: another worker has it; give back what is in hand, it is offered again after a pause. -ENOENT: there is none. -EDEADLK: it is in
/// hand already. -EHOSTDOWN: it is parked. -E2BIG: a commit takes no more.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_also(
    worker: *mut hotpair_worker,
    queue: *const c_char,
    key: *const u8,
    key_length: usize,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let number = bound.also(text(queue, "the queue")?, bytes(key, key_length)?)?;
            Ok(number as i64)
        })
    }
}

/// Number of its slot.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_other_slot(
    worker: *mut hotpair_worker,
    other: c_int,
    slot: *mut u32,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            give(slot, bound.other_slot(other as usize)?);
            Ok(0)
        })
    }
}

/// Its key. Valid until the object in hand ends.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_other_key(
    worker: *mut hotpair_worker,
    other: c_int,
    key: *mut *const u8,
    length: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let (found, bytes) =
                bound.other_look(other as usize, |key, _| (key.as_ptr(), key.len()))?;
            give(length, bytes);
            give(key, found);
            Ok(0)
        })
    }
}

/// Its value as it will be committed. Valid until it is set, or the object in hand ends.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_other_value(
    worker: *mut hotpair_worker,
    other: c_int,
    value: *mut *const u8,
    length: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let look = |_: &[u8], value: &[u8]| (value.as_ptr(), value.len());
            let (found, bytes) = bound.other_look(other as usize, look)?;
            give(length, bytes);
            give(value, found);
            Ok(0)
        })
    }
}

/// Replaces its value.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_other_set_value(
    worker: *mut hotpair_worker,
    other: c_int,
    value: *const u8,
    length: usize,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.other_set_value(other as usize, bytes(value, length)?)?;
            Ok(0)
        })
    }
}

/// See `hotpair_set_timer`.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_other_set_timer(
    worker: *mut hotpair_worker,
    other: c_int,
    after_ns: u64,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.other_set_timer(other as usize, Duration::from_nanos(after_ns))?;
            Ok(0)
        })
    }
}

/// See `hotpair_clear_timer`.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_other_clear_timer(
    worker: *mut hotpair_worker,
    other: c_int,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.other_clear_timer(other as usize)?;
            Ok(0)
        })
    }
}

/// See `hotpair_stay_ready`.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_other_stay_ready(
    worker: *mut hotpair_worker,
    other: c_int,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.other_stay_ready(other as usize)?;
            Ok(0)
        })
    }
}

/// See `hotpair_set_priority`.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_other_set_priority(
    worker: *mut hotpair_worker,
    other: c_int,
    priority: u8,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.other_set_priority(other as usize, priority)?;
            Ok(0)
        })
    }
}

/// Ends it with the commit, which is refused if a message waits for it.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_other_withdraw(
    worker: *mut hotpair_worker,
    other: c_int,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.other_withdraw(other as usize)?;
            Ok(0)
        })
    }
}
