//! Tells the program which revision of the source it is made of, for its reports.
//!
//! `HOTPAIR_COMMIT` in the environment of the build says it; without it a release build asks git. Where there is neither, nothing
//! fails. Debug builds do not ask: they would be made anew after each commit, and what they measure means nothing.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=HOTPAIR_COMMIT");
    if std::env::var_os("HOTPAIR_COMMIT").is_some() {
        return; // `option_env!` sees it by itself
    }
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        println!("cargo::rerun-if-changed=build.rs");
        return;
    }
    // Written at each commit and each change of branch, wherever the working tree has its files.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    if let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) {
        println!("cargo::rustc-env=HOTPAIR_COMMIT={commit}");
    }
}

/// What git says, in one line.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}
