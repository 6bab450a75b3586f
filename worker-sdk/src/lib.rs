//! The worker SDK: claim a ready object, work on it in place, commit.
//!
//! Any worker of a queue takes any ready object: there is no assignment. A worker may die at any
//! instruction; its object is then ready again for the others, and nothing of the unfinished work is
//! ever seen. What a commit emits leaves when the back-up holds the commit.
//!
//! ```
//! use std::time::Duration;
//!
//! use hotpair_worker::{Space, Wait};
//! use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
//!
//! #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
//! #[repr(C)]
//! struct Dialog {
//!     answered: u64,
//! }
//!
//! # use hotpair_shm::{Delivery, Geometry, Kind, QueueSpec, Region};
//! # struct Removed(std::path::PathBuf);
//! # impl Drop for Removed { fn drop(&mut self) { let _ = std::fs::remove_file(&self.0); } }
//! # let name = format!("doc.{}", std::process::id());
//! # let path = Region::path_for(&name);
//! # let geometry = Geometry {
//! #     queues: vec![QueueSpec { name: "calls".into(), lanes: 1 }],
//! #     ports: vec!["sip".into()],
//! #     ..Geometry::for_objects(100)
//! # };
//! # let region = Region::create(&path, &geometry)?;
//! # let _removed = Removed(path);
//! # region.become_primary(1);
//! # let mut port = region.join(Kind::Port, "sip")?;
//! # let from = std::net::SocketAddr::from(([127, 0, 0, 1], 5060));
//! # let packet = port.packet_of(b"INVITE", from.into())?;
//! # let calls = region.queue("calls").expect("the queue of the geometry");
//! # port.deliver(Delivery { queue: calls, key: Some(b"call-1"), priority: 0 }, packet).map_err(|(e, _)| e)?;
//! # let demo = name.as_str();
//! let space = Space::attach(demo)?; // the region's name, as in `hotpair status demo`
//! let mut worker = space.worker("calls")?;
//! while let Some(mut call) = worker.claim(Wait::default())? {
//!     // any worker, any ready object
//!     let mut peer = None;
//!     for packet in call.messages() {
//!         assert_eq!(packet.payload(), b"INVITE"); // read in place
//!         peer = packet.source();
//!     }
//!     let dialog: &mut Dialog = call.value_mut()?; // a private copy, changed in place
//!     dialog.answered += 1;
//!     let reply = format!("answer {}", dialog.answered);
//!     if let Some(peer) = peer {
//!         call.emit("sip", peer, reply.as_bytes())?; // leaves when the back-up has it
//!     }
//!     call.set_timer(Duration::from_secs(32));
//!     call.commit()?;
//!     # break;
//! }
//! # region.raise_released(region.commit_seq());
//! # let packet = port.take_emitted(region.port("sip").expect("the port")).expect("released");
//! # assert_eq!(packet.payload(), b"answer 1");
//! # port.sent(packet);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "tokio")]
mod asynchronous;
#[cfg(feature = "bindings")]
#[doc(hidden)]
pub mod bindings;
mod care;
mod error;
mod job;
pub mod metrics;
mod other;
mod polled;
mod record;
#[cfg(feature = "remote")]
pub mod remote;
mod space;
#[cfg(feature = "termination")]
mod termination;
#[cfg(feature = "testing")]
pub mod testing;
mod wait;
mod worker;

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncWorker;
pub use error::Error;
pub use hotpair_shm::{
    AlsoError, CommitError, CreateObjectError, KEY_BYTES_MAX, OTHERS_PER_CLAIM, Other, OutOf,
    ReadError, Reading, Role, STEPS_PER_COMMIT, Seq,
};
#[cfg(feature = "derive")]
pub use hotpair_worker_derive::Record;
pub use job::{Job, Packet};
pub use other::OtherJob;
pub use polled::PolledWorker;
pub use record::Record;
#[doc(hidden)]
pub use record::layout;
pub use space::Space;
#[cfg(feature = "termination")]
pub use termination::STOPPED_BY_SIGNALS_MAX;
pub use wait::Wait;
pub use worker::{Stopper, Worker};

/// The first worker of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// So does the code of the book.
#[cfg(doctest)]
#[doc = include_str!("../../docs/quick-start.md")]
#[doc = include_str!("../../docs/workers-rust.md")]
#[doc = include_str!("../../docs/cookbook.md")]
struct Book;
