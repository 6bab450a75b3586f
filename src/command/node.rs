//! The node process itself, started by its supervisor with a page as its standard input.

use crate::config::Config;
use crate::report::{Failure, Outcome};

/// Runs the node until a signal asks to stop.
pub(crate) fn run(config: &Config) -> Outcome {
    Err(Failure::new(format!("node {}", config.file.pair.node.letter())))
}
