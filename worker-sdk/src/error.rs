//! What can go wrong for a worker, in one type, so that `?` is all a worker needs.

use std::time::Duration;

use hotpair_shm::{
    AlsoError, AttachError, CommitError, CreateObjectError, JoinError, OutOf, ReadError, Seq,
};

/// Why a call of the SDK failed. Nothing is lost by any of them: the object is ready again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody has told this program of a region.
    #[error(
        "{variable} is not set: a node sets it for the workers that it starts; by hand it is the name of its region"
    )]
    NoNode {
        /// In its environment.
        variable: &'static str,
    },
    /// There is no region of that name that this build can use.
    #[error("cannot attach to the space {name:?}")]
    Attach {
        /// The space.
        name: String,
        /// Why.
        #[source]
        source: AttachError,
    },
    /// The region has no seat for this process.
    #[error("cannot join the space {name:?}")]
    Join {
        /// The space.
        name: String,
        /// Why.
        #[source]
        source: JoinError,
    },
    /// A queue that the region's geometry does not name.
    #[error("the space has no queue {name:?}; it has {known:?}")]
    NoSuchQueue {
        /// As asked for.
        name: String,
        /// Queues there are.
        known: Vec<String>,
    },
    /// A port that the region's geometry does not name.
    #[error("the space has no port {name:?}; it has {known:?}")]
    NoSuchPort {
        /// As asked for.
        name: String,
        /// Ports there are.
        known: Vec<String>,
    },
    /// The value is not of the type that it is looked at as.
    #[error("the object's value is {found} bytes, {wanted} needs {size}")]
    ValueShape {
        /// Bytes of the value.
        found: usize,
        /// Name of the type.
        wanted: &'static str,
        /// Its size.
        size: usize,
    },
    /// The value is a record of another layout, or none.
    #[error(
        "the object's value has the layout {found:016x} ({found_bytes} bytes), {name} has {wanted:016x} ({wanted_bytes} bytes): it \
         was written by another version of the type, or is no record"
    )]
    Layout {
        /// That of the value.
        found: u64,
        /// Its length.
        found_bytes: usize,
        /// That of the type.
        wanted: u64,
        /// Its length as a value.
        wanted_bytes: usize,
        /// Name of the type.
        name: &'static str,
    },
    /// No free block.
    #[error(transparent)]
    OutOf(#[from] OutOf),
    /// The object could not be created.
    #[error(transparent)]
    Create(#[from] CreateObjectError),
    /// Another object could not be taken into the commit.
    #[error(transparent)]
    Also(#[from] AlsoError),
    /// Another object could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The commit did not happen; the object is ready again.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The descriptor by which an event loop is woken.
    #[error("cannot watch for what is ready")]
    Bell(#[source] std::io::Error),
    /// Of a worker of another host.
    #[cfg(feature = "remote")]
    #[error(transparent)]
    Remote(#[from] crate::remote::RemoteError),
    /// The commit happened, but the outside may not know yet.
    #[error("commit {seq} was not released within {waited:?}")]
    NotReleased {
        /// The commit.
        seq: Seq,
        /// How long was waited.
        waited: Duration,
    },
}
