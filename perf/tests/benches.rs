//! Each bench that needs nothing but this crate runs, briefly, and reports in the documented form.

use std::time::Duration;

use hotpair_perf::{Options, find};

/// Regions that a bench of this process left.
fn leftovers(bench: &str) -> Vec<String> {
    let start = format!("hotpair.bench-{bench}-");
    let own = format!("-{}", std::process::id());
    std::fs::read_dir("/dev/shm")
        .expect("a Linux host")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(&start) && name.ends_with(&own))
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
