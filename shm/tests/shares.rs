//! Who gets how much of a region: ports leave a part to commits, magazines leave something to others, and
//! how full it has been is known after the death of those who filled it.

mod common;

use common::{TestRegion, small};
use hotpair_shm::{
    Delivery, Endpoint, Gatherer, Geometry, Kind, OutOf, Participant, Reaper, Region, Shares,
    SizeClass,
};

/// What a child process is to do: `fill PATH`.
const ROLE: &str = "HOTPAIR_SHARES_ROLE";

fn sharing(ingest_percent: u8) -> Geometry {
    Geometry { shares: Shares { ingest_percent, ..Shares::default() }, ..small() }
}

/// Hands packets to objects of their own until nothing more is taken; how many, and what is missing.
fn flood(port: &mut Participant) -> (u32, OutOf) {
    let queue = port.region().queue("work").expect("the queue of the test geometry");
    for sent in 0.. {
        let packet = match port.packet_of(&[7; 64], Endpoint::NONE) {
            Ok(packet) => packet,
            Err(missing) => return (sent, missing),
        };
        let to = Delivery { queue, key: None, priority: 0 };
        if let Err((error, packet)) = port.deliver(to, packet) {
            port.discard(packet);
            let hotpair_shm::DeliverError::OutOf(missing) = error else {
                panic!("a delivery fails for want of room alone: {error}");
            };
            return (sent, missing);
        }
    }
    unreachable!("a region is finite")
}

/// Takes blocks and keeps them, until there are none.
fn hoard(port: &mut Participant) -> OutOf {
    loop {
        match port.packet(64) {
            Ok(packet) => drop(packet), // stays in the port's name
            Err(missing) => return missing,
        }
    }
}

/// Messages that fill inboxes, objects that fill slots, then blocks that are merely held: by three ports.
fn attack(region: &Region) -> Vec<OutOf> {
    let mut missing = Vec::new();
    for _ in 0..3 {
        let mut port = region.join(Kind::Port, "port").expect("a seat");
        missing.push(flood(&mut port).1);
        missing.push(hoard(&mut port));
        std::mem::forget(port); // leaving would give blocks back
    }
    missing
}

/// One commit with everything that takes room: a value, a packet, an object.
fn commit_one(worker: &mut Participant) -> Result<(), OutOf> {
    let region = worker.region().clone();
    let work = region.queue("work").expect("the queue of the test geometry");
    let done = region.queue("done").expect("the queue of the test geometry");
    let out = region.port("out").expect("the port of the test geometry");
    let mut claim = worker.claim(work).expect("what was delivered is ready");
    claim.set_value(&[1; 100])?;
    claim.emit(out, Endpoint::NONE, &[2; 64])?;
    claim.create(done, None, &[], false).map_err(|error| match error {
        hotpair_shm::CreateObjectError::OutOf(missing) => missing,
        other => panic!("a creation fails for want of room alone: {other}"),
    })?;
    claim.commit().expect("nobody is in the way");
    Ok(())
}

/// Goal: whatever ports take, deliver and keep, workers can commit.
#[test]
fn flooding_ports_leave_room_for_commits() {
    let geometry = sharing(75);
    let test = TestRegion::new(&geometry);
    let missing = attack(&test.region);
    assert!(
        missing.iter().all(|missing| matches!(
            missing,
            OutOf::BlocksReserved { .. } | OutOf::SlotsReserved { .. }
        )),
        "{missing:?}"
    );
    let OutOf::SlotsReserved { free, reserve } = missing[0] else {
        panic!("slots are the first to go: {missing:?}");
    };
    assert_eq!((free, reserve), (16, 16));
    let OutOf::BlocksReserved { bytes: 96, free, reserve: 128 } = missing[1] else {
        panic!("blocks are the next to go: {missing:?}");
    };
    assert!(free <= 128, "{free} of the blocks");

    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    for _ in 0..16 {
        commit_one(&mut worker).expect("the reserve is there for this");
    }
    let usage = test.region.usage();
    let (slots, blocks) = (usage.slots, usage.classes[0]);
    assert_eq!((slots.reserve, slots.refused), (16, 0));
    assert!(slots.refused_ports >= 1, "{slots:?}");
    assert!(blocks.refused_ports >= 3 && blocks.refused == 0, "{blocks:?}");
    assert_eq!(blocks.suggested(), 768, "half more where ports wanted more");
}

/// The control: without a reserve the same ports leave nothing, and not one commit gets through.
#[test]
fn without_a_reserve_flooding_ports_starve_commits() {
    let test = TestRegion::new(&sharing(100));
    attack(&test.region);
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let missing = commit_one(&mut worker).expect_err("there is nothing left");
    assert_eq!(missing, OutOf::Blocks { bytes: 100 });
    let blocks = test.region.usage().classes[0];
    assert!(blocks.refused >= 1 && blocks.refused_ports >= 1, "{blocks:?}");
}

/// Goal: what commits consume becomes free for ports again: a reserve throttles them, and does not stop them.
#[test]
fn ports_go_on_as_commits_make_room() {
    let test = TestRegion::new(&sharing(75));
    let mut port = test.region.join(Kind::Port, "port").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    let work = test.region.queue("work").expect("the queue of the test geometry");
    for round in 0..20 {
        let (sent, _) = flood(&mut port);
        assert!(sent >= 40, "round {round}: {sent} of 48 slots");
        while let Some(mut claim) = worker.claim(work) {
            claim.withdraw();
            claim.commit().expect("nobody is in the way");
        }
    }
}

/// Goal: a class that is small for the number of seats is not parked in magazines, and a larger magazine
/// holds more.
#[test]
fn magazines_leave_something_to_others() {
    let kept = |magazine: u16, count: u32| {
        let test = TestRegion::new(&Geometry {
            classes: vec![SizeClass { payload_bytes: 128, count }],
            shares: Shares { magazine, ..Shares::default() },
            ..small()
        });
        let mut other = test.region.join(Kind::Other, "other").expect("a seat");
        let packets: Vec<_> = (0..count).map_while(|_| other.packet(64).ok()).collect();
        assert_eq!(packets.len(), count as usize, "one process can have them all");
        packets.into_iter().for_each(|packet| other.discard(packet));
        count - test.region.status().classes[0].free
    };
    // 16 seats may keep half of the blocks.
    assert_eq!(kept(64, 64), 2);
    assert_eq!(kept(64, 512), 16);
    assert_eq!(kept(64, 4096), 64);
    assert_eq!(kept(200, 1 << 14), 200);
    assert_eq!(kept(1, 4096), 1);
}

/// Not a test of its own: what the child of the next one runs.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = role.strip_prefix("fill ").expect("a path follows");
    let region = Region::attach(path.as_ref()).expect("the parent's region");
    let mut port = region.join(Kind::Port, "port").expect("a seat");
    let mut worker = region.join(Kind::Worker, "worker").expect("a seat");
    flood(&mut port);
    let work = region.queue("work").expect("the queue of the test geometry");
    let out = region.port("out").expect("the port of the test geometry");
    let mut claim = worker.claim(work).expect("what was delivered is ready");
    while claim.emit(out, Endpoint::NONE, &[1; 900]).is_ok() {}
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("the end");
}

/// Goal: how full a region has been stays known when everybody who filled it is dead and reaped, and what
/// they held is free again.
#[test]
fn marks_outlive_those_who_left_them() {
    let test = TestRegion::new(&sharing(75));
    let killed = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child"])
        .env(ROLE, format!("fill {}", test.path().display()))
        .output()
        .expect("the child starts");
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
    let mut reaper = Reaper::new(test.region.clone());
    reaper.run_once();
    test.region.raise_released(Gatherer::new(test.region.clone()).gather(usize::MAX, |_| ()).upto);

    let usage = test.region.usage();
    assert_eq!((usage.slots.high, usage.slots.refused_ports), (48, 1));
    let [small, large] = usage.classes[..] else { panic!("two classes: {usage:?}") };
    assert!((48..=80).contains(&small.high), "{small:?}");
    assert_eq!((small.largest, small.refused, small.refused_ports), (96, 0, 0));
    assert_eq!(small.suggested_bytes(), 96);
    assert_eq!((large.high, large.largest, large.refused), (256, 932, 1));
    assert_eq!(large.suggested_bytes(), 944);
    let free = test.region.status().classes[1].free;
    assert_eq!(free, 256, "the dead keep nothing");

    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    commit_one(&mut worker).expect("it works on");
}
