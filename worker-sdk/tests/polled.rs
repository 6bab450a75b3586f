//! Workers in event loops that are not tokio's: `poll`, and mio.

use std::os::fd::{AsFd, AsRawFd};

use hotpair_worker::PolledWorker;
use hotpair_worker::remote::{PolledRemoteWorker, RemoteSpace};
use hotpair_worker::testing::{Certificates, Host, Node, Pair, Port, geometry};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A host that serves, with its node's part and a port.
fn host() -> (Port, Node, Host) {
    let host = Host::new(&geometry(&["work"], &["out"]));
    host.region().become_primary(1);
    (Port::new(host.region()), Node::alone(host.region()), host)
}

fn polled(host: &Host) -> PolledWorker {
    PolledWorker::new(host.space().worker("work").expect("a seat")).expect("a descriptor")
}

/// Waits as long as it takes.
fn readable(what: &impl AsFd) {
    let mut descriptors = [PollFd::new(what.as_fd(), PollFlags::POLLIN)];
    poll(&mut descriptors, PollTimeout::NONE).expect("a descriptor");
}

fn is_readable(what: &impl AsFd) -> bool {
    let mut descriptors = [PollFd::new(what.as_fd(), PollFlags::POLLIN)];
    poll(&mut descriptors, PollTimeout::ZERO).expect("a descriptor") == 1
}

#[test]
fn a_new_worker_is_readable_until_it_has_looked() {
    let (mut port, _node, host) = host();
    port.deliver(("work", 0), b"a", None, b"before");
    let mut worker = polled(&host);
    readable(&worker);
    worker.claim().expect("a region").expect("it was there before").commit().expect("alone");
    assert!(worker.claim().expect("a region").is_none());
    port.deliver(("work", 0), b"a", None, b"later");
    assert!(is_readable(&worker), "a delivery has rung before it returns");
    worker.claim().expect("a region").expect("ready").commit().expect("alone");
}

#[test]
fn a_loop_of_mio_is_woken() {
    let (mut port, _node, host) = host();
    let mut worker = polled(&host);
    let mut events = Events::with_capacity(8);
    let mut turns = Poll::new().expect("an epoll");
    let descriptor = worker.as_fd().as_raw_fd();
    let source = &mut SourceFd(&descriptor);
    turns.registry().register(source, Token(0), Interest::READABLE).expect("a descriptor");
    std::thread::scope(|scope| {
        let (turn, told) = std::sync::mpsc::channel();
        scope.spawn(move || {
            while told.recv().is_ok() {
                port.deliver(("work", 0), b"a", None, b"go");
            }
        });
        for round in 0..50_u64 {
            turn.send(()).expect("it waits");
            let mut is_done = false;
            while !is_done {
                while let Some(mut job) = worker.claim().expect("a region") {
                    let value = job.value_mut::<u64>().expect("a number");
                    assert_eq!(*value, round);
                    *value += 1;
                    job.commit().expect("alone");
                    is_done = true;
                }
                if !is_done {
                    turns.poll(&mut events, None).expect("an epoll");
                }
            }
        }
    });
}

#[test]
fn a_stop_is_noticed() {
    let (_port, _node, host) = host();
    let mut worker = polled(&host);
    let stopper = worker.stopper();
    std::thread::spawn(move || stopper.stop());
    while !worker.is_stopped() {
        assert!(worker.claim().expect("a region").is_none());
        readable(&worker);
    }
    assert!(worker.claim().expect("stopped").is_none());
}

/// Goal: what rings no bell, an object that rests after it was given back, makes the descriptor readable too.
#[test]
fn a_timer_is_noticed() {
    let (mut port, _node, host) = host();
    port.deliver(("work", 0), b"a", None, b"go");
    let mut worker = polled(&host);
    worker.claim().expect("a region").expect("ready").fail();
    let mut attempts = None;
    while attempts.is_none() {
        readable(&worker);
        attempts = worker.claim().expect("a region").map(|job| job.attempts());
    }
    assert_eq!(attempts, Some(1));
}

#[test]
fn a_remote_worker_is_polled() {
    let (mut port, _node, mut host) = host();
    let certificates = Certificates::new();
    host.open("node-a", &certificates);
    let space = RemoteSpace::new(certificates.config(&[&host]));
    let worker = space.worker("work").expect("a thread");
    let mut worker = PolledRemoteWorker::new(worker).expect("a descriptor");
    for round in 0..20_u64 {
        port.deliver(("work", 0), b"a", Some(Pair::PEER), b"go");
        let mut is_done = false;
        while !is_done {
            readable(&worker);
            while let Some(mut job) = worker.claim().expect("a gateway") {
                let value = job.value_mut::<u64>().expect("a number");
                assert_eq!(*value, round);
                *value += 1;
                job.commit().expect("alone");
                is_done = true;
            }
        }
    }
    worker.stopper().stop();
    assert!(worker.claim().expect("stopped").is_none());
}
