//! Two hosts, a witness and a client in network namespaces, and every fault of `tests/hosts`: `hotpair lab run` does the
//! work and gives the verdict, and this asks for it one scenario at a time.
//!
//! Needs root, network namespaces, iproute2 and nftables; says so and passes without them, except where `CI=true` promises
//! that they are there.

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Running, bound, eventually, hotpair, regions_with};

/// Two labs at once would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(format!("{name}.toml"))
}

/// What the exit code 5 says: the network cannot be made here.
const REFUSED: i32 = 5;

fn scenario(name: &str) {
    let _alone = alone();
    let ended = hotpair(["lab".as_ref(), "run".as_ref(), file(name).as_os_str()]);
    if ended.code == Some(REFUSED) {
        assert!(std::env::var("CI").is_err(), "the lab is needed: {}", ended.stderr);
        eprintln!("skipped: {}", ended.stderr.trim());
        return;
    }
    // With the phases, for those who look: cargo test --test hosts -- --nocapture
    println!("{name}: {}", ended.stdout.trim());
    ended.exits(0);
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            scenario(stringify!($name));
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

scenarios!(
    arbiter_down,
    backup_isolated,
    backup_reboots,
    deaf_backup,
    deaf_primary,
    host_killed,
    host_killed_ipv6,
    host_killed_without_replication,
    host_killed_without_take_over,
    lossy,
    node_killed,
    pair_cut,
    planned,
    power_off,
    primary_isolated,
    steady,
    stopped_100,
    stopped_1000,
    stopped_25,
);

#[test]
fn every_scenario_is_run() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    let files = std::fs::read_dir(dir).expect("the scenarios are there");
    let mut found: Vec<String> = files
        .map(|entry| entry.expect("a readable directory").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    found.sort();
    assert_eq!(found, NAMES);
}

#[test]
fn a_scenario_that_makes_no_sense_is_blamed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("scenario.toml");
    let load = "goal = \"none\"\n[load]\nrate = 10\nseconds = 1\n[[step]]\n";
    for (step, why) in [
        ("do = \"kill-node\"\nhost = \"a\"", "either `at` or `after`"),
        ("at = \"1s\"\ndo = \"kill-node\"", "needs a `host`"),
        ("at = \"1s\"\ndo = \"cut\"\nhost = \"a\"", "needs a `link`"),
        ("at = \"1s\"\ndo = \"stop-host\"\nhost = \"a\"", "needs a `for`"),
        ("at = \"1s\"\ndo = \"hope\"", "unknown variant `hope`"),
    ] {
        std::fs::write(&path, format!("{load}{step}\n")).expect("a writable directory");
        let ended = hotpair(["lab".as_ref(), "run".as_ref(), path.as_os_str()]);
        ended.exits(78).says(why).one_error();
    }
}

/// Goal: a lab that is interrupted takes its namespaces, processes and regions along.
#[test]
fn an_interrupted_lab_leaves_nothing() {
    let _alone = alone();
    let mut command = bound();
    command.args(["lab", "run"]).arg(file("steady")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut lab = Running::start(&mut command);
    let pid = lab.pid();
    let spaces = || {
        let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        names
            .filter(|name| name.file_name().to_string_lossy().contains(&format!("hplab{pid}")))
            .count()
    };
    let region = format!("lab-{pid}");
    let mut refused = false;
    eventually("its hosts are there", || {
        refused = lab.0.try_wait().expect("our own child").is_some();
        refused || !regions_with(&region).is_empty()
    });
    if refused {
        assert!(std::env::var("CI").is_err(), "the lab is needed, and was refused");
        eprintln!("skipped: needs root and network namespaces");
        return;
    }
    assert!(spaces() > 0);
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our own child");
    lab.wait();
    assert_eq!((spaces(), regions_with(&region)), (0, Vec::new()));
}
