//! A participant's bell as a descriptor of our own.

#![expect(unsafe_code, reason = "the bell comes as a number, without its owner")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use hotpair_shm::Participant;

/// A duplicate of the bell: readable when the armed bell was rung.
pub(crate) fn of(participant: &mut Participant) -> io::Result<OwnedFd> {
    let number = participant.bell_fd()?;
    // SAFETY: the participant owns the socket of that number and is borrowed until it is duplicated.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
}
