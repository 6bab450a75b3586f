//! Death by kernel notice: what is known within a millisecond when a process dies.
//!
//! ```text
//!    host A                                              host B
//!  ┌────────────┐  tripwire: TLS over TCP            ┌──────────┐
//!  │ supervisor ├───────────────────────────────────►│   node   │   FIN: A's supervisor died, and
//!  │ maps 1 page│  "my node died", or the FIN that   └──────────┘   its node with it
//!  └─────┬──────┘  the kernel sends for a dead process              a notice: A's node died
//!        │ robust mutex in a shared page: 0.1 ms
//!  ┌─────┴──────┐
//!  │    node    │  maps the region: its own FIN would come 40 ms per GiB later
//!  └────────────┘
//! ```
//!
//! The supervisor is small on purpose: the kernel closes a process's connections only after it has
//! torn its memory down. For the same reason it watches the node by a robust mutex in a page that
//! both map, which the kernel marks *first*, and not by its pid.
//!
//! A notice is a reason to ask the arbiter, never a permission: what a broken network says in the
//! name of a kernel costs a question, not a split pair.

mod client;
mod page;
mod server;

pub use client::TripwireClient;
pub use page::{NodeSeat, SharedPage, Watch};
pub use server::{TripwireEvent, TripwireServer};

/// Names this conversation and its version in the TLS handshake.
const PROTOCOL: &[u8] = b"hotpair-tripwire/1";
/// The only frame: a node's launch number.
const FRAME_BYTES: usize = 8;

#[cfg(test)]
mod tests;
