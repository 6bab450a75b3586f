//! A region goes back to what it had in common with another, and follows that one; and out of the middle of a batch.

mod common;

use std::time::Duration;

use common::{TestRegion, send, small};
use hotpair_shm::{
    Applier, Change, Endpoint, EpochBegin, Gatherer, Kind, Mode, ObjectImage, Origin, Participant,
    QueueId, Reaper, Region, Role, Seq, SlotImage,
};

/// One side: a region that can be either.
struct Side {
    test: TestRegion,
    node: Participant,
    port: Participant,
    worker: Participant,
    applier: Applier,
}

impl Side {
    fn new() -> Self {
        let test = TestRegion::new(&small());
        let join = |kind, name| test.region.join(kind, name).expect("a seat");
        Self {
            node: join(Kind::Node, "node"),
            port: join(Kind::Port, "port"),
            worker: join(Kind::Worker, "worker"),
            applier: Applier::new(&test.region),
            test,
        }
    }

    fn region(&self) -> &Region {
        &self.test.region
    }

    fn work(&self) -> QueueId {
        self.region().queue("work").expect("in the geometry")
    }

    /// One commit: the object of `key` gets `value`, or ends.
    fn put(&mut self, key: &str, value: Option<&str>) {
        let work = self.work();
        send(&mut self.port, Some(key.as_bytes()), b"go");
        let mut claim = self.worker.claim(work).expect("ready");
        match value {
            Some(value) => claim.set_value(value.as_bytes()).expect("a block"),
            None => claim.withdraw(),
        }
        claim.commit().expect("nobody is in the way");
    }

    fn follow(&mut self, epoch: u16) {
        self.region().begin_change(epoch);
        assert!(self.region().quiesce(Duration::ZERO).is_empty(), "nobody holds anything");
    }

    fn apply(&mut self, seq: Seq, origin: Origin, change: &Change<'_>) -> bool {
        self.applier.apply(&mut self.node, seq, origin, change).expect("fits").is_some()
    }

    fn objects(&self) -> Vec<(u32, u32, Vec<u8>, Vec<u8>)> {
        let objects = self.region().objects();
        objects.map(|o| (o.slot, o.incarnation, o.key, o.value)).collect()
    }

    fn is_sound(&self) {
        let report = self.region().verify(Mode::Online);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }

    /// As many blocks as objects: every one here has a value, and nothing else is in use.
    fn leaks_nothing(&self) {
        self.is_sound();
        assert_eq!(self.region().status().blocks_in_use(), self.objects().len() as u64);
    }
}

/// Ships all that is gathered from one side to the other; the last seq.
fn ship(from: &mut Gatherer, to: &mut Side) -> Seq {
    let turn = from.gather(usize::MAX, |commit| {
        for change in &commit.changes {
            to.apply(commit.seq, Origin::Commit, change);
        }
    });
    to.applier.set_applied(&to.test.region, turn.upto);
    turn.upto
}

fn put_of(object: &ObjectImage) -> Change<'_> {
    Change::Put {
        slot: object.slot,
        incarnation: object.incarnation,
        queue: object.queue.index(),
        priority: object.priority,
        key: &object.key,
        value: &object.value,
        deadline: object.deadline,
        ready: object.ready,
        sum: object.sum,
        before: None,
    }
}

/// Copies these slots, as a transfer does.
fn copy(from: &Side, to: &mut Side, slots: &[u32]) {
    for &slot in slots {
        match from.region().image(slot).expect("sound").expect("exists") {
            SlotImage::Object(object) => {
                to.apply(object.seq, Origin::Copy, &put_of(&object));
            }
            SlotImage::Free { incarnation, seq } => {
                to.apply(seq, Origin::Copy, &Change::Remove { slot, incarnation });
            }
        }
    }
}

/// Goal: a primary that ran ahead of what its back-up had, and then is superseded, becomes the new primary's equal by
/// the slots that either of them has changed since they were equal, and those alone.
#[test]
fn a_primary_that_ran_ahead_becomes_equal_by_the_changes_of_both() {
    let (mut a, mut b) = (Side::new(), Side::new());
    b.follow(1);
    b.region().empty();
    b.region().become_backup(1);
    a.region().set_gathering(true);
    let mut gatherer = Gatherer::new(a.region().clone());
    for key in 0..20 {
        a.put(&format!("k{key}"), Some("common"));
        ship(&mut gatherer, &mut b); // the rings are small
    }
    a.put("k3", None);
    let common = ship(&mut gatherer, &mut b);
    assert_eq!(a.objects(), b.objects());

    // Ahead, and never shipped: changed, ended, created, claimed, parked, with packets and messages.
    a.put("k1", Some("ahead"));
    a.put("k2", None);
    a.put("k5", None);
    a.put("ahead", Some("x"));
    let (work, out) = (a.work(), a.region().port("out").expect("in the geometry"));
    send(&mut a.port, Some(b"k6"), b"go");
    let mut claim = a.worker.claim(work).expect("ready");
    claim.emit(out, Endpoint::NONE, b"never released").expect("a block");
    claim.commit().expect("nobody is in the way");
    send(&mut a.port, Some(b"k7"), b"poison");
    for _ in 0..a.region().geometry().max_attempts {
        a.worker.claim(work).expect("ready").fail();
    }
    send(&mut a.port, Some(b"k8"), b"waits for ever");

    // Meanwhile, over there: other changes, and the same keys in other slots.
    b.region().begin_change(2);
    b.region().become_primary(2);
    b.put("k1", Some("there"));
    b.put("k4", None);
    b.put("ahead", Some("there"));
    b.put("new", Some("there"));

    a.follow(2);
    let ahead = a.region().changed_since(common);
    let lost = a.region().rewind(common);
    assert_eq!(ahead, lost);
    assert_eq!((a.region().commit_seq(), a.region().gathered()), (common, common));
    assert_eq!(a.region().rewind(common), lost, "a second attempt finds the same");
    a.applier.begin_transfer(&a.test.region);
    let mut wanted = b.region().changed_since(common);
    wanted.extend(&lost);
    wanted.sort_unstable();
    wanted.dedup();
    assert!(wanted.len() < 12, "{wanted:?}: far from all");
    copy(&b, &mut a, &wanted);
    a.applier.end_transfer();
    a.region().become_backup(2);
    assert_eq!(a.objects(), b.objects());
    a.leaks_nothing();

    // And it can be promoted again: every key is found, nothing waits, nothing is parked.
    a.follow(3);
    a.region().become_primary(3);
    assert!(a.port.take_emitted(out).is_none(), "what was never released is gone");
    let before = a.objects().len();
    for key in ["k0", "k1", "k6", "k7", "k8", "ahead", "new"] {
        a.put(key, Some("later"));
    }
    assert_eq!(a.objects().len(), before, "no key was created twice");
    a.is_sound();
}

/// Goal: during a transfer batches and copies come in any order, and neither a change of the ended history with a high
/// seq nor a copy that names a commit that it does not show wins.
#[test]
fn in_a_transfer_what_the_slot_held_before_counts_for_nothing() {
    let mut side = Side::new();
    let key = |value: &'static [u8]| Change::Put {
        slot: 3,
        incarnation: 1,
        queue: 0,
        priority: 0,
        key: b"k",
        value,
        deadline: None,
        ready: false,
        sum: 0,
        before: None,
    };
    let value = |side: &Side| side.objects()[0].3.clone();
    side.follow(2);
    assert!(side.apply(Seq::new(1, 900), Origin::Commit, &key(b"of an ended history")));
    side.applier.begin_transfer(&side.test.region);
    assert!(side.apply(Seq::new(1, 80), Origin::Copy, &key(b"copy")));
    assert_eq!(value(&side), b"copy");
    assert!(side.apply(Seq::new(2, 5), Origin::Commit, &key(b"commit")));
    assert!(!side.apply(Seq::new(2, 5), Origin::Copy, &key(b"copy that names it")));
    assert!(!side.apply(Seq::new(2, 4), Origin::Commit, &key(b"late")));
    assert_eq!(value(&side), b"commit");
    side.is_sound();
}

/// Goal: whatever part of a batch was written when its node died, writing it once more makes it whole.
#[test]
fn a_batch_that_was_cut_short_is_written_once_more() {
    let keys: Vec<String> = (0..6).map(|n| format!("key-{n}")).collect();
    let put = |slot: u32, incarnation, key: &'_ str| -> (u32, u32, String) {
        (slot, incarnation, key.to_owned())
    };
    // Slots 0 to 2 are replaced by objects of other keys, 3 ends, 4 and 5 begin.
    let batch: Vec<_> = [(0, 2, 3), (1, 2, 4), (2, 2, 5), (4, 1, 0), (5, 1, 1)]
        .map(|(slot, incarnation, key)| put(slot, incarnation, &keys[key]))
        .into();
    for cut in 0..=batch.len() + 1 {
        let mut side = Side::new();
        side.follow(1);
        side.region().become_backup(1);
        let change = |slot, incarnation, key: &'static str| Change::Put {
            slot,
            incarnation,
            queue: 0,
            priority: 0,
            key: key.as_bytes(),
            value: b"value",
            deadline: None,
            ready: false,
            sum: 0,
            before: None,
        };
        for (slot, key) in ["key-0", "key-1", "key-2", "key-3"].into_iter().enumerate() {
            side.apply(Seq::new(1, 1), Origin::Commit, &change(slot as u32, 1, key));
        }
        let region = side.test.region.clone();
        side.applier.set_applied(&region, Seq::new(1, 1));
        assert_eq!(region.staged(), None, "nothing is under way");

        let last = Seq::new(1, 9);
        let write = |side: &mut Side, upto: usize| {
            let gone = Change::Remove { slot: 3, incarnation: 1 };
            if upto > 0 {
                side.apply(last, Origin::Commit, &gone);
            }
            for (slot, incarnation, key) in batch.iter().take(upto.saturating_sub(1)) {
                let change = Change::Put {
                    slot: *slot,
                    incarnation: *incarnation,
                    queue: 0,
                    priority: 0,
                    key: key.as_bytes(),
                    value: b"new value",
                    deadline: None,
                    ready: false,
                    sum: 0,
                    before: None,
                };
                side.apply(last, Origin::Commit, &change);
            }
        };
        assert!(region.stage(Seq::new(1, 1), last, b"the bytes of the batch"));
        side.applier.begin(&region, last);
        write(&mut side, cut);
        // Here its node dies, and another one finds this.
        side.applier = Applier::new(&region);
        let staged = region.staged().expect("it is in the middle of it");
        assert_eq!((staged.prev, staged.last), (Seq::new(1, 1), last));
        assert_eq!(staged.bytes, b"the bytes of the batch");
        region.mend_torn();
        write(&mut side, batch.len() + 1);
        side.applier.set_applied(&region, last);
        assert!(!region.is_torn() && region.staged().is_none());
        let held: Vec<_> =
            side.objects().into_iter().map(|(slot, n, key, _)| (slot, n, key)).collect();
        let wanted: Vec<_> =
            batch.iter().map(|(slot, n, key)| (*slot, *n, key.clone().into_bytes())).collect();
        assert_eq!(held, wanted, "cut after {cut}");
        side.leaks_nothing();
        assert!(!region.stage(last, Seq::new(1, 10), &vec![7; 64 << 20]), "larger than can be");
    }
}

/// Goal: how far the batches of a back-up are written says its node alone, also when that is dead: else half a batch would
/// pass for a whole one.
#[test]
fn whoever_leaves_does_not_make_half_a_batch_whole() {
    let mut side = Side::new();
    side.follow(1);
    side.region().become_backup(1);
    let region = side.test.region.clone();
    side.applier.set_applied(&region, Seq::new(1, 1));
    side.applier.begin(&region, Seq::new(1, 9));
    let Side { test, node, port, worker, .. } = side;
    for leaving in [worker, port, node] {
        drop(leaving);
        assert!(test.region.is_torn());
        assert_eq!(test.region.gathered(), Seq::new(1, 1));
    }
}

#[test]
fn the_history_outlives_its_node_and_is_bounded() {
    let test = TestRegion::new(&small());
    assert!(test.region.history().is_empty());
    let begin = |epoch: u16| EpochBegin {
        epoch,
        base: Seq::new(epoch - 1, 7),
        leader: u64::from(epoch) << 40,
    };
    let history: Vec<_> = (1..=40).map(begin).collect();
    test.region.set_history(&history);
    let again = Region::attach(test.path()).expect("it is there");
    assert_eq!(again.history(), history[8..], "the newest 32");
    assert_eq!(test.region.role().role(), Role::Primary);
    test.region.begin_change(2);
    test.region.empty();
    assert!(again.history().is_empty(), "an empty region has no history");
}

/// Goal: who goes back need not wait for the seats of the dead. What they had decided is finished by the first pass; the
/// blocks that wait to be gathered, of which a region that changes its role gathers nothing, keep a seat.
#[test]
fn what_the_dead_had_decided_is_finished_before_their_seats_are_free() {
    const NOBODY: u32 = 1 << 30;
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let node = test.region.join(Kind::Node, "node").expect("a seat");
    test.region.set_gathering(true);
    for value in [b"one", b"two"] {
        send(&mut port, Some(b"a"), b"go");
        let mut claim = worker.claim(work).expect("ready");
        claim.set_value(value).expect("a block");
        claim.commit().expect("nobody is in the way");
    }
    let path = test.path().with_extension("dead");
    std::fs::copy(test.path(), &path).expect("room for a copy");
    let dead = Region::attach(&path).expect("a copy of a region");
    let _ = std::fs::remove_file(&path);
    let tasks = std::fs::read_dir("/proc/self/task").expect("there is a /proc").flatten();
    let threads: Vec<u32> = tasks
        .filter_map(|task| task.file_name().to_str().and_then(|name| name.parse().ok()))
        .collect();
    hotpair_shm::testing::declare_dead(&dead, std::process::id(), &threads, NOBODY);
    drop(node);

    let mut reaper = Reaper::new(dead.clone());
    assert!(!reaper.has_handed_on(), "three have died");
    // The next node: nobody but it may make room, and it does not gather yet.
    let _node = dead.join(Kind::Node, "node").expect("a seat");
    let reaped = reaper.run_once();
    assert_eq!(reaped.unfinished, 1, "the worker's, for what was replaced: {reaped:?}");
    assert!(reaper.has_handed_on());
}
