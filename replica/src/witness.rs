//! The built-in arbiter: one durable register for the pair's view, and nothing else.
//!
//! ```text
//!   node-a ──┐  read, compare-and-set          ┌──────────┐  write, fsync, rename, fsync
//!            ├────── TLS 1.3 over TCP ────────►│ register │────────────────────────────► file
//!   node-b ──┘  current, won, lost             └──────────┘  … and only then the answer
//! ```
//!
//! It decides nothing: a compare-and-set wins exactly if it names the number of the stored view. One
//! whose store is empty or an older copy grants nothing before the nodes have told it what it should
//! know: see [`Record`](crate::protocol::Record).
//!
//! What travels between them: [`frames`](crate::frames).

mod client;
mod register;
mod server;

pub use client::Witness;

pub use register::{OpenError, Register, StoreError};
pub use server::WitnessServer;

use crate::frames::{
    FRAME_BYTES_MAX, decode_answer, decode_question, encode_answer, encode_question,
};
#[cfg(test)]
use crate::{
    arbiter::Question,
    frames::FrameError,
    protocol::{Answer, Request, RequestId, Testimony, View},
};

/// Names this conversation and its version in the TLS handshake.
const PROTOCOL: &[u8] = b"hotpair-witness/2";

#[cfg(test)]
mod tests;
