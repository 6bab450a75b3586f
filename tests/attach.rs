//! `hotpair bench attach`: the stages of the requests of a pair that runs, looked at from beside.

mod support;

use std::process::Stdio;

use support::{Running, bound, eventually, hotpair, regions_with};

/// The two regions of a demo that runs under this process id.
fn regions_of(pid: u32) -> Vec<String> {
    let mut names: Vec<String> = regions_with("demo-")
        .iter()
        .filter_map(|file| file.strip_prefix("hotpair."))
        .filter(|name| name.contains(&format!("-{pid}-")))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

/// Goal: every stage of a request between port and back-up is measured in a running pair; a look disturbs nothing, and the node that
/// serves nobody says so.
#[test]
fn the_stages_of_a_running_pair_are_seen() {
    let mut command = bound();
    let line = ["demo", "--kill", "nobody", "--seconds", "8", "--rate", "4000", "--json"];
    command.args(line).stdout(Stdio::null()).stderr(Stdio::null());
    let mut demo = Running::start(&mut command);
    let pid = demo.0.id();
    let mut regions = Vec::new();
    eventually("the pair answers", || {
        regions = regions_of(pid);
        regions.len() == 2 && hotpair(["status", "--region", &regions[0]]).code == Some(0)
    });
    let seen = hotpair(["bench", "attach", "--pair", &regions[0], "--seconds", "3s", "--json"]);
    let seen = seen.exits(0).json();
    assert_eq!(
        (&seen["v"], &seen["bench"], &seen["unit"]),
        (&1.into(), &"attach".into(), &"ns".into())
    );
    assert!(seen["commits"].as_u64().is_some_and(|commits| commits > 1_000), "{seen}");
    let rows = seen["rows"].as_array().expect("the stages");
    let names: Vec<_> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    let way = "receive queue claim work commit batch wire apply ack release send";
    assert_eq!(names.join(" "), way);
    for row in rows {
        let figure = |name: &str| row[name].as_u64().unwrap_or_default();
        assert!(figure("n") > 0, "{row}");
        assert!(figure("p50") > 0 && figure("p50") <= figure("p99"), "{row}");
        assert!(figure("p99") <= figure("p999") && figure("p999") <= figure("max"), "{row}");
    }
    let processes = seen["processes"].as_array().expect("those of this side");
    for kind in ["node", "port", "worker"] {
        let of_kind = processes.iter().find(|process| process["kind"] == kind);
        let process = of_kind.unwrap_or_else(|| panic!("no {kind}: {seen}"));
        assert!(process["wakes_per_commit"].as_f64().is_some_and(|wakes| wakes > 0.0), "{process}");
        assert!(process["resident_kb"].as_u64().is_some_and(|kb| kb > 0), "{process}");
    }
    hotpair(["bench", "attach", "--pair", &regions[1], "--seconds", "1s"])
        .exits(1)
        .one_error()
        .says("requests are served by a primary");
    assert_eq!(demo.wait().code(), Some(0), "the demo lost nothing");
}

#[test]
fn a_pair_that_is_not_there_is_named() {
    hotpair(["bench", "attach"]).exits(2).says("--pair");
    hotpair(["bench", "attach", "--pair", "no-such-pair"])
        .exits(3)
        .one_error()
        .says("no-such-pair");
}
