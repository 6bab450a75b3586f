//! A pair with two networks between its nodes: one is cut under load, then the other while the first is back.
//!
//! ```text
//!   netns a ═══ cable 1: 10.97.1.0/24 ═══ netns b
//!           ═══ cable 2: 10.97.2.0/24 ═══
//!           ─── switch: 10.97.0.0/24 ─── netns c: witness, client
//! ```
//! Needs root, `ip` and `nft`; says so and passes without them, except where `CI=true` promises that they are there.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use support::{HOTPAIR, RegionName, Running, eventually, hotpair};

const HOSTS: [(&str, u8); 3] = [("a", 1), ("b", 2), ("c", 3)];
const NODES: [&str; 2] = ["a", "b"];

/// Two pairs at once would disturb each other's times.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Namespaces and their cables; gone when dropped.
struct Net {
    tag: String,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("cannot run `ip`: {error} (Debian: apt-get install iproute2)"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Net {
    fn build() -> Result<Net, String> {
        let net = Net { tag: format!("hl{}", std::process::id() % 1_000_000) };
        let tag = &net.tag;
        ip(&format!("netns add {tag}s"))?;
        let switch = |arguments: &str| ip(&format!("-n {tag}s {arguments}"));
        switch("link add name bridge type bridge")?;
        switch("link set bridge up")?;
        for (host, address) in HOSTS {
            ip(&format!("netns add {tag}{host}"))?;
            ip(&format!(
                "link add name {host} netns {tag}s type veth peer name eth0 netns {tag}{host}"
            ))?;
            switch(&format!("link set dev {host} master bridge up"))?;
            net.plug(host, "lo", None)?;
            net.plug(host, "eth0", Some(format!("10.97.0.{address}/24")))?;
        }
        for cable in [1, 2] {
            let name = format!("eth{cable}");
            ip(&format!(
                "link add name {name} netns {tag}a type veth peer name {name} netns {tag}b"
            ))?;
            for (host, address) in &HOSTS[..2] {
                net.plug(host, &name, Some(format!("10.97.{cable}.{address}/24")))?;
            }
        }
        for host in NODES {
            net.nft(host, "add table inet cut")?;
            let hook = "{ type filter hook input priority 0 ; }";
            net.nft(host, &format!("add chain inet cut arriving {hook}"))?;
        }
        Ok(net)
    }

    fn plug(&self, host: &str, interface: &str, address: Option<String>) -> Result<(), String> {
        let tag = &self.tag;
        if let Some(address) = address {
            ip(&format!("-n {tag}{host} address add {address} dev {interface}"))?;
        }
        ip(&format!("-n {tag}{host} link set {interface} up"))
    }

    fn nft(&self, host: &str, arguments: &str) -> Result<(), String> {
        ip(&format!("netns exec {}{host} nft {arguments}", self.tag))
    }

    /// Nothing that comes by a cable arrives: nobody is told, so silence is all there is.
    fn silence(&self, host: &str, cable: u8) {
        let rule = format!("add rule inet cut arriving iifname eth{cable} drop");
        self.nft(host, &rule).expect("a packet filter");
    }

    fn hear(&self, host: &str) {
        self.nft(host, "flush table inet cut").expect("it was made before");
    }

    /// Takes a cable out, or puts it in: the kernel says so to whoever sends.
    fn set_cable(&self, cable: u8, state: &str) {
        ip(&format!("-n {}a link set eth{cable} {state}", self.tag)).expect("the cable is there");
    }

    /// A command on one of the hosts, which the kernel ends with this test.
    fn on(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        let parent = std::process::id().to_string();
        command.args(["netns", "exec", &format!("{}{host}", self.tag)]);
        command.args([HOTPAIR, "under", "--parent", &parent, "--", program]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in ["a", "b", "c", "s"] {
            let _ = ip(&format!("netns delete {}{host}", self.tag));
        }
    }
}

/// Lines of JSON that a process prints.
struct Lines {
    running: Running,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Lines {
    fn of(command: &mut Command) -> Lines {
        let mut running = Running::start(command.stdout(Stdio::piped()));
        let output = running.0.stdout.take().expect("it is piped");
        let seen = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let line = serde_json::from_str(&line).unwrap_or_default();
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
        });
        Lines { running, seen }
    }

    fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line behind the first `from` that is this event, of this link if one is given.
    #[track_caller]
    fn wait(&self, from: usize, event: &str, link: Option<u8>) -> Value {
        let mut found = None;
        let what = format!("{event} {link:?}");
        eventually(&what, || {
            let fits = |line: &Value| {
                line["event"] == event && link.is_none_or(|link| line["link"] == link)
            };
            found = self.seen().into_iter().skip(from).find(fits);
            found.is_some()
        });
        found.expect("it has just been found")
    }
}

struct Stage {
    net: Net,
    dir: tempfile::TempDir,
    regions: [RegionName; 2],
    nodes: Vec<Lines>,
    client: Lines,
    _witness: Running,
}

impl Stage {
    /// A protected pair with one or two links, and a client with its load before it. `None` where this cannot be had.
    fn build(links: u8) -> Option<Stage> {
        let net = match Net::build() {
            Ok(net) => net,
            Err(why) => {
                assert!(std::env::var("CI").is_err(), "network namespaces are needed: {why}");
                eprintln!("skipped: needs root, network namespaces and nft: {why}");
                return None;
            }
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = dir.path().join("pki");
        hotpair(["pki", "init", "--name", "links", "--dir", pki.to_str().expect("text")]).exits(0);
        let mut witness = net.on("c", HOTPAIR);
        witness.args(["witness", "--listen", "10.97.0.3:7400", "--pki"]).arg(&pki);
        let witness = Running::start(witness.arg("--store").arg(dir.path().join("witness")));
        let regions = NODES.map(|node| RegionName::new(&format!("links{links}-{node}")));
        let start = |at: usize| {
            let config = configuration(dir.path(), at, &regions[at], links);
            Lines::of(net.on(NODES[at], HOTPAIR).args(["node", "--json", "--config"]).arg(config))
        };
        let nodes = vec![start(0), start(1)];
        let protected = || status(&net, 0, &regions[0])["protected"] == true;
        eventually("the pair is protected", protected);
        let mut client = net.on("c", HOTPAIR);
        client.args(["demo-client", "--service=10.97.0.1:9000", "--rate=1000", "--seconds=6"]);
        let client = Lines::of(client.arg("--objects=64").stdin(Stdio::piped()));
        client.wait(0, "ready", None);
        Some(Stage { net, dir, regions, nodes, client, _witness: witness })
    }

    fn tell_client(&mut self, words: &str) {
        let client = self.client.running.0.stdin.as_mut().expect("it is piped");
        writeln!(client, "{words}").expect("it listens");
    }

    /// So many lines there are of each node.
    fn now(&self) -> [usize; 2] {
        [0, 1].map(|at| self.nodes[at].seen().len())
    }

    fn status(&self, at: usize) -> Value {
        status(&self.net, at, &self.regions[at])
    }

    /// Waits until both nodes have left one link for the other, and says how long that took.
    fn wait_for_change(&self, from: [usize; 2], lost: u8, cut_ns: u64) {
        for (node, from) in self.nodes.iter().zip(from) {
            let told = node.wait(from, "link_lost", Some(lost));
            let used = node.wait(from, "link_in_use", Some(3 - lost));
            let after_us =
                |line: &Value| (line["t_ns"].as_u64().unwrap_or(0).saturating_sub(cut_ns)) / 1_000;
            println!(
                "link {lost} cut: lost after {} us ({}), link {} in use after {} us, {} frames again",
                after_us(&told),
                told["because"],
                3 - lost,
                after_us(&used),
                used["frames_again"],
            );
        }
    }
}

/// The node's socket is one of its namespace.
fn status(net: &Net, at: usize, region: &RegionName) -> Value {
    let mut status = net.on(NODES[at], HOTPAIR);
    status.args(["status", "--json", "--region", &region.0]);
    let output = status.stdout(Stdio::piped()).output().expect("it runs");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn configuration(dir: &Path, at: usize, region: &RegionName, links: u8) -> PathBuf {
    let (own, peer) = (at + 1, 2 - at);
    let more = match links {
        1 => String::new(),
        _ => format!(
            "links = [{{ listen = \"10.97.2.{own}:7410\", peer = \"10.97.2.{peer}:7410\" }}]"
        ),
    };
    let text = format!(
        r#"[pair]
name = "links"
node = "{node}"
[pki]
dir = "pki"
[witness]
address = "10.97.0.3:7400"
[replication]
listen = "10.97.1.{own}:7410"
peer = "10.97.1.{peer}:7410"
{more}
[region]
name = "{region}"
slots = 256
[[region.class]]
payload_bytes = 256
blocks = 4096
[[queue]]
name = "objects"
[[port]]
name = "service"
kind = "udp"
bind = "10.97.0.{own}:9000"
queue = "objects"
command = ["{HOTPAIR}", "demo-port"]
packet_bytes_max = 128
[[worker]]
queue = "objects"
command = ["{HOTPAIR}", "demo-worker", "--side", "{node}"]
count = 2
"#,
        node = NODES[at],
        region = region.0,
    );
    let path = dir.join(format!("{}.toml", NODES[at]));
    std::fs::write(&path, text).expect("a temporary directory is writable");
    path
}

fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

#[test]
fn one_network_is_cut_and_then_the_other_and_nobody_notices() {
    let _alone = alone();
    let Some(mut stage) = Stage::build(2) else { return };
    for node in &stage.nodes {
        node.wait(0, "link_up", Some(1));
        node.wait(0, "link_up", Some(2));
    }
    let links = stage.status(0)["links"].clone();
    println!("{links}");
    assert_eq!((&links[0]["alive"], &links[1]["alive"]), (&true.into(), &true.into()), "{links}");
    let first = if links[0]["in_use"] == true { 1 } else { 2 };

    let begun = stage.now();
    stage.tell_client("go");
    stage.client.wait(0, "progress", None);
    // Silence in both directions, in one, and a cable that is out: each time on the link in use.
    let mut used = first;
    for round in 0..4 {
        let (from, cut_ns) = (stage.now(), monotonic_ns());
        match round {
            0 => NODES.iter().for_each(|node| stage.net.silence(node, used)),
            1 => stage.net.silence("a", used),
            2 => stage.net.silence("b", used),
            _ => stage.net.set_cable(used, "down"),
        }
        stage.wait_for_change(from, used, cut_ns);
        let links = stage.status(1)["links"].clone();
        let at = usize::from(used - 1);
        assert!(links[at]["in_use"] == false && links[1 - at]["in_use"] == true, "{links}");
        match round {
            0 => NODES.iter().for_each(|node| stage.net.hear(node)),
            1 => stage.net.hear("a"),
            2 => stage.net.hear("b"),
            _ => stage.net.set_cable(used, "up"),
        }
        for (node, from) in stage.nodes.iter().zip(from) {
            // The line that says that it is lost comes first.
            let lost = node.seen().iter().skip(from).position(|line| line["event"] == "link_lost");
            node.wait(from + lost.unwrap_or(0), "link_up", Some(used));
        }
        used = 3 - used;
    }
    let result = stage.client.wait(0, "result", None);
    println!("{result}");
    println!("longest wait for an answer, over four cuts: {} us", result["latency"]["all"]["max"]);
    for wrong in ["lost", "duplicated", "diverged", "unanswered"] {
        assert_eq!(result[wrong], 0, "{wrong}: {result}");
    }
    // To everybody above the links nothing has happened.
    for (node, begun) in stage.nodes.iter().zip(begun) {
        for line in node.seen().iter().skip(begun) {
            let event = line["event"].as_str().unwrap_or_default();
            assert!(event.starts_with("link_") || event == "role", "{line}");
        }
    }
    for at in [0, 1] {
        let status = stage.status(at);
        assert_eq!(
            (&status["connected"], &status["epoch"]),
            (&true.into(), &1.into()),
            "{status:#}"
        );
    }
    assert!(stage.dir.path().exists());
}

/// The control: with one network its loss is the loss of the peer.
#[test]
fn with_one_network_the_peer_is_lost_with_it() {
    let _alone = alone();
    let Some(mut stage) = Stage::build(1) else { return };
    let from = stage.now();
    stage.tell_client("go");
    stage.client.wait(0, "progress", None);
    NODES.iter().for_each(|node| stage.net.silence(node, 1));
    let detected = || {
        let nodes = stage.nodes.iter().zip(from);
        let mut lines = nodes.flat_map(|(node, from)| node.seen().into_iter().skip(from));
        lines.any(|line| line["event"] == "detected" && line["cause"] == "silent")
    };
    eventually("a node is taken for dead", detected);
    let changed = || {
        let nodes = stage.nodes.iter().zip(from);
        let mut lines = nodes.flat_map(|(node, from)| node.seen().into_iter().skip(from));
        lines.any(|line| line["event"] == "solo" || line["event"] == "promoted")
    };
    eventually("the view changes", changed);
    assert_eq!(stage.status(0)["links"].as_array().map(Vec::len), Some(1));
}
