//! A port on a host that shares no memory with either server, whose peers send and are answered many packets at once.

mod support;

#[path = "resync/site.rs"]
mod site;

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hotpair_ioports::{
    ByBytes, Counters, Family, PortConfig, PortKind, Sender, SocketSource, Stop, UdpConfig,
    run_remote,
};
use hotpair_worker::remote::{RemoteError, RemoteSpace};
use hotpair_worker::{Error, Wait};
use site::{Site, with_gateway};
use support::{PATIENCE, loopback};

const PURPOSE: u8 = 75;
const PORT: &str = "far";
const QUEUE: &str = "counters";
/// Packets that are sent as one.
const BURST: u32 = 40;
const BURSTS: u32 = 12;
/// Before this burst is answered everything of the primary is killed.
const KILLED_AT: u32 = 6;
const OBJECTS: u32 = 8;

fn with_far_port(side: usize) -> String {
    let gateway = with_gateway(PURPOSE, side);
    format!(
        "{gateway}\n\
         [[port]]\nname = \"{PORT}\"\nkind = \"udp\"\nqueue = \"{QUEUE}\"\nremote = true\n"
    )
}

/// Answers each packet with itself.
fn answer(space: &RemoteSpace, stop: &AtomicBool) {
    let mut worker = space.worker(QUEUE).expect("a thread");
    while !stop.load(Ordering::Relaxed) {
        let wait = Wait::default().for_at_most(Duration::from_millis(50));
        let Some(mut job) = worker.claim(wait).expect("certificates that fit") else { continue };
        let packets: Vec<_> = job
            .messages()
            .filter_map(|packet| Some((packet.source()?, packet.payload().to_vec())))
            .collect();
        for (from, payload) in packets {
            job.emit(PORT, from, &payload).expect("it fits");
        }
        match job.commit() {
            Ok(_) | Err(Error::Remote(RemoteError::Stale) | Error::Commit(_)) => {}
            Err(error) => panic!("neither done nor never: {error}"),
        }
    }
}

/// The packet of this number: its object, itself, and so many bytes more.
fn packet(number: u32) -> Vec<u8> {
    let mut packet = (number % OBJECTS).to_be_bytes().to_vec();
    packet.extend(number.to_be_bytes());
    packet.resize(64, number as u8);
    packet
}

/// Goal: a far port that takes together what was sent together, and sends together what leaves together, hands each packet on
/// once and sends each answer once, also when everything of the primary is killed with packets on every part of the way.
#[test]
fn what_is_sent_together_to_a_far_port_is_answered_once() {
    let mut site = Site::paired(PURPOSE, with_far_port);
    let space = RemoteSpace::new(site.remote(PURPOSE));
    // Of the site's own address, and no port that the kernel gives anybody by chance.
    let to = SocketAddr::new(loopback(PURPOSE).parse().expect("an address"), 7440);
    let udp = UdpConfig { segment: true, gro: true, ..UdpConfig::default() };
    let config = PortConfig {
        kind: PortKind::Udp(udp),
        // Less than what comes as one: the rest is left over for the next turn.
        receive_batch: 16,
        ..PortConfig::new(PORT, QUEUE, SocketSource::Bind(to))
    };
    let (counters, ending) = (Counters::new(), AtomicBool::new(false));
    let stop = Stop::new().expect("an eventfd");
    let mut seen: HashMap<u32, u32> = HashMap::new();
    std::thread::scope(|scope| {
        let _ends = Ends(&stop, &ending);
        scope.spawn(|| answer(&space, &ending));
        let port = scope.spawn(|| {
            run_remote(&space, &config, &mut ByBytes { range: 0..4 }, &counters, &stop)
                .map_err(|error| error.to_string())
        });
        let client = UdpSocket::bind((loopback(PURPOSE), 0)).expect("a free port");
        client.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        // It takes them together from its first read on.
        let first = u32::MAX;
        while !seen.contains_key(&first) {
            client.send_to(&packet(first), to).ok();
            receive(&client, &mut seen);
        }
        seen.clear();
        let mut sender = Sender::segmenting(BURST as usize, Family::V4);
        for burst in 0..BURSTS {
            let packets: Vec<_> = (0..BURST).map(|at| packet(burst * BURST + at)).collect();
            let all = packets.iter().map(|packet| (&packet[..], to));
            let sent = sender.send(client.as_fd(), all).expect("loopback takes it");
            assert_eq!(sent, packets.len());
            if burst == KILLED_AT {
                site.kill(&[0]);
            }
            let until = Instant::now() + PATIENCE;
            while (burst * BURST..(burst + 1) * BURST).any(|number| !seen.contains_key(&number)) {
                assert!(
                    Instant::now() < until,
                    "burst {burst}: {} answers, {counters:?}",
                    seen.len()
                );
                assert!(!port.is_finished(), "the port gave up");
                receive(&client, &mut seen);
            }
        }
        // What comes twice comes soon.
        receive(&client, &mut seen);
        stop.stop();
        port.join().expect("a port does not panic").expect("it was asked to stop");
    });
    seen.remove(&u32::MAX);
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "answered more than once: {twice:?}");
    assert_eq!(seen.len() as u32, BURSTS * BURST);
    let counted = counters.snapshot();
    assert_eq!(counted.dropped_total(), 0, "{counted}");
    assert_eq!(counted.received, counted.delivered, "{counted}");
    assert_eq!(counted.received, counted.sent, "{counted}");
}

/// Whatever becomes of the test, its threads end.
struct Ends<'a>(&'a Stop, &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.stop();
        self.1.store(true, Ordering::Relaxed);
    }
}

/// Takes in answers until none has come for a while.
fn receive(client: &UdpSocket, seen: &mut HashMap<u32, u32>) {
    let mut buffer = [0; 2048];
    while let Ok(len) = client.recv(&mut buffer) {
        let number = u32::from_be_bytes(buffer[4..8].try_into().expect("four bytes"));
        assert_eq!(buffer[..len], packet(number), "an answer is its packet");
        *seen.entry(number).or_default() += 1;
    }
}
