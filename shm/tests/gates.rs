//! The second output gate: ports whose packets leave before their commits are released.

mod common;

use std::time::Duration;

use common::{TestRegion, send, small};
use hotpair_shm::{
    Bell, Endpoint, Gatherer, Kind, Participant, PortId, PortMode, Region, Seq, monotonic_ns,
};
use nix::sys::socket::{MsgFlags, recv};

const SECOND: u64 = 1_000_000_000;

struct Setting {
    test: TestRegion,
    out: PortId,
    port: Participant,
    worker: Participant,
}

impl Setting {
    fn new(mode: PortMode) -> Setting {
        let test = TestRegion::new(&small());
        let out = test.region.port("out").expect("port");
        test.region.set_port_mode(out, mode);
        let mut port = test.region.join(Kind::Port, "out").expect("a seat");
        port.bell_fd().expect("a socket");
        let worker = test.region.join(Kind::Worker, "worker").expect("a seat");
        Setting { test, out, port, worker }
    }

    /// A commit that emits a packet.
    fn commit(&mut self) -> Seq {
        let work = self.test.region.queue("work").expect("queue");
        send(&mut self.port, Some(b"a"), b"x");
        let mut claim = self.worker.claim(work).expect("ready");
        claim.emit(self.out, Endpoint::NONE, b"answer").expect("a block");
        claim.commit().expect("nobody is in the way")
    }

    /// The seq of the packet that may leave now.
    fn send(&mut self) -> Option<Seq> {
        let packet = self.port.take_emitted(self.out)?;
        assert!(self.port.may_send(&packet));
        let seq = packet.seq();
        self.port.sent(packet);
        Some(seq)
    }
}

/// Whether somebody woke the sleeper.
fn was_rung(port: &mut Participant) -> bool {
    let socket = port.bell_fd().expect("a socket");
    recv(socket, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).is_ok()
}

fn bounded() -> PortMode {
    PortMode::Bounded { age: Duration::from_millis(5), bytes: 1 << 20 }
}

#[test]
fn a_bounded_packet_leaves_up_to_what_is_allowed_while_the_lease_lasts() {
    let mut setting = Setting::new(bounded());
    let (out, region) = (setting.out, setting.test.region.clone());
    let [first, second] = [setting.commit(), setting.commit()];
    assert_eq!(setting.send(), None);
    region.raise_allowed(out, first);
    assert_eq!(setting.send(), None, "there is no lease");
    region.extend_lease(out, monotonic_ns() + 100 * SECOND);
    assert_eq!(setting.send(), Some(first));
    assert_eq!(setting.send(), None, "not allowed");
    region.raise_released(second);
    assert_eq!(setting.send(), Some(second), "released is enough");
}

/// Goal: a port that is stopped with a packet in its hands does not send it after the lease.
#[test]
fn a_packet_in_hand_is_given_back_when_the_lease_has_ended() {
    let mut setting = Setting::new(bounded());
    let (out, region) = (setting.out, setting.test.region.clone());
    let seq = setting.commit();
    region.raise_allowed(out, seq);
    let until = monotonic_ns() + SECOND / 20;
    region.extend_lease(out, until);
    let Some(packet) = setting.port.take_emitted(out) else {
        assert!(monotonic_ns() >= until, "it was allowed"); // this machine was slow
        return;
    };
    while monotonic_ns() < until {
        std::thread::yield_now();
    }
    assert!(!setting.port.may_send(&packet));
    setting.port.put_back(packet);
    assert_eq!(setting.send(), None);
    region.extend_lease(out, monotonic_ns() + 100 * SECOND);
    assert_eq!(setting.send(), Some(seq));
}

#[test]
fn a_port_that_sleeps_is_woken_by_its_gate() {
    let mut setting = Setting::new(bounded());
    let (out, region) = (setting.out, setting.test.region.clone());
    let bell = Bell::Port(out);
    let seq = setting.commit();
    let rung = |port: &mut Participant, ring: &dyn Fn()| {
        assert!(port.arm_bell(bell), "nothing may leave");
        ring();
        let rung = was_rung(port);
        port.disarm_bell(bell);
        rung
    };
    assert!(rung(&mut setting.port, &|| region.raise_allowed(out, seq)));
    assert_eq!(setting.send(), None, "there is no lease");
    let until = monotonic_ns() + 100 * SECOND;
    assert!(rung(&mut setting.port, &|| region.extend_lease(out, until)));
    assert_eq!(setting.send(), Some(seq));
    let next = setting.commit();
    assert!(rung(&mut setting.port, &|| region.raise_allowed(out, next)));
    assert_eq!(setting.send(), Some(next));
}

/// Goal: a local port needs no node: the commit itself wakes it.
#[test]
fn a_local_packet_leaves_as_soon_as_it_is_committed() {
    let mut setting = Setting::new(PortMode::Local);
    let (out, bell) = (setting.out, Bell::Port(setting.out));
    assert_eq!(setting.send(), None);
    assert!(setting.port.arm_bell(bell));
    let seq = setting.commit();
    assert!(was_rung(&mut setting.port));
    setting.port.disarm_bell(bell);
    assert_eq!(setting.send(), Some(seq));
    let region = setting.test.region.clone();
    let _later = setting.commit();
    region.become_fenced(2);
    assert!(setting.port.take_emitted(out).is_none(), "only from a primary");
}

/// Goal: a sleeper is woken for what may leave now, once: not again when the node has gathered it, and not never when its mode changes.
#[test]
fn a_local_port_is_not_woken_for_what_has_left() {
    let mut setting = Setting::new(PortMode::Local);
    let (out, bell) = (setting.out, Bell::Port(setting.out));
    let region = setting.test.region.clone();
    let seq = setting.commit();
    assert_eq!(setting.send(), Some(seq));
    assert!(setting.port.arm_bell(bell));
    region.raise_released(seq);
    assert!(!was_rung(&mut setting.port), "nothing waits for it");
    setting.port.disarm_bell(bell);
    region.set_port_mode(out, PortMode::Sync);
    let waits = setting.commit();
    assert!(setting.port.arm_bell(bell), "it waits for the node");
    region.set_port_mode(out, PortMode::Local);
    assert!(was_rung(&mut setting.port));
    setting.port.disarm_bell(bell);
    assert_eq!(setting.send(), Some(waits));
}

/// Goal: the commit of a packet that left at once is read with the packet, and only then told to be sent.
#[test]
fn a_packet_that_left_early_stays_until_its_commit_is_gathered() {
    let mut setting = Setting::new(PortMode::Local);
    let region = setting.test.region.clone();
    let _node = region.join(Kind::Node, "node").expect("a seat");
    region.set_gathering(true);
    let mut gatherer = Gatherer::new(region);
    let seq = setting.commit();
    assert_eq!(setting.send(), Some(seq));
    gatherer.collect_sent(|seq, _| panic!("{seq} is told before it was gathered"));
    let mut emitted = Vec::new();
    gatherer.gather(usize::MAX, |commit| {
        emitted.extend(commit.emits.iter().map(|emit| emit.payload.to_vec()));
    });
    assert_eq!(emitted, [b"answer"]);
    let mut sent = Vec::new();
    gatherer.collect_sent(|seq, ordinal| sent.push((seq, ordinal)));
    assert_eq!(sent, [(seq, 0)]);
}

#[test]
fn every_process_sees_the_modes_and_an_emptied_region_has_closed_gates() {
    let setting = Setting::new(bounded());
    let (out, region) = (setting.out, &setting.test.region);
    region.raise_allowed(out, Seq::new(1, 7));
    region.extend_lease(out, 9);
    region.report_gate(out, 3, 4, 5);
    let other = Region::observe(setting.test.path()).expect("it is there");
    let seen = other.gate(out);
    assert_eq!((seen.mode, seen.allowed, seen.lease_until), (bounded(), Seq::new(1, 7), 9));
    assert_eq!((seen.unacked_bytes, seen.unacked_since, seen.closes), (3, 4, 5));
    region.begin_change(2);
    region.empty();
    let seen = other.gate(out);
    assert_eq!((seen.mode, seen.allowed, seen.lease_until), (bounded(), Seq::default(), 0));
}
