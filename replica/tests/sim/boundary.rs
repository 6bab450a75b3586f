//! Death between any two steps: every step that a process takes with its peer, its region or its
//! arbiter has a moment before it and one after it, and at each of them the process is killed now and
//! then.
//!
//! A *trap* names such a moment; the process dies when it gets there. The faults set traps. What was
//! hit is counted, because a moment at which nobody ever died is one that proves nothing.

use hotpair_replica::protocol::{Action, Answer, Body, Request};

use super::net::Packet;
use super::rng::Rng;
use super::world::World;

macro_rules! steps {
    ($($step:ident: $words:literal,)*) => {
        /// Something that a process does, at once or not at all as far as others can see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Step { $($step),* }

        impl Step {
            const ALL: &[(Step, &str)] = &[$((Step::$step, $words)),*];
        }
    };
}

steps! {
    SendHello: "send a hello",
    SendStart: "send the start of a transfer",
    SendBatch: "send a batch",
    SendChunk: "send a chunk",
    SendSnapshotEnd: "send the end of a transfer",
    SendChanged: "say what it changed by itself",
    SendHandOver: "send its part of a planned change",
    SendAck: "send an ack",
    ReceiveHello: "receive a hello",
    ReceiveStart: "receive the start of a transfer",
    ReceiveBatch: "receive a batch",
    ReceiveChunk: "receive a chunk",
    ReceiveSnapshotEnd: "receive the end of a transfer",
    ReceiveChanged: "receive what the other changed by itself",
    ReceiveHandOver: "receive the other's part of a planned change",
    ReceiveAck: "receive an ack",
    Connect: "learn of a connection",
    LoseConnection: "learn that it is lost",
    BecomePrimary: "become primary",
    BecomeBackup: "become back-up",
    BecomeWhole: "have a whole state",
    Drain: "begin to drain",
    Resume: "serve on",
    Fence: "be fenced",
    Release: "release",
    RequireGathering: "require gathering",
    EndGathering: "require it no more",
    StartSnapshot: "start a snapshot",
    StopSnapshot: "stop a snapshot",
    ApplyBatch: "apply a batch",
    ApplyChunk: "apply a chunk",
    Disconnect: "disconnect",
    Report: "report an event",
    Gather: "gather",
    AskRead: "ask the arbiter to read",
    AskSet: "ask the arbiter to set",
    ReadLands: "have a read land",
    SetLands: "have a compare-and-set land",
    HearView: "hear what the view is",
    HearWon: "hear that it won",
    HearLost: "hear that it lost",
    HearForgotten: "hear that the arbiter forgot",
    HearNothing: "give up on an answer",
}

/// Which moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

impl Step {
    fn index(self) -> usize {
        self as usize
    }

    fn words(self) -> &'static str {
        Step::ALL[self.index()].1
    }

    pub(super) fn of_sending(body: &Body) -> Step {
        match body {
            Body::Stream(frame) => Step::frame(frame.as_ref(), Step::SendHello),
            Body::Datagram(_) => Step::SendAck,
        }
    }

    pub(super) fn of_receiving(packet: &Packet) -> Step {
        match packet {
            Packet::Connected => Step::Connect,
            Packet::Lost => Step::LoseConnection,
            Packet::Frame(frame) => Step::frame(frame, Step::ReceiveHello),
            Packet::Datagram(_) => Step::ReceiveAck,
        }
    }

    /// The kind of a frame is its ninth byte; the steps of one direction stand in the same order.
    fn frame(frame: &[u8], hello: Step) -> Step {
        let place = match frame[8] {
            1 => 0,
            3 => 1,
            4 => 2,
            5 => 3,
            6 => 4,
            8 => 5,
            9 => 6,
            // Two nodes of one pair never refuse each other (2), and acks are no frames (7).
            kind => panic!("a frame of kind {kind} has no place among the boundaries"),
        };
        Step::ALL[hello.index() + place].0
    }

    pub(super) fn of_action(action: &Action) -> Step {
        match action {
            Action::BecomePrimary { .. } => Step::BecomePrimary,
            Action::BecomeBackup { .. } => Step::BecomeBackup,
            Action::Fence => Step::Fence,
            Action::Release(_) => Step::Release,
            Action::SetGathering { required: true } => Step::RequireGathering,
            Action::SetGathering { required: false } => Step::EndGathering,
            Action::StartSnapshot { .. } => Step::StartSnapshot,
            Action::Whole { .. } => Step::BecomeWhole,
            // Only of a state that differs, which is a violation.
            Action::Distrust => Step::Report,
            Action::Drain => Step::Drain,
            Action::Resume { .. } => Step::Resume,
            // Ports ahead of the acks have runs of their own.
            Action::Allow { .. } | Action::ExtendLease(_) => Step::Release,
            Action::StopSnapshot => Step::StopSnapshot,
            Action::ApplyBatch(..) => Step::ApplyBatch,
            Action::ApplyChunk(..) => Step::ApplyChunk,
            Action::Disconnect { .. } => Step::Disconnect,
            Action::Event(_) => Step::Report,
        }
    }

    pub(super) fn of_asking(request: &Request) -> Step {
        match request {
            Request::Read => Step::AskRead,
            Request::CompareAndSet { .. } => Step::AskSet,
        }
    }

    pub(super) fn of_landing(request: &Request) -> Step {
        match request {
            Request::Read => Step::ReadLands,
            Request::CompareAndSet { .. } => Step::SetLands,
        }
    }

    pub(super) fn of_answer(answer: &Answer) -> Step {
        match answer {
            Answer::Current(_) => Step::HearView,
            Answer::Won(_) => Step::HearWon,
            Answer::Lost(_) => Step::HearLost,
            Answer::Forgotten => Step::HearForgotten,
            Answer::NoAnswer => Step::HearNothing,
        }
    }
}

/// Where the processes of a run are to die, and where processes died.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deaths {
    traps: [Option<(Step, Side)>; 2],
    /// One moment that this run is about: rare ones would otherwise hardly ever be met.
    aim: Option<(Step, Side)>,
    hits: Vec<[u64; 2]>,
}

impl Deaths {
    pub(super) fn aiming(rng: &mut Rng) -> Deaths {
        let mut deaths = Deaths { hits: vec![[0; 2]; Step::ALL.len()], ..Deaths::default() };
        let aim = if rng.one_in(3) { rare_moment(rng) } else { any_moment(rng) };
        deaths.aim = Some(aim);
        deaths.traps = [deaths.aim; 2];
        deaths
    }

    pub(super) fn set_trap(&mut self, node: usize, rng: &mut Rng) {
        let aim = self.aim.filter(|_| rng.chance(60));
        self.traps[node] = Some(aim.unwrap_or_else(|| any_moment(rng)));
    }

    pub(super) fn disarm(&mut self) {
        self.traps = [None; 2];
    }

    pub(crate) fn add(&mut self, other: &Deaths) {
        self.hits.resize(Step::ALL.len(), [0; 2]);
        for (sum, hits) in self.hits.iter_mut().zip(&other.hits) {
            sum[0] += hits[0];
            sum[1] += hits[1];
        }
    }

    /// A line for each step: deaths before it, deaths after it.
    pub(crate) fn table(&self) -> String {
        let rows = Step::ALL.iter().zip(&self.hits);
        let rows = rows.map(|((_, words), [before, after])| {
            format!("  {words:<32} {before:>6} before {after:>6} after")
        });
        rows.collect::<Vec<_>>().join("\n")
    }

    /// The moments at which nobody ever died.
    pub(crate) fn never(&self) -> Vec<String> {
        let rows = Step::ALL.iter().zip(&self.hits);
        let rows = rows.flat_map(|((_, words), [before, after])| {
            [(*before, format!("before: {words}")), (*after, format!("after: {words}"))]
        });
        rows.filter(|(hits, _)| *hits == 0).map(|(_, words)| words).collect()
    }
}

/// Steps that few runs take at all.
fn rare_moment(rng: &mut Rng) -> (Step, Side) {
    let rare = [
        Step::Fence,
        Step::StopSnapshot,
        Step::Disconnect,
        Step::HearLost,
        Step::Drain,
        Step::Resume,
        Step::ReceiveHandOver,
        Step::SendHandOver,
        Step::ReceiveChanged,
        Step::BecomeWhole,
    ];
    let (_, side) = any_moment(rng);
    (rare[rng.below(rare.len() as u64) as usize], side)
}

fn any_moment(rng: &mut Rng) -> (Step, Side) {
    let (step, _) = Step::ALL[rng.below(Step::ALL.len() as u64) as usize];
    (step, if rng.chance(50) { Side::Before } else { Side::After })
}

impl World {
    /// Whether the process of this node dies here, which it has done when this returns.
    pub(super) fn dies(&mut self, node: usize, side: Side, step: Step) -> bool {
        if self.deaths.traps[node] != Some((step, side)) || self.machines[node].process.is_none() {
            return false;
        }
        self.deaths.traps[node] = None;
        self.deaths.hits[step.index()][side as usize] += 1;
        self.trace(|| format!("node {node} dies at: {side:?}, {}", step.words()));
        match self.rng.below(4) {
            0 if self.lose_host(node) => {}
            0 | 1 => self.kill_process(node, true),
            _ => self.kill_process(node, false),
        }
        true
    }
}
