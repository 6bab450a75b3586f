//! Workers by the functions of C.

#![expect(unsafe_code, reason = "it calls them as C would")]

use std::ffi::{CString, c_int, c_void};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::time::Duration;

use ::hotpair_worker::testing::{Certificates, Host, PATIENCE};
use ::hotpair_worker::{Error, Seq, Wait};
use hotpair_worker_c::*;

use crate::calls::{Act, AnyJob, AnyWorker, Calls, Handler, Message, OtherCalls};
use crate::errors::{Of, checked};

fn c(text: &str) -> CString {
    CString::new(text).expect("a name without zero bytes")
}

/// A handle, closed with the last that has it.
struct Handle(*mut hotpair_worker);

// SAFETY: a handle may go to another thread, which adopts it; the stop function may be called by any.
unsafe impl Send for Handle {}
// SAFETY: the same.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: nobody else has it any more.
        unsafe {
            hotpair_adopt(self.0);
            assert_eq!(hotpair_close(self.0), 0);
        }
    }
}

/// Released between two calls, so that a test may use it from any thread.
pub(crate) struct Worker(Arc<Handle>);

pub(crate) fn local(space: &str, queue: &str) -> Result<Box<dyn AnyWorker + Send>, Error> {
    let mut made = null_mut();
    // SAFETY: texts and a place.
    let result = unsafe { hotpair_attach(c(space).as_ptr(), c(queue).as_ptr(), &raw mut made) };
    finished(result, made)
}

pub(crate) fn remote(
    host: &Host,
    certificates: &Certificates,
    queue: &str,
) -> Result<Box<dyn AnyWorker + Send>, Error> {
    let pki = c(certificates.path().to_str().expect("a path in UTF-8"));
    let node = host.node();
    let nodes = c(&format!("{}={}", node.member, node.addresses[0]));
    let (queue, patience) = (c(queue), PATIENCE.as_nanos() as u64);
    let mut made = null_mut();
    // SAFETY: texts and a place.
    let result = unsafe {
        let (pki, nodes, queue) = (pki.as_ptr(), nodes.as_ptr(), queue.as_ptr());
        hotpair_attach_remote(pki, nodes, queue, 1, patience, &raw mut made)
    };
    finished(result, made)
}

fn finished(result: c_int, made: *mut hotpair_worker) -> Result<Box<dyn AnyWorker + Send>, Error> {
    checked(result, Of::Other)?;
    // SAFETY: a new handle.
    assert_eq!(unsafe { hotpair_release(made) }, 0);
    Ok(Box::new(Worker(Arc::new(Handle(made)))))
}

impl Worker {
    fn adopted(&self) -> *mut hotpair_worker {
        let handle = self.0.0;
        // SAFETY: a handle that is not closed, here and below.
        assert_eq!(unsafe { hotpair_adopt(handle) }, 0);
        handle
    }
}

/// Nanoseconds as C wants them. How to wait meanwhile C does not choose.
fn timeout(wait: Wait) -> i64 {
    wait.limit().map_or(-1, |limit| limit.as_nanos() as i64)
}

impl AnyWorker for Worker {
    fn claim(&mut self, wait: Wait) -> Result<Option<Box<dyn AnyJob + '_>>, Error> {
        let handle = self.adopted();
        // SAFETY: as above.
        let claimed = checked(unsafe { hotpair_claim(handle, timeout(wait)) }, Of::Other);
        if let Ok(1) = claimed {
            let job = Job { handle, owner: Some(self), settled: false };
            return Ok(Some(Box::new(job)));
        }
        // SAFETY: as above.
        unsafe { hotpair_release(handle) };
        claimed.map(|_| None)
    }

    fn run(&mut self, _wait: Wait, handler: Handler<'_>) -> Result<(), Error> {
        unsafe extern "C" fn call(handle: *mut hotpair_worker, context: *mut c_void) -> c_int {
            // SAFETY: the context of `hotpair_run` below, which lasts as long as that call.
            let handler = unsafe { &mut *context.cast::<Handler<'_>>() };
            let mut job = Job { handle, owner: None, settled: true };
            // No panic passes to C; an error of the handler's is any number but 0.
            match catch_unwind(AssertUnwindSafe(|| handler(&mut job))) {
                Ok(Ok(())) => 0,
                _ => 1,
            }
        }
        let (handle, mut handler) = (self.adopted(), handler);
        let context = (&raw mut handler).cast();
        // SAFETY: a function that may be called with this context.
        let ended = checked(unsafe { hotpair_run(handle, Some(call), context) }, Of::Other);
        // SAFETY: as above.
        unsafe { hotpair_release(handle) };
        ended.map(drop)
    }

    fn stopper(&self) -> Box<dyn Fn() + Send + Sync> {
        let handle = Arc::clone(&self.0);
        // SAFETY: not closed while this has it.
        Box::new(move || assert_eq!(unsafe { hotpair_stop(handle.0) }, 0))
    }
}

struct Job<'w> {
    handle: *mut hotpair_worker,
    /// To be released at the end; of a handler's it is not.
    owner: Option<&'w mut Worker>,
    settled: bool,
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        // SAFETY: a handle that is not closed.
        unsafe {
            if !self.settled && std::thread::panicking() {
                assert_eq!(hotpair_fail(self.handle), 0);
            } else if !self.settled {
                assert_eq!(hotpair_give_back(self.handle), 0);
            }
            if self.owner.is_some() {
                hotpair_release(self.handle);
            }
        }
    }
}

/// A call on the job's handle, with pointers that are good for the call.
macro_rules! call {
    ($job:expr, $of:expr, $function:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: a handle that is not closed, and pointers to what lives until the call returns.
        checked(unsafe { $function($job.handle, $($argument),*) }, $of)
    };
}

fn slice<'b>(start: *const u8, length: usize) -> &'b [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: as the library has just given it; copied at once by the callers.
    unsafe { std::slice::from_raw_parts(start, length) }
}

impl Job<'_> {
    /// The value in place, of eight bytes.
    fn number(&mut self) -> Result<&mut u64, Error> {
        let mut place = null_mut();
        call!(self, Of::Other, hotpair_value_mut(8, &raw mut place))?;
        assert!(place.cast::<u128>().is_aligned());
        // SAFETY: eight bytes, aligned, valid until the value is set or the object ends.
        Ok(unsafe { &mut *place.cast::<u64>() })
    }

    fn make(
        &mut self,
        queue: &str,
        key: Option<&[u8]>,
        value: &[u8],
        ready: c_int,
    ) -> Result<(), Error> {
        let queue = c(queue);
        let (start, length) = key.map_or((null(), 0), |key| (key.as_ptr(), key.len()));
        let of = Of::Create;
        call!(
            self,
            of,
            hotpair_create(queue.as_ptr(), start, length, value.as_ptr(), value.len(), ready)
        )
        .map(drop)
    }
}

impl Calls for Job<'_> {
    fn key(&self) -> Vec<u8> {
        let (mut start, mut length) = (null(), 0);
        call!(self, Of::Other, hotpair_key(&raw mut start, &raw mut length)).expect("in hand");
        slice(start, length).to_vec()
    }
    fn slot(&self) -> u32 {
        let mut slot = 0;
        call!(self, Of::Other, hotpair_slot(&raw mut slot)).expect("in hand");
        slot
    }
    fn attempts(&self) -> u32 {
        let mut attempts = 0;
        call!(self, Of::Other, hotpair_attempts(&raw mut attempts)).expect("in hand");
        attempts
    }
    fn messages(&self) -> Vec<Message> {
        let count = call!(self, Of::Other, hotpair_message_count()).expect("in hand");
        let message = |at| {
            let mut found = std::mem::MaybeUninit::<hotpair_message>::uninit();
            call!(self, Of::Other, hotpair_message_get(at, found.as_mut_ptr()))
                .expect("one of them");
            // SAFETY: the call has written it.
            let found = unsafe { found.assume_init() };
            let address = found.source;
            let ip = match address.family {
                0 => None,
                4 => Some(<[u8; 4]>::try_from(&address.ip[..4]).expect("four").into()),
                _ => Some(address.ip.into()),
            };
            let source = ip.map(|ip| SocketAddr::new(ip, address.port));
            (found.id, source, slice(found.payload, found.length).to_vec())
        };
        (0..count as usize).map(message).collect()
    }
    fn value(&self) -> Vec<u8> {
        let (mut start, mut length) = (null(), 0);
        call!(self, Of::Other, hotpair_value(&raw mut start, &raw mut length)).expect("in hand");
        slice(start, length).to_vec()
    }
    fn count(&self) -> Result<Option<u64>, Error> {
        let value = self.value();
        match value.len() {
            0 => Ok(None),
            8 => Ok(value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))),
            // C looks at the length itself.
            found => Err(Error::ValueShape { found, wanted: "a number", size: 8 }),
        }
    }
    fn add(&mut self, by: u64) -> Result<u64, Error> {
        let number = self.number()?;
        *number += by;
        Ok(*number)
    }
    fn read(&self, queue: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let (queue, mut length, mut room) = (c(queue), 0, vec![0; 1 << 20]);
        let (to, of) = (room.as_mut_ptr(), Of::Other);
        let found = call!(
            self,
            of,
            hotpair_read(queue.as_ptr(), key.as_ptr(), key.len(), to, room.len(), &raw mut length)
        )?;
        room.truncate(length);
        Ok((found == 1).then_some(room))
    }
    fn set_value(&mut self, value: &[u8]) -> Result<(), Error> {
        call!(self, Of::Other, hotpair_set_value(value.as_ptr(), value.len())).map(drop)
    }
    fn emit(&mut self, port: &str, to: SocketAddr, payload: &[u8]) -> Result<(), Error> {
        let (port, written, mut to) = (c(port), c(&to.to_string()), hotpair_address::default());
        // SAFETY: a text and a place.
        assert_eq!(unsafe { hotpair_address_parse(written.as_ptr(), &raw mut to) }, 0);
        let of = Of::Other;
        call!(self, of, hotpair_emit(port.as_ptr(), &raw const to, payload.as_ptr(), payload.len()))
            .map(drop)
    }
    fn send(&mut self, queue: &str, key: &[u8], payload: &[u8]) -> Result<(), Error> {
        let (queue, of) = (c(queue), Of::Create);
        let (start, length) = (payload.as_ptr(), payload.len());
        call!(self, of, hotpair_send(queue.as_ptr(), key.as_ptr(), key.len(), start, length))
            .map(drop)
    }
    fn create(&mut self, queue: &str, key: Option<&[u8]>, value: &[u8]) -> Result<(), Error> {
        self.make(queue, key, value, 0)
    }
    fn create_ready(&mut self, queue: &str, key: Option<&[u8]>, value: &[u8]) -> Result<(), Error> {
        self.make(queue, key, value, 1)
    }
    fn set_priority(&mut self, priority: u8) {
        call!(self, Of::Other, hotpair_set_priority(priority)).expect("in hand");
    }
    fn withdraw(&mut self) {
        call!(self, Of::Other, hotpair_withdraw()).expect("in hand");
    }
    fn set_timer(&mut self, after: Duration) {
        call!(self, Of::Other, hotpair_set_timer(after.as_nanos() as u64)).expect("in hand");
    }
    fn clear_timer(&mut self) {
        call!(self, Of::Other, hotpair_clear_timer()).expect("in hand");
    }
    fn timer(&self) -> Option<Duration> {
        let mut left = 0;
        let found = call!(self, Of::Other, hotpair_timer(&raw mut left)).expect("in hand");
        (found == 1).then_some(Duration::from_nanos(left))
    }
    fn timer_due(&self) -> bool {
        call!(self, Of::Other, hotpair_timer_due()).expect("in hand") == 1
    }
    fn stay_ready(&mut self) {
        call!(self, Of::Other, hotpair_stay_ready()).expect("in hand");
    }
    fn also(&mut self, queue: &str, key: &[u8], act: Act<'_>) -> Result<(), Error> {
        let queue = c(queue);
        let other = call!(self, Of::Also, hotpair_also(queue.as_ptr(), key.as_ptr(), key.len()))?;
        act(&mut Other { handle: self.handle, other });
        Ok(())
    }
    fn also_add(&mut self, queue: &str, key: &[u8], by: u64) -> Result<u64, Error> {
        let mut sum = Ok(0);
        self.also(queue, key, &mut |other| {
            let value = other.value();
            let before = value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            sum = other.set_value(&(before + by).to_le_bytes()).map(|()| before + by);
        })?;
        sum
    }
}

struct Other {
    handle: *mut hotpair_worker,
    other: c_int,
}

impl OtherCalls for Other {
    fn slot(&self) -> u32 {
        let mut slot = 0;
        call!(self, Of::Other, hotpair_other_slot(self.other, &raw mut slot)).expect("taken");
        slot
    }
    fn key(&self) -> Vec<u8> {
        let (mut start, mut length) = (null(), 0);
        let (to, len) = (&raw mut start, &raw mut length);
        call!(self, Of::Other, hotpair_other_key(self.other, to, len)).expect("taken");
        slice(start, length).to_vec()
    }
    fn value(&self) -> Vec<u8> {
        let (mut start, mut length) = (null(), 0);
        let (to, len) = (&raw mut start, &raw mut length);
        call!(self, Of::Other, hotpair_other_value(self.other, to, len)).expect("taken");
        slice(start, length).to_vec()
    }
    fn set_value(&mut self, value: &[u8]) -> Result<(), Error> {
        let (start, length) = (value.as_ptr(), value.len());
        call!(self, Of::Other, hotpair_other_set_value(self.other, start, length)).map(drop)
    }
    fn set_timer(&mut self, after: Duration) {
        let after = after.as_nanos() as u64;
        call!(self, Of::Other, hotpair_other_set_timer(self.other, after)).expect("taken");
    }
    fn clear_timer(&mut self) {
        call!(self, Of::Other, hotpair_other_clear_timer(self.other)).expect("taken");
    }
    fn stay_ready(&mut self) {
        call!(self, Of::Other, hotpair_other_stay_ready(self.other)).expect("taken");
    }
    fn set_priority(&mut self, priority: u8) {
        call!(self, Of::Other, hotpair_other_set_priority(self.other, priority)).expect("taken");
    }
    fn withdraw(&mut self) {
        call!(self, Of::Other, hotpair_other_withdraw(self.other)).expect("taken");
    }
}

impl AnyJob for Job<'_> {
    fn commit(mut self: Box<Self>) -> Result<Seq, Error> {
        let mut seq = 0;
        self.settled = true;
        call!(self, Of::Commit, hotpair_commit(&raw mut seq)).map(|_| Seq::from_bits(seq))
    }
    fn commit_released(mut self: Box<Self>) -> Result<Seq, Error> {
        let mut seq = 0;
        self.settled = true;
        call!(self, Of::Commit, hotpair_commit_released(&raw mut seq)).map(|_| Seq::from_bits(seq))
    }
    fn give_back(mut self: Box<Self>) {
        self.settled = true;
        call!(self, Of::Other, hotpair_give_back()).expect("in hand");
    }
    fn fail(mut self: Box<Self>) {
        self.settled = true;
        call!(self, Of::Other, hotpair_fail()).expect("in hand");
    }
}
