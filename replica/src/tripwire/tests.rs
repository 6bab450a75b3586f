//! Deaths are noticed, on this host by the page and on the other by the wire.

use std::env;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::*;
use crate::pki::tests::TestPair;

/// Longer than anything takes here, shorter than anybody's patience with a hanging test.
const HANGS_AFTER: Duration = Duration::from_secs(20);
const CHILD: &str = "HOTPAIR_TEST_CHILD";

/// Starts this very test program as a child that runs `test` and nothing else.
fn child(test: &str, stdin: Stdio) -> Child {
    Command::new(env::current_exe().expect("a test program"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(CHILD, "1")
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test program starts again")
}

/// Waits until the child has printed `line`, so that what it did before is done.
fn wait_for(child: &mut Child, line: &str) {
    let stdout = child.stdout.take().expect("piped");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    assert!(lines.any(|found| found.contains(line)), "the child never said {line:?}");
}

/// A child outlives neither its parent nor an unexpected start by hand.
fn is_child() -> bool {
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    env::var_os(CHILD).is_some()
}

fn park() -> ! {
    loop {
        std::thread::park();
    }
}

#[test]
#[ignore = "the body of a child process, started by other tests"]
fn child_that_holds_a_page() {
    if !is_child() {
        return;
    }
    let fd: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().expect("the page");
    let seat = NodeSeat::hold(SharedPage::from_fd(fd).expect("a page")).expect("nobody holds it");
    seat.progress();
    println!("held");
    park();
}

#[test]
fn the_death_of_a_process_is_seen_in_its_page() {
    let page = SharedPage::create().expect("a page");
    assert_eq!(page.watch(Duration::ZERO), Watch::NotHeld);
    let fd = page.as_fd().try_clone_to_owned().expect("a descriptor");
    let mut child = child("tripwire::tests::child_that_holds_a_page", Stdio::from(fd));
    wait_for(&mut child, "held");
    assert_eq!(page.watch(Duration::from_millis(1)), Watch::Alive { progress: 1 });
    NodeSeat::hold(page.clone()).expect_err("it has an owner");

    let watching = page.clone();
    let watcher = std::thread::spawn(move || watching.watch(HANGS_AFTER));
    child.kill().expect("alive");
    let mut seen = watcher.join().expect("no panic");
    let killed = Instant::now();
    while seen != Watch::Died {
        assert!(killed.elapsed() < HANGS_AFTER, "the death was never seen");
        seen = page.watch(Duration::from_millis(10));
    }
    child.wait().expect("killed");
    assert_eq!(page.look(), Watch::Died, "and stays seen");
}

#[test]
fn only_a_page_is_taken_for_one() {
    let file = tempfile::tempfile().expect("a file");
    SharedPage::from_fd(file.try_clone().expect("open").into()).expect_err("it is empty");
    file.set_len(4096).expect("writable");
    SharedPage::from_fd(file.into()).expect_err("nothing is in it");
}

struct End {
    server: TripwireServer,
    events: Receiver<TripwireEvent>,
}

impl End {
    fn new(pair: &TestPair) -> Self {
        let (tx, events) = mpsc::channel();
        let server = TripwireServer::start(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            &pair.of("node-b"),
            "node-a",
            move |event| {
                let _ = tx.send(event);
            },
        )
        .expect("a free port");
        Self { server, events }
    }

    fn next(&self) -> TripwireEvent {
        self.events.recv_timeout(HANGS_AFTER).expect("an event")
    }
}

use std::net::SocketAddr;

#[test]
fn notices_and_the_end_of_the_supervisor_arrive() {
    let pair = TestPair::new("demo");
    let end = End::new(&pair);
    let client = TripwireClient::start(end.server.address(), &pair.of("node-a"), "node-b")
        .expect("credentials of a node");
    assert_eq!(end.next(), TripwireEvent::Armed);
    while !client.is_armed() {
        std::thread::yield_now();
    }
    assert!(client.node_died(42));
    assert_eq!(end.next(), TripwireEvent::NodeDied { launch: 42 });
    drop(client);
    assert_eq!(end.next(), TripwireEvent::SupervisorGone);
}

#[test]
fn a_supervisor_finds_the_next_node_again() {
    let pair = TestPair::new("demo");
    let first = End::new(&pair);
    let address = first.server.address();
    let client = TripwireClient::start(address, &pair.of("node-a"), "node-b").expect("credentials");
    assert_eq!(first.next(), TripwireEvent::Armed);
    drop(first.server);
    let (tx, events) = mpsc::channel();
    let _second = TripwireServer::start(address, &pair.of("node-b"), "node-a", move |event| {
        let _ = tx.send(event);
    })
    .expect("the port is free again");
    assert_eq!(events.recv_timeout(HANGS_AFTER), Ok(TripwireEvent::Armed));
    drop(client);
    assert_eq!(events.recv_timeout(HANGS_AFTER), Ok(TripwireEvent::SupervisorGone));
}

#[test]
fn only_the_newest_connection_counts_and_only_of_the_peer() {
    let (pair, other) = (TestPair::new("demo"), TestPair::new("other"));
    let end = End::new(&pair);
    let stranger = TripwireClient::start(end.server.address(), &other.of("node-a"), "node-b")
        .expect("credentials");
    let own = TripwireClient::start(end.server.address(), &pair.of("node-b"), "node-b")
        .expect("credentials");
    let old = TripwireClient::start(end.server.address(), &pair.of("node-a"), "node-b")
        .expect("credentials");
    assert_eq!(end.next(), TripwireEvent::Armed);
    let new = TripwireClient::start(end.server.address(), &pair.of("node-a"), "node-b")
        .expect("credentials");
    assert_eq!(end.next(), TripwireEvent::Armed);
    drop((stranger, own, old));
    while !new.is_armed() {
        std::thread::yield_now();
    }
    assert!(new.node_died(1));
    assert_eq!(end.next(), TripwireEvent::NodeDied { launch: 1 }, "and no end of the others");
}

#[test]
#[ignore = "the body of a child process, started by other tests"]
fn child_that_holds_a_wire() {
    if !is_child() {
        return;
    }
    let address: SocketAddr =
        env::var("HOTPAIR_TEST_ADDRESS").expect("given").parse().expect("an address");
    let dir = env::var_os("HOTPAIR_TEST_DIR").expect("given");
    let credentials =
        crate::tls::Credentials::from_dir(dir.as_ref(), "node-a").expect("the parent made them");
    let _client = TripwireClient::start(address, &credentials, "node-b").expect("credentials");
    park();
}

#[test]
fn the_kernel_tells_of_a_supervisor_that_was_killed() {
    let pair = TestPair::new("demo");
    let end = End::new(&pair);
    let mut child = Command::new(env::current_exe().expect("a test program"))
        .args(["--exact", "tripwire::tests::child_that_holds_a_wire", "--ignored"])
        .env(CHILD, "1")
        .env("HOTPAIR_TEST_ADDRESS", end.server.address().to_string())
        .env("HOTPAIR_TEST_DIR", pair.dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the test program starts again");
    assert_eq!(end.next(), TripwireEvent::Armed);
    child.kill().expect("alive");
    assert_eq!(end.next(), TripwireEvent::SupervisorGone);
    child.wait().expect("killed");
}
