//! What becomes of messages that there is no room for, policy by policy.

mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::random::Random;
use common::{TestRegion, small};
use hotpair_shm::{
    CommitError, Counter, DeliverError, Delivered, Delivery, Endpoint, Geometry, Kind,
    MESSAGES_PER_CLAIM, Mode, OutOf, Overload, Participant, QueueId, QueuePolicy, Region, Shares,
    testing,
};

const LIMIT: u16 = 4;

fn region_with(overload: Overload, geometry: Geometry) -> (TestRegion, QueueId) {
    let test = TestRegion::new(&geometry);
    let work = test.region.queue("work").expect("queue");
    test.region.set_policy(work, &QueuePolicy { overload, ..Default::default() });
    (test, work)
}

fn limited() -> Geometry {
    Geometry { inbox_limit: LIMIT, ..small() }
}

/// Sends to the object `a`; a message that comes back is given back.
fn send(port: &mut Participant, work: QueueId, text: &str) -> Result<Delivered, DeliverError> {
    let packet = port.packet_of(text.as_bytes(), Endpoint::NONE).expect("a free block");
    let to = Delivery { queue: work, key: Some(b"a"), priority: 0 };
    port.deliver(to, packet).map_err(|(error, packet)| {
        port.discard(packet);
        error
    })
}

fn fill(port: &mut Participant, work: QueueId) {
    for number in 1..=LIMIT {
        send(port, work, &number.to_string()).expect("room");
    }
}

fn waiting(region: &Region) -> Vec<String> {
    let text = |message: &Vec<u8>| String::from_utf8_lossy(message).into_owned();
    testing::waiting(region, object(region)).iter().map(text).collect()
}

fn object(region: &Region) -> u32 {
    let work = region.queue("work").expect("queue");
    region.find(work, b"a").expect("the object").slot
}

fn counted(port: &Participant) -> [u64; 3] {
    let seats = port.region().participants();
    let own = seats.iter().find(|seat| seat.seat == port.index()).expect("seated");
    [Counter::Rejected, Counter::DroppedNewest, Counter::DroppedOldest]
        .map(|counter| own.counter(counter))
}

#[test]
fn each_policy_does_what_it_says_with_a_full_inbox() {
    use Overload::{DropNewest, DropOldest, Hold, Reject};
    let full = Err(DeliverError::InboxFull);
    #[rustfmt::skip]
    let cases = [
        // policy     the fifth of four   what waits then      rejected, newest, oldest dropped
        (Reject,      full,                          ["1", "2", "3", "4"], [1, 0, 0]),
        (DropNewest,  Ok(Delivered::Dropped),        ["1", "2", "3", "4"], [0, 1, 0]),
        (DropOldest,  Ok(Delivered::ToExisting),     ["2", "3", "4", "5"], [0, 0, 1]),
        (Hold,        full,                          ["1", "2", "3", "4"], [0, 0, 0]),
    ];
    for (overload, result, waits, counts) in cases {
        let (test, work) = region_with(overload, limited());
        let mut port = test.region.join(Kind::Port, "port").expect("a seat");
        fill(&mut port, work);
        assert_eq!(send(&mut port, work, "5"), result, "{overload:?}");
        assert_eq!(waiting(&test.region), waits, "{overload:?}");
        assert_eq!(counted(&port), counts, "{overload:?}");
        let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
        let mut claim = worker.claim(work).expect("ready");
        let messages: Vec<_> = claim.messages().map(|m| m.payload().to_vec()).collect();
        assert_eq!(messages, waits.map(|text| text.as_bytes().to_vec()), "{overload:?}");
        claim.withdraw();
        claim.commit().expect("nothing else waits");
        drop((worker, port));
        hotpair_shm::Reaper::new(test.region.clone()).run_once();
        assert_eq!(testing::audit(&test.region), [""; 0], "{overload:?}");
        assert!(test.region.verify(Mode::Strict).is_clean(), "{overload:?}");
    }
}

/// Goal: the same policies hold where there is no slot for the message's object.
#[test]
fn without_a_slot_the_newest_goes() {
    for overload in [Overload::Reject, Overload::DropNewest, Overload::DropOldest, Overload::Hold] {
        let (test, work) = region_with(overload, Geometry { slots: 1, ..limited() });
        let mut port = test.region.join(Kind::Port, "port").expect("a seat");
        send(&mut port, work, "1").expect("room");
        let packet = port.packet_of(b"x", Endpoint::NONE).expect("a free block");
        let result = port.deliver(Delivery { queue: work, key: None, priority: 0 }, packet);
        let no_slot = DeliverError::OutOf(OutOf::Slots { slots: 1 });
        match (overload, result) {
            (Overload::Reject | Overload::Hold, Err((error, packet))) => {
                assert_eq!(error, no_slot);
                port.discard(packet);
            }
            (Overload::DropNewest | Overload::DropOldest, Ok(Delivered::Dropped)) => {}
            (_, other) => panic!("{overload:?}: {other:?}"),
        }
        let counts = counted(&port);
        assert_eq!(counts[0], u64::from(overload == Overload::Reject));
        let drops = [Overload::DropNewest, Overload::DropOldest].contains(&overload);
        assert_eq!(counts[1], u64::from(drops));
    }
}

/// Goal: what a worker has in hands is never dropped, what is dropped meanwhile is bounded, and its blocks come back.
#[test]
fn during_a_claim_as_many_are_dropped_as_the_chain_has_room_for() {
    let (test, work) = region_with(Overload::DropOldest, limited());
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    fill(&mut port, work);
    let mut claim = worker.claim(work).expect("ready");
    for number in 5..=8 {
        assert_eq!(send(&mut port, work, &number.to_string()), Ok(Delivered::ToExisting));
    }
    // Twice the limit are in the chain: nothing grows.
    assert_eq!(send(&mut port, work, "9"), Ok(Delivered::Dropped));
    assert_eq!(counted(&port), [0, 1, 0], "those in hands do not count");
    assert_eq!(claim.messages().len(), 4);
    claim.withdraw();
    assert_eq!(claim.commit(), Err(CommitError::NewMessages));

    assert_eq!(waiting(&test.region), ["1", "2", "3", "4", "5", "6", "7", "8"]);
    let claim = worker.claim(work).expect("ready");
    assert_eq!(claim.messages().len(), 8);
    claim.commit().expect("nobody is in the way");
    fill(&mut port, work);
    for _ in 0..3 {
        send(&mut port, work, "more").expect("room is made");
    }
    assert_eq!(counted(&port), [0, 1, 3]);
    let mut claim = worker.claim(work).expect("ready");
    send(&mut port, work, "last").expect("room");
    claim.withdraw();
    assert_eq!(claim.commit(), Err(CommitError::NewMessages));
    let mut claim = worker.claim(work).expect("ready");
    claim.withdraw();
    claim.commit().expect("nothing else waits");
    drop((worker, port));
    hotpair_shm::Reaper::new(test.region.clone()).run_once();
    assert_eq!(test.region.status().blocks_in_use(), 0);
    assert_eq!(testing::audit(&test.region), [""; 0]);
}

/// Goal: an inbox that is longer than what a claim takes comes out in order, whole, whatever ends the claims and whatever comes in
/// between; what was noted of the chain is never believed against the messages.
#[test]
fn a_long_inbox_comes_out_in_order() {
    let command = "cargo test -p hotpair-shm --test overload a_long_inbox";
    let mut random = Random::seeded("HOTPAIR_LONG_INBOX_SEED", command);
    for round in 0..200 {
        let overload = [Overload::Reject, Overload::DropOldest][round % 2];
        let (test, work) = region_with(overload, small());
        let mut port = test.region.join(Kind::Port, "port").expect("a seat");
        let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
        let done = test.region.queue("done").expect("queue");
        let mut oracle: VecDeque<u64> = VecDeque::new();
        let mut sent = 0;
        for _ in 0..300 {
            for _ in 0..random.below(2 * MESSAGES_PER_CLAIM as u64) {
                match send(&mut port, work, &sent.to_string()) {
                    Ok(Delivered::Dropped) | Err(DeliverError::InboxFull) => break,
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
                oracle.push_back(sent);
                sent += 1;
                if oracle.len() > usize::from(small().inbox_limit) {
                    assert_eq!(overload, Overload::DropOldest);
                    oracle.pop_front();
                }
            }
            let Some(mut claim) = worker.claim(work) else {
                assert_eq!(oracle.len(), 0, "nothing is ready");
                continue;
            };
            let text = |payload: &[u8]| String::from_utf8_lossy(payload).parse::<u64>();
            let taken: Vec<u64> =
                claim.messages().map(|m| text(m.payload()).expect("a number")).collect();
            let expected: Vec<u64> = oracle.iter().take(taken.len()).copied().collect();
            assert_eq!(taken, expected);
            // Fewer than it may take: the rest of what was noted, at most.
            assert!(!taken.is_empty() || oracle.is_empty(), "messages wait and none was taken");
            match random.below(8) {
                0 => claim.give_back(),
                // A commit of several objects goes another way.
                1 => {
                    match claim.also(done, b"other") {
                        Ok(other) => claim.other(other).withdraw(),
                        Err(_) => claim.create(done, Some(b"other"), b"", false).expect("room"),
                    }
                    claim.commit().expect("nobody is in the way");
                    oracle.drain(..taken.len());
                }
                _ => {
                    claim.commit().expect("nobody is in the way");
                    oracle.drain(..taken.len());
                }
            }
        }
        assert_eq!(testing::audit(&test.region), [""; 0]);
    }
}

/// Goal: with senders that drop the oldest beside workers that claim, each message is worked on once or dropped once, and
/// those of one sender are worked on in their order.
#[test]
fn senders_and_workers_meet_over_a_full_inbox() {
    const EACH: u32 = 20_000;
    const SENDERS: u32 = 2;
    let (test, work) = region_with(Overload::DropOldest, limited());
    let done = AtomicBool::new(false);
    let (worked, dropped) = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
            let mut last = [0; SENDERS as usize];
            let (mut worked, mut claims) = (0, 0);
            loop {
                let finished = done.load(Ordering::Acquire);
                while let Some(claim) = worker.claim(work) {
                    let messages: Vec<u64> = claim
                        .messages()
                        .map(|m| u64::from_le_bytes(m.payload().try_into().expect("eight bytes")))
                        .collect();
                    claims += 1;
                    if claims % 7 == 0 {
                        claim.give_back();
                        continue;
                    }
                    claim.commit().expect("nobody is in the way");
                    for message in messages {
                        let (sender, number) = ((message >> 32) as usize, message as u32);
                        assert!(number > last[sender], "{number} after {}", last[sender]);
                        last[sender] = number;
                        worked += 1;
                    }
                }
                if finished {
                    return worked;
                }
            }
        });
        let senders: Vec<_> = (0..u64::from(SENDERS))
            .map(|sender| {
                let region = &test.region;
                scope.spawn(move || {
                    let mut port = region.join(Kind::Port, "port").expect("a seat");
                    for number in 1..=u64::from(EACH) {
                        let message = (sender << 32 | number).to_le_bytes();
                        let packet = loop {
                            match port.packet_of(&message, Endpoint::NONE) {
                                Ok(packet) => break packet,
                                Err(_) => thread::yield_now(),
                            }
                        };
                        let to = Delivery { queue: work, key: Some(b"a"), priority: 0 };
                        port.deliver(to, packet).expect("room is made");
                    }
                    counted(&port)
                })
            })
            .collect();
        let counts: Vec<_> =
            senders.into_iter().map(|sender| sender.join().expect("ends")).collect();
        done.store(true, Ordering::Release);
        let dropped: u64 = counts.iter().map(|[_, newest, oldest]| newest + oldest).sum();
        (worker.join().expect("ends"), dropped)
    });
    println!("{worked} worked on, {dropped} dropped");
    assert!(dropped > 0, "nothing was ever full");
    assert_eq!(worked + dropped, u64::from(EACH * SENDERS));
    hotpair_shm::Reaper::new(test.region.clone()).run_once();
    assert_eq!(testing::audit(&test.region), [""; 0]);
}

/// Goal: for a port, slots that are kept for commits are no room: the policy decides, as where nothing is free.
#[test]
fn what_is_kept_for_commits_is_no_room() {
    let geometry = Geometry { shares: Shares::default(), ..small() };
    for (overload, refused) in [(Overload::Reject, true), (Overload::DropNewest, false)] {
        let (test, work) = region_with(overload, geometry.clone());
        let mut port = test.region.join(Kind::Port, "port").expect("a seat");
        let slots = geometry.slots - geometry.shares.reserve(geometry.slots);
        for number in 0..slots + 1 {
            let packet = port.packet_of(b"m", Endpoint::NONE).expect("a free block");
            let outcome = port.deliver(Delivery { queue: work, key: None, priority: 0 }, packet);
            match (number == slots, refused) {
                (false, _) => assert_eq!(outcome.expect("room"), Delivered::ToNew),
                (true, false) => assert_eq!(outcome.expect("the policy"), Delivered::Dropped),
                (true, true) => {
                    let (error, packet) = outcome.expect_err("no room");
                    assert!(matches!(error, DeliverError::OutOf(OutOf::SlotsReserved { .. })));
                    port.discard(packet);
                }
            }
        }
        let [rejected, newest, _] = counted(&port);
        assert_eq!((rejected, newest), (u64::from(refused), u64::from(!refused)), "{overload:?}");
    }
}
