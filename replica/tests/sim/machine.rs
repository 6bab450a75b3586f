//! One node: a process with a core, which may die, pause and start again, around a region that stays
//! as long as the host does.

use std::collections::VecDeque;
use std::time::Duration;

use hotpair_replica::protocol::{
    Action, Config, ConnectionId, Control, Core, Member, Mode, Mutation, NodeId, Tick,
};
use hotpair_replica::wire::{OpenChunk, SentRef};

use super::region::{Region, Role, SLOTS, change_of, emit_of};
use super::rng::Rng;

/// A node's clock: it runs a little wrong, from an arbitrary start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    offset: u64,
    per_mille: u64,
}

impl Clock {
    pub(crate) fn new(rng: &mut Rng) -> Clock {
        Clock { offset: rng.below(1 << 40), per_mille: rng.pick(950..1050) }
    }

    pub(crate) fn tick(&self, now: u64) -> Tick {
        Tick::from_nanos(self.offset + now * self.per_mille / 1000)
    }

    /// The moment at which this clock shows the tick.
    pub(crate) fn when(&self, tick: Tick) -> u64 {
        let local = tick.as_nanos().saturating_sub(self.offset);
        (local * 1000).div_ceil(self.per_mille)
    }
}

/// How the pair is configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) mode: Mode,
    pub(crate) control: Control,
    pub(crate) flaw: Option<HostFlaw>,
}

/// A bug of the host, on whose part of the bargain the protocol relies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostFlaw {
    /// The copy of a slot is applied over a commit of the same seq.
    EqualCopyWins,
    /// Commits that their slots do not show when copying begins are not recorded.
    UnappliedForgotten,
    /// An arbiter without a view takes the pair for a new one, whatever the nodes say.
    ArbiterGullible,
    /// An arbiter answers before what it granted is on its disk, and now and then is killed in between.
    ArbiterAnswersFirst,
}

impl Setup {
    pub(crate) fn flawed(flaw: HostFlaw) -> Setup {
        Setup { flaw: Some(flaw), ..Setup::default() }
    }

    pub(crate) fn mutated(mutation: Mutation) -> Setup {
        let control = Control { mutation: Some(mutation), ..Control::default() };
        Setup { control, ..Setup::default() }
    }
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) core: Core,
    pub(crate) clock: Clock,
    /// Actions that are not carried out yet.
    pub(crate) work: VecDeque<Action>,
    pub(crate) working: bool,
    pub(crate) wake_at: Option<u64>,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) retry_from: u64,
    pub(crate) copying: Option<u32>,
    pub(crate) heard_at: u64,
    pub(crate) silent: bool,
    pub(crate) paused_until: u64,
    /// What came in during a pause.
    pub(crate) deferred: VecDeque<super::world::Happening>,
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: NodeId,
    pub(crate) region: Region,
    pub(crate) process: Option<Process>,
    /// Counts the starts of the process.
    pub(crate) life: u64,
    /// Until when its workers, or its port, do nothing.
    pub(crate) workers_until: u64,
    pub(crate) port_until: u64,
    pub(crate) flaw: Option<HostFlaw>,
    /// Compare-and-sets that may still land.
    pub(crate) setting: u32,
}

impl Machine {
    pub(crate) fn new(id: NodeId, incarnation: u64) -> Machine {
        Machine {
            id,
            region: Region::new(incarnation),
            process: None,
            life: 0,
            workers_until: 0,
            port_until: 0,
            setting: 0,
            flaw: None,
        }
    }

    pub(crate) fn member(&self) -> Member {
        Member { node: self.id, incarnation: self.region.incarnation }
    }

    pub(crate) fn start(&mut self, now: u64, rng: &mut Rng, setup: &Setup) {
        let mut config = Config::new(1, self.member(), NodeId(1 - self.id.0), 77, SLOTS);
        config.first = self.id.0 == 0;
        config.past = self.region.past;
        self.flaw = setup.flaw;
        config.mode = setup.mode;
        config.control = setup.control.clone();
        config.timing.takeover_wait = Duration::from_millis(300);
        config.timing.arbiter_wait = Duration::from_millis(60);
        config.timing.arbiter_retry = Duration::from_millis(20);
        config.timing.look_again = Duration::from_millis(60);
        config.timing.ack_wait = Duration::from_millis(80);
        config.limits.window_batches = 64;
        config.limits.window_chunks = 2;
        config.limits.digest_every = 4;
        config.limits.batch_bytes = 512;
        let clock = Clock::new(rng);
        let core = Core::new(config, clock.tick(now)).expect("the configuration is sound");
        self.life += 1;
        self.process = Some(Process {
            core,
            clock,
            work: VecDeque::new(),
            working: false,
            wake_at: None,
            connection: None,
            retry_from: now,
            copying: None,
            heard_at: now,
            silent: false,
            paused_until: 0,
            deferred: VecDeque::new(),
        });
    }

    pub(crate) fn is_up(&self, now: u64) -> bool {
        self.process.as_ref().is_some_and(|process| process.paused_until <= now)
    }

    /// Gathers commits and sent packets, offers them, and copies a part of a transfer.
    pub(crate) fn gather(&mut self, now: u64, rng: &mut Rng) {
        let Machine { region, process: Some(process), .. } = self else { return };
        let Role::Primary(epoch) = region.role else { return };
        let status = process.core.status();
        if status.epoch != epoch || !process.core.has_room() {
            return;
        }
        let tick = process.clock.tick(now);
        let open = process.core.gathering();
        while let Some(commit) = region.ring.pop_front() {
            open.push(change_of(commit.slot, &commit.after));
            if let Some(id) = commit.packet {
                open.push_emit(emit_of(commit.seq, &id.to_le_bytes()));
            }
            open.end_of_commit(commit.seq);
        }
        for sent in region.sent.drain(..) {
            open.push_sent(sent);
        }
        // A worker can be stopped for longer than a transfer takes.
        if rng.chance(20) {
            region.lagging = None;
        }
        let digest = Some(region.digest());
        let _ = process.core.offer(tick, region.commit_seq, digest);
        self.copy(now, rng);
    }

    /// Begins to copy. A commit that is not seen in its slot yet may have been gathered when nobody
    /// recorded it.
    pub(crate) fn start_copying(&mut self) {
        let Machine { region, process: Some(process), .. } = self else { return };
        process.copying = Some(0);
        if self.flaw == Some(HostFlaw::UnappliedForgotten) {
            return;
        }
        if let Some((commit, _)) = &region.lagging {
            let open = process.core.gathering();
            open.push(change_of(commit.slot, &commit.after));
            // Unless the port has been quicker than this model's worker.
            if let Some(id) =
                commit.packet.filter(|_| region.packets.contains_key(&(commit.seq, 0)))
            {
                open.push_emit(emit_of(commit.seq, &id.to_le_bytes()));
            }
        }
    }

    fn copy(&mut self, now: u64, rng: &mut Rng) {
        let Machine { region, process: Some(process), .. } = self else { return };
        let Some(mut next) = process.copying else { return };
        if process.core.snapshot_room() == 0 || !rng.one_in(5) {
            return;
        }
        let tick = process.clock.tick(now);
        let mut chunk = OpenChunk::new();
        let end = (next + rng.pick(1..3) as u32).min(SLOTS);
        while next < end {
            chunk.push(change_of(next, &region.copy(next)));
            next += 1;
        }
        process.copying = Some(next);
        if next < SLOTS {
            let _ = process.core.offer_chunk(tick, chunk);
            return;
        }
        for (&(seq, _), id) in &region.packets {
            chunk.push_emit(emit_of(seq, &id.to_le_bytes()));
        }
        process.copying = None;
        if process.core.offer_chunk(tick, chunk).is_ok() {
            let _ = process.core.finish_snapshot(tick, region.commit_seq);
        }
    }

    /// The port sends some of what it may: commit and slot of each.
    pub(crate) fn send(&mut self, rng: &mut Rng) -> Vec<(u16, u32)> {
        let region = &mut self.region;
        let Role::Primary(epoch) = region.role else { return Vec::new() };
        let released = region.released;
        let ready: Vec<_> = region
            .packets
            .iter()
            .filter(|((seq, _), _)| *seq <= released)
            .map(|(place, id)| (*place, *id))
            .collect();
        let mut told = Vec::new();
        for ((seq, ordinal), id) in ready {
            if rng.chance(80) {
                region.packets.remove(&(seq, ordinal));
                region.sent.push(SentRef { seq, ordinal });
                told.push((epoch, id));
            }
        }
        told
    }
}
