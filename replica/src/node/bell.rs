//! The region's bell as something that the event loop can wait for.
#![expect(unsafe_code, reason = "descriptors that the compiler cannot see the owner of")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use hotpair_shm::Participant;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::watch;

/// Registers the bell of a seat with the event loop of the calling task.
pub(super) fn watch(seat: &mut Participant) -> io::Result<AsyncFd<OwnedFd>> {
    let bell = seat.bell_fd()?;
    // SAFETY: the seat owns the socket and keeps it open as long as it lives, which is longer than
    // this borrow: it is borrowed itself until the descriptor is duplicated.
    let bell = unsafe { BorrowedFd::borrow_raw(bell) }.try_clone_to_owned()?;
    watch::watch(bell, Interest::READABLE)
}
