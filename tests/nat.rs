//! The NAT of examples/nat on one host: UDP and TCP through it, what it refuses, and what time ends.
//!
//! Needs root, network namespaces and ethtool; says so and passes without them, except where `CI=true` promises that they are
//! there.

#[path = "service/afterwards.rs"]
mod afterwards;
#[path = "nat/network.rs"]
mod network;
#[path = "service/nodes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod nodes;
#[path = "nat/pair.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod pair;
#[path = "service/processes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod processes;
#[path = "service/spaces.rs"]
mod spaces;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use network::{CLIENT, NAT_OUTSIDE, Network, OTHER_CLIENT, SERVER};
use pair::{Nat, Setup};
use processes::wait_for;

/// A node alone, without a back-up.
fn alone(name: &'static str, worker: &'static [&'static str]) -> Option<Nat> {
    let setup = Setup { nodes: 1, worker, ..Setup::new(name) };
    Some(Nat::start(Network::build()?, &setup))
}

fn udp(nat: &Nat, host: &str) -> UdpSocket {
    let socket = nat.network.on(host, || UdpSocket::bind("0.0.0.0:0").expect("any port"));
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    socket
}

/// Asks until there is an answer.
fn ask(socket: &UdpSocket, to: &UdpSocket, text: &[u8]) -> std::net::SocketAddr {
    let at = (SERVER, to.local_addr().expect("bound").port());
    wait_for("a datagram arrives", || {
        // Before the NAT has found its gateway it drops: asked again.
        let _ = socket.send_to(text, at);
        let mut buffer = [0; 2048];
        let (len, from) = to.recv_from(&mut buffer).ok()?;
        (buffer[..len] == *text).then_some(from)
    })
}

/// Goal: UDP and TCP go through it in both directions, and outside sees the NAT's address alone.
#[test]
fn packets_go_through_and_come_back() {
    let Some(mut nat) = alone("nat-alone", &[]) else { return };
    let (client, server) = (udp(&nat, "c"), udp(&nat, "d"));
    let from = ask(&client, &server, b"question");
    assert_eq!(from.ip(), NAT_OUTSIDE);
    assert!(from.port() >= 1024, "{from}");
    server.send_to(b"answer", from).expect("a socket");
    let mut buffer = [0; 64];
    let (len, by) = client.recv_from(&mut buffer).expect("it is answered");
    assert_eq!((&buffer[..len], by.ip()), (&b"answer"[..], SERVER.into()));

    let listener = nat.network.on("d", || TcpListener::bind("0.0.0.0:0").expect("any port"));
    let at = (SERVER, listener.local_addr().expect("bound").port());
    let mut client = nat.network.on("c", || TcpStream::connect(at).expect("through the NAT"));
    let (mut server, from) = listener.accept().expect("it has connected");
    assert_eq!(from.ip(), NAT_OUTSIDE);
    assert_eq!(client.local_addr().expect("bound").ip(), CLIENT);
    let text: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let sent = text.clone();
    let sender = std::thread::spawn(move || {
        server.write_all(&sent).expect("a connection");
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).expect("a connection");
    sender.join().expect("it ends well");
    assert!(got == text, "{} of {} bytes", got.len(), text.len());
    nat.nodes.stop(0);
}

/// Goal: who scans or floods is counted and bounded, the others are served meanwhile, and time frees all ports.
#[test]
fn scans_and_floods_are_bounded_and_time_frees_ports() {
    let Some(mut nat) =
        alone("nat-flood", &["--tick-ms", "500", "--opening-ms", "2000", "--udp-ms", "2000"])
    else {
        return;
    };
    let (flooder, server) = (udp(&nat, "c"), udp(&nat, "d"));
    let other = nat.network.on("c", || UdpSocket::bind((OTHER_CLIENT, 0)).expect("any port"));
    ask(&other, &server, b"before");
    // Outside: every port, most of them of no flow.
    for port in 1..=u16::MAX {
        let _ = server.send_to(b"scan", (NAT_OUTSIDE, port));
    }
    // Inside: more flows than one host may have.
    for _ in 0..2 {
        for port in 1..=u16::MAX {
            let _ = flooder.send_to(b"flood", (SERVER, port));
            if port.is_multiple_of(8_192) {
                ask(&other, &server, format!("while {port}").as_bytes());
            }
        }
    }
    let counted = |counts: &BTreeMap<String, u64>, name: &str| {
        counts.get(&format!("nat_{name}_total")).copied().unwrap_or(0)
    };
    let counts = wait_for("the flood is counted, and all ports are free again", || {
        let counts = nat.counts(0);
        let ended = counted(&counts, "flows_ended") + counted(&counts, "flows_replaced");
        let refused = counted(&counts, "dropped_ports_of_the_host_exhausted");
        let bounded = refused + counted(&counts, "flows_replaced");
        let scanned = counted(&counts, "dropped_of_no_flow__from_outside");
        let free = ended > 10_000 && ended == counted(&counts, "flows_begun");
        (bounded > 0 && scanned > 1_000 && free).then_some(counts)
    });
    println!("{counts:#?}");
    ask(&other, &server, b"after");
    nat.nodes.stop(0);
}
