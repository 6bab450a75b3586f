//! Bad input from the command line: one clear error each, and nothing else harmed.

mod support;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};

use hotpair_shm::{Delivery, Endpoint, Geometry, Kind, Region};
use support::{HOTPAIR, RegionName, hotpair, loopback, write_config};

const DOCUMENTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/hotpair.toml");

fn small() -> Geometry {
    Geometry::for_objects(16)
}

/// Runs the program with `name` in place of each `REGION`.
fn with_region(name: &RegionName, line: &str) -> support::Ended {
    hotpair(line.split(' ').map(|word| if word == "REGION" { name.0.as_str() } else { word }))
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    for line in ["nonsense", "demo --kill everybody", "demo --rate 1", "status", "hold --at x y=z"]
    {
        let ended = hotpair(line.split(' '));
        ended.exits(2);
        assert!(ended.stderr.starts_with("error: "), "{ended:#?}");
        assert_eq!(ended.stdout, "");
    }
    hotpair(["bench", "no-such-bench"]).exits(2).one_error().says("claim");
}

#[test]
fn a_bad_key_is_shown_with_line_and_caret() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("bad.toml");
    let text = fs::read_to_string(DOCUMENTED).expect("the documented file is there");
    fs::write(&file, text.replace("slots = 4096", "slotz = 4096")).expect("written");
    let path = file.to_str().expect("an ordinary path");
    let lines = [
        vec!["config", "check", path],
        vec!["node", "--config", path],
        vec!["status", "--config", path],
    ];
    for line in lines {
        let ended = hotpair(line);
        ended.exits(78).one_error().says("unknown field `slotz`").says("| slotz = 4096").says("^");
    }
    hotpair(["config", "check", "/no/such/file.toml"]).exits(78).one_error().says("No such file");
}

#[test]
fn the_documented_configuration_is_checked_and_shown() {
    let ended = hotpair(["config", "check", DOCUMENTED]);
    ended.exits(0);
    assert!(ended.stdout.contains("node a of pair demo"), "{ended:#?}");
    let shown = hotpair(["config", "show", "--json", DOCUMENTED]);
    shown.exits(0);
    assert_eq!(shown.json()["replication"]["period"], "1ms");
}

#[test]
fn a_region_that_is_not_there_does_not_run() {
    let name = RegionName::new("missing");
    for line in ["status --region REGION", "dump --region REGION", "region remove REGION"] {
        with_region(&name, line).exits(3).one_error();
    }
}

/// Goal: files that are no regions of this build are refused by name and reason, and left alone.
#[test]
fn damaged_regions_are_refused_and_left_alone() {
    type Damage = fn(&Path);
    #[rustfmt::skip]
    let cases: [(&str, Damage, &str); 4] = [
        ("truncated",  |path| cut(path),                                 "its header says"),
        ("foreign",    |path| fs::write(path, [b'x'; 8192]).expect("written"), "is not a region"),
        ("newer",      |path| poke(path, 8, 0xff),                       "this build reads"),
        ("half-built", |path| (0..8).for_each(|at| poke(path, at, 0)),   "was never completed"),
    ];
    for (kind, damage, says) in cases {
        let name = RegionName::new(kind);
        drop(Region::create(&name.path(), &small()).expect("there is room"));
        damage(&name.path());
        let before = fs::read(name.path()).expect("readable");
        with_region(&name, "status --region REGION").exits(1).one_error().says(says);
        let removal = with_region(&name, "region remove REGION");
        removal.exits(5).one_error().says(says).says("--force");
        assert_eq!(fs::read(name.path()).expect("readable"), before, "{kind}: left alone");

        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = write_config(dir.path(), &name.0, &loopback(1), "bind = \"127.0.0.1:0\"");
        let pki = dir.path().join("pki");
        hotpair(["pki", "init", "--name", "test", "--dir", &pki.to_string_lossy()]).exits(0);
        let ended = hotpair(["node", "--config", &config.to_string_lossy()]);
        ended.exits(5).one_error().says(says);
        assert_eq!(fs::read(name.path()).expect("readable"), before, "{kind}: left alone");
        with_region(&name, "region remove --force REGION").exits(0);
        assert!(!name.path().exists());
    }
}

fn cut(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("writable");
    let bytes = file.metadata().expect("measured").len();
    file.set_len(bytes / 2).expect("cut");
}

fn poke(path: &Path, at: u64, value: u8) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).expect("writable");
    file.write_all_at(&[value], at).expect("written");
}

#[test]
fn a_region_in_use_is_not_removed() {
    let name = RegionName::new("used");
    let region = Region::create(&name.path(), &small()).expect("there is room");
    let pid = std::process::id().to_string();
    for line in ["region remove REGION", "region remove --force REGION"] {
        with_region(&name, line).exits(5).one_error().says(&pid);
        assert!(name.path().exists());
    }
    let list = hotpair(["region", "list", "--json"]).json();
    let listed = list["regions"].as_array().expect("a list");
    assert!(listed.iter().any(|entry| entry["name"] == name.0.as_str()), "{list}");
    drop(region);
    with_region(&name, "region remove REGION").exits(0);
}

#[test]
fn status_and_dump_work_when_everybody_is_dead() {
    let name = RegionName::new("dead");
    drop(Region::create(&name.path(), &small()).expect("there is room"));
    let status = with_region(&name, "status --json --region REGION");
    status.exits(3); // the figures are there, and the code says that nobody serves
    let json = status.json();
    assert_eq!((&json["v"], &json["role"]), (&1.into(), &"empty".into()));
    for field in ["epoch", "protected", "table_seq", "period_us", "digest", "queues", "workers"] {
        assert!(!json[field].is_null(), "{field} in {json}");
    }
    with_region(&name, "dump --json --region REGION").exits(0);
    let ended = with_region(&name, "dump --queue nosuch --region REGION");
    ended.exits(1).one_error().says("it has: default");
}

/// Goal: what was measured is shown when whoever measured it is gone.
#[test]
fn status_shows_how_long_things_took() {
    let name = RegionName::new("times");
    let region = Region::create(&name.path(), &small()).expect("there is room");
    region.become_primary(1);
    let queue = region.queue("default").expect("in the geometry");
    let mut worker = region.join(Kind::Worker, "worker").expect("a seat");
    let packet = worker.packet_of(b"x", Endpoint::NONE).expect("a block");
    worker.deliver(Delivery { queue, key: Some(b"a"), priority: 0 }, packet).expect("room");
    worker.claim(queue).expect("ready").commit().expect("nobody is in the way");
    drop((worker, region));
    let status = with_region(&name, "status --region REGION");
    assert!(status.stdout.contains("\nall seats: queue age p50 "), "{status:#?}");
    let json = with_region(&name, "status --json --region REGION").json();
    assert_eq!(json["times"]["queue_age"]["n"], 1, "{json}");
    assert_eq!(json["times"]["deadline_missed"]["n"], 0, "{json}");
    let max = |what: &str| json["times"][what]["max_ns"].as_u64().expect("a number");
    assert!(max("queue_age") > 0 && max("claim") > 0, "{json}");
}

/// Goal: `region verify` tells order from damage by its exit code, and the living from the left-over.
#[test]
fn a_region_is_verified() {
    use std::os::unix::fs::FileExt;
    let name = RegionName::new("verify");
    with_region(&name, "region verify REGION").exits(3).one_error();
    let region = Region::create(&name.path(), &small()).expect("there is room");
    with_region(&name, "region verify REGION").exits(0);
    let seat = region.join(Kind::Other, "somebody").expect("a seat");
    with_region(&name, "region verify REGION").exits(0);
    let pid = std::process::id().to_string();
    with_region(&name, "region verify --strict REGION").exits(5).one_error().says(&pid);
    drop(seat);
    let clean = with_region(&name, "region verify --strict --json REGION");
    clean.exits(0);
    assert_eq!(clean.json()["clean"], true);
    hotpair(["region", "verify", &name.path().to_string_lossy()]).exits(0);

    // Far behind the tables, among the blocks.
    let file = fs::OpenOptions::new().write(true).open(name.path()).expect("writable");
    let bytes = file.metadata().expect("own file").len();
    file.write_all_at(&[0xff; 8192], bytes / 4 * 3 / 64 * 64).expect("written");
    let damaged = with_region(&name, "region verify REGION");
    damaged.exits(7);
    assert!(damaged.stdout.contains("which no process writes"), "{damaged:#?}");
    let damaged = with_region(&name, "region verify --json REGION");
    damaged.exits(7);
    let json = damaged.json();
    assert_eq!((&json["v"], &json["clean"]), (&1.into(), &false.into()));
    assert_eq!(json["findings"][0]["kind"], "block_nonsense");
    assert!(json["findings"][0]["place"]["block"].is_u64(), "{json}");
}

/// Goal: what is suggested can stand in a configuration, and is more than was used.
#[test]
fn a_geometry_is_suggested() {
    let name = RegionName::new("suggest");
    with_region(&name, "region suggest REGION").exits(3).one_error();
    let region = Region::create(&name.path(), &small()).expect("there is room");
    region.become_primary(1);
    let queue = region.queue("default").expect("the queue of the geometry");
    let mut port = region.join(Kind::Port, "port").expect("a seat");
    for key in 0..1000_u32 {
        let packet = port.packet_of(&[7; 1000], Endpoint::NONE).expect("a free block");
        let to = Delivery { queue, key: Some(&key.to_le_bytes()), priority: 0 };
        port.deliver(to, packet).expect("there is room");
    }
    drop(port);
    let json = with_region(&name, "region suggest --json REGION").json();
    assert!(json["slots"]["high"].as_u64() >= Some(1000), "{json}");
    let large = &json["classes"][1];
    assert_eq!((&large["payload_bytes"], &large["refused"]), (&2048.into(), &0.into()), "{json}");
    // 32 bytes for the address, 1,000 of data, in steps of 16.
    assert_eq!((&large["largest"], &large["suggested_bytes"]), (&1032.into(), &1040.into()));
    assert_eq!((&large["refused_ports"], &large["reserve"]), (&0.into(), &4096.into()), "{json}");
    assert!(large["suggested"].as_u64() >= Some(1250 * 4 / 3), "a quarter for commits: {json}");
    let status = with_region(&name, "status --region REGION --json").json();
    let level = &status["blocks"][1];
    assert_eq!((&level["reserve"], &level["refused_ports"]), (&4096.into(), &0.into()), "{status}");

    let ended = with_region(&name, "region suggest REGION");
    ended.exits(0);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("suggested.toml");
    let text = fs::read_to_string(DOCUMENTED).expect("the documented file is there");
    let before = text.split_once("[region]").expect("there is one").0;
    let after = text.split_once("# A queue is a class").expect("there is one").1;
    let own = ended.stdout.replace("slots =", "name = \"suggested\"\nslots =");
    fs::write(&file, format!("{before}{own}\n#{after}")).expect("written");
    hotpair(["config", "check", &file.to_string_lossy()]).exits(0);
}

/// Goal: a rebuild takes nothing from the living, says who they are, and what it did.
#[test]
fn a_region_is_rebuilt_when_nobody_uses_it() {
    let name = RegionName::new("rebuild");
    with_region(&name, "region rebuild REGION").exits(3).one_error();
    let region = Region::create(&name.path(), &small()).expect("there is room");
    let pid = std::process::id().to_string();
    with_region(&name, "region rebuild REGION").exits(5).one_error().says(&pid);
    drop(region);
    let rebuilt = with_region(&name, "region rebuild --json REGION");
    rebuilt.exits(0);
    let json = rebuilt.json();
    let all = small().slots;
    assert_eq!((&json["v"], &json["free_slots"]), (&1.into(), &all.into()), "{json}");
    with_region(&name, "region rebuild REGION").exits(0);
    with_region(&name, "region verify --strict REGION").exits(0);
}

/// Goal: who dies of a file that was cut under it says which.
#[test]
fn a_region_that_is_cut_while_it_is_used_is_named() {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    let name = RegionName::new("cut");
    let region = Region::create(&name.path(), &Geometry::for_objects(4000)).expect("there is room");
    region.become_primary(1);
    let queue = region.queue("default").expect("the queue of the geometry");
    let mut port = region.join(Kind::Port, "port").expect("a seat");
    for key in 0..4000_u32 {
        let packet = port.packet_of(b"packet", Endpoint::NONE).expect("a free block");
        let to = Delivery { queue, key: Some(&key.to_le_bytes()), priority: 0 };
        port.deliver(to, packet).expect("there is room");
    }
    drop((port, region));

    // More than a pipe holds, so it is in the middle of it until somebody reads on.
    let mut dump = Command::new(HOTPAIR)
        .args(["dump", "--json", "--region", &name.0])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut out = dump.stdout.take().expect("piped");
    out.read_exact(&mut [0; 1]).expect("the first object");
    let file = fs::OpenOptions::new().write(true).open(name.path()).expect("writable");
    file.set_len(4096).expect("cut");
    let _ = out.read_to_end(&mut Vec::new());
    let ended = dump.wait_with_output().expect("own child");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.signal(), Some(7), "{said}");
    assert!(said.contains("was cut while it was in use"), "{said}");
    assert!(said.contains(&name.path().display().to_string()), "{said}");
}

#[test]
fn too_little_shared_memory_is_said_before_the_start() {
    let name = RegionName::new("huge");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = write_config(dir.path(), &name.0, &loopback(2), "bind = \"127.0.0.1:0\"");
    let text = fs::read_to_string(&config).expect("just written");
    let huge = text
        .replace("payload_bytes = 2048", "payload_bytes = 1048576")
        .replace("blocks = 512", "blocks = 4000000");
    fs::write(&config, huge).expect("written");
    let pki = dir.path().join("pki");
    hotpair(["pki", "init", "--name", "test", "--dir", &pki.to_string_lossy()]).exits(0);
    let ended = hotpair(["node", "--config", &config.to_string_lossy()]);
    ended.exits(1).one_error().says("bytes free, the region needs").says("region list");
    assert!(support::regions_with(&name.0).is_empty());
}

#[test]
fn an_address_in_use_names_its_owner() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path().join("hold.sock");
    let ended = hotpair(["hold", "--at", &at.to_string_lossy(), &format!("service={address}")]);
    ended.exits(1).one_error().says("in use by").says(&std::process::id().to_string());
    assert!(!at.exists());
}

#[test]
fn certificates_of_another_pair_are_refused() {
    let name = RegionName::new("pair");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = write_config(dir.path(), &name.0, &loopback(3), "bind = \"127.0.0.1:0\"");
    let config = config.to_string_lossy();
    let none = hotpair(["node", "--config", &config]);
    none.exits(78).one_error().says("hotpair pki init");

    let pki = dir.path().join("pki");
    let pki = pki.to_string_lossy();
    hotpair(["pki", "init", "--name", "other", "--dir", &pki]).exits(0);
    let ended = hotpair(["node", "--config", &config]);
    ended.exits(78).one_error().says("pair other").says("pair test");
    let shown = hotpair(["pki", "show", "--dir", &pki, "--json"]).json();
    assert_eq!(shown["certificates"][0]["pair"], "other");

    let again = hotpair(["pki", "init", "--name", "other", "--dir", &pki]);
    again.exits(5).one_error().says("exists already");
    let bad = hotpair(["pki", "init", "--name", "No Name", "--dir", "/nonexistent/pki"]);
    bad.exits(2).one_error().says("is no name for a pair");
}

#[test]
fn a_reader_that_goes_away_had_what_it_wanted() {
    let mut child = Command::new(HOTPAIR)
        .args(["config", "show", DOCUMENTED])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    drop(child.stdout.take()); // nobody reads
    let ended = support::Ended::of(child.wait_with_output().expect("our own child"));
    ended.exits(0);
    assert_eq!(ended.stderr, "");
}

/// Goal: the files that the README starts a pair with are valid.
#[test]
fn the_readmes_pair_is_valid() {
    for node in ["a", "b"] {
        let file = format!("{}/docs/pair/{node}.toml", env!("CARGO_MANIFEST_DIR"));
        let ended = hotpair(["config", "check", &file]);
        ended.exits(0);
        assert!(ended.stdout.contains(&format!("node {node} of pair ")), "{ended:#?}");
    }
}
