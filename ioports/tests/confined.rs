//! A port that has given up what it does not need: it works, and can do little else.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};

use common::{Space, any, echo, free_address, serve_one, until};
use hotpair_ioports::{ByPeer, Confinement, Counters, OpenPort, PortConfig, SocketSource, Stop};
use hotpair_shm::{Gatherer, Reaper};
use nix::unistd::{User, geteuid, getuid};

/// The port's process: this binary, run again. It opens, gives up, tries what it must not be able to do, and works.
#[test]
fn port_process() {
    let Ok(path) = std::env::var("TEST_REGION") else { return };
    let address: SocketAddr =
        std::env::var("TEST_ADDRESS").expect("set by the parent").parse().expect("an address");
    let config = PortConfig::new("service", "calls", SocketSource::Bind(address));
    let port = OpenPort::open(&config, &Counters::new()).expect("a free port");
    let listener = TcpListener::bind(any()).expect("not confined yet");
    let user = std::env::var("TEST_USER").ok();
    let confinement = Confinement { user: user.clone(), lenient: false };
    // In a thread of its own, as the test's harness has more of them: what is given up is the thread's.
    std::thread::spawn(move || {
        confinement.apply().expect("everybody may give up");
        let mut report = Vec::new();
        report.push(("a program", Command::new("/bin/true").status().is_err()));
        let to = listener.local_addr().expect("bound");
        report.push(("a connection", TcpStream::connect(to).is_err()));
        let raw = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet,
            nix::sys::socket::SockType::Raw,
            nix::sys::socket::SockFlag::empty(),
            nix::sys::socket::SockProtocol::Icmp,
        );
        report.push(("a raw socket", raw.is_err()));
        let parent = nix::unistd::getppid();
        report.push(("a signal", nix::sys::signal::kill(parent, None).is_err()));
        let file = std::fs::File::create("/dev/null").expect("everybody may write there");
        let mode = std::fs::Permissions::from_mode(0o666);
        report.push(("rights of files", file.set_permissions(mode).is_err()));
        for (what, refused) in report {
            println!("\nrefused {refused} {what}");
        }
        if let Some(name) = user {
            let uid = User::from_name(&name).expect("a user table").expect("a user").uid;
            println!("\nrefused {} root", getuid() == uid && geteuid() == uid);
        }
        println!("\nconfined");
        std::io::stdout().flush().expect("the parent listens");
        let stop = Stop::new().expect("a socket pair");
        port.run(path.as_ref(), &mut ByPeer, &stop).expect("killed, not ended");
    })
    .join()
    .expect("killed, not ended");
}

struct Process(Child);

impl Process {
    fn start(space: &Space, address: SocketAddr, user: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command
            .args(["--exact", "port_process", "--nocapture"])
            .env("TEST_REGION", &space.path)
            .env("TEST_ADDRESS", address.to_string())
            .stdout(Stdio::piped());
        if let Some(user) = user {
            command.env("TEST_USER", user);
        }
        Process(command.spawn().expect("this binary runs"))
    }

    /// What it was refused, once it is confined.
    fn refused(&mut self) -> Vec<String> {
        let output = BufReader::new(self.0.stdout.as_mut().expect("piped"));
        let mut seen = Vec::new();
        for line in output.lines() {
            let line = line.expect("text");
            if line == "confined" {
                return seen;
            }
            seen.extend(line.strip_prefix("refused ").map(str::to_owned));
        }
        panic!("the port ended: {seen:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Goal: a confined port serves, also as another user, survives the replacement of its region, and is reaped like any other;
/// what it does not need is refused.
#[test]
fn a_confined_port_serves_and_can_do_little_else() {
    let users: &[Option<&str>] = match getuid().is_root() {
        true => &[None, Some("nobody")],
        false => &[None],
    };
    for user in users {
        let mut space = Space::primary("confined");
        let open = |space: &Space| {
            if let Some(name) = user {
                // As the node does for a port with a user of its own.
                let group = User::from_name(name).expect("a user table").expect("a user").gid;
                chown(&space.path, None, Some(group.as_raw())).expect("root may");
                let mode = std::fs::Permissions::from_mode(0o660);
                std::fs::set_permissions(&space.path, mode).expect("its owner may");
            }
        };
        open(&space);
        let address = free_address();
        let mut port = Process::start(&space, address, *user);
        let refused = port.refused();
        assert!(refused.len() >= 5, "{refused:?}");
        assert!(refused.iter().all(|line| line.starts_with("true")), "{user:?}: {refused:?}");

        let client = std::net::UdpSocket::bind(any()).expect("a free port");
        client.connect(address).expect("it is here");
        client.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("an option");
        for round in 0..2 {
            for number in 0..10_u8 {
                client.send(&[round, number]).expect("loopback takes it");
                let (seq, _) = serve_one(&space, &mut space.worker(), echo);
                space.region.raise_released(seq);
                let mut answer = [0; 8];
                let len = client.recv(&mut answer).expect("an answer");
                assert_eq!(answer[..len], [round, number], "{user:?}");
            }
            if round == 0 {
                // Another region takes its place: the port attaches again, confined as it is.
                let path = space.path.clone();
                space.region.become_backup(2);
                std::fs::remove_file(&path).expect("it is there");
                let next = Space::with(&path, &common::geometry(1024));
                open(&next);
                next.region.become_primary(3);
                std::mem::forget(std::mem::replace(&mut space, next));
            }
        }
        port.0.kill().expect("it is our child");
        port.0.wait().expect("it is our child");
        let mut reaper = Reaper::new(space.region.clone());
        let mut gatherer = Gatherer::new(space.region.clone());
        until("what it had received is reaped", || {
            reaper.run_once();
            gatherer.gather(usize::MAX, |_| {});
            gatherer.collect_sent(|_, _| {});
            space.counted_processes() == 1
        });
    }
}
