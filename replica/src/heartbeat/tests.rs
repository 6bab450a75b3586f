//! Two heartbeats over loopback.

use std::net::UdpSocket;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::*;

/// Longer than any detection, shorter than anybody's patience with a hanging test.
const HANGS_AFTER: Duration = Duration::from_secs(20);

fn keys(ours: &str, theirs: &str, secret: u8) -> HeartbeatKeys {
    HeartbeatKeys::derive(ours, theirs, |out, label, context| -> Result<(), ()> {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [&[secret], label, context] {
            hash.update(part);
        }
        out.copy_from_slice(&hash.finish().as_ref()[..out.len()]);
        Ok(())
    })
    .expect("infallible")
}

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("a free port")
}

fn beat(socket: UdpSocket, peer: SocketAddr) -> (Heartbeat, Receiver<HeartbeatEvent>) {
    let (tx, events) = mpsc::channel();
    // A generous span: on a loaded machine a false alarm would fail the test, not the code.
    let config = HeartbeatConfig { period: Duration::from_millis(5), missed: 100, peer };
    let heartbeat = Heartbeat::start(socket, config, move |event| {
        let _ = tx.send(event);
    })
    .expect("a thread");
    (heartbeat, events)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < HANGS_AFTER, "{what} never happened");
        thread::yield_now();
    }
}

#[test]
fn a_peer_that_stops_is_silent_and_one_that_returns_is_heard() {
    let (socket_a, socket_b) = (socket(), socket());
    let (address_a, address_b) =
        (socket_a.local_addr().expect("bound"), socket_b.local_addr().expect("bound"));
    let (a, events) = beat(socket_a, address_b);
    let (b, _quiet) = beat(socket_b, address_a);
    a.rekey(keys("a", "b", 1));
    b.rekey(keys("b", "a", 1));
    wait_until("the first heartbeat", || a.counters().heard.load(Ordering::Relaxed) > 0);
    assert_eq!(b.address(), address_b);

    drop(b);
    match events.recv_timeout(HANGS_AFTER) {
        Ok(HeartbeatEvent::Silent { lasted }) => assert!(lasted >= Duration::from_millis(500)),
        other => panic!("{other:?}"),
    }
    let again = UdpSocket::bind(address_b).expect("it was free a moment ago");
    let (b, _quiet) = beat(again, address_a);
    // Another process on the other side: another connection, other keys.
    a.rekey(keys("a", "b", 2));
    b.rekey(keys("b", "a", 2));
    assert_eq!(events.recv_timeout(HANGS_AFTER), Ok(HeartbeatEvent::Heard));
}

#[test]
fn strangers_are_counted_and_not_believed() {
    let (socket_a, stranger) = (socket(), socket());
    let address_a = socket_a.local_addr().expect("bound");
    let (a, events) = beat(socket_a, stranger.local_addr().expect("bound"));
    a.rekey(keys("a", "b", 1));
    let mut sending = Sending::new(&keys("b", "a", 9));
    wait_until("a refusal", || {
        stranger.send_to(&sending.next_packet(), address_a).expect("loopback");
        a.counters().refused.load(Ordering::Relaxed) > 0
    });
    assert_eq!(a.counters().heard.load(Ordering::Relaxed), 0);
    assert!(events.try_recv().is_err(), "nobody was heard, so nobody fell silent");
}
