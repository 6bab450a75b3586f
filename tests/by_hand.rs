//! A pair started by hand, as the README does it, and everything that a network, a worker and an
//! operator can get wrong with it.

mod support;

use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hotpair_worker::{Space, Wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Ended, HOTPAIR, RegionName, Running, bound, eventually, hotpair, loopback};

/// A directory with certificates and the addresses of a pair on this host.
struct Site {
    dir: tempfile::TempDir,
    ip: String,
    regions: [RegionName; 2],
}

impl Site {
    fn new(purpose: u8) -> Site {
        let site = Site {
            dir: tempfile::tempdir().expect("a temporary directory"),
            ip: loopback(purpose),
            regions: [
                RegionName::new(&format!("hand{purpose}-a")),
                RegionName::new(&format!("hand{purpose}-b")),
            ],
        };
        let pki = site.path("pki");
        hotpair(["pki", "init", "--name", "hand", "--dir", &text(&pki)]).exits(0);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Configuration of a node whose service socket comes from `socket`.
    fn config(&self, node: &str, socket: &str) -> PathBuf {
        let (ip, ports, region) = match node {
            "a" => (&self.ip, (7410, 7420), &self.regions[0].0),
            _ => (&self.ip, (7420, 7410), &self.regions[1].0),
        };
        let (own, peer) = ports;
        let text = format!(
            r#"pair = {{ name = "hand", node = "{node}" }}
pki = {{ dir = "pki" }}
witness = {{ address = "{ip}:7400" }}
replication = {{ listen = "{ip}:{own}", peer = "{ip}:{peer}" }}
[region]
name = "{region}"
slots = 256
max_attempts = 3
class = [{{ payload_bytes = 256, blocks = 4096 }}]
[[queue]]
name = "calls"
[[port]]
name = "service"
kind = "udp"
{socket}
queue = "calls"
key = {{ bytes = [0, 5] }}
packet_bytes_max = 128
"#
        );
        let path = self.path(&format!("{node}.toml"));
        std::fs::write(&path, text).expect("a temporary directory is writable");
        path
    }

    fn witness(&self) -> Running {
        let mut command = bound();
        command.args(["witness", "--listen", &format!("{}:7400", self.ip), "--pki"]);
        command.arg(self.path("pki")).arg("--store").arg(self.path("witness"));
        // Node a may begin without the other.
        command.args(["--reinit", "a"]);
        let witness = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()));
        let address = (self.ip.as_str(), 7400);
        eventually("the witness listens", || TcpStream::connect(address).is_ok());
        witness
    }

    fn node(&self, config: &Path) -> Running {
        let mut command = bound();
        command.args(["node", "--config"]).arg(config);
        Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()))
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("an ordinary path").to_owned()
}

fn status(region: &RegionName) -> serde_json::Value {
    let ended = hotpair(["status", "--json", "--region", &region.0]);
    serde_json::from_str(ended.stdout.trim()).unwrap_or_default()
}

fn stop(mut node: Running) {
    kill(Pid::from_raw(node.pid()), Signal::SIGTERM).expect("our own child");
    assert_eq!(node.wait().code(), Some(0), "an orderly stop is a success");
}

/// Goal: noise from the network and a worker that panics harm nobody, and are there to be seen.
#[test]
fn noise_is_counted_and_a_panicking_object_is_parked() {
    let site = Site::new(10);
    let service = format!("{}:7430", site.ip);
    let socket = site.path("service.sock");
    let hold = ["hold", "--at", &text(&socket), &format!("service={service}")].map(str::to_owned);
    let hold = Running::start(bound().args(hold).stdout(Stdio::null()));
    eventually("the holder listens", || socket.exists());
    let _witness = site.witness();
    let from = "holder = \"service.sock\"";
    let a = site.node(&site.config("a", from));
    eventually("node a is primary", || status(&site.regions[0])["role"] == "primary");
    let b = site.node(&site.config("b", from));
    eventually("the pair is protected", || status(&site.regions[0])["protected"] == true);
    eventually("the port is there", || {
        status(&site.regions[0])["ports"].as_array().is_some_and(|ports| !ports.is_empty())
    });

    // This process is the pair's only worker.
    let space = Space::attach(&site.regions[0].0).expect("the region is there");
    let mut worker = space.worker("calls").expect("the queue is there");
    let stopper = worker.stopper();
    let works = std::thread::spawn(move || {
        worker.run(Wait::default(), |job| {
            let packets: Vec<_> =
                job.messages().map(|packet| (packet.payload().to_vec(), packet.source())).collect();
            for (payload, source) in packets {
                assert_ne!(payload, b"panic", "the handler fails, as the test wants");
                let source = source.expect("a packet has a sender");
                job.emit("service", source, &payload)?;
            }
            Ok::<(), hotpair_worker::Error>(())
        })
    });

    let client = UdpSocket::bind((site.ip.as_str(), 0)).expect("any port");
    client.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    let echoes = |text: &str| {
        eventually("the service answers", || {
            client.send_to(text.as_bytes(), &service).expect("sent");
            let mut answer = [0; 256];
            client.recv(&mut answer).is_ok_and(|len| &answer[..len] == text.as_bytes())
        });
    };
    echoes("hello");
    client.send_to(b"bad", &service).expect("sent"); // too short for its key
    client.send_to(&[7; 500], &service).expect("sent"); // longer than the port takes
    client.send_to(b"panic", &service).expect("sent");
    eventually("the object is parked", || status(&site.regions[0])["parked"] == 1);
    echoes("still here");
    let now = status(&site.regions[0]);
    let counters = &now["ports"][0]["counters"];
    assert_eq!(counters["dropped_malformed"], 1, "{now:#}");
    assert_eq!(counters["dropped_too_large"], 1, "{now:#}");
    assert_eq!(now["workers"][0]["pid"], std::process::id(), "{now:#}");
    let region = site.regions[0].0.as_str();
    let parked = hotpair(["get", "--region", region, "--queue", "calls", "panic", "--json"]);
    assert_eq!(parked.exits(0).json()["state"], "parked");
    let dump = hotpair(["dump", "--region", region, "--queue", "calls"]);
    assert_eq!(dump.exits(0).stdout.lines().count(), 3, "{dump:#?}");

    // Both sides hold the same objects.
    eventually("the digests agree", || {
        let [a, b] = [0, 1].map(|side: usize| status(&site.regions[side]));
        a["digest"] == b["digest"] && a["digest_seq"] == b["digest_seq"] && a["digest"].is_string()
    });
    stopper.stop();
    works.join().expect("the worker outlived its handler's panics").expect("a clean end");
    stop(b);
    stop(a);
    stop(hold);
    for region in &site.regions {
        assert!(!region.path().exists(), "an orderly stop leaves nothing");
    }
}

#[test]
fn a_service_address_in_use_stops_the_node_with_one_error() {
    let site = Site::new(11);
    let taken = UdpSocket::bind((site.ip.as_str(), 0)).expect("any port");
    let address = taken.local_addr().expect("bound");
    let config = site.config("a", &format!("bind = \"{address}\""));
    let _witness = site.witness();
    let ended = hotpair(["node", "--config", &text(&config)]);
    ended.exits(1).says("in use by").says(&std::process::id().to_string());
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{ended:#?}");
    assert!(!site.regions[0].path().exists(), "nothing is left");
}

#[test]
fn a_node_whose_address_is_taken_says_so() {
    let site = Site::new(12);
    let _taken = UdpSocket::bind((site.ip.as_str(), 7410)).expect("a free address");
    let config = site.config("a", &format!("bind = \"{}:0\"", site.ip));
    let ended = hotpair(["node", "--config", &text(&config)]);
    ended.exits(1).says("7410").says("replication");
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{ended:#?}");
}

/// Goal: two pairs of one name do not mix: the witness and the node each say whose certificate it is.
#[test]
fn a_certificate_of_another_pair_is_refused_by_name() {
    let (site, other) = (Site::new(13), Site::new(14));
    let _witness = site.witness();
    std::fs::remove_dir_all(site.path("pki")).expect("it was made");
    std::fs::rename(other.path("pki"), site.path("pki")).expect("the same file system");
    let config = site.config("a", &format!("bind = \"{}:0\"", site.ip));
    let mut command = Command::new(HOTPAIR);
    command.args(["node", "--config"]).arg(&config).stdin(Stdio::null());
    let node = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("built");
    let pid = i32::try_from(node.id()).expect("process ids are small");
    eventually("the node has its region", || site.regions[0].path().exists());
    // Long enough for some attempts; what matters is what was said, and that nobody became primary.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(status(&site.regions[0])["role"], "empty");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our own child");
    let ended = Ended::of(node.wait_with_output().expect("our own child"));
    ended.exits(0).says("belongs to pair hand");
    let complaints = ended.stderr.matches("belongs to pair").count();
    assert!(complaints < 10, "no storm of complaints: {ended:#?}");
}

/// Goal: a primary that is stopped, not dead, keeps nobody waiting: the other takes over, and the
/// stopped one is killed by its supervisor and comes back as back-up. A second node of the same
/// configuration is refused all the while.
#[test]
fn a_stopped_node_is_replaced_and_a_second_one_refused() {
    let site = Site::new(15);
    let _witness = site.witness();
    let configs = ["a", "b"].map(|node| site.config(node, &format!("bind = \"{}:0\"", site.ip)));
    let a = site.node(&configs[0]);
    eventually("node a is primary", || status(&site.regions[0])["role"] == "primary");
    let b = site.node(&configs[1]);
    eventually("the pair is protected", || status(&site.regions[0])["protected"] == true);

    let second = hotpair(["node", "--config", &text(&configs[0])]);
    second.exits(5).one_error().says("is used by process");
    assert_eq!(status(&site.regions[0])["protected"], true, "nothing else was harmed");

    let node = support::family(a.pid())
        .into_iter()
        .find(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("node-inner")
        })
        .expect("the supervisor runs a node");
    kill(Pid::from_raw(node), Signal::SIGSTOP).expect("it runs");
    eventually("node b is primary", || status(&site.regions[1])["role"] == "primary");
    eventually("the stopped node is killed", || !support::runs(node));
    eventually("the pair is protected again", || status(&site.regions[1])["protected"] == true);
    assert_eq!(status(&site.regions[0])["role"], "backup");
    stop(a);
    stop(b);
}
