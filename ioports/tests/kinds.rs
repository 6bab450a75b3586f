//! What every kind of port must do alike, run on each of them.

mod common;

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use common::{Peer, Running, Space, geometry, serve_one, unique, until};
use hotpair_ioports::{
    AllKeyless, Attach, ByConnection, ByFlow, ByPeer, Classifier, Framing, HAS_XDP, HeldAddress,
    Holder, PortConfig, PortKind, Serving, SocketSource, StreamConfig, UdpConfig,
};
use hotpair_shm::{Counter, Gatherer, Geometry, Overload, Participant, Reaper, Region, Seq};

/// A kind of port; its socket, if it is one that can be, kept by a holder so that ports can follow each other.
struct Rig {
    name: &'static str,
    config: PortConfig,
    address: Address,
    /// Each peer has one object.
    by_peer: fn() -> Box<dyn Classifier + Send>,
    /// Its peers can be made to wait.
    pushes_back: bool,
    /// Bytes of a packet before what a peer has sent.
    header_bytes: usize,
    _holder: Option<Serving>,
}

#[derive(Clone)]
enum Address {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// At the other end of a cable.
    Cable,
}

impl Rig {
    /// Each kind in turn, and last those of whole frames, in a network of their own.
    fn each(check: impl Fn(&Rig) + Sync) {
        Rig::each_of_sockets(&check);
        let mut kinds = vec![PortConfig::frames("service", "calls", "hp0")];
        if HAS_XDP {
            let by = |attach| PortConfig::xdp("service", "calls", "hp0", attach);
            kinds.extend([by(Attach::Driver), by(Attach::Generic)]);
        }
        for config in kinds {
            // A network is a thread's.
            std::thread::scope(|scope| {
                let check = || {
                    if !common::cable() {
                        return;
                    }
                    let name = match config.kind {
                        PortKind::Xdp(Attach::Driver) => "xdp",
                        PortKind::Xdp(_) => "xdp, by the kernel",
                        _ => "packet",
                    };
                    check(&Rig {
                        name,
                        config,
                        address: Address::Cable,
                        by_peer: || Box::new(ByFlow { both_ways: true }),
                        pushes_back: false,
                        header_bytes: common::HEADER_BYTES,
                        _holder: None,
                    });
                };
                scope.spawn(check).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            });
        }
    }

    /// Each kind whose port has a socket that a successor can have.
    fn each_of_sockets(check: impl Fn(&Rig)) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let any6: SocketAddr = "[::1]:0".parse().expect("an address");
        let path = std::env::temp_dir().join(unique("unix"));
        let mut together = Rig::new("udp with GRO", HeldAddress::Udp(any));
        together.config.kind = PortKind::Udp(UdpConfig { gro: true, ..UdpConfig::default() });
        let rigs = [
            together,
            Rig::new("udp over IPv4", HeldAddress::Udp(any)),
            Rig::new("udp over IPv6", HeldAddress::Udp(any6)),
            Rig::new("tcp over IPv4", HeldAddress::Tcp(any)),
            Rig::new("tcp over IPv6", HeldAddress::Tcp(any6)),
            Rig::new("unix", HeldAddress::Unix(path)),
        ];
        rigs.iter().for_each(check);
    }

    fn new(name: &'static str, held: HeldAddress) -> Rig {
        let socket_path = std::env::temp_dir().join(format!("{}.sock", unique("rig")));
        let holder = Holder::open(&socket_path, [("service", held.clone())]).expect("it is free");
        let bound = holder.address("service");
        let source = SocketSource::Holder { path: socket_path, name: "service".to_owned() };
        let holder = holder.spawn().expect("a thread");
        let stream = StreamConfig::new(Framing::Length(2));
        let (config, address) = match held {
            HeldAddress::Udp(_) => (
                PortConfig::new("service", "calls", source),
                Address::Udp(bound.expect("it has an address")),
            ),
            HeldAddress::Tcp(_) => (
                PortConfig::stream("service", "calls", source, stream),
                Address::Tcp(bound.expect("it has an address")),
            ),
            HeldAddress::Unix(path) => {
                (PortConfig::stream("service", "calls", source, stream), Address::Unix(path))
            }
        };
        let datagrams = matches!(address, Address::Udp(_));
        let by_peer: fn() -> Box<dyn Classifier + Send> = match datagrams {
            true => || Box::new(ByPeer),
            false => || Box::new(ByConnection::new("service")),
        };
        Rig {
            name,
            config,
            address,
            by_peer,
            pushes_back: !datagrams,
            header_bytes: 0,
            _holder: Some(holder),
        }
    }

    fn peer(&self) -> Peer {
        match &self.address {
            Address::Udp(address) => {
                let any = SocketAddr::new(address.ip(), 0);
                let socket = UdpSocket::bind(any).expect("a free port");
                socket.connect(address).expect("it is here");
                Peer::Datagrams(socket)
            }
            Address::Tcp(address) => {
                Peer::Stream(Box::new(TcpStream::connect(address).expect("it listens")))
            }
            Address::Unix(path) => {
                Peer::Stream(Box::new(UnixStream::connect(path).expect("it listens")))
            }
            Address::Cable => Peer::Datagrams(common::far_end()),
        }
    }

    /// What goes back to whoever sent `packet`.
    fn echo(&self, packet: &[u8]) -> Vec<u8> {
        if self.header_bytes == 0 { packet.to_vec() } else { common::turned(packet) }
    }

    /// As [`serve_one`], and the messages are what peers have sent.
    fn serve(&self, space: &Space, worker: &mut Participant) -> (Seq, Vec<Vec<u8>>) {
        let (seq, packets) = serve_one(space, worker, |packet| self.echo(packet));
        (seq, packets.iter().map(|packet| packet[self.header_bytes..].to_vec()).collect())
    }

    fn start(&self, space: &Space) -> Running {
        self.start_with(space, (self.by_peer)())
    }

    fn start_with(&self, space: &Space, classifier: Box<dyn Classifier + Send>) -> Running {
        let port = Running::start(&space.path, self.config.clone(), Boxed(classifier)).attached();
        if matches!(self.address, Address::Cable) {
            // Frames that come before it lets them in are not kept for it.
            until("it has slept", || port.counters.snapshot().sleeps > 0);
        }
        port
    }
}

struct Boxed(Box<dyn Classifier + Send>);

impl Classifier for Boxed {
    fn classify(&mut self, packet: &[u8], source: SocketAddr) -> hotpair_ioports::Classified {
        self.0.classify(packet, source)
    }

    fn ended(&mut self, source: SocketAddr) -> Option<hotpair_ioports::PacketKey> {
        self.0.ended(source)
    }
}

/// What a port has read is accounted for, and the region's own figures say the same.
fn assert_accounted(rig: &Rig, port: &Running) {
    let seen = port.counters.snapshot();
    assert_eq!(seen.received, seen.delivered + seen.dropped_total(), "{}: {seen}", rig.name);
}

/// Goal: what comes in goes out again, through an object, in order, to whoever sent it, and is counted.
#[test]
fn packets_become_messages_and_emits_become_packets() {
    Rig::each(|rig| {
        let space = Space::primary("kinds-echo");
        let mut port = rig.start(&space);
        let mut worker = space.worker();
        let mut peers = [rig.peer(), rig.peer(), rig.peer()];
        for round in 0..20_u32 {
            for (number, peer) in peers.iter_mut().enumerate() {
                let payload = [round.to_le_bytes(), (number as u32).to_le_bytes()].concat();
                peer.send(&payload);
                let (seq, messages) = rig.serve(&space, &mut worker);
                assert_eq!(messages, std::slice::from_ref(&payload), "{}", rig.name);
                space.region.raise_released(seq);
                assert_eq!(peer.receive(), payload, "{}", rig.name);
            }
        }
        port.end().expect("asked to stop");
        let seen = port.counters.snapshot();
        let figures = (seen.received, seen.delivered, seen.created, seen.sent);
        assert_eq!(figures, (60, 60, 3, 60), "{}", rig.name);
        assert_accounted(rig, &port);
    });
}

/// Goal: many at once: batches in, batches out, in order.
#[test]
fn a_burst_is_served_in_order() {
    Rig::each(|rig| {
        let space = Space::primary("kinds-burst");
        let port = rig.start(&space);
        let mut worker = space.worker();
        let mut peer = rig.peer();
        // Of different lengths, neighbours of the same one among them.
        let payload = |number: usize| vec![number as u8; 1 + number / 3 * 7];
        (0..100).for_each(|number| peer.send(&payload(number)));
        let mut served = 0;
        let mut last = space.region.released();
        while served < 100 {
            let (seq, messages) = rig.serve(&space, &mut worker);
            served += messages.len();
            last = seq;
        }
        // All are released at once: they leave in as few calls as there are batches.
        space.region.raise_released(last);
        for number in 0..100 {
            assert_eq!(peer.receive(), payload(number), "{}", rig.name);
        }
        until("all is counted", || port.counters.snapshot().sent == 100);
        assert_accounted(rig, &port);
    });
}

/// Goal: nothing leaves before its commit is released.
#[test]
fn an_emitted_packet_waits_for_its_release() {
    Rig::each(|rig| {
        let space = Space::primary("kinds-gate");
        let port = rig.start(&space);
        let mut worker = space.worker();
        let mut peer = rig.peer();
        peer.send(b"held");
        let (held, _) = rig.serve(&space, &mut worker);
        // The port has gone around since: it has delivered more.
        peer.send(b"another");
        let _ = rig.serve(&space, &mut worker);
        assert_eq!(port.counters.snapshot().sent, 0, "{}", rig.name);
        assert!(peer.is_silent(), "{}: nothing is released", rig.name);
        space.region.raise_released(held);
        assert_eq!(peer.receive(), b"held", "{}", rig.name);
        assert!(peer.is_silent(), "{}: what comes after it is not", rig.name);
    });
}

/// Goal: whatever the policy, what was received and has no room is counted under a reason, or waits and is not lost.
#[test]
fn overload_loses_nothing_without_a_number() {
    for overload in [Overload::Reject, Overload::DropNewest, Overload::DropOldest, Overload::Hold] {
        Rig::each(|rig| {
            let small = Geometry { inbox_limit: 8, ..geometry(1024) };
            let path = Region::path_for(&unique("kinds-overload"));
            let space = Space::with(&path, &small);
            space.region.become_primary(1);
            space.policy(overload);
            let port = rig.start(&space);
            let mut peer = rig.peer();
            let why = format!("{}, {overload:?}", rig.name);
            for number in 0..40_u8 {
                peer.send(&[number]);
            }
            let refused = || {
                space.counted(Counter::Rejected)
                    + space.counted(Counter::DroppedNewest)
                    + space.counted(Counter::DroppedOldest)
            };
            let held = overload == Overload::Hold;
            match (held, rig.pushes_back) {
                (true, false) => until("it holds", || space.counted(Counter::Held) > 0),
                (true, true) => {
                    until("the inbox is full", || port.counters.snapshot().delivered >= 8);
                }
                // The connection ends with the first frame that is refused.
                (false, true) if overload == Overload::Reject => {
                    until("refused", || refused() > 0);
                }
                (false, _) => until("all were received", || {
                    refused() > 0 && port.counters.snapshot().received == 40
                }),
            }
            let mut worker = space.worker();
            let mut served = Vec::new();
            if held {
                while served.len() < 40 {
                    let (_, messages) = rig.serve(&space, &mut worker);
                    served.extend(messages);
                }
                let all: Vec<Vec<u8>> = (0..40).map(|number| vec![number]).collect();
                assert_eq!(served, all, "{why}");
                assert_eq!(refused(), 0, "{why}");
            }
            until("what was received is accounted for", || {
                let seen = port.counters.snapshot();
                seen.received == seen.delivered + seen.dropped_total()
            });
            let seen = port.counters.snapshot();
            if !held {
                assert!(refused() > 0, "{why}: {seen}");
            }
            // Who is refused drops out of the stream: it has no hole that nobody knows of.
            if rig.pushes_back && overload == Overload::Reject {
                // Its object is told once there is room.
                let _ = rig.serve(&space, &mut worker);
                until("it is disconnected", || port.counters.snapshot().connections() == 0);
            }
        });
    }
}

/// Goal: no memory: datagrams are counted and dropped, streams wait; when there is some again all go on.
#[test]
fn without_memory_datagrams_are_counted_and_streams_wait() {
    Rig::each(|rig| {
        let path = Region::path_for(&unique("kinds-memory"));
        let space = Space::with(&path, &Geometry { inbox_limit: 1000, ..geometry(64) });
        space.region.become_primary(1);
        let port = rig.start(&space);
        let mut peer = rig.peer();
        for number in 0..120_u8 {
            peer.send(&[number; 300]);
        }
        if rig.pushes_back {
            until("no block is free", || space.counted(Counter::Held) > 0);
        } else {
            until("all are accounted for", || {
                let seen = port.counters.snapshot();
                seen.received == 120 && seen.received == seen.delivered + seen.dropped_total()
            });
            let seen = port.counters.snapshot();
            assert!(seen.dropped.contains_key("no free block or slot"), "{}: {seen}", rig.name);
        }
        let mut worker = space.worker();
        let mut gatherer = Gatherer::new(space.region.clone());
        let mut served = 0;
        let expected = if rig.pushes_back { 120 } else { port.counters.snapshot().delivered };
        while served < expected {
            let (_, messages) = serve_one(&space, &mut worker, |_| Vec::new());
            served += messages.len() as u64;
            gatherer.gather(usize::MAX, |_| {});
            // What was emitted is nobody's business here.
            space.region.raise_released(space.region.commit_seq());
            gatherer.collect_sent(|_, _| {});
        }
        // What was delivered is counted after a worker may have it.
        until("all is counted", || {
            let seen = port.counters.snapshot();
            seen.delivered == served && seen.received == served + seen.dropped_total()
        });
    });
}

/// Goal: a port reads only as primary, and its successor goes on with the same socket: what waits there is not lost.
#[test]
fn roles_and_successors() {
    Rig::each_of_sockets(|rig| {
        let (a, b) = (Space::new("kinds-role-a"), Space::new("kinds-role-b"));
        let received = |port: &Running| port.counters.snapshot().received;
        let port_a = rig.start(&a);
        let port_b = rig.start(&b);
        a.region.become_backup(1);
        b.region.become_backup(1);
        let mut peer = rig.peer();
        peer.send(b"nobody is primary");
        for port in [&port_a, &port_b] {
            let before = port.counters.snapshot().sleeps;
            until("it has slept twice", || port.counters.snapshot().sleeps >= before + 2);
            assert_eq!(received(port), 0, "{}", rig.name);
        }
        a.region.become_primary(2);
        until("the primary reads", || received(&port_a) == 1);
        a.region.become_fenced(3);
        let before = port_a.counters.snapshot().sleeps;
        until("the fenced port sleeps", || port_a.counters.snapshot().sleeps > before);
        // A connection has ended with its host: peers come again.
        let mut peer = rig.peer();
        peer.send(b"for the next one");
        b.region.become_primary(3);
        until("the next primary reads", || received(&port_b) == 1);
        assert_eq!(received(&port_a), 1, "{}: a fenced port reads nothing", rig.name);

        // Its process ends, and another one takes its place.
        let mut port_b = port_b;
        port_b.end().expect("asked to stop");
        assert_accounted(rig, &port_b);
        let mut peer = rig.peer();
        peer.send(b"for the successor");
        let successor = rig.start(&b);
        until("the successor reads", || received(&successor) == 1);
    });
}

/// Goal: a port that stops, or is stopped for good, leaves no block behind.
#[test]
fn a_port_that_ends_leaves_nothing() {
    Rig::each(|rig| {
        let space = Space::primary("kinds-leaves");
        let mut port = rig.start_with(&space, Box::new(AllKeyless));
        let mut worker = space.worker();
        let mut peer = rig.peer();
        for _ in 0..10 {
            peer.send(b"work");
            let (seq, _) = rig.serve(&space, &mut worker);
            space.region.raise_released(seq);
            assert_eq!(peer.receive(), b"work", "{}", rig.name);
        }
        drop(worker);
        port.end().expect("asked to stop");
        assert_accounted(rig, &port);
        let mut gatherer = Gatherer::new(space.region.clone());
        let mut reaper = Reaper::new(space.region.clone());
        until("no block is anybody's", || {
            reaper.run_once();
            gatherer.gather(usize::MAX, |_| {});
            gatherer.collect_sent(|_, _| {});
            space.region.status().classes.iter().all(|class| class.free == class.total)
        });
    });
}

/// Goal: packets that a port does not take are counted under their reason, and those behind them come through.
#[test]
fn packets_that_are_too_long_are_counted() {
    Rig::each(|rig| {
        let space = Space::primary("kinds-long");
        // It keeps room for a tag, which frames here have not.
        let tag_bytes = if rig.name == "packet" { 4 } else { 0 };
        let packet_bytes_max = rig.header_bytes + 100 + tag_bytes;
        let config = PortConfig { packet_bytes_max, ..rig.config.clone() };
        let rig = &Rig { config, _holder: None, address: rig.address.clone(), ..*rig };
        let port = rig.start(&space);
        let mut bad = rig.peer();
        bad.send(&[7; 101]);
        until("it is counted", || port.counters.snapshot().dropped.get("too long") == Some(&1));
        assert_eq!(space.counted(Counter::DroppedTooLarge), 1, "{}", rig.name);
        let mut good = rig.peer();
        good.send(&[8; 100]);
        let (_, messages) = rig.serve(&space, &mut space.worker());
        assert_eq!(messages, [vec![8; 100]], "{}", rig.name);
        assert_accounted(rig, &port);
    });
}

/// Goal: the time that packets waited in the kernel is known where the kernel tells.
#[test]
fn waits_in_the_kernel_are_measured() {
    let rig = Rig::new("udp", HeldAddress::Udp(common::any()));
    let space = Space::new("kinds-waited");
    let port = rig.start(&space);
    let mut peer = rig.peer();
    peer.send(b"early");
    std::thread::sleep(Duration::from_millis(5));
    space.region.become_primary(1);
    until("it is read", || port.counters.snapshot().received == 1);
    until("its wait is known", || !port.counters.waited().is_empty());
    let waited = port.counters.waited();
    assert!(waited[0].0 >= Duration::from_millis(5), "it waited that long: {waited:?}");
}
