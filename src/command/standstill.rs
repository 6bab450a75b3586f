//! `hotpair drain`, `hotpair pause` and `hotpair resume`: the service stands still, and goes on.

use std::time::Duration;

use hotpair_replica::node::{Outcome as Answer, Reply, Request};

use super::asking::{Asking, ask, end, json_of};
use crate::config::Span;
use crate::report::{Outcome, print_data, print_json};

/// Nothing more comes in; what had come is finished first.
pub(crate) fn drain(asking: &Asking) -> Outcome {
    let reply = ask(&asking.region, Request::Drain { timeout_ms: asking.timeout_ms() }, "drain")?;
    tell(asking, &reply, "the service is not drained", |took| {
        format!(
            "drained within {took}: what had come in is worked on and answered, and nothing more is read until \
             `hotpair resume`\n"
        )
    })
}

/// Nothing more is begun or sent.
pub(crate) fn pause(asking: &Asking) -> Outcome {
    let reply = ask(&asking.region, Request::Pause { timeout_ms: asking.timeout_ms() }, "pause")?;
    tell(asking, &reply, "the service is not paused", |took| {
        format!("paused within {took}: nothing is read, begun or sent until `hotpair resume`\n")
    })
}

/// It serves again.
pub(crate) fn resume(asking: &Asking) -> Outcome {
    let reply = ask(&asking.region, Request::Resume, "resume")?;
    tell(asking, &reply, "the service is not resumed", |_| "the service goes on\n".to_owned())
}

fn tell(asking: &Asking, reply: &Reply, not: &str, done: impl Fn(Span) -> String) -> Outcome {
    let took = Span(Duration::from_micros(reply.stood_still_us.unwrap_or(0)));
    if asking.json {
        print_json(&json_of(reply))?;
    } else if reply.outcome == Answer::Already {
        print_data("it is so already\n")?;
    } else if reply.outcome == Answer::Done {
        print_data(&done(took))?;
    }
    end(asking.json, reply, not, |reply| match reply.outcome {
        Answer::TimedOut => Some("the service goes on; give it more time by `--timeout`"),
        Answer::Refused => {
            Some("only a primary that no other order is under way at can: see `hotpair status`")
        }
        _ => None,
    })
}
