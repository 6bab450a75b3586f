//! Ports that may be ahead of the acks: bounds, lease, and who waits for whom.

use super::*;

const PORT: u8 = 3;

fn bounded(age_ms: u64, bytes: u64) -> impl Fn(&mut Config) {
    move |config| {
        config.bounds = vec![Bound { port: PORT, age: Duration::from_millis(age_ms), bytes }];
        config.modes = 9;
    }
}

fn closings(pair: &Pair) -> Vec<Closed> {
    let closing = |event: &Event| match event {
        Event::GateClosed { port, because } => {
            assert_eq!(*port, PORT);
            Some(*because)
        }
        _ => None,
    };
    pair.events(0).iter().filter_map(closing).collect()
}

fn allowed(pair: &Pair) -> u64 {
    pair.hosts[0].allowed.count()
}

#[test]
fn packets_go_ahead_of_the_acks_until_the_oldest_is_too_old() {
    let mut pair = Pair::in_sync(bounded(5, 1 << 20));
    pair.acks = false;
    pair.commit(1, true);
    pair.run_for(4);
    pair.commit(2, true);
    assert_eq!((allowed(&pair), pair.hosts[0].released.count()), (2, 0));
    pair.run_for(1);
    pair.commit(3, true);
    assert_eq!(allowed(&pair), 2, "the first is 5 ms old");
    assert_eq!(closings(&pair), [Closed::Age]);
    let unacked = pair.hosts[0].core.unacked();
    assert!(unacked.bytes > 0 && unacked.since.is_some(), "{unacked:?}");

    pair.acks = true;
    pair.run_for(10);
    assert_eq!(pair.hosts[0].released.count(), 3, "as a sync port would");
    pair.commit(4, true);
    assert!(pair.events(0).contains(&Event::GateOpened { port: PORT, closes: 1 }));
    assert_eq!(pair.hosts[0].core.unacked(), Unacked::default());
}

#[test]
fn an_idle_pair_does_not_make_the_next_commit_old() {
    let mut pair = Pair::in_sync(bounded(5, 1 << 20));
    pair.run_for(500);
    pair.acks = false;
    pair.commit(1, true);
    assert_eq!(allowed(&pair), 1);
}

#[test]
fn packets_go_ahead_of_the_acks_until_there_are_too_many_bytes() {
    let mut pair = Pair::in_sync(bounded(1_000, 1_500));
    pair.acks = false;
    let before = pair.hosts[0].core.unacked().bytes;
    let mut count = 0;
    while closings(&pair).is_empty() {
        assert!(count < 100, "nothing closes it");
        count += 1;
        pair.commit(count, true);
    }
    assert_eq!(closings(&pair), [Closed::Bytes]);
    assert!(allowed(&pair) > 1 && allowed(&pair) < count, "{} of {count}", allowed(&pair));
    assert!(pair.hosts[0].core.unacked().bytes > 1_500 && before == 0);
}

#[test]
fn without_acks_the_lease_ends() {
    let mut pair = Pair::in_sync(bounded(1_000, 1 << 20));
    pair.acks = false;
    pair.run_for(29);
    let now = Tick::from_nanos(pair.now);
    let least = Timing::default().lease * 99 / 100;
    assert!(pair.hosts[0].lease_until <= now.after(least), "{:?}", pair.hosts[0].lease_until);
    pair.run_for(1);
    pair.commit(1, true);
    assert_eq!((allowed(&pair), closings(&pair)), (0, vec![Closed::Lease]));
    pair.acks = true;
    pair.run_for(50);
    assert!(pair.hosts[0].lease_until > Tick::from_nanos(pair.now), "an idle pair renews it");
    assert_eq!(pair.hosts[0].released.count(), 1);
}

#[test]
fn a_pair_of_sync_ports_has_no_lease() {
    let mut pair = Pair::in_sync(|_| {});
    pair.commit(1, true);
    pair.run_for(5);
    assert_eq!(pair.hosts[0].lease_until, Tick::ZERO);
    assert_eq!((allowed(&pair), pair.hosts[0].core.gates().count()), (0, 0));
}

#[test]
fn undetermined_means_that_nothing_more_is_allowed() {
    let mut pair = Pair::in_sync(bounded(1_000, 1 << 20));
    let now = Tick::from_nanos(pair.now);
    pair.hosts[0].core.handle_peer_dead(now, DeathNotice::Tripwire);
    let (id, _) = pair.hosts[0].core.poll_arbiter().expect("it looks");
    pair.hosts[0].core.handle_arbiter(now, id, Answer::Current(pair.view));
    assert!(pair.hosts[0].core.status().undetermined);
    let core = &mut pair.hosts[0].core;
    let seq = Seq::new(1, 1);
    core.gathering().push(put(seq, b"value"));
    core.offer(now, seq, None).expect("it is primary");
    while let Some(action) = pair.hosts[0].core.poll_action() {
        pair.hosts[0].carry_out(now, action);
    }
    assert_eq!((allowed(&pair), closings(&pair)), (0, vec![Closed::Undetermined]));
    pair.run();
    assert_eq!(pair.hosts[0].released, seq, "alone, by a confirmed view");
}

/// Time passes for the back-up and the arbiter; the primary says nothing.
fn back_up_alone(pair: &mut Pair, end: u64) {
    loop {
        let now = Tick::from_nanos(pair.now);
        let host = &mut pair.hosts[1];
        while let Some(action) = host.core.poll_action() {
            host.carry_out(now, action);
        }
        while host.core.poll_transmit().is_some() {}
        if let Some((id, request)) = host.core.poll_arbiter() {
            let answer = match request {
                Request::Read => Answer::Current(pair.view),
                Request::CompareAndSet { view, .. } => {
                    pair.view = Some(view);
                    Answer::Won(view)
                }
            };
            host.core.handle_arbiter(now, id, answer);
            continue;
        }
        match host.core.poll_timeout().filter(|at| at.as_nanos() <= end) {
            Some(at) => {
                pair.now = pair.now.max(at.as_nanos());
                host.core.handle_timeout(Tick::from_nanos(pair.now));
            }
            None => break,
        }
    }
    pair.now = end;
}

/// A back-up whose ack left late has promised late: silence alone does not make it ask.
#[test]
fn a_back_up_asks_when_its_promise_has_ended() {
    for (dead, waits) in [(false, true), (true, false)] {
        let mut pair = Pair::in_sync(bounded(5, 1 << 20));
        pair.hosts[1].applies = false;
        pair.commit(1, true);
        let heard = pair.now;
        let asks = |pair: &Pair| pair.view.map(|view| view.epoch) == Some(2);
        back_up_alone(&mut pair, heard + 30 * MILLI);
        let now = Tick::from_nanos(pair.now);
        for receipt in std::mem::take(&mut pair.hosts[1].waiting) {
            pair.hosts[1].core.handle_applied(now, receipt, None);
        }
        while pair.hosts[1].core.poll_transmit().is_some() {}
        if dead {
            pair.hosts[1].core.handle_peer_dead(now, DeathNotice::Supervisor);
        } else {
            pair.hosts[1].core.handle_peer_silent(now);
        }
        back_up_alone(&mut pair, heard + 59 * MILLI);
        assert_eq!(asks(&pair), !waits, "59 ms after the last word, 29 ms after the last ack");
        back_up_alone(&mut pair, heard + 61 * MILLI);
        assert!(asks(&pair), "{:?}", pair.hosts[1].core.status());
    }
}

#[test]
fn a_lease_that_outlasts_a_start_is_refused_and_other_modes_are_reported() {
    let mut pair = Pair::new(|config| {
        config.modes = config.node.0.into();
        if config.node.0 == 1 {
            config.bounds = vec![Bound { port: 0, age: Duration::from_millis(1), bytes: 1 }];
            config.timing.takeover_wait = Duration::from_secs(9);
            config.timing.lease = Duration::from_secs(5);
        }
    });
    pair.connect();
    let nanos = |seconds: u64| seconds * 1_000 * MILLI;
    let reason = Refusal::Lease;
    let refused = Event::Refused { reason, theirs: nanos(5), ours: nanos(1), by_us: true };
    assert!(pair.events(0).contains(&refused), "{:?}", pair.events(0));

    let pair = Pair::in_sync(|config| config.modes = config.node.0.into());
    assert!(pair.events(0).contains(&Event::ModesDiffer { theirs: 1, ours: 0 }));
    assert!(pair.events(1).contains(&Event::ModesDiffer { theirs: 0, ours: 1 }));
}

#[test]
fn a_lease_that_outlasts_a_start_is_no_configuration() {
    for (lease_ms, fits) in [(0, false), (30, true), (1_000, true), (1_001, false)] {
        let mut config = config(0);
        bounded(5, 1)(&mut config);
        config.timing.lease = Duration::from_millis(lease_ms);
        assert_eq!(config.check().is_ok(), fits, "{lease_ms} ms");
        config.bounds.clear();
        assert!(config.check().is_ok(), "no bounded port, no lease");
    }
}
