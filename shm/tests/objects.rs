//! The life of objects in one process: claim, work, commit, withdraw, timers, limits.

mod common;

use std::time::Duration;

use common::{TestRegion, send, small};
use hotpair_shm::{
    Change, CommitError, CreateObjectError, DeliverError, Delivered, Delivery, Endpoint, Gatherer,
    Kind, ObjectState, OutOf, Seq, Sweeper,
};

#[test]
fn a_message_makes_an_object_that_a_worker_claims_and_commits() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");

    assert!(worker.claim(work).is_none(), "nothing to do yet");
    assert_eq!(send(&mut port, Some(b"a"), b"one"), Delivered::ToNew);
    assert_eq!(send(&mut port, Some(b"a"), b"two"), Delivered::ToExisting);

    let mut claim = worker.claim(work).expect("a ready object");
    assert_eq!(claim.key(), b"a");
    assert_eq!(claim.value(), b"");
    let messages: Vec<_> = claim.messages().map(|message| message.payload().to_vec()).collect();
    assert_eq!(messages, [b"one", b"two"], "in the order of arrival");
    claim.set_value(b"state").expect("a block");
    let seq = claim.commit().expect("nobody is in the way");
    assert_eq!(seq, Seq::new(1, 2), "the first commit created the object");

    assert!(worker.claim(work).is_none(), "both messages are consumed");
    let object = test.region.find(work, b"a").expect("the object");
    assert_eq!((object.value.as_slice(), object.state), (&b"state"[..], ObjectState::Idle));
    assert_eq!(test.region.value_is_intact(object.slot), Some(true));
}

#[test]
fn a_dropped_claim_changes_nothing() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let out = test.region.port("out").expect("port");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"one");
    let before = test.region.status().blocks_in_use();

    let mut claim = worker.claim(work).expect("ready");
    claim.set_value(b"never").expect("a block");
    claim.emit(out, Endpoint::NONE, b"never").expect("a block");
    claim.create(work, Some(b"b"), b"never", true).expect("room");
    claim.withdraw();
    drop(claim);

    assert_eq!(test.region.status().blocks_in_use(), before);
    assert!(test.region.find(work, b"b").is_none());
    let claim = worker.claim(work).expect("ready again");
    assert_eq!(claim.messages().len(), 1);
    assert_eq!(claim.attempts(), 0, "giving back is no failure");
}

#[test]
fn a_panic_gives_back_and_counts_until_the_object_is_parked() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"poison");
    for attempt in 0..3 {
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let claim = worker.claim(work).expect("ready");
            assert_eq!(claim.attempts(), attempt);
            std::panic::resume_unwind(Box::new("the worker's bug"));
        }));
        assert!(panicked.is_err());
    }
    assert!(worker.claim(work).is_none(), "parked after max_attempts");
    assert_eq!(test.region.status().parked(), 1);
}

#[test]
fn a_commit_creates_emits_and_withdraws_in_one_step() {
    let test = TestRegion::new(&small());
    let (work, done) =
        (test.region.queue("work").expect("queue"), test.region.queue("done").expect("queue"));
    let out = test.region.port("out").expect("port");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"call"), b"bye");

    let peer = Endpoint::from(std::net::SocketAddr::from(([127, 0, 0, 1], 5060)));
    let mut claim = worker.claim(work).expect("ready");
    claim.emit(out, peer, b"200 OK").expect("a block");
    claim.create(done, Some(b"call"), b"record", false).expect("room");
    claim.withdraw();
    let seq = claim.commit().expect("nobody is in the way");

    assert!(test.region.find(work, b"call").is_none());
    assert_eq!(test.region.find(done, b"call").expect("the record").value, b"record");
    assert!(port.take_emitted(out).is_none(), "not released yet");
    test.region.raise_released(seq);
    let packet = port.take_emitted(out).expect("released");
    assert_eq!((packet.payload(), packet.endpoint()), (&b"200 OK"[..], peer));
    assert!(port.may_send(&packet));
    port.sent(packet);
    assert_eq!(test.region.status().blocks_in_use(), 1, "the record alone");

    assert_eq!(send(&mut port, Some(b"call"), b"again"), Delivered::ToNew, "the key is free");
    let claim = worker.claim(work).expect("ready");
    assert_eq!((claim.value(), claim.messages().len()), (&b""[..], 1));
}

/// Goal: no message vanishes with its object.
#[test]
fn a_withdrawal_gives_up_if_a_message_came_meanwhile() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"one");
    let mut claim = worker.claim(work).expect("ready");
    send(&mut port, Some(b"a"), b"two");
    claim.withdraw();
    assert_eq!(claim.commit(), Err(CommitError::NewMessages));

    let mut claim = worker.claim(work).expect("ready again");
    assert_eq!(claim.messages().len(), 2);
    claim.withdraw();
    claim.commit().expect("now nothing waits");
    assert_eq!(test.region.objects().count(), 0);
}

#[test]
fn a_message_that_comes_during_a_claim_makes_the_object_ready_after_it() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let mut other = test.region.join(Kind::Worker, "other").expect("a seat");
    send(&mut port, Some(b"a"), b"one");
    let claim = worker.claim(work).expect("ready");
    send(&mut port, Some(b"a"), b"two");
    assert!(other.claim(work).is_none(), "one claim at a time");
    claim.commit().expect("nobody is in the way");
    let claim = other.claim(work).expect("any worker takes it");
    let messages: Vec<_> = claim.messages().map(|message| message.payload().to_vec()).collect();
    assert_eq!(messages, [b"two"]);
}

#[test]
fn a_timer_makes_its_object_ready_and_is_cleared_by_the_next_commit() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"one");
    let mut claim = worker.claim(work).expect("ready");
    claim.set_timer(Duration::from_secs(3600));
    claim.commit().expect("nobody is in the way");
    assert!(worker.claim(work).is_none());
    send(&mut port, Some(b"a"), b"two");
    let mut claim = worker.claim(work).expect("ready by the message");
    assert!(!claim.timer_due());
    assert!(claim.timer().expect("still set") > Duration::from_secs(3000));
    claim.set_timer(Duration::ZERO);
    let slot = claim.slot();
    claim.commit().expect("nobody is in the way");
    test.region.timer_due(slot);
    let claim = worker.claim(work).expect("ready by the timer");
    assert!(claim.timer_due());
    claim.commit().expect("nobody is in the way");
    test.region.timer_due(slot);
    assert!(worker.claim(work).is_none(), "it fired once");
    assert_eq!(test.region.find(work, b"a").expect("the object").deadline, None);
}

/// Goal: a timer is cleared only by a commit whose worker could know that it was due.
#[test]
fn a_timer_that_comes_due_during_a_claim_fires_after_it() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"one");
    let mut claim = worker.claim(work).expect("ready");
    claim.set_timer(Duration::from_millis(200));
    claim.commit().expect("nobody is in the way");
    send(&mut port, Some(b"a"), b"two");
    let claim = worker.claim(work).expect("ready by the message");
    assert!(!claim.timer_due(), "the machine was stopped for longer than the timer");
    while claim.timer() != Some(Duration::ZERO) {
        std::thread::yield_now();
    }
    assert!(!claim.timer_due(), "what was said of a claim holds until its end");
    claim.commit().expect("nobody is in the way");
    let claim = worker.claim(work).expect("ready by the timer");
    assert!(claim.timer_due());
}

/// Goal: the node reads each commit as it was, however late: what a later one replaces is not reused before.
#[test]
fn what_a_commit_replaces_stays_until_it_is_gathered() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let _node = test.region.join(Kind::Node, "node").expect("a seat");
    test.region.set_gathering(true);
    for value in [b"one", b"two", b"six"] {
        send(&mut port, Some(b"a"), b"go");
        let mut claim = worker.claim(work).expect("ready");
        claim.set_value(value).expect("a block");
        claim.commit().expect("nobody is in the way");
    }
    let mut values = Vec::new();
    Gatherer::new(test.region.clone()).gather(usize::MAX, |commit| {
        for change in &commit.changes {
            let Change::Put { value, .. } = change else { panic!("nothing ended: {change:?}") };
            values.push(value.to_vec());
        }
    });
    assert_eq!(values, [&b""[..], b"one", b"two", b"six"]);
}

/// Goal: a hint that outlives its object leads nobody to another queue's object in the same slot.
#[test]
fn a_worker_gets_objects_of_its_own_queue_alone() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let done = test.region.queue("done").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, None, b"first");
    let mut sweeper = Sweeper::new(test.region.clone());
    sweeper.run_once();
    assert_eq!(sweeper.run_once(), 1, "a second hint of the same object");
    let mut claim = worker.claim(work).expect("ready");
    let slot = claim.slot();
    claim.withdraw();
    claim.commit().expect("nobody is in the way");

    let packet = port.packet_of(b"second", Endpoint::NONE).expect("a block");
    port.deliver(Delivery { queue: done, key: None, priority: 0 }, packet).expect("room");
    assert!(worker.claim(work).is_none(), "nothing is ready in this queue");
    let claim = worker.claim(done).expect("its hint is untouched");
    assert_eq!(claim.slot(), slot, "the slot that the hint was left of");
}

#[test]
fn keys_are_unique_under_contention() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let created = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (region, created) = (&test.region, &created);
            scope.spawn(move || {
                let mut port = region.join(Kind::Port, "port").expect("a seat");
                for n in 0..24_u32 {
                    if send(&mut port, Some(&n.to_le_bytes()), &[thread]) == Delivered::ToNew {
                        created.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(created.into_inner(), 24);
    let objects: Vec<_> = test.region.objects().collect();
    assert_eq!(objects.len(), 24);
    assert!(objects.iter().all(|object| object.waiting == 4 && object.queue == work));
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let mut messages = 0;
    while let Some(mut claim) = worker.claim(work) {
        messages += claim.messages().len();
        claim.withdraw();
        claim.commit().expect("nobody is in the way");
    }
    assert_eq!(messages, 96);
    assert_eq!(test.region.status().blocks_in_use(), 0);
}

#[test]
fn limits_are_errors_and_lose_nothing() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    for _ in 0..100 {
        send(&mut port, Some(b"a"), b"x");
    }
    let to = Delivery { queue: work, key: Some(b"a"), priority: 0 };
    let packet = port.packet_of(b"one too many", Endpoint::NONE).expect("a block");
    let (error, packet) = port.deliver(to, packet).expect_err("the inbox is full");
    assert_eq!(error, DeliverError::InboxFull);
    port.discard(packet);

    for n in 1..64_u32 {
        send(&mut port, Some(&n.to_le_bytes()), b"x");
    }
    let packet = port.packet_of(b"x", Endpoint::NONE).expect("a block");
    let (error, packet) = port
        .deliver(Delivery { queue: work, key: None, priority: 0 }, packet)
        .expect_err("no slot");
    assert_eq!(error, DeliverError::OutOf(OutOf::Slots { slots: 64 }));
    let slots = test.region.usage().slots;
    assert_eq!((slots.high, slots.refused_ports, slots.suggested()), (64, 1, 128));
    port.discard(packet);

    let mut claim = worker.claim(work).expect("ready");
    assert_eq!(
        claim.create(work, Some(&3_u32.to_le_bytes()), b"", false),
        Err(CreateObjectError::Exists)
    );
    assert_eq!(
        claim.set_value(&[0; 4096]),
        Err(OutOf::TooLarge { bytes: 4112, largest: 1024 }),
        "the key stands before the value"
    );
    drop(claim);

    let mut messages = 0;
    while let Some(claim) = worker.claim(work) {
        messages += claim.messages().len();
        claim.commit().expect("nobody is in the way");
    }
    assert_eq!(messages, 163, "every message that was accepted");
}

#[test]
fn nobody_claims_delivers_or_sends_unless_primary() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let out = test.region.port("out").expect("port");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"one");
    let mut claim = worker.claim(work).expect("ready");
    claim.emit(out, Endpoint::NONE, b"answer").expect("a block");
    let seq = claim.commit().expect("nobody is in the way");
    send(&mut port, Some(b"a"), b"two");
    let claim = worker.claim(work).expect("ready");

    test.region.begin_change(2);
    assert_eq!(test.region.holdouts().len(), 1, "the claim in hand");
    assert_eq!(claim.commit(), Err(CommitError::Fenced));
    assert!(test.region.quiesce(Duration::from_secs(5)).is_empty());
    test.region.raise_released(seq);
    assert!(port.take_emitted(out).is_none());
    assert!(worker.claim(work).is_none());
    let packet = port.packet_of(b"x", Endpoint::NONE).expect("a block");
    let (error, packet) = port
        .deliver(Delivery { queue: work, key: Some(b"a"), priority: 0 }, packet)
        .expect_err("the role is changing");
    assert_eq!(error, DeliverError::NotPrimary);
    port.discard(packet);

    test.region.become_primary(2);
    assert!(port.take_emitted(out).is_some(), "an older epoch's packet is below the new gate");
    let claim = worker.claim(work).expect("the message was given back");
    assert_eq!(claim.commit().expect("primary again").epoch(), 2);
}

/// Goal: a port that holds packets which its socket does not take is waited for, whatever else it does.
#[test]
fn packets_in_hand_hold_up_a_change_of_role() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let out = test.region.port("out").expect("port");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"one");
    let mut claim = worker.claim(work).expect("ready");
    claim.emit(out, Endpoint::NONE, b"answer").expect("a block");
    let seq = claim.commit().expect("nobody is in the way");
    test.region.raise_released(seq);

    let packet = port.take_emitted(out).expect("released");
    send(&mut port, Some(b"a"), b"two");
    assert!(port.take_emitted(out).is_none(), "there is no second one");
    test.region.begin_change(2);
    let holdouts: Vec<u8> = test.region.holdouts().iter().map(|left| left.seat).collect();
    assert_eq!(holdouts, [port.index()], "the packet is still in hand");
    test.region.become_primary(2);
    assert!(port.take_emitted(out).is_none(), "nothing is begun beside a packet of an older role");
    assert!(!port.may_send(&packet));
    port.put_back(packet);
    assert!(test.region.holdouts().is_empty());
    assert!(port.take_emitted(out).is_some(), "under the new role");
}

/// Goal: what a claim leaves is there for the next one, in its order and before what comes later, and nothing twice.
#[test]
fn a_claim_may_leave_messages_to_the_next() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    for text in [b"1", b"2", b"3"] {
        send(&mut port, Some(b"a"), text);
    }
    let texts = |claim: &hotpair_shm::Claim<'_>| -> Vec<u8> {
        claim.messages().map(|message| message.payload()[0]).collect()
    };
    let mut claim = worker.claim(work).expect("a ready object");
    assert!(claim.leave_messages(1));
    assert_eq!(texts(&claim), b"1");
    send(&mut port, Some(b"a"), b"4");
    claim.commit().expect("nobody is in the way");

    let mut claim = worker.claim(work).expect("ready again");
    assert_eq!(texts(&claim), b"234");
    assert!(claim.leave_messages(0), "all of them");
    claim.commit().expect("nobody is in the way");
    let claim = worker.claim(work).expect("ready again");
    assert_eq!(texts(&claim), b"234");
    claim.commit().expect("nobody is in the way");
    assert!(worker.claim(work).is_none(), "nothing is left");
}

/// Goal: an object that is created with a timer becomes ready by it.
#[test]
fn an_object_may_be_created_with_a_timer() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"go");
    let mut claim = worker.claim(work).expect("a ready object");
    let hour = Duration::from_secs(3_600);
    claim.create_timed(work, 0, Some(b"b"), b"value", false, Some(hour)).expect("room");
    claim.commit().expect("nobody is in the way");
    let left = worker.read(work, b"b").expect("still").expect("it is there").timer();
    assert!(left.is_some_and(|left| left <= hour && left > hour / 2), "{left:?}");
    assert!(worker.claim(work).is_none(), "not yet");
    hotpair_shm::testing::advance(&test.region, hour);
    Sweeper::new(test.region.clone()).run_once();
    let claim = worker.claim(work).expect("its timer is due");
    assert!(claim.timer_due() && claim.key() == b"b");
}
