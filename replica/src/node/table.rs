//! The one place that knows both the region and the protocol: commits become batches, batches become
//! changes of the region.
//!
//! ```text
//!   primary   entries ── gather ──► OpenBatch ──► core          slots ── copy ──► OpenChunk ──► core
//!   back-up   core ──► BatchFrame, ChunkFrame ── apply ──► slots and pending packets
//! ```

use hotpair_shm::{
    Applier, ApplyError, BadBlock, Bell, Change as Gathered, Endpoint, GatheredCommit, Gatherer,
    LETTER, ObjectImage, ObjectState, Participant, Region, Seq as RegionSeq, SlotImage,
    monotonic_ns,
};

use super::timers::Timers;
use crate::digest::TableDigest;
use crate::protocol::{Core, NotShipped, Seq, Tick};
use crate::wire::{BatchFrame, BatchView, Change, EmitRef, OpenBatch, OpenChunk, PutRef, SentRef};

/// Commits in one turn: a turn ends now and then, so that acks are read between two of them.
const COMMITS_PER_TURN: usize = 512;
/// A chunk of the state transfer is closed at this size.
const CHUNK_BYTES: usize = 128 << 10;
/// Chunks in one turn: batches must not wait for a transfer.
const CHUNKS_PER_TURN: u32 = 2;

/// A node's region, seat, and what it knows beside them.
pub(super) struct Table {
    region: Region,
    seat: Participant,
    gatherer: Gatherer,
    applier: Applier,
    timers: Timers,
    digest: TableDigest,
    snapshot: Option<Snapshot>,
}

/// What one turn of gathering did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// Commits that were read.
    pub(super) commits: usize,
    /// Some commits were never read, because gathering was not required when they were made.
    pub(super) gap: bool,
}

/// Why a transfer of state cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("slot {slot} cannot be copied")]
    Slot { slot: u32, source: BadBlock },
    #[error("the object in slot {slot} is larger than can be shipped")]
    TooLarge { slot: u32 },
    #[error("the transfer is over")]
    Over(#[from] NotShipped),
}

/// A transfer of state under way: slots, then packets.
struct Snapshot {
    next_slot: u32,
    packets: Option<std::vec::IntoIter<hotpair_shm::PacketImage>>,
}

impl Table {
    pub(super) fn new(region: Region, seat: Participant) -> Self {
        let mut table = Self {
            gatherer: Gatherer::new(region.clone()),
            applier: Applier::new(&region),
            timers: Timers::new(region.geometry().slots),
            digest: TableDigest::new(region.geometry().slots),
            snapshot: None,
            region,
            seat,
        };
        for object in table.region.objects() {
            table.timers.note(object.slot, object.deadline);
            table.digest.note_copy(&copied(&object, monotonic_ns()));
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
    pub(super) fn gather(&mut self, core: &mut Core, now: Tick) -> Turn {
        if !core.has_room() {
            return Turn::default();
        }
        let batch = core.gathering();
        let (timers, digest) = (&mut self.timers, &mut self.digest);
        let turn = self.gatherer.gather(COMMITS_PER_TURN, |commit| {
            record(batch, &commit, now, timers, digest);
            batch.end_of_commit(seq_of(commit.seq));
        });
        // After the commits: a packet is not sent before it was emitted.
        self.gatherer.collect_sent(|seq, ordinal| {
            batch.push_sent(SentRef { seq: seq_of(seq), ordinal: ordinal as u16 });
        });
        if turn.gap {
            // Of what was never seen here nothing is known until all slots are copied.
            self.digest.begin();
        }
        let upto = seq_of(turn.upto);
        if let Err(error) = core.offer(now, upto, self.digest.at(upto)) {
            tracing::debug!(%error, "commits of an older epoch are not shipped");
        }
        Turn { commits: turn.commits, gap: turn.gap }
    }

    /// Writes a batch of the primary into the region.
    pub(super) fn apply_batch(&mut self, batch: &BatchFrame, now: Tick) -> Result<(), ApplyError> {
        let last = RegionSeq::from_bits(batch.last.raw());
        self.applier.begin(&self.region, last);
        self.apply_changes(batch.view(), now)?;
        self.applier.set_applied(&self.region, last);
        Ok(())
    }

    fn apply_changes(&mut self, batch: BatchView<'_>, now: Tick) -> Result<(), ApplyError> {
        // What is withdrawn gives its key and its memory to what is created in the same batch.
        let removes = |change: &Change<'_>| matches!(change, Change::Remove { .. });
        for change in batch.changes().filter(removes) {
            self.digest.note(&change);
            self.apply_change(change, now)?;
        }
        for change in batch.changes().filter(|change| !removes(change)) {
            self.digest.note(&change);
            self.apply_change(change, now)?;
        }
        self.applier.give_back(&mut self.seat);
        self.apply_packets(batch)
    }

    /// Writes copies of the primary's slots into the region.
    pub(super) fn apply_chunk(
        &mut self,
        chunk: BatchView<'_>,
        now: Tick,
    ) -> Result<(), ApplyError> {
        for copy in chunk.changes() {
            self.digest.note_copy(&copy);
            self.apply_change(copy, now)?;
        }
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

    fn apply_change(&mut self, change: Change<'_>, now: Tick) -> Result<(), ApplyError> {
        let (seq, slot, deadline, change) = match change {
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
                };
                (put.seq, put.slot, deadline, written)
            }
        };
        let seq = RegionSeq::from_bits(seq.raw());
        if self.applier.apply(&mut self.seat, seq, &change)? {
            self.timers.note(slot, deadline);
        }
        Ok(())
    }

    /// Empties the region, which must be quiet, before all state comes.
    pub(super) fn empty(&mut self) {
        self.snapshot = None;
        self.region.empty();
        self.applier.clear();
        self.timers.clear();
        self.digest.begin();
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
        // What was worth promoting was whole.
        self.digest.whole_from(Seq::ZERO);
    }

    /// Begins to copy all slots. Gathering is required already.
    pub(super) fn start_snapshot(&mut self, core: &mut Core, now: Tick) {
        // Committed, perhaps gathered when nobody recorded it, and not to be seen in its slots yet.
        let batch = core.gathering();
        self.digest.begin();
        let (timers, digest) = (&mut self.timers, &mut self.digest);
        self.gatherer.unapplied(|commit| record(batch, &commit, now, timers, digest));
        self.snapshot = Some(Snapshot { next_slot: 0, packets: None });
    }

    pub(super) fn stop_snapshot(&mut self) {
        self.snapshot = None;
    }

    pub(super) fn is_copying(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Copies as much as one turn and the core's window allow.
    pub(super) fn copy(&mut self, core: &mut Core, now: Tick) -> Result<(), SnapshotError> {
        for _ in 0..CHUNKS_PER_TURN {
            let Some(snapshot) = &mut self.snapshot else { return Ok(()) };
            if core.snapshot_room() == 0 {
                return Ok(());
            }
            let (chunk, is_last) = snapshot.next_chunk(&self.region, &mut self.digest)?;
            if !chunk.is_empty() {
                core.offer_chunk(now, chunk)?;
            }
            if is_last {
                self.snapshot = None;
                // Read after the last copy: up to here the copies are a state that existed.
                let through = seq_of(self.region.commit_seq());
                self.digest.whole_from(through);
                core.finish_snapshot(now, through)?;
            }
        }
        Ok(())
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

impl Snapshot {
    /// The next piece, and whether it is the last.
    fn next_chunk(
        &mut self,
        region: &Region,
        digest: &mut TableDigest,
    ) -> Result<(OpenChunk, bool), SnapshotError> {
        let mut chunk = OpenChunk::new();
        while self.next_slot < region.geometry().slots {
            let slot = self.next_slot;
            self.next_slot += 1;
            let image =
                region.image(slot).map_err(|source| SnapshotError::Slot { slot, source })?;
            // The receiver is empty: only what is there needs to be said.
            if let Some(SlotImage::Object(object)) = image {
                let copy = copied(&object, monotonic_ns());
                digest.note_copy(&copy);
                if !chunk.push(copy) {
                    return Err(SnapshotError::TooLarge { slot });
                }
            }
            if chunk.bytes() >= CHUNK_BYTES {
                return Ok((chunk, false));
            }
        }
        let packets = self.packets.get_or_insert_with(|| region.packets().into_iter());
        for packet in packets {
            chunk.push_emit(EmitRef {
                seq: seq_of(packet.seq),
                ordinal: packet.ordinal as u16,
                port: packet.port.into(),
                endpoint: packet.endpoint.to_bytes(),
                payload: &packet.payload,
            });
            if chunk.bytes() >= CHUNK_BYTES {
                return Ok((chunk, false));
            }
        }
        Ok((chunk, true))
    }
}

fn seq_of(seq: RegionSeq) -> Seq {
    Seq::from_raw(seq.to_bits())
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
        match *change {
            Gathered::Put { slot, deadline, .. } => timers.note(slot, deadline),
            Gathered::Remove { slot, .. } => timers.note(slot, None),
        }
        let change = shipped(change, seq, now.as_nanos());
        digest.note(&change);
        if !batch.push(change) {
            tracing::error!(%seq, "a change is larger than can be shipped");
        }
    }
    for emit in &commit.emits {
        batch.push_emit(EmitRef {
            seq,
            ordinal: emit.ordinal as u16,
            port: emit.port.into(),
            endpoint: emit.endpoint.to_bytes(),
            payload: emit.payload,
        });
    }
}

/// A copy of a slot as it travels.
fn copied(object: &ObjectImage, now_ns: u64) -> Change<'_> {
    Change::Put(PutRef {
        slot: object.slot,
        incarnation: object.incarnation,
        // A commit of the claimer may have raised the seq and not changed the value yet. It is in a
        // batch, which must win whichever comes first.
        seq: match object.state {
            ObjectState::Claimed => Seq::ZERO,
            _ => seq_of(object.seq),
        },
        queue: object.queue.index().into(),
        prio: object.priority | if object.letter { LETTER } else { 0 },
        key: (!object.key.is_empty()).then_some(&object.key),
        value: &object.value,
        timer_left_ns: object.deadline.map(|at| at.saturating_sub(now_ns)),
        ready: object.ready,
    })
}

/// A change as it travels: a deadline of this host's clock becomes time left.
fn shipped<'c>(change: &Gathered<'c>, seq: Seq, now_ns: u64) -> Change<'c> {
    match *change {
        Gathered::Remove { slot, incarnation } => Change::Remove { slot, incarnation, seq },
        Gathered::Put { slot, incarnation, queue, priority, key, value, deadline, ready } => {
            Change::Put(PutRef {
                slot,
                incarnation,
                seq,
                queue: queue.into(),
                prio: priority,
                key: (!key.is_empty()).then_some(key),
                value,
                timer_left_ns: deadline.map(|at| at.saturating_sub(now_ns)),
                ready,
            })
        }
    }
}
