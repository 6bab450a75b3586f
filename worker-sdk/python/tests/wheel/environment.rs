//! An environment of Python with the wheel in it.
#![allow(dead_code, reason = "each test uses its own part of this")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The package's folder, of its own tests and of those of the whole program.
pub(crate) fn here() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let of_the_program = tests.join("worker-sdk/python");
        if of_the_program.is_dir() { of_the_program } else { tests.to_owned() }
    })
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("a program");
    let (out, err) = (output.stdout, output.stderr);
    let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Its interpreter; `None`, with a reason, where Python cannot be had. Under CI that is a failure.
pub(crate) fn environment() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match MADE.get_or_init(make) {
        Ok(python) => Some(python),
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            println!("skipped: {reason}");
            None
        }
    }
}

/// Whether a command succeeds.
fn succeeds(command: &mut Command) -> bool {
    let asked = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

fn make() -> Result<PathBuf, String> {
    let version = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
    if !succeeds(Command::new("python3").args(["-c", version])) {
        return Err("there is no python3 of version 3.11 with venv and pip".to_owned());
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let made = alone(&place);
    let (environment, wheels) = (place.join("environment"), place.join("wheels"));
    let python = environment.join("bin/python");
    let has_tools =
        || succeeds(Command::new(&python).args(["-c", "import maturin, pytest, numpy, mypy"]));
    if !has_tools() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        let mut install = Command::new(&python);
        install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "maturin>=1.9,<2",
            "pytest",
            "numpy",
            "mypy",
        ]);
        if !succeeds(&mut install) {
            return Err("pip cannot install maturin, pytest, numpy and mypy".to_owned());
        }
    }
    let _ = std::fs::remove_dir_all(&wheels);
    let mut build = Command::new(&python);
    build.args(["-m", "maturin", "build", "--quiet", "--locked", "--out"]).arg(&wheels);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    // What cargo says to its tests is not meant for the cargo that maturin calls.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            build.env_remove(name);
        }
    }
    run(build.current_dir(here()));
    let wheel = std::fs::read_dir(&wheels).ok().and_then(|mut found| found.next()?.ok());
    let wheel = wheel.expect("maturin has built a wheel").path();
    assert!(wheel.to_string_lossy().contains("-cp311-abi3-"), "{wheel:?} is for one version only");
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]);
    run(install.arg(wheel));
    made.lock_shared().expect("a file of our own");
    std::mem::forget(made);
    Ok(python)
}

/// Other tests use the same environment: who makes it is alone, and none is made anew while another test runs in it.
fn alone(place: &Path) -> File {
    let file = File::create(place.join("lock")).expect("a place for temporary files");
    file.lock().expect("a file of our own");
    file
}
