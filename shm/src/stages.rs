//! Where the time of a request goes: a histogram for each stage of its way, in the region, always on. Those who measure are few, so they
//! share it.
//!
//! ```text
//!   port              worker                      node                 back-up             node     port
//!  ┌─────────┬───────┬───────┬──────┬────────┬────────┬────── … ─────┬────────┬── … ──┬─────┬─────────┬──────┐
//!  │ receive │ queue │ claim │ work │ commit │ batch  │     wire     │ apply  │ wire  │ ack │ release │ send │
//!  └─────────┴───────┴───────┴──────┴────────┴────────┴────── … ─────┴────────┴── … ──┴─────┴─────────┴──────┘
//!   arrived   in the  begun   in hand commit() committed               received        heard raised    taken  left
//!             inbox                            gathered, sealed        … applied
//! ```
//!
//! A worker measures one in [`SAMPLE_EVERY`](crate::SAMPLE_EVERY) of its claims, and marks the entry of such a commit and the
//! packets that it emits with the time at which it was decided. The node finds the mark when it gathers the entry, a port when
//! it takes the packet; who finds none does not look at the clock. Every stage is measured by one clock: of the two ways over
//! the network only the sum is known, and what the back-up needed in between it says itself.
//!
//! That a packet was released is seen by its port through one pair of words: of several commits that are followed and released
//! at once only the last one counts.

use crate::histogram::{Distribution, HistogramRow};
use crate::participant::Participant;
use crate::process::monotonic_ns;
use crate::region::Region;
use crate::sync::Ordering;
use crate::words::Seq;

/// A stage of a request, in the order of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Stage {
    /// Port: from the arrival at the socket to the object's inbox.
    Receive,
    /// From the inbox to the claim; [`Times::age`](crate::Times::age) is the same.
    Queue,
    /// Worker: from the look for an object to its claim with all messages.
    Claim,
    /// Worker: from the claim to the commit, the application's own work.
    Work,
    /// Worker: from the call of the commit to the point from which it holds.
    Commit,
    /// Node: from there until it is sealed in a batch, with the worker's ring and the node's waking.
    Batch,
    /// From a sealed batch to the news that it is applied, less what the back-up needed: the network, there and back, and both
    /// ends' waking.
    Wire,
    /// Back-up: from the arrival of a batch to its acknowledgement.
    Apply,
    /// Node: from an acknowledgement's arrival to the release.
    Ack,
    /// Port: from the release until it takes the packet.
    Release,
    /// Port: from there until the packet has left.
    Send,
}

impl Stage {
    /// All of them, in the order of a request's way.
    pub const ALL: [Stage; STAGES] = [
        Stage::Receive,
        Stage::Queue,
        Stage::Claim,
        Stage::Work,
        Stage::Commit,
        Stage::Batch,
        Stage::Wire,
        Stage::Apply,
        Stage::Ack,
        Stage::Release,
        Stage::Send,
    ];

    /// As people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Receive => "receive",
            Stage::Queue => "queue",
            Stage::Claim => "claim",
            Stage::Work => "work",
            Stage::Commit => "commit",
            Stage::Batch => "batch",
            Stage::Wire => "wire",
            Stage::Apply => "apply",
            Stage::Ack => "ack",
            Stage::Release => "release",
            Stage::Send => "send",
        }
    }
}

/// How many stages there are.
pub(crate) const STAGES: usize = 11;

/// The histograms of all stages; that of [`Stage::Queue`] stays empty, as seats have it.
#[repr(C)]
pub(crate) struct StagesRow([HistogramRow; STAGES]);

impl Participant {
    /// A packet of a commit that is followed was taken. When that was.
    #[cold]
    pub(crate) fn watch_release(&self, seq: u64) -> u64 {
        let now = monotonic_ns();
        let line = &self.region.header().released;
        // ORDER followed/2 Acquire, pairs with followed/1: the time is of this seq, or of a later one; then it is not used.
        let followed = line.followed.load(Ordering::Acquire);
        let at = line.followed_at.load(Ordering::Acquire);
        if followed == seq && line.followed.load(Ordering::Relaxed) == seq {
            self.region.record(Stage::Release, now.saturating_sub(at));
        }
        now
    }

    /// It has left.
    #[cold]
    pub(crate) fn watch_send(&self, taken: u64) {
        self.region.record(Stage::Send, monotonic_ns().saturating_sub(taken));
    }
}

impl Region {
    /// The commit `seq`, which is followed through its stages, is released at `at`, in monotonic nanoseconds. For the node, before
    /// it raises `released`.
    pub fn note_release(&self, seq: Seq, at: u64) {
        let line = &self.header().released;
        line.followed.store(0, Ordering::Relaxed);
        // ORDER followed/1 Release, pairs with followed/2: who reads the seq reads its time, or finds the seq gone.
        line.followed_at.store(at, Ordering::Release);
        line.followed.store(seq.to_bits(), Ordering::Release);
    }

    /// Notes how long a stage took, in nanoseconds.
    pub fn record(&self, stage: Stage, ns: u64) {
        self.map.stages().0[stage as usize].record_shared(ns);
    }

    /// How long a stage took since the region was made.
    pub fn time_in(&self, stage: Stage) -> Distribution {
        match stage {
            Stage::Queue => self.times().age,
            _ => self.map.stages().0[stage as usize].copy(),
        }
    }
}
