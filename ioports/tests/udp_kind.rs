//! What only datagrams have: several addresses, groups, several sockets of one address, and many at once.

mod common;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use common::{Running, Space, echo, free_address, geometry, serve_one, unique, until};
use hotpair_ioports::{
    AllKeyless, ByPeer, Family, PortConfig, PortKind, Sender, SocketSource, UdpConfig,
};
use hotpair_shm::{Counter, Gatherer, Overload, Region};

fn port_of(socket: &UdpSocket) -> PortConfig {
    PortConfig::new("service", "calls", SocketSource::Inherited(socket.as_raw_fd()))
}

/// Goal: a socket of all addresses answers from the one that was asked: a client that has connected hears nothing else.
#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    for any in ["0.0.0.0:0", "[::]:0"] {
        let space = Space::primary("udp-asked");
        let service = UdpSocket::bind(any).expect("a free port");
        let number = service.local_addr().expect("bound").port();
        let _port = Running::start(&space.path, port_of(&service), ByPeer).attached();
        let mut worker = space.worker();
        let mut clients: Vec<UdpSocket> = Vec::new();
        for last in 1..=4 {
            let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            client.connect((Ipv4Addr::new(127, 0, 0, last), number)).expect("an address of ours");
            clients.push(client);
        }
        if any.starts_with('[') {
            let client = UdpSocket::bind("[::1]:0").expect("a free port");
            client.connect(("::1", number)).expect("an address of ours");
            clients.push(client);
        }
        for client in &clients {
            client.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
            for round in 0..3_u8 {
                client.send(&[round]).expect("loopback takes it");
                let (seq, _) = serve_one(&space, &mut worker, echo);
                space.region.raise_released(seq);
                let mut answer = [0; 4];
                assert_eq!(client.recv(&mut answer).expect("from whom it asked"), 1, "{any}");
            }
        }
    }
}

/// Goal: a port belongs to its groups while its host serves, and only then.
#[test]
fn groups_are_joined_by_who_serves() {
    let space = Space::new("udp-group");
    let service = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    let number = service.local_addr().expect("bound").port();
    let udp = UdpConfig {
        multicast: vec!["239.7.7.7@127.0.0.1".parse().expect("a group")],
        ..UdpConfig::default()
    };
    let config = PortConfig { kind: PortKind::Udp(udp), ..port_of(&service) };
    let port = Running::start(&space.path, config, ByPeer).attached();
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let group = SocketAddr::from((Ipv4Addr::new(239, 7, 7, 7), number));
    // A back-up does not belong to it: what is sent then is not there later.
    space.region.become_backup(1);
    let before = port.counters.snapshot().sleeps;
    until("it has slept twice", || port.counters.snapshot().sleeps >= before + 2);
    sender.send_to(b"early", group).expect("loopback takes it");
    space.region.become_primary(2);
    // Sent again until the port has joined, which nothing tells.
    until("it hears its group", || {
        sender.send_to(b"group", group).expect("loopback takes it");
        port.counters.snapshot().received > 0
    });
    let (_, messages) = serve_one(&space, &mut space.worker(), echo);
    assert!(messages.iter().all(|message| message == b"group"), "{messages:?}");
    space.region.become_fenced(3);
    let before = port.counters.snapshot().sleeps;
    until("it has slept twice", || port.counters.snapshot().sleeps >= before + 2);
    let heard = port.counters.snapshot().received;
    sender.send_to(b"late", group).expect("loopback takes it");
    assert_eq!(
        service.set_nonblocking(true).map(|()| service.recv(&mut [0; 8]).is_err()).ok(),
        Some(true)
    );
    assert_eq!(port.counters.snapshot().received, heard);
}

/// Goal: two ports with sockets of one address share the senders; each sender is one port's.
#[test]
fn ports_share_an_address() {
    let space = Space::primary("udp-shared");
    let address = free_address();
    let udp = UdpConfig { reuse_port: true, ..UdpConfig::default() };
    let config = PortConfig {
        kind: PortKind::Udp(udp),
        ..PortConfig::new("service", "calls", SocketSource::Bind(address))
    };
    let ports = [0, 1].map(|_| Running::start(&space.path, config.clone(), ByPeer).attached());
    let clients: Vec<UdpSocket> =
        (0..64).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
    for client in &clients {
        client.send_to(b"x", address).expect("loopback takes it");
    }
    let received = |port: &Running| port.counters.snapshot().received;
    until("all have come", || received(&ports[0]) + received(&ports[1]) == 64);
    // 64 senders that all draw the same of two: once in 2^63.
    assert!(ports.iter().all(|port| received(port) > 0));
}

/// Goal: neighbours that leave as one datagram arrive as they were, and what cannot leave so leaves one by one.
#[test]
fn segmented_packets_arrive_as_they_were() {
    for segment in [true, false] {
        let space = Space::primary("udp-segment");
        let service = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let udp = UdpConfig { segment, ..UdpConfig::default() };
        let config = PortConfig { kind: PortKind::Udp(udp), ..port_of(&service) };
        let port = Running::start(&space.path, config, ByPeer).attached();
        let mut worker = space.worker();
        let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        client.connect(service.local_addr().expect("bound")).expect("it is here");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
        let lengths = [100, 100, 100, 99, 100, 0, 0, 1500, 1500, 1232, 1232, 1, 1233, 1];
        let mut served = 0;
        let mut last = space.region.released();
        for (number, len) in lengths.iter().enumerate() {
            client.send(&vec![number as u8; *len]).expect("loopback takes it");
        }
        while served < lengths.len() {
            let (seq, messages) = serve_one(&space, &mut worker, echo);
            (served, last) = (served + messages.len(), seq);
        }
        space.region.raise_released(last);
        for (number, len) in lengths.iter().enumerate() {
            let mut answer = [0xee; 2048];
            let count = client.recv(&mut answer).expect("an answer");
            assert_eq!(answer[..count], vec![number as u8; *len], "segment {segment}");
        }
        assert!(port.counters.snapshot().send_failed.is_empty());
    }
}

/// A port that takes together what was sent together, its socket, and a peer that sends so.
fn together(space: &Space, batch: usize) -> (Running, UdpSocket, UdpSocket, SocketAddr) {
    let service = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let udp = UdpConfig { gro: true, ..UdpConfig::default() };
    let config = PortConfig {
        kind: PortKind::Udp(udp),
        receive_batch: batch,
        packet_bytes_max: 500,
        ..port_of(&service)
    };
    let port = Running::start(&space.path, config, ByPeer).attached();
    let peer = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let to = service.local_addr().expect("bound");
    // It takes them together from its first read on.
    peer.send_to(b"first", to).expect("loopback takes it");
    until("it reads", || port.counters.snapshot().received == 1);
    (port, service, peer, to)
}

fn send_together(peer: &UdpSocket, to: SocketAddr, packets: &[Vec<u8>]) {
    let mut sender = Sender::segmenting(packets.len(), Family::V4);
    let all = packets.iter().map(|packet| (&packet[..], to));
    assert_eq!(sender.send(peer.as_fd(), all).expect("loopback takes it"), packets.len());
}

/// Goal: what a peer has sent as one datagram, to be cut by whoever needs it, becomes the messages that it is made of: in order,
/// each on its own, those that are too long counted, however many blocks the port has in hand.
#[test]
fn what_is_sent_together_becomes_messages_of_its_own() {
    for batch in [1, 5, 32] {
        let space = Space::primary("udp-together");
        let (port, _service, peer, to) = together(&space, batch);
        let mut packets: Vec<Vec<u8>> = Vec::new();
        packets.extend((0..100_u8).map(|number| vec![number; 64]));
        packets.extend((0..40_u8).map(|number| vec![number; 500]));
        packets.extend((0..10_u8).map(|number| vec![number; 501]));
        packets.extend((0..10_u8).map(|number| vec![number; usize::from(number)]));
        send_together(&peer, to, &packets);
        let mut worker = space.worker();
        let mut messages = Vec::new();
        let short: Vec<_> = packets.iter().filter(|one| one.len() <= 500).cloned().collect();
        while messages.len() < short.len() {
            let (seq, some) = serve_one(&space, &mut worker, echo);
            space.region.raise_released(seq);
            messages.extend(some.into_iter().filter(|message| message != b"first"));
        }
        assert!(messages == short, "batches of {batch}");
        let seen = port.counters.snapshot();
        assert_eq!(seen.received, 1 + packets.len() as u64, "batches of {batch}: {seen}");
        assert_eq!(seen.dropped.get("too long"), Some(&10), "batches of {batch}: {seen}");
        assert_eq!(seen.received, seen.delivered + 10, "batches of {batch}: {seen}");
    }
}

/// Goal: what came together and finds no room is held or counted, one by one, and what a port has taken from the kernel when its
/// host serves no longer is counted too.
#[test]
fn what_is_sent_together_is_not_lost_without_a_number() {
    let packets: Vec<Vec<u8>> = (0..60_u8).map(|number| vec![number; 64]).collect();
    for overload in [Overload::Hold, Overload::Reject, Overload::DropNewest] {
        let path = Region::path_for(&unique("udp-together-full"));
        let small = hotpair_shm::Geometry { inbox_limit: 8, ..geometry(1024) };
        let space = Space::with(&path, &small);
        space.region.become_primary(1);
        space.policy(overload);
        let (port, _service, peer, to) = together(&space, 4);
        let mut worker = space.worker();
        // The first is in nobody's way.
        let _ = serve_one(&space, &mut worker, echo);
        send_together(&peer, to, &packets);
        let accounted = || {
            let seen = port.counters.snapshot();
            seen.received == 61 && seen.received == seen.delivered + seen.dropped_total()
        };
        if overload == Overload::Hold {
            until("it holds", || space.counted(Counter::Held) > 0);
            let mut messages = Vec::new();
            while messages.len() < 60 {
                messages.extend(serve_one(&space, &mut worker, echo).1);
            }
            assert!(messages == packets);
            until("all is accounted for", accounted);
        } else {
            until("all is accounted for", accounted);
            let seen = port.counters.snapshot();
            assert!(seen.dropped_total() >= 50, "{overload:?}: {seen}");
        }
    }
    let path = Region::path_for(&unique("udp-together-role"));
    let small = hotpair_shm::Geometry { inbox_limit: 8, ..geometry(1024) };
    let space = Space::with(&path, &small);
    space.region.become_primary(1);
    space.policy(Overload::Hold);
    let (port, _service, peer, to) = together(&space, 4);
    send_together(&peer, to, &packets);
    until("it holds", || space.counted(Counter::Held) > 0);
    space.region.become_fenced(2);
    until("what it had in hand is counted", || {
        let seen = port.counters.snapshot();
        seen.received == 61 && seen.received == seen.delivered + seen.dropped_total()
    });
    let seen = port.counters.snapshot();
    assert!(seen.dropped.get("not primary any more") >= Some(&50), "{seen}");
}

/// Goal: a host that is about to hand over finishes what came together, as far as there is room, and then lets go.
#[test]
fn what_is_sent_together_is_finished_before_a_planned_change() {
    let path = Region::path_for(&unique("udp-together-drain"));
    let small = hotpair_shm::Geometry { inbox_limit: 8, ..geometry(1024) };
    let space = Space::with(&path, &small);
    space.region.become_primary(1);
    space.policy(Overload::Hold);
    let (port, _service, peer, to) = together(&space, 4);
    let packets: Vec<Vec<u8>> = (0..60_u8).map(|number| vec![number; 64]).collect();
    send_together(&peer, to, &packets);
    until("it holds", || space.counted(Counter::Held) > 0);
    space.region.begin_drain();
    let mut worker = space.worker();
    let mut messages = Vec::new();
    while messages.len() < 60 {
        let (_, some) = serve_one(&space, &mut worker, echo);
        messages.extend(some.into_iter().filter(|message| message != b"first"));
    }
    assert!(messages == packets);
    until("all is delivered", || {
        let seen = port.counters.snapshot();
        seen.received == 61 && seen.received == seen.delivered
    });
}

/// Rounds of a flood beside a source that sends little: how much of the latter is served.
fn served_beside_a_flood(fair_shares: bool) -> f64 {
    const ROUNDS: u32 = 400;
    let space = Space::with(&Region::path_for(&unique("udp-flood")), &geometry(128));
    space.region.become_primary(1);
    let service = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    let number = service.local_addr().expect("bound").port();
    let config = PortConfig { fair_shares, ..port_of(&service) };
    let port = Running::start(&space.path, config, AllKeyless).attached();
    let mut worker = space.worker();
    let from = |last| {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).expect("ours");
        socket.connect(("127.0.0.1", number)).expect("an address of ours");
        socket
    };
    let (flood, little) = (from(2), from(3));
    let mut gatherer = Gatherer::new(space.region.clone());
    let (mut sent, mut served, mut asked) = (0_u64, 0, 0);
    for round in 0..ROUNDS {
        for _ in 0..100 {
            flood.send(b"flood").expect("loopback takes it");
        }
        little.send(b"little").expect("loopback takes it");
        sent += 101;
        // The kernel loses nothing: what is lost is lost by the port, and counted.
        until("all have come", || port.counters.snapshot().received == sent);
        // There is room for one packet in ten.
        for _ in 0..10 {
            let Some(mut claim) = worker.claim(space.queue) else { break };
            let is_little = claim.messages().any(|message| message.payload() == b"little");
            claim.withdraw();
            claim.commit().expect("nothing is in its way");
            // The first fill the region, whoever they are from.
            served += u32::from(is_little && round >= ROUNDS / 4);
        }
        asked += u32::from(round >= ROUNDS / 4);
        // As a node: what is done with comes back.
        gatherer.gather(usize::MAX, |_| {});
        // Shares are of a window of time.
        std::thread::sleep(Duration::from_millis(1));
    }
    let seen = port.counters.snapshot();
    println!("{seen}");
    assert_eq!(seen.received, seen.delivered + seen.dropped_total(), "{seen}");
    f64::from(served) / f64::from(asked)
}

/// Goal: a flood by one source leaves another one its share; and without shares it would not.
#[test]
fn a_flood_leaves_others_their_share() {
    let (with, without) = (served_beside_a_flood(true), served_beside_a_flood(false));
    println!(
        "of who sends little {:.0} % is served, {:.0} % without shares",
        with * 100.0,
        without * 100.0
    );
    assert!(with > 0.5, "{with}");
    assert!(without < 0.1, "the control: {without}");
}
