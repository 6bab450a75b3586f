//! How a person asks a node for something, and how the answer ends the command.

use std::time::Duration;

use hotpair_replica::node::{self, AskError, Outcome as Answer, Reply, Request};
use hotpair_shm::Region;
use serde_json::{Value, json};

use super::region_name;
use crate::cli::RegionChoice;
use crate::config::Span;
use crate::exit::Exit;
use crate::report::{Failure, Outcome};

/// How a node is asked.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Asking {
    #[command(flatten)]
    pub(super) region: RegionChoice,
    /// How long it may take; then everything is as it was
    #[arg(long, value_parser = parse_timeout, default_value = "5s")]
    pub(super) timeout: Span,
    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Up to ten minutes: the service may stand still for so long.
fn parse_timeout(text: &str) -> Result<Span, String> {
    let span = Span::parse(text)?;
    let possible = Duration::from_millis(1)..=Duration::from_secs(600);
    if possible.contains(&span.0) {
        Ok(span)
    } else {
        Err(format!("`{text}` is not between 1ms and 10m"))
    }
}

impl Asking {
    /// The time that the node gets, as it travels.
    pub(super) fn timeout_ms(&self) -> u32 {
        u32::try_from(self.timeout.0.as_millis()).unwrap_or(u32::MAX)
    }
}

/// Asks the node of that region, and waits for its answer; `what` is what cannot be done where there is none.
pub(super) fn ask(region: &RegionChoice, request: Request, what: &str) -> Result<Reply, Failure> {
    node::ask(&Region::path_for(&region_name(region)?), request).map_err(|error| {
        let failure = Failure::new(format!("cannot {what}")).caused_by(&error);
        match error {
            AskError::NotRunning { .. } => failure
                .help("start it with `hotpair node`; ask on its host, in its network namespace")
                .exit(Exit::NotRunning),
            AskError::Denied { .. } => failure.exit(Exit::Refused),
            AskError::Silent(_) => failure.exit(Exit::TimedOut),
            _ => failure,
        }
    })
}

/// The exit code, with words where something is wrong and JSON has not said so.
pub(super) fn end(
    json: bool,
    reply: &Reply,
    what: &str,
    help: impl Fn(&Reply) -> Option<&'static str>,
) -> Outcome {
    let exit = match reply.outcome {
        Answer::Done | Answer::Already => return Ok(Exit::Ok),
        Answer::Refused | Answer::Denied => Exit::Refused,
        Answer::TimedOut => Exit::TimedOut,
        Answer::Bad => Exit::Failed,
    };
    if json {
        return Ok(exit); // all is said
    }
    let failure = Failure::new(what).because(&reply.why).exit(exit);
    Err(match help(reply) {
        Some(help) => failure.help(help),
        None => failure,
    })
}

/// The answer for programs.
pub(super) fn json_of(reply: &Reply) -> Value {
    let outcome = match reply.outcome {
        Answer::Done => "done",
        Answer::Already => "already",
        Answer::Refused => "refused",
        Answer::TimedOut => "timed_out",
        Answer::Denied => "denied",
        Answer::Bad => "failed",
    };
    json!({
        "v": 1, "outcome": outcome,
        "why": (!reply.why.is_empty()).then_some(&reply.why),
        "primary": reply.primary, "epoch": reply.epoch, "stood_still_us": reply.stood_still_us,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_bounds() {
        for text in ["5s", "1ms", "10m"] {
            assert!(parse_timeout(text).is_ok(), "{text}");
        }
        for text in ["0s", "999us", "11m", "5"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }
}
