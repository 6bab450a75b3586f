//! The thread: what it leaves on the disk, when it removes what is older, and what it does when it cannot keep up.

use std::error::Error;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::survey::Survey;
use super::super::writer::{Frame, Journal, Piece, Settings, State};
use super::super::{Fsync, Lock, LockError};
use super::*;

const HANGS_AFTER: Duration = Duration::from_secs(30);

/// A region in miniature: one piece, and the position up to which it was seen. Copying waits for the test's word.
struct Miniature {
    through: Arc<Mutex<Seq>>,
    go: Arc<Mutex<Receiver<()>>>,
    copying: Sender<()>,
}

impl State for Miniature {
    fn begin(&mut self) {}

    fn next(&mut self, chunk_no: u64) -> Result<Piece, Box<dyn Error + Send + Sync>> {
        let _ = self.copying.send(());
        let go = self.go.lock().expect("one thread");
        go.recv_timeout(HANGS_AFTER).map_err(|_| "the test gave no word")?;
        let through = *self.through.lock().expect("not poisoned");
        Ok(Piece::Last(Some(chunk(chunk_no, through))))
    }

    fn through(&self) -> Seq {
        *self.through.lock().expect("not poisoned")
    }
}

struct Stage {
    dir: tempfile::TempDir,
    through: Arc<Mutex<Seq>>,
    go: Sender<()>,
    word: Arc<Mutex<Receiver<()>>>,
    copying: (Sender<()>, Receiver<()>),
    told: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Stage {
    fn new() -> Stage {
        let (go, word) = mpsc::channel();
        Stage {
            dir: tempfile::tempdir().expect("a directory"),
            through: Arc::default(),
            go,
            word: Arc::new(Mutex::new(word)),
            copying: mpsc::channel(),
            told: Arc::default(),
        }
    }

    fn journal(&self, segment_bytes: u64) -> Journal {
        let settings = Settings {
            dir: self.dir.path().to_owned(),
            fsync: Fsync::Batch,
            segment_bytes,
            identity: IDENTITY,
            node: 1,
        };
        let state = Miniature {
            through: Arc::clone(&self.through),
            go: Arc::clone(&self.word),
            copying: self.copying.0.clone(),
        };
        let told = Arc::clone(&self.told);
        let tell = move |event: &str, fields| {
            told.lock().expect("not poisoned").push((event.to_owned(), fields));
        };
        Journal::start(settings, Box::new(state), Box::new(tell)).expect("a directory of its own")
    }

    /// The state as the region would show it.
    fn is_at(&self, through: Seq) {
        *self.through.lock().expect("not poisoned") = through;
    }

    fn let_copy(&self) {
        self.go.send(()).expect("the thread lives");
    }

    fn copies(&self) {
        self.copying.1.recv_timeout(HANGS_AFTER).expect("it begins to copy");
    }

    fn told(&self, event: &str) -> Vec<Value> {
        let told = self.told.lock().expect("not poisoned");
        told.iter().filter(|(name, _)| name == event).map(|(_, fields)| fields.clone()).collect()
    }

    fn until_told(&self, event: &str, times: usize) -> Value {
        until(event, || self.told(event).len() >= times);
        self.told(event)[times - 1].clone()
    }

    fn survey(&self) -> Survey {
        Survey::of(self.dir.path()).expect("readable")
    }

    fn leads_to(&self) -> Option<Seq> {
        self.survey().plan.map(|plan| plan.state.end)
    }

    fn numbers(&self) -> (Vec<u64>, Vec<u64>) {
        let survey = self.survey();
        let checkpoints = survey.checkpoints.iter().map(|file| file.number).collect();
        (checkpoints, survey.segments.iter().map(|file| file.number).collect())
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < HANGS_AFTER, "waited for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn append(journal: &Journal, prev: Seq, last: Seq) -> bool {
    journal.append(Frame::Made(batch(prev, last)), last)
}

/// Goal: J2. A checkpoint gets its name when the batches that its copies saw are on the disk, not before.
#[test]
fn a_checkpoint_waits_for_the_batches_that_it_saw() {
    let (stage, epochs, at) = (Stage::new(), [start(1, Seq::ZERO)], |count| seq(1, count));
    let mut journal = stage.journal(1 << 20);
    assert!(journal.begin(history(&epochs, at(10)), 5, false));
    assert!(append(&journal, at(10), at(11)));
    stage.copies();
    stage.is_at(at(12)); // applied, and still on its way here
    stage.let_copy();
    until("the batch is written", || stage.survey().segments.iter().any(|one| one.upto == at(11)));
    assert_eq!(stage.numbers(), (vec![], vec![1]));
    assert!(append(&journal, at(11), at(12)));
    let told = stage.until_told("journal_checkpoint", 1);
    assert_eq!((&told["number"], &told["at"]), (&1.into(), &"1:12".into()));
    assert_eq!(stage.leads_to(), Some(at(12)));
    // A promotion: the same chain goes on, and needs no checkpoint of its own.
    let epochs = [epochs[0], start(2, at(12))];
    assert!(journal.begin(history(&epochs, at(12)), 6, true));
    assert!(append(&journal, at(12), seq(2, 1)));
    drop(journal);
    assert_eq!(stage.leads_to(), Some(seq(2, 1)), "what is queued is written before the end");
    assert_eq!(stage.told("journal_checkpoint").len(), 1);
}

/// Goal: a region that changes in another way while it is copied gives no checkpoint, whatever its position says then.
#[test]
fn an_interrupted_copy_never_counts() {
    let (stage, epochs, at) = (Stage::new(), [start(1, Seq::ZERO)], |count| seq(1, count));
    let mut journal = stage.journal(1 << 20);
    stage.is_at(at(10));
    assert!(journal.begin(history(&epochs, at(10)), 5, false));
    stage.copies();
    journal.interrupt();
    stage.is_at(Seq::ZERO); // emptied
    stage.let_copy();
    // The next chain: what is left of the first, to which nothing leads, goes.
    stage.is_at(seq(2, 3));
    assert!(journal.begin(history(&[start(2, Seq::ZERO)], seq(2, 3)), 6, false));
    stage.copies();
    stage.let_copy();
    assert_eq!(stage.until_told("journal_checkpoint", 1)["at"], "2:3");
    assert_eq!(stage.numbers(), (vec![2], vec![2]));
    assert_eq!(stage.leads_to(), Some(seq(2, 3)));
}

/// Goal: the journal is bounded: each checkpoint takes the place of all before it.
#[test]
fn segments_that_are_full_are_followed_by_a_checkpoint_and_go() {
    let (stage, epochs, at) = (Stage::new(), [start(1, Seq::ZERO)], |count| seq(1, count));
    let mut journal = stage.journal(2_000);
    assert!(journal.begin(history(&epochs, at(0)), 5, false));
    let mut upto = 0;
    for round in 1..=5 {
        stage.is_at(at(upto));
        // As many copies as it wants, as soon as it wants them.
        stage.let_copy();
        until("a checkpoint", || {
            let more = append(&journal, at(upto), at(upto + 1));
            upto += u64::from(more);
            stage.told("journal_checkpoint").len() >= round
        });
    }
    // What was appended before this thread saw the last one may fill further segments: more words than frames can wait.
    (0..10_000).for_each(|_| stage.let_copy());
    drop(journal);
    let (checkpoints, segments) = stage.numbers();
    assert_eq!(checkpoints.len(), 1, "{checkpoints:?}");
    assert!(segments.len() <= 2 && segments[0] == checkpoints[0], "{segments:?}");
    assert_eq!(stage.leads_to(), Some(at(upto)));
}

/// Goal: J3. A state that does not contain what the journal held puts it aside instead of removing it: here an empty
/// region that somebody let serve.
#[test]
fn what_the_new_state_lacks_is_put_aside() {
    let (stage, epochs, at) = (Stage::new(), [start(1, Seq::ZERO)], |count| seq(1, count));
    store_checkpoint(stage.dir.path(), 7, &epochs, at(0), at(0));
    store_segment(stage.dir.path(), 7, &epochs, &[at(0), at(4)]);
    for (round, epochs, end) in [
        // It contains everything of before.
        (1, vec![epochs[0], start(2, at(4))], seq(2, 1)),
        // It does not.
        (2, vec![start(5, Seq::ZERO)], seq(5, 1)),
    ] {
        let mut journal = stage.journal(1 << 20);
        stage.is_at(end);
        stage.let_copy();
        assert!(journal.begin(history(&epochs, end), 5, false));
        stage.until_told("journal_checkpoint", round);
        assert_eq!(stage.told("journal_put_aside").len(), round - 1);
        assert_eq!(stage.leads_to(), Some(end));
    }
    // A chain that never had a checkpoint, as a node leaves it that dies at once: nobody misses it.
    store_segment(stage.dir.path(), 50, &[start(6, Seq::ZERO)], &[seq(6, 1), seq(6, 2)]);
    let mut journal = stage.journal(1 << 20);
    stage.is_at(seq(5, 2));
    stage.let_copy();
    assert!(journal.begin(history(&[start(5, Seq::ZERO)], seq(5, 2)), 5, false));
    stage.until_told("journal_checkpoint", 3);
    drop(journal);
    assert_eq!(stage.told("journal_put_aside").len(), 1);
    assert_eq!(stage.numbers(), (vec![51], vec![51]));
    let aside = stage.told("journal_put_aside")[0].clone();
    assert_eq!(aside["held"], "2:1");
    let aside = Path::new(aside["directory"].as_str().expect("a path"));
    let kept = Survey::of(aside).expect("readable").plan.expect("it is a journal like any other");
    assert_eq!(kept.state.end, seq(2, 1));
}

/// Goal: J1. Nobody waits for a disk that stands still: what does not fit is refused, and a later chain makes up for it.
#[test]
fn who_is_too_slow_falls_behind_and_holds_nobody_up() {
    let (stage, epochs, at) = (Stage::new(), [start(1, Seq::ZERO)], |count| seq(1, count));
    let mut journal = stage.journal(1 << 20);
    assert!(journal.begin(history(&epochs, at(0)), 5, false));
    stage.copies(); // and stands still there
    let mut upto = 0;
    while append(&journal, at(upto), at(upto + 1)) {
        upto += 1;
        assert!(upto < 100_000, "it never fills up");
    }
    assert!(!journal.is_ready());
    journal.interrupt();
    stage.let_copy();
    until("the queue is empty", || journal.is_ready());
    stage.is_at(at(upto + 7));
    assert!(journal.begin(history(&epochs, at(upto + 7)), 5, false));
    assert!(append(&journal, at(upto + 7), at(upto + 8)));
    stage.let_copy();
    stage.until_told("journal_checkpoint", 1);
    drop(journal);
    assert_eq!(stage.leads_to(), Some(at(upto + 8)));
}

/// Goal: a disk that fails is told once and left alone; the chain is lost, and its owner learns it.
#[test]
fn a_disk_that_fails_costs_the_chain_and_nothing_else() {
    let (stage, epochs, at) = (Stage::new(), [start(1, Seq::ZERO)], |count| seq(1, count));
    let mut journal = stage.journal(1 << 20);
    std::fs::remove_dir_all(stage.dir.path()).expect("ours");
    assert!(journal.begin(history(&epochs, at(0)), 5, false));
    until("it is told", || !stage.told("journal_failed").is_empty());
    until("it is known", || !journal.holds());
    assert!(!append(&journal, at(0), at(1)) && !journal.is_ready());
}

#[test]
fn two_do_not_write_one_journal() {
    let stage = Stage::new();
    let journal = stage.journal(1 << 20);
    let take = || Lock::take(stage.dir.path(), Duration::ZERO);
    assert!(matches!(take(), Err(LockError::InUse { .. })));
    drop(journal);
    take().expect("it has been given back");
}
