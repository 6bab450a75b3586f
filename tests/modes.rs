//! What each mode of a port promises, and what a back-up that is slow costs: a whole pair, with a sync, a
//! bounded and a local port beside each other. The back-up, or the primary, is stopped and killed.
//!
//! Heartbeats are patient here, so that a stopped node is not taken for a lost one: acknowledgements decide.

mod support;

#[path = "modes/site.rs"]
mod site;

use std::time::Duration;

use site::{Client, Knobs, Site};
use support::eventually;

const MILLI: Duration = Duration::from_millis(1);
/// Of the bounded port.
const BOUND_BYTES: u64 = 4096;
/// A batch holds at least so many for each answer that was emitted.
const ANSWER_BYTES: u64 = 29 + 40;

const PATIENT: Knobs = Knobs {
    replication: "ack_wait = \"60s\"",
    misses: 100_000,
    bound: "{ age = \"1s\", bytes = \"4KiB\" }",
};

/// Until the port has answered this number. An answer may be lost on its way, so it is asked for again.
fn settle(client: &mut Client, letter: char, number: u64) {
    eventually("the port has answered everything", || {
        client.listen(10 * MILLI);
        let all = client.last(letter) == number;
        if !all {
            client.repeat(letter);
        }
        all
    });
}

/// Goal: while the back-up says nothing a sync port holds its answers, a bounded one goes on until its bound, a
/// local one as if nothing were the matter. All is there when it is over.
#[test]
fn without_acks_each_port_does_what_its_mode_says() {
    const BURST: u64 = 100;
    let mut site = Site::start(30, PATIENT);
    let mut client = site.client();
    assert_eq!(site.gate(0, 's')["mode"], "sync");
    assert_eq!(site.gate(0, 'l')["mode"], "local");
    assert_eq!(site.gate(0, 'b')["bytes"], BOUND_BYTES);
    let mut before = 0;
    // The lease of 30 ms can end before the first answer, where this machine is slow: then once more.
    for round in 0.. {
        assert!(round < 20, "the bounded port is never ahead of the acks");
        site.stop(1);
        for letter in ['b', 's', 'l'] {
            (0..BURST).for_each(|_| client.send(letter));
        }
        settle(&mut client, 'l', before + BURST);
        client.listen(50 * MILLI);
        assert_eq!(client.last('s'), before, "nothing is acknowledged");
        let ahead = client.last('b') - before;
        assert!(ahead * ANSWER_BYTES <= BOUND_BYTES, "{ahead} answers are told and unacknowledged");
        let gate = site.gate(0, 'b');
        assert!(gate["unacked_bytes"].as_u64() > Some(0), "{gate:#}");
        assert!(gate["unacked_age_ns"].as_u64() > Some(0), "{gate:#}");
        assert_eq!(gate["lease_left_ns"], 0, "{gate:#}");
        assert!(gate["closed_times"].as_u64() > Some(0), "{gate:#}");
        site.go_on();
        before += BURST;
        settle(&mut client, 's', before);
        settle(&mut client, 'b', before);
        if ahead > 0 {
            println!("round {round}: {ahead} answers ahead of the acks");
            break;
        }
    }
    eventually("the gate is reported closed", || !site.events(0, "gate_closed").is_empty());
    assert_eq!(site.events(0, "gate_closed")[0]["port"], "ahead");
    assert_eq!(site.events(0, "solo").len(), 0);
    for letter in ['s', 'b', 'l'] {
        assert_eq!(client.ask(letter), (before, before), "port {letter}");
    }
}

/// Goal: with everything on the primary's side a sync port loses nothing that it answered, a bounded one no
/// more than its bound; and the test would notice, since a local port beside them loses what it answered when
/// its node stood still.
#[test]
fn a_failover_loses_what_the_modes_allow() {
    let mut site = Site::start(31, PATIENT);
    let mut client = site.client();
    for _ in 0..300 {
        ['s', 'b', 'l'].into_iter().for_each(|letter| client.send(letter));
        client.listen(MILLI / 5);
    }
    ['s', 'b', 'l'].into_iter().for_each(|letter| settle(&mut client, letter, 300));
    site.stop(0);
    for _ in 0..100 {
        ['s', 'b', 'l'].into_iter().for_each(|letter| client.send(letter));
        client.listen(MILLI / 5);
    }
    settle(&mut client, 'l', 400);
    site.kill(0);
    client.listen(50 * MILLI);
    eventually("node b is primary", || site.status(1)["role"] == "primary");
    let mut lost = ['s', 'b', 'l'].map(|letter| {
        let told = client.last(letter);
        let (last, count) = client.ask(letter);
        assert_eq!(last, count, "port {letter}: nothing in between is missing or doubled");
        told.saturating_sub(last)
    });
    println!("lost: sync {}, bounded {}, local {}", lost[0], lost[1], lost[2]);
    assert_eq!(lost[0], 0, "a sync port loses nothing");
    assert!(lost[1] * ANSWER_BYTES <= BOUND_BYTES, "{} lost by the bounded port", lost[1]);
    lost.sort_unstable();
    assert!(lost[2] > 0, "the control lost nothing");
}

/// Goal: a back-up that stops acknowledging is taken out of the pair, the service goes on while it stands still,
/// and it comes back by itself, after a pause that grows.
#[test]
fn a_slow_back_up_is_evicted_and_comes_back_with_growing_pauses() {
    let evicts = Knobs { replication: "ack_wait = \"50ms\"", ..PATIENT };
    let mut site = Site::start(32, evicts);
    let mut client = site.client();
    let mut sent = 0;
    for _ in 1..=3 {
        let is_slow = |site: &Site| {
            let solos = site.events(0, "solo");
            solos.iter().filter(|event| event["cause"] == "slow").count()
        };
        let before = is_slow(&site);
        site.stop(1);
        client.send('s');
        sent += 1;
        settle(&mut client, 's', sent); // it still stands: the eviction let the answer go
        eventually("the eviction is reported", || is_slow(&site) > before);
        eventually("status says so", || site.status(0)["protected"] == false);
        (0..20).for_each(|_| client.send('s'));
        sent += 20;
        settle(&mut client, 's', sent);
        site.go_on();
        eventually("the pair is protected again", || site.status(0)["protected"] == true);
        assert_eq!(client.ask('s'), (sent, sent), "nothing lost, nothing doubled");
    }
    let time = |event: &serde_json::Value| event["t_ns"].as_u64().expect("a time");
    let [solos, begun] = ["solo", "transfer_started"].map(|name| site.events(0, name));
    let pauses: Vec<u64> = solos
        .iter()
        .filter_map(|solo| {
            let next = begun.iter().map(time).find(|begun| *begun > time(solo))?;
            Some((next - time(solo)) / 1_000_000)
        })
        .collect();
    println!("pauses before it was taken in again: {pauses:?} ms");
    assert!(pauses.len() >= 3, "{pauses:?}");
    // An event is written a little after what it reports.
    for (pause, least) in pauses.iter().zip([500, 1_000, 2_000]) {
        assert!(*pause >= least * 9 / 10, "{pauses:?}");
    }
}

/// The control: where nobody is evicted, answers wait as long as the back-up stands still.
#[test]
fn without_eviction_answers_wait_for_the_back_up() {
    let mut site = Site::start(33, PATIENT);
    let mut client = site.client();
    client.send('s');
    settle(&mut client, 's', 1);
    site.stop(1);
    client.send('s');
    client.listen(700 * MILLI); // not for something to happen: for nothing to
    assert_eq!(client.last('s'), 1, "nobody acknowledged it");
    site.go_on();
    settle(&mut client, 's', 2);
    assert_eq!(site.events(0, "solo").len(), 0);
}
