//! Certificates are rotated while a pair serves: no failover, no lost connection, and in the end the old ones
//! are refused.

mod support;

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hotpair_replica::arbiter::{Arbiter as _, Question};
use hotpair_replica::protocol::{Request, RequestId, Testimony};
use hotpair_replica::tls::Credentials;
use hotpair_replica::witness::Witness;
use hotpair_worker::{Space, Wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{RegionName, Running, bound, eventually, hotpair, loopback};

/// A pair on this host, its certificates in one directory.
struct Site {
    dir: tempfile::TempDir,
    ip: String,
    regions: [RegionName; 2],
}

impl Site {
    fn new(purpose: u8) -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let regions = ["a", "b"].map(|node| RegionName::new(&format!("rotate{purpose}-{node}")));
        let site = Site { dir, ip: loopback(purpose), regions };
        hotpair(["pki", "init", "--name", "hand", "--dir", &site.text("pki")]).exits(0);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("an ordinary path").to_owned()
    }

    fn config(&self, node: &str, pki: &str) -> PathBuf {
        let (own, peer, region) = match node {
            "a" => (7410, 7420, &self.regions[0].0),
            _ => (7420, 7410, &self.regions[1].0),
        };
        let ip = &self.ip;
        let text = format!(
            r#"pair = {{ name = "hand", node = "{node}" }}
pki = {{ dir = "{pki}" }}
witness = {{ address = "{ip}:7400" }}
replication = {{ listen = "{ip}:{own}", peer = "{ip}:{peer}" }}
heartbeat = {{ misses = 400 }}
[region]
name = "{region}"
slots = 256
class = [{{ payload_bytes = 256, blocks = 4096 }}]
[[queue]]
name = "calls"
[[port]]
name = "service"
kind = "udp"
holder = "service.sock"
queue = "calls"
key = {{ bytes = [0, 5] }}
packet_bytes_max = 128
"#
        );
        let path = self.path(&format!("{node}-{pki}.toml"));
        fs::write(&path, text).expect("a temporary directory is writable");
        path
    }

    fn node(&self, node: &str, pki: &str) -> Node {
        let events = self.path(&format!("{node}-{pki}.events"));
        let file = File::create(&events).expect("a temporary directory is writable");
        let mut command = bound();
        command.args(["node", "--json", "--config"]).arg(self.config(node, pki));
        let process = Running::start(command.stdin(Stdio::null()).stdout(file));
        Node { process, events }
    }

    fn status(&self, side: usize) -> Value {
        let ended = hotpair(["status", "--json", "--region", &self.regions[side].0]);
        serde_json::from_str(ended.stdout.trim()).unwrap_or_default()
    }

    fn rotate(&self, more: &[&str]) {
        let pki = self.text("pki");
        hotpair([&["pki", "rotate", "--dir", &pki], more].concat()).exits(0);
    }
}

/// A supervisor, and what it said.
struct Node {
    process: Running,
    events: PathBuf,
}

impl Node {
    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.events).expect("readable");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn count(&self, event: &str) -> usize {
        self.events().iter().filter(|line| line["event"] == event).count()
    }

    fn hang_up(&self) {
        kill(Pid::from_raw(self.process.pid()), Signal::SIGHUP).expect("our own child");
    }
}

/// Echoes on both regions, whichever is primary, for as long as the value lives.
struct Workers(Vec<(hotpair_worker::Stopper, JoinHandle<()>)>);

impl Workers {
    fn on(regions: &[RegionName]) -> Workers {
        let of = |region: &RegionName| {
            let space = Space::attach(&region.0).expect("the region is there");
            let mut worker = space.worker("calls").expect("the queue is there");
            let stopper = worker.stopper();
            let echo = move || {
                let ended = worker.run(Wait::default(), |job| {
                    let packets: Vec<_> = job
                        .messages()
                        .map(|packet| (packet.payload().to_vec(), packet.source()))
                        .collect();
                    for (payload, source) in packets {
                        job.set_value(&payload)?;
                        job.emit("service", source.expect("a packet has a sender"), &payload)?;
                    }
                    Ok::<(), hotpair_worker::Error>(())
                });
                ended.expect("a clean end");
            };
            (stopper, thread::spawn(echo))
        };
        Workers(regions.iter().map(of).collect())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (stopper, thread) in self.0.drain(..) {
            stopper.stop();
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a worker panicked");
        }
    }
}

/// A client that asks again and again, and counts the answers.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    thread: Option<JoinHandle<Duration>>,
}

impl Load {
    fn on(ip: &str) -> Load {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = UdpSocket::bind((ip, 0)).expect("any port");
        client.connect((ip, 7430)).expect("an address");
        client.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
        let (stopping, counted) = (Arc::clone(&stop), Arc::clone(&answers));
        let thread = thread::spawn(move || {
            let (mut longest, mut asked, mut number) = (Duration::ZERO, Instant::now(), 0_u64);
            while !stopping.load(Ordering::SeqCst) {
                let text = format!("key-{} {number}", number % 7);
                let _ = client.send(text.as_bytes());
                let mut answer = [0; 128];
                if client.recv(&mut answer).is_ok_and(|len| &answer[..len] == text.as_bytes()) {
                    longest = longest.max(asked.elapsed());
                    counted.fetch_add(1, Ordering::SeqCst);
                    (asked, number) = (Instant::now(), number + 1);
                }
            }
            longest
        });
        Load { stop, answers, thread: Some(thread) }
    }

    fn wait_for_more(&self) {
        let so_far = self.answers.load(Ordering::SeqCst);
        eventually("the service answers", || self.answers.load(Ordering::SeqCst) > so_far + 50);
    }

    fn end(mut self) -> Duration {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().expect("ends once").join().expect("the client does not panic")
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("it is new");
    for entry in fs::read_dir(from).expect("readable").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// Goal: rotation of the authority and of everything below it is not noticed by the service. Afterwards a node
/// that dies finds its way back with the new certificates, and nobody with the old ones.
#[test]
fn a_pair_commits_while_its_certificates_are_rotated() {
    let site = Site::new(40);
    copy(&site.path("pki"), &site.path("old"));
    let hold = ["hold", "--at", &site.text("service.sock"), &format!("service={}:7430", site.ip)]
        .map(str::to_owned);
    let _hold = Running::start(bound().args(hold).stdout(Stdio::null()));
    eventually("the holder listens", || site.path("service.sock").exists());
    let mut witness = bound();
    witness.args(["witness", "--listen", &format!("{}:7400", site.ip), "--reinit", "a"]);
    witness.arg("--pki").arg(site.path("pki")).arg("--store").arg(site.path("witness"));
    let said = site.path("witness.says");
    let file = File::create(&said).expect("writable");
    let witness = Running::start(witness.stdin(Stdio::null()).stdout(file));
    let at: SocketAddr = format!("{}:7400", site.ip).parse().expect("an address");
    eventually("the witness listens", || TcpStream::connect(at).is_ok());

    let a = site.node("a", "pki");
    eventually("node a is primary", || site.status(0)["role"] == "primary");
    let b = site.node("b", "pki");
    eventually("the pair is protected", || site.status(0)["protected"] == true);
    let workers = Workers::on(&site.regions[..1]);
    let on_the_backup = Workers::on(&site.regions[1..]);
    let load = Load::on(&site.ip);
    load.wait_for_more();

    let disturbances = || {
        let of = |node: &Node| {
            ["promoted", "disconnected", "view", "detected", "solo"].map(|event| node.count(event))
        };
        (of(&a), of(&b))
    };
    let before = disturbances();
    for (round, more) in [(1, &["--ca"][..]), (2, &["--ca", "--finish"])] {
        site.rotate(more);
        for process in [&a.process, &b.process, &witness] {
            kill(Pid::from_raw(process.pid()), Signal::SIGHUP).expect("our own child");
        }
        for node in [&a, &b] {
            eventually("the node uses the new certificates", || {
                node.count("certificates_reloaded") == round
            });
        }
        eventually("the witness uses the new certificates", || {
            let said = fs::read_to_string(&said).expect("readable");
            said.matches("certificate in use from now on").count() == round
        });
        load.wait_for_more();
    }
    assert_eq!(disturbances(), before, "nobody noticed");

    // The back-up's node dies and comes back: everything it does from now on it does with the new ones.
    let pid = b
        .events()
        .iter()
        .rev()
        .find(|line| line["event"] == "started" && line["kind"] == "node")
        .and_then(|line| line["pid"].as_i64())
        .expect("the node was started");
    let admitted = a.count("admitted");
    kill(Pid::from_raw(i32::try_from(pid).expect("small")), Signal::SIGKILL).expect("it runs");
    eventually("the node is admitted again", || a.count("admitted") > admitted);
    load.wait_for_more();

    // The old ones are refused by the witness, and by a.
    let old = Credentials::from_dir(&site.path("old"), "node-b").expect("consistent in itself");
    let mut asking = Witness::new(at, &old).expect("credentials");
    let question =
        Question { id: RequestId(1), testimony: Testimony::Nothing, request: Request::Read };
    let error = asking.attempt(&question, Instant::now() + Duration::from_secs(20));
    error.expect_err("the old authority is trusted no more");
    // Nobody may use the region of a node that starts anew.
    drop(on_the_backup);
    drop(b);
    eventually("a is alone", || site.status(0)["protected"] == false);
    let refused = a.count("connection_refused");
    let stale = site.node("b", "old");
    eventually("a refuses it", || a.count("connection_refused") > refused);
    let reason =
        a.events().iter().rev().find(|line| line["event"] == "connection_refused").cloned();
    let reason = reason.expect("just counted");
    let because = reason["because"].as_str().expect("a text");
    assert!(because.contains("node-b is not signed by the authority of pair hand"), "{because}");
    load.wait_for_more();
    drop(stale);

    let b = site.node("b", "pki");
    eventually("the pair is protected", || site.status(0)["protected"] == true);
    load.wait_for_more();
    println!("the longest answer took {:?}", load.end());
    b.hang_up();
    assert!(support::runs(b.process.pid()), "SIGHUP ends nobody");
    drop(workers);
}

/// Goal: `pki show` says what is there and for how long, and its exit code says whether to act.
#[test]
fn show_warns_of_what_ends_soon() {
    let site = Site::new(41);
    let pki = site.text("pki");
    let good = hotpair(["pki", "show", "--dir", &pki]);
    good.exits(0);
    for part in ["node-a of pair hand", "role witness", "authority hotpair hand", "3649 days left"]
    {
        assert!(good.stdout.contains(part), "{good:#?}");
    }
    let soon = hotpair(["pki", "show", "--dir", &pki, "--within", "4000d", "--json"]);
    soon.exits(1).says("node-a expires on 20").says("pki rotate --ca");
    let shown = soon.json();
    assert_eq!(shown["certificates"][1]["member"], "node-b");
    assert_eq!(shown["certificates"][1]["state"], "expires_soon");
    assert_eq!(shown["authorities"][0]["days_left"], 3649);

    // What one host has.
    let host = site.path("host");
    fs::create_dir(&host).expect("it is new");
    for name in ["ca.pem", "node-b.pem", "node-b.key"] {
        fs::copy(site.path("pki").join(name), host.join(name)).expect("copied");
    }
    let shown = hotpair(["pki", "show", "--dir", &site.text("host")]);
    assert!(shown.exits(0).stdout.contains("key elsewhere"), "{shown:#?}");
    fs::copy(site.path("pki").join("node-a.key"), host.join("node-b.key")).expect("copied");
    hotpair(["pki", "show", "--dir", &site.text("host")]).exits(1).says("node-b.key");
    let refused = hotpair(["pki", "rotate", "--dir", &site.text("host")]);
    refused.exits(1).one_error().says("ca.key").says("bring ca.key back");
    let refused = hotpair(["pki", "rotate", "--ca", "--finish", "--dir", &pki]);
    refused.exits(5).one_error().says("no change of it is under way");
}
