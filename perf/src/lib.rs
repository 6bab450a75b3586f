//! The measuring harness: how fast hotpair is, and how far from what the machine can do.
//!
//! ```text
//!   Options ──► Bench::run ──► Report ──► people (Display) or programs (serde)
//!                  │
//!                  ├ warm-up, then the thing and its limit in turn, in slices of one run
//!                  ├ histograms ──► p50, p99, p99.9, max; `.hgrm` and `.hlog` files
//!                  └ a thread that hears the machine's own hiccups
//!
//!   Reports of all benches ──► RunFile ──► Comparison with another one
//!                          └─► page, to be looked at
//! ```
//!
//! # What a figure here means
//! * **Ratios, not absolutes.** Figures move between machines and between runs by a factor of two, so
//!   each bench measures a *limit* beside the thing itself: the same useful work done by the plainest
//!   code, in the same process, with the same waiting style, in alternating slices of one run.
//! * **Open loop.** A latency counts from when the operation was due, not from when a slow predecessor
//!   let it begin; otherwise one stall of a second hides a thousand missed operations. The exception is
//!   a question about a single operation's cost (`claim`), where nothing is due.
//! * **The whole distribution.** A run keeps every value, to three digits.

mod attach;
mod bell;
mod claim;
mod commit_ack;
mod compare;
mod contend;
mod cost;
mod delta;
mod echo;
mod failover;
mod figures;
mod free_address;
mod handoff;
mod helper;
mod histogram;
mod html;
mod machine;
mod memory;
mod noise;
mod objects;
mod options;
mod pace;
mod page;
mod pair;
mod peers;
mod proc;
mod processes;
mod queue_wait;
mod reap;
mod redis;
mod registry;
mod relay;
mod remote;
mod replay;
mod replicate;
mod report;
mod resp;
mod resync;
mod ring;
mod run_file;
mod scale;
mod scratch;
mod section;
mod slices;
mod status;
mod stream;
mod summary;
mod text;
mod trace;
mod udp;
mod wire;

pub use attach::{Attached, Process};
pub use compare::{Comparison, Moved, Row};
pub use helper::help;
pub use histogram::{Histogram, Summary};
pub use html::page;
pub use machine::Machine;
pub use noise::{Noise, NoiseFigures};
pub use options::{BadSize, By, MessageSize, Options, UnknownBy, UnknownVictim, Victim};
pub use registry::{Bar, Bench, BenchError, Form, Measured, find, registry};
pub use report::{
    FailoverReport, LatencyReport, Limit, MemoryPeer, MemoryReport, Part, Peer, RateLimit,
    RatePeer, RateReport, Report, Sheet, SheetLimit, SheetReport, Spread, Stage, StageLook, Stages,
};
pub use run_file::{Line, RunFile, RunFileError};
pub use scratch::abandon;
pub use section::Section;
pub use summary::summary;
