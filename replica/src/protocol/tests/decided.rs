//! What the two nodes cannot agree on by themselves, and an operator decides.

use super::*;

/// Goal: whom the operator believes goes on, whether or not it is started again for it, and also if its
/// process never had a view from the arbiter itself.
#[test]
fn a_back_up_that_is_believed_takes_over_without_a_restart() {
    let mut pair = Pair::in_sync(|_| {});
    // It starts while the arbiter is away, and is led before that answers anything.
    let now = Tick::from_nanos(pair.now);
    let core = &mut pair.hosts[1].core;
    *core = Core::new(config(1), now).expect("the configuration is sound");
    assert!(core.poll_arbiter().is_some(), "it looked, and nobody answered");
    pair.connect();
    pair.run_for(10);
    assert!(pair.hosts.iter().all(|host| host.core.status().protected));
    let known = pair.view.expect("the pair is founded");

    // The arbiter lost its disk, then the primary's host went: nobody is left to agree with.
    pair.view = None;
    assert_eq!(pair.hosts[1].core.testimony(), Testimony::Something(known.number));
    let now = Tick::from_nanos(pair.now);
    pair.hosts[1].core.handle_peer_lost(now, ConnectionId(pair.connections));
    pair.hosts[1].core.handle_peer_dead(now, DeathNotice::Tripwire);
    // A record that believes this node answers it that there is no view, and lets it begin one.
    while pair.turn(1) {}

    let this = Member { node: NodeId(1), incarnation: 101 };
    let view = pair.view.expect("it began again");
    assert!(view.number > known.number && view.has(this) && view.is_solo(), "{view:?}");
    assert_eq!(view.epoch, known.epoch + 1);
    assert_eq!(pair.hosts[1].core.status().standing, Standing::Primary);
    assert_eq!(pair.hosts[1].released, Seq::new(known.epoch + 1, 0));
}

/// Goal: the other node does not put the arbiter in doubt again. It may have heard of a view that the one
/// that is believed never learned, for instance of that one's own promotion, whose answer was lost.
#[test]
fn the_one_who_is_not_believed_may_know_of_later_views() {
    let mut record = Record::default().believing(NodeId(1));
    let mut config = config(1);
    config.past = Some(Past { epoch: 1, view: 1 });
    let mut core = Core::new(config, Tick::ZERO).expect("the configuration is sound");
    while let Some((id, request)) = core.poll_arbiter() {
        let judgement = record.judge(NodeId(1), core.testimony(), &request);
        core.handle_arbiter(Tick::ZERO, id, judgement.answer);
    }
    assert_eq!(core.status().standing, Standing::Primary);

    let other = record.judge(NodeId(0), Testimony::Something(3), &Request::Read);
    assert_eq!(other.answer, Answer::Current(core.status().view));
}
