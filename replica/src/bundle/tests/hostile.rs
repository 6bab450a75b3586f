//! A peer with a valid certificate and impossible numbers: the conversation ends, and nothing else happens.

use super::*;
use crate::wire::WireError;

/// What B says out of turn on the first link.
fn say(world: &mut World, message: LinkMessage) {
    let connection = world.nets[0].connection.expect("connected");
    let bytes = message.encode();
    match message {
        LinkMessage::Probe(_) => {
            world.bundles[A].handle_datagram(0, connection, bytes.as_ref());
        }
        _ => world.bundles[A].handle_frame(0, connection, aligned(bytes.as_ref())),
    }
    world.pump();
}

#[test]
fn wild_numbers_end_the_conversation() {
    let join = |step| LinkMessage::Join(Join { step, conversation: 1 });
    let probe = Probe { number: 1, echo: 0, received: 0 };
    #[rustfmt::skip]
    let cases = [
        ("a gap before the next frame", LinkMessage::Onward(5)),
        ("no frame has this number",    LinkMessage::Onward(0)),
        ("the last number there is",    LinkMessage::Onward(u64::MAX)),
        ("a probe that was never sent", LinkMessage::Probe(Probe { echo: 3, ..probe })),
        ("frames that were never sent", LinkMessage::Probe(Probe { received: 4, ..probe })),
        ("all frames there can be",     LinkMessage::Probe(Probe { received: u64::MAX, ..probe })),
        ("a welcome too many",          join(Step::Welcome)),
        ("an unknown too many",         join(Step::Unknown)),
        ("one that answers and founds", join(Step::Founds)),
        ("one that answers and joins",  join(Step::Joins)),
    ];
    for (why, message) in cases {
        let mut world = World::joined(2);
        (0..3).for_each(|_| world.send(A));
        world.settle();
        world.tick(A);
        world.tick(A);
        say(&mut world, message);
        assert!(
            matches!(world.cores[A].ends[..], [ConversationEnd::Wire(WireError::Value { .. })]),
            "{why}: {:?}",
            world.cores[A].ends
        );
        assert!(world.nets.iter().all(|net| !net.open[A]), "{why}: all connections are closed");
    }
}

#[test]
fn a_number_is_announced_once_and_before_any_frame() {
    let mut world = World::joined(2);
    world.send(B);
    world.settle();
    say(&mut world, LinkMessage::Onward(2));
    assert!(matches!(world.cores[A].ends[..], [ConversationEnd::Wire(_)]));

    let mut world = World::joined(2);
    let connection = world.nets[1].connection.expect("connected");
    world.bundles[A].handle_frame(1, connection, aligned(frame(1).as_ref()));
    world.pump();
    assert!(matches!(world.cores[A].ends[..], [ConversationEnd::Wire(WireError::Kind { .. })]));
}

#[test]
fn what_comes_before_a_join_closes_that_link_alone() {
    let mut world = World::joined(2);
    world.kill(1);
    world.connect(1);
    let connection = world.nets[1].connection.expect("connected");
    world.bundles[A].handle_frame(1, connection, aligned(frame(1).as_ref()));
    world.pump();
    assert!(!world.nets[1].open[A] && world.nets[0].open[A]);
    assert_eq!(world.cores[A].ends, []);
}

#[test]
fn a_peer_that_gives_no_receipts_is_left() {
    let mut world = World::joined(2);
    for _ in 0..=KEPT_FRAMES_MAX {
        world.send(A);
        world.nets[0].to[B].stream.clear();
    }
    assert!(
        matches!(world.cores[A].ends[..], [ConversationEnd::NoReceipts { .. }]),
        "{:?}",
        world.cores[A].ends
    );
}

#[test]
fn a_connection_that_never_joins_is_closed() {
    let mut world = World::joined(2);
    world.kill(1);
    world.connect(1);
    world.nets[1].to.iter_mut().for_each(|pipe| pipe.stream.clear());
    for _ in 0..=UNJOINED_TICKS_MAX {
        world.tick(B);
    }
    assert!(!world.nets[1].open[B] && world.nets[0].open[B]);
}

/// Goal: a proposal that was under way for long does not end the conversation that has replaced it.
#[test]
fn an_old_proposal_is_no_new_conversation() {
    let mut world = World::new(2);
    world.connect(0);
    let connection = world.nets[0].connection.expect("connected");
    let late = world.nets[0].to[B].stream.pop_front().expect("the proposal");
    // The dialling side leaves that connection and proposes another on the other link; the answering side has not
    // noticed that the first is gone.
    world.notice(A, 0);
    world.connect(1);
    world.settle();
    assert!(world.cores.iter().all(|core| core.conversation.is_some()));
    world.bundles[B].handle_frame(0, connection, late);
    world.pump();
    assert_eq!(world.cores[B].ends, []);
    assert!(!world.nets[0].open[B]);
}
