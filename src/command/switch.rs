//! `hotpair failover` and `hotpair promote`: a person changes who is primary.

use std::time::Duration;

use hotpair_replica::node::{Outcome as Answer, Request};

use super::asking::{Asking, ask, end, json_of};
use crate::config::Span;
use crate::report::{Outcome, print_data, print_json};

/// The two nodes change their roles, and nothing is lost or doubled.
pub(crate) fn failover(asking: &Asking) -> Outcome {
    let request = Request::Failover { timeout_ms: asking.timeout_ms() };
    let reply = ask(&asking.region, request, "change roles")?;
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
    end(asking.json, &reply, "the roles are not changed", |reply| match reply.outcome {
        Answer::TimedOut => Some("the service goes on where it was; see `hotpair status`"),
        Answer::Refused => Some("see `hotpair status` of both nodes"),
        _ => None,
    })
}

/// This node becomes primary, if that can do no harm, or if the harm is accepted.
pub(crate) fn promote(asking: &Asking, accept_loss: bool) -> Outcome {
    let request = Request::Promote { accept_loss, timeout_ms: asking.timeout_ms() };
    let reply = ask(&asking.region, request, "promote")?;
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
    end(asking.json, &reply, "this node is not promoted", |reply| match reply.outcome {
        Answer::Refused => Some(
            "make sure that the other node does not serve: look at its `hotpair status`, or stop it; then, if what it \
             released and this node lacks may be lost, `hotpair promote --accept-loss`",
        ),
        Answer::TimedOut => Some("the arbiter may be out of reach; see `hotpair status`"),
        _ => None,
    })
}
