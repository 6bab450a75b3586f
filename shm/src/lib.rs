//! The region: a memory-mapped, lock-free space that several processes use at once.
//!
//! ```text
//!   port ──► inbox ──► ┌────────┐ claim ──► worker ──► commit ─┐
//!                      │ object │◄─────────────────────────────┤ new value, one swap
//!                      └────────┘                              ├──► emitted packets ──► port
//!                                    tx entry: redo log,  ◄────┘
//!                                    commit point, delta  ──► node ──► back-up
//! ```
//!
//! # Words
//! An *object* lives in a *slot*: one row of the state table. Its value is a *block*, immutable once
//! committed. A *claim* puts the object into one process's hands; a *commit* ends it in one step: new
//! value, consumed messages, new and withdrawn objects, timer, emitted packets. Each commit has a *seq*.
//! A *participant* is a process's seat.
//!
//! # What holds at all times
//! * **M** Plain stores go only to memory that a process owns until the kernel confirms its death.
//!   Everything shared changes only by a compare-and-swap whose expected value contains a generation.
//! * **T** The truth is in the seat, slot, block, bucket and entry words. Lanes, rings, bitmaps, chains,
//!   counters and doorbells are hints: stale, doubled or missing, and repaired from the truth.
//! * **C** A commit happens at one swap of its entry's word. Before, nothing of it is valid; after, it is
//!   finished by its owner, or by the reaper once the owner's death is confirmed.
//! * **O** At any time at most one living process has an object claimed.
//!
//! # Whom we trust
//! Participants run as the same user. They may crash at any instruction. They are not hostile: nothing
//! stops a process that owns the mapping from scribbling over it. Even so each index and length read
//! from the region is checked before use: damage is an error, or nothing, never a panic or a loop.
//!
//! Two things cannot be checked. The C library follows pointers that it keeps in the mutexes of seats and
//! of the reaper: whoever scribbles over those may crash the process that holds them. And whoever cuts
//! the file under a mapping, which is measured only when it is made, ends its users by SIGBUS; the
//! `hotpair` program says which file it was.
//!
//! # What is deliberately absent
//! No pointer in the region, no allocation after creation, no lock, no wait without bound, no network.

mod also;
mod applier;
mod bell;
mod census;
mod claim;
mod commit;
mod conflict;
mod counters;
mod courtesy;
mod deliver;
mod drain;
mod egress;
mod endpoint;
mod events;
mod fetch;
mod gate;
mod gather;
mod geometry;
mod held;
mod histogram;
mod history;
mod inbox;
mod index;
mod inspect;
mod keys;
mod layout;
mod lease;
mod leave;
mod letter;
mod map;
mod note;
mod object;
mod pages;
mod participant;
#[cfg(test)]
mod pictures;
mod policy;
mod pool;
mod process;
mod quota;
mod reading;
mod ready;
mod reap;
mod rebuild;
mod recorder;
mod region;
mod rewind;
mod ring;
mod robust;
mod role;
mod shares;
mod stages;
mod suspend;
mod sync;
mod taken_in;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
mod together;
mod tx;
mod usage;
mod value;
mod verify;
mod warm;
mod words;

pub use also::{AlsoError, OTHERS_PER_CLAIM, Other, OtherObject};
pub use applier::{Applier, ApplyError, Edit, Origin, Patch};
pub use bell::{Bell, SLEEP_MAX};
pub use claim::{
    Claim, CreateObjectError, MESSAGES_PER_CLAIM, Message, ReadyObject, TURNS_PER_LANE,
};
pub use commit::CommitError;
pub use counters::Counter;
pub use deliver::{DeliverError, Delivered, Delivery, InboundPacket};
pub use drain::LeftToDo;
pub use egress::EmittedPacket;
pub use endpoint::Endpoint;
pub use events::{ERRORS_MAX, EVENTS_MAX, Noted, NotedError, Scribe, Source, Unrecorded};
pub use gate::{GateStatus, PortMode};
pub use gather::{Change, EmitImage, GatherTurn, GatheredCommit, Gatherer};
pub use geometry::{Geometry, GeometryError, KEY_BYTES_MAX, QueueSpec, SizeClass};
pub use histogram::{Distribution, SAMPLE_EVERY, Times};
pub use history::{EPOCHS_MAX, EpochBegin, StagedBatch};
pub use inspect::{
    ClassStatus, NodeReport, ObjectImage, ObjectState, PacketImage, ParticipantStatus, QueueStatus,
    RegionStatus, SlotImage,
};
pub use layout::FORMAT_VERSION;
pub use lease::{LeaseAction, LeaseExpired, LeaseWatch};
pub use leave::STEPS_PER_COMMIT;
pub use letter::LETTER;
pub use map::BadBlock;
pub use note::Note;
pub use pages::{Lock, Pages, Shortfall};
pub use participant::{JoinError, Kind, Participant};
pub use policy::{OnLeaseExpiry, Overload, QueuePolicy};
pub use pool::OutOf;
pub use process::monotonic_ns;
pub use reading::{ReadError, Reading};
pub use reap::{Reaped, Reaper, Sweeper};
pub use rebuild::{Occupant, RebuildError, Rebuilt};
pub use region::{AttachError, CreateError, PortId, QueueId, Region};
pub use role::Holdout;
pub use shares::Shares;
pub use stages::Stage;
pub use suspend::SuspendedClaim;
pub use taken_in::TAKEN_IN_BYTES;
pub use together::NeverStill;
pub use usage::{Level, Usage};
pub use value::ENDPOINT_BYTES;
pub use verify::{Checked, Finding, Mode, Place, Report, SeenBlock, SeenSlot, Wrong};
pub use warm::WARM_MAX;
pub use words::{Role, RoleEpoch, Seq};
