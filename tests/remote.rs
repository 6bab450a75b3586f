//! Workers that share no memory with either server: they come in by the gateways, and carry on with whichever server is left.

mod support;

#[path = "resync/site.rs"]
mod site;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hotpair_shm::{Delivery, Endpoint, Kind, Region};
use hotpair_worker::remote::{RemoteError, RemoteSpace};
use hotpair_worker::{Error, Wait};
use site::{Account, Site, with_gateway};
use support::eventually;

const PURPOSE: u8 = 27;
const OBJECTS: u32 = 8;

fn region(site: &Site, side: usize) -> Region {
    Region::attach(&Region::path_for(&site.regions[side].0)).expect("the side runs")
}

/// What the counters come to, in the region of this side.
fn total(site: &Site, side: usize) -> u64 {
    let region = region(site, side);
    let counters = region.queue("counters").expect("of the configuration");
    let ours = region.objects().filter(|object| object.queue == counters);
    ours.map(|object| object.value.first_chunk().map_or(0, |v| u64::from_le_bytes(*v))).sum()
}

/// Counts each claim in its object, and how many of the commits it was told have happened.
fn count(space: &RemoteSpace, told: &AtomicU64, stop: &AtomicBool) {
    let mut worker = space.worker("counters").expect("a thread");
    while !stop.load(Ordering::Relaxed) {
        let wait = Wait::default().for_at_most(Duration::from_millis(50));
        let Some(mut job) = worker.claim(wait).expect("certificates that fit") else { continue };
        *job.value_mut::<u64>().expect("a counter") += 1;
        job.stay_ready();
        match job.commit() {
            Ok(_) => drop(told.fetch_add(1, Ordering::Relaxed)),
            Err(Error::Remote(RemoteError::Stale) | Error::Commit(_)) => {}
            Err(error) => panic!("neither done nor never: {error}"),
        }
    }
}

/// Goal: `kill -9` of everything on either side, in turn, while it comes back each time: the workers are never started again and
/// have no line about it, and what they were told has happened is there, once. Others use the pair meanwhile.
#[test]
fn remote_workers_carry_on_with_whichever_server_is_left() {
    let mut site = Site::paired(PURPOSE, |side| with_gateway(PURPOSE, side));
    {
        let region = region(&site, 0);
        let mut port = region.join(Kind::Port, "test").expect("a seat");
        let queue = region.queue("counters").expect("of the configuration");
        for object in 0..OBJECTS {
            let packet = port.packet_of(b"go", Endpoint::NONE).expect("a free block");
            let to = Delivery { queue, key: Some(&object.to_le_bytes()), priority: 0 };
            port.deliver(to, packet).map_err(|(error, _)| error).expect("room");
        }
    }
    let space = RemoteSpace::new(site.remote(PURPOSE));
    let (stop, told) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = site.load(Account::default());
    let mut primary = 0;
    std::thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(|| count(&space, &told, &stop))));
        let goes_on = || {
            let until = told.load(Ordering::Relaxed) + 200;
            eventually("the remote workers commit", || told.load(Ordering::Relaxed) >= until);
        };
        goes_on();
        for _ in 0..3 {
            site.kill(&[primary]);
            goes_on();
            site.start(primary);
            primary = 1 - primary;
            site.protected_by(primary);
            site.kill(&[1 - primary]);
            goes_on();
            site.start(1 - primary);
            site.protected_by(primary);
        }
        stop.store(true, Ordering::Relaxed);
    });
    load.end().is_right();
    assert_eq!(total(&site, primary), told.into_inner());
}
