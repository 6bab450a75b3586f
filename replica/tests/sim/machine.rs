//! One node: a process with a core, which may die, pause and start again, around a region that stays
//! as long as the host does.

use std::collections::VecDeque;
use std::time::Duration;

use hotpair_replica::protocol::{
    Action, Config, ConnectionId, Control, Core, Member, Mode, Mutation, NodeId, Seq, Tick,
};
use hotpair_replica::wire::{OpenChunk, SentRef};

use super::modes::{self, Bounds, Way};
use super::region::{Region, Role, SLOTS, emit_of, ship};
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
    /// Whether there are bounded and local ports.
    pub(crate) modes: bool,
    /// Nothing goes wrong but that packets are lost now and then.
    pub(crate) calm: bool,
}

/// A bug of the host, on whose part of the bargain the protocol relies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostFlaw {
    /// The copy of a slot is applied over a commit of the same seq.
    EqualCopyWins,
    /// Packets that a transfer takes in several chunks are sent as they were when the first of them was filled.
    StaleUnsent,
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
    /// Of a transfer, what is copied: what was changed later than this, and these.
    pub(crate) copied_since: Option<Seq>,
    pub(crate) copied_also: Vec<u32>,
    /// The packets that were not sent when the last slot was copied, and are still to be offered.
    pub(crate) copied_packets: Option<VecDeque<((Seq, u16), u32)>>,
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
    /// The region as it was when it was fenced while it stood still.
    pub(crate) left_behind: Option<Region>,
    /// The epoch in which it gave a hand-over up: the other may still win by that offer, without what came later.
    pub(crate) gave_up: Option<u16>,
    /// What was found when it became primary, if the other one stood still for it.
    pub(crate) handed_over: Option<super::ledger::Checked>,
    /// Compare-and-sets that may still land.
    pub(crate) setting: u32,
    pub(crate) bounds: Option<Bounds>,
    /// The host's clock, which its ports go by.
    clock: Option<Clock>,
    /// Packets whose commits were gathered.
    pub(crate) gathered: Vec<u32>,
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
            left_behind: None,
            gave_up: None,
            handed_over: None,
            setting: 0,
            bounds: None,
            clock: None,
            gathered: Vec::new(),
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
        config.history = self.region.settle();
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
        if let Some(bounds) = self.bounds {
            modes::configure(&mut config, bounds);
        }
        // A node that starts closes the gates before anything else.
        self.region.allowed = Seq::ZERO;
        self.region.lease_until = Tick::ZERO;
        let clock = Clock::new(rng);
        self.clock = Some(clock);
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
            copied_since: None,
            copied_also: Vec::new(),
            copied_packets: None,
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
        let Machine { region, process: Some(process), gathered, .. } = self else { return };
        let Some(epoch) = region.gathers() else { return };
        let status = process.core.status();
        if status.epoch != epoch || !process.core.has_room() {
            return;
        }
        let tick = process.clock.tick(now);
        let open = process.core.gathering();
        while let Some(commit) = region.ring.pop_front() {
            let before = Some(&commit.before);
            ship(commit.slot, &commit.after, before, |change| open.push(change));
            if let Some(id) = commit.packet {
                open.push_emit(emit_of(commit.seq, &id.to_le_bytes()));
                gathered.push(id);
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
        super::planned::drain(region, process, tick, rng);
        self.copy(now, rng);
    }

    /// Begins to copy. A commit that is not seen in its slot yet may have been gathered when nobody
    /// recorded it.
    pub(crate) fn start_copying(&mut self, since: Option<Seq>, also: Vec<u32>) {
        let Machine { region, process: Some(process), .. } = self else { return };
        process.copying = Some(0);
        (process.copied_since, process.copied_also) = (since, also);
        process.copied_packets = None;
        if self.flaw == Some(HostFlaw::UnappliedForgotten) {
            return;
        }
        if let Some((commit, _)) = &region.lagging {
            let open = process.core.gathering();
            ship(commit.slot, &commit.after, None, |change| open.push(change));
            // Unless the port has been quicker than this model's worker.
            if let Some(id) =
                commit.packet.filter(|_| region.packets.contains_key(&(commit.seq, 0)))
            {
                open.push_emit(emit_of(commit.seq, &id.to_le_bytes()));
            }
        }
    }

    fn copy(&mut self, now: u64, rng: &mut Rng) {
        let Machine { region, process: Some(process), flaw, .. } = self else { return };
        let Some(mut next) = process.copying else { return };
        if process.core.snapshot_room() == 0 || !rng.one_in(5) {
            return;
        }
        let tick = process.clock.tick(now);
        let mut chunk = OpenChunk::new();
        let end = (next + rng.pick(1..3) as u32).min(SLOTS);
        while next < end {
            let slot = region.copy(next);
            let changed = process.copied_since.is_none_or(|since| slot.seq > since);
            if changed || process.copied_also.contains(&next) {
                ship(next, &slot, None, |change| chunk.push(change));
            }
            next += 1;
        }
        process.copying = Some(next);
        if next < SLOTS {
            let _ = process.core.offer_chunk(tick, chunk);
            return;
        }
        let packets = process.copied_packets.get_or_insert_with(|| {
            region.packets.iter().map(|(place, id)| (*place, *id)).collect()
        });
        let some = rng.pick(1..4) as usize;
        for (place, id) in packets.drain(..some.min(packets.len())) {
            // Ports go on between two chunks, and a batch says so before the chunk comes.
            if region.packets.contains_key(&place) || *flaw == Some(HostFlaw::StaleUnsent) {
                chunk.push_emit(emit_of(place.0, &id.to_le_bytes()));
            }
        }
        if !packets.is_empty() {
            let _ = process.core.offer_chunk(tick, chunk);
            return;
        }
        process.copied_packets = None;
        process.copying = None;
        if process.core.offer_chunk(tick, chunk).is_ok() {
            let _ = process.core.finish_snapshot(tick, region.commit_seq);
        }
    }

    /// The ports send some of what they may: epoch and commit of each, and why it may leave.
    pub(crate) fn send(&mut self, now: u64, rng: &mut Rng) -> Vec<(u16, u32, Way)> {
        let (modes, region) = (self.bounds.is_some(), &mut self.region);
        let (Role::Primary(epoch) | Role::Draining(epoch)) = region.role else { return Vec::new() };
        let tick = self.clock.map_or(Tick::ZERO, |clock| clock.tick(now));
        let way_out = |seq, id| region.way_out(id, seq, tick, modes);
        let ready: Vec<_> = region
            .packets
            .iter()
            .filter_map(|(place, id)| Some((*place, *id, way_out(place.0, *id)?)))
            .collect();
        let mut told = Vec::new();
        for ((seq, ordinal), id, way) in ready {
            if rng.chance(80) {
                region.packets.remove(&(seq, ordinal));
                region.sent.push(SentRef { seq, ordinal });
                told.push((epoch, id, way));
            }
        }
        told
    }
}
