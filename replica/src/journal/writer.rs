//! The thread that writes, and the queue between it and the node's loop.
//!
//! ```text
//!   loop   begin ─ frame ─ frame ─ …  ──► queue of fixed size ──► thread: append ─ fsync
//!                                                                    │ between: a piece of the checkpoint
//!          interrupt ──► nothing that is copied from now on counts   ▼
//! ```
//!
//! A *chain* is a row of batches without a gap, which may be in several segments. It is *based* once a checkpoint of it,
//! or the chain that it goes on from, is on the disk. A checkpoint is copied out of the region by this thread while
//! the loop goes on to change it, which is why its end names the position through which batches have to follow.
//! Before the loop changes the region in another way than by the batches of the chain it interrupts the copying.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use serde_json::{Value, json};

use super::files::{Files, Fsync};
use super::format::Identity;
use super::lock::LockError;
use super::survey::{Stop, Survey};
use crate::protocol::{History, Seq};
use crate::wire::{self, BatchFrame, Outgoing, SharedFrame, SnapshotEnd};

/// Frames that may wait; more than a pair in full load makes in a second.
const QUEUE_FRAMES: usize = 4096;
/// Their bytes.
const QUEUE_BYTES: usize = 64 << 20;
/// Frames that are written before the disk is asked to keep them.
const GROUP_FRAMES: usize = 256;
/// Frames on their way back, so that their memory is used again where it is needed.
const SPENT_FRAMES: usize = 64;
/// The thread looks at least this often.
const NAP: Duration = Duration::from_millis(100);
/// After a disk has failed.
const RETRY: Duration = Duration::from_secs(5);

/// How a journal is kept.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) fsync: Fsync,
    /// A segment that has grown so large, and as large as the last checkpoint, is followed by a checkpoint.
    pub(crate) segment_bytes: u64,
    pub(crate) identity: Identity,
    pub(crate) node: u8,
}

/// A batch: one that came, or one that was made here.
#[derive(Debug)]
pub(crate) enum Frame {
    Came(BatchFrame),
    Made(SharedFrame),
}

impl Frame {
    fn bytes(&self) -> &[u8] {
        match self {
            Frame::Came(batch) => batch.bytes(),
            Frame::Made(frame) => frame.as_ref(),
        }
    }
}

/// Where checkpoints come from.
pub(crate) trait State: Send {
    /// A new copy begins.
    fn begin(&mut self);

    /// The next piece of it.
    fn next(&mut self, chunk_no: u64) -> Result<Piece, Box<dyn Error + Send + Sync>>;

    /// After the last piece: only with all batches up to here the pieces are a state that ever was.
    fn through(&self) -> Seq;
}

/// A piece of a copy.
pub(crate) enum Piece {
    More,
    Chunk(SharedFrame),
    Last(Option<SharedFrame>),
}

/// What is to be told to people: the name of an event, and its fields.
pub(crate) type Tell = Box<dyn FnMut(&str, Value) + Send>;

enum Order {
    Begin { chain: u64, state: History, view: u64, goes_on: bool },
    Append { frame: Frame, last: Seq },
}

struct Shared {
    queue: ArrayQueue<Order>,
    queued_bytes: AtomicUsize,
    spent: ArrayQueue<Frame>,
    /// The chain whose state may be copied; 0: none.
    chain: AtomicU64,
    /// The disk failed, and is left alone for a while.
    is_broken: AtomicBool,
    /// The newest chain that was lost to it.
    failed_chain: AtomicU64,
    is_stopping: AtomicBool,
}

/// The loop's end. Dropping it writes what is queued and ends the thread.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    chains: u64,
}

impl Journal {
    /// Takes the directory and starts the thread.
    pub(crate) fn start(
        settings: Settings,
        state: Box<dyn State>,
        tell: Tell,
    ) -> Result<Journal, LockError> {
        let files = Files::open(&settings.dir, settings.identity, settings.node)?;
        let shared = Arc::new(Shared {
            queue: ArrayQueue::new(QUEUE_FRAMES),
            queued_bytes: AtomicUsize::new(0),
            spent: ArrayQueue::new(SPENT_FRAMES),
            chain: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            failed_chain: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
        });
        let path = settings.dir.clone();
        let writer = Writer {
            shared: Arc::clone(&shared),
            files,
            settings,
            state,
            tell,
            begun: 0,
            chain: None,
            copy: None,
            reach: Reach::Nothing,
            checkpoint_bytes: 0,
            synced: Instant::now(),
            retry_at: None,
        };
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| LockError::Io { path, source })?;
        Ok(Journal { shared, thread: Some(thread), chains: 0 })
    }

    /// Whether everything is written, and more can be.
    pub(crate) fn is_ready(&self) -> bool {
        self.shared.queue.is_empty() && !self.shared.is_broken.load(Ordering::Acquire)
    }

    /// Whether what was appended to the chain is, or will be, written.
    pub(crate) fn holds(&self) -> bool {
        self.shared.failed_chain.load(Ordering::Acquire) < self.chains
    }

    /// Begins a chain with this state. `goes_on`: with the one that the last chain ends with, all of whose batches
    /// were taken. False: there is no room.
    pub(crate) fn begin(&mut self, state: History, view: u64, goes_on: bool) -> bool {
        self.chains += 1;
        let chain = self.chains;
        if self.shared.queue.push(Order::Begin { chain, state, view, goes_on }).is_err() {
            return false;
        }
        self.shared.chain.store(chain, Ordering::SeqCst);
        self.wake();
        true
    }

    /// Adds a batch to the chain. False: the journal is behind, and the chain is broken.
    pub(crate) fn append(&self, frame: Frame, last: Seq) -> bool {
        let bytes = frame.bytes().len();
        let shared = &self.shared;
        if !self.holds() || shared.queued_bytes.load(Ordering::Acquire) + bytes > QUEUE_BYTES {
            return false;
        }
        shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        if shared.queue.push(Order::Append { frame, last }).is_err() {
            shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return false;
        }
        self.wake();
        true
    }

    /// The region is about to change in another way than by batches of the chain: what is copied from now on is of
    /// no state. To be called before the first such change.
    pub(crate) fn interrupt(&self) {
        self.shared.chain.store(0, Ordering::SeqCst);
    }

    /// Drops frames that are written in the thread that makes and receives others.
    pub(crate) fn reclaim(&self) {
        while self.shared.spent.pop().is_some() {}
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the files lead to that are there.
enum Reach {
    Nothing,
    State(History),
    /// Something that this process cannot make sense of: it is never removed.
    Unknown,
}

struct Chain {
    number: u64,
    state: History,
    view: u64,
    is_based: bool,
    first_segment: u64,
}

/// A checkpoint that is being copied.
struct Copying {
    chain: u64,
    begun: Instant,
    chunks: u64,
    through: Option<Seq>,
}

struct Writer {
    shared: Arc<Shared>,
    files: Files,
    settings: Settings,
    state: Box<dyn State>,
    tell: Tell,
    /// Number of the last chain that was to be begun.
    begun: u64,
    chain: Option<Chain>,
    copy: Option<Copying>,
    reach: Reach,
    checkpoint_bytes: u64,
    synced: Instant,
    retry_at: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        self.look_around();
        loop {
            // Looked at before the queue is: what was told before the stop is written.
            let is_stopping = self.shared.is_stopping.load(Ordering::Acquire);
            let mut taken = 0;
            while taken < GROUP_FRAMES
                && let Some(order) = self.shared.queue.pop()
            {
                taken += 1;
                let carried_out = self.carry_out(order);
                self.tell_of(carried_out);
            }
            let is_due = self.is_sync_due();
            if taken > 0 || is_due || self.copy.is_some() {
                let copied = self.go_on(is_due);
                let busy = copied.as_ref().is_ok_and(|busy| *busy);
                self.tell_of(copied.map(|_| ()));
                if taken > 0 || (busy && !is_stopping) {
                    continue;
                }
            }
            if is_stopping {
                break;
            }
            self.try_again();
            thread::park_timeout(self.nap());
        }
        let synced = match self.settings.fsync {
            Fsync::Never => Ok(()),
            Fsync::Interval(_) | Fsync::Batch => self.files.sync(),
        };
        self.tell_of(synced);
        self.files.close();
    }

    /// What an earlier process left.
    fn look_around(&mut self) {
        self.reach = match Survey::of(self.files.dir()) {
            // Nothing leads to segments alone.
            Ok(survey) if survey.checkpoints.is_empty() => Reach::Nothing,
            // Nor to what stands behind a gap: a chain whose first checkpoint never came to its end.
            Ok(Survey { plan: Some(plan), .. })
                if matches!(plan.stop, None | Some(Stop::Gap { .. })) =>
            {
                Reach::State(plan.state)
            }
            Ok(_) => Reach::Unknown,
            Err(error) => {
                tracing::warn!(%error, "the journal of before cannot be read: it is kept");
                Reach::Unknown
            }
        };
    }

    fn carry_out(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Begin { chain, state, view, goes_on } => self.begin(chain, state, view, goes_on),
            Order::Append { frame, last } => {
                self.shared.queued_bytes.fetch_sub(frame.bytes().len(), Ordering::AcqRel);
                let appended = match &mut self.chain {
                    Some(chain) => self.files.append(frame.bytes()).map(|()| {
                        chain.state.end = last;
                        if chain.is_based {
                            self.reach = Reach::State(chain.state.clone());
                        }
                    }),
                    None => Ok(()), // the disk failed meanwhile
                };
                // Full: then its memory goes with it.
                let _ = self.shared.spent.push(frame);
                appended
            }
        }
    }

    fn begin(&mut self, number: u64, state: History, view: u64, goes_on: bool) -> io::Result<()> {
        self.begun = number;
        self.copy = None;
        self.files.abandon_checkpoint();
        if self.retry_at.is_some() {
            // The loop begins another one when the disk is tried again.
            self.shared.failed_chain.store(number, Ordering::Release);
            return Ok(());
        }
        let before = self.chain.take();
        let before = match before {
            Some(chain) if goes_on && chain.state.end == state.end => Some(chain),
            Some(chain) if !chain.is_based => {
                // Nothing leads to its batches, and nothing ever will.
                self.files.close();
                self.files.remove_from(chain.first_segment)?;
                None
            }
            _ => None,
        };
        let segment = self.files.begin_segment(state.end, &state.epochs, view)?;
        let is_based = before.as_ref().is_some_and(|chain| chain.is_based);
        let first_segment =
            before.filter(|chain| !chain.is_based).map_or(segment, |chain| chain.first_segment);
        if is_based {
            self.reach = Reach::State(state.clone());
        }
        self.chain = Some(Chain { number, state, view, is_based, first_segment });
        if is_based { Ok(()) } else { self.begin_copy() }
    }

    fn begin_copy(&mut self) -> io::Result<()> {
        let Some(chain) = &self.chain else { return Ok(()) };
        self.files.begin_checkpoint()?;
        self.state.begin();
        let begun = Instant::now();
        self.copy = Some(Copying { chain: chain.number, begun, chunks: 0, through: None });
        Ok(())
    }

    /// What is to be done after some frames. True if there is more to do at once.
    fn go_on(&mut self, is_due: bool) -> io::Result<bool> {
        if is_due {
            self.files.sync()?;
            self.synced = Instant::now();
        }
        let full = self.settings.segment_bytes.max(self.checkpoint_bytes);
        if let Some(chain) = &self.chain
            && chain.is_based
            && self.copy.is_none()
            && self.files.segment_bytes() >= full
            && self.shared.chain.load(Ordering::SeqCst) == chain.number
        {
            self.files.begin_segment(chain.state.end, &chain.state.epochs, chain.view)?;
            self.begin_copy()?;
        }
        self.copy_some()
    }

    fn copy_some(&mut self) -> io::Result<bool> {
        let Some(copy) = &mut self.copy else { return Ok(false) };
        if let Some(through) = copy.through {
            let there = self.chain.as_ref().is_some_and(|chain| chain.state.end >= through);
            return if there { self.finish_copy(through).map(|()| true) } else { Ok(false) };
        }
        let piece = self.state.next(copy.chunks + 1);
        let through = self.state.through();
        // All that was read above was read before this look, or the look sees the interruption.
        fence(Ordering::SeqCst);
        if self.shared.chain.load(Ordering::SeqCst) != copy.chain {
            self.copy = None;
            self.files.abandon_checkpoint();
            return Ok(true);
        }
        let chunk = match piece.map_err(io::Error::other)? {
            Piece::More => None,
            Piece::Chunk(chunk) => Some(chunk),
            Piece::Last(chunk) => {
                copy.through = Some(through);
                chunk
            }
        };
        if let Some(chunk) = chunk {
            copy.chunks += 1;
            self.files.add(chunk.as_ref())?;
        }
        Ok(true)
    }

    fn finish_copy(&mut self, through: Seq) -> io::Result<()> {
        let (Some(copy), Some(chain)) = (self.copy.take(), &mut self.chain) else { return Ok(()) };
        let end = SnapshotEnd { chunks: copy.chunks, through: through.raw() };
        let end = wire::encode(Outgoing::SnapshotEnd(end));
        let (number, bytes) = self.files.finish_checkpoint(end.as_ref())?;
        self.synced = Instant::now();
        let is_contained = match &self.reach {
            Reach::Nothing => true,
            Reach::State(old) => chain.state.common(old) == Some(old.end),
            Reach::Unknown => false,
        };
        self.checkpoint_bytes = bytes;
        chain.is_based = true;
        let (at, took) = (chain.state.end, copy.begun.elapsed());
        let held = match std::mem::replace(&mut self.reach, Reach::State(chain.state.clone())) {
            Reach::State(old) => Some(old.end.to_string()),
            Reach::Nothing | Reach::Unknown => None,
        };
        if is_contained {
            self.files.remove_older(number)?;
        } else {
            let aside = self.files.put_aside(number)?;
            tracing::warn!(
                aside = %aside.display(),
                "the journal of before holds what this node has not: it is put aside"
            );
            (self.tell)("journal_put_aside", json!({ "directory": aside, "held": held }));
        }
        (self.tell)(
            "journal_checkpoint",
            json!({
                "number": number, "at": at.to_string(), "bytes": bytes,
                "took_ms": took.as_millis() as u64,
            }),
        );
        Ok(())
    }

    fn is_sync_due(&self) -> bool {
        match self.settings.fsync {
            Fsync::Never => false,
            Fsync::Interval(interval) => self.files.is_dirty() && self.synced.elapsed() >= interval,
            Fsync::Batch => self.files.is_dirty(),
        }
    }

    fn nap(&self) -> Duration {
        match self.settings.fsync {
            Fsync::Interval(interval) if self.files.is_dirty() => {
                NAP.min(interval.saturating_sub(self.synced.elapsed()))
            }
            _ => NAP,
        }
    }

    /// A disk that takes nothing does not hold up the pair.
    fn tell_of(&mut self, done: io::Result<()>) {
        let Err(error) = done else { return };
        tracing::error!(%error, directory = %self.files.dir().display(), "the journal cannot be written");
        let fields = json!({ "error": error.to_string(), "directory": self.files.dir() });
        (self.tell)("journal_failed", fields);
        self.files.close();
        (self.chain, self.copy) = (None, None);
        self.retry_at = Some(Instant::now() + RETRY);
        self.shared.failed_chain.store(self.begun, Ordering::Release);
        self.shared.is_broken.store(true, Ordering::Release);
    }

    fn try_again(&mut self) {
        if self.retry_at.is_some_and(|at| Instant::now() >= at) {
            self.retry_at = None;
            self.shared.is_broken.store(false, Ordering::Release);
        }
    }
}
