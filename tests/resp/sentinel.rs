//! Redis with one replica and three sentinels, for comparison.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::cable::Cable;
use crate::crowd::{Client, Crowd, Verdict, verdict};
use crate::nodes::free_address;
use crate::processes::{hotpair, wait_for};

/// Longest wait for a promotion: a sentinel asks for it after a second without an answer.
const PROMOTION_MAX: Duration = Duration::from_secs(20);
/// Answers that clients get while the replica hears nothing.
const CUT_ANSWERS: u64 = 2_000;

/// A program that ends with the test, in a directory of its own.
struct Server {
    child: Child,
    _dir: TempDir,
}

impl Server {
    fn start(program: &str, at: SocketAddr, arguments: &[&str], file: Option<&str>) -> Server {
        let dir = tempfile::Builder::new().prefix("hotpair-").tempdir().expect("/tmp is writable");
        let mut command = Command::new(hotpair());
        command.args(["under", "--parent", &std::process::id().to_string(), "--", program]);
        if let Some(text) = file {
            let path = dir.path().join("sentinel.conf");
            std::fs::write(&path, text).expect("it is our directory");
            command.arg(path);
        }
        command.args(["--bind", &at.ip().to_string(), "--port", &at.port().to_string(), "--dir"]);
        command.arg(dir.path()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Server { child: command.spawn().expect("it is installed"), _dir: dir }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are small");
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// The same clients, the same kill. With `cut` nothing comes from the primary to its replica for a while before it. `None`: nobody
/// was promoted.
pub(crate) fn count_and_kill(clients: usize, cut: bool) -> Option<Verdict> {
    let [master_at, replica_at] = [free_address(), free_address()];
    let plain = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];
    let mut master = Server::start("redis-server", master_at, &plain, None);
    let (ip, port) = (master_at.ip().to_string(), master_at.port().to_string());
    let cable = Cable::lay(free_address(), master_at);
    let (cable_ip, cable_port) = (cable.at.ip().to_string(), cable.at.port().to_string());
    let replica_ip = replica_at.ip().to_string();
    let replica_of = ["--replicaof", &cable_ip, &cable_port, "--replica-announce-ip", &replica_ip];
    let replica_of = [&plain[..], &replica_of].concat();
    let _replica = Server::start("redis-server", replica_at, &replica_of, None);
    let ask = |at, line: &str| Client::connect(at).and_then(|mut client| client.ask(line)).ok();
    wait_for("the replica is in step", || {
        ask(master_at, "SET probe x")?;
        let mut client = Client::connect(master_at).ok()?;
        client.send(b"SET probe y\r\nWAIT 1 100\r\n").ok()?;
        client.line().ok()?;
        client.line().ok().filter(|held| held == ":1")
    });
    // All have the same address, which is not the one that the kernel would choose for what they send.
    let config = format!(
        "sentinel announce-ip {ip}\nsentinel monitor store {ip} {port} 2\nsentinel down-after-milliseconds store 1000\n\
         sentinel failover-timeout store 5000\n"
    );
    let watchers = [free_address(), free_address(), free_address()];
    let _sentinels =
        watchers.map(|at| Server::start("redis-sentinel", at, &["--sentinel"], Some(&config)));
    let find = move || {
        let mut client = Client::connect(watchers[0]).ok()?;
        client.send(b"SENTINEL GET-MASTER-ADDR-BY-NAME store\r\n").ok()?;
        let lines: Vec<String> = (0..5).map_while(|_| client.line().ok()).collect();
        format!("{}:{}", lines.get(2)?, lines.get(4)?).parse().ok()
    };
    for at in watchers {
        wait_for("a sentinel knows the replica and the others", || {
            let mut client = Client::connect(at).ok()?;
            client.send(b"SENTINEL CKQUORUM store\r\n").ok()?;
            let quorum = client.line().ok()?.starts_with("+OK 3");
            client.send(b"SENTINEL REPLICAS store\r\n").ok()?;
            (quorum && client.line().ok()? == "*1").then_some(())
        });
    }
    let crowd = Crowd::start(clients, find);
    crowd.wait_for(5_000);
    if cut {
        cable.cut();
        crowd.wait_for(CUT_ANSWERS);
    }
    master.signal(Signal::SIGKILL);
    let _ = master.child.wait();
    let begun = Instant::now();
    let promoted = loop {
        match find() {
            Some(at) if at == replica_at => break true,
            _ if begun.elapsed() > PROMOTION_MAX => break false,
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    if promoted {
        crowd.wait_for(1_000);
    }
    let counts = crowd.end();
    promoted.then(|| verdict(replica_at, &counts))
}
