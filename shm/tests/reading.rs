//! Values read in place: they stand still while they are read, whatever becomes of their objects.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{TestRegion, send, small};
use hotpair_shm::{Applier, Change, Kind, Origin, Participant, QueueId, ReadError, Region, Seq};

/// Commits `value` to the object `a`, which is ready because of a message.
fn put(port: &mut Participant, worker: &mut Participant, work: QueueId, value: &[u8]) {
    send(port, Some(b"a"), b"go");
    let mut claim = worker.claim(work).expect("ready");
    claim.set_value(value).expect("a block");
    claim.commit().expect("alone");
}

fn blocks(region: &Region) -> u64 {
    region.status().blocks_in_use()
}

#[test]
fn a_value_stands_still_while_it_is_read() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let reader = test.region.join(Kind::Other, "reader").expect("a seat");
    assert!(reader.read(work, b"a").expect("free to read").is_none());
    put(&mut port, &mut worker, work, b"first");

    let reading = reader.read(work, b"a").expect("free to read").expect("there");
    assert_eq!((reading.key(), reading.value()), (&b"a"[..], &b"first"[..]));
    // More than all blocks there are: every other one is used again.
    for round in 0..2000_u32 {
        put(&mut port, &mut worker, work, &round.to_le_bytes());
    }
    send(&mut port, Some(b"a"), b"end");
    let mut claim = worker.claim(work).expect("ready");
    claim.withdraw();
    claim.commit().expect("alone");
    assert_eq!((reading.key(), reading.value()), (&b"a"[..], &b"first"[..]));
    assert!(reader.read(work, b"a").expect("free to read").is_none(), "it has ended");

    drop(reading);
    drop((port, worker, reader));
    let mut reaper = hotpair_shm::Reaper::new(test.region.clone());
    reaper.run_once();
    assert_eq!(blocks(&test.region), 0, "nothing is kept for a reader that has finished");
}

#[test]
fn as_many_readings_as_there_are_hazards() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    put(&mut port, &mut worker, work, b"value");
    let read = || worker.read(work, b"a");
    let mut held: Vec<_> = (0..8).map(|_| read().expect("free").expect("there")).collect();
    assert!(matches!(read(), Err(ReadError::TooMany)));
    held.pop();
    assert_eq!(read().expect("one was let go").expect("there").value(), b"value");
}

/// Goal: readers beside writers that replace values as fast as they can never see a byte of another commit.
#[test]
fn readers_never_see_a_block_that_was_used_again() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    put(&mut port, &mut worker, work, &[0; 96]);
    let stop = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for at in 0..2 {
            let (region, stop, reads) = (&test.region, &stop, &reads);
            scope.spawn(move || {
                let mut round: u64 = 0;
                while !stop.load(Ordering::Relaxed) {
                    // Each time as a new reader, or never again after the first.
                    let reader = region.join(Kind::Other, "reader").expect("a seat");
                    for _ in 0..if at == 0 { 1 } else { 1000 } {
                        let reading = reader.read(work, b"a").expect("free").expect("there");
                        let first = reading.value()[0];
                        for _ in 0..round % 50 {
                            std::hint::spin_loop();
                        }
                        let same = reading.value().iter().all(|&byte| byte == first);
                        assert!(same, "torn: {:?}", reading.value());
                        round += 1;
                    }
                }
                reads.fetch_add(round, Ordering::Relaxed);
            });
        }
        let begun = std::time::Instant::now();
        let mut round: u8 = 0;
        while begun.elapsed() < Duration::from_secs(1) {
            round = round.wrapping_add(1);
            put(&mut port, &mut worker, work, &[round; 96]);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads > 100, "only {reads} readings");
}

/// Goal: the same on a back-up, whose node replaces the values.
#[test]
fn a_backup_keeps_what_is_read() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    test.region.begin_change(1);
    test.region.wipe().expect("randomness");
    test.region.become_backup(1);
    let mut node = test.region.join(Kind::Node, "back-up").expect("a seat");
    let reader = test.region.join(Kind::Other, "reader").expect("a seat");
    let mut applier = Applier::new(&test.region);
    fn change(queue: QueueId, value: &[u8]) -> Change<'_> {
        Change::Put {
            slot: 3,
            incarnation: 1,
            queue: queue.index(),
            priority: 0,
            key: b"a",
            value,
            deadline: None,
            ready: false,
            sum: 0,
            before: None,
        }
    }
    let mut apply = |at: u64, value: &[u8]| {
        assert!(
            applier
                .apply(&mut node, Seq::new(1, at), Origin::Commit, &change(work, value))
                .expect("room")
                .is_some()
        );
    };
    apply(1, b"first");
    let reading = reader.read(work, b"a").expect("free to read").expect("there");
    (2..2000).for_each(|at| apply(at, &at.to_le_bytes()));
    assert_eq!(reading.value(), b"first");
    let mut left = test.region.quiesce_readers(Duration::ZERO);
    assert_eq!(left.pop().map(|holdout| holdout.seat), Some(reader.index()), "it is waited for");
    drop(reading);
    assert!(test.region.quiesce_readers(Duration::ZERO).is_empty());
    apply(2000, b"last");
    assert_eq!(blocks(&test.region), 1);
}
