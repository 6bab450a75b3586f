//! A planned change of roles, step by step.

use super::*;
use crate::wire::{HandOver, Outgoing, encode};

const SECOND: Duration = Duration::from_secs(1);

impl Pair {
    fn hand_over(&mut self, node: usize) -> Result<(), Declined> {
        let now = Tick::from_nanos(self.now);
        let begun = self.hosts[node].core.handle_hand_over(now, SECOND);
        self.run();
        begun
    }

    fn drained(&mut self, node: usize, through: Seq) {
        self.hosts[node].core.handle_drained(Tick::from_nanos(self.now), through);
        self.run();
    }

    fn standings(&self) -> [Standing; 2] {
        self.hosts.each_ref().map(|host| host.core.status().standing)
    }
}

#[test]
fn a_primary_hands_over_when_everything_is_acknowledged_and_not_before() {
    let mut pair = Pair::in_sync(|_| {});
    pair.commit(1, true);
    pair.hand_over(0).expect("the back-up is in step");
    assert!(pair.hosts[0].done.contains(&"drain"));
    assert_eq!(pair.hand_over(0), Err(Declined::Busy));
    // What is here is finished: its packets leave as ever.
    pair.commit(2, true);
    assert_eq!(pair.hosts[0].released, Seq::new(1, 2));

    pair.acks = false;
    pair.commit(3, true);
    pair.drained(0, Seq::new(1, 3));
    pair.run_for(5);
    assert_eq!(pair.standings(), [Standing::Primary, Standing::Backup]);
    pair.acks = true;
    pair.run_for(20);
    assert!(pair.events(0).contains(&Event::HandOverReady { last: Seq::new(1, 3) }));
    let promoted = Event::Promoted { epoch: 2, cause: Cause::Planned, from: Seq::new(1, 3) };
    assert!(pair.events(1).contains(&promoted), "{:?}", pair.events(1));
    assert!(pair.events(0).iter().any(|event| {
        matches!(event, Event::HandedOver { by } if by.primary == NodeId(1) && by.epoch == 2)
    }));
    assert!(pair.hosts[0].done.contains(&"fence") && !pair.hosts[0].done.contains(&"resume"));
    assert_eq!(pair.standings(), [Standing::Backup, Standing::Primary]);

    // Nobody is preempted: the one that handed over is back-up, and stays so.
    pair.run_for(5_000);
    assert_eq!(pair.standings(), [Standing::Backup, Standing::Primary]);
    assert!(pair.hosts[1].core.status().protected);

    // And back, asked of the back-up this time.
    pair.hand_over(0).expect("its primary is there");
    pair.drained(1, pair.hosts[1].core.status().watermark);
    pair.run_for(10);
    assert_eq!(pair.standings(), [Standing::Primary, Standing::Backup]);
    assert_eq!(pair.view.map(|view| view.epoch), Some(3));
}

#[test]
fn a_hand_over_that_is_late_changes_nothing() {
    let mut pair = Pair::in_sync(|_| {});
    pair.hand_over(0).expect("the back-up is in step");
    pair.run_for(1_001);
    let late = Event::HandOverEnded { why: Declined::NotFinished };
    assert!(pair.events(0).contains(&late) && pair.events(1).contains(&late));
    assert_eq!(pair.hosts[0].done.iter().filter(|done| **done == "resume").count(), 1);
    pair.commit(1, true);
    assert_eq!(pair.hosts[0].released, Seq::new(1, 1), "it serves on");
    pair.drained(0, Seq::new(1, 1));
    pair.run_for(100);
    assert_eq!(pair.standings(), [Standing::Primary, Standing::Backup], "too late");
    pair.hand_over(0).expect("another time");
}

/// Goal: a back-up that could not ask the arbiter in time does not ask it later.
#[test]
fn an_offer_is_void_once_it_is_withdrawn() {
    let mut pair = Pair::in_sync(|_| {});
    pair.commit(1, true);
    pair.hand_over(0).expect("the back-up is in step");
    let now = Tick::from_nanos(pair.now);
    pair.hosts[0].core.handle_drained(now, Seq::new(1, 1));
    pair.unanswered[1] = true;
    pair.run();
    pair.run_for(1_100);
    assert!(pair.events(0).contains(&Event::HandOverReady { last: Seq::new(1, 1) }));
    assert!(pair.events(0).contains(&Event::HandOverEnded { why: Declined::NotTaken }));
    pair.unanswered[1] = false;
    pair.run_for(1_000);
    assert_eq!(pair.standings(), [Standing::Primary, Standing::Backup]);
    assert!(pair.hosts[0].core.status().protected, "nobody was evicted for it");
    assert_eq!(pair.view.map(|view| view.epoch), Some(1));
}

/// Goal: a primary that served on is not taken over by an offer of before, even if nobody withdrew it.
#[test]
fn an_offer_is_void_once_there_is_more() {
    let mut pair = Pair::in_sync(|_| {});
    pair.commit(1, true);
    for (last, taken) in [(2, false), (1, true)] {
        let ready = HandOver::Ready { epoch: 1, last: Seq::new(1, last) };
        let mut bytes = AlignedVec::new();
        bytes.extend_from_slice(encode(Outgoing::HandOver(ready)).as_ref());
        let (now, connection) = (Tick::from_nanos(pair.now), ConnectionId(pair.connections));
        pair.hosts[1].core.handle_frame(now, connection, bytes);
        pair.run_for(50);
        assert_eq!(pair.hosts[1].core.status().standing == Standing::Primary, taken, "{last}");
    }
}

#[test]
fn a_hand_over_ends_with_the_back_up() {
    let mut pair = Pair::in_sync(|_| {});
    pair.hand_over(0).expect("the back-up is in step");
    let now = Tick::from_nanos(pair.now);
    pair.hosts[0].core.handle_peer_dead(now, DeathNotice::Tripwire);
    pair.run();
    assert!(pair.events(0).contains(&Event::HandOverEnded { why: Declined::BackupLost }));
    assert!(pair.hosts[0].done.contains(&"resume"));
    pair.commit(1, true);
    assert_eq!(pair.hosts[0].released, Seq::new(1, 1));
    assert_eq!(pair.hand_over(0), Err(Declined::NoBackup));
}

#[test]
fn without_a_back_up_in_step_nothing_begins() {
    let mut pair = Pair::new(|_| {});
    assert_eq!(pair.hand_over(0), Err(Declined::NoBackup));
    assert_eq!(pair.hand_over(1), Err(Declined::NoPart));
    let mut pair = Pair::in_sync(|config| config.mode = Mode::Local);
    assert_eq!(pair.hand_over(0), Err(Declined::Local));
    // The one that passes the wish on hears the same.
    pair.hand_over(1).expect("the wish is on its way");
    assert!(pair.events(1).contains(&Event::HandOverEnded { why: Declined::Local }));
    let now = Tick::from_nanos(pair.now);
    for host in &mut pair.hosts {
        host.core.handle_peer_lost(now, ConnectionId(1));
    }
    assert_eq!(pair.hand_over(1), Err(Declined::Apart));
    assert!(!pair.hosts[0].done.contains(&"drain"));
}
