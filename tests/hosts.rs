//! Two hosts, a witness and a client in network namespaces, and every fault of `tests/hosts`: `hotpair lab run` does the
//! work and gives the verdict, and this asks for it one scenario at a time.
//!
//! Needs root, network namespaces, iproute2 and nftables; says so and passes without them, except where `CI=true` promises
//! that they are there.

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{PoisonError, RwLock};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Running, bound, eventually, hotpair, regions_with};

/// Labs run beside each other, but for those that say `alone`: they are about time-outs.
static MACHINE: RwLock<()> = RwLock::new(());

/// As much of a scenario as this test has to know.
#[derive(serde::Deserialize)]
struct Facts {
    #[serde(default)]
    long: bool,
    #[serde(default)]
    alone: bool,
}

fn facts(name: &str) -> Facts {
    let text = std::fs::read_to_string(file(name)).expect("the scenario is there");
    toml::from_str(&text).expect("a scenario")
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(format!("{name}.toml"))
}

/// What the exit code 5 says: the network cannot be made here.
const REFUSED: i32 = 5;

fn scenario(name: &str) {
    let alone = facts(name).alone;
    let _alone = alone.then(|| MACHINE.write().unwrap_or_else(PoisonError::into_inner));
    let _beside = (!alone).then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner));
    let ended = hotpair(["lab".as_ref(), "run".as_ref(), file(name).as_os_str()]);
    if ended.code == Some(REFUSED) {
        assert!(std::env::var("CI").is_err(), "the lab is needed: {}", ended.stderr);
        eprintln!("skipped: {}", ended.stderr.trim());
        return;
    }
    // With the phases and the time, for those who look: cargo test --test hosts -- --nocapture
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
    address_taken,
    address_taken_ipv6,
    apart,
    arbiter_answer_lost,
    arbiter_down,
    arbiter_down_backup,
    arbiter_empty,
    backup_admitted,
    backup_isolated,
    backup_power_off,
    backup_reboots,
    backup_returns_1s,
    backup_returns_empty,
    backup_slow,
    backup_stopped,
    backup_syncing,
    both_killed,
    both_killed_empty,
    both_networks_cut,
    burst,
    client_cut_off,
    deaf_backup,
    deaf_primary,
    disturbed,
    flapping,
    foreign_certificate,
    heartbeats_stopped,
    host_killed,
    host_killed_ipv6,
    host_killed_without_replication,
    host_killed_without_take_over,
    lossy,
    lossy_10,
    node_frozen,
    node_killed,
    node_killed_classes,
    pair_cut,
    planned,
    planned_20,
    port_stopped,
    power_off,
    primary_isolated,
    primary_isolated_without_gate,
    rolling_restart,
    second_network,
    second_network_alone,
    stale_arp,
    steady,
    stopped_100,
    stopped_1000,
    stopped_15,
    stopped_25,
    worker_cut_off,
    worker_cut_off_alone,
    worker_stopped,
    workers_apart,
    workers_know_one_node,
    workers_together,
);

#[test]
fn every_scenario_is_run() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    let files = std::fs::read_dir(dir).expect("the scenarios are there");
    let mut found: Vec<String> = files
        .map(|entry| entry.expect("a readable directory").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|name| !facts(name).long)
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
        ("at = \"1s\"\ndo = \"burst\"\nfor = \"1s\"", "needs `times`"),
        ("at = \"1s\"\nthen = [\"1s\"]\ndo = \"stop-arbiter\"", "follows an `after`"),
        ("at = \"1s\"\ndo = \"disturb\"", "needs a `disturb`"),
        ("at = \"1s\"\ndo = \"flap\"\nlink = \"pair\"\nfor = \"1s\"", "needs an `every`"),
        ("at = \"1s\"\ndo = \"stop\"\nhost = \"a\"\nfor = \"1s\"", "needs a `process`"),
        (
            "at = \"1s\"\ndo = \"drop\"\nhost = \"a\"\nlink = \"lan\"\nfrom = \"workers\"",
            "nobody is remote",
        ),
    ] {
        std::fs::write(&path, format!("{load}{step}\n")).expect("a writable directory");
        let ended = hotpair(["lab".as_ref(), "run".as_ref(), path.as_os_str()]);
        ended.exits(78).says(why).one_error();
    }
}

/// Goal: a lab that is interrupted takes its namespaces, processes and regions along.
#[test]
fn an_interrupted_lab_leaves_nothing() {
    let _beside = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
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
