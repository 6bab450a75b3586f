//! A UDP port between a real socket and a real region.

mod common;

use std::time::{Duration, Instant};

use common::{Running, Space, Wire, echo, geometry, serve_one, unique, until};
use hotpair_ioports::{
    AllKeyless, ByBytes, ByPeer, Classified, Holder, Ingest, PortConfig, RunError, SocketSource,
    Wait,
};
use hotpair_shm::{
    Counter, ENDPOINT_BYTES, Gatherer, Geometry, Kind, LeftToDo, Overload, Reaper, Region,
};

/// Goal: what comes in goes out again, through an object, in order, and is counted.
#[test]
fn packets_become_messages_and_emits_become_packets() {
    for wait in [Wait::Sleep, Wait::BusyPoll] {
        let space = Space::primary("echo");
        let wire = Wire::new();
        let config = PortConfig { wait, ..wire.config() };
        let mut port = Running::start(&space.path, config, ByPeer);
        let mut worker = space.worker();
        for round in 0..50_u32 {
            wire.send(&round.to_le_bytes());
            let (seq, _) = serve_one(&space, &mut worker, echo);
            space.region.raise_released(seq);
            assert_eq!(wire.receive(), round.to_le_bytes(), "{wait:?}");
        }
        drop(worker);
        port.end().expect("asked to stop");
        let seen = port.counters.snapshot();
        assert_eq!((seen.received, seen.delivered, seen.created, seen.sent), (50, 50, 1, 50));
        assert_eq!(seen.dropped_total(), 0, "{seen}");
    }
}

/// Goal: a port that commits what it takes in has each packet read once, in order, and keeps to the inbox's limit; what was read
/// leaves no letter. A packet that no letter can hold is too long.
#[test]
fn a_port_may_commit_what_it_hands_in() {
    const ROUNDS: u32 = 3;
    let geometry = Geometry { inbox_limit: 16, ..geometry(1024) };
    let space = Space::with(&Region::path_for(&unique("replicated")), &geometry);
    space.region.become_primary(1);
    space.policy(Overload::Hold);
    let wire = Wire::new();
    let config = PortConfig { ingest: Ingest::Replicated, ..wire.config() };
    let mut port = Running::start(&space.path, config, ByPeer);
    let mut worker = space.worker();
    let letters = || space.region.objects().filter(|object| object.letter).count();
    let limit = u32::from(geometry.inbox_limit);
    for round in 0..ROUNDS {
        // More than may wait: the port holds the rest.
        let first = round * 2 * limit;
        (first..first + 2 * limit).for_each(|number| wire.send(&number.to_le_bytes()));
        until("as many wait as may", || letters() == limit as usize);
        let mut read = Vec::new();
        while read.len() < 2 * limit as usize {
            let (seq, messages) = serve_one(&space, &mut worker, echo);
            space.region.raise_released(seq);
            read.extend(messages);
        }
        let sent: Vec<_> = (first..first + 2 * limit).map(|at| at.to_le_bytes().to_vec()).collect();
        assert_eq!(read, sent);
        assert_eq!(letters(), 0, "read and gone");
        sent.iter().for_each(|packet| assert_eq!(&wire.receive(), packet));
    }
    let count = u64::from(ROUNDS * 2 * limit);
    assert_eq!(space.counted(Counter::TakenIn), count);
    let largest = space.region.geometry().classes.iter().map(|class| class.payload_bytes).max();
    wire.send(&vec![0; largest.expect("it has classes") as usize - ENDPOINT_BYTES]);
    until("it is counted", || port.counters.snapshot().dropped.get("too long") == Some(&1));
    port.end().expect("asked to stop");
    let seen = port.counters.snapshot();
    assert_eq!((seen.received, seen.delivered, seen.sent), (count + 1, count, count), "{seen}");
}

/// Goal: nothing leaves before its commit is released, however often the port looks.
#[test]
fn an_emitted_packet_waits_for_its_release() {
    let space = Space::primary("gate");
    let wire = Wire::new();
    let port = Running::start(&space.path, wire.config(), AllKeyless);
    let mut worker = space.worker();

    wire.send(b"held");
    let (held, _) = serve_one(&space, &mut worker, echo);
    // The port has gone around at least once since: it has delivered two more packets, one by one.
    for _ in 0..2 {
        wire.send(b"another");
        let (_, messages) = serve_one(&space, &mut worker, echo);
        assert_eq!(messages, [b"another"]);
    }
    assert_eq!(wire.receive_now(), None, "nothing is released");
    assert_eq!(port.counters.snapshot().sent, 0);

    space.region.raise_released(held);
    assert_eq!(wire.receive(), b"held", "released, and woken by that");
    assert_eq!(wire.receive_now(), None, "what comes after it is not");
}

/// Goal: of two ports that hold one socket only the primary's reads; the other sleeps, even while
/// packets wait in the socket, and takes over when its region is promoted.
#[test]
fn only_the_primarys_port_reads_a_shared_socket() {
    let (a, b) = (Space::new("shared-a"), Space::new("shared-b"));
    let socket_path = std::env::temp_dir().join(format!("{}.sock", unique("holder")));
    let holder = Holder::open(&socket_path, [("service", common::any())]).expect("a free port");
    let address = holder.address("service").expect("it was opened");
    let holder = holder.spawn().expect("a thread");
    let source =
        SocketSource::Holder { path: holder.path().to_owned(), name: "service".to_owned() };
    let config = PortConfig::new("service", "calls", source);
    let port_a = Running::start(&a.path, config.clone(), ByPeer).attached();
    let port_b = Running::start(&b.path, config, ByPeer).attached();

    let wire = Wire::new();
    let client = &wire.client;
    client.connect(address).expect("an address of this host");
    let received = |port: &Running| port.counters.snapshot().received;
    let send = |count: u32| {
        for number in 0..count {
            client.send(&number.to_le_bytes()).expect("loopback takes it");
        }
    };

    // Nobody is primary: the packets wait in the socket, and nobody is kept awake by them.
    a.region.become_backup(1);
    b.region.become_backup(1);
    send(10);
    let sleeps = |port: &Running| port.counters.snapshot().sleeps;
    let (begun, before) = (Instant::now(), sleeps(&port_b));
    until("the back-up's port has slept four times", || sleeps(&port_b) >= before + 4);
    assert!(begun.elapsed() > Duration::from_millis(200), "a back-up's port sleeps, 100 ms each");
    assert_eq!((received(&port_a), received(&port_b)), (0, 0));

    a.region.become_primary(2);
    until("the first primary has read what waited", || received(&port_a) == 10);
    send(100);
    until("the first primary has read", || received(&port_a) == 110);
    assert_eq!(received(&port_b), 0);

    a.region.become_fenced(3);
    // Whatever A's port was doing, it has seen the role once it slept again.
    let before = sleeps(&port_a);
    until("the fenced port sleeps", || sleeps(&port_a) > before);
    send(50);
    b.region.become_primary(3);
    until("the second primary has read", || received(&port_b) == 50);
    assert_eq!(received(&port_a), 110, "a fenced port reads nothing");
}

/// Goal: while its node is about to hand over a port sends, reads nothing, and delivers what it had no room for before.
#[test]
fn a_draining_port_sends_and_does_not_read() {
    let small = Geometry { inbox_limit: 4, ..geometry(1024) };
    let space = Space::with(&Region::path_for(&unique("drain")), &small);
    space.region.become_primary(1);
    space.policy(Overload::Hold);
    let wire = Wire::new();
    let port = Running::start(&space.path, wire.config(), ByPeer).attached();
    let mut worker = space.worker();
    // One more than the inbox holds: the last one waits in the port's hands.
    let limit = small.inbox_limit;
    for number in 0..=limit {
        wire.send(&number.to_le_bytes());
    }
    until("the port holds a packet", || space.counted(Counter::Held) > 0);

    space.region.begin_drain();
    assert_eq!(space.region.holdouts().len(), 1, "it has something that was read before");
    let mut served = Vec::new();
    while served.len() <= limit.into() {
        let (seq, messages) = serve_one(&space, &mut worker, echo);
        space.region.raise_released(seq);
        served.extend(messages);
    }
    for message in &served {
        assert_eq!(&wire.receive(), message);
    }
    until("nothing is left", || {
        let mut gatherer = Gatherer::new(space.region.clone());
        gatherer.gather(usize::MAX, |_| {});
        gatherer.collect_sent(|_, _| {});
        space.region.holdouts().is_empty() && space.region.left_to_do() == LeftToDo::default()
    });
    wire.send(b"later");
    let sleeps = || port.counters.snapshot().sleeps;
    let before = sleeps();
    until("the port sleeps", || sleeps() > before + 1);
    assert_eq!(port.counters.snapshot().received, u64::from(limit) + 1);

    space.region.become_primary(1);
    let (_, messages) = serve_one(&space, &mut worker, echo);
    assert_eq!(messages, [b"later"], "it waited in the socket");
    assert_eq!(port.counters.snapshot().dropped_total(), 0);
}

/// Goal: a port whose node died stops reading, and goes on with the next node.
#[test]
fn a_port_without_a_node_does_not_read() {
    let mut space = Space::primary("node");
    let wire = Wire::new();
    let port = Running::start(&space.path, wire.config(), ByPeer).attached();
    let mut worker = space.worker();
    wire.send(b"one");
    serve_one(&space, &mut worker, echo);

    drop(space.node.take());
    let sleeps = || port.counters.snapshot().sleeps;
    let before = sleeps();
    wire.send(b"two");
    until("the port sleeps without its node", || sleeps() > before + 1);
    assert_eq!(port.counters.snapshot().received, 1);

    space.node = Some(space.region.join(Kind::Node, "node").expect("the seat is free"));
    space.region.ring_all();
    let (_, messages) = serve_one(&space, &mut worker, echo);
    assert_eq!(messages, [b"two"], "it waited in the socket");
}

/// Goal: what cannot be handed on is dropped under its reason, and the port goes on.
#[test]
fn bad_packets_are_counted_and_dropped() {
    let space = Space::primary("bad");
    let wire = Wire::new();
    let config = PortConfig { packet_bytes_max: 100, ..wire.config() };
    let classifier = |packet: &[u8], _| match packet {
        b"panic" => panic!("a classifier for one kind of packet only"),
        b"drop" => Classified::Drop("not ours"),
        b"long key" => Classified::key(&[1; 129]),
        _ => Classified::Keyless,
    };
    let port = Running::start(&space.path, config, classifier);
    let mut worker = space.worker();

    let too_long = [0; 101];
    let bad: [&[u8]; 5] = [b"panic", b"drop", b"long key", &too_long, &[0; 60_000]];
    for packet in bad {
        wire.send(packet);
    }
    wire.send(&[7; 100]);
    let (_, messages) = serve_one(&space, &mut worker, echo);
    assert_eq!(messages, [[7; 100]], "exactly as long as may be, after all the bad ones");

    // Counted right after the delivery, perhaps after the worker's commit.
    until("the good one is counted", || port.counters.snapshot().delivered == 1);
    let seen = port.counters.snapshot();
    let dropped: Vec<_> = seen.dropped.iter().map(|(reason, count)| (*reason, *count)).collect();
    assert_eq!(
        dropped,
        [("key too long", 1), ("not ours", 1), ("the classifier panicked", 1), ("too long", 2)]
    );
    assert_eq!(seen.received, seen.delivered + seen.dropped_total());
}

/// Goal: more than fits is dropped with a number, and service goes on when there is room again.
#[test]
fn overload_is_counted_and_passes() {
    const SENT: u64 = 3_000;
    let path = Region::path_for(&unique("overload"));
    let space = Space::with(&path, &geometry(100));
    space.region.become_primary(1);
    let wire = Wire::new();
    let port = Running::start(&space.path, wire.config(), ByPeer).attached();
    for number in 0..SENT {
        wire.send(&number.to_le_bytes());
    }
    let accounted = || {
        let seen = port.counters.snapshot();
        assert!(seen.delivered + seen.dropped_total() <= seen.received, "{seen}");
        seen.delivered + seen.dropped_total() + seen.kernel_dropped
    };
    until("every packet is accounted for", || accounted() == SENT);
    let seen = port.counters.snapshot();
    assert!(seen.dropped["no free block or slot"] > 0, "{seen}");
    assert!(seen.delivered <= 100, "no more than there are blocks: {seen}");

    let mut worker = space.worker();
    let mut served = 0;
    while served < seen.delivered {
        let (seq, messages) = serve_one(&space, &mut worker, |_| b"ok".to_vec());
        space.region.raise_released(seq);
        served += messages.len() as u64;
    }
    for _ in 0..served {
        assert_eq!(wire.receive(), b"ok");
    }
    // What the worker consumed is free once it has been gathered and the worker has let go of it.
    drop(worker);
    let mut gatherer = Gatherer::new(space.region.clone());
    let mut reaper = Reaper::new(space.region.clone());
    until("most blocks are free again", || {
        gatherer.gather(usize::MAX, |_| {});
        gatherer.collect_sent(|_, _| {});
        reaper.run_once();
        space.region.status().classes.iter().all(|class| class.free > class.total / 2)
    });
    wire.send(b"after");
    let (_, messages) = serve_one(&space, &mut space.worker(), echo);
    assert_eq!(messages, [b"after"]);
}

/// Goal: a port whose queue holds stops reading while an inbox is full, loses nothing, and goes on by itself.
#[test]
fn a_port_holds_what_there_is_no_room_for() {
    const SENT: u64 = 40;
    let path = Region::path_for(&unique("hold"));
    let space = Space::with(&path, &Geometry { inbox_limit: 4, ..geometry(1024) });
    space.region.become_primary(1);
    space.policy(Overload::Hold);
    let wire = Wire::new();
    let config = PortConfig { receive_batch: 8, ..wire.config() };
    let port = Running::start(&space.path, config, ByPeer).attached();
    for number in 0..SENT {
        wire.send(&number.to_le_bytes());
    }
    until("the port holds", || space.counted(Counter::Held) > 0);
    let seen = port.counters.snapshot();
    // What the inbox took may have come in several batches; what it had no room for is part of one.
    assert!(seen.delivered <= 4, "no more than the inbox takes: {seen}");
    assert!(seen.received - seen.delivered <= 8, "the rest waits in the socket: {seen}");
    assert_eq!(seen.dropped_total(), 0, "{seen}");

    let mut worker = space.worker();
    let mut numbers = Vec::new();
    while numbers.len() < SENT as usize {
        let (_, messages) = serve_one(&space, &mut worker, echo);
        numbers.extend(messages.iter().map(|m| u64::from_le_bytes(m[..].try_into().expect("8"))));
    }
    assert_eq!(numbers, (0..SENT).collect::<Vec<_>>(), "all of them, in their order");
    assert_eq!(port.counters.snapshot().dropped_total(), 0);
}

/// Goal: an object that nobody works on holds up the others for a bounded time, and what that costs is counted.
#[test]
fn an_object_without_a_worker_silences_nobody_for_ever() {
    let path = Region::path_for(&unique("hold-bound"));
    let space = Space::with(&path, &Geometry { inbox_limit: 1, ..geometry(1024) });
    space.region.become_primary(1);
    space.policy(Overload::Hold);
    let wire = Wire::new();
    let by_first_byte = ByBytes { range: 0..1 };
    let port = Running::start(&space.path, wire.config(), by_first_byte).attached();
    for packet in [b"a1", b"a2", b"b1"] {
        wire.send(packet);
    }
    until("b has its message", || space.region.find(space.queue, b"b").is_some());
    let seen = port.counters.snapshot();
    assert_eq!(seen.dropped["held for too long"], 1, "{seen}");
    assert_eq!((seen.received, seen.delivered), (3, 2), "{seen}");
}

/// Goal: each policy's packets are counted under its own name, and every packet is accounted for.
#[test]
fn a_port_counts_by_policy() {
    for (overload, counter, reason) in [
        (Overload::Reject, Counter::Rejected, "inbox full"),
        (Overload::DropNewest, Counter::DroppedNewest, "newest dropped"),
        (Overload::DropOldest, Counter::DroppedOldest, "newest dropped"),
    ] {
        let path = Region::path_for(&unique("policy"));
        let space = Space::with(&path, &Geometry { inbox_limit: 4, ..geometry(1024) });
        space.region.become_primary(1);
        space.policy(overload);
        let wire = Wire::new();
        let port = Running::start(&space.path, wire.config(), ByPeer).attached();
        for number in 0..7_u64 {
            wire.send(&number.to_le_bytes());
        }
        until("every packet is accounted for", || {
            let seen = port.counters.snapshot();
            seen.delivered + seen.dropped_total() == 7
        });
        assert_eq!(space.counted(counter), 3, "{overload:?}");
        let (lost, first) = if overload == Overload::DropOldest { (0, 3_u64) } else { (3, 0) };
        let seen = port.counters.snapshot();
        assert_eq!(seen.dropped.get(reason).copied().unwrap_or(0), lost, "{overload:?}: {seen}");
        let (_, messages) = serve_one(&space, &mut space.worker(), echo);
        let expected: Vec<_> = (first..first + 4).map(|n| n.to_le_bytes().to_vec()).collect();
        assert_eq!(messages, expected, "{overload:?}");
    }
}

/// Goal: a port waits for a region that is not there, and follows when it is replaced.
#[test]
fn a_port_follows_its_region() {
    let wire = Wire::new();
    let path = Region::path_for(&unique("follow"));
    let port = Running::start(&path, wire.config(), ByBytes { range: 0..4 });
    for round in 1..=3_u64 {
        // The first is created long after the port looked for it; the others replace one.
        let space = Space::with(&path, &geometry(256));
        space.region.become_primary(1);
        let mut worker = space.worker();
        wire.send(&[b'k'; 4]);
        let (_, messages) = serve_one(&space, &mut worker, echo);
        assert_eq!(messages, [[b'k'; 4]], "round {round}");
        assert_eq!(port.counters.snapshot().attached, round);
    }
}

/// Goal: a destination that cannot be reached costs its packet, not those behind it.
#[test]
fn a_packet_that_cannot_be_sent_does_not_block_the_others() {
    let space = Space::primary("unsendable");
    let wire = Wire::new();
    let port = Running::start(&space.path, wire.config(), ByPeer);
    let mut worker = space.worker();
    wire.send(b"go");
    until("the packet is there", || port.counters.snapshot().delivered == 1);
    let mut claim = worker.claim(space.queue).expect("the object is ready");
    let client = claim.messages().next().expect("one message").source();
    let v6: std::net::SocketAddr = "[2001:db8::1]:9".parse().expect("an address");
    claim.emit(space.port, hotpair_shm::Endpoint::NONE, b"nowhere").expect("a block");
    claim.emit(space.port, v6.into(), b"wrong family").expect("a block");
    claim.emit(space.port, client, b"right").expect("a block");
    let seq = claim.commit().expect("nobody is in the way");
    space.region.raise_released(seq);
    assert_eq!(wire.receive(), b"right");
    until("the failures are counted", || {
        let failed = port.counters.snapshot().send_failed;
        failed.get("no destination") == Some(&1) && failed.get("wrong address family") == Some(&1)
    });
}

/// Goal: a configuration that cannot work is said so, at once and with both sides.
#[test]
fn wrong_configurations_are_refused() {
    let space = Space::primary("config");
    let wire = Wire::new();
    let good = wire.config();
    #[rustfmt::skip]
    let cases = [
        (PortConfig { port: "sip".into(), ..good.clone() },     "no port `sip`, it has: service"),
        (PortConfig { queue: "cdr".into(), ..good.clone() },    "no queue `cdr`, it has: calls"),
        (PortConfig { receive_batch: 0, ..good.clone() },       "receive_batch is 0"),
        (PortConfig { send_batch: 5000, ..good.clone() },       "send_batch is 5000"),
        (PortConfig { socket: SocketSource::Bind(wire.address), ..good.clone() }, "in use by"),
    ];
    for (config, says) in cases {
        let error: RunError = Running::start(&space.path, config, ByPeer)
            .wait()
            .expect_err("a port that cannot work does not run");
        let mut text = error.to_string();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        assert!(text.contains(says), "{text}");
    }
}
