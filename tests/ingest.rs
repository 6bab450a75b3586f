//! What a port has handed in and no worker has committed when everything on the primary's side is killed: with `ingest =
//! "replicated"` the survivor works it off, once; the control, `"volatile"`, loses it.
//!
//! The workers are this process: on the first side one commits a packet, has another in its hands and never commits it,
//! and leaves a third and a fourth waiting.

#[path = "service/afterwards.rs"]
mod afterwards;
#[path = "service/nodes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod nodes;
#[path = "service/processes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod processes;
#[path = "service/pair.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod service;

use std::net::UdpSocket;
use std::time::Duration;

use hotpair_shm::{Claim, Kind, Participant, QueueId, Region};
use processes::wait_for;
use service::Pair;

/// All packets are for this object: it is what they begin with.
const KEY: &[u8] = b"meter";

/// How long a worker sleeps at a time.
const NAP: Duration = Duration::from_millis(20);

fn configuration(socket: &str, ingest: &str) -> String {
    format!(
        r#"
slots = 1024
[[region.class]]
payload_bytes = 512
blocks = 4096
[[queue]]
name = "readings"
[[port]]
name = "service"
kind = "udp"
queue = "readings"
holder = "{socket}"
key = {{ bytes = [0, 5] }}
ingest = "{ingest}"
"#
    )
}

/// A seat of a worker in a region.
fn sit(region: &str) -> (Participant, QueueId) {
    let region = Region::attach(&Region::path_for(region)).expect("it is there");
    let queue = region.queue("readings").expect("it is configured");
    (region.join(Kind::Worker, "test").expect("a seat"), queue)
}

fn payloads(claim: &Claim<'_>) -> Vec<String> {
    let text = |payload: &[u8]| String::from_utf8_lossy(&payload[KEY.len()..]).into_owned();
    claim.messages().map(|message| text(message.payload())).collect()
}

fn counted(region: &Region, counter: &str) -> u64 {
    let seats = region.participants();
    let counters = seats.iter().flat_map(|seat| &seat.counters);
    counters.filter(|(name, _)| *name == counter).map(|(_, count)| count).sum()
}

/// What the survivor's worker reads, up to a packet that is sent to it alone, and until nothing waits.
fn read_after_the_death(name: &str, ingest: &str) -> Vec<String> {
    let mut pair =
        Pair::start(name, "sync", "service=127.0.0.1:0", |socket| configuration(socket, ingest));
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let send = |what: &str| {
        let packet = [KEY, what.as_bytes()].concat();
        sender.send_to(&packet, pair.service).expect("loopback");
    };

    let (mut worker, queue) = sit(pair.nodes.region(0));
    let region = worker.region().clone();
    send("committed");
    let claim = wait_for("the first packet", || {
        worker.wait_ready(queue, NAP);
        worker.claim(queue).map(Claim::suspend)
    });
    let mut claim = worker.resume(claim);
    assert_eq!(payloads(&claim), ["committed"]);
    claim.set_value(b"one").expect("room");
    let seq = claim.commit().expect("nobody is in the way");
    wait_for("the back-up has its commit", || (region.released() >= seq).then_some(()));

    send("in hands");
    let claim = wait_for("the second packet", || {
        worker.wait_ready(queue, NAP);
        worker.claim(queue).map(Claim::suspend)
    });
    send("waits");
    send("waits too");
    wait_for("all are handed in", || (counted(&region, "delivered") == 4).then_some(()));
    if ingest == "replicated" {
        assert_eq!(counted(&region, "taken_in"), 4);
        wait_for("the back-up has what was not read", || {
            let objects = pair.nodes.dump(1, "readings");
            (objects.iter().filter(|object| object["letter"] == true).count() == 3).then_some(())
        });
    }
    wait_for("the pair is protected", || (pair.nodes.protected_primary() == Some(0)).then_some(()));
    pair.nodes.kill(0);
    pair.nodes.wait_until("node 1 is primary", 1, |status| status["role"] == "primary");
    drop((claim, worker));

    let (mut worker, queue) = sit(pair.nodes.region(1));
    let region = worker.region().clone();
    let port_reads =
        || region.participants().iter().any(|seat| seat.alive && seat.kind == Some(Kind::Port));
    wait_for("the survivor's port is there", || port_reads().then_some(()));
    send("last");
    let mut read = Vec::new();
    let mut values = Vec::new();
    wait_for("everything is read", || {
        worker.wait_ready(queue, NAP);
        while let Some(mut claim) = worker.claim(queue) {
            read.extend(payloads(&claim));
            values.push(claim.value().to_vec());
            claim.set_value(b"two").expect("room");
            claim.commit().expect("nobody is in the way");
        }
        let letters = region.objects().filter(|object| object.letter).count();
        (read.iter().any(|packet| packet == "last") && letters == 0).then_some(())
    });
    assert_eq!(values[0], b"one", "what was committed is there");
    pair.nodes.stop(1);
    read
}

/// Goal: a packet that was handed in is worked off by the survivor once, whether it waits or was in a worker's hands; one that was
/// worked off before is not worked off again.
#[test]
fn what_a_replicated_port_has_handed_in_outlives_the_primary() {
    let mut read = read_after_the_death("ingestrep", "replicated");
    read.sort();
    assert_eq!(read, ["in hands", "last", "waits", "waits too"]);
}

/// Goal: the control. What a volatile port has handed in dies with the primary.
#[test]
fn what_a_volatile_port_has_handed_in_dies_with_the_primary() {
    assert_eq!(read_after_the_death("ingestvol", "volatile"), ["last"]);
}
