//! The node's part of the [stages](hotpair_shm::Stage) of a request: it follows a few commits from their entry to their release.

use std::collections::VecDeque;
use std::time::Duration;

use hotpair_shm::{Region, Seq as RegionSeq, Stage};

use super::table::region_seq;
use crate::protocol::{Core, Seq, Tick, Trip};

/// Commits that are followed at once: more than a window of batches holds of one in [`hotpair_shm::SAMPLE_EVERY`].
const FOLLOWED_MAX: usize = 256;

/// The commits that are followed, and what the loop knows of them.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Gathered and not in a batch, oldest first: with when they were decided.
    gathered: VecDeque<(Seq, u64)>,
    /// In a batch and not released.
    batched: VecDeque<Seq>,
    /// When the ack came that was taken in last.
    heard: Option<Tick>,
}

impl Followed {
    /// A commit was gathered whose entry says when it was decided.
    pub(super) fn begin(&mut self, seq: Seq, decided: u64) {
        if self.gathered.len() + self.batched.len() < FOLLOWED_MAX {
            self.gathered.push_back((seq, decided));
        }
    }

    /// To be called when batches may have been sealed.
    pub(super) fn look(&mut self, core: &Core, region: &Region, now: impl FnOnce() -> Tick) {
        let Some(&(first, _)) = self.gathered.front() else { return };
        let (batched, partnered) = (core.batched(), core.status().protected);
        if first > batched && partnered {
            return;
        }
        let now = now().as_nanos();
        while let Some(&(seq, decided)) = self.gathered.front()
            && (seq <= batched || !partnered)
        {
            self.gathered.pop_front();
            if seq <= batched {
                region.record(Stage::Batch, now.saturating_sub(decided));
            }
            self.batched.push_back(seq);
        }
    }

    /// Something came that may be an ack: then, how long after its batch.
    pub(super) fn heard(&mut self, core: &mut Core, region: &Region, at: Tick) -> Option<Duration> {
        let Trip { took, needed } = core.take_trip()?;
        let nanos = |duration: Duration| duration.as_nanos() as u64;
        region.record(Stage::Wire, nanos(took.saturating_sub(needed)));
        region.record(Stage::Apply, nanos(needed.min(took)));
        self.heard = Some(at);
        Some(took)
    }

    /// Everything up to `upto` is about to be released.
    pub(super) fn release(&mut self, region: &Region, upto: RegionSeq, now: impl FnOnce() -> Tick) {
        let heard = self.heard.take();
        let mut last = None;
        while let Some(&seq) = self.batched.front()
            && region_seq(seq) <= upto
        {
            last = self.batched.pop_front();
        }
        // Without a back-up there is no batch.
        while let Some(&(seq, _)) = self.gathered.front()
            && region_seq(seq) <= upto
        {
            self.gathered.pop_front();
            last = Some(seq);
        }
        if heard.is_none() && last.is_none() {
            return;
        }
        let now = now();
        if let Some(heard) = heard {
            region.record(Stage::Ack, now.since(heard).as_nanos() as u64);
        }
        if let Some(seq) = last {
            region.note_release(region_seq(seq), now.as_nanos());
        }
    }

    /// Nothing is released any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
