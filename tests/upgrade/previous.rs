//! The program of the version before, built once from this repository's own history.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};

/// Its path. Who comes first builds it, in a place of its own below the target directory; the others wait.
pub(crate) fn program() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = fs::read_to_string(here.join("tests/upgrade/previous")).expect("it names a commit");
    let commit = named.lines().find(|line| !line.starts_with('#')).expect("it names a commit");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("previous").join(commit);
    fs::create_dir_all(&place).expect("the target directory is writable");
    let lock = File::create(place.join("lock")).expect("writable");
    let lock = Flock::lock(lock, FlockArg::LockExclusive);
    let _lock = lock.map_err(|(_, error)| error).expect("a lock");
    let program = place.join("hotpair");
    if !program.exists() {
        let built = build(here, commit, &place);
        // Under its name there is a whole one, or none.
        fs::rename(built, &program).expect("the same directory");
    }
    program
}

fn build(here: &Path, commit: &str, place: &Path) -> PathBuf {
    let (source, target, archive) =
        (place.join("source"), place.join("target"), place.join("source.tar"));
    let git = || {
        let mut git = Command::new("git");
        git.current_dir(here);
        git
    };
    let here_already = git().args(["cat-file", "-e", commit]).stderr(Stdio::null()).status();
    if !here_already.is_ok_and(|status| status.success()) {
        // A shallow clone: what does not come is said by the next command.
        let _ = git().args(["fetch", "--quiet", "--depth=1", "origin", commit]).status();
    }
    let mut git = git();
    git.args(["archive", "--format=tar", "-o"]).arg(&archive).arg(commit);
    run(
        &mut git,
        &format!(
            "commit {commit} is needed from this repository's history: `git fetch --unshallow`, in a full clone"
        ),
    );
    let _ = fs::remove_dir_all(&source);
    let mut files = tar::Archive::new(File::open(&archive).expect("git wrote it"));
    files.unpack(&source).expect("git archives are whole");
    fs::remove_file(&archive).expect("our own file");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--bin", "hotpair", "--target-dir"]).arg(&target);
    cargo.current_dir(&source);
    // Of this build, not of that one.
    let ours = std::env::vars_os().filter(|(name, _)| is_of_cargo(name));
    for (name, _) in ours {
        cargo.env_remove(name);
    }
    run(&mut cargo, "the version before must be built");
    target.join("debug/hotpair")
}

fn is_of_cargo(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_"].iter().any(|lead| name.starts_with(lead))
        || name == "CARGO_TARGET_DIR"
}

fn run(command: &mut Command, what: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}\n{command:?} says: {said}");
}
