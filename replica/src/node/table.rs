//! The one place that knows both the region and the protocol: commits become batches, batches become
//! changes of the region.
//!
//! ```text
//!   primary   entries ── gather ──► OpenBatch ──► core          slots ── copy ──► OpenChunk ──► core
//!   back-up   core ──► BatchFrame, ChunkFrame ── apply ──► slots and pending packets
//! ```

use std::time::Duration;

use hotpair_shm::{
    Applier, ApplyError, Bell, Change as Gathered, Edit, Endpoint, EpochBegin, GatheredCommit,
    Gatherer, LETTER, ObjectImage, Origin, Participant, Patch, Region, Role, Seq as RegionSeq,
    WARM_MAX,
};
use rkyv::util::AlignedVec;

use super::journal::Journaling;
use super::snapshot::{Piece, Snapshot, SnapshotError};
use super::stages::Followed;
use super::timers::Timers;
use crate::digest::TableDigest;
use crate::protocol::{Core, History, Seq, Tick};
use crate::wire::{
    Basis, BatchFrame, BatchView, Change, EmitRef, EpochStart, Message, OpenBatch, PatchRef,
    PutRef, SentRef,
};

/// Commits in one turn: a turn ends now and then, so that acks are read between two of them.
const COMMITS_PER_TURN: usize = 512;
/// Pieces of a state transfer in one turn: batches must not wait for it.
const PIECES_PER_TURN: u32 = 1;

/// A node's region, seat, and what it knows beside them.
pub(super) struct Table {
    region: Region,
    seat: Participant,
    gatherer: Gatherer,
    applier: Applier,
    timers: Timers,
    digest: TableDigest,
    snapshot: Option<Snapshot>,
    /// The last batch that was applied, during a transfer as well.
    applied: Seq,
    /// This process has seen the region become whole, so it knows what its digest is.
    follows: bool,
    /// Commits whose stages are measured.
    followed: Followed,
}

/// What one turn of gathering did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// Commits that were read.
    pub(super) commits: usize,
    /// Some commits were never read, because gathering was not required when they were made.
    pub(super) gap: bool,
}

impl Table {
    pub(super) fn new(region: Region, seat: Participant) -> Self {
        let mut table = Self {
            gatherer: Gatherer::new(region.clone()),
            applier: Applier::new(&region),
            timers: Timers::new(region.geometry().slots),
            digest: TableDigest::new(region.geometry().slots),
            snapshot: None,
            applied: Seq::ZERO,
            follows: false,
            followed: Followed::default(),
            region,
            seat,
        };
        for object in table.region.objects() {
            table.timers.note(object.slot, object.deadline);
            table.digest.note_copy(&copied(&object, 0), object.sum);
        }
        table
    }

    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    pub(super) fn seat(&mut self) -> &mut Participant {
        &mut self.seat
    }

    /// Announces that the node's loop is about to sleep; false if there already is work for it.
    pub(super) fn arm(&mut self) -> bool {
        self.seat.arm_bell(Bell::Node)
    }

    /// Lets whoever shares the core go first, who may commit something; false if that was not wise lately.
    pub(super) fn give_way(&mut self) -> bool {
        self.seat.give_way(Bell::Node)
    }

    /// Whether that is wise now.
    pub(super) fn may_give_way(&self) -> bool {
        self.seat.may_give_way()
    }

    /// Ends the announced sleep. What was rung can wait; see [`quieten`](Self::quieten).
    pub(super) fn disarm(&mut self) {
        self.seat.cancel_bell(Bell::Node);
    }

    /// Takes the rings out of a bell that was rung, which need not be done before what it was rung for.
    pub(super) fn quieten(&mut self) {
        self.seat.disarm_bell(Bell::Node);
    }

    /// Whether a commit is under way that others have to wait for: then gather again soon.
    pub(super) fn is_held_up(&self) -> bool {
        self.gatherer.is_held_up()
    }

    /// Hands what was committed and sent since the last turn to the core.
    pub(super) fn gather(&mut self, core: &mut Core, journal: &mut Journaling, now: Tick) -> Turn {
        if !core.has_room() {
            return Turn::default();
        }
        let batch = core.gathering();
        let (timers, digest, followed) = (&mut self.timers, &mut self.digest, &mut self.followed);
        let mut recorder = journal.recorder();
        let turn = self.gatherer.gather(COMMITS_PER_TURN, |commit| {
            record(batch, commit, now, timers, digest);
            batch.end_of_commit(seq_of(commit.seq));
            recorder.note(commit, now);
            if commit.stamp != 0 {
                followed.begin(seq_of(commit.seq), commit.stamp);
            }
        });
        // After the commits: a packet is not sent before it was emitted.
        let mut snapshot = self.snapshot.as_mut();
        self.gatherer.collect_sent(|seq, ordinal| {
            let sent = SentRef { seq: seq_of(seq), ordinal: ordinal as u16 };
            batch.push_sent(sent);
            recorder.note_sent(sent);
            if let Some(snapshot) = &mut snapshot {
                snapshot.forget_packet(sent);
            }
        });
        if turn.gap {
            // Of what was never seen here nothing is known until all slots are copied.
            self.digest.begin();
        }
        let upto = seq_of(turn.upto);
        journal.gathered(&turn, self.digest.at(upto));
        if let Err(error) = core.offer(now, upto, self.digest.at(upto)) {
            tracing::debug!(%error, "commits of an older epoch are not shipped");
        }
        Turn { commits: turn.commits, gap: turn.gap }
    }

    /// Notes what has been put into batches of the commits that are followed.
    pub(super) fn look_at_followed(&mut self, core: &Core) {
        self.followed.look(core, &self.region, super::now);
    }

    /// Something came from the peer at `at`, and the core has taken it in. If it was an acknowledgement: how long after
    /// its batch.
    pub(super) fn note_heard(&mut self, core: &mut Core, at: Tick) -> Option<Duration> {
        self.followed.heard(core, &self.region, at)
    }

    /// Packets up to `upto` may leave.
    pub(super) fn release(&mut self, upto: Seq) {
        let upto = region_seq(upto);
        self.followed.release(&self.region, upto, super::now);
        self.region.raise_released(upto);
    }

    /// Writes a batch of the primary into the region: whole, or not at all. A node that dies in the middle of it
    /// leaves the batch where its successor finds it.
    pub(super) fn apply_batch(&mut self, batch: &BatchFrame, now: Tick) -> Result<(), ApplyError> {
        let last = region_seq(batch.last);
        let view = batch.view();
        if self.applier.is_in_transfer() {
            // Until the transfer is whole the region is no state at all: it stays what it was.
            self.apply_changes(view, now)?;
        } else if view.is_empty() {
            self.applier.set_applied(&self.region, last);
        } else {
            if !self.region.stage(self.region.gathered(), last, batch.bytes()) {
                let bytes = batch.bytes().len();
                tracing::warn!(
                    bytes,
                    "a batch is too large to be staged: a death in it costs the state"
                );
            }
            self.applier.begin(&self.region, last);
            self.apply_changes(view, now)?;
            self.applier.set_applied(&self.region, last);
        }
        self.applied = batch.last;
        Ok(())
    }

    /// Finishes the batch in the middle of which an earlier node died. False: it cannot be finished, so this is
    /// not a state that ever was.
    pub(super) fn finish_batch(&mut self, now: Tick) -> bool {
        let Some(staged) = self.region.staged() else { return false };
        let mut frame = AlignedVec::new();
        frame.extend_from_slice(&staged.bytes);
        let Ok(Message::Batch(batch)) = Message::decode(frame) else { return false };
        if region_seq(batch.last) != staged.last {
            return false;
        }
        self.region.mend_torn();
        match self.apply_changes(batch.view(), now) {
            Ok(()) => {
                self.applier.set_applied(&self.region, staged.last);
                true
            }
            Err(error) => {
                tracing::error!(%error, "a batch that was cut short cannot be finished");
                false
            }
        }
    }

    /// The last batch that was applied.
    pub(super) fn applied(&self) -> Seq {
        self.applied
    }

    /// What was written is the state up to here.
    pub(super) fn set_applied(&mut self, upto: Seq) {
        self.applied = upto;
    }

    /// Commits that are decided and not to be seen in their slots yet.
    pub(super) fn unapplied(&self, sink: impl FnMut(&GatheredCommit<'_>)) {
        self.gatherer.unapplied(sink);
    }

    /// What the state in the region is made of.
    pub(super) fn history(&self) -> History {
        history_of(&self.region)
    }

    /// Goes back to what the region had at `since`, or to nothing; it must be quiet. The slots that were changed
    /// later.
    pub(super) fn rewind(&mut self, since: Option<Seq>) -> Vec<u32> {
        self.snapshot = None;
        self.follows = false;
        self.applier.begin_transfer(&self.region);
        self.digest.begin();
        self.applied = since.unwrap_or(Seq::ZERO);
        let Some(since) = since else {
            self.region.empty();
            self.timers.clear();
            return Vec::new();
        };
        let lost = self.region.rewind(region_seq(since));
        lost.iter().for_each(|&slot| self.timers.note(slot, None));
        for object in self.region.objects() {
            self.digest.note_copy(&copied(&object, 0), object.sum);
        }
        lost
    }

    /// The transfer is whole.
    pub(super) fn become_whole(&mut self, epochs: &[EpochStart]) {
        self.region.set_history(&begins(epochs));
        self.applier.set_applied(&self.region, region_seq(self.applied));
        self.applier.end_transfer();
        self.follows = true;
    }

    /// An epoch of this node begins.
    pub(super) fn begin_epoch(&mut self, start: EpochStart) {
        let mut history = self.region.history();
        history.extend(begins(&[start]));
        self.region.set_history(&history);
    }

    fn apply_changes(&mut self, batch: BatchView<'_>, now: Tick) -> Result<(), ApplyError> {
        // What is withdrawn gives its key and its memory to what is created in the same batch.
        let removes = |change: &Change<'_>| matches!(change, Change::Remove { .. });
        self.apply_each(batch.changes().filter(removes), Origin::Commit, now)?;
        self.apply_each(batch.changes().filter(|change| !removes(change)), Origin::Commit, now)?;
        self.apply_patches(batch.patches(), now)?;
        self.applier.give_back(&mut self.seat);
        self.apply_packets(batch)
    }

    /// Writes copies of the primary's slots into the region.
    pub(super) fn apply_chunk(
        &mut self,
        chunk: BatchView<'_>,
        now: Tick,
    ) -> Result<(), ApplyError> {
        self.apply_each(chunk.changes(), Origin::Copy, now)?;
        self.applier.give_back(&mut self.seat);
        self.apply_packets(chunk)
    }

    fn apply_packets(&mut self, view: BatchView<'_>) -> Result<(), ApplyError> {
        for emit in view.emits() {
            self.applier.emit(
                &mut self.seat,
                RegionSeq::from_bits(emit.seq.raw()),
                emit.ordinal.into(),
                // No region has so many ports: refused by the applier.
                u8::try_from(emit.port).unwrap_or(u8::MAX),
                Endpoint::from_bytes(&emit.endpoint),
                emit.payload,
            )?;
        }
        for sent in view.sent() {
            let seq = RegionSeq::from_bits(sent.seq.raw());
            self.applier.sent(&self.region, seq, sent.ordinal.into());
        }
        Ok(())
    }

    fn apply_each<'c>(
        &mut self,
        changes: impl Iterator<Item = Change<'c>>,
        origin: Origin,
        now: Tick,
    ) -> Result<(), ApplyError> {
        self.each(changes, place, |table, change| table.apply_change(change, origin, now))
    }

    fn apply_patches<'c>(
        &mut self,
        patches: impl Iterator<Item = PatchRef<'c>>,
        now: Tick,
    ) -> Result<(), ApplyError> {
        let mut edits = Vec::new();
        let place = |patch: &PatchRef<'c>| Some((patch.slot, patch.queue as u8, &[][..]));
        self.each(patches, place, |table, patch| {
            edits.clear();
            edits.extend(patch.edits().map(|(at, bytes)| Edit { at, bytes }));
            table.apply_patch(&patch, &edits, now)
        })
    }

    /// Applies each, some at a time, so that what they touch is brought near together.
    fn each<'c, T>(
        &mut self,
        mut all: impl Iterator<Item = T>,
        place: impl Fn(&T) -> Option<Place<'c>> + Copy,
        mut apply: impl FnMut(&mut Self, T) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        let mut next = Vec::with_capacity(WARM_MAX);
        loop {
            next.extend(all.by_ref().take(WARM_MAX));
            match next.len() {
                0 => return Ok(()),
                1 => {}
                _ => self.region.warm_for_writing(next.iter().filter_map(place)),
            }
            for one in next.drain(..) {
                apply(self, one)?;
            }
        }
    }

    fn apply_patch(
        &mut self,
        patch: &PatchRef<'_>,
        edits: &[Edit<'_>],
        now: Tick,
    ) -> Result<(), ApplyError> {
        let deadline = patch.timer_left_ns.map(|left| now.as_nanos().saturating_add(left));
        let written = Patch {
            slot: patch.slot,
            incarnation: patch.incarnation,
            queue: patch.queue as u8, // a byte on the wire
            priority: patch.prio,
            deadline,
            ready: patch.ready,
            check: patch.check,
            edits,
        };
        if let Some(sum) = self.applier.patch(&mut self.seat, region_seq(patch.seq), &written)? {
            self.timers.note(patch.slot, deadline);
            self.digest.note_patch(patch, sum);
        }
        Ok(())
    }

    fn apply_change(
        &mut self,
        change: Change<'_>,
        origin: Origin,
        now: Tick,
    ) -> Result<(), ApplyError> {
        let (seq, slot, deadline, written) = match change {
            Change::Remove { slot, incarnation, seq } => {
                (seq, slot, None, Gathered::Remove { slot, incarnation })
            }
            Change::Put(put) => {
                let deadline = put.timer_left_ns.map(|left| now.as_nanos().saturating_add(left));
                let written = Gathered::Put {
                    slot: put.slot,
                    incarnation: put.incarnation,
                    // No region has so many queues: refused by the applier.
                    queue: u8::try_from(put.queue).unwrap_or(u8::MAX),
                    priority: put.prio,
                    key: put.key.unwrap_or_default(),
                    value: put.value,
                    deadline,
                    ready: put.ready,
                    sum: 0, // the applier computes it
                    before: None,
                };
                (put.seq, put.slot, deadline, written)
            }
        };
        let seq = RegionSeq::from_bits(seq.raw());
        if let Some(sum) = self.applier.apply(&mut self.seat, seq, origin, &written)? {
            self.timers.note(slot, deadline);
            match origin {
                Origin::Commit => self.digest.note(&change, sum),
                Origin::Copy => self.digest.note_copy(&change, sum),
            }
        }
        Ok(())
    }

    /// The digest of everything that was gathered up to here, where it is known.
    pub(super) fn digest_gathered(&self, watermark: Seq) -> Option<u64> {
        self.digest.at(watermark)
    }

    /// The digest of everything that was applied, for a back-up whose core knows when it counts.
    pub(super) fn digest_applied(&self) -> u64 {
        self.digest.sum()
    }

    /// The region, which must be quiet, is about to become primary: what may not have been sent is
    /// sent again. Returns how many packets.
    pub(super) fn prepare_to_serve(&mut self) -> usize {
        self.region.void_claims();
        self.applier.hand_over(&self.region)
    }

    /// The region has become primary.
    pub(super) fn serve(&mut self) {
        self.gatherer = Gatherer::new(self.region.clone());
        self.followed.forget();
        if std::mem::take(&mut self.follows) {
            self.digest.whole_from(Seq::ZERO);
        } else {
            // Its own state, as an earlier process left it: perhaps its workers still finished something when
            // this one looked.
            self.digest.begin();
        }
    }

    /// Begins to copy slots: those changed after `since` and these, or all. Gathering is required already.
    pub(super) fn start_snapshot(
        &mut self,
        core: &mut Core,
        since: Option<Seq>,
        also: &[u32],
        now: Tick,
    ) {
        // Committed, perhaps gathered when nobody recorded it, and not to be seen in its slots yet.
        let batch = core.gathering();
        if since.is_none() {
            self.digest.begin();
        }
        let (timers, digest) = (&mut self.timers, &mut self.digest);
        self.gatherer.unapplied(|commit| record(batch, commit, now, timers, digest));
        let slots = self.region.geometry().slots;
        self.snapshot = Some(Snapshot::new(slots, since.map(region_seq), also));
    }

    pub(super) fn stop_snapshot(&mut self) {
        self.snapshot = None;
    }

    pub(super) fn is_copying(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Copies as much as one turn and the core's window allow; true if there is more to do at once.
    pub(super) fn copy(&mut self, core: &mut Core, now: Tick) -> Result<bool, SnapshotError> {
        for _ in 0..PIECES_PER_TURN {
            let Some(snapshot) = &mut self.snapshot else { return Ok(false) };
            if core.snapshot_room() == 0 {
                return Ok(false);
            }
            let piece = snapshot.advance(&self.region, &mut self.digest)?;
            let is_last = matches!(piece, Piece::Last(_));
            if let Piece::Chunk(chunk) | Piece::Last(chunk) = piece
                && !chunk.is_empty()
            {
                core.offer_chunk(now, chunk)?;
            }
            if is_last {
                self.snapshot = None;
                // Read after the last copy: up to here the copies are a state that existed.
                let through = seq_of(self.region.commit_seq());
                if !self.digest.is_whole() {
                    self.digest.whole_from(through);
                }
                core.finish_snapshot(now, through)?;
            }
        }
        Ok(self.snapshot.is_some() && core.snapshot_room() > 0)
    }

    /// When the next timer is due, in monotonic nanoseconds.
    pub(super) fn next_timer(&self) -> Option<u64> {
        self.timers.next()
    }

    /// Offers every object whose timer is due.
    pub(super) fn fire_timers(&mut self, now: Tick) {
        while let Some(slot) = self.timers.due(now.as_nanos()) {
            self.region.timer_due(slot);
        }
    }
}

/// What the state in a region is made of.
pub(super) fn history_of(region: &Region) -> History {
    let end = match region.role().role() {
        Role::Backup => region.gathered(),
        // Whoever was primary holds all that its workers have committed.
        _ => region.commit_seq(),
    };
    let epochs = region.history().into_iter().map(|begin| EpochStart {
        epoch: begin.epoch,
        base: begin.base.to_bits(),
        leader: begin.leader,
    });
    History { epochs: epochs.collect(), end: seq_of(end) }
}

pub(super) fn seq_of(seq: RegionSeq) -> Seq {
    Seq::from_raw(seq.to_bits())
}

pub(super) fn region_seq(seq: Seq) -> RegionSeq {
    RegionSeq::from_bits(seq.raw())
}

fn begins(epochs: &[EpochStart]) -> Vec<EpochBegin> {
    let begin = |start: &EpochStart| EpochBegin {
        epoch: start.epoch,
        base: RegionSeq::from_bits(start.base),
        leader: start.leader,
    };
    epochs.iter().map(begin).collect()
}

/// Where an object is going to be written: slot, queue, key.
type Place<'c> = (u32, u8, &'c [u8]);

fn place<'c>(change: &Change<'c>) -> Option<Place<'c>> {
    match change {
        Change::Put(put) => Some((put.slot, put.queue as u8, put.key.unwrap_or_default())),
        Change::Remove { .. } => None,
    }
}

/// Puts a commit into a batch, and notes what it means for timers and digest.
pub(super) fn record(
    batch: &mut OpenBatch,
    commit: &GatheredCommit<'_>,
    now: Tick,
    timers: &mut Timers,
    digest: &mut TableDigest,
) {
    let seq = seq_of(commit.seq);
    for change in &commit.changes {
        let sum = match *change {
            Gathered::Put { slot, deadline, sum, .. } => {
                timers.note(slot, deadline);
                sum
            }
            Gathered::Remove { slot, .. } => {
                timers.note(slot, None);
                0
            }
        };
        let change = shipped(change, seq, now.as_nanos());
        digest.note(&change, sum);
        push_change(batch, change, seq);
    }
    push_emits(batch, commit);
}

/// Puts a commit into a batch.
pub(super) fn push_commit(batch: &mut OpenBatch, commit: &GatheredCommit<'_>, now: Tick) {
    let seq = seq_of(commit.seq);
    for change in &commit.changes {
        push_change(batch, shipped(change, seq, now.as_nanos()), seq);
    }
    push_emits(batch, commit);
}

fn push_change(batch: &mut OpenBatch, change: Change<'_>, seq: Seq) {
    if !batch.push(change) {
        tracing::error!(%seq, "a change is larger than can be shipped");
    }
}

fn push_emits(batch: &mut OpenBatch, commit: &GatheredCommit<'_>) {
    for emit in &commit.emits {
        batch.push_emit(EmitRef {
            seq: seq_of(commit.seq),
            ordinal: emit.ordinal as u16,
            port: emit.port.into(),
            endpoint: emit.endpoint.to_bytes(),
            payload: emit.payload,
        });
    }
}

/// A copy of a slot as it travels.
pub(super) fn copied(object: &ObjectImage, now_ns: u64) -> Change<'_> {
    Change::Put(PutRef {
        slot: object.slot,
        incarnation: object.incarnation,
        seq: seq_of(object.seq),
        queue: object.queue.index().into(),
        prio: object.priority | if object.letter { LETTER } else { 0 },
        key: (!object.key.is_empty()).then_some(&object.key),
        value: &object.value,
        timer_left_ns: object.deadline.map(|at| at.saturating_sub(now_ns)),
        ready: object.ready,
        basis: None,
    })
}

/// A change as it travels: a deadline of this host's clock becomes time left.
fn shipped<'c>(change: &Gathered<'c>, seq: Seq, now_ns: u64) -> Change<'c> {
    match *change {
        Gathered::Remove { slot, incarnation } => Change::Remove { slot, incarnation, seq },
        Gathered::Put {
            slot,
            incarnation,
            queue,
            priority,
            key,
            value,
            deadline,
            ready,
            sum,
            before,
        } => Change::Put(PutRef {
            slot,
            incarnation,
            seq,
            queue: queue.into(),
            prio: priority,
            key: (!key.is_empty()).then_some(key),
            value,
            timer_left_ns: deadline.map(|at| at.saturating_sub(now_ns)),
            ready,
            basis: before.map(|value| Basis { value, check: sum as u32 }),
        }),
    }
}
