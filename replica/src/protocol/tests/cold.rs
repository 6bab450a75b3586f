//! A view whose regions are gone: nobody begins, and each says so once.

use super::*;

impl Pair {
    /// Another process, with another and empty region.
    fn lose_region(&mut self, node: usize) {
        let mut config = config(node as u8);
        config.incarnation += 50;
        let now = Tick::from_nanos(self.now);
        self.hosts[node].core = Core::new(config, now).expect("the configuration is sound");
        self.hosts[node].events.clear();
        self.hosts[1 - node].core.handle_peer_lost(now, ConnectionId(self.connections));
        self.run();
    }

    /// Whether the other node was still waited for, each time that this one said that it cannot begin.
    fn nothing(&self, node: usize) -> Vec<bool> {
        let told = |event: &Event| match event {
            Event::NothingToStartFrom { awaited, .. } => Some(*awaited),
            _ => None,
        };
        self.events(node).iter().filter_map(told).collect()
    }
}

#[test]
fn with_both_regions_gone_each_says_so_and_a_person_decides() {
    let mut pair = Pair::in_sync(|_| {});
    pair.lose_region(0);
    pair.lose_region(1);
    pair.run_for(2_000);
    assert_eq!((pair.nothing(0), pair.nothing(1)), (vec![], vec![]), "the other one may come");
    pair.connect();
    pair.run_for(5_000);
    assert_eq!((pair.nothing(0), pair.nothing(1)), (vec![false], vec![false]), "once each");
    let primary = |pair: &Pair, node: usize| pair.hosts[node].core.status().standing;
    assert_eq!((primary(&pair, 0), primary(&pair, 1)), (Standing::Joining, Standing::Joining));

    let now = Tick::from_nanos(pair.now);
    let order = |pair: &mut Pair, force| {
        let allowed = pair.hosts[1].core.handle_promote(now, force, Duration::from_secs(1));
        pair.run();
        allowed
    };
    assert_eq!(order(&mut pair, false), Err(Declined::NotInSet));
    assert_eq!(order(&mut pair, true), Ok(Promoting::Asking));
    pair.run_for(1_000);
    assert_eq!(primary(&pair, 1), Standing::Primary);
    assert!(pair.hosts[1].core.status().protected, "and the other one joins it");
    assert_eq!((pair.nothing(0).len(), pair.nothing(1).len()), (1, 1));
}

#[test]
fn a_node_that_the_view_names_is_waited_for_before_anything_is_said() {
    let mut pair = Pair::in_sync(|_| {});
    pair.connected = false;
    pair.lose_region(1);
    pair.run_for(2_900);
    assert!(pair.nothing(1).is_empty());
    pair.run_for(500);
    assert_eq!(pair.nothing(1), [true]);
    // It was only out of reach.
    pair.connected = true;
    pair.connect();
    pair.run_for(1_000);
    assert!(pair.hosts[0].core.status().protected);
    assert_eq!((pair.nothing(0), pair.nothing(1)), (vec![], vec![true]));
}
