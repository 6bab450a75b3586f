//! `hotpair reload`: what has changed in a node's configuration is in use, or it is said why not.

use hotpair_replica::node::{Outcome as Answer, Request};
use serde_json::json;

use super::asking::{ask, end};
use crate::cli::RegionChoice;
use crate::exit::Exit;
use crate::report::{Outcome, print_data, print_json};

/// Exit code 7 where what runs is still not what the file says.
pub(crate) fn run(region: &RegionChoice, as_json: bool) -> Outcome {
    let reply = ask(region, Request::Reload, "reload")?;
    let is_done = reply.outcome == Answer::Done;
    if as_json {
        print_json(&json!({
            "v": 1, "outcome": if is_done { "done" } else { "refused" },
            "why": (!reply.why.is_empty()).then_some(&reply.why),
            "applied": reply.applied, "not_applied": reply.not_applied,
        }))?;
    } else if is_done {
        let mut text: String = reply.applied.iter().map(|key| format!("in use: {key}\n")).collect();
        text.extend(
            reply.not_applied.iter().map(|it| format!("not in use: {}: {}\n", it.key, it.why)),
        );
        if text.is_empty() {
            text.push_str("nothing has changed\n");
        }
        print_data(&text)?;
    }
    if is_done && !reply.not_applied.is_empty() {
        return Ok(Exit::Differs);
    }
    end(as_json, &reply, "the configuration is not reloaded", |_| {
        Some("the node goes on with the one it has; `hotpair config check FILE` says more")
    })
}
