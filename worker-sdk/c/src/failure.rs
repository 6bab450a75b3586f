//! Errors: a negative number of `errno.h`, and a text for people.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};

use hotpair_shm::{AttachError, JoinError, OutOf};
use hotpair_worker::bindings::BoundError;
use hotpair_worker::remote::RemoteError;
use hotpair_worker::{AlsoError, CommitError, CreateObjectError, Error};

use crate::errno;

/// Why a call failed.
pub(crate) struct Failure {
    code: c_int,
    text: String,
}

impl Failure {
    pub(crate) fn new(code: i32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Keeps the text for this thread; gives the negative number.
    pub(crate) fn report(self) -> c_int {
        let text = self.text.replace('\0', "\\0");
        LAST.with(|last| *last.borrow_mut() = CString::new(text).unwrap_or_default());
        -self.code
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::new(CString::default());
}

/// What was wrong with this thread's last call that failed, in words. Valid until the next call that fails on this thread.
#[expect(unsafe_code, reason = "a name that C finds")]
#[unsafe(no_mangle)]
pub extern "C" fn hotpair_error_text() -> *const c_char {
    LAST.with(|last| last.borrow().as_ptr())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        BoundError::from(error).into()
    }
}

impl From<BoundError> for Failure {
    fn from(error: BoundError) -> Self {
        let code = match &error {
            BoundError::Sdk(error) => code_of(error),
            BoundError::InHand => errno::EBUSY,
            BoundError::NothingInHand => errno::EBADFD,
            BoundError::Forked => errno::EPERM,
            BoundError::Length { .. } => errno::EBADMSG,
            _ => errno::EINVAL,
        };
        Self { code, text: error.text() }
    }
}

fn code_of(error: &Error) -> i32 {
    match error {
        Error::Attach { source: AttachError::Missing { .. }, .. } => errno::ENOENT,
        Error::Attach { .. } => errno::EPROTO,
        Error::Join { source: JoinError::Full { .. }, .. } => errno::EUSERS,
        Error::NoSuchQueue { .. } | Error::NoSuchPort { .. } => errno::ENXIO,
        Error::ValueShape { .. } | Error::Layout { .. } => errno::EBADMSG,
        Error::OutOf(out) => code_of_room(out),
        Error::Create(CreateObjectError::Exists) => errno::EEXIST,
        Error::Create(CreateObjectError::KeyLength { .. }) => errno::ENAMETOOLONG,
        Error::Create(CreateObjectError::OutOf(out)) => code_of_room(out),
        Error::Also(error) => match error {
            AlsoError::Conflict => errno::EAGAIN,
            AlsoError::Absent => errno::ENOENT,
            AlsoError::Held => errno::EDEADLK,
            AlsoError::Parked => errno::EHOSTDOWN,
            AlsoError::TooMany => errno::E2BIG,
            _ => errno::EIO,
        },
        Error::Read(_) => errno::EAGAIN,
        Error::Commit(error) => match error {
            CommitError::Fenced => errno::ESTALE,
            CommitError::NewMessages => errno::EAGAIN,
            CommitError::KeyTaken => errno::EEXIST,
            CommitError::Busy => errno::EBUSY,
            CommitError::RingFull => errno::ENOBUFS,
            CommitError::TooLarge => errno::E2BIG,
            CommitError::OutOf(out) => code_of_room(out),
            _ => errno::EIO,
        },
        Error::Remote(error) => match error {
            RemoteError::Stale => errno::ECONNRESET,
            RemoteError::Unanswered { .. } => errno::ETIMEDOUT,
            RemoteError::NoRoom { .. } => errno::ENOSPC,
            RemoteError::Refused { .. } => errno::ECONNREFUSED,
            _ => errno::EIO,
        },
        Error::NotReleased { .. } => errno::ETIME,
        _ => errno::EIO,
    }
}

fn code_of_room(out: &OutOf) -> i32 {
    match out {
        OutOf::TooLarge { .. } => errno::EMSGSIZE,
        _ => errno::ENOSPC,
    }
}
