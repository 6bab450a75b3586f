//! What people use through a NAT: ssh, a download, a measurement. Servers on host d, clients on host c.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::network::SERVER;
use crate::pair::Nat;
use crate::processes::{Process, hotpair, wait_for};

const SSHD: &str = "/usr/sbin/sshd";
const SSH_PORT: &str = "2222";
/// Of a download: six seconds of it.
const BYTES: usize = 12 << 20;
/// The server makes it last: what a client only reads slowly may be in its host long before.
const PIECE_BYTES: usize = 64 << 10;
const PIECE_EVERY: Duration = Duration::from_millis(32);

/// Whether the programs are installed. In CI they have to be.
pub(crate) fn are_installed() -> bool {
    let all = ["ssh", "ssh-keygen", SSHD, "curl", "iperf3"];
    let missing: Vec<&str> =
        all.into_iter().filter(|name| Command::new(name).arg("-V").output().is_err()).collect();
    if missing.is_empty() {
        return true;
    }
    let advice = format!(
        "{missing:?} are missing: apt-get install openssh-server openssh-client curl iperf3"
    );
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
    eprintln!("skipped, because {advice}");
    false
}

/// A server of OpenSSH with keys of its own.
pub(crate) fn sshd(nat: &Nat) -> Process {
    let dir = nat.dir.path();
    for name in ["host", "user"] {
        let keygen = ["-q", "-t", "ed25519", "-N", "", "-f", name];
        let made = Command::new("ssh-keygen").args(keygen).current_dir(dir).status();
        assert!(made.expect("it is installed").success());
    }
    fs::copy(dir.join("user.pub"), dir.join("authorized")).expect("it is our directory");
    let at = |name: &str| dir.join(name).display().to_string();
    let config = format!(
        "Port {SSH_PORT}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
         PasswordAuthentication no\nPermitRootLogin yes\n",
        at("host"),
        at("authorized"),
    );
    fs::write(dir.join("sshd_config"), config).expect("it is our directory");
    // Where it keeps itself from doing harm; the package's scripts make it.
    fs::create_dir_all("/run/sshd").expect("we are root");
    fs::set_permissions("/run/sshd", Permissions::from_mode(0o755)).expect("we are root");
    let words = [SSHD, "-D", "-e", "-f", &at("sshd_config")].map(str::to_owned);
    let mut sshd = Process::start(dir, "sshd", nat.network.exec("d").iter().chain(&words));
    sshd.first_line();
    sshd
}

/// A session in which the other side says everything again.
pub(crate) struct Session {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Session {
    pub(crate) fn open(nat: &Nat) -> Session {
        let dir = nat.dir.path();
        let mut command = Command::new(hotpair());
        command.args(["under", "--parent", &std::process::id().to_string(), "--"]);
        command.args(nat.network.exec("c")).args(["ssh", "-F", "/dev/null", "-p", SSH_PORT, "-i"]);
        command.arg(dir.join("user"));
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "BatchMode=yes",
            "LogLevel=ERROR",
            "ServerAliveInterval=2",
            "ServerAliveCountMax=6",
        ] {
            command.args(["-o", option]);
        }
        command.args([&format!("root@{SERVER}"), "cat"]);
        let log = File::create(dir.join("ssh.log")).expect("it is our directory");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the program was built");
        let input = child.stdin.take().expect("it was asked for");
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        let (say, lines) = channel();
        std::thread::spawn(move || {
            // It ends with the session, or with the test.
            output.lines().map_while(Result::ok).try_for_each(|line| say.send(line))
        });
        Session { child, input, lines }
    }

    /// Whether `text` comes back within so long.
    pub(crate) fn says(&mut self, text: &str, within: Duration) -> bool {
        // An error means that it has ended.
        let asked = writeln!(self.input, "{text}").and_then(|()| self.input.flush());
        asked.is_ok() && self.lines.recv_timeout(within).is_ok_and(|line| line == text)
    }

    /// How it ended, when it has.
    pub(crate) fn outcome(&mut self) -> ExitStatus {
        wait_for("ssh ends", || self.child.try_wait().expect("our own child"))
    }

    /// Nothing more is said: the other side ends, and so does the session.
    pub(crate) fn close(self) -> ExitStatus {
        let Session { mut child, input, .. } = self;
        drop(input);
        wait_for("ssh ends", || child.try_wait().expect("our own child"))
    }
}

/// A web server with one page, which serves one client at a time until the test ends.
pub(crate) fn web(nat: &Nat) -> u16 {
    let listener = nat.network.on("d", || TcpListener::bind("0.0.0.0:0").expect("any port"));
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let _ = client.read(&mut request);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\nConnection: close\r\n\r\n"
                );
                // An error means that the client has given up.
                let _ = client.write_all(head.as_bytes());
                for piece in page().chunks(PIECE_BYTES) {
                    if client.write_all(piece).is_err() {
                        return;
                    }
                    std::thread::sleep(PIECE_EVERY);
                }
            });
        }
    });
    port
}

fn page() -> Vec<u8> {
    (0..BYTES).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

/// A download by curl.
pub(crate) struct Download {
    curl: Process,
    file: PathBuf,
}

impl Download {
    pub(crate) fn start(nat: &Nat, name: &str, port: u16) -> Download {
        let file = nat.dir.path().join(name);
        let url = format!("http://{SERVER}:{port}/");
        let to = file.display().to_string();
        // Given up when nothing has come for ten seconds.
        let words = ["curl", "-sS", "--speed-time", "10", "--speed-limit", "1", "-o", &to, &url]
            .map(str::to_owned);
        let curl = Process::start(nat.dir.path(), name, nat.network.exec("c").iter().chain(&words));
        Download { curl, file }
    }

    /// What has come.
    pub(crate) fn bytes(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |file| file.len())
    }

    /// Whether all of it came, when curl has ended, and all is right.
    pub(crate) fn ends_whole(mut self) -> bool {
        let ended = wait_for("curl ends", || self.curl.ended());
        ended.success() && fs::read(&self.file).is_ok_and(|bytes| bytes == page())
    }
}

/// iperf3 through the NAT, from inside to outside.
pub(crate) struct Measurement {
    _server: Process,
    client: Process,
    report: PathBuf,
}

impl Measurement {
    pub(crate) fn start(nat: &Nat, words: &[&str]) -> Measurement {
        let dir = nat.dir.path();
        let exec = |host: &str, name: &str, words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Process::start(dir, name, nat.network.exec(host).iter().chain(&words))
        };
        let mut server = exec("d", "iperf3-server", &["iperf3", "-s", "-1", "--forceflush"]);
        server.first_line();
        let report = dir.join("iperf3.json");
        let to = SERVER.to_string();
        let file = path_text(&report);
        let client = [&["iperf3", "-c", &to, "-J", "-i", "0.1", "--logfile", file], words].concat();
        let client = exec("c", "iperf3-client", &client);
        Measurement { _server: server, client, report }
    }

    /// Bytes that arrived, and the longest time in which none left, in tenths of a second.
    pub(crate) fn outcome(mut self) -> (u64, usize) {
        let ended = wait_for("iperf3 ends", || self.client.ended());
        let report = fs::read_to_string(&self.report).unwrap_or_default();
        assert!(ended.success(), "iperf3: {ended:?}: {report}");
        let report: Value = serde_json::from_str(&report).expect("JSON");
        let intervals = report["intervals"].as_array().expect("there are some");
        let silent = |interval: &Value| interval["sum"]["bytes"].as_u64() == Some(0);
        let longest = intervals.split(|interval| !silent(interval)).map(<[Value]>::len).max();
        let bytes = report["end"]["sum_received"]["bytes"].as_u64().expect("a number");
        (bytes, longest.unwrap_or(0))
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("the test's paths are plain text")
}
