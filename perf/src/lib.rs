//! The measuring harness: histograms, limits, reports.
