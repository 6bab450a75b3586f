//! The demo's worker: applies each request once and answers with the object's history.
//!
//! It is bound to a queue and to nothing else: any of them serves any object.

use crate::report::{Failure, Outcome};

/// What a worker is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Side of the pair that it runs on, for its answers
    #[arg(long)]
    side: char,
    /// Region to work in; its node says it in HOTPAIR_REGION
    #[arg(long)]
    region: Option<String>,
}

/// Works until it is killed.
pub(crate) fn run(options: &Options) -> Outcome {
    Err(Failure::new(format!("{options:?}")))
}
