//! Two cores wired back to back with hosts that do at once what they are asked, and an arbiter that
//! always answers. What goes wrong on the way is the simulator's subject; here it is the rules of the
//! steady state.

use std::time::Duration;

use rkyv::util::AlignedVec;

use super::action::Applied;
use super::*;
use crate::wire::{Change, EmitRef, OpenChunk, PutRef, Standing};

mod bounded;
mod by_hand;
mod cold;
mod decided;
mod flood;
mod hostile;
mod planned;

const MILLI: u64 = 1_000_000;

struct Host {
    core: Core,
    events: Vec<Event>,
    released: Seq,
    allowed: Seq,
    lease_until: Tick,
    /// Names of the actions, in their order.
    done: Vec<&'static str>,
    digest: Option<u64>,
    applies: bool,
    waiting: Vec<Receipt>,
    datagrams: u64,
    batches: u64,
    /// Slots that this host says it has changed by itself, and those that the other named.
    changed: Vec<u32>,
    also: Vec<u32>,
}

struct Pair {
    now: u64,
    hosts: [Host; 2],
    view: Option<View>,
    connections: u64,
    /// Whether acks arrive.
    acks: bool,
    /// Where there is no arbiter, what each node keeps.
    registers: Option<[OwnRecord; 2]>,
    connected: bool,
    /// Whether a node gets no answer from the arbiter.
    unanswered: [bool; 2],
    /// What each has said, frames and datagrams.
    said: [Vec<Vec<u8>>; 2],
}

fn config(node: u8) -> Config {
    let this = Member { node: NodeId(node), incarnation: 100 + u64::from(node) };
    let mut config = Config::new(7, this, NodeId(1 - node), 55, 16);
    config.first = node == 0;
    config
}

impl Pair {
    fn new(adapt: impl Fn(&mut Config)) -> Pair {
        let hosts = [0, 1].map(|node| {
            let mut config = config(node);
            adapt(&mut config);
            Host {
                core: Core::new(config, Tick::ZERO).expect("the configuration is sound"),
                events: Vec::new(),
                released: Seq::ZERO,
                allowed: Seq::ZERO,
                lease_until: Tick::ZERO,
                done: Vec::new(),
                digest: None,
                applies: true,
                waiting: Vec::new(),
                datagrams: 0,
                batches: 0,
                changed: Vec::new(),
                also: Vec::new(),
            }
        });
        let mut pair = Pair {
            now: 0,
            registers: hosts[0].core.config.by_hand.then(Default::default),
            hosts,
            view: None,
            connections: 0,
            acks: true,
            connected: true,
            unanswered: [false; 2],
            said: Default::default(),
        };
        pair.run();
        pair
    }

    /// A pair in sync, node 0 primary.
    fn in_sync(adapt: impl Fn(&mut Config)) -> Pair {
        let mut pair = Pair::new(adapt);
        pair.connect();
        pair.run_for(5);
        let [a, b] = &pair.hosts;
        assert!(a.core.status().protected, "{:?}", a.core.status());
        assert_eq!(b.core.status().standing, Standing::Backup);
        pair
    }

    fn connect(&mut self) {
        self.connections += 1;
        let now = Tick::from_nanos(self.now);
        for host in &mut self.hosts {
            host.core.handle_peer_connected(now, ConnectionId(self.connections));
        }
        self.run();
    }

    /// Until nobody has anything to say.
    fn run(&mut self) {
        while [0, 1].map(|node| self.turn(node)) != [false, false] {}
    }

    fn turn(&mut self, node: usize) -> bool {
        let now = Tick::from_nanos(self.now);
        let mut busy = false;
        while let Some(action) = self.hosts[node].core.poll_action() {
            self.hosts[node].carry_out(now, action);
            busy = true;
        }
        if let Some(own) = &mut self.registers {
            let _ = own[node].judge(self.hosts[node].core.testimony(), &Request::Read);
        }
        while let Some(transmit) = self.hosts[node].core.poll_transmit() {
            let connection = transmit.connection;
            let acks = self.acks;
            let [a, b] = &mut self.hosts;
            let (from, to) = if node == 0 { (a, b) } else { (b, a) };
            self.said[node].push(match &transmit.body {
                Body::Stream(frame) => frame.as_ref().to_vec(),
                Body::Datagram(bytes) => bytes.clone(),
            });
            match transmit.body {
                _ if !self.connected => {}
                Body::Stream(frame) => {
                    from.batches += u64::from(frame.as_ref()[8] == 4);
                    let mut bytes = AlignedVec::new();
                    bytes.extend_from_slice(frame.as_ref());
                    to.core.handle_frame(now, connection, bytes);
                }
                Body::Datagram(bytes) => {
                    from.datagrams += 1;
                    if acks {
                        to.core.handle_datagram(now, connection, &bytes);
                    }
                }
            }
            busy = true;
        }
        while let Some((id, request)) = self.hosts[node].core.poll_arbiter() {
            busy = true;
            if self.unanswered[node] {
                continue;
            }
            let testimony = self.hosts[node].core.testimony();
            let answer = match (&mut self.registers, request) {
                (Some(own), request) => own[node].judge(testimony, &request).answer,
                (None, Request::Read) => Answer::Current(self.view),
                (None, Request::CompareAndSet { expected, view }) => {
                    if self.view.is_none_or(|view| view.number == expected) {
                        self.view = Some(view);
                        Answer::Won(view)
                    } else {
                        Answer::Lost(self.view)
                    }
                }
            };
            self.hosts[node].core.handle_arbiter(now, id, answer);
        }
        busy
    }

    /// Lets time pass, with the time-outs that were asked for; how many there were.
    fn run_for(&mut self, millis: u64) -> u64 {
        let end = self.now + millis * MILLI;
        let mut wakes = 0;
        loop {
            let next = self.hosts.iter().filter_map(|host| host.core.poll_timeout()).min();
            let Some(next) = next.map(Tick::as_nanos).filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            for host in &mut self.hosts {
                if host.core.poll_timeout().is_some_and(|at| at.as_nanos() <= self.now) {
                    host.core.handle_timeout(Tick::from_nanos(self.now));
                    wakes += 1;
                }
            }
            self.run();
        }
        self.now = end;
        wakes
    }

    fn commit(&mut self, count: u64, emits: bool) {
        let now = Tick::from_nanos(self.now);
        let core = &mut self.hosts[0].core;
        let seq = Seq::new(core.status().epoch, count);
        let open = core.gathering();
        open.push(put(seq, b"value"));
        if emits {
            open.push_emit(EmitRef { seq, ordinal: 0, port: 0, endpoint: [0; 24], payload: b"x" });
        }
        open.end_of_commit(seq);
        core.offer(now, seq, Some(1)).expect("it is primary");
        self.run();
    }

    fn events(&self, node: usize) -> &[Event] {
        &self.hosts[node].events
    }
}

impl Host {
    fn carry_out(&mut self, now: Tick, action: Action) {
        self.done.push(match &action {
            Action::BecomePrimary { .. } => "primary",
            Action::BecomeBackup { .. } => "backup",
            Action::Fence => "fence",
            Action::Drain => "drain",
            Action::Resume { .. } => "resume",
            Action::Release(_) => "release",
            Action::Allow { .. } => "allow",
            Action::ExtendLease(_) => "lease",
            Action::SetGathering { required: true } => "gather",
            Action::SetGathering { required: false } => "need not gather",
            Action::StartSnapshot { .. } => "start snapshot",
            Action::StopSnapshot => "stop snapshot",
            Action::ApplyBatch(..) => "batch",
            Action::ApplyChunk(..) => "chunk",
            Action::Disconnect { .. } => "disconnect",
            Action::Whole { .. } => "whole",
            Action::Distrust => "distrust",
            Action::Event(_) => "event",
        });
        match action {
            Action::Release(seq) => self.released = seq,
            Action::Allow { upto, .. } => self.allowed = upto,
            Action::ExtendLease(until) => self.lease_until = until,
            Action::BecomeBackup { receipt, .. } => {
                self.core.handle_rewound(now, receipt, &self.changed);
            }
            Action::StartSnapshot { also, .. } => {
                self.also = also;
                let mut chunk = OpenChunk::new();
                chunk.push(put(Seq::new(1, 0), b"old"));
                let through = self.core.status().watermark;
                self.core.offer_chunk(now, chunk).expect("it was asked for");
                self.core.finish_snapshot(now, through).expect("it was asked for");
            }
            Action::ApplyBatch(_, receipt) if !self.applies => self.waiting.push(receipt),
            Action::ApplyBatch(batch, receipt) => {
                let digest = batch.digest.and(self.digest);
                self.core.handle_applied(now, receipt, digest);
            }
            Action::ApplyChunk(_, receipt) => self.core.handle_applied(now, receipt, None),
            Action::Event(event) => self.events.push(event),
            _ => {}
        }
    }
}

fn put(seq: Seq, value: &[u8]) -> Change<'_> {
    Change::Put(PutRef {
        slot: 1,
        incarnation: 1,
        seq,
        queue: 0,
        prio: 0,
        key: None,
        value,
        timer_left_ns: None,
        ready: false,
        basis: None,
    })
}

#[test]
fn a_packet_leaves_when_the_back_up_has_applied_its_commit() {
    let mut pair = Pair::in_sync(|_| {});
    pair.hosts[1].applies = false;
    pair.commit(1, true);
    pair.run_for(3);
    assert!(pair.hosts[0].released < Seq::new(1, 1), "received is not applied");

    let now = Tick::from_nanos(pair.now);
    for receipt in std::mem::take(&mut pair.hosts[1].waiting) {
        pair.hosts[1].core.handle_applied(now, receipt, None);
    }
    pair.run();
    assert_eq!(pair.hosts[0].released, Seq::new(1, 1));
}

#[test]
fn a_batch_goes_at_once_when_a_packet_waits_and_else_with_the_period() {
    let mut pair = Pair::in_sync(|_| {});
    let before = pair.hosts[0].batches;
    pair.commit(1, true);
    assert_eq!(pair.hosts[0].batches, before + 1, "a packet waits");
    pair.commit(2, false);
    pair.commit(3, false);
    assert_eq!(pair.hosts[0].batches, before + 1, "nobody waits");
    pair.run_for(1);
    assert_eq!(pair.hosts[0].batches, before + 2, "both in one, with the period");
    assert_eq!(pair.hosts[0].released, Seq::new(1, 3));

    pair.acks = false;
    for count in 4..14 {
        pair.commit(count, true);
    }
    let prompt = u64::from(Limits::default().prompt_batches);
    assert_eq!(pair.hosts[0].batches, before + 2 + prompt, "so many are in flight");
}

/// Goal: a commit of which somebody waits to hear goes at once, as one with a packet does; others of the same pair do not.
#[test]
fn a_batch_goes_at_once_when_somebody_waits_to_hear() {
    for (queue, at_once) in [(None, 0), (Some(0), 1), (Some(1), 0)] {
        let mut pair = Pair::in_sync(|config| config.awaited_queue = queue);
        let before = pair.hosts[0].batches;
        pair.commit(1, false);
        assert_eq!(pair.hosts[0].batches, before + at_once, "{queue:?}");
        pair.run_for(2);
        assert_eq!(pair.hosts[0].released, Seq::new(1, 1));
    }
}

#[test]
fn an_idle_pair_sends_its_table_and_is_not_busy() {
    let mut pair = Pair::in_sync(|_| {});
    pair.run_for(100);
    let before = pair.hosts[0].batches;
    let wakes = pair.run_for(1_000);
    let tables = pair.hosts[0].batches - before;
    assert!((45..=55).contains(&tables), "{tables} empty tables in a second");
    assert!(wakes <= 60, "{wakes} wake-ups in a second");
    assert!(pair.hosts[0].core.status().period_ns == 20 * MILLI);
}

#[test]
fn a_lost_ack_is_made_up_for_by_the_next_table() {
    let mut pair = Pair::in_sync(|_| {});
    pair.acks = false;
    pair.commit(1, true);
    assert!(pair.hosts[0].released < Seq::new(1, 1));
    pair.acks = true;
    pair.run_for(2);
    assert_eq!(pair.hosts[0].released, Seq::new(1, 1));
}

#[test]
fn a_window_that_is_full_holds_the_gatherer() {
    let mut pair = Pair::in_sync(|config| config.limits.window_bytes = 2_000);
    pair.acks = false;
    let mut count = 0;
    while pair.hosts[0].core.has_room() {
        count += 1;
        pair.commit(count, true);
        pair.run_for(1);
        assert!(count < 100, "nothing holds it");
    }
    assert!(pair.hosts[0].core.status().in_flight_bytes < 4_000);
    pair.acks = true;
    pair.run_for(300);
    assert!(pair.hosts[0].core.has_room());
}

#[test]
fn the_back_up_takes_over_when_the_kernel_says_so() {
    let mut pair = Pair::in_sync(|_| {});
    pair.commit(1, true);
    pair.hosts[1].done.clear();
    let now = Tick::from_nanos(pair.now);
    pair.hosts[1].core.handle_peer_dead(now, DeathNotice::Tripwire);
    let sent = pair.hosts[1].datagrams;
    while pair.turn(1) {}
    assert_eq!(pair.hosts[1].core.status().standing, Standing::Primary);
    assert_eq!(pair.hosts[1].datagrams, sent, "no ack leaves any more");
    assert_eq!(pair.hosts[1].released, Seq::new(2, 0), "what may be unsent is sent again");
    let order: Vec<_> = pair.hosts[1].done.iter().filter(|done| **done != "event").collect();
    assert_eq!(order, [&"primary", &"need not gather", &"release"]);
    assert!(pair.events(1).iter().any(|event| {
        let cause = Cause::Dead(DeathNotice::Tripwire);
        *event == Event::Promoted { epoch: 2, cause, from: Seq::new(1, 1) }
    }));

    // The old one was alive after all. It learns of it, is fenced, and comes back as back-up.
    pair.connect();
    pair.run_for(5);
    assert!(pair.hosts[0].done.contains(&"fence"));
    assert_eq!(pair.hosts[0].core.status().standing, Standing::Backup);
    assert!(pair.hosts[1].core.status().protected);
}

#[test]
fn a_primary_without_its_back_up_goes_solo_and_releases_what_it_held() {
    let mut pair = Pair::in_sync(|_| {});
    pair.acks = false;
    pair.commit(1, true);
    let now = Tick::from_nanos(pair.now);
    pair.hosts[0].core.handle_peer_silent(now);
    pair.run();
    assert!(pair.hosts[0].core.status().protected, "its acks came a moment ago");
    pair.run_for(41);
    assert!(pair.events(0).contains(&Event::Solo { cause: Cause::Silent }));
    assert_eq!(pair.hosts[0].released, Seq::new(1, 1));
    assert!(!pair.hosts[0].core.status().protected);
    let now = Tick::from_nanos(pair.now);
    for host in &mut pair.hosts {
        host.core.handle_peer_lost(now, ConnectionId(1));
    }
    pair.commit(2, true);
    assert_eq!(pair.hosts[0].released, Seq::new(1, 2), "nobody to wait for");

    pair.acks = true;
    pair.connect();
    pair.run_for(10);
    assert!(pair.hosts[0].core.status().protected, "it is taken in again");
}

#[test]
fn heartbeats_that_are_late_accuse_nobody_who_is_heard() {
    let mut pair = Pair::in_sync(|_| {});
    let now = Tick::from_nanos(pair.now);
    for host in &mut pair.hosts {
        host.core.handle_peer_silent(now);
    }
    pair.run_for(1_000);
    assert!(pair.hosts.iter().all(|host| host.core.status().protected));
    assert_eq!(pair.view.map(|view| view.epoch), Some(1));
}

#[test]
fn a_broken_connection_costs_no_transfer() {
    let mut pair = Pair::in_sync(|_| {});
    let now = Tick::from_nanos(pair.now);
    for host in &mut pair.hosts {
        host.core.handle_peer_lost(now, ConnectionId(1));
    }
    pair.commit(1, true);
    pair.run_for(10);
    assert!(pair.hosts[0].released < Seq::new(1, 1));
    pair.connect();
    pair.run_for(2);
    assert_eq!(pair.hosts[0].released, Seq::new(1, 1));
    assert!(pair.events(0).iter().any(|event| matches!(event, Event::Resumed { .. })));
    assert!(!pair.events(0).iter().any(|event| matches!(event, Event::Solo { .. })));
}

#[test]
fn a_slow_back_up_is_evicted_but_not_by_a_primary_that_slept() {
    let mut pair = Pair::in_sync(|config| config.timing.ack_wait = Duration::from_millis(200));
    pair.acks = false;
    pair.commit(1, true);
    // The primary's own host does not run for a second; the acks are there when it does.
    pair.now += 1_000 * MILLI;
    pair.hosts[0].core.handle_timeout(Tick::from_nanos(pair.now));
    pair.run();
    assert!(pair.hosts[0].core.status().protected);
    pair.run_for(150);
    assert!(pair.hosts[0].core.status().protected);
    pair.run_for(100);
    assert!(pair.events(0).contains(&Event::Solo { cause: Cause::Slow }));
}

#[test]
fn digests_that_differ_take_the_back_up_out_and_bring_it_back() {
    let mut pair = Pair::in_sync(|config| config.limits.digest_every = 1);
    pair.hosts[1].digest = Some(1);
    pair.commit(1, true);
    pair.run_for(3);
    assert!(pair.hosts[0].core.status().protected);
    pair.hosts[1].digest = Some(2);
    pair.commit(2, true);
    pair.run_for(3);
    let differs = Event::DigestDiffers { seq: Seq::new(1, 2), ours: 2, theirs: 1 };
    assert!(pair.events(1).contains(&differs), "{:?}", pair.events(1));
    assert!(pair.events(0).contains(&Event::Solo { cause: Cause::NotInStep }));
    pair.hosts[1].digest = Some(1);
    pair.run_for(20);
    assert!(pair.hosts[0].core.status().protected, "after another transfer");
}

#[test]
fn nodes_that_do_not_fit_refuse_each_other_with_both_values() {
    type Adapt = fn(&mut Config);
    let cases: [(Adapt, Refusal, u64, u64); 2] = [
        (|config| config.cluster = config.node.0.into(), Refusal::Cluster, 1, 0),
        (|config| config.geometry_hash += u64::from(config.node.0), Refusal::Geometry, 56, 55),
    ];
    for (adapt, reason, theirs, ours) in cases {
        let mut pair = Pair::new(adapt);
        pair.connect();
        let refused = Event::Refused { reason, theirs, ours, by_us: true };
        assert!(pair.events(0).contains(&refused), "{:?}", pair.events(0));
        let status = pair.hosts[0].core.status();
        assert_eq!(status.standing, Standing::Primary, "it serves on");
        assert!(!status.connected);
        assert!(pair.hosts.iter().any(|host| host.done.contains(&"disconnect")));
    }
}

/// Goal: nodes of neighbouring versions speak the newest that both know; of those that have none in common each serves or
/// waits on, and says both.
#[test]
fn two_nodes_speak_the_newest_version_that_both_know() {
    type Versions = std::ops::RangeInclusive<u16>;
    let cases: [(Versions, Versions, Option<u16>); 5] = [
        (4..=4, 4..=4, Some(4)),
        (4..=5, 4..=4, Some(4)),
        (4..=4, 4..=5, Some(4)),
        (5..=6, 4..=5, Some(5)),
        (5..=6, 3..=4, None),
    ];
    for (a, b, spoken) in cases {
        let mut pair = Pair::new(|config| {
            config.versions = if config.node.0 == 0 { a.clone() } else { b.clone() };
        });
        pair.connect();
        pair.run_for(5);
        for node in 0..2 {
            let events = pair.events(node);
            let told = events.iter().find_map(|event| match event {
                Event::PeerConnected { version, .. } => Some(*version),
                _ => None,
            });
            assert_eq!(told, spoken, "{a:?} meets {b:?}: {events:?}");
        }
        assert_eq!(pair.hosts[0].core.status().protected, spoken.is_some());
        assert_eq!(pair.hosts[0].core.status().standing, Standing::Primary, "it serves");
        if spoken.is_none() {
            let reason = Refusal::Version;
            let refused = Event::Refused { reason, theirs: 4, ours: 6, by_us: true };
            assert!(pair.events(0).contains(&refused), "{:?}", pair.events(0));
        }
    }
}

#[test]
fn damaged_bytes_end_the_connection_and_nothing_else() {
    let mut pair = Pair::in_sync(|_| {});
    let now = Tick::from_nanos(pair.now);
    let mut frame = AlignedVec::new();
    frame.extend_from_slice(&[1; 64]);
    pair.hosts[1].core.handle_frame(now, ConnectionId(1), frame);
    pair.run();
    assert!(pair.events(1).iter().any(|event| matches!(event, Event::Fault(Fault::Bytes(_)))));
    assert_eq!(pair.hosts[1].done.last(), Some(&"disconnect"));
    pair.connect();
    pair.run_for(3);
    assert!(pair.hosts[0].core.status().protected);
}

#[test]
fn bytes_of_an_old_connection_are_ignored() {
    let mut pair = Pair::in_sync(|_| {});
    pair.connect();
    let before = pair.hosts[1].events.len();
    let mut frame = AlignedVec::new();
    frame.extend_from_slice(&[1; 64]);
    pair.hosts[1].core.handle_frame(Tick::from_nanos(pair.now), ConnectionId(1), frame);
    pair.run();
    assert_eq!(pair.hosts[1].events.len(), before);
}

/// The controls of the failover tests: they release what they should not.
#[test]
fn local_mode_and_the_open_gate_wait_for_nobody() {
    let adapts: [fn(&mut Config); 2] = [
        |config| config.mode = Mode::Local,
        |config| {
            config.control.release_without_ack = true;
            config.control.ack_delay = Duration::from_millis(20);
        },
    ];
    for adapt in adapts {
        let mut pair = Pair::new(adapt);
        pair.connect();
        pair.run_for(100);
        assert!(pair.hosts[0].core.status().protected, "{:?}", pair.hosts[0].core.status());
        pair.acks = false;
        pair.commit(1, true);
        assert_eq!(pair.hosts[0].released, Seq::new(1, 1));
        let now = Tick::from_nanos(pair.now);
        pair.hosts[1].core.handle_peer_dead(now, DeathNotice::Supervisor);
        pair.run();
        assert_eq!(pair.hosts[1].core.status().standing, Standing::Primary);
        let delayed = pair.hosts[1].done.iter().rev().take_while(|done| **done != "primary");
        assert!(!delayed.into_iter().any(|done| *done == "batch"));
    }
}

#[test]
fn receipts_of_an_earlier_transfer_are_void() {
    let mut pair = Pair::in_sync(|_| {});
    let old = Receipt { run: 0, what: Applied::Table(1_000) };
    pair.hosts[1].core.handle_applied(Tick::from_nanos(pair.now), old, None);
    pair.commit(1, true);
    pair.run_for(2);
    assert!(!pair.events(0).iter().any(|event| matches!(event, Event::Fault(_))));
    assert_eq!(pair.hosts[0].released, Seq::new(1, 1));
}
