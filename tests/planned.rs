//! Roles that change because somebody wants it: under load, back and forth; by hand where there is no arbiter.

#[path = "support/site.rs"]
mod site;
mod support;

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use site::{Client, Site, nothing_is_wrong};
use support::{HOTPAIR, eventually, family, hotpair};

/// Goal: under load roles change back and forth, asked of either node, and nobody outside can tell: nothing is lost, nothing
/// is sent twice, no packet that was read is dropped. Whoever comes back is back-up and stays so.
#[test]
fn roles_change_back_and_forth_under_load() {
    let site = Site::new("planned", 40, false);
    let (_hold, _witness) = (site.hold(), site.witness());
    let _pair = site.pair();
    let client = Client::start(&site, 6);
    let mut primary = 0;
    let mut epoch = site.status(0)["epoch"].as_u64().expect("it serves");
    for turn in 0..6 {
        // In turns of the one that serves and the one that is to.
        let asked = (primary + turn / 2) % 2;
        let reply = site.ask("failover", asked, &["--json", "--timeout", "20s"]);
        let reply = reply.exits(0).json();
        primary = 1 - primary;
        epoch += 1;
        assert_eq!(reply["outcome"], "done", "{reply:#}");
        assert!(reply["stood_still_us"].as_u64().is_some_and(|us| us > 0), "{reply:#}");
        site.protected_by(primary);
        // Nothing else changed a role meanwhile, and nobody takes it back.
        assert_eq!(site.status(primary)["epoch"], epoch);
        println!("{}: {} us", turn, reply["stood_still_us"]);
    }
    nothing_is_wrong(&client.result());
    site.protected_by(primary);
    assert_eq!(site.status(primary)["epoch"], epoch);

    let begun = site.told("primary");
    assert_eq!(begun.len(), 7, "{begun:?}");
    for event in &begun {
        assert_eq!(event["packets_again"], 0, "{event}");
    }
    let (mut received, mut delivered) = (0, 0);
    for side in 0..2 {
        let counters = site.status(side)["ports"][0]["counters"].clone();
        // Counters that are zero are not told.
        assert!(counters["dropped_role"].is_null(), "{counters:#}");
        received += counters["received"].as_u64().expect("a count");
        delivered += counters["delivered"].as_u64().expect("a count");
    }
    assert!(received > 5_000 && received == delivered, "{received} read, {delivered} delivered");
}

/// Goal: a hand-over that cannot be, or does not get through, says why and changes nothing.
#[test]
fn a_hand_over_that_cannot_be_changes_nothing() {
    let site = Site::new("planned", 41, false);
    let nobody = site.ask("failover", 0, &[]);
    nobody.exits(3).one_error().says("no node of region").says("hotpair node");
    let (_hold, _witness) = (site.hold(), site.witness());
    let alone = site.node(0);
    eventually("node a is primary", || site.status(0)["role"] == "primary");
    site.ask("failover", 0, &[]).exits(5).one_error().says("no back-up in step");
    let json = site.ask("failover", 0, &["--json"]).exits(5).json();
    assert_eq!(json["outcome"], "refused", "{json:#}");
    let pair = site.joined_by_b(alone);
    // Who works on the messages is stopped: they cannot be finished.
    let workers: Vec<_> = site.status(0)["workers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|worker| worker["pid"].as_i64())
        .map(|pid| Pid::from_raw(i32::try_from(pid).expect("a process id")))
        .collect();
    assert_eq!(workers.len(), 2);
    workers.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).expect("it runs"));
    let client = Client::start(&site, 2);
    eventually("messages wait", || site.status(0)["queues"][0]["waiting"] != 0);
    let late = site.ask("failover", 0, &["--timeout", "300ms"]);
    late.exits(6).one_error().says("messages not worked on").says("goes on where it was");
    workers.iter().for_each(|pid| kill(*pid, Signal::SIGCONT).expect("it runs"));
    nothing_is_wrong(&client.result());
    site.protected_by(0);
    assert_eq!(site.told("promoted").len(), 1, "nobody else was promoted");
    site.ask("failover", 0, &["--timeout", "20s"]).exits(0);
    site.protected_by(1);
    drop(pair);
}

/// Goal: without an arbiter nobody is promoted by itself; by hand only where there cannot be two, or where the loss is
/// accepted. The one of before comes back, is fenced, and becomes back-up.
#[test]
fn without_an_arbiter_a_person_promotes() {
    let site = Site::new("planned", 42, true);
    let _hold = site.hold();
    let pair = site.pair();
    let there = site.ask("promote", 0, &[]);
    assert!(there.exits(0).stdout.contains("primary already"), "{there:#?}");

    // Its primary is there, and hands over.
    let client = Client::start(&site, 2);
    site.ask("promote", 1, &["--timeout", "20s"]).exits(0);
    site.protected_by(1);
    nothing_is_wrong(&client.result());
    site.ask("failover", 1, &["--timeout", "20s"]).exits(0);
    site.protected_by(0);
    let epoch = site.status(0)["epoch"].as_u64().expect("it serves");
    assert_eq!(epoch % 2, 1, "node a begins the odd ones");

    // All of node a's side stands still, and nobody can tell that from a host out of reach.
    let family = family(pair[0].pid());
    let all = |signal| {
        for pid in &family {
            kill(Pid::from_raw(*pid), signal).expect("it runs");
        }
    };
    all(Signal::SIGSTOP);
    eventually("node b has noticed", || !site.told("waits_for_order").is_empty());
    let refused = site.ask("promote", 1, &[]);
    refused.exits(5).one_error().says("may be primary").says("--accept-loss");
    assert_eq!(site.status(1)["role"], "backup", "nobody is promoted by itself");
    let forced = site.ask("promote", 1, &["--accept-loss", "--timeout", "20s"]);
    assert!(forced.exits(0).stdout.contains("given up: "), "{forced:#?}");
    assert_eq!(site.status(1)["role"], "primary");
    let forced = site.status(1)["epoch"].as_u64().expect("it serves");
    assert!(forced > epoch && forced.is_multiple_of(2), "{forced} after {epoch}");

    all(Signal::SIGCONT);
    site.protected_by(1);
    assert_eq!(site.status(1)["epoch"], forced, "it stays with the one that was promoted");
}

/// Goal: a service stands still as long as somebody wants it to, at once or when all is done, and its clients notice nothing
/// but the wait. What was asked for by mistake changes nothing.
#[test]
fn a_service_stands_still_and_goes_on() {
    let site = Site::new("planned", 43, false);
    let (_hold, _witness) = (site.hold(), site.witness());
    let _pair = site.pair();
    let client = Client::start(&site, 4);
    let commits = || site.status(0)["commit_seq"].clone();
    let first = commits();
    eventually("it serves", || commits() != first);
    for (what, says, role) in [("pause", "paused", "changing"), ("drain", "drained", "draining")] {
        site.ask("resume", 0, &[]).exits(0);
        let done = site.ask(what, 0, &["--timeout", "20s"]);
        assert!(done.exits(0).stdout.starts_with(says), "{done:#?}");
        assert_eq!(site.status(0)["role"], role);
        // No commit, however long one looks.
        let (before, packets) = (commits(), site.status(0)["packets_waiting"].clone());
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert_eq!(commits(), before, "after {what}");
        if what == "drain" {
            assert_eq!(packets, 0);
        }
        let again = site.ask(what, 0, &[]);
        assert_eq!(again.exits(0).stdout, "it is so already\n");
        let resumed = site.ask("resume", 0, &[]);
        assert_eq!(resumed.exits(0).stdout, "the service goes on\n");
        eventually("it serves again", || commits() != before);
    }
    assert_eq!(site.ask("resume", 0, &[]).exits(0).stdout, "it is so already\n");
    site.ask("pause", 1, &[]).exits(5).one_error().says("not primary");
    // Whoever takes over serves.
    site.ask("drain", 0, &["--timeout", "20s"]).exits(0);
    site.ask("failover", 1, &["--timeout", "20s"]).exits(0);
    site.protected_by(1);
    nothing_is_wrong(&client.result());
    assert_eq!(site.told("standstill_over").len(), 3, "two resumed, one overtaken");
}

/// Goal: nobody is taken anything from: what cannot stand still in time goes on as it was. Whoever may not ask is told so.
#[test]
fn a_standstill_that_cannot_be_changes_nothing() {
    let site = Site::new("planned", 44, false);
    for what in ["pause", "drain", "resume", "reload"] {
        site.ask(what, 0, &[]).exits(3).one_error().says("no node of region");
    }
    let (_hold, _witness) = (site.hold(), site.witness());
    let _node = site.node(0);
    eventually("node a is primary", || site.status(0)["role"] == "primary");
    let workers = || {
        let status = site.status(0);
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        let pids = workers.iter().filter_map(|worker| worker["pid"].as_i64());
        pids.map(|pid| Pid::from_raw(i32::try_from(pid).expect("an id"))).collect::<Vec<_>>()
    };
    eventually("its port and workers are there", || {
        workers().len() == 2 && site.status(0)["ports"].as_array().is_some_and(|all| all.len() == 1)
    });
    let workers = workers();
    workers.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).expect("it runs"));
    let client = Client::start(&site, 2);
    eventually("messages wait", || site.status(0)["queues"][0]["waiting"] != 0);
    let late = site.ask("drain", 0, &["--timeout", "300ms"]);
    late.exits(6).one_error().says("messages not worked on").says("the service goes on");
    assert_eq!(site.status(0)["role"], "primary");
    workers.iter().for_each(|pid| kill(*pid, Signal::SIGCONT).expect("it runs"));
    nothing_is_wrong(&client.result());
    if nix::unistd::geteuid().is_root() {
        let stranger = std::os::unix::process::CommandExt::uid(
            std::process::Command::new(HOTPAIR)
                .args(["pause", "--region", &site.regions[0].0])
                .stdin(Stdio::null()),
            65_534,
        )
        .output();
        match stranger {
            Ok(output) => {
                support::Ended::of(output).exits(5).one_error().says("user 65534 may not ask");
                assert_eq!(site.status(0)["role"], "primary");
            }
            // The program lies where nobody else may go.
            Err(error) => eprintln!("skipped: another user cannot run {HOTPAIR}: {error}"),
        }
    }
}

/// Goal: what can be changed in a running node is; of the rest is said why not, by the command and by SIGHUP; a file that is
/// wrong changes nothing.
#[test]
fn a_configuration_is_read_again() {
    let site = Site::new("planned", 45, false);
    let (_hold, _witness) = (site.hold(), site.witness());
    let node = site.node(0);
    eventually("node a is primary", || site.status(0)["role"] == "primary");
    let region = ["--region", &site.regions[0].0];
    let reload = |more: &[&str]| hotpair([&["reload"], &region[..], more].concat());
    let plain = std::fs::read_to_string(site.config(0)).expect("it was written");
    let write = |text: &str| std::fs::write(site.path("a.toml"), text).expect("writable");
    assert_eq!(reload(&[]).exits(0).stdout, "nothing has changed\n");

    write(
        &plain.replace(
            "name = \"objects\"",
            "name = \"objects\"\noverload = \"hold\"\nlease = \"2s\"",
        ),
    );
    let told = reload(&[]);
    assert_eq!(
        told.exits(0).stdout,
        "in use: queue.objects.lease\nin use: queue.objects.overload\n"
    );
    let look = hotpair_shm::Region::observe(&site.regions[0].path()).expect("it is there");
    let queue = look.queue("objects").expect("its only one");
    assert_eq!(look.policy(queue).overload, hotpair_shm::Overload::Hold);

    write(&plain.replace("slots = 512", "slots = 1024").replace("count = 2", "count = 3"));
    let json = reload(&["--json"]).exits(7).json();
    assert_eq!(
        json["applied"],
        serde_json::json!(["queue.objects.lease", "queue.objects.overload"])
    );
    let told: Vec<_> =
        json["not_applied"].as_array().into_iter().flatten().map(|it| &it["key"]).collect();
    assert_eq!(told, ["region.slots", "worker.1.count"]);
    assert_eq!(look.policy(queue).overload, hotpair_shm::Overload::Reject, "the key is gone");

    write("[pair]\nname = 5\n");
    reload(&[]).exits(5).one_error().says("line 2").says("goes on with the one it has");
    write(&plain.replace("count = 2", "count = 3"));
    let before = site.told("reloaded").len();
    kill(Pid::from_raw(node.pid()), Signal::SIGHUP).expect("it runs");
    eventually("SIGHUP does the same", || site.told("reloaded").len() > before);
    let event = site.told("reloaded").pop().expect("it was told");
    assert_eq!(event["not_applied"], serde_json::json!(["worker.1.count"]), "{event}");
    assert_eq!(site.told("reload_refused").len(), 1);
}
