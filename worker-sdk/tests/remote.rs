//! Workers of another host: a gateway beside each of two regions, of which the second follows the first.
//!
//! The test stands in for the nodes: it ships what is committed from the one region into the other and releases what has
//! arrived there, fences the one and lets the other serve. Sockets, certificates, gateways and workers are the real ones.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_shm::{Delivery, Endpoint, Kind, Participant, Region};
use hotpair_worker::remote::{
    Counts, PortCounts, RemoteConfig, RemoteError, RemoteNode, RemotePort, RemoteSpace,
    RemoteWorker,
};
use hotpair_worker::testing::{Certificates, Host, Node, PATIENCE, geometry, until};
use hotpair_worker::{Error, Space, Wait};

const OBJECTS: u32 = 8;

/// A host with a gateway.
fn host(member: &str, pki: &Certificates) -> Host {
    let mut host = Host::new(&geometry(&["work"], &["out"]));
    host.open(member, pki);
    host
}

/// What the objects count, together.
fn total(host: &Host) -> u64 {
    let work = host.region().queue("work").expect("of the geometry");
    let ours = host.region().objects().filter(|object| object.queue == work);
    ours.map(|object| object.value.first_chunk().map_or(0, |v| u64::from_le_bytes(*v))).sum()
}

fn space(pki: &Certificates, hosts: &[&Host]) -> RemoteSpace {
    RemoteSpace::new(pki.config(hosts))
}

fn send(port: &mut Participant, object: u32, text: &[u8]) {
    let queue = port.region().queue("work").expect("of the geometry");
    let packet = port.packet_of(text, Endpoint::NONE).expect("a free block");
    let key = object.to_le_bytes();
    let to = Delivery { queue, key: Some(&key), priority: 0 };
    port.deliver(to, packet).map_err(|(error, _)| error).expect("room");
}

/// Counts every claim in its object, and how many of its commits it was told have happened.
fn count(worker: &mut RemoteWorker, told: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let claimed = worker.claim(Wait::default().for_at_most(Duration::from_millis(50)));
        let Some(mut job) = claimed.expect("certificates that fit") else { continue };
        *job.value_mut::<u64>().expect("a counter") += 1;
        job.stay_ready();
        match job.commit() {
            Ok(_) => {
                told.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error::Remote(RemoteError::Stale) | Error::Commit(_)) => {}
            Err(error) => panic!("neither done nor never: {error}"),
        }
    }
}

/// Goal: the calls of a local worker, over the network: messages, value, emit, send, create, timer, fail, and a failure that
/// counts as an attempt.
#[test]
fn a_remote_worker_does_what_a_local_one_does() {
    let pki = Certificates::new();
    let host = host("node-a", &pki);
    host.region().become_primary(1);
    let _node = Node::alone(host.region());
    let mut port = host.region().join(Kind::Port, "in").expect("a seat");
    let out = host.region().port("out").expect("of the geometry");
    let mut worker = space(&pki, &[&host]).worker("work").expect("a thread");
    let wait = Wait::default().for_at_most(PATIENCE);

    send(&mut port, 1, b"one");
    let mut job = worker.claim(wait).expect("a gateway").expect("a ready object");
    assert_eq!((job.key(), job.value(), job.attempts()), (&1_u32.to_le_bytes()[..], &b""[..], 0));
    assert_eq!(job.messages().map(|m| m.payload().to_vec()).collect::<Vec<_>>(), [b"one"]);
    *job.value_mut::<u64>().expect("an empty value") = 7;
    job.emit("out", SocketAddr::from(([127, 0, 0, 1], 9)), b"answer").expect("a port");
    job.send("work", &2_u32.to_le_bytes(), b"letter").expect("a queue");
    job.create("work", Some(b"made"), b"value").expect("a queue");
    assert!(job.emit("nowhere", SocketAddr::from(([127, 0, 0, 1], 9)), b"").is_err());
    job.commit().expect("nobody is in the way");
    until("the packet", || {
        port.take_emitted(out).is_some_and(|packet| {
            let is_it = packet.payload() == b"answer";
            port.sent(packet);
            is_it
        })
    });

    let job = worker.claim(wait).expect("a gateway").expect("the letter's object");
    assert_eq!(job.key(), 2_u32.to_le_bytes());
    job.fail();
    let mut job = worker.claim(wait).expect("a gateway").expect("ready again");
    assert_eq!((job.attempts(), job.messages().len()), (1, 1));
    let read = job.read("work", &1_u32.to_le_bytes()).expect("an answer").expect("it is there");
    assert_eq!(read.value(), 7_u64.to_le_bytes());
    job.set_timer(Duration::from_millis(20));
    drop(job); // given back as it was
    let mut job = worker.claim(wait).expect("a gateway").expect("ready again");
    job.withdraw();
    job.commit().expect("nobody is in the way");
    let work = host.region().queue("work").expect("of the geometry");
    assert!(host.region().find(work, &2_u32.to_le_bytes()).is_none(), "withdrawn");
    assert!(host.region().find(work, b"made").is_some(), "created");
}

/// Goal: remote and co-located workers take from one queue, and nobody assigned anything.
#[test]
fn remote_and_local_workers_share_a_queue() {
    let pki = Certificates::new();
    let host = host("node-a", &pki);
    host.region().become_primary(1);
    let _node = Node::alone(host.region());
    let mut port = host.region().join(Kind::Port, "in").expect("a seat");
    (0..OBJECTS).for_each(|object| send(&mut port, object, b"go"));
    let (stop, told, local) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let space = space(&pki, &[&host]);
    std::thread::scope(|scope| {
        scope.spawn(|| count(&mut space.worker("work").expect("a thread"), &told, &stop));
        scope.spawn(|| {
            let mut worker =
                Space::attach(host.name()).expect("the region").worker("work").expect("a seat");
            while !stop.load(Ordering::Relaxed) {
                let wait = Wait::default().for_at_most(Duration::from_millis(50));
                let Some(mut job) = worker.claim(wait).expect("the region") else { continue };
                *job.value_mut::<u64>().expect("a counter") += 1;
                job.stay_ready();
                std::thread::sleep(Duration::from_millis(1));
                local.fetch_add(u64::from(job.commit().is_ok()), Ordering::Relaxed);
            }
        });
        let both = || told.load(Ordering::Relaxed) > 50 && local.load(Ordering::Relaxed) > 50;
        until("both to have worked", both);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(total(&host), told.into_inner() + local.into_inner());
}

/// Goal: a gateway that dies again and again costs no commit and doubles none: what the workers were told has happened, and
/// nothing else has.
#[test]
fn a_gateway_that_dies_loses_and_doubles_nothing() {
    let pki = Certificates::new();
    let mut host = host("node-a", &pki);
    host.region().become_primary(1);
    let _node = Node::alone(host.region());
    let mut port = host.region().join(Kind::Port, "in").expect("a seat");
    (0..OBJECTS).for_each(|object| send(&mut port, object, b"go"));
    let (stop, told) = (AtomicBool::new(false), AtomicU64::new(0));
    let counts = Mutex::new(Vec::<Counts>::new());
    let space = space(&pki, &[&host]);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut worker = space.worker("work").expect("a thread");
                count(&mut worker, &told, &stop);
                counts.lock().expect("no panic").push(worker.counts());
            });
        }
        for _ in 0..10 {
            let before = told.load(Ordering::Relaxed);
            until("some commits", || told.load(Ordering::Relaxed) > before + 60);
            host.close();
            host.reopen();
        }
        let before = told.load(Ordering::Relaxed);
        until("some commits", || told.load(Ordering::Relaxed) > before + 60);
        stop.store(true, Ordering::Relaxed);
    });
    println!(
        "{} commits, {:?}",
        told.load(Ordering::Relaxed),
        counts.into_inner().expect("no panic")
    );
    assert_eq!(total(&host), told.into_inner());
}

/// The primary is fenced and its gateway gone; the other one serves in the next epoch.
fn take_over(lost: &mut Host, other: &Host) -> Node {
    lost.fence(1);
    lost.close();
    other.take_over(2);
    Node::alone(other.region())
}

/// The primary is lost under load: its gateway and whatever it had not shipped. What the workers were told, and what the
/// back-up that took over has. `knows_both`: the workers know both nodes.
fn lose_the_primary(knows_both: bool) -> (u64, u64, u64) {
    let pki = Certificates::new();
    let (mut a, b) = (host("node-a", &pki), host("node-b", &pki));
    a.region().become_primary(1);
    let node = Node::shipping(a.region(), b.region());
    let mut port = a.region().join(Kind::Port, "in").expect("a seat");
    (0..OBJECTS).for_each(|object| send(&mut port, object, b"go"));
    let (stop, told) = (AtomicBool::new(false), AtomicU64::new(0));
    let space = if knows_both { space(&pki, &[&a, &b]) } else { space(&pki, &[&a]) };
    let mut at_loss = 0;
    // Until the last worker has its answer.
    let mut nodes = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| count(&mut space.worker("work").expect("a thread"), &told, &stop));
        }
        until("some commits", || told.load(Ordering::Relaxed) > 200);
        // Nothing is shipped any more, and the primary does not know.
        drop(node);
        std::thread::sleep(Duration::from_millis(5));
        at_loss = told.load(Ordering::Relaxed);
        nodes.push(take_over(&mut a, &b));
        let begun = Instant::now();
        let goes_on = || told.load(Ordering::Relaxed) > at_loss + 200;
        if knows_both {
            until("the workers to go on with the other", goes_on);
        } else {
            while !goes_on() && begun.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        stop.store(true, Ordering::Relaxed);
        if !knows_both {
            // Those that wait for an answer of the lost one would wait for as long as they may.
            b.region().become_fenced(2);
            a.region().become_primary(3);
            nodes.push(Node::alone(a.region()));
            a.reopen();
        }
    });
    (at_loss, told.into_inner(), total(&b))
}

/// Goal: no line of a worker's code is about it: the primary is lost, the workers go on with the other node, and what they
/// were told has happened is there, once.
#[test]
fn workers_go_on_with_the_other_node() {
    for round in 0..3 {
        let (at_loss, told, total) = lose_the_primary(true);
        println!("round {round}: {at_loss} told before the loss, {told} in all");
        assert_eq!(total, told, "round {round}");
    }
}

/// Goal: the control. A worker that knows one node only stands still.
#[test]
fn a_worker_that_knows_one_node_stands_still() {
    let (at_loss, told, _) = lose_the_primary(false);
    assert!(told < at_loss + 200, "{told} after {at_loss}: it went on without a server");
}

/// Goal: a certificate says what its bearer may do: a node's is no worker's, and a worker's does not reach a node.
#[test]
fn certificates_of_another_role_are_refused() {
    let pki = Certificates::new();
    let host = host("node-a", &pki);
    host.region().become_primary(1);
    let _node = Node::alone(host.region());
    let mut port = host.region().join(Kind::Port, "in").expect("a seat");
    send(&mut port, 1, b"go");
    for member in ["node-b", "witness"] {
        let mut config = RemoteConfig::new(pki.of(member), vec![host.node()]);
        config.patience = Duration::from_millis(500);
        let mut worker = RemoteSpace::new(config).worker("work").expect("a thread");
        let claimed = worker.claim(Wait::default().for_at_most(Duration::from_millis(500)));
        assert!(!matches!(claimed, Ok(Some(_))), "{member} works");
    }
}

/// Appends the numbers of its messages to each object, and answers each with its number, until it is stopped.
fn collect(space: &RemoteSpace, stop: &AtomicBool) {
    let mut worker = space.worker("work").expect("a thread");
    while !stop.load(Ordering::Relaxed) {
        let wait = Wait::default().for_at_most(Duration::from_millis(50));
        let Some(mut job) = worker.claim(wait).expect("certificates that fit") else { continue };
        let packets: Vec<_> = job
            .messages()
            .map(|packet| (packet.payload().to_vec(), packet.source().expect("a packet's")))
            .collect();
        let mut value = job.value().to_vec();
        packets.iter().for_each(|(number, _)| value.extend_from_slice(number));
        job.set_value(&value).expect("room");
        for (number, source) in &packets {
            job.emit("out", *source, number).expect("a port");
        }
        match job.commit() {
            Ok(_) | Err(Error::Remote(RemoteError::Stale) | Error::Commit(_)) => {}
            Err(error) => panic!("neither done nor never: {error}"),
        }
    }
}

fn peer(number: u32) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1000 + (number % 1000) as u16))
}

/// Brings `count` packets in by a port that knows `space`, and loses the primary when some have been answered. The numbers that
/// were answered, in order; and what the port counted. Gives up after `patience`.
fn lose_the_primary_of_a_port(
    space: &RemoteSpace,
    count: u32,
    patience: Duration,
    mut lose: impl FnMut(),
) -> (Vec<u32>, PortCounts) {
    let mut port = space.port("out", "work").expect("a thread");
    let (mut next, mut answered, mut lost) = (0, Vec::new(), false);
    let begun = Instant::now();
    while answered.len() < count as usize && begun.elapsed() < patience {
        port.turn().expect("a port of the geometry");
        if next < count && port.has_room() {
            let batch: Vec<_> = (next..count.min(next + 7)).collect();
            let bytes: Vec<_> = batch.iter().map(|n| (n % OBJECTS, n.to_le_bytes())).collect();
            let keys: Vec<_> = bytes.iter().map(|(object, _)| object.to_le_bytes()).collect();
            let packets = batch.iter().zip(&keys).zip(&bytes);
            port.take_in(
                packets.map(|((n, key), (_, payload))| (Some(&key[..]), peer(*n), &payload[..])),
            )
            .expect("a queue of the geometry");
            next += batch.len() as u32;
        }
        let leaving: Vec<u32> = port
            .leaving()
            .map(|packet| {
                let number = u32::from_le_bytes(packet.payload.try_into().expect("a number"));
                assert_eq!(packet.to, Some(peer(number)), "where it came from");
                number
            })
            .collect();
        port.left(leaving.len());
        answered.extend(leaving);
        if !lost && answered.len() > 150 {
            lost = true;
            lose();
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    if answered.len() == count as usize {
        until("the last batch to be acknowledged", || {
            port.turn().expect("a port of the geometry");
            port.unanswered() == 0
        });
    }
    (answered, port.counts())
}

/// The numbers in all objects.
fn numbers(region: &Region) -> Vec<u32> {
    let work = region.queue("work").expect("of the geometry");
    let mut all: Vec<u32> = region
        .objects()
        .filter(|object| object.queue == work && !object.letter)
        .flat_map(|object| {
            let (numbers, _) = object.value.as_chunks();
            numbers.iter().map(|number| u32::from_le_bytes(*number)).collect::<Vec<_>>()
        })
        .collect();
    all.sort_unstable();
    all
}

/// Goal: a port of another host loses its primary in the middle: each packet that came in is applied once, each answer leaves
/// once, although the other node hands out again what it does not know to have left.
#[test]
fn a_port_of_another_host_goes_on_with_the_other_node() {
    const COUNT: u32 = 600;
    for round in 0..3 {
        let pki = Certificates::new();
        let (mut a, b) = (host("node-a", &pki), host("node-b", &pki));
        a.region().become_primary(1);
        let mut nodes = vec![Node::shipping(a.region(), b.region())];
        let space = space(&pki, &[&a, &b]);
        let stop = AtomicBool::new(false);
        let (answered, counts) = std::thread::scope(|scope| {
            (0..2).for_each(|_| drop(scope.spawn(|| collect(&space, &stop))));
            let seen = lose_the_primary_of_a_port(&space, COUNT, PATIENCE, || {
                nodes.clear();
                std::thread::sleep(Duration::from_millis(3));
                nodes.push(take_over(&mut a, &b));
            });
            stop.store(true, Ordering::Relaxed);
            seen
        });
        println!("round {round}: {counts:?}");
        let mut once = answered.clone();
        once.sort_unstable();
        assert_eq!(once, (0..COUNT).collect::<Vec<_>>(), "each answer once, round {round}");
        assert_eq!(numbers(b.region()), once, "each packet once, round {round}");
        assert_eq!(counts.delivered, u64::from(COUNT));
        assert!(counts.known > 0, "what had left was handed out again: {counts:?}");
    }
}

/// Goal: the control. A port that knows one node only stands still without it.
#[test]
fn a_port_that_knows_one_node_stands_still() {
    let pki = Certificates::new();
    let (mut a, b) = (host("node-a", &pki), host("node-b", &pki));
    a.region().become_primary(1);
    let mut nodes = vec![Node::shipping(a.region(), b.region())];
    let (both, one) = (space(&pki, &[&a, &b]), space(&pki, &[&a]));
    let stop = AtomicBool::new(false);
    let (answered, _) = std::thread::scope(|scope| {
        scope.spawn(|| collect(&both, &stop));
        let seen = lose_the_primary_of_a_port(&one, 600, Duration::from_secs(2), || {
            nodes.clear();
            nodes.push(take_over(&mut a, &b));
        });
        stop.store(true, Ordering::Relaxed);
        seen
    });
    assert!(answered.len() < 600, "it went on without its server");
}

/// Goal: a second program that says it is a port stands by while the first one serves, and takes over when that is gone.
#[test]
fn one_program_at_a_time_is_a_port() {
    let pki = Certificates::new();
    let host = host("node-a", &pki);
    host.region().become_primary(1);
    let _node = Node::alone(host.region());
    let space = space(&pki, &[&host]);
    let serves = |port: &mut RemotePort| {
        port.turn().expect("a port of the geometry");
        port.has_room()
    };
    let mut first = space.port("out", "work").expect("a thread");
    until("the first to serve", || serves(&mut first));
    let mut second = space.port("out", "work").expect("a thread");
    for number in 0..50 {
        let key = 1_u32.to_le_bytes();
        first.take_in([(Some(&key[..]), peer(number), &b"x"[..])]).expect("a queue");
        until("its packet to be taken", || serves(&mut first) && first.unanswered() == 0);
        assert!(!serves(&mut second), "there is one");
    }
    drop(first);
    until("the second to serve", || serves(&mut second));
    let key = 2_u32.to_le_bytes();
    second.take_in([(Some(&key[..]), peer(2), &b"y"[..])]).expect("a queue");
    until("its packet to be taken", || serves(&mut second) && second.unanswered() == 0);

    let mut wrong = space.port("nowhere", "work").expect("a thread");
    until("a port that there is not to be refused", || {
        wrong.turn().is_err_and(|error| error.to_string().contains("no port \"nowhere\""))
    });
}

/// A network: what a worker sends to its near end comes out at a gateway, and the answers go back, unless it is cut.
struct Cable {
    near: SocketAddr,
    cut: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Cable {
    fn to(gateway: SocketAddr) -> Cable {
        let near = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let far = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = near.local_addr().expect("bound");
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        }
        let (cut, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let worker: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let pass = |from: &UdpSocket, to: &UdpSocket, out: bool| {
            let (from, to) =
                (from.try_clone().expect("a descriptor"), to.try_clone().expect("a descriptor"));
            let (cut, stop, worker) = (Arc::clone(&cut), Arc::clone(&stop), Arc::clone(&worker));
            std::thread::spawn(move || {
                let mut packet = [0; 1 << 16];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((len, sender)) = from.recv_from(&mut packet) else { continue };
                    if cut.load(Ordering::Relaxed) {
                        continue;
                    }
                    let to_whom = if out {
                        *worker.lock().expect("no panic") = Some(sender);
                        Some(gateway)
                    } else {
                        *worker.lock().expect("no panic")
                    };
                    if let Some(whom) = to_whom {
                        let _ = to.send_to(&packet[..len], whom); // lost, as on any network
                    }
                }
            })
        };
        let threads = vec![pass(&near, &far, true), pass(&far, &near, false)];
        Cable { near: address, cut, stop, threads }
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("it only passes packets"));
    }
}

/// Workers of a node that has a cable for each of `cables` addresses; each cable is cut in turn, under load. Gives for each
/// cut how long no commit was told to have happened, and what the workers counted.
fn cut_one_network_after_the_other(cables: usize) -> (Vec<Duration>, Counts) {
    let pki = Certificates::new();
    let host = host("node-a", &pki);
    host.region().become_primary(1);
    let _node = Node::alone(host.region());
    let mut port = host.region().join(Kind::Port, "in").expect("a seat");
    (0..OBJECTS).for_each(|object| send(&mut port, object, b"go"));
    let RemoteNode { member, addresses } = host.node();
    let gateway = addresses[0];
    let cables: Vec<Cable> = (0..cables).map(|_| Cable::to(gateway)).collect();
    let addresses = cables.iter().map(|cable| cable.near).collect();
    let node = RemoteNode { member, addresses };
    let mut config = RemoteConfig::new(pki.of("worker"), vec![node]);
    config.patience = PATIENCE;
    let space = RemoteSpace::new(config);
    let (stop, told) = (AtomicBool::new(false), AtomicU64::new(0));
    let more = |count: u64| {
        let before = told.load(Ordering::Relaxed);
        until("commits", || told.load(Ordering::Relaxed) >= before + count);
    };
    let mut outages = Vec::new();
    let counts = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut worker = space.worker("work").expect("a thread");
            count(&mut worker, &told, &stop);
            worker.counts()
        });
        // It begins by the first.
        cables.iter().skip(1).for_each(|cable| cable.cut(true));
        more(200);
        cables.iter().for_each(|cable| cable.cut(false));
        // Longer than a connection takes: nothing that the worker shows tells of those that it does not use.
        std::thread::sleep(Duration::from_millis(1_500));
        for cable in &cables {
            cable.cut(true);
            let begun = Instant::now();
            if cables.len() == 1 {
                // What is under way arrives; then nothing does, for longer than any other path would take.
                std::thread::sleep(Duration::from_millis(20));
                let before = told.load(Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(700));
                assert_eq!(told.load(Ordering::Relaxed), before, "there is no other network");
                cable.cut(false);
            }
            let (mut last, mut longest) = (begun, Duration::ZERO);
            let (mut seen, first) = (told.load(Ordering::Relaxed), told.load(Ordering::Relaxed));
            while seen < first + 300 {
                assert!(begun.elapsed() < PATIENCE, "the worker does not go on");
                let now = told.load(Ordering::Relaxed);
                if now > seen {
                    longest = longest.max(last.elapsed());
                    (last, seen) = (Instant::now(), now);
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            outages.push(longest);
            cable.cut(false);
            // As above.
            std::thread::sleep(Duration::from_millis(1_500));
        }
        stop.store(true, Ordering::Relaxed);
        worker.join().expect("no panic")
    });
    assert_eq!(total(&host), told.into_inner(), "each once");
    (outages, counts)
}

/// Goal: losing one network is not losing the node. The worker goes on with the same node by its other address, at once.
#[test]
fn a_worker_goes_on_by_another_network() {
    let (outages, counts) = cut_one_network_after_the_other(2);
    println!("without a commit for {outages:?}; {counts:?}");
    // The first activation, and one more at least: on a machine so busy that one network's packets wait for long, the worker
    // may have left it before it was cut.
    assert!(counts.activations >= 2, "{counts:?}");
}

/// Goal: the control. With one network the worker stands still while it is cut.
#[test]
fn a_worker_with_one_network_stands_still_while_it_is_cut() {
    let (outages, counts) = cut_one_network_after_the_other(1);
    println!("without a commit for {outages:?} after the cut's end; {counts:?}");
}
