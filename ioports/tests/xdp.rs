//! What only ports of frames by AF_XDP have: a program before the interface, which is there as long as the port, and no longer.

#![cfg(feature = "xdp")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use common::{HEADER_BYTES, Running, Space, far_end, serve_one, turned, until};
use hotpair_ioports::{
    Attach, ByFlow, Classified, Confinement, Counters, OpenPort, PortConfig, RunError, Stop,
};
use hotpair_shm::{Counter, Overload};

/// What `ip` says of the port's interface.
fn shown() -> String {
    let output = Command::new("ip").args(["link", "show", "dev", "hp0"]).output();
    String::from_utf8(output.expect("it made the cable").stdout).expect("text")
}

fn config(attach: Attach) -> PortConfig {
    PortConfig::xdp("service", "calls", "hp0", attach)
}

fn both() -> ByFlow {
    ByFlow { both_ways: true }
}

/// Goal: a frame is the port's while its host serves, and the host's else; none of a time when another served comes in later; the
/// program is taken off with the port.
#[test]
fn frames_are_for_who_serves() {
    for (attach, word) in [(Attach::Driver, " xdp "), (Attach::Generic, " xdpgeneric ")] {
        if !common::cable() {
            return;
        }
        let space = Space::new("xdp-role");
        space.region.become_backup(1);
        let mut port = Running::start(&space.path, config(attach), both()).attached();
        let slept = || port.counters.snapshot().sleeps;
        until("it has slept", || slept() > 0);
        assert!(shown().contains(word), "{}", shown());
        let peer = far_end();
        peer.send(b"for whoever served then").expect("the cable takes it");
        space.region.become_primary(2);
        let before = slept();
        until("it has slept", || slept() > before);
        peer.send(b"for the primary").expect("the cable takes it");
        let (_, frames) = serve_one(&space, &mut space.worker(), turned);
        assert_eq!(frames.len(), 1);
        assert!(frames[0].ends_with(b"for the primary"), "{frames:02x?}");
        space.region.become_fenced(3);
        let before = slept();
        until("it has slept twice", || slept() >= before + 2);
        peer.send(b"for nobody").expect("the cable takes it");
        space.region.become_primary(4);
        let before = slept();
        until("it has slept", || slept() > before);
        peer.send(b"again").expect("the cable takes it");
        until("it is read", || port.counters.snapshot().received == 2);
        port.end().expect("asked to stop");
        assert!(!shown().contains("xdp"), "{}", shown());
    }
}

/// Goal: an interface has one such port, and the second one is told so; without the feature's rights or the interface, too.
#[test]
fn who_cannot_have_the_interface_is_told_why() {
    if !common::cable() {
        return;
    }
    let refused = |interface: &str| -> (String, String) {
        let config = PortConfig::xdp("service", "calls", interface, Attach::Any);
        let Err(error) = OpenPort::open(&config, &Counters::new()) else { panic!("refused") };
        let RunError::Socket { source, .. } = &error else { panic!("{error}") };
        (source.to_string(), error.help().unwrap_or_default())
    };
    let (why, help) = refused("hp9");
    assert!(why.contains("hp9") && help.contains("ip link"), "{why}: {help}");
    let first = OpenPort::open(&config(Attach::Any), &Counters::new()).expect("nobody has it");
    let (why, help) = refused("hp0");
    assert!(why.contains("AF_XDP at interface `hp0`"), "{why}");
    assert!(help.contains("ip link show dev hp0"), "{help}");
    drop(first);
    drop(OpenPort::open(&config(Attach::Any), &Counters::new()).expect("nobody has it any more"));
    let only_sends = PortConfig { send_only: true, ..config(Attach::Any) };
    let Err(error) = OpenPort::open(&only_sends, &Counters::new()) else { panic!("refused") };
    assert!(error.to_string().contains("kind packet"), "{error}");
}

/// Goal: each frame that was sent is received or counted by the reason for which the kernel had no place for it.
#[test]
fn frames_without_a_place_are_counted_by_reason() {
    const SENT: u64 = 4000;
    if !common::cable() {
        return;
    }
    let space = Space::primary("xdp-full");
    space.policy(Overload::Hold);
    // One object, whose inbox is full after a thousand.
    let one = |_: &[u8], _| Classified::key(b"all");
    // By the driver of a virtual cable some would be lost on it.
    let port = Running::start(&space.path, config(Attach::Generic), one).attached();
    until("it has slept", || port.counters.snapshot().sleeps > 0);
    let peer = far_end();
    for _ in 0..SENT {
        peer.send(b"more than there are places for").expect("the cable takes it");
    }
    until("it holds", || space.counted(Counter::Held) > 0);
    let mut worker = space.worker();
    let mut gatherer = hotpair_shm::Gatherer::new(space.region.clone());
    let accounted = || {
        let seen = port.counters.snapshot();
        seen.received + seen.kernel_dropped == SENT
    };
    let mut served = 0;
    until("each is received or counted", || {
        if let Some(mut claim) = worker.claim(space.queue) {
            served += claim.messages().count() as u64;
            claim.set_value(b"").expect("there are blocks");
            let _ = claim.commit();
        }
        gatherer.gather(usize::MAX, |_| {});
        accounted()
    });
    let seen = port.counters.snapshot();
    let by_reason: u64 = seen.kernel_dropped_by.values().sum();
    assert_eq!(by_reason, seen.kernel_dropped, "{seen}");
    let known = ["rx ring full", "fill ring empty"];
    assert!(seen.kernel_dropped_by.keys().any(|reason| known.contains(reason)), "{seen}");
}

/// Goal: what cannot leave is counted, and what is behind it leaves.
#[test]
fn frames_that_cannot_leave_are_counted() {
    if !common::cable() {
        return;
    }
    let space = Space::primary("xdp-long");
    let port = Running::start(&space.path, config(Attach::Any), both()).attached();
    until("it has slept", || port.counters.snapshot().sleeps > 0);
    let peer = far_end();
    let mut worker = space.worker();
    for (payload, what) in [("long", "too long"), ("short", "too short"), ("right", "")] {
        peer.send(payload.as_bytes()).expect("the cable takes it");
        let (seq, _) = serve_one(&space, &mut worker, |frame| match payload {
            "long" => [&turned(frame)[..], &[0; 1500]].concat(),
            "short" => frame[..13].to_vec(),
            _ => turned(frame),
        });
        space.region.raise_released(seq);
        if !what.is_empty() {
            until(what, || port.counters.snapshot().send_failed.get(what) == Some(&1));
        }
    }
    let mut answer = [0; 16];
    let len = peer.recv(&mut answer).expect("an answer");
    assert_eq!(&answer[..len], b"right");
    assert_eq!(space.counted(Counter::SendErrors), 2);
    assert_eq!(HEADER_BYTES, 42);
}

/// The port's process: this binary, run again in the network of its parent. It opens, gives up its rights, and works.
#[test]
fn port_process() {
    let Ok(path) = std::env::var("TEST_REGION") else { return };
    let port = OpenPort::open(&config(Attach::Any), &Counters::new()).expect("nobody has it");
    // In a thread of its own: what is given up is the thread's.
    std::thread::spawn(move || {
        let confinement = Confinement { user: None, lenient: false };
        confinement.apply().expect("everybody may give up");
        println!("\nconfined");
        std::io::stdout().flush().expect("the parent listens");
        let stop = Stop::new().expect("a socket pair");
        port.run(path.as_ref(), &mut both(), &stop).expect("killed, not ended");
    })
    .join()
    .expect("killed, not ended");
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Goal: a port without rights serves, follows its role by no system call that it may not make, and leaves no program at the
/// interface when it is killed.
#[test]
fn a_confined_port_serves_and_leaves_nothing_when_it_is_killed() {
    if !common::cable() {
        return;
    }
    let space = Space::primary("xdp-killed");
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "port_process", "--nocapture"]);
    command.env("TEST_REGION", &space.path).stdout(Stdio::piped());
    let mut process = Process(command.spawn().expect("this binary runs"));
    let output = BufReader::new(process.0.stdout.as_mut().expect("piped"));
    let mut lines = output.lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "confined"), "it ended before");
    let peer = far_end();
    let mut worker = space.worker();
    let serve = |worker: &mut hotpair_shm::Participant| {
        // Sent until it is taken: that the port has begun nothing tells.
        until("a frame comes in", || {
            peer.send(b"hello").expect("the cable takes it");
            worker.wait_ready(space.queue, std::time::Duration::from_millis(20))
        });
        let (seq, _) = serve_one(&space, worker, turned);
        space.region.raise_released(seq);
        let mut answer = [0; 16];
        let len = peer.recv(&mut answer).expect("an answer");
        assert_eq!(&answer[..len], b"hello");
    };
    serve(&mut worker);
    space.region.become_fenced(2);
    space.region.become_primary(3);
    serve(&mut worker);
    assert!(shown().contains("xdp"), "{}", shown());
    process.0.kill().expect("it runs");
    process.0.wait().expect("a child");
    until("the program is gone", || !shown().contains("xdp"));
}
