//! From a number of `errno.h` back to the error of Rust, by the call that gave it.

use std::ffi::CStr;

use hotpair_worker::remote::RemoteError;
use hotpair_worker::{AlsoError, CommitError, CreateObjectError, Error, OutOf, Seq};
use hotpair_worker_c::hotpair_error_text;

/// Which call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// Anything that is not below.
    Other,
    Create,
    Also,
    Commit,
}

/// What the last call on this thread has said.
#[expect(unsafe_code, reason = "text of C")]
pub(crate) fn words() -> String {
    // SAFETY: the library's own text, which stays until the next call that fails on this thread.
    unsafe { CStr::from_ptr(hotpair_error_text()) }.to_string_lossy().into_owned()
}

/// A result of C: a number, or the error.
pub(crate) fn checked(result: i32, of: Of) -> Result<i32, Error> {
    if result >= 0 {
        return Ok(result);
    }
    let text = words();
    assert!(!text.is_empty(), "an error without words: {result}");
    Err(error(-result, of, text))
}

fn error(code: i32, of: Of, text: String) -> Error {
    let numbers: Vec<usize> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
    let quoted: Vec<String> = text.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    match (code, of) {
        (libc::ENXIO, _) => {
            let (name, known) = (quoted[0].clone(), quoted[1..].to_vec());
            if text.contains("no queue") {
                Error::NoSuchQueue { name, known }
            } else {
                Error::NoSuchPort { name, known }
            }
        }
        (libc::EBADMSG, _) => {
            Error::ValueShape { found: number(0), wanted: "what C asked for", size: number(1) }
        }
        (libc::EMSGSIZE, of) => {
            let out = OutOf::TooLarge { bytes: number(0), largest: number(1) };
            if of == Of::Create { CreateObjectError::OutOf(out).into() } else { out.into() }
        }
        // Of local workers these are about what was asked for, of remote ones about their commit.
        (libc::ENOSPC, Of::Create) if !text.starts_with("there is no room") => {
            CreateObjectError::OutOf(OutOf::Slots { slots: number(0) as u32 }).into()
        }
        (libc::ENOSPC, _) if text.starts_with("there is no room") => {
            RemoteError::NoRoom { text }.into()
        }
        (libc::ENOSPC, _) => OutOf::Blocks { bytes: number(0) }.into(),
        (libc::EEXIST, Of::Create) => CreateObjectError::Exists.into(),
        (libc::ENAMETOOLONG, _) => CreateObjectError::KeyLength { bytes: number(0) }.into(),
        (libc::EAGAIN, Of::Also) => AlsoError::Conflict.into(),
        (libc::ENOENT, Of::Also) => AlsoError::Absent.into(),
        (libc::EDEADLK, Of::Also) => AlsoError::Held.into(),
        (libc::EHOSTDOWN, _) => AlsoError::Parked.into(),
        (libc::E2BIG, Of::Also) => AlsoError::TooMany.into(),
        (libc::EAGAIN, Of::Commit) if text.contains("another worker") => AlsoError::Conflict.into(),
        (libc::EAGAIN, Of::Commit) => CommitError::NewMessages.into(),
        (libc::ESTALE, Of::Commit) => CommitError::Fenced.into(),
        (libc::EEXIST, Of::Commit) => CommitError::KeyTaken.into(),
        (libc::EBUSY, Of::Commit) => CommitError::Busy.into(),
        (libc::ENOBUFS, Of::Commit) => CommitError::RingFull.into(),
        (libc::E2BIG, Of::Commit) => CommitError::TooLarge.into(),
        (libc::ECONNRESET, _) => RemoteError::Stale.into(),
        (libc::ECONNREFUSED, _) => RemoteError::Refused { text }.into(),
        (libc::ETIME, Of::Commit) => {
            let seq = Seq::from_bits(0);
            Error::NotReleased { seq, waited: std::time::Duration::ZERO }
        }
        _ => panic!("{of:?} ended with {code}: {text}"),
    }
}
