//! Real calls through the death of their primary's host: sipp calls an address that moves.
//!
//! Two hosts with a node each, a witness and sipp on hosts of their own, in network namespaces (`sip/network.rs`). The
//! primary's host falls silent and everything on it is killed, once while calls ring and are up, once in a storm of
//! re-INVITEs. The control is the same without replication: the address moves, but nobody there knows the calls.
//!
//! Needs root, iproute2 and sipp; says so and passes without them, except where `CI=true` promises that they are there.

#[path = "service/afterwards.rs"]
mod afterwards;
#[path = "sip/caller.rs"]
mod caller;
#[path = "sip/hosts.rs"]
mod hosts;
#[path = "sip/network.rs"]
mod network;
#[path = "service/nodes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod nodes;
#[path = "service/processes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod processes;
#[path = "sip/records.rs"]
mod records;
#[path = "service/spaces.rs"]
mod spaces;
#[path = "sip/storm.rs"]
mod storm;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use caller::{Caller, Calls, Outcome, Seen};
use hosts::Hosts;
use network::{Network, SERVICE};
use nodes::SIDES;
use processes::wait_for;

/// One pair with its load at a time: the machine is small, and each test takes half a minute.
static MACHINE: Mutex<()> = Mutex::new(());

/// What calls there are, and when the primary's host is killed.
struct Load {
    a_second: u32,
    in_all: u32,
    ready: fn(&Seen) -> bool,
}

/// Calls of `calls.xml`: a second of ringing, four of talk.
const CALLS: Load = Load {
    a_second: 100,
    in_all: 1_500,
    ready: |seen| seen.placed >= 500 && seen.up >= 200 && seen.ringing >= 24,
};

/// Calls of `storm.xml`: a second of ringing, then one re-INVITE after the other.
const STORM: Load = Load {
    a_second: 50,
    in_all: 750,
    ready: |seen| seen.placed >= 250 && seen.up >= 40 && seen.ringing >= 12,
};

/// In each call of the storm, with 50 ms between an answer and the next.
const REINVITES: u32 = 30;

/// Goal: no call notices that the primary's host died, whether it rang, was up or was just ending.
#[test]
fn calls_survive_the_death_of_the_host() {
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sip/calls.xml");
    let Some((hosts, survivor, outcome)) = call_and_kill("siphosts", "sync", &CALLS, |_| scenario)
    else {
        return;
    };
    // It rings for a second and talks for four; the timers allow for nothing shorter.
    all_went_well(hosts, survivor, &outcome, &CALLS, 2, 3_900);
}

/// Goal: the same in a storm of re-INVITEs: none is lost, none is carried out twice, and each is answered in its turn.
#[test]
fn a_storm_of_reinvites_survives_the_death_of_the_host() {
    let scenario = |dir: &Path| storm::scenario(dir, REINVITES);
    let Some((hosts, survivor, outcome)) = call_and_kill("sipstorm", "sync", &STORM, scenario)
    else {
        return;
    };
    let talk_ms = u64::from(REINVITES) * 45;
    all_went_well(hosts, survivor, &outcome, &STORM, REINVITES + 1, talk_ms);
}

/// Goal: without replication the same fails, though the address moves, and it is the calls that fail.
#[test]
fn without_replication_the_address_alone_keeps_no_call() {
    let scenario = |dir: &Path| storm::scenario(dir, REINVITES);
    let Some((mut hosts, survivor, outcome)) = call_and_kill("siplost", "local", &STORM, scenario)
    else {
        return;
    };
    assert_eq!(outcome.exit_code, Some(1), "{outcome:?}");
    assert!(outcome.failed >= 40, "so many were up: {outcome:?}");
    assert!(outcome.successful > 100, "but the service went on: {outcome:?}");
    hosts.nodes.stop(survivor);
}

/// Places all calls and kills the primary's host in their middle; gives the host that is left. `None` where this cannot be
/// done.
fn call_and_kill<P: AsRef<Path>>(
    name: &str,
    mode: &str,
    load: &Load,
    scenario: impl FnOnce(&Path) -> P,
) -> Option<(Hosts, usize, Outcome)> {
    if !caller::is_installed() {
        return None;
    }
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut hosts = Hosts::start(Network::build()?, name, mode);
    let scenario = scenario(hosts.dir.path());
    let space = hosts.network.space("c");
    let calls = Calls {
        scenario: scenario.as_ref(),
        service: SERVICE,
        from: network::address("c"),
        on: &["ip", "netns", "exec", &space],
        a_second: load.a_second,
        in_all: load.in_all,
    };
    let mut caller = Caller::start(hosts.dir.path(), &calls);
    let (seen, primary) = wait_for("calls are up and ringing", || {
        let seen = caller.seen().filter(load.ready)?;
        Some((seen, hosts.nodes.protected_primary()?))
    });
    let survivor = 1 - primary;
    hosts.kill(primary);
    println!("killed host {} with {} calls up, {} ringing", SIDES[primary], seen.up, seen.ringing);
    hosts
        .nodes
        .wait_until("the other one is primary", survivor, |status| status["role"] == "primary");
    wait_for("and has the address", || hosts.network.has_service(SIDES[survivor]).then_some(()));
    let outcome = caller.outcome();
    println!("{} calls succeeded, {} failed", outcome.successful, outcome.failed);
    println!("sipp complained: {}", outcome.complaint);
    Some((hosts, survivor, outcome))
}

/// Every call succeeded, and there is one record of each, of a whole call.
fn all_went_well(
    mut hosts: Hosts,
    survivor: usize,
    outcome: &Outcome,
    load: &Load,
    requests: u32,
    talk_ms: u64,
) {
    assert_eq!(outcome.exit_code, Some(0), "{outcome:?}");
    assert_eq!((outcome.successful, outcome.failed), (u64::from(load.in_all), 0), "{outcome:?}");
    records::check(&hosts.nodes.dump(survivor, "cdr"), load.in_all, requests, talk_ms);
    hosts.nodes.stop(survivor);
}
