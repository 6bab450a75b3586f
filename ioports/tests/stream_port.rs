//! Connections: their ends, peers that misbehave, and objects that outlive them.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use common::{Peer, Running, Space, echo, geometry, serve_one, unique, until};
use hotpair_ioports::{
    ByConnection, Classified, Connection, Framing, HeldAddress, Holder, PortConfig, Serving,
    SocketSource, StreamConfig,
};
use hotpair_shm::{Endpoint, Geometry, Overload, Participant, Region};
use nix::sys::socket::MsgFlags;

/// A TCP port behind a holder.
struct Service {
    address: SocketAddr,
    source: SocketSource,
    _holder: Serving,
}

impl Service {
    fn new() -> Service {
        let path = std::env::temp_dir().join(format!("{}.sock", unique("stream")));
        let any = HeldAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let holder = Holder::open(&path, [("service", any)]).expect("a free port");
        let address = holder.address("service").expect("it has one");
        let source = SocketSource::Holder { path, name: "service".to_owned() };
        Service { address, source, _holder: holder.spawn().expect("a thread") }
    }

    fn start(&self, space: &Space, change: impl FnOnce(&mut StreamConfig)) -> Running {
        let mut stream = StreamConfig::new(Framing::Length(2));
        change(&mut stream);
        let config = PortConfig::stream("service", "calls", self.source.clone(), stream);
        Running::start(&space.path, config, ByConnection::new("service")).attached()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
        stream
    }

    fn peer(&self) -> Peer {
        Peer::Stream(Box::new(self.connect()))
    }
}

/// Serves the next object: each message with the source that it had. At an end the object is withdrawn, and the connection
/// is told to end as well.
fn serve(space: &Space, worker: &mut Participant) -> Vec<(Vec<u8>, Connection)> {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(20), "no object became ready");
        worker.wait_ready(space.queue, Duration::from_millis(20));
        let Some(mut claim) = worker.claim(space.queue) else { continue };
        let messages: Vec<(Vec<u8>, Connection)> = claim
            .messages()
            .map(|message| {
                let source = message.source().to_socket_addr().expect("an address");
                (message.payload().to_vec(), Connection::of(source).expect("a connection"))
            })
            .collect();
        for (payload, connection) in &messages {
            if connection.is_end() {
                claim.emit(space.port, Endpoint::from(connection.end()), b"").expect("room");
                claim.withdraw();
            } else {
                let to = Endpoint::from(connection.address());
                claim.emit(space.port, to, payload).expect("room");
            }
        }
        match claim.commit() {
            Ok(seq) => {
                space.region.raise_released(seq);
                return messages;
            }
            Err(hotpair_shm::CommitError::NewMessages) => {}
            Err(error) => panic!("commit: {error}"),
        }
    }
}

fn objects(space: &Space) -> usize {
    space.region.objects().count()
}

/// Goal: a peer that closes its side gets every answer, then the end; its object is told and is withdrawn.
#[test]
fn a_half_closed_connection_is_answered_to_the_end() {
    let space = Space::primary("stream-half");
    let service = Service::new();
    let port = service.start(&space, |_| {});
    let mut worker = space.worker();
    let mut stream = service.connect();
    stream.write_all(b"\0\x05first\0\x06second").expect("connected");
    stream.shutdown(Shutdown::Write).expect("connected");
    let mut ended = false;
    while !ended {
        ended = serve(&space, &mut worker).iter().any(|(_, connection)| connection.is_end());
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it ends without an error");
    assert_eq!(answer, b"\0\x05first\0\x06second");
    assert_eq!(objects(&space), 0);
    until("the connection is gone", || port.counters.snapshot().connections() == 0);
    let seen = port.counters.snapshot();
    assert_eq!((seen.received, seen.delivered, seen.ends_told), (2, 2, 1), "{seen}");
    assert_eq!(seen.disconnected.get("closed by the peer"), Some(&1), "{seen}");
}

/// Goal: the service may end a connection: what was sent before comes out, and the object is told all the same.
#[test]
fn a_service_ends_a_connection() {
    let space = Space::primary("stream-finish");
    let service = Service::new();
    let port = service.start(&space, |_| {});
    let mut worker = space.worker();
    let mut stream = service.connect();
    stream.write_all(b"\0\x04quit").expect("connected");
    let begun = Instant::now();
    let mut claim = loop {
        assert!(begun.elapsed() < Duration::from_secs(20));
        worker.wait_ready(space.queue, Duration::from_millis(20));
        if let Some(claim) = worker.claim(space.queue) {
            break claim;
        }
    };
    let source = claim.messages().next().expect("one").source().to_socket_addr();
    let connection = Connection::of(source.expect("an address")).expect("a connection");
    claim.emit(space.port, Endpoint::from(connection.address()), b"bye").expect("room");
    claim.emit(space.port, Endpoint::from(connection.end()), b"").expect("room");
    let seq = claim.commit().expect("nothing is in its way");
    space.region.raise_released(seq);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an orderly end");
    assert_eq!(answer, b"\0\x03bye");
    drop(stream);
    assert!(serve(&space, &mut worker)[0].1.is_end());
    until("the connection is gone", || port.counters.snapshot().connections() == 0);
    assert_eq!(port.counters.snapshot().disconnected.get("closed by the service"), Some(&1));
    // What is sent to it now goes nowhere, counted.
    let mut other = service.peer();
    other.send(b"x");
    let begun = Instant::now();
    let mut claim = loop {
        assert!(begun.elapsed() < Duration::from_secs(20));
        worker.wait_ready(space.queue, Duration::from_millis(20));
        if let Some(claim) = worker.claim(space.queue) {
            break claim;
        }
    };
    claim.emit(space.port, Endpoint::from(connection.address()), b"late").expect("room");
    let seq = claim.commit().expect("nothing is in its way");
    space.region.raise_released(seq);
    until("it is counted", || {
        port.counters.snapshot().send_failed.get("connection gone") == Some(&1)
    });
    assert!(other.is_silent(), "it is another connection");
}

/// Goal: a frame may come a byte at a time, and many in one write.
#[test]
fn frames_come_in_any_pieces() {
    let space = Space::primary("stream-pieces");
    let service = Service::new();
    let port = service.start(&space, |_| {});
    let mut worker = space.worker();
    let mut stream = service.connect();
    stream.set_nodelay(true).expect("a socket option");
    for byte in b"\0\x03abc\0\x00\0\x02de" {
        stream.write_all(&[*byte]).expect("connected");
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(serve(&space, &mut worker).into_iter().map(|(payload, _)| payload));
    }
    assert_eq!(seen, [&b"abc"[..], b"", b"de"]);
    // A frame that is cut off is counted.
    stream.write_all(b"\0\x09half").expect("connected");
    // Closed by halves: with answers unread a close would be a reset, which takes with it what the port has not read.
    stream.shutdown(Shutdown::Write).expect("connected");
    until("it is counted", || port.counters.snapshot().dropped.get("cut off") == Some(&1));
    let seen = port.counters.snapshot();
    assert_eq!(seen.received, seen.delivered + seen.dropped_total(), "{seen}");
}

/// Goal: what has come is read to its end although a read that was not filled is the last: the end of the connection, and what stands
/// behind urgent bytes, at which a read stops. All of it is there before the port looks, so no later event tells of it.
#[test]
fn what_stands_behind_a_short_read_is_read() {
    let service = Service::new();
    let (mut ended, urgent) = (service.connect(), service.connect());
    ended.write_all(b"\0\x05first").expect("connected");
    ended.shutdown(Shutdown::Write).expect("connected");
    let send = |bytes: &[u8], flags| {
        let sent = nix::sys::socket::send(urgent.as_raw_fd(), bytes, flags);
        assert_eq!(sent, Ok(bytes.len()));
    };
    send(b"\0\x03a", MsgFlags::empty());
    send(b"!", MsgFlags::MSG_OOB);
    send(b"bc", MsgFlags::empty());

    let space = Space::primary("stream-short");
    let port = service.start(&space, |_| {});
    let mut worker = space.worker();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(
            serve(&space, &mut worker).into_iter().map(|(payload, of)| (payload, of.is_end())),
        );
    }
    seen.sort();
    assert_eq!(seen, [(b"".to_vec(), true), (b"abc".to_vec(), false), (b"first".to_vec(), false)]);
    drop(port);
}

/// Goal: who reads nothing is disconnected when so much waits for it; who reads is served meanwhile.
#[test]
fn a_slow_reader_is_disconnected() {
    let space = Space::primary("stream-slow");
    let service = Service::new();
    let port = service.start(&space, |stream| stream.unsent_bytes_max = 64 << 10);
    let mut worker = space.worker();
    let slow = service.connect();
    let mut slow_writer = slow.try_clone().expect("a descriptor");
    let mut good = service.peer();
    let frame = [&1900_u16.to_be_bytes()[..], &[5; 1900]].concat();
    let slowly = |port: &Running| {
        port.counters.snapshot().disconnected.contains_key("reads too slowly")
            || port.counters.snapshot().send_failed.contains_key("peer reads too slowly")
    };
    let mut rounds = 0;
    while !slowly(&port) {
        rounds += 1;
        assert!(rounds < 20_000, "{}", port.counters.snapshot());
        if slow_writer.write_all(&frame).is_err() {
            break;
        }
        let _ = serve(&space, &mut worker);
        if rounds % 100 == 0 {
            good.send(b"good");
            while !serve(&space, &mut worker).iter().any(|(payload, _)| payload == b"good") {}
            assert_eq!(good.receive(), b"good");
        }
        collect(&space);
    }
    until("it is counted", || slowly(&port));
    drop(slow);
}

/// Blocks of what was sent come back, as a node would see to.
fn collect(space: &Space) {
    let mut gatherer = hotpair_shm::Gatherer::new(space.region.clone());
    gatherer.gather(usize::MAX, |_| {});
    gatherer.collect_sent(|_, _| {});
}

/// Goal: endless, oversized, nonsensical and half frames, and floods of connections, are counted and bounded, and the others
/// are served.
#[test]
fn hostile_peers_are_bounded() {
    let space = Space::primary("stream-hostile");
    let service = Service::new();
    let port = service.start(&space, |stream| {
        stream.connections_max = 40;
        stream.connections_per_source = 30;
        stream.frame_wait = Duration::from_millis(150);
    });
    let mut worker = space.worker();
    let mut good = service.peer();
    good.send(b"first");
    let _ = serve(&space, &mut worker);
    assert_eq!(good.receive(), b"first");

    // Oversized: the length says so.
    let mut oversized = service.connect();
    oversized.write_all(&[0xff; 4]).expect("connected");
    assert_eq!(oversized.read(&mut [0; 1]).expect("an orderly end"), 0);
    // Slow loris: a byte of a frame, and no more.
    let mut loris: Vec<TcpStream> = (0..10).map(|_| service.connect()).collect();
    for stream in &mut loris {
        stream.write_all(b"\0").expect("connected");
    }
    for stream in &mut loris {
        assert_eq!(stream.read(&mut [0; 1]).expect("an orderly end"), 0);
    }
    // A flood: more than one source may have.
    let flood: Vec<TcpStream> = (0..60).map(|_| service.connect()).collect();
    until("the flood is refused", || {
        let seen = port.counters.snapshot().disconnected;
        seen.get("too many connections of one source").is_some_and(|&count| count >= 20)
    });
    assert!(port.counters.snapshot().connections() <= 30);
    good.send(b"still there");
    let _ = serve(&space, &mut worker);
    assert_eq!(good.receive(), b"still there");
    drop(flood);
    until("the flood is over", || port.counters.snapshot().connections() == 1);
    // And again: places are free.
    let mut late = service.peer();
    late.send(b"late");
    let _ = serve(&space, &mut worker);
    assert_eq!(late.receive(), b"late");
    let seen = port.counters.snapshot();
    assert_eq!(seen.dropped.get("too long"), Some(&1), "{seen}");
    assert_eq!(seen.dropped.get("frame never finished"), Some(&10), "{seen}");
    assert_eq!(seen.received, seen.delivered + seen.dropped_total(), "{seen}");
}

/// Goal: a frame that never ends and a framing that makes no sense cost their connections, at the limit and no later; a flood of
/// connections, from everywhere, is refused; and connections that come and go at once leave nothing. The others are served.
#[test]
fn endless_frames_and_floods_from_everywhere_are_bounded() {
    let space = Space::primary("stream-endless");
    let service = Service::new();
    let port = service.start(&space, |stream| {
        stream.framing = Framing::Delimiter(b"\r\n".to_vec());
        stream.connections_max = 20;
        stream.connections_per_source = 4;
    });
    let mut worker = space.worker();
    let mut good = service.connect();
    let mut is_served = |space: &Space, text: &str| {
        good.write_all(format!("{text}\r\n").as_bytes()).expect("connected");
        while !serve(space, &mut worker).iter().any(|(payload, _)| payload == text.as_bytes()) {}
        let mut answer = vec![0; text.len() + 2];
        good.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, format!("{text}\r\n").as_bytes());
    };
    is_served(&space, "first");

    // Endless: bytes without end, and without a delimiter.
    let mut endless = service.connect();
    let mut taken = 0;
    while let Ok(count) = endless.write(&[b'x'; 4096]) {
        taken += count;
        assert!(taken < 64 << 20, "{}", port.counters.snapshot());
    }
    until("it is counted", || port.counters.snapshot().dropped.get("too long") == Some(&1));
    is_served(&space, "beside the endless one");

    // From many addresses, none of which has too many.
    let number = service.address.port();
    let from = |last: u8| {
        use nix::sys::socket::{
            AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket,
        };
        use std::os::fd::AsRawFd;
        let own = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let own = own.expect("a socket");
        bind(own.as_raw_fd(), &SockaddrIn::new(127, 0, 3, last, 0)).expect("an address of ours");
        connect(own.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, number)).expect("it listens");
        TcpStream::from(own)
    };
    let flood: Vec<TcpStream> = (1..=60).map(from).collect();
    until("the flood is refused", || {
        let seen = port.counters.snapshot();
        seen.disconnected.get("too many connections").is_some_and(|&count| count >= 41)
    });
    assert!(port.counters.snapshot().connections() <= 20);
    is_served(&space, "beside the flood");
    drop(flood);
    until("the flood is over", || port.counters.snapshot().connections() == 1);

    // Who comes and goes at once: in order, by halves, or with a reset.
    for round in 0..150 {
        let mut passing = from(1 + (round % 200) as u8);
        match round % 3 {
            0 => {}
            1 => passing.write_all(b"half a li").expect("connected"),
            _ => passing.shutdown(Shutdown::Both).expect("connected"),
        }
        drop(passing);
    }
    until("they are gone", || {
        let seen = port.counters.snapshot();
        seen.connections() == 1 && seen.disconnected.values().sum::<u64>() >= 1 + 60 + 150
    });
    is_served(&space, "after all of them");
    assert_eq!(objects(&space), 1);
    let seen = port.counters.snapshot();
    assert_eq!(seen.received, seen.delivered + seen.dropped_total(), "{seen}");
}

/// Goal: an object that nobody works on stops its own connection, and no other; nothing is lost.
#[test]
fn a_full_inbox_stops_its_connection_alone() {
    let small = Geometry { inbox_limit: 4, ..geometry(1024) };
    let space = Space::with(&Region::path_for(&unique("stream-full")), &small);
    space.region.become_primary(1);
    space.policy(Overload::Hold);
    let service = Service::new();
    let port = service.start(&space, |_| {});
    let mut stuck = service.peer();
    for number in 0..20 {
        stuck.send(&[number]);
    }
    until("its inbox is full", || port.counters.snapshot().delivered == 4);
    // The others are served, as quickly as ever.
    let mut worker = space.worker();
    let begun = Instant::now();
    // Claimed, and not given back: nobody works on it.
    let held = loop {
        assert!(begun.elapsed() < Duration::from_secs(20));
        worker.wait_ready(space.queue, Duration::from_millis(20));
        if let Some(claim) = worker.claim(space.queue) {
            break claim;
        }
    };
    let mut other_worker = space.worker();
    let mut good = service.peer();
    for number in 100..120 {
        good.send(&[number]);
        assert_eq!(serve(&space, &mut other_worker)[0].0, [number]);
        assert_eq!(good.receive(), [number]);
    }
    held.give_back();
    drop(worker);
    let mut seen = Vec::new();
    while seen.len() < 20 {
        seen.extend(serve(&space, &mut other_worker).into_iter().map(|(payload, _)| payload));
    }
    assert_eq!(seen, (0..20).map(|number| vec![number]).collect::<Vec<_>>());
}

/// Goal: connections end with their host, and their objects do not stay: the next port, here or there, tells each of them, and
/// those of its own connections are left alone.
#[test]
fn objects_of_lost_connections_are_told() {
    let space = Space::primary("stream-orphans");
    let service = Service::new();
    let mut port = service.start(&space, |_| {});
    let mut worker = space.worker();
    let mut peers: Vec<Peer> = (0..5).map(|_| service.peer()).collect();
    for peer in &mut peers {
        peer.send(b"hello");
        assert!(!serve(&space, &mut worker)[0].1.is_end());
        assert_eq!(peer.receive(), b"hello");
    }
    assert_eq!(objects(&space), 5);
    port.end().expect("asked to stop");
    assert_eq!(port.counters.snapshot().disconnected.get("not primary any more"), Some(&5));

    let successor = service.start(&space, |_| {});
    let mut fresh = service.peer();
    fresh.send(b"new");
    let mut ends = 0;
    let mut served = 0;
    while ends < 5 || served < 1 {
        for (_, connection) in serve(&space, &mut worker) {
            ends += usize::from(connection.is_end());
            served += usize::from(!connection.is_end());
        }
    }
    assert_eq!(fresh.receive(), b"new");
    assert_eq!((objects(&space), successor.counters.snapshot().ends_told), (1, 5));
}

/// Goal: the function of an application cuts the stream, and its classifier names the object.
#[test]
fn an_application_cuts_and_classifies() {
    use hotpair_ioports::{Cut, FramingFunction};
    fn lines(bytes: &[u8]) -> Cut {
        match bytes.iter().position(|&byte| byte == b'\n') {
            Some(end) => Cut::Frame { payload: 0..end, next: end + 1 },
            None => Cut::More,
        }
    }
    let space = Space::primary("stream-application");
    let service = Service::new();
    let stream = StreamConfig::new(Framing::Function(FramingFunction(lines)));
    let config = PortConfig::stream("service", "calls", service.source.clone(), stream);
    let first_letter = |packet: &[u8], _: SocketAddr| match packet.first() {
        Some(letter) => Classified::key(&[*letter]),
        None => Classified::Drop("empty"),
    };
    let port = Running::start(&space.path, config, first_letter).attached();
    let mut stream = service.connect();
    stream.write_all(b"apple\navocado\n\nbanana\n").expect("connected");
    let mut worker = space.worker();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(serve_one(&space, &mut worker, echo).1);
    }
    seen.sort();
    assert_eq!(seen, [&b"apple"[..], b"avocado", b"banana"]);
    assert_eq!(objects(&space), 2);
    until("the empty one is counted", || port.counters.snapshot().dropped.get("empty") == Some(&1));
}
