//! `hotpair failover` and `hotpair promote`: a person changes who is primary.

use std::path::PathBuf;
use std::time::Duration;

use hotpair_replica::node::{self, AskError, Outcome as Answer, Reply, Request};
use hotpair_shm::Region;
use serde_json::{Value, json};

use crate::cli::RegionChoice;
use crate::config::{Config, Span};
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json};

/// How a node is asked.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Asking {
    #[command(flatten)]
    region: RegionChoice,
    /// How long it may take; then everything is as it was
    #[arg(long, value_parser = parse_timeout, default_value = "5s")]
    timeout: Span,
    /// One JSON object
    #[arg(long)]
    json: bool,
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

/// The two nodes change their roles, and nothing is lost or doubled.
pub(crate) fn failover(asking: &Asking) -> Outcome {
    let reply = ask(asking, |timeout_ms| Request::Failover { timeout_ms }, "change roles")?;
    if asking.json {
        print_json(&json_of(&reply))?;
    } else if reply.outcome == Answer::Done {
        print_data(&format!(
            "node {} is primary, epoch {}; the service stood still for {}\n",
            reply.primary.as_deref().unwrap_or("?"),
            reply.epoch.unwrap_or(0),
            Span(Duration::from_micros(reply.stood_still_us.unwrap_or(0))),
        ))?;
    }
    end(asking, &reply, "the roles are not changed", |reply| match reply.outcome {
        Answer::TimedOut => Some("the service goes on where it was; see `hotpair status`"),
        Answer::Refused => Some("see `hotpair status` of both nodes"),
        _ => None,
    })
}

/// This node becomes primary, if that can do no harm, or if the harm is accepted.
pub(crate) fn promote(asking: &Asking, accept_loss: bool) -> Outcome {
    let request = |timeout_ms| Request::Promote { accept_loss, timeout_ms };
    let reply = ask(asking, request, "promote")?;
    let epoch = reply.epoch.unwrap_or(0);
    if asking.json {
        print_json(&json_of(&reply))?;
    } else if reply.outcome == Answer::Already {
        print_data(&format!("this node is primary already, epoch {epoch}\n"))?;
    } else if reply.outcome == Answer::Done {
        print_data(&format!("this node is primary, epoch {epoch}\n"))?;
        if accept_loss {
            print_data(
                "given up: everything that the other node released and this one had not applied.\n\
                 When the other node comes back it is fenced, and takes over the state of this one.\n",
            )?;
        }
    }
    end(asking, &reply, "this node is not promoted", |reply| match reply.outcome {
        Answer::Refused => Some(
            "make sure that the other node does not serve: look at its `hotpair status`, or stop it; then, if what it \
             released and this node lacks may be lost, `hotpair promote --accept-loss`",
        ),
        Answer::TimedOut => Some("the arbiter may be out of reach; see `hotpair status`"),
        _ => None,
    })
}

fn ask(asking: &Asking, request: impl Fn(u32) -> Request, what: &str) -> Result<Reply, Failure> {
    let name = match (&asking.region.region, &asking.region.config) {
        (Some(name), _) => name.clone(),
        (None, Some(path)) => Config::load(path)?.region_name().to_owned(),
        (None, None) => unreachable!("the command line requires one of them"),
    };
    let path: PathBuf = Region::path_for(&name);
    let timeout_ms = u32::try_from(asking.timeout.0.as_millis()).unwrap_or(u32::MAX);
    node::ask(&path, request(timeout_ms)).map_err(|error| {
        let failure = Failure::new(format!("cannot {what}")).caused_by(&error);
        match error {
            AskError::NotRunning { .. } => failure
                .help("start it with `hotpair node`; ask on its host, in its network namespace, as its user or root")
                .exit(Exit::NotRunning),
            AskError::Silent(_) => failure.exit(Exit::TimedOut),
            _ => failure,
        }
    })
}

fn end(
    asking: &Asking,
    reply: &Reply,
    what: &str,
    help: impl Fn(&Reply) -> Option<&'static str>,
) -> Outcome {
    let exit = match reply.outcome {
        Answer::Done | Answer::Already => return Ok(Exit::Ok),
        Answer::Refused => Exit::Refused,
        Answer::TimedOut => Exit::TimedOut,
        Answer::Bad => Exit::Failed,
    };
    if asking.json {
        return Ok(exit); // all is said
    }
    let failure = Failure::new(what).because(&reply.why).exit(exit);
    Err(match help(reply) {
        Some(help) => failure.help(help),
        None => failure,
    })
}

fn json_of(reply: &Reply) -> Value {
    let outcome = match reply.outcome {
        Answer::Done => "done",
        Answer::Already => "already",
        Answer::Refused => "refused",
        Answer::TimedOut => "timed_out",
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
