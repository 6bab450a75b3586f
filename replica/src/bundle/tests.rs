//! Two bundles and the links between them, step by step: nothing here has a clock or a socket.

mod hostile;
mod random;

use std::collections::BTreeSet;

use super::*;
use crate::protocol::Seq;
use crate::wire::{EmitRef, OpenChunk};

const A: usize = 0;
const B: usize = 1;

/// A frame of the core that says which one it is.
fn frame(no: u64) -> SharedFrame {
    let mut chunk = OpenChunk::new();
    chunk.push_emit(EmitRef {
        seq: Seq::new(1, no),
        ordinal: 0,
        port: 0,
        endpoint: [0; 24],
        payload: &no.to_le_bytes(),
    });
    chunk.encode(no)
}

fn aligned(bytes: &[u8]) -> AlignedVec {
    let mut aligned = AlignedVec::new();
    aligned.extend_from_slice(bytes);
    aligned
}

/// What travels in one direction on one connection.
#[derive(Default)]
struct Pipe {
    stream: VecDeque<AlignedVec>,
    datagrams: VecDeque<Vec<u8>>,
    /// Nothing more comes.
    ended: bool,
    /// Nothing comes through at the moment: the stream's bytes are sent again later, datagrams are lost.
    cut: bool,
}

/// A network between the two.
#[derive(Default)]
struct Net {
    /// Number of the connection, if an end still believes in it.
    connection: Option<ConnectionId>,
    open: [bool; 2],
    /// Towards A and towards B.
    to: [Pipe; 2],
}

/// What the core of one end sees.
#[derive(Default)]
struct Core {
    conversation: Option<ConnectionId>,
    sent: u64,
    received: Vec<AlignedVec>,
    ends: Vec<ConversationEnd>,
    lost: Vec<(usize, LinkLoss)>,
    in_use: Vec<(usize, usize)>,
    pauses: Vec<(usize, Duration)>,
}

struct World {
    bundles: [Bundle; 2],
    cores: [Core; 2],
    launches: [u64; 2],
    nets: Vec<Net>,
    connections: u64,
}

impl World {
    /// A dials.
    fn new(links: usize) -> World {
        World {
            bundles: [Bundle::new(links, true), Bundle::new(links, false)],
            cores: [Core::default(), Core::default()],
            launches: [1, 1],
            nets: (0..links).map(|_| Net::default()).collect(),
            connections: 0,
        }
    }

    /// All links connected, and joined.
    fn joined(links: usize) -> World {
        let mut world = World::new(links);
        (0..links).for_each(|link| world.connect(link));
        world.settle();
        assert!((0..links).all(|link| world.bundles.iter().all(|bundle| bundle.is_joined(link))));
        world
    }

    /// A connection is made, if there is none and the network carries both ways.
    fn connect(&mut self, link: usize) {
        let net = &mut self.nets[link];
        if net.open != [false; 2] || net.to.iter().any(|pipe| pipe.cut) {
            return;
        }
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        (net.connection, net.open) = (Some(connection), [true; 2]);
        for pipe in &mut net.to {
            *pipe = Pipe::default();
        }
        for end in [A, B] {
            self.bundles[end].handle_up(link, connection, self.launches[1 - end]);
        }
        self.pump();
    }

    /// An end finds out that the connection is gone.
    fn notice(&mut self, end: usize, link: usize) {
        let net = &mut self.nets[link];
        if let Some(connection) = net.connection.filter(|_| std::mem::take(&mut net.open[end])) {
            self.bundles[end].handle_down(link, connection, "gone".to_owned());
            self.pump();
        }
    }

    /// Both find out at once; what was under way is lost.
    fn kill(&mut self, link: usize) {
        self.notice(A, link);
        self.notice(B, link);
    }

    fn cut(&mut self, link: usize, towards: &[usize], cut: bool) {
        for end in towards {
            self.nets[link].to[*end].cut = cut;
        }
    }

    /// The next piece of a stream arrives; whether there was one.
    fn deliver(&mut self, end: usize, link: usize) -> bool {
        let net = &mut self.nets[link];
        let (Some(connection), true) = (net.connection, net.open[end]) else { return false };
        if net.to[end].cut {
            return false;
        }
        if let Some(frame) = net.to[end].stream.pop_front() {
            self.bundles[end].handle_frame(link, connection, frame);
            self.pump();
            return true;
        }
        if net.to[end].ended {
            self.notice(end, link);
            return true;
        }
        false
    }

    fn deliver_datagram(&mut self, end: usize, link: usize) -> bool {
        let net = &mut self.nets[link];
        let (Some(connection), true) = (net.connection, net.open[end]) else { return false };
        let Some(bytes) = net.to[end].datagrams.pop_front() else { return false };
        if !net.to[end].cut {
            let for_core = self.bundles[end].handle_datagram(link, connection, &bytes);
            assert_eq!(for_core, None, "only probes are sent here");
            self.pump();
        }
        true
    }

    fn tick(&mut self, end: usize) {
        self.bundles[end].handle_tick();
        self.pump();
    }

    /// The core of an end sends its next frame.
    fn send(&mut self, end: usize) {
        if let Some(conversation) = self.cores[end].conversation {
            self.cores[end].sent += 1;
            let no = self.cores[end].sent;
            self.bundles[end].send_frame(conversation, frame(no));
            self.pump();
        }
    }

    /// Everything that is under way arrives.
    fn settle(&mut self) {
        let pieces: Vec<_> = [A, B]
            .into_iter()
            .flat_map(|end| (0..self.nets.len()).map(move |l| (end, l)))
            .collect();
        loop {
            let arrived: Vec<bool> = pieces
                .iter()
                .map(|(end, link)| self.deliver(*end, *link) | self.deliver_datagram(*end, *link))
                .collect();
            if !arrived.contains(&true) {
                return;
            }
        }
    }

    /// Both tick and hear of it.
    fn beat(&mut self, beats: u32) {
        for _ in 0..beats {
            self.tick(A);
            self.settle();
            self.tick(B);
            self.settle();
        }
    }

    fn pump(&mut self) {
        for end in [A, B] {
            while let Some(output) = self.bundles[end].poll() {
                self.act(end, output);
            }
            self.check(end);
        }
    }

    fn act(&mut self, end: usize, output: Output) {
        let core = &mut self.cores[end];
        match output {
            Output::Up { conversation, .. } => {
                assert_eq!(core.conversation, None, "one at a time");
                core.conversation = Some(conversation);
                (core.sent, core.received) = (0, Vec::new());
            }
            Output::Frame { conversation, frame } => {
                assert_eq!(core.conversation, Some(conversation));
                core.received.push(frame);
            }
            Output::Down { conversation, reason } => {
                assert_eq!(core.conversation.take(), Some(conversation));
                core.ends.push(reason);
            }
            Output::Joined { .. } => {}
            Output::Pause { link, again_after } => {
                assert!(!self.nets[link].open[end]);
                core.pauses.push((link, again_after));
            }
            Output::Lost { link, loss } => core.lost.push((link, loss)),
            Output::InUse { link, again } => core.in_use.push((link, again)),
            Output::Write { link, connection, frame } => {
                assert_eq!(self.nets[link].connection, Some(connection));
                self.nets[link].to[1 - end].stream.push_back(aligned(frame.as_ref()));
            }
            Output::Send { link, connection, frame } => {
                assert_eq!(self.nets[link].connection, Some(connection));
                self.nets[link].to[1 - end].datagrams.push_back(frame.as_ref().to_vec());
            }
            Output::Close { link, connection, .. } => {
                let net = &mut self.nets[link];
                assert_eq!((net.connection, net.open[end]), (Some(connection), true));
                net.open[end] = false;
                net.to[1 - end].ended = true;
            }
        }
    }

    /// Order, and each once: what an end received in a conversation is the beginning of what the other sent.
    fn check(&self, end: usize) {
        let received = &self.cores[end].received;
        if let Some(last) = received.last() {
            let no = received.len() as u64;
            assert_eq!(&last[..], frame(no).as_ref(), "frame {no} at end {end}");
        }
    }

    fn assert_all_received(&self, end: usize) {
        assert_eq!(self.cores[end].received.len() as u64, self.cores[1 - end].sent, "at end {end}");
    }
}

#[test]
fn one_conversation_is_founded_and_the_other_links_join_it() {
    let world = World::joined(3);
    for core in &world.cores {
        assert!(core.conversation.is_some() && core.ends.is_empty());
        assert_eq!(core.in_use, [(0, 0)]);
    }
}

#[test]
fn a_link_that_connects_before_the_first_is_answered_waits() {
    let mut world = World::new(2);
    world.connect(0);
    world.connect(1);
    // The answer to the founding comes last.
    while world.deliver(B, 1) || world.deliver(A, 1) {}
    assert_eq!(world.cores[B].conversation, None, "nothing joins what nobody has founded");
    world.settle();
    assert!(world.bundles.iter().all(|bundle| bundle.is_joined(1)));
}

/// Goal: whatever has arrived when the link goes, and whatever of that is known, nothing is lost and nothing doubled.
#[test]
fn a_link_is_lost_at_every_frame_boundary() {
    const FRAMES: u64 = 6;
    for arrived in 0..=FRAMES + 1 {
        for receipted in 0..=arrived.saturating_sub(1) {
            for noticed_first in [A, B] {
                let mut world = World::joined(2);
                (0..FRAMES).for_each(|_| world.send(A));
                // The first piece says what number the frames have.
                for piece in 0..arrived {
                    assert!(world.deliver(B, 0));
                    if piece == receipted {
                        world.tick(B);
                        while world.deliver_datagram(A, 0) {}
                    }
                }
                let known = world.cores[B].received.len() as u64;
                world.notice(noticed_first, 0);
                (0..3).for_each(|_| world.send(A));
                world.notice(1 - noticed_first, 0);
                world.settle();
                (0..3).for_each(|_| world.send(A));
                world.settle();
                world.assert_all_received(B);
                assert_eq!(known, arrived.saturating_sub(1));
                let again = world.cores[A].in_use.last().expect("it went on").1 as u64;
                let more = if noticed_first == B { 3 } else { 0 };
                let least = FRAMES - known + more;
                assert!((least..=FRAMES + more).contains(&again), "{again} frames again");
                assert_eq!(world.cores[B].ends, []);
            }
        }
    }
}

#[test]
fn a_silent_link_is_left_within_a_few_beats_and_comes_back() {
    for towards in [&[A, B][..], &[A], &[B]] {
        let mut world = World::joined(2);
        world.beat(30);
        for turn in 0..4 {
            let (silent, other) = (turn % 2, 1 - turn % 2);
            let before = world.cores[A].received.len();
            world.cut(silent, towards, true);
            for end in [A, B] {
                (0..5).for_each(|_| world.send(end));
            }
            world.beat(MISSED_MAX + 2);
            for end in [A, B] {
                assert_eq!(world.bundles[end].in_use(), Some(other), "{towards:?}, end {end}");
                assert_eq!(world.cores[end].lost.last().map(|lost| lost.0), Some(silent));
                world.assert_all_received(end);
                assert_eq!(world.cores[end].received.len(), before + 5);
            }
            world.cut(silent, towards, false);
            world.settle();
            world.kill(silent); // an end that was cut off has not heard that the other closed
            world.connect(silent);
            world.beat(30);
            assert!(world.bundles.iter().all(|bundle| bundle.is_joined(silent)));
        }
        assert!(
            world.cores.iter().all(|core| core.ends.is_empty()),
            "one conversation all the time"
        );
    }
}

#[test]
fn a_host_that_stands_still_accuses_nobody_and_is_not_accused() {
    let mut world = World::joined(2);
    world.beat(30);
    for _ in 0..10 {
        // A alone goes on, for a long time; then B finds everything at once, one link first.
        for _ in 0..200 {
            world.tick(A);
        }
        while world.deliver_datagram(B, 0) {}
        world.tick(B);
        while world.deliver_datagram(A, 0) {}
        world.tick(A);
        world.settle();
        world.beat(2);
    }
    assert!(world.cores.iter().all(|core| core.lost.is_empty()), "{:?}", world.cores[A].lost);
}

#[test]
fn the_last_link_is_not_given_up_for_silence() {
    let mut world = World::joined(2);
    world.beat(30);
    for link in 0..2 {
        world.cut(link, &[A, B], true);
    }
    world.beat(1_000);
    assert!(world.cores.iter().all(|core| core.lost.is_empty() && core.conversation.is_some()));
    for link in 0..2 {
        world.cut(link, &[A, B], false);
    }
    world.send(A);
    world.settle();
    world.assert_all_received(B);
}

#[test]
fn the_conversation_is_lost_with_its_last_link_and_a_new_one_begins() {
    let mut world = World::joined(2);
    let first = world.cores[A].conversation;
    (0..3).for_each(|_| world.send(A));
    world.kill(0);
    (0..3).for_each(|_| world.send(B));
    world.kill(1);
    for core in &world.cores {
        assert!(matches!(core.ends[..], [ConversationEnd::NoLink { .. }]), "{:?}", core.ends);
    }
    world.connect(1);
    world.settle();
    assert!(world.cores[A].conversation > first);
    assert_eq!(world.bundles[A].in_use(), Some(1));
    (0..4).for_each(|_| world.send(A));
    world.settle();
    world.assert_all_received(B);
    world.connect(0);
    world.settle();
    assert!(world.bundles.iter().all(|bundle| bundle.is_joined(0)));
}

#[test]
fn another_start_of_the_peer_ends_the_conversation() {
    for restarted in [A, B] {
        let mut world = World::joined(2);
        let links = world.nets.len();
        world.bundles[restarted] = Bundle::new(links, restarted == A);
        world.cores[restarted] = Core::default();
        world.launches[restarted] = 2;
        // Only one of the two connections has been noticed to be gone when the successor is there.
        world.notice(1 - restarted, 0);
        (0..links).for_each(|link| world.nets[link].open[restarted] = false);
        world.nets[0].open = [false; 2];
        world.connect(0);
        world.settle();
        world.nets[1].open = [false; 2];
        world.connect(1);
        world.settle();
        let expected = [ConversationEnd::OtherStart { found: 2, expected: 1 }];
        assert_eq!(world.cores[1 - restarted].ends, expected, "{restarted} was restarted");
        (0..3).for_each(|_| world.send(restarted));
        world.settle();
        world.assert_all_received(1 - restarted);
        assert!(world.bundles.iter().all(|bundle| bundle.is_joined(1)));
    }
}

#[test]
fn what_was_sent_before_a_conversation_is_given_up_is_delivered() {
    let mut world = World::joined(2);
    world.send(B);
    let conversation = world.cores[B].conversation.take().expect("it is up");
    world.bundles[B].give_up(conversation, Duration::ZERO);
    world.pump();
    // The other link's end arrives first.
    world.deliver(A, 1);
    world.settle();
    world.assert_all_received(A);
    assert!(matches!(world.cores[A].ends[..], [ConversationEnd::NoLink { .. }]));
    world.nets.iter_mut().for_each(|net| net.open = [false; 2]);
    (0..2).for_each(|link| world.connect(link));
    world.settle();
    assert!(world.cores.iter().all(|core| core.conversation.is_some()));
}

#[test]
fn a_pause_is_kept_by_links_that_have_no_connection_as_well() {
    let mut world = World::joined(2);
    world.kill(1);
    let conversation = world.cores[A].conversation.take().expect("it is up");
    world.bundles[A].give_up(conversation, Duration::from_secs(5));
    world.pump();
    assert_eq!(world.cores[A].pauses, [(1, Duration::from_secs(5))]);
    assert!(!world.nets[0].open[A]);
}

/// Goal: one side has given the conversation up and the other has not heard of it when a link comes back.
#[test]
fn a_link_cannot_join_what_is_over() {
    let mut world = World::joined(2);
    world.kill(1);
    world.cut(0, &[A, B], true);
    world.notice(B, 0);
    assert_eq!(world.cores[B].conversation, None);
    world.connect(1);
    world.settle();
    assert_eq!(world.cores[A].ends, [ConversationEnd::Unknown]);
    world.kill(1);
    world.connect(1);
    world.settle();
    assert!(world.cores.iter().all(|core| core.conversation.is_some()));
}

#[test]
fn receipts_let_go_of_what_was_delivered() {
    let mut world = World::joined(2);
    for _ in 0..1_000 {
        (0..10).for_each(|_| world.send(A));
        world.settle();
        world.beat(1);
        let kept = world.bundles[A].conversation.as_ref().map(|talk| talk.kept.len());
        assert!(kept <= Some(10), "{kept:?}");
    }
    let used: BTreeSet<_> = world.cores.iter().flat_map(|core| core.in_use.clone()).collect();
    assert_eq!(used, BTreeSet::from([(0, 0)]), "nothing was sent again");
}
