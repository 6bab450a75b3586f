//! Workers that are awaited, and one in an event loop of its own.

use std::os::fd::AsFd;
use std::time::Duration;

use hotpair_worker::remote::RemoteSpace;
use hotpair_worker::testing::{Certificates, Host, Node, PATIENCE, Pair, Port, geometry};
use hotpair_worker::{AsyncWorker, Wait};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn is_send<T: Send>(value: T) -> T {
    value
}

/// A host that serves, with its node's part and a port.
fn host() -> (Port, Node, Host) {
    let host = Host::new(&geometry(&["work"], &["out"]));
    host.region().become_primary(1);
    (Port::new(host.region()), Node::alone(host.region()), host)
}

fn awaited(host: &Host) -> AsyncWorker {
    AsyncWorker::new(host.space().worker("work").expect("a seat")).expect("a descriptor")
}

#[test]
fn a_claim_waits_without_blocking_the_others() {
    let (mut port, _node, host) = host();
    runtime().block_on(async {
        let mut worker = awaited(&host);
        for round in 0..50_u8 {
            // On one thread: the message is sent while the claim waits, or the claim would block for ever.
            let (claimed, ()) = tokio::join!(is_send(worker.claim()), async {
                tokio::task::yield_now().await;
                port.deliver(("work", 0), b"a", None, &[round]);
            });
            let mut job = is_send(claimed.expect("a region").expect("not stopped"));
            assert_eq!(job.messages().map(|m| m.payload()[0]).collect::<Vec<_>>(), [round]);
            *job.value_mut::<u64>().expect("a number") += 1;
            let seq = job.commit_until_released().await.expect("alone");
            assert!(host.region().released() >= seq);
        }
    });
}

#[test]
fn a_claim_that_is_dropped_takes_nothing() {
    let (mut port, _node, host) = host();
    runtime().block_on(async {
        let mut worker = awaited(&host);
        for _ in 0..20 {
            let dropped = timeout(Duration::from_millis(1), worker.claim()).await;
            assert!(dropped.is_err(), "nothing was ready");
        }
        port.deliver(("work", 0), b"a", None, b"go");
        let claimed = timeout(PATIENCE, worker.claim()).await.expect("it is ready");
        let job = claimed.expect("a region").expect("not stopped");
        assert_eq!((job.attempts(), job.messages().len()), (0, 1));
        job.commit().expect("alone");
    });
}

#[test]
fn an_awaited_worker_is_stopped() {
    let (_port, _node, host) = host();
    runtime().block_on(async {
        let mut worker = awaited(&host);
        let stopper = worker.stopper();
        let (claimed, ()) = tokio::join!(worker.claim(), async { stopper.stop() });
        assert!(claimed.expect("stopped").is_none());
    });
}

#[test]
fn many_workers_share_a_thread() {
    const MESSAGES: usize = 200;
    let (mut port, _node, host) = host();
    for number in 0..MESSAGES {
        port.deliver(("work", 0), &number.to_le_bytes(), None, b"go");
    }
    runtime().block_on(async {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let (mut worker, tell) = (awaited(&host), tell.clone());
            tasks.push(tokio::spawn(async move {
                while let Some(job) = worker.claim().await.expect("a region") {
                    let key = job.key().to_vec();
                    job.commit().expect("alone");
                    let _ = tell.send(key);
                    tokio::task::yield_now().await;
                }
            }));
        }
        let mut keys = std::collections::BTreeSet::new();
        for _ in 0..MESSAGES {
            let key = timeout(PATIENCE, told.recv()).await.expect("all of them");
            assert!(keys.insert(key.expect("a worker")), "each once");
        }
        tasks.iter().for_each(|task| task.abort());
    });
}

#[test]
fn a_remote_worker_is_awaited() {
    let (mut port, _node, mut host) = host();
    let certificates = Certificates::new();
    host.open("node-a", &certificates);
    let space = RemoteSpace::new(certificates.config(&[&host]));
    runtime().block_on(async {
        let mut worker = space.async_worker("work").expect("a thread");
        let dropped = timeout(Duration::from_millis(20), worker.claim()).await.is_err();
        assert!(dropped, "nothing was ready");
        for round in 0..20_u8 {
            let (claimed, ()) = tokio::join!(is_send(worker.claim()), async {
                tokio::task::yield_now().await;
                port.deliver(("work", 0), b"a", Some(Pair::PEER), &[round]);
            });
            let mut job = claimed.expect("a gateway").expect("not stopped");
            assert_eq!(job.messages().map(|m| m.payload()[0]).collect::<Vec<_>>(), [round]);
            *job.value_mut::<u64>().expect("a number") += 1;
            let seq = is_send(job.commit()).await.expect("alone");
            assert!(host.region().released() >= seq);
        }
        port.deliver(("work", 0), b"a", None, b"last");
        let claimed = timeout(PATIENCE, worker.claim()).await.expect("it is ready");
        claimed.expect("a gateway").expect("not stopped").fail();
        let job = worker.claim().await.expect("a gateway").expect("not stopped");
        assert_eq!((job.attempts(), job.value()), (1, &20_u64.to_le_bytes()[..]));
        job.give_back();
        worker.stopper().stop();
        assert!(worker.claim().await.expect("stopped").is_none());
    });
}

#[test]
fn a_worker_in_a_loop_of_its_own_is_woken() {
    let (mut port, _node, host) = host();
    let mut worker = host.space().worker("work").expect("a seat");
    let bell = worker.bell().expect("a descriptor");
    let rounds = 50;
    std::thread::scope(|scope| {
        let (turn, turns) = std::sync::mpsc::channel();
        scope.spawn(move || {
            while turns.recv().is_ok() {
                port.deliver(("work", 0), b"a", None, b"go");
            }
        });
        let mut rung = 0;
        for _ in 0..rounds {
            turn.send(()).expect("it waits");
            loop {
                if let Some(job) = worker.claim(Wait::none()).expect("a region") {
                    job.commit().expect("alone");
                    break;
                }
                if worker.arm() {
                    let mut descriptors = [PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
                    let most = PollTimeout::try_from(worker.rest_at_most()).expect("100 ms");
                    rung += poll(&mut descriptors, most).expect("a descriptor");
                    worker.disarm();
                }
            }
        }
        assert!(rung > 0, "never woken by the bell");
    });
}
