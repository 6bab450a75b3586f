//! How large a value is.

use std::time::Duration;

use hotpair_shm::Region;

use super::size;
use crate::histogram::Histogram;
use crate::objects::{Hand, MESSAGE_BYTES, geometry_of, touch, work};
use crate::registry::BenchError;
use crate::report::Sheet;
use crate::scratch::Scratch;
use crate::slices::{Span, closed_loop, in_turn};

const SIZES: [usize; 6] = [64, 256, 1_024, 4_096, 16_384, 65_536];

/// Objects that take turns.
const OBJECTS: u32 = 64;

/// Operations of one, then of the next: fewer of large ones.
const SLICE_BYTES: usize = 512 << 10;

pub(super) fn curve(each: Duration) -> Result<Sheet, BenchError> {
    let columns = [
        ("all of it written", "ns"),
        ("64 B of it written", "ns"),
        ("plain code, all of it", "ns"),
        ("memory touched", "bytes"),
    ];
    let question =
        "by the size of a value, 64 objects in turn; p50 of a claim, read, write, commit";
    let mut sheet = Sheet::new("value", question, "bytes of a value", &columns);
    for bytes in SIZES {
        let scratch = Scratch::new("scale");
        let mut geometry = geometry_of(OBJECTS, 2, bytes);
        geometry
            .classes
            .push(hotpair_shm::SizeClass { payload_bytes: MESSAGE_BYTES, count: 4 * OBJECTS });
        let region = Region::create(&scratch.path, &geometry)
            .map_err(BenchError::setup("create the region"))?;
        region.become_primary(1);
        let mut hand = Hand::join(&region)?;
        hand.create_with(OBJECTS, &vec![1; bytes])?;
        hand.make_ready(0..OBJECTS)?;
        let mut plain = Plain::new(bytes);

        let slice = (SLICE_BYTES / bytes).clamp(64, 2_000) as u32;
        let span = Span { warm_up: each / 8, measure: each };
        let sides = in_turn(3, span, |side, histogram: &mut Histogram| match side {
            0 => closed_loop(histogram, slice, || hand.turn()),
            1 => closed_loop(histogram, slice, || hand.turn_on(|value| touch(value, 1))),
            _ => closed_loop(histogram, slice, || {
                plain.turn();
                Ok(())
            }),
        })?;
        let mut row: Vec<f64> = sides.iter().map(|side| side.summary().p50 as f64).collect();
        // Each object has a committed value, and the blocks of values that were replaced wait their turn.
        row.push((2 * OBJECTS as usize * bytes) as f64);
        sheet.at(bytes as u64, size(bytes), row);
    }
    Ok(sheet)
}

/// The same bytes: a value is copied to where the next one is to be, read and written.
struct Plain {
    values: Vec<Vec<u8>>,
    at: usize,
}

impl Plain {
    fn new(bytes: usize) -> Self {
        Plain { values: vec![vec![1; bytes]; 2 * OBJECTS as usize], at: 0 }
    }

    fn turn(&mut self) {
        let half = OBJECTS as usize;
        let (from, to) = ((self.at + half) % (2 * half), self.at);
        let [old, new] = self.values.get_disjoint_mut([from, to]).expect("half of them apart");
        new.copy_from_slice(old);
        work(new);
        self.at = (self.at + 1) % (2 * half);
    }
}
