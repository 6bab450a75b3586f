//! What a page draws of a bench.

use std::time::Duration;

use crate::histogram::Histogram;

/// A distribution with its name.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) histogram: Histogram,
}

impl Curve {
    pub(crate) fn new(name: &str, histogram: &Histogram) -> Self {
        Curve { name: name.to_owned(), histogram: histogram.clone() }
    }
}

/// A rate over time with its name.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) name: String,
    /// Ends of slices since the measurement began, and how often it happened in a second.
    pub(crate) points: Vec<(Duration, f64)>,
}
