//! Workers in Rust, C and Python beside each other in real pairs, of which a node or a whole side is killed while they work. The
//! demo's client keeps count.

mod support;

#[path = "../worker-sdk/python/tests/wheel/environment.rs"]
mod environment;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{Ended, hotpair};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The worker in C. `None`, with a reason, where there is no compiler; under CI that is a failure.
fn in_c() -> Option<PathBuf> {
    if Command::new("gcc").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "gcc is missing");
        println!("skipped: there is no gcc");
        return None;
    }
    let _ = hotpair_worker_c::HOTPAIR_KEY_BYTES_MAX; // so that its library is built
    let test = std::env::current_exe().expect("this test");
    let libraries = test.parent().expect("its folder");
    // One for each test: they run at the same time.
    let own = std::thread::current().name().unwrap_or("demo").replace(':', "-");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("languages-{own}"));
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-I"]);
    gcc.arg(Path::new(HERE).join("worker-sdk/c/include"));
    gcc.arg(Path::new(HERE).join("tests/languages/demo.c")).arg("-o").arg(&program);
    gcc.arg("-L").arg(libraries).arg("-lhotpair_worker_c");
    // Before what the environment names: an older build may have left its library there.
    let rpath = format!("-Wl,--disable-new-dtags,-rpath,{}", libraries.display());
    environment::run(gcc.arg(rpath));
    Some(program)
}

/// One worker of each language, as the demo is told of them.
fn workers() -> Option<[String; 3]> {
    let (python, c) = (environment::environment()?, in_c()?);
    let script = Path::new(HERE).join("tests/languages/demo.py");
    Some(["own".to_owned(), json!([c]).to_string(), json!([python, script]).to_string()])
}

fn demo(workers: &[String], arguments: &[&str]) -> Ended {
    let usual = ["demo", "--json", "--seconds=4", "--rate=800"].map(str::to_owned);
    let workers = workers.iter().map(|worker| format!("--worker={worker}"));
    let arguments = arguments.iter().map(|&argument| argument.to_owned());
    hotpair(usual.into_iter().chain(workers).chain(arguments))
}

/// Nothing lost, nothing doubled, and whoever is alive at the end has worked.
fn goes_well(workers: &[String], arguments: &[&str]) -> Value {
    let ended = demo(workers, arguments);
    ended.exits(0);
    let json = ended.json();
    assert_eq!(json["verdict"], "ok", "{json:#}");
    for field in ["lost", "duplicated", "diverged", "unanswered"] {
        assert_eq!(json[field], 0, "{field} in {json:#}");
    }
    let commits = json["workers"].as_array().expect("the workers");
    assert_eq!(commits.len(), workers.len() + 1, "and the one that joins: {json:#}");
    let worked = |worker: &Value| worker["commits"].as_u64() > Some(0);
    assert!(commits.iter().all(worked), "{json:#}");
    json
}

fn mixed(arguments: &[&str]) {
    let Some(workers) = workers() else { return };
    goes_well(&workers, arguments);
}

#[test]
fn workers_of_three_languages_outlive_the_primary() {
    mixed(&["--kill=primary"]);
    mixed(&["--kill=node"]);
}

#[test]
fn workers_of_three_languages_outlive_the_backup() {
    mixed(&["--kill=backup"]);
}

#[test]
fn workers_of_three_languages_on_another_host_outlive_either_node() {
    for victim in ["primary", "node", "backup"] {
        mixed(&["--remote", "--kill", victim]);
    }
}

/// Goal: whichever language is alone, its work goes on at the other node.
#[test]
fn each_language_alone_outlives_the_primary() {
    let Some([_, c, python]) = workers() else { return };
    for worker in [c, python] {
        let two = [worker.clone(), worker];
        goes_well(&two, &["--kill=primary"]);
        goes_well(&two, &["--kill=backup"]);
        goes_well(&two, &["--kill=primary", "--remote"]);
    }
}

/// Goal: the control. Without replication the same workers tell of what is gone, near and far.
#[test]
fn without_replication_every_language_loses() {
    let Some([_, c, python]) = workers() else { return };
    for arguments in [&["--commit=local"][..], &["--commit=local", "--remote"]] {
        for worker in [&c, &python] {
            let two = [worker.clone(), worker.clone()];
            let ended = demo(&two, arguments);
            ended.exits(1);
            assert_eq!(ended.json()["verdict"], "lost", "{:#}", ended.json());
        }
    }
}
