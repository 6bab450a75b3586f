//! How much waits: ready objects in a queue, messages in an object's inbox.

use std::time::{Duration, Instant};

use hotpair_shm::{Region, SizeClass};

use super::grouped;
use crate::claim::shuffled;
use crate::objects::{Hand, MESSAGE_BYTES, geometry, nothing_ready, work};
use crate::registry::BenchError;
use crate::report::Sheet;
use crate::scratch::Scratch;

/// Objects: the same number however many of them are ready.
const OBJECTS: u32 = 32_768;
const DEPTHS: [u32; 6] = [1, 8, 64, 512, 4_096, 16_384];
/// An inbox has room for 1,000.
const MESSAGES: [u32; 5] = [1, 4, 16, 64, 512];

/// Between two looks at the clock.
const STRIDE: u32 = 1_000;

/// Ready objects that wait before one is claimed.
pub(super) fn objects(each: Duration) -> Result<Sheet, BenchError> {
    let question = "by how many ready objects wait in the queue, 32,768 objects at random; mean of a message, its claim and its commit";
    let mut sheet =
        Sheet::new("depth", question, "objects that wait", &[("a message and its commit", "ns")]);
    let order = shuffled(OBJECTS);
    let mut place = Place::make()?;
    for depth in DEPTHS {
        let mut next = order.iter().cycle();
        let mut turn = |hand: &mut Hand, serve: bool| -> Result<(), BenchError> {
            hand.send(*next.next().expect("a cycle has no end"), b"go on")?;
            if serve { serve_one(hand) } else { Ok(()) }
        };
        for _ in 0..depth {
            turn(&mut place.hand, false)?;
        }
        let ns = mean(each, || turn(&mut place.hand, true))?;
        for _ in 0..depth {
            serve_one(&mut place.hand)?;
        }
        sheet.at(depth.into(), grouped(depth), vec![ns]);
    }
    Ok(sheet)
}

/// Messages that wait for one object.
pub(super) fn messages(each: Duration) -> Result<Sheet, BenchError> {
    let question = "by how many messages wait in the inbox of an object; mean for each message of 64 B, sent and handled";
    let columns = [("a message", "ns"), ("all of them", "ns")];
    let mut sheet = Sheet::new("inbox", question, "messages that wait", &columns);
    let mut place = Place::make()?;
    for count in MESSAGES {
        let mut object = 0;
        let ns = mean(each, || {
            object = (object + 1) % 64;
            (0..count).try_for_each(|_| place.hand.send(object, b"go on"))?;
            // A commit has room for so many messages; what is left makes the object ready again.
            while serve(&mut place.hand)? {}
            Ok(())
        })?;
        sheet.at(count.into(), grouped(count), vec![ns / f64::from(count), ns]);
    }
    Ok(sheet)
}

/// A region with all objects, none of them ready.
struct Place {
    hand: Hand,
    _scratch: Scratch,
}

impl Place {
    fn make() -> Result<Self, BenchError> {
        let scratch = Scratch::new("scale");
        let mut geometry = geometry(OBJECTS, 4);
        // Messages that wait, and those of the last commits, whose blocks are free again when the ring of commits comes round.
        geometry.classes.push(SizeClass { payload_bytes: MESSAGE_BYTES, count: 2 * OBJECTS });
        let region = Region::create(&scratch.path, &geometry)
            .map_err(BenchError::setup("create the region"))?;
        region.become_primary(1);
        let mut hand = Hand::join(&region)?;
        hand.create(OBJECTS)?;
        Ok(Place { hand, _scratch: scratch })
    }
}

/// Claims whatever is first, works on it, and leaves it idle.
fn serve_one(hand: &mut Hand) -> Result<(), BenchError> {
    if serve(hand)? { Ok(()) } else { Err(nothing_ready()) }
}

/// The same if there is anything.
fn serve(hand: &mut Hand) -> Result<bool, BenchError> {
    let Some(mut claim) = hand.worker.claim(hand.queue) else { return Ok(false) };
    work(claim.value_mut().map_err(BenchError::setup("take a block"))?);
    claim.commit().map_err(BenchError::setup("commit"))?;
    Ok(true)
}

/// Of one operation, in nanoseconds: the middle of many means, since a neighbour may take the core.
fn mean(
    time: Duration,
    mut operation: impl FnMut() -> Result<(), BenchError>,
) -> Result<f64, BenchError> {
    let begun = Instant::now();
    let mut warm = false;
    let mut means = Vec::new();
    while means.is_empty() || begun.elapsed() < time {
        let slice = Instant::now();
        (0..STRIDE).try_for_each(|_| operation())?;
        if std::mem::replace(&mut warm, true) {
            means.push(slice.elapsed().as_nanos() as f64 / f64::from(STRIDE));
        }
    }
    means.sort_unstable_by(f64::total_cmp);
    Ok(means[means.len() / 2])
}
