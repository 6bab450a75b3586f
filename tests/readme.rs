//! The README: what it shows is printed, and its pair by hand serves, changes roles and outlives its primary.

#[path = "service/processes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod processes;
mod support;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{HOTPAIR, RegionName, Running, eventually, family, hotpair, loopback};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(here().join("README.md")).expect("there is one")
}

/// The blocks of this language.
fn blocks(readme: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let ends = readme.split(fence.as_str()).skip(1);
    ends.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// The words of a line that are the same in every run: no numbers, no units.
fn words(line: &str) -> Vec<&str> {
    let is_word = |word: &&str| {
        !word.contains(|c: char| c.is_ascii_digit()) && !["ns", "us", "ms", "s"].contains(word)
    };
    line.split([' ', ',', ';', '(', ')']).filter(|word| !word.is_empty()).filter(is_word).collect()
}

/// Goal: every line of the demo that the README shows is there, whatever its figures are.
#[test]
fn the_demo_prints_what_is_shown() {
    let shown = blocks(&readme(), "text");
    let shown = shown.iter().find(|block| block.contains("verdict: ok")).expect("the demo's");
    let ended = hotpair(["demo", "--seconds=3", "--rate=1000"]);
    let printed: Vec<_> = ended.exits(0).stdout.lines().map(words).collect();
    for line in shown.lines() {
        assert!(printed.contains(&words(line)), "no line like {line:?} in {}", ended.stdout);
    }
}

/// Goal: who follows "A pair by hand" has a pair that counts, in whatever terminals.
#[test]
fn the_pair_by_hand_serves() {
    let readme = readme();
    let all = blocks(&readme, "sh");
    let block = |begins: &str| all.iter().find(|block| block.starts_with(begins)).expect(begins);
    let (build, serve) = (block("cargo build --release"), block("# terminal 1"));
    let status = "hotpair status --region echo-a";
    let failover = "hotpair failover --region echo-a";
    for command in [status, failover] {
        assert!(readme.contains(&format!("`{command}`")), "{command}");
    }

    let place = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| place.path().join(name);
    let ip = loopback(61);
    let regions = [RegionName::new("readme-a"), RegionName::new("readme-b")];
    let ours = |text: &str| {
        text.replace("/tmp/echo-pair", &at("echo-pair").display().to_string())
            .replace("127.0.0.1", &ip)
            .replace("echo-a", &regions[0].0)
            .replace("echo-b", &regions[1].0)
    };
    fs::create_dir_all(at("docs/pair")).expect("a folder");
    let echo = processes::example("echo").display().to_string();
    for node in ["a.toml", "b.toml"] {
        let text = fs::read_to_string(here().join("docs/pair").join(node)).expect("it is there");
        let text = ours(&text).replace("../../target/release/examples/echo", &echo);
        fs::write(at("docs/pair").join(node), text).expect("a file");
    }
    // What it builds is there.
    fs::create_dir(at("bin")).expect("a folder");
    let program = |name: &str, text: &str| {
        let path = at("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    };
    program("cargo", "[ \"$1\" = build ]");
    program("hotpair", &format!("exec {HOTPAIR} under --parent $PPID -- {HOTPAIR} \"$@\""));

    let mut script = "set -e; trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT\n".to_owned();
    script += &ours(build);
    for line in ours(serve).lines() {
        let in_front = line.starts_with("hotpair ") && !line.ends_with('&');
        script += &format!("{line}{}\n", if in_front { " &" } else { "" });
    }
    script += "wait\n";
    fs::write(at("script"), &script).expect("a file");
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap_or_default());
    let mut bash = support::bound_program("bash");
    bash.arg(at("script")).current_dir(place.path()).env("PATH", path);
    let bash = Running::start(bash.stdin(Stdio::null()).stdout(Stdio::null()));

    let run = |command: &str| hotpair(ours(command).split(' ').skip(1));
    let serves = || {
        let seen = run(status);
        seen.code == Some(0) && seen.stdout.contains(": primary")
    };
    eventually("node a is primary and protected", serves);
    let client = UdpSocket::bind((ip.as_str(), 0)).expect("a port");
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a time");
    let mut count = 0;
    let mut counts_on = |when: &str| {
        let before = count;
        eventually(when, || {
            client.send_to(b"hello", (ip.as_str(), 7000)).expect("it can be sent");
            let mut answer = [0; 256];
            let Ok(bytes) = client.recv(&mut answer) else { return false };
            let answer = String::from_utf8_lossy(&answer[..bytes]).into_owned();
            assert!(answer.contains("hello"), "{answer}");
            let numbers =
                answer.split(|c: char| !c.is_ascii_digit()).find_map(|word| word.parse().ok());
            count = numbers.unwrap_or_else(|| panic!("no count in {answer}"));
            assert!(count >= before, "{count} after {before}: it has begun anew {when}");
            count > before
        });
    };
    counts_on("the pair answers");
    for _ in 0..2 {
        eventually("roles change", || run(failover).code == Some(0));
        counts_on("after a change of roles");
    }
    eventually("node a is primary and protected again", serves);
    let of_a = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        words.contains(&&b"node"[..]) && words.contains(&&b"docs/pair/a.toml"[..])
    };
    let terminal_2 = family(bash.pid()).into_iter().find(of_a).expect("node a runs");
    for pid in family(terminal_2) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    counts_on("after the death of terminal 2");
    drop(bash);
}
