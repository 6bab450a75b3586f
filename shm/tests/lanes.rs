//! Priority lanes: the urgent first, and a bound on how long the others wait.

mod common;

use common::{TestRegion, send, small};
use hotpair_shm::{Delivery, Endpoint, Kind, Mode, Participant, QueueId, TURNS_PER_LANE};

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

/// Goal: the bounds of docs/decisions/0009-deadlines.md, with endless work in the other lane.
#[test]
fn the_wait_is_bounded_by_the_work_ahead() {
    const AHEAD: u32 = 20;
    const LANES: u32 = 2;
    let urgent = |ahead: u32| ahead + 1 + (ahead + 1).div_ceil(TURNS_PER_LANE - 1);
    let other = |ahead: u32| (ahead + 1) * TURNS_PER_LANE * LANES;
    let bounds: [(u8, &dyn Fn(u32) -> u32); 2] = [(0, &urgent), (1, &other)];
    for (lane, bound) in bounds {
        // Wherever in its turns the worker is.
        for turns in 0..TURNS_PER_LANE * LANES {
            let test = TestRegion::new(&small());
            let work = test.region.queue("work").expect("queue");
            let mut port = test.region.join(Kind::Port, "port").expect("a seat");
            let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
            let mut claim_once = || {
                let mut claim = worker.claim(work).expect("ready");
                let key = claim.key().to_vec();
                let is_other = key.starts_with(b"other");
                if is_other {
                    claim.stay_ready()
                } else {
                    claim.withdraw()
                }
                claim.commit().expect("nobody is in the way");
                (!is_other).then_some(key)
            };
            for number in 0..3_u8 {
                send_in(&mut port, work, 1 - lane, &[b"other".as_slice(), &[number]].concat());
            }
            for _ in 0..turns {
                assert_eq!(claim_once(), None);
            }
            for number in 0..=AHEAD {
                send_in(&mut port, work, lane, &number.to_le_bytes());
            }
            let mut claims = 0;
            for ahead in 0..=AHEAD {
                let key = loop {
                    claims += 1;
                    if let Some(key) = claim_once() {
                        break key;
                    }
                };
                assert_eq!(key, ahead.to_le_bytes(), "lane {lane}: first come, first served");
                assert!(claims <= bound(ahead), "lane {lane}, {ahead} ahead: claim {claims}");
            }
        }
    }
}

/// Goal: in a queue of one lane nothing is claimed before what came first.
#[test]
fn one_lane_is_first_come_first_served() {
    let test = TestRegion::new(&small());
    let done = test.region.queue("done").expect("queue");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    for number in 0..40_u32 {
        send_in(&mut worker, done, 0, &number.to_le_bytes());
        send_in(&mut worker, done, 0, &0_u32.to_le_bytes());
    }
    for number in 0..40_u32 {
        assert_eq!(claimed_key(&mut worker, done), number.to_le_bytes());
    }
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

/// Goal: a priority beyond the queue's lanes means the last one, and that is what is written: no word names a lane that there is
/// not.
#[test]
fn a_priority_beyond_the_lanes_is_the_last() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    send_in(&mut port, work, 255, b"sent");
    let mut claim = worker.claim(work).expect("ready");
    claim.set_priority(200);
    claim.create_in(work, 7, Some(b"made"), b"", true).expect("room");
    claim.commit().expect("nobody is in the way");
    for key in [&b"sent"[..], b"made"] {
        assert_eq!(test.region.find(work, key).expect("the object").priority, 1);
    }
    let report = test.region.verify(Mode::Online);
    assert!(report.is_clean(), "{:?}", report.findings);
}
