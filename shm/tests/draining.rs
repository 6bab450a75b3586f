//! A region whose node is about to hand over: what is here is finished, nothing is read, nobody is forgotten.

mod common;

use common::{TestRegion, send, small};
use hotpair_shm::{CommitError, Delivery, Endpoint, Gatherer, Kind, LeftToDo, Role};

#[test]
fn what_waits_is_worked_on_and_sent_and_nothing_is_read() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let out = test.region.port("out").expect("port");
    let _node = test.region.join(Kind::Node, "node").expect("a seat");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"one");
    let claim = worker.claim(work).expect("ready");

    test.region.begin_drain();
    assert_eq!((test.region.role().role(), test.region.role().epoch()), (Role::Draining, 1));
    assert!(!port.begin_reading(), "nothing more comes in");
    assert_eq!(test.region.holdouts().len(), 1, "a claim of before is waited for");
    assert_eq!(claim.commit(), Err(CommitError::Fenced), "it is begun again");
    assert!(test.region.holdouts().is_empty());
    assert_eq!(test.region.left_to_do(), LeftToDo { messages: 1, ..LeftToDo::default() });

    let mut claim = worker.claim(work).expect("workers go on");
    claim.emit(out, Endpoint::NONE, b"answer").expect("a block");
    let seq = claim.commit().expect("nobody is in the way");
    assert_eq!(seq.epoch(), 1, "the epoch goes on");
    assert_eq!(test.region.left_to_do(), LeftToDo { unsent: 1, ..LeftToDo::default() });
    test.region.raise_released(seq);
    let packet = port.take_emitted(out).expect("ports go on");
    assert!(port.may_send(&packet));
    assert_eq!(test.region.left_to_do().unsent, 1, "in hand is not sent");
    port.sent(packet);
    assert_eq!(test.region.left_to_do(), LeftToDo { untold: 1, ..LeftToDo::default() });
    let mut gatherer = Gatherer::new(test.region.clone());
    gatherer.gather(usize::MAX, |_| {});
    gatherer.collect_sent(|_, _| {});
    assert_eq!(test.region.left_to_do(), LeftToDo::default());

    test.region.begin_change(1);
    assert!(test.region.holdouts().is_empty() && worker.claim(work).is_none());
    test.region.become_primary(1);
    assert!(port.begin_reading(), "it did not get through, and the service goes on");
    port.end_reading();
    send(&mut port, Some(b"a"), b"two");
    let claim = worker.claim(work).expect("ready");
    assert!(claim.commit().expect("the same epoch") > seq);
}

/// Goal: a packet that was read before the swap is neither lost nor forgotten, whenever it is delivered.
#[test]
fn what_was_read_before_is_waited_for_and_delivered() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let out = test.region.port("out").expect("port");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    assert!(port.begin_reading());
    let packets = [b"one", b"two"].map(|data| port.packet_of(data, Endpoint::NONE));

    test.region.begin_drain();
    assert_eq!(test.region.left_to_do(), LeftToDo::default(), "nothing is in the region yet");
    for packet in packets {
        assert_eq!(test.region.holdouts().len(), 1, "but the port has something in hand");
        let to = Delivery { queue: work, key: Some(b"a"), priority: 0 };
        port.deliver(to, packet.expect("a block")).expect("it may still be delivered");
    }
    assert!(port.take_emitted(out).is_none());
    assert_eq!(test.region.holdouts().len(), 1, "looking for packets to send ends nothing");
    port.end_reading();
    assert!(test.region.holdouts().is_empty());
    assert_eq!(test.region.left_to_do().messages, 2);
    worker.claim(work).expect("ready").commit().expect("nobody is in the way");
    assert_eq!(test.region.left_to_do(), LeftToDo::default());

    assert!(!port.begin_reading());
    test.region.become_primary(1);
    assert!(port.begin_reading());
    test.region.begin_change(2);
    assert_eq!(test.region.holdouts().len(), 1, "a failover waits too, for the instant it takes");
    let packet = port.packet_of(b"three", Endpoint::NONE).expect("a block");
    let to = Delivery { queue: work, key: Some(b"a"), priority: 0 };
    let (_, packet) = port.deliver(to, packet).expect_err("nobody delivers while it changes");
    port.discard(packet);
    port.end_reading();
    assert!(test.region.holdouts().is_empty());
}

/// Goal: a message that nobody will ever work on does not keep a service where it is.
#[test]
fn messages_of_a_parked_object_are_nobodys_work() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send(&mut port, Some(b"a"), b"one");
    for _ in 0..small().max_attempts {
        assert_eq!(test.region.left_to_do().messages, 1);
        worker.claim(work).expect("ready").fail();
    }
    assert_eq!(test.region.status().parked(), 1);
    assert_eq!(test.region.left_to_do(), LeftToDo::default());
}
