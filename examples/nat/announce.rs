//! Tells the objects of both sides when this host has begun to serve.
//!
//! A timer in the region would do it too, but it comes due when it was set to; the switch is to learn at once.

use std::thread;
use std::time::Duration;

use hotpair_shm::{Delivery, Endpoint, Kind, Region, Role};

use crate::count::Counts;
use crate::neighbours::BEGIN;
use crate::network::Side;

/// How often the role is looked at: later than that no side is told.
const EVERY: Duration = Duration::from_millis(5);
/// Looks between two of those that cost more.
const SELDOM: u32 = 200;

/// Looks at the role for ever, and writes down what was counted.
pub(crate) fn run(space: &str, queue: &str, counts: &Counts) {
    let mut told = 0;
    loop {
        thread::sleep(EVERY);
        let region = match Region::attach(&Region::path_for(space)) {
            Ok(region) => region,
            Err(_) => continue, // the node builds it, or it is being replaced
        };
        while region.is_current() {
            for _ in 0..SELDOM {
                let role = region.role();
                if role.role() == Role::Primary && role.epoch() != told && tell(&region, queue) {
                    told = role.epoch();
                }
                thread::sleep(EVERY);
            }
            counts.write();
        }
    }
}

/// Whether both were told: a seat or a block may be missing for a moment.
fn tell(region: &Region, queue: &str) -> bool {
    let Some(queue) = region.queue(queue) else { return false };
    let Ok(mut seat) = region.join(Kind::Port, "announce") else { return false };
    [Side::Inside, Side::Outside].into_iter().all(|side| {
        let Ok(message) = seat.packet_of(BEGIN, Endpoint::NONE) else { return false };
        let to = Delivery { queue, key: Some(side.key()), priority: 0 };
        match seat.deliver(to, message) {
            Ok(_) => true,
            Err((_, message)) => {
                seat.discard(message);
                false
            }
        }
    })
}
