//! Who is at the other end of a unix socket, by the word of the kernel.
#![expect(unsafe_code, reason = "nix does not know SO_PEERGROUPS")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{getsockopt, sockopt};

/// A process is in so many groups at most that anybody looks at.
const GROUPS_MAX: usize = 1024;

/// Who may ask a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    /// The node's own; root may as well.
    pub(super) user: u32,
    /// Members of this one.
    pub(super) group: Option<u32>,
}

impl Allowed {
    /// An error names who is at the other end.
    pub(super) fn check(self, stream: &impl AsFd) -> Result<(), Refused> {
        let peer = getsockopt(stream, sockopt::PeerCredentials).map_err(|_| Refused(u32::MAX))?;
        let is_member = |group| peer.gid() == group || groups(stream).contains(&group);
        let is_allowed =
            peer.uid() == 0 || peer.uid() == self.user || self.group.is_some_and(is_member);
        if is_allowed { Ok(()) } else { Err(Refused(peer.uid())) }
    }
}

/// A user who may not ask.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "user {0} may not ask this node: root may, its own user, and members of the group of [admin]"
)]
pub(super) struct Refused(u32);

/// Whether the other end is of this user, or root.
pub(super) fn is_of(stream: &impl AsFd, user: u32) -> io::Result<bool> {
    let peer = getsockopt(stream, sockopt::PeerCredentials)?;
    Ok(peer.uid() == 0 || peer.uid() == user)
}

/// The supplementary groups that the other end had when it connected; none where the kernel does not say.
fn groups(stream: &impl AsFd) -> Vec<u32> {
    let mut groups = vec![0_u32; GROUPS_MAX];
    let mut bytes = size_of_val(groups.as_slice()) as libc::socklen_t;
    // SAFETY:
    // - the descriptor is open: it is borrowed for the call;
    // - writable: `groups` is `bytes` long, and the kernel writes no more than that;
    // - initialised: it was zeroed, and any bytes are valid `u32`s.
    let result = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    let count = if result == 0 { bytes as usize / size_of::<u32>() } else { 0 };
    groups.truncate(count);
    groups
}
