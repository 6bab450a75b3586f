//! The pair protocol as a state machine. It opens no socket, reads no clock, spawns nothing.
//!
//! ```text
//!              commits, in order                     frames, datagrams
//!   region ──► gathering(), offer() ──► ┌──────┐ ──► poll_transmit() ───► peer
//!          ◄── poll_action() ────────── │ Core │ ◄── handle_frame(), … ◄──
//!              apply, release, roles    └──────┘
//!                          poll_arbiter() │ ▲ handle_arbiter()
//!                                         ▼ │
//!                                       arbiter
//! ```
//!
//! Call a `handle_*`, [`Core::offer`] or a snapshot method when something happens, then every
//! `poll_*` until it returns `None`. Actions first: they are what the rest is about.
//!
//! # What a node can be
//!
//! ```text
//!             founded, or won a view of its own
//!  ┌──────────┐                                  ┌─────────┐
//!  │ Starting ├─────────────────────────────────►│ Primary │◄──────────┐
//!  └────┬─────┘                                  └────┬────┘           │ won its promotion
//!       │ the view has no part for it                 │ superseded     │
//!       ▼                                             ▼                │
//!  ┌─────────┐   primary begins a transfer       ┌────────┐            │
//!  │ Joining ├──────────────────────────────────►│ Backup ├────────────┘
//!  └─────────┘◄──────────────────────────────────┴────────┘
//!       ▲            lost its place in the view
//!       └───────────── (a superseded primary comes here as well)
//! ```
//!
//! Being `Backup` says that a primary ships to it; whether it is *in sync* is what the view says.
//!
//! # What holds at all times
//!
//! * **P1** Nothing is released that the in-sync back-up has not applied. Without a back-up in the
//!   *confirmed* view, everything gathered is released.
//! * **P2** A node that asked for a view and got no answer releases nothing and acks nothing. It
//!   asks the same again until it wins or loses; reading is not enough.
//! * **P3** A back-up stops acking before it asks to be promoted, and asks only after the arbiter
//!   answered a read.
//! * **P4** State is shipped only to a node outside the confirmed in-sync set, and never while a
//!   request of the shipper is unanswered.
//! * **P5** A node enters the set only when it has applied everything released, everything up to the
//!   commit position read after the last slot was copied, and every packet not known to be sent,
//!   and from before that moment nothing is released without its ack.
//! * **P6** A process that starts resumes no epoch.
//! * **P7** Of a returning node's state only what both have in common is kept: it names what it changed
//!   later, and gets that as well. Its history stays what it was until the transfer is whole.
//! * **P8** A bounded port sends ahead of the acks only what lies within its bounds, and only while the lease of
//!   the newest ack lasts; a back-up asks for an epoch of its own only when every lease that its acks granted
//!   has ended, unless the kernel confirmed the death of the primary's process.
//!
//! P8 is about time, the others are not; where no port is bounded there is no lease. It holds because of three
//! things. A lease ends first where it is used: it is counted there from an earlier moment, and shortened by what
//! clocks can differ in their rates. It needs nobody's attention to end: each port looks at the clock before it
//! sends. And no one hands it on: the primary extends it by acks of its own epoch and connection alone, and P3
//! says that there are none after the question. So a primary that was stopped or cut off has fallen silent, in its
//! bounded ports too, before there is another; what they told that the other lacks lies within the bounds. Of a
//! process that died, the ports may live: until the lease ends they may send what it had allowed, which lies
//! within the bounds as well, beside the new primary. See `bounded.rs` for each state.
//! * **P9** Where there is no arbiter, nobody becomes primary by itself but who is named alone by the newest view that it
//!   knows (or founds with its peer); views are ordered by epoch, then number, and each node begins epochs of its own parity.

mod action;
mod asking;
mod backup;
mod bounded;
mod by_hand;
mod config;
mod core;
mod handshake;
mod history;
mod ids;
mod own_record;
mod planned;
mod primary;
mod record;
mod transfer;
mod unapplied;
mod view;

pub use action::{
    Action, Body, Cause, DeathNotice, Event, Fault, Receipt, Refusal, Resync, Transmit,
};
pub use bounded::{Closed, GateLook, Unacked};
pub use by_hand::Promoting;
#[doc(hidden)]
pub use config::Mutation;
pub use config::{Bound, Config, ConfigError, Control, Limits, Mode, Past, Timing};
pub use core::{Core, NotShipped, Status, Trip};
pub use history::History;
pub use ids::{ConnectionId, NodeId, Seq, Tick};
pub use own_record::OwnRecord;
pub use planned::Declined;
pub use record::{Judgement, Record, Testimony};
pub use view::{Answer, Member, Request, RequestId, View, ViewError};

#[cfg(test)]
mod tests;
