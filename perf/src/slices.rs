//! The order of a run: the thing and what it is compared with take turns, in slices.
//!
//! ```text
//!   warm-up                      │ measured
//!   thing limit peer thing limit │ thing limit peer thing limit peer …
//! ```
//!
//! Every mood of the machine falls on all of them alike, so their ratio means something even where the
//! figures themselves do not.

use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::registry::BenchError;

/// How long a bench warms up and measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
}

/// What a side collects.
pub(crate) trait Collected: Default {
    /// A slice ended; it lasted from one time to the other since the measurement began.
    fn slice_ended(&mut self, from: Duration, to: Duration);
}

impl Collected for Histogram {
    fn slice_ended(&mut self, from: Duration, to: Duration) {
        Histogram::slice_ended(self, from, to);
    }
}

/// Lets `slice` run side 0, 1, … in turn until the time is up, at least once after the warm-up, and
/// gives what each side has collected since then.
pub(crate) fn in_turn<C: Collected>(
    sides: usize,
    span: Span,
    mut slice: impl FnMut(usize, &mut C) -> Result<(), BenchError>,
) -> Result<Vec<C>, BenchError> {
    let nothing = || (0..sides).map(|_| C::default()).collect::<Vec<_>>();
    let mut collected = nothing();
    let mut begun = Instant::now();
    let mut warm = false;
    loop {
        for (side, collected) in collected.iter_mut().enumerate() {
            let from = begun.elapsed();
            slice(side, collected)?;
            collected.slice_ended(from, begun.elapsed());
        }
        if !warm && begun.elapsed() >= span.warm_up {
            warm = true;
            collected = nothing();
            begun = Instant::now();
        } else if warm && begun.elapsed() >= span.measure {
            return Ok(collected);
        }
    }
}

/// A slice of a closed loop: `count` operations, one straight after the other. Each value includes one
/// reading of the clock, and nothing else: they are put into the histogram afterwards.
pub(crate) fn closed_loop(
    histogram: &mut Histogram,
    count: u32,
    mut operation: impl FnMut() -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    let mut ends = Vec::with_capacity(count as usize + 1);
    ends.push(Instant::now());
    for _ in 0..count {
        operation()?;
        ends.push(Instant::now());
    }
    for pair in ends.windows(2) {
        histogram.record(pair[1] - pair[0]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Collected for usize {
        fn slice_ended(&mut self, _: Duration, _: Duration) {}
    }

    /// Goal: every side has as many slices as the others, and the warm-up counts for none.
    #[test]
    fn sides_take_turns() {
        let span = Span { warm_up: Duration::from_millis(2), measure: Duration::from_millis(2) };
        let mut turns = Vec::new();
        let counts = in_turn(3, span, |side, count: &mut usize| {
            turns.push(side);
            *count += 1;
            std::thread::sleep(Duration::from_micros(100));
            Ok(())
        });
        let counts = counts.expect("no slice fails");
        assert!(turns.chunks(3).all(|round| round == [0, 1, 2]), "{turns:?}");
        assert!(counts[0] > 0 && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
        assert!(turns.len() > counts.iter().sum(), "the warm-up is left out");
    }

    #[test]
    fn an_error_ends_it() {
        let span = Span { warm_up: Duration::ZERO, measure: Duration::MAX };
        let result = in_turn(2, span, |side, _: &mut usize| match side {
            0 => Ok(()),
            _ => Err(BenchError::setup("go on")("enough")),
        });
        assert!(result.is_err());
    }
}
