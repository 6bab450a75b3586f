//! A run of several benches: its file, the comparison of two of them, and its page as a browser shows it.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::hotpair;

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("it was written");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// Goal: the registry is complete, and says of each bench what a reader needs.
#[test]
fn all_benches_are_listed() {
    let list = hotpair(["bench", "list", "--json"]);
    list.exits(0);
    let benches = list.json();
    let benches = benches.as_array().expect("an array");
    let names: Vec<&str> = benches.iter().filter_map(|bench| bench["name"].as_str()).collect();
    #[rustfmt::skip]
    let documented = [
        "claim", "claim-cold", "handoff", "handoff-rate", "contend", "wake", "reap", "memory", "delta", "commit-ack", "replicate",
        "resync", "failover", "wire", "cost", "scale", "udp-echo", "udp-rate", "replay", "remote", "queue-wait", "status",
        "resp",
    ];
    for name in documented {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    for bench in benches {
        for field in ["question", "method", "limit", "unit"] {
            assert!(bench[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {bench}");
        }
    }
    let people = hotpair(["bench"]);
    people.exits(0);
    assert_eq!(people.stdout, hotpair(["bench", "list"]).stdout);
}

/// Goal: a run has a line for each bench and round, in which the bench's own object is whole.
#[test]
fn a_run_is_written_compared_and_drawn() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let (old, new, page) = (path("old.jsonl"), path("new.jsonl"), path("page.html"));
    let all = |out: &Path, more: &[&str]| {
        let out = out.display().to_string();
        let line = ["bench", "all", "claim", "delta", "--seconds", "50ms", "--runs", "2", "--out"];
        hotpair(line.into_iter().chain([out.as_str()]).chain(more.iter().copied()))
    };
    let people = all(&old, &["--html", &page.display().to_string()]);
    people.exits(0);
    for part in ["claim", "delta", "at most 120 ns", "written: "] {
        assert!(people.stdout.contains(part), "{part}: {}", people.stdout);
    }
    let written = lines(&old);
    assert_eq!((written.len(), &written[0]["bench"]), (5, &"all".into()));
    assert!(written[0]["machine"]["kernel"].is_string(), "{}", written[0]);
    for (line, (bench, round)) in
        written[1..].iter().zip([("claim", 1), ("delta", 1), ("claim", 2), ("delta", 2)])
    {
        assert_eq!(
            (&line["bench"], &line["round"], &line["unit"]),
            (&bench.into(), &round.into(), &"ns".into())
        );
        for field in ["/p50", "/limit/p50", "/noise/hiccup_max_us"] {
            assert!(line.pointer(field).is_some_and(Value::is_number), "{field}: {line}");
        }
    }

    let array = all(&new, &["--json"]);
    array.exits(0);
    assert_eq!(array.json(), Value::Array(lines(&new)), "stdout and file say the same");

    let compared = hotpair([
        "bench",
        "compare",
        &old.display().to_string(),
        &old.display().to_string(),
        "--json",
    ]);
    compared.exits(0);
    let compared = compared.json();
    let rows = compared["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{compared}");
    for row in rows {
        assert_eq!((&row["moved"], &row["change"]), (&"within".into(), &1.0.into()), "{row}");
    }

    shown(&page, 4);
}

/// Goal: a curve is measured once however many rounds there are, and the page draws each.
#[test]
fn curves_are_measured_once_and_drawn() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let (out, page) = (path("run.jsonl"), path("page.html"));
    let (out_is, page_is) = (out.display().to_string(), page.display().to_string());
    let line = ["bench", "all", "delta", "scale", "--seconds", "10ms", "--runs", "2"];
    let more = ["--out", &out_is, "--html", &page_is];
    hotpair(line.into_iter().chain(more)).exits(0);
    let written = lines(&out);
    let count = |name: &str| written.iter().filter(|line| line["bench"] == name).count();
    assert_eq!((count("delta"), count("scale")), (2, 5), "{written:?}");
    // Two of delta, one of each curve, and depth has two.
    shown(&page, 8);
}

/// Goal: a script hears by the exit code that something got worse beyond its spread, and of nothing else.
#[test]
fn a_comparison_says_what_got_worse() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = |name: &str, figures: &[f64]| -> String {
        let line = |p50: &f64| {
            json!({"v": 1, "bench": "claim", "unit": "ns", "p50": p50, "limit": {"what": "l", "p50": 100}}).to_string()
        };
        let text: Vec<String> = figures.iter().map(line).collect();
        let path = directory.path().join(name);
        std::fs::write(&path, text.join("\n")).expect("written");
        path.display().to_string()
    };
    let old = run("old", &[150.0, 151.0, 152.0]);
    let cases = [
        ("same", [151.0, 152.0, 150.0], 0, "within the spread"),
        ("worse", [180.0, 181.0, 182.0], 7, "WORSE"),
        ("better", [120.0, 121.0, 122.0], 0, "better"),
    ];
    for (name, figures, code, word) in cases {
        let compared = hotpair(["bench", "compare", &old, &run(name, &figures)]);
        compared.exits(code);
        assert!(compared.stdout.contains(word), "{name}: {}", compared.stdout);
    }
    hotpair(["bench", "compare", &old]).exits(2).one_error();
    hotpair(["bench", "compare", &old, "/no/such/run"]).exits(1).one_error();
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in
        ["no-such-bench", "all no-such-bench", "all --hgrm x", "all --objects 500", "claim 12s"]
    {
        hotpair(std::iter::once("bench").chain(line.split(' '))).exits(2).one_error();
    }
    hotpair(["bench", "claim", "--seconds", "x"]).exits(2);
}

/// The browser that CI installs, or another of its kind.
fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).flat_map(|at| names.map(|name| at.join(name)));
    found.into_iter().find(|file| file.is_file())
}

/// Lets a browser lay the page out and run its script, on a wide window and a narrow one.
#[track_caller]
fn shown(page: &Path, plots: u32) {
    let Some(browser) = chromium() else {
        assert!(std::env::var("CI").is_err(), "there is no chromium to show the page in");
        eprintln!("skipped: there is no chromium to show the page in");
        return;
    };
    let text = std::fs::read_to_string(page).expect("it was written");
    for fetched in ["http:", "https:", "src=", "@import"] {
        assert!(!text.contains(fetched), "the page fetches something: {fetched}");
    }
    let profile = tempfile::tempdir().expect("a temporary directory");
    for width in [1280, 700] {
        let browsed = Command::new(&browser)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--dump-dom",
            ])
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .arg(format!("--window-size={width},1600"))
            .arg(format!("file://{}", page.display()))
            .stdin(Stdio::null())
            .output()
            .expect("it is installed");
        let seen = String::from_utf8_lossy(&browsed.stdout);
        assert!(browsed.status.success(), "{}", String::from_utf8_lossy(&browsed.stderr));
        // The script sets these at its end: it ran, nothing threw, and nothing sticks out of the window.
        assert!(
            seen.contains(&format!("data-plots=\"{plots}\"")),
            "there are not {plots} plots: {seen}"
        );
        assert!(
            seen.contains("data-fits=\"true\""),
            "at {width} the page is wider than its window"
        );
    }
}
