//! The demo as its users run it: every kill ends well, and nothing is left behind.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Ended, HOTPAIR, Running, bound, eventually, family, hotpair, regions_with, runs};

/// Runs a short demo that must end well.
fn demo(victim: &str) -> serde_json::Value {
    let json = demo_of(&["--kill", victim]);
    assert_eq!(json["workers"].as_array().map(Vec::len), Some(3), "{json:#}");
    json
}

fn demo_of(arguments: &[&str]) -> serde_json::Value {
    let usual = ["demo", "--json", "--seconds=3", "--rate=1000"];
    let ended = hotpair(usual.iter().chain(arguments));
    ended.exits(0);
    let json = ended.json();
    assert_eq!(json["verdict"], "ok", "{json:#}");
    let zero = 0;
    for field in ["lost", "duplicated", "diverged", "unanswered"] {
        assert_eq!(json[field], zero, "{field} in {json:#}");
    }
    assert_eq!(json["blocks_in_use_start"], json["blocks_in_use_end"], "{json:#}");
    assert_eq!(json["added"], json["withdrawn"], "{json:#}");
    assert!(json["added"].as_u64() >= Some(100), "{json:#}");
    json
}

#[track_caller]
fn failed_over(json: &serde_json::Value, expected: bool) {
    for field in ["detect_us", "promote_us", "first_output_us", "total_us"] {
        assert_eq!(json["failover"][field].is_u64(), expected, "{field} in {json:#}");
    }
}

#[test]
fn the_primary_dies_with_everything_on_its_side() {
    let json = demo("primary");
    failed_over(&json, true);
    assert!(json["protected_again_us"].is_u64(), "the lost side came back: {json:#}");
}

/// Goal: a host that does not answer any more, told by nothing but its silence, and nothing of it goes on later.
#[test]
fn the_primarys_side_stands_still() {
    let json = demo("frozen");
    failed_over(&json, true);
    assert!(json["protected_again_us"].is_u64(), "the lost side came back: {json:#}");
}

#[test]
fn the_primarys_node_dies_alone() {
    let json = demo("node");
    failed_over(&json, true);
    assert!(json["protected_again_us"].is_u64(), "the lost node came back: {json:#}");
}

/// Goal: whoever serves is killed, again and again, each coming back as back-up before the next kill.
#[test]
fn primaries_die_one_after_the_other() {
    for victim in ["primary", "node"] {
        let json = demo_of(&["--kill", victim, "--kills=4"]);
        assert_eq!(json["failovers"].as_array().map(Vec::len), Some(4), "{json:#}");
    }
}

#[test]
fn the_backup_dies() {
    let json = demo("backup");
    failed_over(&json, false);
    assert!(json["solo_us"].is_u64(), "{json:#}");
    assert!(json["protected_again_us"].is_u64(), "the lost side came back: {json:#}");
}

#[test]
fn a_worker_dies() {
    let json = demo("worker");
    failed_over(&json, false);
    assert!(json["restarted_us"].is_u64(), "{json:#}");
}

#[test]
fn the_port_dies() {
    let json = demo("port");
    failed_over(&json, false);
    assert!(json["restarted_us"].is_u64(), "{json:#}");
}

/// Runs a short demo whose port and workers share memory with neither node, and that must end well.
fn far_demo(victim: &str) -> serde_json::Value {
    demo_of(&["--remote", "--kill", victim])
}

/// Goal: port and workers of another host carry on with whichever node is left; nothing is lost, nothing doubled.
#[test]
fn a_port_and_workers_of_another_host_outlive_the_primary() {
    let json = far_demo("primary");
    failed_over(&json, true);
    assert!(json["protected_again_us"].is_u64(), "the lost side came back: {json:#}");
    let json = far_demo("node");
    failed_over(&json, true);
}

#[test]
fn a_port_and_workers_of_another_host_outlive_the_backup() {
    let json = far_demo("backup");
    failed_over(&json, false);
}

/// Goal: they die themselves, and what they had in hand is done by others, once.
#[test]
fn workers_and_port_of_another_host_die() {
    far_demo("worker");
    far_demo("port");
}

/// Goal: the control. What leaves before the other node has it is lost with the primary, far away as well.
#[test]
fn without_replication_a_far_port_tells_of_what_is_gone() {
    let arguments = ["demo", "--json", "--seconds=3", "--rate=1000", "--remote", "--commit=local"];
    let ended = hotpair(arguments);
    ended.exits(1);
    assert_eq!(ended.json()["verdict"], "lost", "{:#}", ended.json());
}

/// A demo that would run for an hour, stopped once its load runs.
fn long_demo() -> (Running, Vec<i32>) {
    let mut demo = Running::start(
        bound()
            .args(["demo", "--seconds=3600", "--rate=200"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped()),
    );
    let stderr = demo.0.stderr.take().expect("it was asked for");
    let mut lines = BufReader::new(stderr).lines();
    let answered = lines.any(|line| line.is_ok_and(|line| line.contains(" answered, ")));
    assert!(answered, "the demo ended before its load ran");
    let family = family(demo.pid());
    // Demo, witness, client, and twice a supervisor, a node, a port, two workers.
    assert_eq!(family.len(), 13, "{family:?}");
    (demo, family)
}

fn nothing_runs(family: &[i32]) {
    for pid in family {
        eventually("every process of the demo is gone", || !runs(*pid));
    }
}

fn traces(demo: &Running) -> (Vec<String>, bool) {
    let name = format!("demo-{}-", demo.pid());
    let temporary = std::fs::read_dir(std::env::temp_dir()).expect("it is there").flatten();
    let dir = temporary
        .filter_map(|entry| entry.file_name().into_string().ok())
        .any(|file| file.starts_with(&format!("hotpair-{name}")));
    (regions_with(&name), dir)
}

#[test]
fn a_demo_that_is_asked_to_stop_leaves_nothing() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (mut demo, family) = long_demo();
        assert_eq!(traces(&demo).0.len(), 3, "two regions and the witness's view while it runs");
        kill(Pid::from_raw(demo.pid()), signal).expect("our own child");
        let status = demo.wait();
        assert_eq!(status.code(), Some(1), "{signal}");
        nothing_runs(&family);
        assert_eq!(traces(&demo), (vec![], false), "{signal}");
    }
}

#[test]
fn a_killed_demo_leaves_no_process_and_the_next_one_removes_its_files() {
    let (mut demo, family) = long_demo();
    kill(Pid::from_raw(demo.pid()), Signal::SIGKILL).expect("our own child");
    demo.wait();
    nothing_runs(&family);
    let (regions, dir) = traces(&demo);
    assert!(regions.len() == 3 && dir, "nobody was left to remove them: {regions:?}");
    hotpair(["demo", "--json", "--seconds=2", "--rate=200", "--objects=4", "--kill=worker"]);
    assert_eq!(traces(&demo), (vec![], false));
}

#[test]
fn two_demos_run_side_by_side() {
    let start = || {
        let mut command = Command::new(HOTPAIR);
        command.args(["demo", "--json", "--seconds=3", "--rate=500", "--objects=16"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program was built")
    };
    let demos = [start(), start()];
    for demo in demos {
        let ended = Ended::of(demo.wait_with_output().expect("our own child"));
        let json = ended.json();
        assert_eq!((&json["lost"], &json["duplicated"]), (&0.into(), &0.into()), "{json:#}");
        assert_eq!(json["verdict"], "ok", "{json:#}");
    }
}
