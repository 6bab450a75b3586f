//! A pair is upgraded while it serves: nodes of this version and of the one before, each on either side.

#[path = "upgrade/previous.rs"]
mod previous;
#[path = "support/site.rs"]
mod site;
mod support;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use hotpair_replica::protocol::{Action, Body, Config, Core, Event, Member, NodeId, Refusal, Tick};
use hotpair_replica::quic::{Link, LinkConfig, LinkEvent};
use hotpair_replica::tls::Credentials;
use hotpair_replica::wire::VERSIONS;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use site::{Build, Client, Site, nothing_is_wrong, text};
use support::{HOTPAIR, Running, eventually, family, hotpair};

/// Longer than any of these tests lasts: they end the load themselves.
const LOAD_SECONDS: u32 = 3_600;

fn this() -> Build {
    Build::of(Path::new(HOTPAIR))
}

fn before() -> Build {
    Build::of(&previous::program())
}

/// As an operator does it.
fn stop(mut node: Running) {
    kill(Pid::from_raw(node.pid()), Signal::SIGTERM).expect("it runs");
    assert!(node.wait().success());
}

/// All of a side at once, as when its host dies. Its supervisor first: it would start the others again.
fn kill_side(node: Running) {
    for pid in family(node.pid()) {
        // Some die with the one before.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    drop(node);
}

fn client(site: &Site) -> Client {
    let mut client = Client::start(site, LOAD_SECONDS);
    client.watches_for_gaps();
    client
}

/// It ends the load, and says what the client has seen.
#[track_caller]
fn all_is_well(what: &str, client: Client) -> Value {
    let result = client.ends();
    nothing_is_wrong(&result);
    let outage_ms = result["gap_us"].as_f64().expect("it looked for gaps") / 1e3;
    println!("{what}: {} answers, longest outage {outage_ms:.1} ms", result["acked"]);
    result
}

/// Goal: the steps of docs/upgrading.md, under load: no answer is lost, none is doubled. One side begins with a new region, the
/// other goes on with the one that the version before has made.
#[test]
fn a_pair_is_upgraded_under_load() {
    let before = before();
    let mut site = Site::new("upgrade", 51, false);
    site.builds = [before.clone(), before.clone()];
    site.keeps = [true, false];
    let _hold = site.hold();
    let witness = site.witness_of(&text(&before.node), &["--reinit", "a"]);
    let [a, b] = site.pair();
    let client = client(&site);

    stop(b);
    assert!(!site.regions[1].path().exists());
    site.builds[1] = this();
    let _b = site.node(1);
    site.complete(1);
    site.protected_by(0);
    site.ask("failover", 0, &["--timeout", "30s"]).exits(0);
    site.protected_by(1);

    stop(a);
    assert!(site.regions[0].path().exists());
    site.builds[0] = this();
    let _a = site.node(0);
    site.complete(0);
    site.protected_by(1);

    stop(witness);
    let _witness = site.witness_of(HOTPAIR, &[]);
    site.ask("failover", 1, &["--timeout", "30s"]).exits(0);
    site.protected_by(0);
    all_is_well("upgraded", client);
    assert_eq!(site.told("promoted").len(), 3, "the first, there and back");
    let spoken = site.told("connected").last().map(|event| event["version"].clone());
    assert_eq!(spoken, Some((*VERSIONS.end()).into()));
}

/// Whoever of the two versions is primary is killed, and the other one serves. The side that died comes back with the
/// version of the other, on the region as it was left.
fn killed(what: &str, purpose: u8, builds: [Build; 2]) {
    let mut site = Site::new("upgrade", purpose, false);
    site.builds = builds;
    let (_hold, _witness) = (site.hold(), site.witness());
    let [a, _b] = site.pair();
    let client = client(&site);
    eventually("it serves", || site.status(0)["ports"][0]["counters"]["sent"].as_u64() > Some(100));
    kill_side(a);
    eventually("node b serves", || site.status(1)["role"] == "primary");
    assert!(site.regions[0].path().exists());
    site.builds[0] = site.builds[1].clone();
    let _a = site.node(0);
    site.protected_by(1);
    all_is_well(what, client);
}

#[test]
fn the_version_before_takes_over() {
    killed("this version killed", 52, [this(), before()]);
}

#[test]
fn this_version_takes_over() {
    killed("the version before killed", 53, [before(), this()]);
}

/// Goal: a node serves with ports and workers of the other version, before and after a change of roles.
#[test]
fn ports_and_workers_are_of_another_version() {
    let (this, before) = (this(), before());
    let mut site = Site::new("upgrade", 54, false);
    site.builds = [
        Build { node: this.node.clone(), demo: before.demo.clone() },
        Build { node: before.node, demo: this.demo },
    ];
    let (_hold, _witness) = (site.hold(), site.witness());
    let _pair = site.pair();
    let client = client(&site);
    for (from, to) in [(0, 1), (1, 0)] {
        site.ask("failover", from, &["--timeout", "30s"]).exits(0);
        site.protected_by(to);
    }
    all_is_well("with workers of the other version", client);
}

/// Goal: workers of other hosts need not be upgraded with the nodes: they carry on with gateways of the other version, through a
/// change of roles and the death of a side.
fn remote_workers(what: &str, purpose: u8, nodes: &Build, workers: &Build) {
    let mut site = Site::new("upgrade", purpose, false);
    site.builds = [nodes.clone(), nodes.clone()];
    site.far = true;
    let (_hold, _witness) = (site.hold(), site.witness());
    let [a, _b] = site.pair();
    let _workers = [(); 2].map(|()| site.far_worker(&workers.demo));
    let client = client(&site);
    let answers = |side: usize, more: u64| {
        let sent = || site.status(side)["ports"][0]["counters"]["sent"].as_u64().unwrap_or(0);
        let until = sent() + more;
        eventually("the pair answers", || sent() >= until);
    };
    answers(0, 100);
    for (from, to) in [(0, 1), (1, 0)] {
        site.ask("failover", from, &["--timeout", "30s"]).exits(0);
        site.protected_by(to);
        answers(to, 100);
    }
    kill_side(a);
    eventually("node b serves", || site.status(1)["role"] == "primary");
    answers(1, 100);
    all_is_well(what, client);
}

#[test]
fn remote_workers_are_of_the_version_before() {
    remote_workers("remote workers of the version before", 58, &this(), &before());
}

#[test]
fn remote_workers_are_upgraded_first() {
    remote_workers("remote workers of this version", 59, &before(), &this());
}

/// Goal: a region of another format is refused, with both formats and what to do, and left alone: it may be the last copy. Who does
/// that is filled by its peer of the version before.
#[test]
fn a_region_of_another_format_is_filled_anew() {
    let mut site = Site::new("upgrade", 55, false);
    site.builds = [before(), before()];
    site.keeps = [false, true];
    let (_hold, _witness) = (site.hold(), site.witness());
    let [_a, b] = site.pair();
    let client = client(&site);
    stop(b);
    let ours = hotpair_shm::FORMAT_VERSION;
    let file = std::fs::OpenOptions::new().write(true).open(site.regions[1].path());
    // Where the format stands: docs/region-layout.md.
    file.expect("it was kept").write_all_at(&(ours - 1).to_le_bytes(), 8).expect("writable");

    site.builds[1] = this();
    let refused = site.ask("node", 1, &[]);
    refused.exits(5).one_error().says(&format!("format {}, this build reads {ours}", ours - 1));
    let remove = format!("hotpair region remove --force {}", site.regions[1].0);
    refused.says(&remove).says("start the version that made the region");
    assert!(site.regions[1].path().exists());
    hotpair(remove.split(' ').skip(1)).exits(0);
    let _b = site.node(1);
    site.complete(1);
    site.protected_by(0);
    site.ask("failover", 0, &["--timeout", "30s"]).exits(0);
    site.protected_by(1);
    all_is_well("a new region", client);
}

/// Goal: a package that is upgraded replaces the program under who runs it: what dies then is started again from the same file as
/// the rest of its side.
#[test]
fn a_program_that_is_replaced_goes_on() {
    let mut site = Site::new("upgrade", 57, false);
    let installed = site.path("hotpair");
    std::fs::copy(HOTPAIR, &installed).expect("there is room");
    site.builds[0].node = installed.clone();
    let (_hold, _witness) = (site.hold(), site.witness());
    let a = site.node(0);
    eventually("node a serves", || site.status(0)["role"] == "primary");
    // As package managers do it: written beside it, then renamed.
    std::fs::copy(previous::program(), site.path("new")).expect("there is room");
    std::fs::rename(site.path("new"), &installed).expect("the same directory");
    let node = || {
        let line = |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_node =
            |pid: &i32| line(*pid).split(|byte| *byte == 0).any(|word| word == b"node-inner");
        family(a.pid()).into_iter().find(is_node)
    };
    let first = node().expect("it runs");
    kill(Pid::from_raw(first), Signal::SIGKILL).expect("it runs");
    eventually("there is another node", || node().is_some_and(|next| next != first));
    let next = node().expect("it runs");
    let of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/exe")).expect("it runs");
    assert_eq!(of(next), of(a.pid()));
    assert_ne!(of(next), installed);
    eventually("node a serves again", || site.status(0)["role"] == "primary");
}

/// The hello of a node b that speaks `versions`: how node a takes it.
fn refusal(site: &Site, versions: std::ops::RangeInclusive<u16>) -> Event {
    let credentials = Credentials::from_dir(&site.path("pki"), "node-b").expect("made by pki init");
    let this = Member { node: NodeId(2), incarnation: 1 };
    // Of no region that there is: where the versions are no matter, that is.
    let (geometry, slots) = (0, 16);
    let mut config = Config::new(credentials.cluster().id, this, NodeId(1), geometry, slots);
    config.versions = versions;
    let now = || Tick::from_nanos(hotpair_shm::monotonic_ns());
    let mut core = Core::new(config, now()).expect("a sound configuration");
    let [listen, peer] = [site.replication(1), site.replication(0)];
    let link = LinkConfig {
        listen,
        peer,
        peer_member: "node-a".to_owned(),
        dials: false,
        launch: hotpair_shm::monotonic_ns(),
        mtu: None,
        several: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut link = Link::start(link, &credentials).expect("nobody else is node b");
        loop {
            match tokio::time::timeout(support::PATIENCE, link.next()).await.expect("it answers") {
                LinkEvent::Up { connection, .. } => core.handle_peer_connected(now(), connection),
                LinkEvent::Frame { connection, frame } => {
                    core.handle_frame(now(), connection, frame);
                }
                _ => {}
            }
            while let Some(transmit) = core.poll_transmit() {
                if let Body::Stream(frame) = transmit.body {
                    link.send_frame(transmit.connection, frame);
                }
            }
            while let Some(action) = core.poll_action() {
                match action {
                    Action::Disconnect { connection, .. } => {
                        // What it has to say is written before.
                        link.disconnect(connection, Duration::from_secs(60));
                    }
                    Action::Event(refused @ Event::Refused { .. }) => {
                        link.close().await;
                        return refused;
                    }
                    _ => {}
                }
            }
        }
    })
}

/// Goal: the control of the rest: nodes two versions apart refuse each other, with both versions and what to do. The node that
/// serves goes on; and versions that overlap are no reason.
#[test]
fn two_versions_apart_is_refused() {
    let site = Site::new("upgrade", 56, false);
    let (_hold, _witness) = (site.hold(), site.witness());
    let _a = site.node(0);
    eventually("node a serves", || site.status(0)["role"] == "primary");
    let ours = *VERSIONS.end();
    let refused = refusal(&site, ours + 1..=ours + 2);
    let Event::Refused { reason, theirs, ours: far, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((reason, theirs, far), (Refusal::Version, ours.into(), (ours + 2).into()));
    let says = format!(
        "the peer speaks version {}, this node {ours}: upgrade by one version at a time (docs/upgrading.md)",
        ours + 2
    );
    eventually("node a says so", || {
        let errors = hotpair(["errors", "--region", &site.regions[0].0]);
        errors.exits(0).stdout.contains(&says)
    });
    let status = site.status(0);
    assert_eq!((&status["role"], &status["protected"]), (&"primary".into(), &false.into()));

    let refused = refusal(&site, ours..=ours + 1);
    assert!(matches!(refused, Event::Refused { reason: Refusal::Geometry, .. }), "{refused:?}");
}
