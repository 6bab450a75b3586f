//! What of this node's life goes into its journal, and when: the loop's side.
//!
//! ```text
//!              whole                          promoted: the same chain goes on
//!   (nothing) ───────► follows its primary ─────────────────────────────────► alone
//!       ▲                    │                                               │   ▲
//!       └────────────────────┘ left, emptied, distrusted      a back-up joins│   │ it is lost: a new chain
//!       ▲                                                                    ▼   │
//!       └───────────────────────────────────── fenced ───────────────── protected (nothing)
//! ```
//!
//! A back-up writes the batches that it has applied, after it has acknowledged them. A primary that has a back-up writes
//! nothing: that is the back-up's work, and the primary's time is everybody's. One that is alone writes what it commits.
//! Whatever cannot be written in time is left out, and a checkpoint makes up for it.

use std::error::Error;
use std::time::Duration;

use hotpair_shm::{GatherTurn, GatheredCommit, Region};
use serde_json::json;

use super::config::JournalConfig;
use super::events::EventSink;
use super::snapshot::{Piece as Copied, Snapshot};
use super::table::{Table, push_commit, seq_of};
use crate::digest::TableDigest;
use crate::journal::{Frame, Identity, Journal, LockError, Piece, Settings, State};
use crate::protocol::{History, NodeId, Seq, Tick};
#[cfg(test)]
use crate::wire::Change;
use crate::wire::{BatchBody, BatchFrame, EpochStart, OpenBatch, Rows, SentRef, encode_batch};

/// A batch that is made here is sealed at the first end of a commit beyond so many bytes.
const SEAL_BYTES: usize = 256 << 10;
/// Between two chains, each of which costs a checkpoint.
const PAUSE: Duration = Duration::from_secs(1);
/// Batches that wait for the end of the turn.
const PENDING_MAX: usize = 1024;

/// Whose changes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Nobody's.
    Nothing,
    /// The primary's, as they come.
    Batches,
    /// This primary's own, while it is alone.
    Commits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    /// It is to be begun.
    Closed,
    /// Everything up to here is handed over.
    Open { upto: Seq },
    /// Something had to be left out.
    Behind { batches: u64 },
}

/// A node's journal, if it keeps one.
pub(super) struct Journaling {
    kept: Option<Kept>,
}

struct Kept {
    journal: Journal,
    events: EventSink,
    source: Source,
    chain: Chain,
    view: u64,
    /// Applied, and not handed over yet.
    pending: Vec<BatchFrame>,
    /// What this primary commits.
    open: OpenBatch,
    gathered: Seq,
    begun: Option<Tick>,
}

impl Journaling {
    pub(super) fn start(
        config: Option<JournalConfig>,
        region: &Region,
        cluster: u64,
        geometry: u64,
        node: NodeId,
        events: &EventSink,
    ) -> Result<Journaling, LockError> {
        let Some(config) = config else { return Ok(Journaling { kept: None }) };
        let settings = Settings {
            dir: config.dir,
            fsync: config.fsync,
            segment_bytes: config.segment_bytes,
            identity: Identity { cluster, geometry },
            node: node.0,
        };
        let copies = Copies::of(region.clone());
        let tell = {
            let events = events.clone();
            move |event: &str, fields| events.write(super::now().as_nanos(), event, fields)
        };
        let journal = Journal::start(settings, Box::new(copies), Box::new(tell))?;
        Ok(Journaling {
            kept: Some(Kept {
                journal,
                events: events.clone(),
                source: Source::Nothing,
                chain: Chain::Closed,
                view: 0,
                pending: Vec::new(),
                open: OpenBatch::new(region.geometry().slots, SEAL_BYTES),
                gathered: Seq::ZERO,
                begun: None,
            }),
        })
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// A view is known.
    pub(super) fn note_view(&mut self, number: u64) {
        if let Some(kept) = &mut self.kept {
            kept.view = kept.view.max(number);
        }
    }

    /// The region holds a state of its primary, and follows.
    pub(super) fn follow(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.turn_to(Source::Batches);
        }
    }

    /// A batch has been applied.
    pub(super) fn applied(&mut self, batch: BatchFrame) {
        let Some(kept) = self.kept.as_mut().filter(|kept| kept.source == Source::Batches) else {
            return;
        };
        kept.pending.push(batch);
        if kept.pending.len() >= PENDING_MAX {
            kept.hand_over();
        }
    }

    /// This node has become primary, alone, and its epoch begins: with the state up to which it has followed, if it has.
    pub(super) fn lead(&mut self, epochs: Vec<EpochStart>, start: EpochStart) {
        let Some(kept) = &mut self.kept else { return };
        kept.hand_over();
        let base = Seq::from_raw(start.base);
        let goes_on = kept.source == Source::Batches && kept.chain == Chain::Open { upto: base };
        kept.turn_to(Source::Commits);
        kept.gathered = base;
        if goes_on && kept.journal.begin(History { epochs, end: base }, kept.view, true) {
            kept.chain = Chain::Open { upto: base };
            kept.open.set_recording(true);
        }
    }

    /// This primary has lost its back-up.
    pub(super) fn alone(&mut self) {
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.source == Source::Nothing) {
            kept.turn_to(Source::Commits);
        }
    }

    /// From now on nothing is written, and what the region becomes is none of the journal's business. Before the region is
    /// changed.
    pub(super) fn rest(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        kept.hand_over();
        kept.turn_to(Source::Nothing);
    }

    /// Where commits are to be recorded, if they are.
    pub(super) fn recorder(&mut self) -> Recorder<'_> {
        let kept = self.kept.as_mut().filter(|kept| kept.source == Source::Commits);
        Recorder { batch: kept.map(|kept| &mut kept.open) }
    }

    /// A turn of gathering has ended.
    pub(super) fn gathered(&mut self, turn: &GatherTurn, digest: Option<u64>) {
        let Some(kept) = &mut self.kept else { return };
        let upto = seq_of(turn.upto);
        // The beginning of an epoch is the end of what was before.
        if upto.count() > 0 {
            kept.gathered = upto;
        }
        if kept.source != Source::Commits {
            return;
        }
        if turn.gap {
            // Commits were overwritten before this node had read them.
            kept.fall_behind(1);
        }
        let Chain::Open { .. } = kept.chain else {
            kept.open.set_recording(false);
            return;
        };
        while let Some((rows, last)) = kept.open.take_sealed() {
            kept.make(rows, last, None);
        }
        if let Chain::Open { upto: before } = kept.chain
            && (upto > before || !kept.open.is_empty())
        {
            let rows = kept.open.take();
            kept.make(rows, upto, digest);
        }
    }

    /// Whether something is to be handed over: after the acknowledgements have left.
    pub(super) fn has_pending(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| !kept.pending.is_empty())
    }

    /// Hands over what is pending, and begins a chain where one is missing.
    pub(super) fn flush(&mut self, table: &Table, now: Tick) {
        let Some(kept) = &mut self.kept else { return };
        kept.journal.reclaim();
        kept.hand_over();
        if let Chain::Open { .. } = kept.chain
            && !kept.journal.holds()
        {
            kept.fall_behind(0);
        }
        let paused = kept.begun.is_some_and(|begun| now.since(begun) < PAUSE);
        let wanted = kept.source != Source::Nothing && !matches!(kept.chain, Chain::Open { .. });
        if wanted && !paused && kept.journal.is_ready() {
            kept.begin(table, now);
        }
    }
}

impl Kept {
    fn turn_to(&mut self, source: Source) {
        if source == Source::Nothing || self.source != Source::Nothing {
            self.journal.interrupt();
        }
        self.source = source;
        self.chain = Chain::Closed;
        self.begun = None;
        self.pending.clear();
        self.open.set_recording(false);
    }

    /// A chain with the state as it is.
    fn begin(&mut self, table: &Table, now: Tick) {
        let epochs = table.history().epochs;
        let end = match self.source {
            Source::Nothing => return,
            Source::Batches => table.applied(),
            Source::Commits => self.gathered,
        };
        if epochs.is_empty() || !self.journal.begin(History { epochs, end }, self.view, false) {
            return;
        }
        if let Chain::Behind { batches } = self.chain {
            let fields = json!({ "left_out": batches, "from": end.to_string() });
            self.events.write(now.as_nanos(), "journal_caught_up", fields);
        }
        (self.chain, self.begun) = (Chain::Open { upto: end }, Some(now));
        if self.source == Source::Commits {
            self.open.set_recording(true);
            // Gathered when nobody recorded, and not to be seen in their slots yet.
            let open = &mut self.open;
            table.unapplied(|commit| push_commit(open, commit, now));
        }
    }

    fn hand_over(&mut self) {
        for batch in std::mem::take(&mut self.pending) {
            match self.chain {
                Chain::Open { upto } if batch.prev == upto => {
                    let last = batch.last;
                    if last == upto && batch.view().is_empty() {
                        continue; // one that says nothing but that the primary lives
                    }
                    self.append(Frame::Came(batch), last);
                }
                Chain::Open { .. } => self.fall_behind(1),
                Chain::Behind { batches } => self.chain = Chain::Behind { batches: batches + 1 },
                // It is part of the state with which the chain begins.
                Chain::Closed => {}
            }
        }
    }

    fn make(&mut self, rows: Rows, last: Seq, digest: Option<u64>) {
        let Chain::Open { upto } = self.chain else { return };
        let mut body = BatchBody {
            table_no: 0,
            prev: upto.raw(),
            last: last.raw(),
            digest,
            epoch: last.epoch(),
            rows,
        };
        let frame = encode_batch(&body);
        body.rows.clear();
        self.open.recycle(body.rows);
        self.append(Frame::Made(frame), last);
    }

    fn append(&mut self, frame: Frame, last: Seq) {
        if self.journal.append(frame, last) {
            self.chain = Chain::Open { upto: last };
        } else {
            self.fall_behind(1);
        }
    }

    fn fall_behind(&mut self, batches: u64) {
        self.journal.interrupt();
        self.open.set_recording(false);
        match self.chain {
            Chain::Behind { batches: before } => {
                self.chain = Chain::Behind { batches: before + batches };
            }
            Chain::Open { upto } => {
                self.chain = Chain::Behind { batches };
                tracing::warn!(at = %upto, "the journal has fallen behind: a checkpoint will make up for it");
                let fields = json!({ "at": upto.to_string() });
                self.events.write(super::now().as_nanos(), "journal_behind", fields);
            }
            Chain::Closed => {}
        }
    }
}

/// Takes down what a turn of gathering reads.
pub(super) struct Recorder<'j> {
    batch: Option<&'j mut OpenBatch>,
}

impl Recorder<'_> {
    pub(super) fn note(&mut self, commit: &GatheredCommit<'_>, now: Tick) {
        if let Some(batch) = &mut self.batch {
            push_commit(batch, commit, now);
            batch.end_of_commit(seq_of(commit.seq));
        }
    }

    /// A change by itself, for tests.
    #[cfg(test)]
    pub(super) fn push(&mut self, change: Change<'_>) {
        if let Some(batch) = &mut self.batch {
            batch.push(change);
        }
    }

    pub(super) fn note_sent(&mut self, sent: SentRef) {
        if let Some(batch) = &mut self.batch {
            batch.push_sent(sent);
        }
    }
}

/// Copies of the region, for checkpoints.
pub(super) struct Copies {
    region: Region,
    snapshot: Option<Snapshot>,
    /// Of nothing: it is not read along the way.
    digest: TableDigest,
}

impl Copies {
    pub(super) fn of(region: Region) -> Copies {
        Copies { region, snapshot: None, digest: TableDigest::new(0) }
    }
}

impl State for Copies {
    fn begin(&mut self) {
        self.snapshot = Some(Snapshot::new(self.region.geometry().slots, None, &[]));
    }

    fn next(&mut self, chunk_no: u64) -> Result<Piece, Box<dyn Error + Send + Sync>> {
        let Some(snapshot) = &mut self.snapshot else { return Ok(Piece::Last(None)) };
        Ok(match snapshot.advance(&self.region, &mut self.digest)? {
            Copied::More => Piece::More,
            Copied::Chunk(chunk) => Piece::Chunk(chunk.encode(chunk_no)),
            Copied::Last(chunk) => {
                self.snapshot = None;
                Piece::Last((!chunk.is_empty()).then(|| chunk.encode(chunk_no)))
            }
        })
    }

    fn through(&self) -> Seq {
        seq_of(self.region.commit_seq())
    }
}
