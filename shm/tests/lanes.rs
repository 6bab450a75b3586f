//! Priority lanes: the urgent first, and a bound on how long the others wait.

mod common;

use common::{TestRegion, send, small};
use hotpair_shm::{Delivery, Endpoint, Kind, Participant, QueueId, TURNS_PER_LANE};

/// Sends a message to an object that is created in the lane of `priority`.
fn send_in(port: &mut Participant, queue: QueueId, priority: u8, key: &[u8]) {
    let packet = port.packet_of(b"x", Endpoint::NONE).expect("a free block");
    let to = Delivery { queue, key: Some(key), priority };
    port.deliver(to, packet).expect("room for a message");
}

fn claimed_key(worker: &mut Participant, queue: QueueId) -> Vec<u8> {
    let claim = worker.claim(queue).expect("ready");
    let key = claim.key().to_vec();
    claim.commit().expect("nobody is in the way");
    key
}

#[test]
fn the_urgent_lane_comes_first_and_each_lane_in_order_of_arrival() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send_in(&mut port, work, 1, b"late 1");
    send_in(&mut port, work, 7, b"late 2");
    send_in(&mut port, work, 0, b"soon 1");
    send_in(&mut port, work, 0, b"soon 2");
    let order: Vec<_> = (0..4).map(|_| claimed_key(&mut worker, work)).collect();
    assert_eq!(order, [&b"soon 1"[..], b"soon 2", b"late 1", b"late 2"]);
}

#[test]
fn a_commit_moves_its_object_to_another_lane_and_the_move_is_shipped() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    for key in [b"a", b"b"] {
        send(&mut port, Some(key), b"x");
        let mut claim = worker.claim(work).expect("ready");
        claim.set_value(b"value").expect("a block");
        claim.commit().expect("nobody is in the way");
    }
    send(&mut port, Some(b"a"), b"go last");
    let mut claim = worker.claim(work).expect("ready");
    claim.set_priority(1);
    claim.create_in(work, 1, Some(b"c"), b"", true).expect("room");
    claim.commit().expect("nobody is in the way");
    send(&mut port, Some(b"a"), b"x");
    send(&mut port, Some(b"b"), b"x");
    let order: Vec<_> = (0..3).map(|_| claimed_key(&mut worker, work)).collect();
    assert_eq!(order, [b"b", b"c", b"a"]);
    let object = test.region.find(work, b"a").expect("the object");
    assert_eq!((object.priority, object.value.as_slice()), (1, &b"value"[..]));
    assert_eq!(test.region.value_is_intact(object.slot), Some(true));
}

/// Goal: work without end in the urgent lane holds up the last lane for no more claims than promised.
#[test]
fn no_lane_starves() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    for key in 0..4_u32 {
        send(&mut port, Some(&key.to_le_bytes()), b"go on for ever");
    }
    let lanes = 2;
    for round in 0..20_u32 {
        send_in(&mut port, work, 1, &(100 + round).to_le_bytes());
        let mut claims = 0;
        loop {
            claims += 1;
            assert!(claims <= TURNS_PER_LANE * lanes, "round {round}: {claims} claims");
            let mut claim = worker.claim(work).expect("ready");
            if claim.key() == (100 + round).to_le_bytes() {
                claim.withdraw();
                claim.commit().expect("nobody is in the way");
                break;
            }
            claim.stay_ready();
            claim.commit().expect("nobody is in the way");
        }
        assert!(claims > 1, "the urgent lane comes first");
    }
}
