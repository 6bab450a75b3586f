//! An operator's drill: the primary has gone, and somebody finds out why, with `hotpair status` and `hotpair events` alone.

mod support;

#[path = "resync/site.rs"]
mod site;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use site::Site;
use support::{eventually, hotpair};

fn plain(_: usize) -> String {
    "heartbeat = { misses = 400 }".to_owned()
}

fn status(region: &str) -> Value {
    let ended = hotpair(["status", "--json", "--region", region]);
    serde_json::from_str(ended.stdout.trim()).unwrap_or_default()
}

fn events(region: &str) -> Vec<Value> {
    let ended = hotpair(["events", "--json", "--region", region]);
    let lines = ended.exits(0).stdout.lines();
    lines.map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// What a person does: which side is primary, and since when and why; then what the other side's region says of that time.
fn what_happened(regions: [&str; 2]) -> Option<String> {
    let [a, b] = regions.map(status);
    let (new, old) = match (a["role"] == "primary", b["role"] == "primary") {
        (_, true) if b["node_alive"] == true => (b, regions[0]),
        (true, _) if a["node_alive"] == true => (a, regions[1]),
        _ => return None,
    };
    let promotion = &new["last_promotion"];
    let heard_by = promotion["cause"].as_str()?.to_owned();
    // Both sides are on one host here, so the clocks agree; the old side's last word on its node counts.
    let events = events(old);
    let served = events.iter().rposition(|event| event["event"] == "primary")?;
    let after = &events[served..];
    let died = after.iter().find(|event| event["event"] == "died" && event["kind"] == "node");
    let silent = after.iter().any(|event| event["event"] == "killed_silent_node");
    Some(match died {
        Some(died) => {
            let hung = if silent { ", which its supervisor did as it hung" } else { "" };
            format!("its node ended with {}{hung}; told by {heard_by}", died["how"].as_str()?)
        }
        None => format!("nobody was left to say; told by {heard_by}"),
    })
}

#[track_caller]
fn is_found_out(site: &Site, answer: &str) {
    let regions = [&*site.regions[0].0, &*site.regions[1].0];
    let mut found = None;
    eventually(answer, || {
        found = what_happened(regions);
        found.as_deref() == Some(answer)
    });
}

/// Goal: a crash, a kill from outside, and the loss of a whole side are told apart, whoever is left to ask.
#[test]
fn what_ended_the_primary_is_found_out() {
    for (purpose, signal) in [(71, Signal::SIGABRT), (72, Signal::SIGKILL)] {
        let site = Site::paired(purpose, plain);
        kill(Pid::from_raw(site.node_process(0)), signal).expect("our own");
        site.serves(1);
        is_found_out(
            &site,
            &format!("its node ended with {}; told by supervisor", signal.as_str()),
        );
    }
    let mut site = Site::paired(73, plain);
    site.kill(&[0]);
    site.serves(1);
    is_found_out(&site, "nobody was left to say; told by tripwire");
    // And when the other side is lost as well, both regions still say what they knew.
    site.kill(&[1]);
    let left = events(&site.regions[1].0);
    assert!(left.iter().any(|event| event["event"] == "detected" && event["cause"] == "tripwire"));
    hotpair(["status", "--check", "--region", &site.regions[1].0]).exits(2);
}

/// Goal: a worker that dies is named with its end, on the side on which it was, though the service went on.
#[test]
fn what_ended_a_worker_is_found_out() {
    let site = Site::paired(74, plain);
    let region = &site.regions[0].0;
    let workers = status(region)["workers"].clone();
    let worker = workers[0]["pid"].as_i64().expect("a worker sits there");
    kill(Pid::from_raw(worker as i32), Signal::SIGABRT).expect("our own");
    let named = |event: &Value, name: &str| event["event"] == name && event["pid"] == worker;
    eventually("both have noted it", || {
        let events = events(region);
        let died = events.iter().find(|event| named(event, "died"));
        died.is_some_and(|died| died["how"] == "SIGABRT" && died["kind"] == "worker")
            && events.iter().any(|event| named(event, "reaped"))
    });
}
