//! Real calls through the death of their primary: sipp calls, everything on one side is killed.
//!
//! The control is the same without replication, which must fail calls: a test that passed there
//! would prove that the protocol carries the state, and nothing about the pair.

#[path = "service/afterwards.rs"]
mod afterwards;
#[path = "sip/caller.rs"]
mod caller;
#[path = "service/nodes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod nodes;
#[path = "sip/pair.rs"]
mod pair;
#[path = "service/processes.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod processes;
#[path = "sip/records.rs"]
mod records;
#[path = "service/pair.rs"]
mod service;

use std::net::{Ipv4Addr, UdpSocket};

use caller::{Caller, Calls, Outcome, Seen};
use processes::wait_for;
use service::Pair;

const CALLS: u32 = 3_000;
const CALLS_PER_SECOND: u32 = 100;

/// Goal: no call notices that the primary died, whether it rang, was up or was just ending.
#[test]
fn calls_survive_the_death_of_the_primary() {
    if !caller::is_installed() {
        return;
    }
    let mut pair = pair::start("sipsync", "sync");
    let outcome = call_and_kill(&mut pair);
    assert_eq!(outcome.exit_code, Some(0), "{outcome:?}");
    assert_eq!((outcome.successful, outcome.failed), (u64::from(CALLS), 0), "{outcome:?}");

    // It rings for a second and talks for four; the timers allow for nothing shorter.
    records::check(&pair.nodes.dump(1, "cdr"), CALLS, 2, 3_900);
    pair.nodes.stop(1);
}

/// Goal: without replication the same fails, and it is the calls that fail.
#[test]
fn without_replication_calls_are_lost() {
    if !caller::is_installed() {
        return;
    }
    let mut pair = pair::start("siplocal", "local");
    let outcome = call_and_kill(&mut pair);
    assert_eq!(outcome.exit_code, Some(1), "{outcome:?}");
    assert!(outcome.failed > 100, "hundreds were up: {outcome:?}");
    assert!(outcome.successful > 100, "but the service went on: {outcome:?}");
    pair.nodes.stop(1);
}

/// Places all calls; in their middle, with hundreds up and dozens ringing, kills the primary side.
fn call_and_kill(pair: &mut Pair) -> Outcome {
    let scenario = pair::scenario();
    let calls = Calls {
        scenario: &scenario,
        service: pair.service,
        from: Ipv4Addr::LOCALHOST.into(),
        on: &[],
        a_second: CALLS_PER_SECOND,
        in_all: CALLS,
    };
    let mut caller = Caller::start(pair.dir.path(), &calls);
    throw_rubbish(pair);
    let ready =
        |seen: &Seen| seen.placed >= u64::from(CALLS / 3) && seen.up >= 200 && seen.ringing >= 24;
    let seen = wait_for("calls are up and ringing", || {
        caller.seen().filter(ready).filter(|_| pair.nodes.protected_primary() == Some(0))
    });
    pair.nodes.kill(0);
    println!("killed the primary side with {} calls up and {} ringing", seen.up, seen.ringing);
    pair.nodes.wait_until("node 1 is primary", 1, |status| status["role"] == "primary");
    let outcome = caller.outcome();
    println!("{} calls succeeded, {} failed", outcome.successful, outcome.failed);
    println!("sipp complained: {}", outcome.complaint);
    outcome
}

/// Packets that no port takes, one that only a worker finds out, and one that asks for nothing.
fn throw_rubbish(pair: &Pair) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    let rubbish: [&[u8]; 5] = [
        b"",
        b"\r\n\r\n",
        b"INVITE sip:x SIP/2.0\r\nno colon\r\n\r\n",
        b"INVITE sip:x SIP/2.0\r\nCall-ID: rubbish\r\nCSeq: none\r\n\r\n",
        &[0xff; 1_400],
    ];
    for packet in rubbish {
        socket.send_to(packet, pair.service).expect("loopback takes a packet");
    }
}
