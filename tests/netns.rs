//! A pair on two hosts: network namespaces joined by a cable, started by hand from configuration
//! files, so that nothing assumes loopback or shared descriptors.
//!
//! ```text
//!   netns a 10.99.0.1 ── veth ── bridge ── veth ── netns b 10.99.0.2
//!     node a, port              │                   node b, port
//!                            netns c 10.99.0.3: witness, client
//! ```
//!
//! The service address is each host's own here: the client asks the one that serves. Needs root and
//! `ip`; says so and passes without them, except where `CI=true` promises that they are there.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{HOTPAIR, RegionName, Running, eventually, family, hotpair};

/// Namespaces and their cables; gone when dropped.
struct Net {
    tag: String,
}

const HOSTS: [(&str, &str); 3] = [("a", "10.99.0.1"), ("b", "10.99.0.2"), ("c", "10.99.0.3")];

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
        // Interface names have 15 letters at most.
        let net = Net { tag: format!("hp{}", std::process::id() % 1_000_000) };
        let tag = &net.tag;
        ip(&format!("netns add {tag}s"))?;
        let switch = |arguments: &str| ip(&format!("-n {tag}s {arguments}"));
        switch("link add name bridge type bridge")?;
        switch("link set bridge up")?;
        for (host, address) in HOSTS {
            let space = net.space(host);
            ip(&format!("netns add {space}"))?;
            ip(&format!(
                "link add {tag}{host} netns {tag}s type veth peer name eth0 netns {space}"
            ))?;
            switch(&format!("link set {tag}{host} master bridge up"))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} address add {address}/24 dev eth0"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
        }
        Ok(net)
    }

    fn space(&self, host: &str) -> String {
        format!("{}{host}", self.tag)
    }

    /// A command on one of the hosts.
    fn on(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        let parent = std::process::id().to_string();
        command.args(["netns", "exec", &self.space(host)]);
        // `ip` becomes what it runs, so the kernel ends it with this test, however that ends.
        command.args([HOTPAIR, "under", "--parent", &parent, "--", program]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in ["a", "b", "c", "s"] {
            let _ = ip(&format!("netns delete {}", self.space(host)));
        }
    }
}

/// A socket in the client's namespace, used from this process.
struct Client {
    socket: UdpSocket,
}

impl Client {
    /// The namespace belongs to a thread, and a socket to the namespace that it was made in.
    fn on(net: &Net, host: &str) -> Client {
        let path = format!("/run/netns/{}", net.space(host));
        let made = std::thread::spawn(move || {
            let file = std::fs::File::open(path).expect("the namespace was made");
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("we are root");
            UdpSocket::bind("0.0.0.0:0").expect("any port")
        });
        let socket = made.join().expect("the thread ends well");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        Client { socket }
    }

    /// Asks until somebody answers; gives the count in the answer.
    fn ask(&self, servers: &[&str], number: u64) -> u64 {
        let request = request(number);
        let mut answered = None;
        eventually("the service answers", || {
            for server in servers {
                let server: SocketAddr = format!("{server}:9000").parse().expect("an address");
                // Not sent is like lost on the way: asked again.
                let _ = self.socket.send_to(&request, server);
            }
            let mut answer = [0; 256];
            while let Ok((len, _)) = self.socket.recv_from(&mut answer) {
                if len == 40 && answer[8..16] == number.to_le_bytes() {
                    let count = answer[16..24].try_into().expect("eight bytes");
                    answered = Some(u64::from_le_bytes(count));
                    return true;
                }
            }
            false
        });
        answered.expect("it has just been answered")
    }
}

/// A request of the demo's service for object 7: each number is applied once, whoever gets it.
fn request(number: u64) -> Vec<u8> {
    let mut packet = b"HPq1".to_vec();
    packet.extend(7_u32.to_le_bytes());
    packet.extend(number.to_le_bytes());
    packet.extend((number * 31).to_le_bytes());
    packet
}

fn configuration(dir: &Path, node: &str, region: &RegionName) -> std::path::PathBuf {
    let (own, peer) = match node {
        "a" => (HOSTS[0].1, HOSTS[1].1),
        _ => (HOSTS[1].1, HOSTS[0].1),
    };
    let text = format!(
        r#"[pair]
name = "cable"
node = "{node}"
[pki]
dir = "pki"
[witness]
address = "{witness}:7400"
[replication]
listen = "{own}:7410"
peer = "{peer}:7410"
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
bind = "{own}:9000"
queue = "objects"
command = ["{HOTPAIR}", "demo-port"]
packet_bytes_max = 128
[[worker]]
queue = "objects"
command = ["{HOTPAIR}", "demo-worker", "--side", "{node}"]
count = 2
"#,
        witness = HOSTS[2].1,
        region = region.0,
    );
    let path = dir.join(format!("{node}.toml"));
    std::fs::write(&path, text).expect("a temporary directory is writable");
    path
}

fn status(region: &RegionName) -> serde_json::Value {
    let ended = hotpair(["status", "--json", "--region", &region.0]);
    serde_json::from_str(ended.stdout.trim()).unwrap_or_default()
}

#[test]
fn a_pair_on_two_hosts_survives_the_loss_of_one() {
    let net = match Net::build() {
        Ok(net) => net,
        Err(why) => {
            assert!(std::env::var("CI").is_err(), "network namespaces are needed: {why}");
            eprintln!("skipped: needs root and network namespaces: {why}");
            return;
        }
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pki = dir.path().join("pki");
    let pki = pki.to_str().expect("an ordinary path");
    hotpair(["pki", "init", "--name", "cable", "--dir", pki]).exits(0);

    let mut witness = net.on("c", HOTPAIR);
    witness.args(["witness", "--listen", "10.99.0.3:7400", "--pki", pki, "--store"]);
    let _witness = Running::start(witness.arg(dir.path().join("witness")));
    let regions = [RegionName::new("cable-a"), RegionName::new("cable-b")];
    let start = |host: &str, region: &RegionName| {
        let config = configuration(dir.path(), host, region);
        Running::start(net.on(host, HOTPAIR).args(["node", "--config"]).arg(config))
    };
    let mut a = start("a", &regions[0]);
    let b = start("b", &regions[1]);
    eventually("the pair is protected", || status(&regions[0])["protected"] == true);

    // Each answer proves that all earlier ones are there.
    let client = Client::on(&net, "c");
    for number in 1..=50 {
        assert_eq!(client.ask(&["10.99.0.1"], number), number);
    }

    // `ip netns exec` has become the supervisor: kill it and everything below, as a power cut would.
    for pid in family(a.pid()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    a.wait();
    for number in 51..=100 {
        assert_eq!(client.ask(&["10.99.0.1", "10.99.0.2"], number), number);
    }
    let now = status(&regions[1]);
    assert_eq!((&now["role"], &now["protected"]), (&"primary".into(), &false.into()), "{now:#}");

    // The lost host comes back by itself, as back-up.
    let a = start("a", &regions[0]);
    eventually("the pair is protected again", || status(&regions[1])["protected"] == true);
    let now = status(&regions[0]);
    assert_eq!(now["role"], "backup", "{now:#}");
    assert_eq!(client.ask(&["10.99.0.2"], 101), 101);

    // A power cut leaves the switch without a word: only heartbeats tell.
    ip(&format!("-n {} link set eth0 down", net.space("b"))).expect("the cable is cut");
    assert_eq!(client.ask(&["10.99.0.1"], 102), 102);

    for mut node in [a, b] {
        kill(Pid::from_raw(node.pid()), Signal::SIGTERM).expect("our own child");
        node.wait();
    }
    for region in &regions {
        assert!(!region.path().exists(), "an orderly stop leaves nothing");
    }
}
