//! One participant with several claims in hand.

mod common;

use std::time::Duration;

use common::{TestRegion, send, small};
use hotpair_shm::{CommitError, Kind, Participant, QueueId, Reaper, Seq, SuspendedClaim};

/// So many objects with a message each, all claimed and put aside.
fn claim_all(port: &mut Participant, worker: &mut Participant, count: u8) -> Vec<SuspendedClaim> {
    let work = worker.region().queue("work").expect("queue");
    for n in 0..count {
        send(port, Some(&[n]), &[n]);
    }
    (0..count).map(|_| worker.claim(work).expect("ready").suspend()).collect()
}

fn ready(worker: &mut Participant, work: QueueId) -> usize {
    let mut held = Vec::new();
    while let Some(claim) = worker.claim(work) {
        held.push(claim.suspend());
    }
    let count = held.len();
    held.into_iter().for_each(|claim| worker.resume(claim).give_back());
    count
}

#[test]
fn claims_are_resumed_in_any_order_with_their_own_messages_and_drafts() {
    let test = TestRegion::new(&small());
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let work = test.region.queue("work").expect("queue");
    let before = test.region.status().blocks_in_use();
    let mut claims = claim_all(&mut port, &mut worker, 20);
    assert_eq!(worker.suspended(), 20);

    // Half of a job, put aside again.
    let mut claim = worker.resume(claims.remove(7));
    claim.set_value(b"half done").expect("a block");
    claim.create(work, Some(b"another"), b"x", false).expect("room");
    claims.push(claim.suspend());
    let mut seqs: Vec<Seq> = Vec::new();
    for suspended in claims.into_iter().rev() {
        let mut claim = worker.resume(suspended);
        let key = claim.key().to_vec();
        let messages: Vec<Vec<u8>> = claim.messages().map(|m| m.payload().to_vec()).collect();
        assert_eq!(messages, std::slice::from_ref(&key), "its own message");
        if key == [7] {
            assert_eq!(claim.value(), b"half done");
        } else {
            claim.set_value(&key).expect("a block");
        }
        seqs.push(claim.commit().expect("nobody is in the way"));
    }
    assert!(seqs.is_sorted());
    assert_eq!(worker.suspended(), 0);
    assert!(test.region.find(work, b"another").is_some(), "part of the commit of 7");
    assert_eq!(test.region.find(work, &[3]).expect("committed").value, [3]);
    assert!(worker.claim(work).is_none(), "everything is done");
    drop((worker, port));
    Reaper::new(test.region.clone()).run_once();
    assert_eq!(test.region.status().blocks_in_use(), before + 21, "a value each");
}

#[test]
fn what_a_participant_leaves_suspended_is_ready_again() {
    let test = TestRegion::new(&small());
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let mut other = test.region.join(Kind::Worker, "other").expect("a seat");
    let work = test.region.queue("work").expect("queue");
    let claims = claim_all(&mut port, &mut worker, 9);
    assert!(other.claim(work).is_none(), "all are in one worker's hands");
    drop(worker);
    drop(claims);
    let reaped = Reaper::new(test.region.clone()).run_once();
    assert_eq!(reaped.claims, 9);
    assert_eq!(ready(&mut other, work), 9);
}

#[test]
fn a_change_of_role_waits_for_suspended_claims_and_voids_them() {
    let test = TestRegion::new(&small());
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let work = test.region.queue("work").expect("queue");
    let mut claims = claim_all(&mut port, &mut worker, 3);
    test.region.begin_change(2);
    let left = test.region.quiesce(Duration::ZERO);
    assert_eq!(left.iter().map(|one| one.seat).collect::<Vec<_>>(), [worker.index()]);
    let late = worker.resume(claims.pop().expect("three"));
    assert_eq!(late.commit(), Err(CommitError::Fenced));
    assert!(worker.claim(work).is_none(), "nothing is begun beside claims of an older role");
    assert_eq!(test.region.quiesce(Duration::ZERO).len(), 1, "two are left");
    claims.into_iter().for_each(|claim| worker.resume(claim).give_back());
    assert!(test.region.quiesce(Duration::ZERO).is_empty());
    test.region.become_primary(2);
    assert_eq!(ready(&mut worker, work), 3);
}
