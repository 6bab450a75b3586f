//! Promotion by hand, with an arbiter and without one.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn by_hand(config: &mut Config) {
    config.by_hand = true;
}

/// Nodes 0 and 1: epochs of node 0 are even.
impl Pair {
    fn promote(&mut self, node: usize, force: bool) -> Result<Promoting, Declined> {
        let now = Tick::from_nanos(self.now);
        let allowed = self.hosts[node].core.handle_promote(now, force, SECOND);
        self.run();
        allowed
    }

    fn is_primary(&self, node: usize) -> bool {
        self.hosts[node].core.status().standing == Standing::Primary
    }

    fn epochs(&self) -> [u16; 2] {
        self.hosts.each_ref().map(|host| host.core.status().view.map_or(0, |view| view.epoch))
    }

    /// Nothing gets from one to the other, and both notice.
    fn cut(&mut self) {
        self.connected = false;
        let (now, connection) = (Tick::from_nanos(self.now), ConnectionId(self.connections));
        for host in &mut self.hosts {
            host.core.handle_peer_lost(now, connection);
            host.core.handle_peer_silent(now);
        }
        self.run();
    }

    fn heal(&mut self) {
        self.connected = true;
        let now = Tick::from_nanos(self.now);
        self.hosts.iter_mut().for_each(|host| host.core.handle_peer_heard(now));
        self.connect();
    }

    /// Another process on the same region.
    fn restart(&mut self, node: usize, adapt: impl Fn(&mut Config)) {
        let mut config = config(node as u8);
        let view = self.registers.and_then(|own| own[node].view());
        config.past = view.map(|view| Past { epoch: view.epoch, view: view.number });
        adapt(&mut config);
        let now = Tick::from_nanos(self.now);
        self.hosts[node].core = Core::new(config, now).expect("the configuration is sound");
        self.hosts[node].events.clear();
        self.hosts[1 - node].core.handle_peer_lost(now, ConnectionId(self.connections));
        self.run();
    }
}

#[test]
fn a_pair_without_an_arbiter_founds_admits_and_goes_solo_by_itself() {
    let mut pair = Pair::new(by_hand);
    pair.run_for(2_000);
    assert!(!pair.is_primary(0), "nobody begins before it has met its peer");
    pair.connect();
    pair.run_for(20);
    assert!(pair.is_primary(0) && pair.hosts[0].core.status().protected);
    assert_eq!(pair.epochs(), [2, 2], "node 0 has the even ones");
    pair.commit(1, true);
    assert_eq!(pair.hosts[0].released, Seq::new(2, 1));

    pair.cut();
    pair.run_for(5_000);
    assert!(pair.is_primary(0) && !pair.is_primary(1));
    assert!(pair.events(0).iter().any(|event| matches!(event, Event::Solo { .. })));
    let waits = pair.events(1).iter().filter(|e| matches!(e, Event::WaitsForOrder { .. }));
    assert_eq!(waits.count(), 1, "a person is told, once");
    pair.heal();
    pair.run_for(20);
    assert!(pair.hosts[0].core.status().protected, "and takes it in again");
}

#[test]
fn nobody_is_promoted_by_hand_where_two_could_serve() {
    let mut pair = Pair::in_sync(by_hand);
    pair.commit(1, true);
    pair.cut();
    pair.run_for(1_000);
    assert_eq!(pair.promote(1, false), Err(Declined::MayBePrimary));
    assert!(!pair.is_primary(1));
    // A death that is announced afterwards says nothing of what was before.
    let now = Tick::from_nanos(pair.now);
    pair.hosts[1].core.handle_peer_dead(now, DeathNotice::Tripwire);
    assert_eq!(pair.promote(1, false), Err(Declined::MayBePrimary));

    assert_eq!(pair.promote(1, true), Ok(Promoting::Asking));
    assert!(pair.is_primary(0) && pair.is_primary(1), "this is what was accepted");
    assert_eq!(pair.epochs(), [2, 3], "but never in one epoch");

    // The one of before went on alone, and its views have the higher numbers. It is fenced all the same.
    let numbers = pair.registers.expect("no arbiter").map(|own| own.view().map(|v| v.number));
    assert!(numbers[0] >= numbers[1], "{numbers:?}");
    pair.heal();
    pair.run_for(20);
    assert!(!pair.is_primary(0) && pair.is_primary(1));
    assert!(pair.hosts[0].done.contains(&"fence"));
    assert!(pair.hosts[1].core.status().protected);
    assert_eq!(pair.registers.expect("no arbiter")[0].view(), pair.hosts[0].core.status().view);
}

/// Goal: two that went on apart agree on who gives way, whoever of them has changed its view more often.
#[test]
fn of_two_that_went_on_the_higher_epoch_stays() {
    let mut pair = Pair::in_sync(by_hand);
    pair.cut();
    pair.run_for(500);
    assert_eq!(pair.promote(1, true), Ok(Promoting::Asking));
    // The other starts again, was alone when it ended, and finds nobody.
    pair.restart(0, by_hand);
    pair.run_for(2_000);
    assert!(pair.is_primary(0) && pair.is_primary(1));
    assert_eq!(pair.epochs(), [4, 3]);
    pair.heal();
    pair.run_for(50);
    assert!(pair.is_primary(0) && !pair.is_primary(1), "{:?}", pair.events(1));
    assert!(pair.hosts[0].core.status().protected);
}

/// Goal: a primary that fell silent and still has its connection is not taken for gone.
#[test]
fn silence_is_no_proof_of_anything() {
    let mut pair = Pair::in_sync(by_hand);
    pair.connected = false;
    let now = Tick::from_nanos(pair.now);
    pair.hosts[1].core.handle_peer_silent(now);
    pair.run_for(1_000);
    assert_eq!(pair.promote(1, false), Err(Declined::MayBePrimary));
    assert_eq!(pair.promote(1, true), Ok(Promoting::Asking));
    assert!(pair.is_primary(1));
}

#[test]
fn a_death_that_the_kernel_confirms_lets_a_back_up_be_promoted_when_asked() {
    let mut pair = Pair::in_sync(by_hand);
    pair.commit(1, true);
    let now = Tick::from_nanos(pair.now);
    pair.hosts[1].core.handle_peer_dead(now, DeathNotice::Tripwire);
    pair.hosts[1].core.handle_peer_lost(now, ConnectionId(1));
    pair.connected = false;
    pair.run_for(3_000);
    assert!(!pair.is_primary(1), "not by itself");
    assert_eq!(pair.promote(1, false), Ok(Promoting::Asking));
    assert!(pair.is_primary(1));
    let promoted = Event::Promoted { epoch: 3, cause: Cause::Ordered, from: Seq::new(2, 1) };
    assert!(pair.events(1).contains(&promoted));
    assert_eq!(pair.promote(1, false), Ok(Promoting::Already));
}

#[test]
fn a_node_that_starts_goes_on_by_itself_only_if_it_was_alone() {
    // In sync with a peer that may serve: it waits for an order, and is refused one while the peer is away.
    let mut pair = Pair::in_sync(by_hand);
    pair.connected = false;
    pair.restart(0, by_hand);
    pair.run_for(10_000);
    assert!(!pair.is_primary(0) && !pair.is_primary(1));
    assert_eq!(pair.promote(0, false), Err(Declined::MayBePrimary));
    // Once the two have met, none of them serves, and either may be told to.
    pair.heal();
    pair.run_for(1_000);
    assert!(!pair.is_primary(0) && !pair.is_primary(1));
    assert_eq!(pair.promote(0, false), Ok(Promoting::Asking));
    pair.run_for(50);
    assert!(pair.is_primary(0) && pair.hosts[0].core.status().protected);
    assert_eq!(pair.epochs(), [4, 4]);

    // Alone: nobody else can have what it released.
    pair.cut();
    pair.run_for(500);
    pair.restart(0, by_hand);
    pair.run_for(500);
    assert!(!pair.is_primary(0), "it looks for its peer first");
    pair.run_for(1_000);
    assert!(pair.is_primary(0));
    assert_eq!(pair.epochs()[0], 6);
}

#[test]
fn a_node_outside_the_set_is_promoted_only_by_force() {
    for no_arbiter in [true, false] {
        let adapt = |config: &mut Config| config.by_hand = no_arbiter;
        let mut pair = Pair::in_sync(adapt);
        pair.cut();
        pair.run_for(500);
        pair.restart(1, adapt);
        pair.run_for(4_000);
        let view = pair.hosts[1].core.status().view;
        if no_arbiter {
            // Its own register is from before the other went on alone; the other is out of reach.
            assert!(view.is_some_and(|view| !view.is_solo()));
            assert_eq!(pair.promote(1, false), Err(Declined::MayBePrimary));
        } else {
            assert!(view.is_some_and(|view| view.is_solo()), "the arbiter told it");
            assert_eq!(pair.promote(1, false), Err(Declined::NotInSet));
        }
        let before = pair.hosts[1].core.status().view.map_or(0, |view| view.epoch);
        assert_eq!(pair.promote(1, true), Ok(Promoting::Asking));
        assert!(pair.is_primary(1), "{:?}", pair.events(1));
        assert!(pair.epochs()[1] > before);
        pair.heal();
        pair.run_for(50);
        assert!(!pair.is_primary(0) && pair.hosts[1].core.status().protected);
    }
}

#[test]
fn an_order_to_a_back_up_whose_primary_is_there_is_a_hand_over() {
    for no_arbiter in [true, false] {
        let mut pair = Pair::in_sync(|config| config.by_hand = no_arbiter);
        assert_eq!(pair.promote(1, false), Ok(Promoting::HandOver));
        assert!(pair.hosts[0].done.contains(&"drain") && !pair.is_primary(1));
        let now = Tick::from_nanos(pair.now);
        let through = pair.hosts[0].core.status().watermark;
        pair.hosts[0].core.handle_drained(now, through);
        pair.run_for(20);
        assert!(pair.is_primary(1) && pair.hosts[1].core.status().protected);
    }
}

#[test]
fn an_order_comes_to_nothing_when_its_time_is_over() {
    let mut pair = Pair::in_sync(|_| {});
    pair.cut();
    pair.unanswered[1] = true;
    assert_eq!(pair.promote(1, true), Ok(Promoting::Asking));
    pair.run_for(1_100);
    assert!(pair.events(1).contains(&Event::PromotionEnded { why: Declined::NotTaken }));
}

#[test]
fn epochs_are_told_apart_by_parity() {
    let mut same = config(0);
    (same.by_hand, same.peer) = (true, NodeId(2));
    let refused = Core::new(same, Tick::ZERO).expect_err("both are even");
    assert_eq!(refused, ConfigError::Parity { node: NodeId(0), peer: NodeId(2) });
}
