//! The NAT of examples/nat on two hosts, of which the primary dies by `kill -9` of everything on it: ssh, a download, iperf3 and
//! 10,000 idle flows go on. The controls are the same without replication.
//!
//! Needs root, network namespaces, ethtool, OpenSSH, curl and iperf3; says so and passes without them, except where `CI=true`
//! promises that they are there.

#[path = "service/afterwards.rs"]
mod afterwards;
#[path = "nat/flows.rs"]
mod flows;
#[path = "nat/network.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod network;
#[path = "service/nodes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod nodes;
#[path = "nat/pair.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod pair;
#[path = "service/processes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod processes;
#[path = "nat/services.rs"]
mod services;
#[path = "service/spaces.rs"]
mod spaces;

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flows::{Flows, SOCKETS};
use network::Network;
use pair::{Nat, Setup};
use processes::wait_for;
use services::{Download, Measurement, Session};

/// One pair at a time: the machine is small.
fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For an answer that must come, and for one that must not.
const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(5);

/// Goal: who works through the NAT does not lose a connection when its primary dies.
#[test]
fn ssh_a_download_and_iperf3_live_on() {
    let _alone = alone();
    if !services::are_installed() {
        return;
    }
    let Some(network) = Network::build() else { return };
    let mut nat = Nat::start(network, &Setup::new("nat-live"));
    let (_sshd, web) = (services::sshd(&nat), services::web(&nat));
    let mut session = Session::open(&nat);
    assert!(session.says("before", SOON), "ssh works through the NAT");
    let download = Download::start(&nat, "download", web);
    let measurement = Measurement::start(&nat, &["-t", "8", "-b", "10M"]);
    wait_for("the download is under way", || (download.bytes() > 1 << 20).then_some(()));
    let survivor = nat.kill_primary();
    let at_kill = download.bytes();
    assert!(session.says("after", SOON), "the session lives on");
    assert!(download.ends_whole(), "the download lives on");
    let (bytes, silent) = measurement.outcome();
    println!(
        "download at {at_kill} bytes when the primary died; iperf3 sent {bytes} bytes, nothing for {silent}00 ms at most"
    );
    assert!(bytes > 5 << 20, "{bytes} bytes in 8 s at 10 Mbit/s");
    assert!(session.says("still", SOON));
    assert!(session.close().success());
    nat.nodes.stop(survivor);
}

/// The control: without replication both connections break, though the NAT goes on for others.
#[test]
fn without_replication_connections_break() {
    let _alone = alone();
    if !services::are_installed() {
        return;
    }
    let Some(network) = Network::build() else { return };
    let setup = Setup { replication: "local", ..Setup::new("nat-lost") };
    let mut nat = Nat::start(network, &setup);
    let (_sshd, web) = (services::sshd(&nat), services::web(&nat));
    let mut session = Session::open(&nat);
    assert!(session.says("before", SOON), "ssh works through the NAT");
    let download = Download::start(&nat, "download", web);
    wait_for("the download is under way", || (download.bytes() > 1 << 20).then_some(()));
    let survivor = nat.kill_primary();
    nat.nodes
        .wait_until("the other one is primary", survivor, |status| status["role"] == "primary");
    let again = Download::start(&nat, "again", web);
    assert!(!session.says("after", LONG), "nobody knows the session");
    assert!(again.ends_whole(), "but new connections are served");
    assert!(!download.ends_whole(), "nobody knows the download");
    assert!(!session.outcome().success());
    nat.nodes.stop(survivor);
}

/// Goal: flows that nobody uses keep their ports: outside reaches inside by them before inside has said a word.
#[test]
fn idle_flows_keep_their_ports() {
    let _alone = alone();
    let Some((mut nat, survivor, (flows, before), heard)) = idle_flows("nat-idle", "sync") else {
        return;
    };
    assert_eq!(heard, before.len(), "all flows are known");
    assert_eq!(flows.ports(), before, "and each has its port");
    nat.nodes.stop(survivor);
}

/// The control: without replication not one of them is known.
#[test]
fn without_replication_idle_flows_are_forgotten() {
    let _alone = alone();
    let Some((mut nat, survivor, (flows, _), heard)) = idle_flows("nat-forgot", "local") else {
        return;
    };
    assert_eq!(heard, 0, "nobody knows them");
    assert_eq!(flows.ports().len(), SOCKETS * SOCKETS, "but new ones are served");
    nat.nodes.stop(survivor);
}

type Before = (Flows, flows::Ports);

/// Makes 10,000 flows and kills the primary; gives how many of them are known to the other.
fn idle_flows(
    name: &'static str,
    replication: &'static str,
) -> Option<(Nat, usize, Before, usize)> {
    let setup = Setup { replication, ..Setup::new(name) };
    let mut nat = Nat::start(Network::build()?, &setup);
    let flows = Flows::new(&nat);
    let before = flows.ports();
    let ports: BTreeSet<u16> = before.values().copied().collect();
    assert_eq!(ports.len(), SOCKETS * SOCKETS, "each flow has a port of its own");
    let survivor = nat.kill_primary();
    nat.nodes
        .wait_until("the other one is primary", survivor, |status| status["role"] == "primary");
    let patience = if replication == "sync" { SOON } else { LONG };
    let heard = flows.heard_from_outside(&before, patience);
    println!("{heard} of {} idle flows were reached from outside", before.len());
    Some((nat, survivor, (flows, before), heard))
}
