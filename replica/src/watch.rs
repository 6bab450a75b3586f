//! Descriptors that the event loop waits for.
#![expect(
    unsafe_code,
    reason = "the event loop wants to be promised that a descriptor stays the same"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the event loop of the calling task, for this interest alone.
pub(crate) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY:
    // - open: the `AsyncFd` owns it, and takes it out of the loop before it closes it;
    // - the same: `OwnedFd` gives the same descriptor at every call.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(io::Error::from)
}
