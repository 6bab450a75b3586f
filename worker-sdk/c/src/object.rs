//! The object in a worker's hands: what it is, what its commit will do, and how it ends.

#![expect(unsafe_code, reason = "names that C finds, and pointers from it")]

use std::ffi::{c_char, c_int};
use std::time::Duration;

use crate::address::{hotpair_address, socket};
use crate::errno;
use crate::failure::Failure;
use crate::handle::{bytes, give, hotpair_worker, text, with};

/// A message that waited for the object.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hotpair_message {
    /// Its bytes, in place: valid until the object's end.
    pub payload: *const u8,
    /// How many.
    pub length: usize,
    /// A number that no other message of the region has had.
    pub id: u64,
    /// Where it came from.
    pub source: hotpair_address,
}

/// The object's key; empty if it has none. Valid until the object's end.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_key(
    worker: *mut hotpair_worker,
    key: *mut *const u8,
    length: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let found = bound.key()?;
            give(length, found.len());
            give(key, found.as_ptr());
            Ok(0)
        })
    }
}

/// Number of the object's slot.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_slot(worker: *mut hotpair_worker, slot: *mut u32) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            give(slot, bound.slot()?);
            Ok(0)
        })
    }
}

/// How often in a row work on this object has failed.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_attempts(
    worker: *mut hotpair_worker,
    attempts: *mut u32,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            give(attempts, bound.attempts()?);
            Ok(0)
        })
    }
}

/// How many messages wait. The commit consumes them.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_message_count(worker: *mut hotpair_worker) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let count = bound.message_count()?;
            Ok(count as i64)
        })
    }
}

/// One of the messages, of which 0 is the oldest. -ERANGE: there are not so many.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_message_get(
    worker: *mut hotpair_worker,
    number: usize,
    message: *mut hotpair_message,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let Some(packet) = bound.message(number)? else {
                let text = format!("message {number} of {}", bound.message_count()?);
                return Err(Failure::new(errno::ERANGE, text));
            };
            let payload = packet.payload();
            let found = hotpair_message {
                payload: payload.as_ptr(),
                length: payload.len(),
                id: packet.id(),
                source: packet.source().into(),
            };
            give(message, found);
            Ok(0)
        })
    }
}

/// The value as it will be committed, in place. Valid until the value is set or the object ends.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_value(
    worker: *mut hotpair_worker,
    value: *mut *const u8,
    length: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let found = bound.value()?;
            give(length, found.len());
            give(value, found.as_ptr());
            Ok(0)
        })
    }
}

/// The value, to be changed in place: `length` bytes at an address that is a multiple of 16. An empty value becomes zeros. Valid until the
/// value is set or the object ends.
///
/// -EBADMSG: the value has another length.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_value_mut(
    worker: *mut hotpair_worker,
    length: usize,
    value: *mut *mut u8,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            give(value, bound.value_mut(length)?.as_mut_ptr());
            Ok(0)
        })
    }
}

/// Replaces the value; its length may change. `value` may not lie in the old one.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_set_value(
    worker: *mut hotpair_worker,
    value: *const u8,
    length: usize,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.set_value(bytes(value, length)?)?;
            Ok(0)
        })
    }
}

/// Copies the committed value of another object into `buffer`, without claiming it: 1. 0: there is none. `length` is set to its length;
/// -ERANGE: `capacity` is less.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_read(
    worker: *mut hotpair_worker,
    queue: *const c_char,
    key: *const u8,
    key_length: usize,
    buffer: *mut u8,
    capacity: usize,
    length: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let (queue, key) = (text(queue, "the queue")?, bytes(key, key_length)?);
            let Some(found) = bound.read(queue, key)? else {
                give(length, 0);
                return Ok(0);
            };
            give(length, found.len());
            if found.len() > capacity || buffer.is_null() && !found.is_empty() {
                let text =
                    format!("the value is {} bytes, there is room for {capacity}", found.len());
                return Err(Failure::new(errno::ERANGE, text));
            }
            if !found.is_empty() {
                // SAFETY: the caller's promise; there is room, as checked, and a fresh vector does not overlap.
                buffer.copy_from_nonoverlapping(found.as_ptr(), found.len());
            }
            Ok(1)
        })
    }
}

/// Sends a packet through `port` when the commit is released. -ENXIO: no such port.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_emit(
    worker: *mut hotpair_worker,
    port: *const c_char,
    to: *const hotpair_address,
    payload: *const u8,
    length: usize,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.emit(text(port, "the port")?, socket(to)?, bytes(payload, length)?)?;
            Ok(0)
        })
    }
}

/// Sends a message with the commit to the object of `queue` that bears the key, or to a new one.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_send(
    worker: *mut hotpair_worker,
    queue: *const c_char,
    key: *const u8,
    key_length: usize,
    payload: *const u8,
    length: usize,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let (queue, key) = (text(queue, "the queue")?, bytes(key, key_length)?);
            bound.send(queue, key, bytes(payload, length)?)?;
            Ok(0)
        })
    }
}

/// Creates an object with the commit; without a key if `key` is NULL. It is idle until it gets a message, or, if `ready` is not zero, ready at
/// once. -EEXIST: the key is another object's.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_create(
    worker: *mut hotpair_worker,
    queue: *const c_char,
    key: *const u8,
    key_length: usize,
    value: *const u8,
    length: usize,
    ready: c_int,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let queue = text(queue, "the queue")?;
            let key = if key.is_null() { None } else { Some(bytes(key, key_length)?) };
            bound.create(queue, key, bytes(value, length)?, ready != 0)?;
            Ok(0)
        })
    }
}

/// Puts the object into another priority lane from the commit on; 0 is the most urgent.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_set_priority(worker: *mut hotpair_worker, priority: u8) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.set_priority(priority)?;
            Ok(0)
        })
    }
}

/// Ends the object with the commit.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_withdraw(worker: *mut hotpair_worker) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.withdraw()?;
            Ok(0)
        })
    }
}

/// Makes the object ready again after so many nanoseconds; replaces the timer it has.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_set_timer(worker: *mut hotpair_worker, after_ns: u64) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.set_timer(Duration::from_nanos(after_ns))?;
            Ok(0)
        })
    }
}

/// Stops the timer.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_clear_timer(worker: *mut hotpair_worker) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.clear_timer()?;
            Ok(0)
        })
    }
}

/// 1 and the time left on the timer as it will be committed, or 0: there is none.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_timer(worker: *mut hotpair_worker, left_ns: *mut u64) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let Some(left) = bound.timer()? else { return Ok(0) };
            give(left_ns, u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
            Ok(1)
        })
    }
}

/// 1 if the timer is due, else 0. A commit that does not set it anew clears it.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_timer_due(worker: *mut hotpair_worker) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            let due = bound.timer_due()?;
            Ok(due.into())
        })
    }
}

/// Makes the object ready again right after the commit.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_stay_ready(worker: *mut hotpair_worker) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.stay_ready()?;
            Ok(0)
        })
    }
}

/// Does all that was asked for in one step, or nothing. `seq`, if it is not NULL, becomes the commit's position. Either way the object is in
/// hand no more.
///
/// Nothing has happened and the object is ready again, after -ESTALE: the node is no primary any more; -EAGAIN: a message came for the
/// object that was to be withdrawn; -EEXIST: a key was taken meanwhile; -EBUSY: others were in the way; -ENOBUFS: earlier commits
/// were not gathered; -E2BIG: it has too many steps; -ENOSPC: no room; -ECONNRESET: the server was lost. After -ETIMEDOUT, of remote
/// workers, it is not known whether it has happened.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_commit(worker: *mut hotpair_worker, seq: *mut u64) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            give(seq, bound.commit()?.to_bits());
            Ok(0)
        })
    }
}

/// The same, and returns when the back-up holds the commit. -ETIME: it happened, and was not released within 10 seconds.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_commit_released(
    worker: *mut hotpair_worker,
    seq: *mut u64,
) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            give(seq, bound.commit_released()?.to_bits());
            Ok(0)
        })
    }
}

/// Gives the object back as it was.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_give_back(worker: *mut hotpair_worker) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.give_back(false)?;
            Ok(0)
        })
    }
}

/// Gives the object back as a failed attempt; after `max_attempts` in a row it is parked.
///
/// # Safety
/// `worker` is a handle that is not closed; other pointers may be read, or written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_fail(worker: *mut hotpair_worker) -> c_int {
    // SAFETY: the caller's promise, here and inside.
    unsafe {
        with(worker, |bound| {
            bound.give_back(true)?;
            Ok(0)
        })
    }
}
