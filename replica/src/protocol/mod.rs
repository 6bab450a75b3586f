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
//! * **P7** Where there is no arbiter, nobody becomes primary by itself but who is named alone by the newest view that it
//!   knows (or founds with its peer); views are ordered by epoch, then number, and each node begins epochs of its own parity.

mod action;
mod asking;
mod backup;
mod by_hand;
mod config;
mod core;
mod handshake;
mod ids;
mod own_record;
mod planned;
mod primary;
mod record;
mod transfer;
mod view;

pub use action::{Action, Body, Cause, DeathNotice, Event, Fault, Receipt, Refusal, Transmit};
pub use by_hand::Promoting;
#[doc(hidden)]
pub use config::Mutation;
pub use config::{Config, ConfigError, Control, Limits, Mode, Past, Timing};
pub use core::{Core, NotShipped, Status};
pub use ids::{ConnectionId, NodeId, Seq, Tick};
pub use own_record::OwnRecord;
pub use planned::Declined;
pub use record::{Judgement, Record, Testimony};
pub use view::{Answer, Member, Request, RequestId, View, ViewError};

#[cfg(test)]
mod tests;
