//! Each bench that needs nothing but this crate runs, briefly, and reports in the documented form.

use std::time::Duration;

use hotpair_perf::{Options, find};

/// Regions that a bench of this process left.
fn leftovers(bench: &str) -> Vec<String> {
    let start = format!("hotpair.bench-{bench}-");
    let own = std::process::id().to_string();
    // A pair's regions are told apart by `a-` and `b-`.
    let is_ours = |name: &String| {
        name.strip_prefix(&start)
            .is_some_and(|rest| rest.trim_start_matches(['a', 'b', '-']) == own)
    };
    std::fs::read_dir("/dev/shm")
        .expect("a Linux host")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(is_ours)
        .collect()
}

#[test]
fn claim_runs_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = Options {
        seconds: Some(Duration::from_millis(200)),
        hgrm: Some(directory.path().join("claim.hgrm")),
        hlog: Some(directory.path().join("claim.hlog")),
        ..Options::default()
    };
    let report = find("claim").expect("it is registered").run(&options).expect("room in /dev/shm");
    println!("{report}");
    let json = serde_json::to_value(&report).expect("plain data");
    assert_eq!((&json["bench"], &json["unit"]), (&"claim".into(), &"ns".into()));
    for figure in ["n", "p50", "p99", "p999", "max"] {
        assert!(json[figure].as_u64().is_some_and(|value| value > 0), "{figure}: {json}");
    }
    let ratio =
        json["p50"].as_f64().expect("a number") / json["limit"]["p50"].as_f64().expect("too");
    let reported = json["ratio"].as_f64().expect("a number");
    assert!((ratio - reported).abs() < 0.01, "{json}");
    assert!(reported >= 0.5, "the limit is not slower than the thing: {json}");
    for file in ["claim.hgrm", "claim.hlog"] {
        let bytes = std::fs::read(directory.path().join(file)).expect("it was asked for");
        assert!(bytes.starts_with(b"#") || bytes.starts_with(b" "), "{file}");
    }
    assert_eq!(leftovers("claim"), [""; 0]);
}

#[test]
fn claim_cold_runs_on_a_few_objects() {
    let options = Options {
        seconds: Some(Duration::from_millis(200)),
        objects: Some(5_000),
        ..Options::default()
    };
    let report = find("claim-cold").expect("it is registered").run(&options).expect("room");
    println!("{report}");
    let json = serde_json::to_value(&report).expect("plain data");
    assert_eq!((&json["bench"], &json["unit"]), (&"claim-cold".into(), &"ns".into()));
    assert!(json["n"].as_u64().is_some_and(|n| n >= 2_000), "{json}");
    assert!(json["limit"]["p50"].as_u64().is_some_and(|p50| p50 > 0), "{json}");
    assert!(json["peer"].is_null(), "{json}");
    assert_eq!(leftovers("claim-cold"), [""; 0]);
}

#[test]
fn memory_fills_a_region_and_works_on_it() {
    let options = Options {
        seconds: Some(Duration::from_millis(200)),
        objects: Some(50_000),
        ..Options::default()
    };
    let bench = find("memory").expect("it is registered");
    let report = bench.run(&options).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    println!("{report}");
    let json = serde_json::to_value(&report).expect("plain data");
    assert_eq!((&json["bench"], &json["unit"]), (&"memory".into(), &"bytes".into()));
    assert_eq!(json["limit"], serde_json::json!({"what": "value size", "bytes": 256}));
    let ratio = json["bytes_per_object"].as_f64().expect("a number") / 256.0;
    assert!((ratio - json["ratio"].as_f64().expect("too")).abs() < 0.01, "{json}");
    assert!(ratio > 1.0, "more than the values alone: {json}");
    assert_eq!(leftovers("memory"), [""; 0]);
}

#[test]
fn commit_ack_forms_a_pair_and_measures_it() {
    let options = Options { seconds: Some(Duration::from_millis(500)), ..Options::default() };
    let bench = find("commit-ack").expect("it is registered");
    let report = bench.run(&options).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    println!("{report}");
    let json = serde_json::to_value(&report).expect("plain data");
    assert_eq!((&json["bench"], &json["unit"]), (&"commit-ack".into(), &"us".into()));
    assert!(json["n"].as_u64().is_some_and(|n| n >= 200), "{json}");
    assert_eq!(leftovers("commit-ack"), [""; 0]);
}

/// Runs a bench of the pair with these options, and expects the report's common fields.
#[track_caller]
fn report_of(name: &str, unit: &str, options: &Options) -> serde_json::Value {
    let bench = find(name).expect("it is registered");
    let report = bench.run(options).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    println!("{report}");
    let json = serde_json::to_value(&report).expect("plain data");
    assert_eq!((&json["bench"], &json["unit"]), (&name.into(), &unit.into()));
    assert!(json["n"].as_u64().is_some_and(|n| n > 0), "{json}");
    assert!(json["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{json}");
    assert_eq!(leftovers(name), [""; 0]);
    json
}

fn briefly() -> Options {
    Options { seconds: Some(Duration::from_millis(300)), ..Options::default() }
}

#[test]
fn commit_ack_measures_nodes_that_poll() {
    let json = report_of("commit-ack", "us", &Options { busy_poll: true, ..briefly() });
    assert!(json["limit"]["p99"].as_f64() >= json["limit"]["p50"].as_f64(), "{json}");
    // Where Redis is not installed there is no peer.
    assert!(json["peer"].is_null() || json["peer"]["ratio"].is_number(), "{json}");
}

#[test]
fn delta_tells_both_sides() {
    let json = report_of("delta", "ns", &briefly());
    let sides = ["encode", "apply"].map(|side| json[side]["p50"].as_f64().expect("a figure"));
    assert_eq!(json["p50"].as_f64(), Some(sides[0].max(sides[1])), "the dearer one: {json}");
}

#[test]
fn replicate_counts_what_is_released() {
    let json = report_of("replicate", "per_s", &briefly());
    for side in [&json, &json["limit"]] {
        assert!(side["per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{json}");
    }
}

#[test]
fn resync_brings_an_empty_backup_into_step() {
    let options = Options { runs: Some(2), objects: Some(20_000), ..Options::default() };
    let json = report_of("resync", "ms", &options);
    assert_eq!(json["n"], 2);
    for part in ["commit_ack_alone", "commit_ack_during", "commit_ack_in_step"] {
        assert!(json[part]["p99"].as_f64().is_some_and(|us| us > 0.0), "{part}: {json}");
    }
}

#[test]
fn remote_measures_two_round_trips_and_many_at_once() {
    let json = report_of("remote", "us", &briefly());
    assert!(json["limit"]["p50"].as_f64().is_some_and(|us| us > 0.0), "{json}");
    let json = report_of("remote", "per_s", &Options { inflight: Some(64), ..briefly() });
    assert!(json["limit"]["per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{json}");
}

/// The figures of a row of the only table.
fn row(json: &serde_json::Value, at: usize) -> Vec<f64> {
    let values = json["sheets"][0]["rows"][at]["values"].as_array().expect("figures");
    values.iter().map(|value| value.as_f64().expect("a figure")).collect()
}

#[test]
fn wire_counts_what_passes_between_the_nodes() {
    let bench = find("wire").expect("it is registered");
    for few in [false, true] {
        let options = Options { few, ..briefly() };
        let report = bench.run(&options).unwrap_or_else(|error| panic!("{error}: {error:?}"));
        println!("{report}");
        let json = serde_json::to_value(&report).expect("plain data");
        let value_bytes = if few { 65_536.0 } else { 256.0 };
        let rows = json["sheets"][0]["rows"].as_array().expect("rows").len();
        for at in 0..rows {
            let row = row(&json, at);
            let (of_value, a_commit, datagrams) = (row[1], row[2], row[3]);
            assert!((of_value - a_commit / value_bytes).abs() <= 0.01 + of_value * 0.01, "{json}");
            assert!(a_commit > 28.0 * datagrams && datagrams > 0.0, "{json}");
        }
        // The whole value has to cross when all of it changes: encrypted bytes cannot be fewer.
        let whole = if few { rows - 1 } else { 0 };
        assert!(row(&json, whole)[1] > 1.0, "{json}");
        let told = json["figure"].as_f64().expect("a figure");
        assert!((told - row(&json, 0)[usize::from(few)]).abs() <= 0.01, "{json}");
        assert_eq!(leftovers("wire"), [""; 0]);
    }
}
