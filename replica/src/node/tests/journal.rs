//! What the loop hands to its journal, and that a replay makes the same region of it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use hotpair_shm::{GatherTurn, QueueSpec, Seq as RegionSeq, Shares, SizeClass};
use rkyv::util::AlignedVec;
use serde_json::Value;

use super::super::journal::Journaling;
use super::super::*;
use crate::journal::{Fsync, Survey};
use crate::protocol::Seq;
use crate::wire::{
    BatchBody, BatchFrame, Change, EpochStart, Message, OpenBatch, PutRef, SentRef, encode_batch,
};

const CLUSTER: u64 = 7;
const HANGS_AFTER: Duration = Duration::from_secs(30);

fn geometry() -> Geometry {
    Geometry {
        slots: 64,
        classes: vec![SizeClass { payload_bytes: 256, count: 1_024 }],
        queues: vec![QueueSpec { name: "work".into(), lanes: 1 }],
        ports: vec!["out".into()],
        participants: 4,
        tx_entries: 64,
        max_attempts: 3,
        inbox_limit: 100,
        shares: Shares::default(),
    }
}

struct File(PathBuf);

impl File {
    fn new(purpose: &str) -> File {
        File(Region::path_for(&format!("test.journal.{}.{purpose}", std::process::id())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = Region::remove(&self.0);
    }
}

fn put(slot: u32, seq: Seq, value: &[u8]) -> Change<'_> {
    Change::Put(PutRef {
        slot,
        incarnation: 1,
        seq,
        queue: 0,
        prio: 0,
        key: None,
        value,
        timer_left_ns: None,
        ready: false,
        basis: None,
    })
}

fn batch(prev: Seq, last: Seq, slot: u32, value: &[u8]) -> BatchFrame {
    let mut open = OpenBatch::new(64, 1 << 20);
    open.set_recording(true);
    open.push(put(slot, last, value));
    open.push_sent(SentRef { seq: last, ordinal: 9 });
    let (prev, last, epoch) = (prev.raw(), last.raw(), last.epoch());
    let body = BatchBody { table_no: 1, prev, last, digest: None, epoch, rows: open.take() };
    let mut bytes = AlignedVec::new();
    bytes.extend_from_slice(encode_batch(&body).as_ref());
    match Message::decode(bytes) {
        Ok(Message::Batch(batch)) => batch,
        other => panic!("{other:?}"),
    }
}

/// A back-up of epoch 1, with its journal.
struct Stage {
    dir: tempfile::TempDir,
    file: File,
    table: Table,
    journal: Journaling,
    lines: Receiver<Value>,
    now: Tick,
}

impl Stage {
    fn new(purpose: &str) -> Stage {
        let dir = tempfile::tempdir().expect("a directory");
        let file = File::new(purpose);
        let region = Region::create(&file.0, &geometry()).expect("room in /dev/shm");
        let seat = region.join(Kind::Node, "node-b").expect("a seat");
        roles::quieten(&region, 1, Duration::ZERO);
        let mut table = Table::new(region.clone(), seat);
        table.rewind(None);
        region.become_backup(1);
        table.become_whole(&[start(1, Seq::ZERO)]);
        let (read, write) = std::io::pipe().expect("a pipe");
        let events = EventSink::new("node-b", Some(write.into()));
        let config = JournalConfig {
            dir: dir.path().to_owned(),
            fsync: Fsync::Never,
            segment_bytes: 1 << 20,
        };
        let geometry = geometry_hash(region.geometry());
        let journal =
            Journaling::start(Some(config), &region, CLUSTER, geometry, NodeId(2), &events)
                .expect("a directory of its own");
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            for text in BufReader::new(read).lines().map_while(Result::ok) {
                let _ = line.send(serde_json::from_str(&text).expect("JSON"));
            }
        });
        Stage { dir, file, table, journal, lines, now: Tick::from_nanos(1_000_000_000) }
    }

    fn apply(&mut self, batch: BatchFrame) {
        self.table.apply_batch(&batch, self.now).expect("it fits");
        self.journal.applied(batch);
    }

    /// A turn of the loop, long after the one before.
    fn turn(&mut self) {
        self.now = self.now.after(Duration::from_secs(2));
        self.journal.flush(&self.table, self.now);
    }

    /// The loop turns until this is told: the thread may still be at something else.
    fn until_told(&mut self, event: &str) -> Value {
        let began = Instant::now();
        loop {
            match self.lines.recv_timeout(Duration::from_millis(5)) {
                Ok(line) if line["event"] == event => return line,
                Ok(_) => {}
                Err(_) => self.turn(),
            }
            assert!(began.elapsed() < HANGS_AFTER, "no event {event}");
        }
    }

    fn until_written(&self, upto: Seq) {
        let began = Instant::now();
        let survey = || Survey::of(self.dir.path()).expect("readable");
        let leads_to = || survey().plan.map(|plan| plan.state.end);
        while leads_to() != Some(upto) {
            assert!(began.elapsed() < HANGS_AFTER, "{:?} instead of {upto}", leads_to());
        }
    }

    /// Ends the journal and replays it: key and value of each object.
    fn replayed(self, purpose: &str) -> (Replayed, Vec<(u32, Vec<u8>)>) {
        let Stage { dir, journal, table, .. } = self;
        drop((journal, table));
        replayed(dir.path(), purpose)
    }
}

fn start(epoch: u16, base: Seq) -> EpochStart {
    EpochStart { epoch, base: base.raw(), leader: 77 }
}

fn replayed(dir: &Path, purpose: &str) -> (Replayed, Vec<(u32, Vec<u8>)>) {
    let file = File::new(purpose);
    let config = ReplayConfig {
        dir: dir.to_owned(),
        cluster: CLUSTER,
        member: "node-b".to_owned(),
        region: file.0.clone(),
        geometry: geometry(),
    };
    let replayed = replay(&config).expect("there is a state");
    assert!(matches!(replay(&config), Err(ReplayError::Exists { .. })));
    let region = Region::attach(&file.0).expect("it was made");
    assert_eq!(region.role().role(), Role::Backup);
    assert_eq!(region.report().view, replayed.plan.view);
    let objects = region.objects().map(|object| (object.slot, object.value)).collect();
    (replayed, objects)
}

/// Goal: batches as they come, a promotion in the same chain, and commits alone lead to one state.
#[test]
fn a_back_up_that_takes_over_writes_one_history() {
    let mut stage = Stage::new("one");
    let at = |count| Seq::new(1, count);
    stage.apply(batch(Seq::ZERO, at(1), 0, b"before the journal")); // part of the checkpoint
    stage.journal.note_view(41);
    stage.journal.follow();
    stage.turn();
    assert_eq!(stage.until_told("journal_checkpoint")["at"], "1:1");
    stage.apply(batch(at(1), at(3), 1, b"as it came"));
    assert!(stage.journal.has_pending(), "it is handed over when the acknowledgement has left");
    stage.turn();
    stage.until_written(at(3));

    let epochs = vec![start(1, Seq::ZERO), start(2, at(3))];
    stage.journal.lead(epochs.clone(), epochs[1]);
    // A turn of gathering, as the table does it.
    let two = Seq::new(2, 5);
    stage.journal.recorder().push(put(2, two, b"alone"));
    let turn = GatherTurn { upto: RegionSeq::from_bits(two.raw()), commits: 1, gap: false };
    stage.journal.gathered(&turn, None);
    stage.turn();
    stage.until_written(two);
    // With a back-up it writes nothing more.
    stage.journal.rest();
    stage.journal.gathered(&GatherTurn { upto: RegionSeq::new(2, 9), ..turn }, None);
    let (replayed, objects) = stage.replayed("one-replayed");
    assert_eq!((replayed.plan.state.end, replayed.plan.state.epochs), (two, epochs));
    assert_eq!((replayed.plan.view, replayed.plan.stop), (41, None));
    let expected: [(u32, &[u8]); 3] =
        [(0, b"before the journal"), (1, b"as it came"), (2, b"alone")];
    assert_eq!(objects, expected.map(|(slot, value)| (slot, value.to_vec())));
}

/// Goal: what could not be handed over is made up for by a checkpoint, and is told.
#[test]
fn a_hole_is_made_up_for_by_a_checkpoint() {
    let mut stage = Stage::new("hole");
    let at = |count| Seq::new(1, count);
    stage.journal.follow();
    stage.turn();
    stage.until_told("journal_checkpoint");
    stage.apply(batch(Seq::ZERO, at(1), 0, b"first"));
    // One that the journal never gets.
    let lost = batch(at(1), at(2), 1, b"second");
    stage.table.apply_batch(&lost, stage.now).expect("it fits");
    stage.apply(batch(at(2), at(3), 2, b"third"));
    stage.turn();
    assert_eq!(stage.until_told("journal_behind")["at"], "1:1");
    stage.turn();
    let told = stage.until_told("journal_caught_up");
    assert_eq!((&told["left_out"], &told["from"]), (&1.into(), &"1:3".into()));
    stage.until_told("journal_checkpoint");
    stage.apply(batch(at(3), at(4), 3, b"fourth"));
    stage.turn();
    stage.until_written(at(4));
    let (replayed, objects) = stage.replayed("hole-replayed");
    assert_eq!(replayed.plan.stop, None);
    let values: Vec<_> = objects.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [&b"first"[..], b"second", b"third", b"fourth"]);
}

/// Goal: a journal of another pair, or of another geometry, makes no region.
#[test]
fn a_journal_that_does_not_fit_is_refused_with_both_values() {
    let mut stage = Stage::new("fits");
    stage.journal.follow();
    stage.turn();
    stage.until_told("journal_checkpoint");
    let Stage { dir, journal, file: _file, table: _table, .. } = stage;
    let other = File::new("fits-not");
    let config = ReplayConfig {
        dir: dir.path().to_owned(),
        cluster: CLUSTER,
        member: "node-b".to_owned(),
        region: other.0.clone(),
        geometry: geometry(),
    };
    drop(journal);
    let pair = ReplayConfig { cluster: 8, ..config.clone() };
    assert!(matches!(replay(&pair), Err(ReplayError::Other { found: 7, expected: 8, .. })));
    let mut larger = config.clone();
    larger.geometry.slots += 1;
    assert!(matches!(replay(&larger), Err(ReplayError::Other { what: "geometry", .. })));
    let nothing = tempfile::tempdir().expect("a directory");
    let empty = ReplayConfig { dir: nothing.path().to_owned(), ..config.clone() };
    assert!(matches!(replay(&empty), Err(ReplayError::Nothing { .. })));
    assert!(!other.0.exists(), "nothing is left of an attempt");
    replay(&config).expect("it is as it was");
}
