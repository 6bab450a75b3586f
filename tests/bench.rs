//! The benches that run a second process: each briefly, as a user runs it, and what it prints and leaves.
//!
//! They need two cores, since both processes look without pause; with one they say so and pass, except
//! where `CI=true` promises that there are two.

#[path = "service/processes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod processes;
mod support;

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use processes::is_installed;
use serde_json::Value;
use support::{Ended, HOTPAIR, Running, bound, eventually, family, regions_with, runs};

/// Whether two processes can run side by side here.
fn two_cores() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        assert!(std::env::var("CI").is_err(), "two cores are needed, there is one");
        eprintln!("skipped: there is one core");
    }
    cores >= 2
}

/// Runs a bench to its end, and expects nothing of it to be left.
#[track_caller]
fn bench(line: &str) -> Value {
    let bench = Command::new(HOTPAIR)
        .arg("bench")
        .args(line.split(' '))
        .arg("--json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    let pid = bench.id();
    let ended = Ended::of(bench.wait_with_output().expect("our own child"));
    ended.exits(0);
    let json = ended.json();
    assert_eq!((&json["v"], &json["bench"]), (&1.into(), &line.split(' ').next().into()));
    assert_eq!(regions_of(pid), [""; 0]);
    json
}

/// What the bench with process id `pid` has in /dev/shm.
fn regions_of(pid: u32) -> Vec<String> {
    let mut regions = regions_with(&format!("-{pid}"));
    regions.retain(|name| name.contains("hotpair.bench-"));
    regions
}

#[track_caller]
fn keys(json: &Value, expected: &[&str]) {
    let keys: Vec<&str> = json.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(keys, expected, "{json}");
}

/// A figure that was measured.
#[track_caller]
fn figure(json: &Value) -> f64 {
    let figure = json.as_f64().unwrap_or_default();
    assert!(figure > 0.0, "{json}");
    figure
}

#[track_caller]
fn is_latency(json: &Value, unit: &str) {
    keys(json, &["v", "bench", "unit", "n", "p50", "p99", "p999", "max", "limit", "ratio", "peer"]);
    keys(&json["limit"], &["what", "p50", "p99"]);
    assert_eq!(json["unit"], unit);
    for name in ["n", "p50", "p99", "p999", "max"] {
        figure(&json[name]);
    }
    let ratio = figure(&json["p50"]) / figure(&json["limit"]["p50"]);
    // Both figures are rounded to a tenth. Beside other work the limit can be so much slower that nothing of the ratio is left.
    let told = json["ratio"].as_f64().expect("a number");
    assert!((ratio - told).abs() < 0.02 + ratio * 0.05, "{json}");
}

#[track_caller]
fn is_rate(json: &Value, extra: &[&str]) {
    let documented = ["v", "bench", "unit", "n", "per_s", "limit", "ratio", "peer"];
    keys(json, &[&documented[..], extra].concat());
    keys(&json["limit"], &["what", "per_s"]);
    assert_eq!(json["unit"], "per_s");
    figure(&json["n"]);
    figure(&json["per_s"]);
    figure(&json["limit"]["per_s"]);
}

#[test]
fn a_message_is_handed_over() {
    if !two_cores() {
        return;
    }
    for size in ["64B", "1KiB"] {
        let mut json = bench(&format!("handoff --seconds 100ms --size {size}"));
        let more = json.as_object_mut().expect("an object").remove("more_peers");
        let more = more.unwrap_or_default();
        is_latency(&json, "ns");
        if cfg!(feature = "peers") {
            for peer in [&json["peer"], &more[0]] {
                keys(peer, &["what", "p50", "ratio"]);
                figure(&peer["ratio"]);
            }
        } else {
            assert!(json["peer"].is_null(), "{json}");
        }
    }
    support::hotpair(["bench", "handoff", "--size", "63B"]).exits(2);
}

#[test]
fn messages_are_counted() {
    if !two_cores() {
        return;
    }
    let json = bench("handoff-rate --seconds 100ms");
    is_rate(&json, &[]);
    if cfg!(feature = "peers") {
        keys(&json["peer"], &["what", "per_s", "ratio"]);
        assert_eq!(json["ratio"], json["peer"]["ratio"]);
    } else {
        assert!(json["peer"].is_null() && json["ratio"].is_null(), "{json}");
    }
}

#[test]
fn a_second_worker_is_counted() {
    if !two_cores() {
        return;
    }
    let json = bench("contend --seconds 100ms");
    is_rate(&json, &["without_work"]);
    figure(&json["ratio"]);
    keys(&json["without_work"], &["per_s", "limit", "ratio"]);
    assert!(json["peer"].is_null(), "{json}");
}

#[test]
fn a_sleeper_is_woken() {
    if !two_cores() {
        return;
    }
    let json = bench("wake --seconds 200ms");
    is_latency(&json, "us");
    assert!(json["peer"].is_null(), "{json}");
}

#[test]
fn an_urgent_object_waits_less_than_in_one_lane() {
    if !two_cores() {
        return;
    }
    let json = bench("queue-wait --seconds 1s");
    is_latency(&json, "us");
    assert!(json["peer"].is_null(), "{json}");
}

#[test]
fn a_dead_worker_is_reaped() {
    if !two_cores() {
        return;
    }
    let json = bench("reap --runs 2 --objects 2000");
    is_latency(&json, "us");
    assert_eq!(json["n"], 2);
}

#[test]
fn remote_workers_outlive_the_node_that_they_use() {
    if !two_cores() {
        return;
    }
    let json = bench("remote-outage --victim node --runs 2 --gib 0");
    assert_eq!((&json["victim"], &json["runs"]), (&"node".into(), &2.into()), "{json}");
    assert_eq!((&json["lost"], &json["duplicated"]), (&0.into(), &0.into()), "{json}");
    for phase in ["detect", "promote", "first_output", "total"] {
        keys(&json[phase], &["p50", "p99", "max"]);
        figure(&json[phase]["p99"]);
    }
}

#[test]
fn packets_go_through_a_port_and_a_worker() {
    if !two_cores() {
        return;
    }
    for line in ["udp-echo --seconds 300ms", "udp-echo --sync --seconds 300ms"] {
        let mut json = bench(line);
        // Few of so few claims are timed, and perhaps none.
        json.as_object_mut().expect("an object").remove("stages");
        let sheets = json.as_object_mut().expect("an object").remove("sheets").expect("wake-ups");
        let rows = sheets[0]["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), if line.contains("--sync") { 5 } else { 4 }, "{sheets}");
        for row in rows {
            // Everybody sleeps until a request comes; nobody is woken as often as it has bytes.
            let wakes = figure(&row["values"][0]);
            assert!((0.5..30.0).contains(&wakes), "{sheets}");
        }
        is_latency(&json, "us");
        let limit = json["limit"]["what"].as_str().expect("words");
        assert_eq!(limit.contains("quinn"), line.contains("--sync"), "{limit}");
    }
    for line in [
        "udp-rate --seconds 300ms",
        "udp-rate --gso --seconds 300ms",
        "replay --seconds 100ms --objects 20000",
    ] {
        let json = bench(line);
        is_rate(&json, &[]);
        figure(&json["ratio"]);
    }
}

/// Goal: the store is measured by each command, with pipelines as well, and beside Redis where that is installed.
#[test]
fn a_store_is_measured_beside_redis() {
    if !is_installed("redis-benchmark") {
        return;
    }
    let beside = is_installed("redis-server");
    processes::example("resp");
    for line in ["resp --seconds 10ms", "resp --inflight 16 --seconds 10ms"] {
        let json = bench(line);
        let documented = ["v", "bench", "unit", "n", "per_s", "limit", "ratio", "peer", "sheets"];
        keys(&json, &documented);
        let rows = json["sheets"][0]["rows"].as_array().expect("rows");
        let labels: Vec<&str> = rows.iter().filter_map(|row| row["label"].as_str()).collect();
        let costs = json["sheets"][1]["rows"].as_array().expect("rows");
        let costs: Vec<&str> = costs.iter().filter_map(|row| row["label"].as_str()).collect();
        for party in ["node a", "port a", "worker a", "node b"] {
            assert!(costs.contains(&party), "{party}: {json}");
        }
        assert_eq!(costs.contains(&"Redis"), beside, "{json}");
        if beside {
            assert_eq!(labels, ["SET", "GET", "SET; Redis: and WAIT 1"], "{json}");
            figure(&json["ratio"]);
            figure(&json["limit"]["per_s"]);
            figure(&json["peer"]["ratio"]);
        } else {
            assert_eq!(labels, ["SET", "GET"], "{json}");
            assert!(json["limit"].is_null() && json["peer"].is_null(), "{json}");
        }
        for row in rows {
            row["values"].as_array().expect("figures").iter().for_each(|value| {
                figure(value);
            });
        }
    }
}

/// Goal: without its load generator, or without the store, the bench says what is missing, and leaves nothing.
#[test]
fn what_a_store_is_measured_with_is_asked_for() {
    let bench = |change: &dyn Fn(&mut Command)| {
        let mut command = Command::new(HOTPAIR);
        command.args(["bench", "resp", "--seconds", "10ms"]).stdin(Stdio::null());
        change(&mut command);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.expect("the program was built");
        let pid = child.id();
        let ended = Ended::of(child.wait_with_output().expect("our own child"));
        assert_eq!(regions_of(pid), [""; 0]);
        ended
    };
    let nowhere = tempfile::tempdir().expect("a temporary directory");
    let ended = bench(&|command| {
        command.env("PATH", nowhere.path());
    });
    let said = ended.exits(1).stderr.clone();
    assert!(said.contains("redis-benchmark") && said.contains("redis-tools"), "{said}");
}

/// Goal: each process of a pair that nobody uses is looked at, and is gone afterwards.
#[test]
fn a_sleeping_pair_costs_little() {
    let json = bench("cost --seconds 500ms");
    let rows = json["sheets"][0]["rows"].as_array().expect("rows");
    let named = |name: &str| rows.iter().find(|row| row["label"] == name).map(|row| &row["values"]);
    for party in ["witness", "sleeper"] {
        assert!(named(party).is_some(), "{party}: {json}");
    }
    for part in ["supervisor", "node", "port", "worker"] {
        for side in ["a", "b"] {
            let seen = named(&format!("{part} {side}")).unwrap_or_else(|| panic!("{part}: {json}"));
            let [processor, wakes, own, resident] = [0, 1, 2, 3].map(|at| seen[at].as_f64());
            // A process with nothing to do may sleep through all of it.
            assert!(processor < Some(100.0) && wakes >= Some(0.0), "{part}: {json}");
            assert!(own > Some(0.0) && resident >= own, "{part}: {json}");
        }
    }
    let node = named("node a").expect("seen above");
    assert!(node[1].as_f64() > Some(50.0), "a node sends heartbeats: {json}");
    assert!(figure(&json["figure"]) >= node[0].as_f64().expect("a figure") * 0.9, "{json}");
}

/// Goal: each curve has its points, a point that has no room says so, and nothing of any is left.
#[test]
fn curves_have_their_points() {
    if !two_cores() {
        return;
    }
    for (by, points) in [("objects", 2), ("value", 6), ("workers", 6), ("depth", 6), ("period", 5)]
    {
        let json = bench(&format!("scale --by {by} --seconds 20ms --objects 10000"));
        assert_eq!(json["unit"], "ns", "{json}");
        let ratio = figure(&json["figure"]) / figure(&json["limit"]["figure"]);
        assert!((ratio - figure(&json["ratio"])).abs() < 0.01 + ratio * 0.01, "{json}");
        let sheets = json["sheets"].as_array().expect("tables");
        assert_eq!(
            (sheets.len(), &sheets[0]["name"]),
            (1 + usize::from(by == "depth"), &by.into())
        );
        for sheet in sheets {
            let columns = sheet["columns"].as_array().expect("columns").len();
            let rows = sheet["rows"].as_array().expect("rows");
            let mut before = 0.0;
            for row in rows {
                let at = figure(&row["at"]);
                assert!(at > before, "points come in order: {sheet}");
                before = at;
                let values = row["values"].as_array().expect("a small point has room");
                assert_eq!(values.len(), columns, "{sheet}");
                // Of so short a run a node's time may not be written down yet.
                assert!(values.iter().all(|value| value.as_f64() >= Some(0.0)), "{sheet}");
                figure(&values[0]);
            }
        }
        assert_eq!(sheets[0]["rows"].as_array().map(Vec::len), Some(points), "{json}");
    }
    support::hotpair(["bench", "scale", "--by", "nothing"]).exits(2);
}

#[test]
fn somebody_asks_how_a_region_stands() {
    let json = bench("status --runs 2 --objects 2000");
    is_latency(&json, "ms");
    assert_eq!(json["n"], 2);
}

/// Goal: a bench that is stopped takes its helper and its files with it.
#[test]
fn nothing_is_left_of_a_stopped_bench() {
    if !two_cores() {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut command = bound();
        command.args(["bench", "handoff", "--seconds", "60m"]).stdout(Stdio::null());
        let mut bench = Running::start(&mut command);
        let pid = bench.pid();
        eventually("the helper runs and the region is there", || {
            family(pid).len() == 2 && !regions_of(bench.0.id()).is_empty()
        });
        let helper = family(pid)[1];
        kill(Pid::from_raw(pid), signal).expect("it runs");
        assert_eq!(bench.wait().code(), Some(130));
        assert_eq!(regions_of(bench.0.id()), [""; 0]);
        eventually("the helper ends with it", || !runs(helper));
    }
}

/// Goal: a bench of whole pairs and other programs' servers that is stopped takes all of them with it.
#[test]
fn nothing_is_left_of_a_stopped_store() {
    if !is_installed("redis-benchmark") {
        return;
    }
    processes::example("resp");
    let mut command = bound();
    command.args(["bench", "resp", "--seconds", "60m"]).stdout(Stdio::null());
    let mut bench = Running::start(&mut command);
    let pid = bench.pid();
    let name = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
    let mut all = Vec::new();
    // It is asked for its version before anything else is there: two sides, each a supervisor and its four children.
    eventually("both sides and the load generator run", || {
        all = family(pid);
        let loads = |pid| name(pid).is_ok_and(|name| name.trim() == "redis-benchmark");
        all.len() > 10 && all.iter().any(loads)
    });
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
    assert_eq!(bench.wait().code(), Some(130));
    for child in &all[1..] {
        eventually("everybody ends with it", || !runs(*child));
    }
    assert_eq!(regions_of(bench.0.id()), [""; 0]);
    let directories = std::fs::read_dir(std::env::temp_dir()).expect("it is there").flatten();
    let own = format!("-{}.", bench.0.id());
    let left: Vec<_> = directories
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("hotpair.bench-") && name.contains(&own))
        .collect();
    assert_eq!(left, [""; 0]);
}

/// Goal: the hidden command does no harm to whom finds it.
#[test]
fn the_helper_is_for_benches_alone() {
    for line in ["bench-helper", "bench-helper 1 2 3 send", "bench-helper 1 0 0 nothing"] {
        support::hotpair(line.split(' ')).exits(1).one_error();
    }
}
