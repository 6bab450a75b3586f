//! A real browser, led by `follow.js`, which says what it wants to happen to the pair.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Running, bound_program, eventually};

/// Runs the script, and `act`s on what it says, to its end.
#[track_caller]
pub(crate) fn follow(urls: &[String; 2], mut act: impl FnMut(&str)) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dashboard");
    let (Some(browser), Some(node)) = (found(&["chromium", "chromium-browser"]), found(&["node"]))
    else {
        return skip("no chromium or no node (Debian: apt-get install chromium nodejs npm)");
    };
    if !dir.join("node_modules/playwright-core").is_dir() {
        let Some(npm) = found(&["npm"]) else {
            return skip("no npm (Debian: apt-get install npm)");
        };
        let installed = Command::new(npm).arg("ci").current_dir(&dir).stdin(Stdio::null()).output();
        let installed = installed.expect("it was found");
        assert!(installed.status.success(), "npm ci: {installed:?}");
    }
    let mut command = bound_program(node.to_str().expect("text"));
    command.arg(dir.join("follow.js")).arg(browser).args(urls);
    // The script for screenshots in docs sets it.
    command.args(std::env::var_os("HOTPAIR_SHOTS"));
    let mut script = Running::start(
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()),
    );
    let lines = BufReader::new(script.0.stdout.take().expect("piped")).lines();
    let mut last = String::new();
    for line in lines.map_while(Result::ok) {
        println!("the browser: {line}");
        act(&line);
        last = line;
    }
    assert!(script.wait().success() && last == "done", "it ended after {last:?}");
}

fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    eprintln!("skipped: {why}");
}

fn found(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let files =
        std::env::split_paths(&path).flat_map(|at| names.iter().map(move |name| at.join(name)));
    files.into_iter().find(|file| file.is_file())
}

/// Waits until somebody listens.
#[track_caller]
pub(crate) fn listening(address: &str) {
    eventually("it listens", || std::net::TcpStream::connect(address).is_ok());
}
