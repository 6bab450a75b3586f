//! Dropping every hint and building it again from the truth.
//!
//! ```text
//!   mark ─► nobody lives? ─► drop ─► reap ─► settle ─► restore ─► unmark
//!    │                        │       │        │          └ chains, rings, bitmaps, from the words
//!    │                        │       │        └ what no seat, slot or entry accounts for
//!    │                        │       └ the dead, over empty hints: nothing damaged is followed
//!    │                        └ chains, lanes, rings, bitmaps, doorbells: empty
//!    └ nobody attaches or takes a seat until the end
//! ```
//!
//! Each step may be repeated from any point: who is killed half-way leaves the mark, and the next begins
//! again. The truth is in the seat, slot, block and entry words, and in what a block's header says of its
//! payload; uniqueness of keys is truth, so two objects with one key are both kept and counted.

mod restore;
mod settle;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::index::chain_word;
use crate::layout::REBUILDING;
use crate::map::Map;
use crate::participant::{SeatState, SeatWord};
use crate::process::{self, Life, monotonic_ns};
use crate::reap::{self, Reaper};
use crate::region::{AttachError, Region, load_name};
use crate::sync::Ordering;
use crate::words::{BucketWord, InboxWord, SlotState, SlotWord};

/// How long another reaper may take to finish what it is at.
const REAPER_WAIT: Duration = Duration::from_secs(2);

/// Passes of the reaper: the second settles what a claim of the first was in the way of.
const REAPER_PASSES: u32 = 4;

/// What a rebuild found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Dead participants whose seats are free now.
    pub reaped: u32,
    /// Dead participants whose seats must wait until their commits are gathered.
    pub unfinished: u32,
    /// Claims and reservations of nobody that were undone.
    pub released: u64,
    /// Blocks that nothing accounted for, free now.
    pub freed: u64,
    /// Objects.
    pub objects: u64,
    /// Objects found by their key again.
    pub keys: u64,
    /// Keys that a second object bears: the one that changed last is found.
    pub duplicates: u64,
    /// Messages linked to their objects, in the order of their arrival.
    pub messages: u64,
    /// Objects offered to their lanes.
    pub ready: u64,
    /// Packets offered to their ports.
    pub packets: u64,
    /// Sent packets offered to the node.
    pub sent: u64,
    /// Free slots.
    pub free_slots: u64,
    /// Free blocks.
    pub free_blocks: u64,
}

/// A process that lives in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// Its seat.
    pub seat: u8,
    /// Its process.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
}

/// Why a region was not rebuilt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// There is no region to rebuild, or none of this build.
    #[error("the region cannot be opened")]
    Attach(#[source] AttachError),
    /// Hints are followed by whoever lives: they cannot be taken away.
    #[error("process {} ({}) lives in the region", .occupant.pid, .occupant.name)]
    Occupied {
        /// The first of them.
        occupant: Occupant,
        /// How many there are.
        count: usize,
    },
    /// Another process does the same.
    #[error("another process is rebuilding {}", .path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A reaper does not finish.
    #[error("another process has been reaping the region for {} s", .waited.as_secs())]
    Reaping {
        /// How long this one has waited.
        waited: Duration,
    },
    /// The system refused.
    #[error("cannot lock {}", .path.display())]
    Os {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Region {
    /// Rebuilds the hints of the region at `path`, in which nobody may live. Also finishes a rebuild that
    /// was interrupted.
    pub fn rebuild(path: &Path) -> Result<Rebuilt, RebuildError> {
        let region = Region::attach_to_rebuild(path).map_err(RebuildError::Attach)?;
        rebuild(&region)
    }
}

fn rebuild(region: &Region) -> Result<Rebuilt, RebuildError> {
    let path = region.path().to_path_buf();
    let os = |source| RebuildError::Os { path: path.clone(), source };
    let file = std::fs::File::open(region.path()).map_err(os)?;
    // Ends with this process, however it ends.
    let _alone =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::Error::EWOULDBLOCK => RebuildError::Busy { path: path.clone() },
            other => os(other.into()),
        })?;
    let mark = &region.header().incompatible;
    // ORDER rebuild/1 SeqCst, pairs with rebuild/2 in participant.rs: either a joiner sees the mark, or its
    // seat is seen here.
    let before = mark.fetch_or(REBUILDING, Ordering::SeqCst);
    let living = occupants(region);
    if let Some(occupant) = living.first() {
        if before & REBUILDING == 0 {
            mark.fetch_and(!REBUILDING, Ordering::SeqCst);
        }
        return Err(RebuildError::Occupied { occupant: occupant.clone(), count: living.len() });
    }
    let mut rebuilt = Rebuilt::default();
    alone(region, || drop_hints(region))?;
    let mut reaper = Reaper::new(region.clone());
    for _ in 0..REAPER_PASSES {
        let reaped = reaper.run_once();
        rebuilt.reaped += reaped.participants.len() as u32;
        rebuilt.released += u64::from(reaped.claims);
        rebuilt.unfinished = reaped.unfinished;
        if reaped.unfinished == 0 {
            break;
        }
    }
    rebuilt.reaped -= rebuilt.unfinished.min(rebuilt.reaped);
    alone(region, || {
        settle::settle(region, &mut rebuilt);
        // What the reaper pushed and offered is built in order now.
        drop_hints(region);
        restore::restore(region, &mut rebuilt);
    })?;
    mark.fetch_and(!REBUILDING, Ordering::SeqCst);
    Ok(rebuilt)
}

/// Who lives in a region. A process that did `exec` lives elsewhere.
fn occupants(region: &Region) -> Vec<Occupant> {
    let seats = 0..region.geometry().participants as u8;
    seats
        .filter_map(|seat| {
            let row = region.map.participant(seat)?;
            let word = SeatWord(row.word.load(Ordering::SeqCst));
            let start = match word.state() {
                Some(SeatState::Live) => row.start_time.load(Ordering::Relaxed),
                Some(SeatState::Joining) => 0, // what stands there is that of the last one
                _ => return None,
            };
            let lives = process::life_of(word.pid(), start) == Life::Alive
                && !reap::has_moved_on(region, word.pid());
            lives.then(|| Occupant { seat, pid: word.pid(), name: load_name(&row.name) })
        })
        .collect()
}

/// Does `work` while no reaper can be at it.
fn alone(region: &Region, work: impl FnOnce()) -> Result<(), RebuildError> {
    let lock = &region.header().reap_lock;
    let begun = monotonic_ns();
    let _locked = loop {
        if let Some(locked) = lock.try_guard() {
            break locked;
        }
        let waited = Duration::from_nanos(monotonic_ns() - begun);
        if waited > REAPER_WAIT {
            return Err(RebuildError::Reaping { waited });
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    work();
    Ok(())
}

/// Empties every hint. Words with a generation get the next one, so that what an entry of the dead expects
/// is not there any more.
fn drop_hints(region: &Region) {
    let map: &Map = &region.map;
    let header = map.header();
    for ring in map.rings() {
        ring.clear();
    }
    let classes = 0..map.layout().classes.len();
    let bitmaps = classes.map(|class| map.class_bitmap(class)).chain([map.slot_bitmap()]);
    bitmaps.flatten().for_each(|word| word.store(0, Ordering::Relaxed));
    for bucket in 0..map.layout().bucket_count {
        if let Some(head) = map.bucket_at(bucket) {
            let seen = BucketWord(head.load(Ordering::Relaxed));
            head.store(seen.next(None, 0).0, Ordering::SeqCst);
        }
    }
    for slot in 0..map.geometry().slots {
        let Some(row) = map.slot(slot) else { continue };
        let word = SlotWord(row.word.load(Ordering::Acquire));
        let incarnation = row.incarnation.load(Ordering::Relaxed);
        // A reserved slot becomes an object by the entry of its dead creator, or free.
        let closed = word.is(SlotState::Free);
        row.inbox.store(InboxWord::new(incarnation, closed, 0, None).0, Ordering::SeqCst);
        let chain = row.index_next.load(Ordering::Relaxed);
        row.index_next.store(chain_word(chain, None), Ordering::Relaxed);
        row.left_hint.store(0, Ordering::Relaxed);
    }
    for block in 0..map.block_count() {
        if let Some(block) = map.block(block) {
            block.row.next.store(0, Ordering::Relaxed);
        }
    }
    let bells = header.queue_bells.iter().chain(&header.port_bells).chain([&header.node_bell]);
    bells.for_each(|bell| bell.word.store(0, Ordering::SeqCst));
    for seat in 0..map.geometry().participants as u8 {
        if let Some(row) = map.participant(seat) {
            row.bell.store(0, Ordering::SeqCst);
            row.claims.iter().for_each(|hint| hint.store(0, Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests;
