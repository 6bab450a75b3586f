//! Claims that find no free block: nothing is wrong with their objects.

mod common;

use common::{TestRegion, send, small};
use hotpair_shm::{
    Claim, CommitError, Counter, CreateObjectError, Endpoint, Gatherer, InboundPacket, Kind, OutOf,
    Participant, QueueId,
};

struct Case {
    test: TestRegion,
    port: Participant,
    worker: Participant,
    work: QueueId,
    taken: Vec<InboundPacket>,
}

impl Case {
    fn new() -> Self {
        let test = TestRegion::new(&small());
        let mut port = test.region.join(Kind::Port, "port").expect("a seat");
        let worker = test.region.join(Kind::Worker, "worker").expect("a seat");
        let work = test.region.queue("work").expect("of the geometry");
        send(&mut port, Some(b"a"), b"go");
        Case { test, port, worker, work, taken: Vec::new() }
    }

    /// Takes every block that there is.
    fn fill(&mut self) {
        while let Ok(packet) = self.port.packet_of(b"x", Endpoint::NONE) {
            self.taken.push(packet);
        }
    }

    fn free(&mut self) {
        self.taken.drain(..).for_each(|packet| self.port.discard(packet));
    }

    /// The object, when its pause is over.
    fn claim(&mut self) -> Claim<'_> {
        let ready = loop {
            match self.worker.claim_ready(self.work) {
                Some(ready) => break ready,
                None => std::thread::yield_now(),
            }
        };
        self.worker.hold(ready)
    }

    fn counted(&self, counter: Counter) -> u64 {
        let seats = self.test.region.participants();
        seats.iter().find(|seat| seat.seat == self.worker.index()).expect("seated").counter(counter)
    }
}

/// Goal: an object whose handler finds no free block is offered again after a pause, as often as it takes, and is never
/// parked for it; when there is room again it is worked on.
#[test]
fn a_handler_that_finds_no_block_is_no_failed_attempt() {
    let mut case = Case::new();
    let before = case.test.region.status().blocks_in_use();
    case.fill();
    let tries = 4 * u64::from(small().max_attempts);
    for _ in 0..tries {
        let mut claim = case.claim();
        assert_eq!(claim.attempts(), 0);
        assert!(matches!(claim.set_value(b"new"), Err(OutOf::Blocks { .. })));
        claim.fail();
        let work = case.work;
        assert!(case.worker.claim(work).is_none(), "it is offered again after a pause");
    }
    assert_eq!((case.counted(Counter::OutOfRoom), case.counted(Counter::Parked)), (tries, 0));
    case.free();
    let mut claim = case.claim();
    claim.set_value(b"new").expect("room");
    claim.commit().expect("nobody is in the way");
    let value = case.test.region.find(case.work, b"a").expect("the object").value;
    assert_eq!(value, b"new");
    // The message is gone and the value is there.
    assert!(case.test.region.status().blocks_in_use() <= before + 1);
}

/// Goal: the same for a commit that needs a block of its own, for a timer, and for one that is put aside.
#[test]
fn a_commit_that_finds_no_block_gives_back_with_a_pause() {
    let mut case = Case::new();
    case.fill();
    let mut claim = case.claim();
    claim.set_timer(std::time::Duration::from_secs(1));
    assert!(matches!(claim.commit(), Err(CommitError::OutOf(_))));
    let work = case.work;
    assert!(case.worker.claim(work).is_none(), "it is offered again after a pause");
    let mut claim = case.claim();
    assert!(claim.value_mut().is_err());
    let aside = claim.suspend();
    case.worker.resume(aside).fail();
    assert_eq!(case.claim().attempts(), 0);
}

/// Goal: a panic on the way is the shortage's, not the object's.
#[test]
fn a_panic_over_a_missing_block_is_no_failed_attempt() {
    let mut case = Case::new();
    case.fill();
    let mut claim = case.claim();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        claim
            .emit(claim.participant().region().port("out").expect("a port"), Endpoint::NONE, b"x")
            .expect("a block");
    }));
    assert!(panicked.is_err());
    assert_eq!(case.claim().attempts(), 0);
}

/// Goal: the controls. A failure with room is an attempt; so is one of an object that takes all there is and more than a
/// commit carries: it would do so for ever.
#[test]
fn other_failures_count() {
    let mut case = Case::new();
    case.claim().fail();
    assert_eq!(case.claim().attempts(), 1);
    let out = case.test.region.port("out").expect("of the geometry");
    let mut claim = case.claim();
    while claim.emit(out, Endpoint::NONE, b"x").is_ok() {}
    claim.fail();
    let mut claim = case.claim();
    assert_eq!(claim.attempts(), 2);
    // Larger than any block: that does not pass either.
    assert!(matches!(claim.set_value(&[0; 5000]), Err(OutOf::TooLarge { .. })));
    claim.fail();
    let work = case.work;
    assert!(case.worker.claim(work).is_none());
    assert_eq!(case.counted(Counter::Parked), 1);
}

/// Goal: no free slot is the same shortage.
#[test]
fn a_creation_without_a_slot_is_no_failed_attempt() {
    let mut case = Case::new();
    let done = case.test.region.queue("done").expect("of the geometry");
    for other in 0..u8::MAX {
        let mut claim = case.claim();
        claim.stay_ready();
        match claim.create(done, Some(&[other]), b"", false) {
            Ok(()) => {}
            Err(error) => {
                assert!(matches!(error, CreateObjectError::OutOf(OutOf::Slots { .. })), "{error}");
                claim.fail();
                assert_eq!(case.claim().attempts(), 0);
                return;
            }
        }
        claim.commit().expect("nobody is in the way");
    }
    panic!("the region has fewer slots");
}

/// Goal: a worker that finds nothing more to do keeps no blocks that its last commits have replaced, once they are gathered: a port
/// may wait for just these, and the worker for what the port would bring.
#[test]
fn a_worker_without_work_keeps_no_retired_blocks() {
    let test = TestRegion::new(&small());
    let _node = test.region.join(Kind::Node, "node").expect("a seat");
    test.region.set_gathering(true);
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let work = test.region.queue("work").expect("of the geometry");
    send(&mut port, Some(b"a"), b"go");
    for round in 0..10_u8 {
        let mut claim = worker.claim(work).expect("ready");
        claim.set_value(&[round; 100]).expect("a block");
        if round < 9 {
            claim.stay_ready();
        }
        claim.commit().expect("nobody is in the way");
    }
    assert!(worker.claim(work).is_none());
    let held = test.region.status().blocks_in_use();
    Gatherer::new(test.region.clone()).gather(usize::MAX, |_| ());
    assert_eq!(test.region.status().blocks_in_use(), held, "gathered, and in the worker's name");
    assert!(worker.claim(work).is_none());
    assert_eq!(test.region.status().blocks_in_use(), 1, "of {held} only the value is left");
}
