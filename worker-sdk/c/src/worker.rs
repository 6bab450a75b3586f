//! Attaching, claiming, stopping, and whose a worker is.

#![expect(unsafe_code, reason = "names that C finds, and pointers from it")]

use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::time::Duration;

use ::hotpair_worker::Wait;
use ::hotpair_worker::bindings::{Bound, RemoteOptions};

use crate::errno;
use crate::failure::Failure;
use crate::handle::{close, contained, give, handle, hotpair_worker, text, with};
use crate::object::{hotpair_commit, hotpair_fail};

/// Makes a worker of `queue` in the region `space` of this host, as `hotpair status` calls it.
///
/// -ENOENT: there is no such region. -EPROTO: it is of another build. -ENXIO: no such queue. -EUSERS: no seat is free.
///
/// # Safety
/// The texts end with a zero byte, `worker` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_attach(
    space: *const c_char,
    queue: *const c_char,
    worker: *mut *mut hotpair_worker,
) -> c_int {
    contained(|| {
        check_place(worker)?;
        // SAFETY: the caller's promise.
        let (space, queue) = unsafe { (text(space, "the space")?, text(queue, "the queue")?) };
        let made = hotpair_worker::boxed(Bound::local(space, queue)?);
        // SAFETY: the caller's promise.
        unsafe { give(worker, made) };
        Ok(0)
    })
}

/// Makes a worker of another host. `pki` is the directory with the certificate `worker`; `nodes` names both nodes and the addresses
/// of their gateways: `node-a=10.0.0.1:7400,10.1.0.1:7400;node-b=10.0.0.2:7400`. `prefetch` objects are handed to it ahead,
/// and a call waits for `patience_ns` for an answer; zero is the usual for either.
///
/// It returns before anybody was reached: that there is no such queue says `hotpair_claim`.
///
/// # Safety
/// The texts end with a zero byte, `worker` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_attach_remote(
    pki: *const c_char,
    nodes: *const c_char,
    queue: *const c_char,
    prefetch: u32,
    patience_ns: u64,
    worker: *mut *mut hotpair_worker,
) -> c_int {
    contained(|| {
        check_place(worker)?;
        // SAFETY: the caller's promise.
        let (pki, nodes) = unsafe { (text(pki, "the directory")?, text(nodes, "the nodes")?) };
        // SAFETY: the same.
        let queue = unsafe { text(queue, "the queue") }?;
        let patience = Duration::from_nanos(patience_ns);
        let options = RemoteOptions { pki: Path::new(pki), nodes, prefetch, patience };
        let made = hotpair_worker::boxed(Bound::remote(&options, queue)?);
        // SAFETY: the same.
        unsafe { give(worker, made) };
        Ok(0)
    })
}

fn check_place(worker: *mut *mut hotpair_worker) -> Result<(), Failure> {
    if worker.is_null() {
        return Err(Failure::new(errno::EINVAL, "there is no place for the worker"));
    }
    Ok(())
}

/// Waits for a ready object and takes it: 1. 0: there was none in `timeout_ns`, or the worker was stopped. A negative time-out
/// is none; zero looks once.
///
/// -EBUSY: an object is in hand already.
///
/// # Safety
/// `worker` is a handle that is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_claim(worker: *mut hotpair_worker, timeout_ns: i64) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { with(worker, |bound| Ok(bound.claim(wait(timeout_ns))?.into())) }
}

/// A descriptor for `poll`, `epoll` and the like; it is the library's. It is readable when `hotpair_claim` with a time-out of zero may give
/// an object: claim until it gives 0, then wait. It is also readable every 100 ms or so, by when a stop is noticed. From the first call of this on,
/// such a claim of a worker of another host asks nobody: it gives what has come.
///
/// -EBUSY: an object is in hand.
///
/// # Safety
/// `worker` is a handle that is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_poll_fd(worker: *mut hotpair_worker) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { with(worker, |bound| Ok(bound.poll_fd()?.into())) }
}

fn wait(timeout_ns: i64) -> Wait {
    match u64::try_from(timeout_ns) {
        Ok(limit) => Wait::default().for_at_most(Duration::from_nanos(limit)),
        Err(_) => Wait::default(),
    }
}

/// What `hotpair_run` calls with each object in hand: 0 commits it, anything else gives it back as a failed attempt. The function
/// must not end the object itself.
pub type hotpair_handler =
    Option<unsafe extern "C" fn(worker: *mut hotpair_worker, context: *mut c_void) -> c_int>;

/// Works until it is stopped. A commit that does not happen leaves the object ready.
///
/// # Safety
/// `worker` is a handle that is not closed; `handler` may be called with it and `context`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_run(
    worker: *mut hotpair_worker,
    handler: hotpair_handler,
    context: *mut c_void,
) -> c_int {
    let Some(handler) = handler else {
        return Failure::new(errno::EINVAL, "the handler is NULL").report();
    };
    loop {
        // SAFETY: the caller's promise, here and below.
        match unsafe { hotpair_claim(worker, -1) } {
            1 => {}
            ended => return ended,
        }
        // Nothing of this library is borrowed meanwhile: the function calls it again.
        // SAFETY: the same.
        let done = unsafe { handler(worker, context) };
        if done == 0 {
            // SAFETY: the same.
            unsafe { hotpair_commit(worker, std::ptr::null_mut()) };
        } else {
            // SAFETY: the same.
            unsafe { hotpair_fail(worker) };
        }
    }
}

/// Asks a worker to stop after the object in its hands: its next claim gives 0, and so does one that waits, within 100 ms. Any thread
/// and any signal handler may call this.
///
/// # Safety
/// `worker` is a handle that is not closed, and is not closed meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_stop(worker: *const hotpair_worker) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { handle(worker) } {
        Ok(handle) => {
            handle.stopper().stop();
            0
        }
        Err(_) => -errno::EINVAL, // without a text, which a signal handler must not make
    }
}

/// 1 if the worker was asked to stop, else 0. Any thread may ask.
///
/// # Safety
/// As `hotpair_stop`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_is_stopped(worker: *const hotpair_worker) -> c_int {
    // SAFETY: the caller's promise.
    contained(|| Ok(unsafe { handle(worker) }?.stopper().is_stopped().into()))
}

/// Lets go of a worker, so that another thread can adopt it.
///
/// # Safety
/// `worker` is a handle that is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_release(worker: *mut hotpair_worker) -> c_int {
    contained(|| {
        // SAFETY: the caller's promise.
        unsafe { handle(worker) }?.release()?;
        Ok(0)
    })
}

/// Makes a worker that was released this thread's. -EPERM: it is another's.
///
/// # Safety
/// `worker` is a handle that is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_adopt(worker: *mut hotpair_worker) -> c_int {
    contained(|| {
        // SAFETY: the caller's promise.
        unsafe { handle(worker) }?.adopt()?;
        Ok(0)
    })
}

/// Gives back what is in hand, leaves, and frees the handle. Of another thread's nothing is freed: -EPERM. In the child of a
/// fork the parent's worker is left alone.
///
/// # Safety
/// `worker` is a handle that is not closed, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_close(worker: *mut hotpair_worker) -> c_int {
    contained(|| {
        // SAFETY: the caller's promise.
        unsafe { close(worker) }?;
        Ok(0)
    })
}
