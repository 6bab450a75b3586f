//! Commits over several objects: all or nothing, for those who write and for those who read.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{TestRegion, send, small};
use hotpair_shm::{AlsoError, CommitError, Kind, Participant, QueueId, Region};

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// Accounts that hold 1,000 each.
fn open_accounts(region: &Region, worker: &mut Participant, accounts: u32) -> QueueId {
    let work = region.queue("work").expect("queue");
    let mut port = region.join(Kind::Port, "opener").expect("a seat");
    for n in 0..accounts {
        send(&mut port, Some(&n.to_le_bytes()), b"open");
        let mut claim = worker.claim(work).expect("ready");
        claim.set_value(&1_000_u64.to_le_bytes()).expect("a block");
        claim.commit().expect("nobody is in the way");
    }
    work
}

fn balance(region: &Region, queue: QueueId, account: u32) -> u64 {
    number(&region.find(queue, &account.to_le_bytes()).expect("an account").value)
}

#[test]
fn a_commit_changes_withdraws_and_emits_for_several_objects_at_once() {
    let test = TestRegion::new(&small());
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let work = open_accounts(&test.region, &mut worker, 3);
    let before = test.region.status().blocks_in_use();
    send(&mut port, Some(&0_u32.to_le_bytes()), b"go");

    let mut claim = worker.claim(work).expect("ready");
    let one = claim.also(work, &1_u32.to_le_bytes()).expect("idle");
    let two = claim.also(work, &2_u32.to_le_bytes()).expect("idle");
    assert_eq!(claim.also(work, &1_u32.to_le_bytes()), Err(AlsoError::Held));
    assert_eq!(claim.also(work, &0_u32.to_le_bytes()), Err(AlsoError::Held));
    assert_eq!(claim.also(work, &9_u32.to_le_bytes()), Err(AlsoError::Absent));
    claim.set_value(&400_u64.to_le_bytes()).expect("a block");
    let value = claim.other(one).value_mut().expect("a block");
    value.copy_from_slice(&2_600_u64.to_le_bytes());
    assert_eq!(number(claim.other(two).value()), 1_000);
    claim.other(two).withdraw();
    claim.commit().expect("nobody is in the way");

    assert_eq!(balance(&test.region, work, 0), 400);
    assert_eq!(balance(&test.region, work, 1), 2_600);
    assert!(test.region.find(work, &2_u32.to_le_bytes()).is_none());
    assert!(worker.claim(work).is_none(), "nothing is ready");
    drop(worker);
    assert_eq!(test.region.status().blocks_in_use(), before - 1, "the withdrawn value");
}

#[test]
fn a_conflict_gives_everything_back_and_counts_as_no_attempt() {
    let test = TestRegion::new(&small());
    let mut one = test.region.join(Kind::Worker, "one").expect("a seat");
    let mut two = test.region.join(Kind::Worker, "two").expect("a seat");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let work = open_accounts(&test.region, &mut one, 2);
    send(&mut port, Some(&0_u32.to_le_bytes()), b"go");
    send(&mut port, Some(&1_u32.to_le_bytes()), b"go");

    let first = one.claim(work).expect("ready");
    let mut second = two.claim(work).expect("ready");
    let in_the_way = first.key().to_vec();
    second.set_value(b"never").expect("a block");
    assert_eq!(second.also(work, &in_the_way), Err(AlsoError::Conflict));
    second.fail();
    first.commit().expect("nobody is in the way");

    let claim = loop {
        // Offered again after its pause.
        two.wait_ready(work, std::time::Duration::from_millis(1));
        if let Some(claim) = two.claim(work) {
            break claim;
        }
    };
    assert_eq!((claim.attempts(), claim.messages().len()), (0, 1));
    assert_eq!(number(claim.value()), 1_000);
}

#[test]
fn a_withdrawal_of_another_object_gives_up_if_a_message_waits_for_it() {
    let test = TestRegion::new(&small());
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let work = open_accounts(&test.region, &mut worker, 2);
    send(&mut port, Some(&0_u32.to_le_bytes()), b"go");
    let mut claim = worker.claim(work).expect("ready");
    let other = claim.also(work, &1_u32.to_le_bytes()).expect("idle");
    claim.other(other).withdraw();
    send(&mut port, Some(&1_u32.to_le_bytes()), b"not yet");
    assert_eq!(claim.commit(), Err(CommitError::NewMessages));
    let mut keys = Vec::new();
    while let Some(claim) = worker.claim(work) {
        keys.push(claim.key().to_vec());
        claim.commit().expect("nobody is in the way");
    }
    keys.sort_unstable();
    assert_eq!(keys, [0_u32.to_le_bytes(), 1_u32.to_le_bytes()], "each has its message");
}

/// Goal: what would have made another object ready still does, once the commit that it was part of is over.
#[test]
fn another_object_stays_as_ready_as_it_was() {
    let test = TestRegion::new(&small());
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let work = open_accounts(&test.region, &mut worker, 2);
    let done = test.region.queue("done").expect("queue");
    send(&mut port, Some(&0_u32.to_le_bytes()), b"go");
    let mut claim = worker.claim(work).expect("ready");
    claim.create(done, Some(b"errand"), b"", true).expect("room");
    let timed = claim.also(work, &1_u32.to_le_bytes()).expect("idle");
    claim.other(timed).set_timer(std::time::Duration::ZERO);
    claim.commit().expect("nobody is in the way");

    send(&mut port, Some(&0_u32.to_le_bytes()), b"go");
    let mut claim = loop {
        let claim = worker.claim(work).expect("two are ready");
        if claim.key() == 0_u32.to_le_bytes() {
            break claim;
        }
        assert!(claim.timer_due());
        claim.give_back();
    };
    for (queue, key) in [(done, &b"errand"[..]), (work, &1_u32.to_le_bytes()[..])] {
        let other = claim.also(queue, key).expect("in nobody's hands");
        claim.other(other).set_value(b"changed").expect("a block");
    }
    claim.commit().expect("nobody is in the way");
    let claim = worker.claim(work).expect("its timer was nobody's yet");
    assert_eq!((claim.value(), claim.timer_due()), (&b"changed"[..], true));
    claim.commit().expect("nobody is in the way");
    let claim = worker.claim(done).expect("nobody has run the errand yet");
    assert_eq!(claim.value(), b"changed");
}

/// Goal: money moves between accounts by four workers; readers never see it in the air, and none is lost.
#[test]
fn transfers_are_atomic_for_workers_and_readers() {
    const ACCOUNTS: u32 = 8;
    const TRANSFERS: u64 = 2_000;
    let test = TestRegion::new(&small());
    let region = &test.region;
    let mut opener = region.join(Kind::Worker, "opener").expect("a seat");
    let work = open_accounts(region, &mut opener, ACCOUNTS);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut worker = region.join(Kind::Worker, "worker").expect("a seat");
                    let mut moved = 0;
                    while !done.load(Ordering::Relaxed) {
                        moved += u64::from(transfer(&mut worker, work, ACCOUNTS));
                    }
                    moved
                })
            })
            .collect();
        scope.spawn(|| {
            let keys: Vec<_> = (0..ACCOUNTS).map(u32::to_le_bytes).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            while !done.load(Ordering::Relaxed) {
                let Ok(values) = region.read_together(work, &keys) else { continue };
                let sum: u64 = values.iter().flatten().map(|value| number(value)).sum();
                assert_eq!(sum, 1_000 * u64::from(ACCOUNTS), "a reader saw half of a commit");
            }
        });
        let mut port = region.join(Kind::Port, "port").expect("a seat");
        for n in 0..TRANSFERS {
            let from = (n * 7 % u64::from(ACCOUNTS)) as u32;
            send(&mut port, Some(&from.to_le_bytes()), &n.to_le_bytes());
            while n % 50 == 49 && region.objects().any(|object| object.waiting > 0) {
                std::thread::yield_now();
            }
        }
        while region.objects().any(|object| object.waiting > 0) {
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        let moved: u64 = workers.into_iter().map(|worker| worker.join().expect("no panic")).sum();
        assert_eq!(moved, TRANSFERS, "each message moved money once");
    });
    let sum: u64 = (0..ACCOUNTS).map(|account| balance(region, work, account)).sum();
    assert_eq!(sum, 1_000 * u64::from(ACCOUNTS));
}

/// Moves one from the ready account to its neighbour for each message; false: nothing was ready, or somebody
/// had the neighbour.
fn transfer(worker: &mut Participant, work: QueueId, accounts: u32) -> u32 {
    let Some(mut claim) = worker.claim(work) else {
        worker.wait_ready(work, std::time::Duration::from_millis(1));
        return 0;
    };
    let from = u32::from_le_bytes(claim.key().try_into().expect("four bytes"));
    let to = (from + 1) % accounts;
    let Ok(other) = claim.also(work, &to.to_le_bytes()) else { return 0 };
    let count = claim.messages().len() as u64;
    let left = number(claim.value()).wrapping_sub(count);
    claim.set_value(&left.to_le_bytes()).expect("a block");
    let more = number(claim.other(other).value()).wrapping_add(count);
    claim.other(other).set_value(&more.to_le_bytes()).expect("a block");
    match claim.commit() {
        Ok(_) => count as u32,
        Err(_) => 0,
    }
}
