//! Time, and what happens in it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use hotpair_replica::protocol::{
    Action, Answer, DeathNotice, NodeId, Request, RequestId, Seq, Testimony,
};
use hotpair_replica::wire::Standing;

use super::arbiter::Arbiter;
use super::boundary::{Deaths, Side, Step};
use super::histories::{Explained, Histories};
use super::ledger::{Checked, Ledger, Violation, ensure};
use super::machine::{Machine, Setup};
use super::modes::{Ahead, AheadCounts, Bounds, Way};
use super::net::{Address, MICRO, MILLI, Net, Packet};
use super::region::{KEPT_SLOTS, Role, SLOTS};
use super::rng::Rng;

/// What travels to the arbiter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) id: RequestId,
    pub(super) request: Request,
    pub(super) testimony: Testimony,
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Happening {
    Start(usize),
    Worker(usize),
    Gather(usize),
    Port(usize),
    Heartbeats,
    Connect,
    Fault,
    Kill(usize),
    Arrive(Address, Packet),
    Wake { node: usize, life: u64, at: u64 },
    Work { node: usize, life: u64 },
    Land { node: usize, life: u64, question: Question, arbiter: u64 },
    Operator,
    HandOver,
    Answered { node: usize, life: u64, id: RequestId, answer: Answer },
    Dead { at_node: usize, life: u64 },
    Resume { node: usize, life: u64 },
}

/// How often the interesting things happened: a run in which they do not proves nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) promotions: u64,
    pub(crate) solos: u64,
    pub(crate) admissions: u64,
    pub(crate) superseded: u64,
    pub(crate) undetermined: u64,
    pub(crate) resumed: u64,
    pub(crate) transfers_stopped: u64,
    pub(crate) incremental: u64,
    pub(crate) union: u64,
    pub(crate) full: u64,
    pub(crate) hosts_lost: u64,
    pub(crate) disks_lost: u64,
    pub(crate) restored: u64,
    pub(crate) decided: u64,
    pub(crate) checked: u64,
    /// Planned changes that took place, of them those that nothing went wrong in between, and those given up.
    pub(crate) hand_overs: u64,
    pub(crate) hand_overs_clean: u64,
    pub(crate) hand_overs_ended: u64,
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) counts: Counts,
    pub(crate) deaths: Deaths,
    pub(crate) commits: usize,
    pub(crate) told: usize,
    pub(crate) ahead: AheadCounts,
    pub(crate) explained: Explained,
    pub(crate) nanos: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) machines: [Machine; 2],
    pub(super) arbiter: Arbiter,
    pub(super) net: Net,
    pub(super) counts: Counts,
    pub(super) deaths: Deaths,
    pub(super) ledger: Ledger,
    pub(super) histories: Histories,
    pub(super) ahead: Ahead,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    order: u64,
    ids: u32,
    pub(super) slot_of: Vec<u32>,
    pub(super) setup: Setup,
    pub(super) faults: bool,
    tracing: bool,
    working: bool,
    /// How many of a hundred actions the hosts take their time for.
    pub(super) slow_percent: u64,
    /// The next view is the one that an operator's decision made possible.
    pub(super) operator_decided: bool,
}

impl World {
    pub(crate) fn new(seed: u64, setup: Setup, tracing: bool) -> World {
        let mut rng = Rng::new(seed);
        let slow_percent = rng.below(60);
        let machines = [0, 1].map(|id| Machine::new(NodeId(id), rng.next()));
        let mut deaths = Deaths::aiming(&mut rng);
        if setup.calm {
            deaths.disarm();
        }
        let mut world = World {
            now: 0,
            rng,
            machines,
            arbiter: Arbiter::new(setup.flaw),
            operator_decided: false,

            net: Net::default(),
            counts: Counts::default(),
            deaths,
            ledger: Ledger::default(),
            histories: Histories::default(),
            ahead: Ahead::default(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            order: 0,
            ids: 0,
            slot_of: Vec::new(),
            faults: !setup.calm,
            setup,
            tracing,
            working: true,
            slow_percent,
        };
        if world.setup.modes {
            let bounds = Some(Bounds::draw(&mut world.rng));
            world.ahead.bounds = bounds;
            world.machines.iter_mut().for_each(|machine| machine.bounds = bounds);
        }
        if !world.faults {
            world.net.loss_percent = world.rng.below(30);
        }
        for node in 0..2 {
            world.at(world.now, Happening::Start(node));
            world.at(MILLI, Happening::Worker(node));
            world.at(MILLI, Happening::Gather(node));
            world.at(MILLI, Happening::Port(node));
        }
        world.at(0, Happening::Heartbeats);
        world.at(0, Happening::Connect);
        world.at(50 * MILLI, Happening::Fault);
        world.at(80 * MILLI, Happening::HandOver);
        world
    }

    /// Faults for a while, then none: nothing false in the first part, all well after the second.
    pub(crate) fn run(&mut self, faults_ms: u64, heal_ms: u64) -> Result<Report, Violation> {
        self.run_until(faults_ms * MILLI)?;
        self.faults = false;
        self.heal();
        let healed = self.now;
        let deadline = healed + heal_ms * MILLI;
        let stop_working = healed + 200 * MILLI;
        while self.now < deadline {
            self.run_until(self.now + 50 * MILLI)?;
            self.working = self.now < stop_working;
            if !self.working && self.is_quiet() {
                break;
            }
        }
        self.check_liveness()?;
        self.report()
    }

    /// A while of faults, and nothing but the clients' word for what went wrong.
    pub(crate) fn run_for_histories(&mut self, faults_ms: u64) -> Result<Report, Violation> {
        self.ledger.only_notes();
        // Whatever else is found is not the question.
        while self.run_until(faults_ms * MILLI).is_err() {}
        self.report()
    }

    fn report(&self) -> Result<Report, Violation> {
        let explained = match self.ahead.bounds {
            None => self.histories.check()?,
            Some(_) => Explained::default(), // ports that do not wait may say what is lost
        };
        Ok(Report {
            counts: self.counts.clone(),
            deaths: self.deaths.clone(),
            commits: self.ledger.commits(),
            told: self.ledger.told(),
            ahead: self.ahead.counts,
            explained,
            nanos: self.now,
        })
    }

    fn run_until(&mut self, end: u64) -> Checked {
        while let Some(&Reverse((at, order))) = self.queue.peek() {
            if at > end {
                break;
            }
            self.queue.pop();
            let Some(happening) = self.happenings.remove(&order) else { continue };
            self.now = self.now.max(at);
            self.happen(happening)?;
            self.check_step()?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    pub(super) fn at(&mut self, at: u64, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order)));
        self.happenings.insert(self.order, happening);
    }

    pub(super) fn trace(&self, words: impl FnOnce() -> String) {
        if self.tracing {
            eprintln!("{:>12.6} s  {}", self.now as f64 / 1e9, words());
        }
    }

    /// The node that a happening is for, if it is for a process.
    fn process_of(happening: &Happening) -> Option<(usize, u64)> {
        match *happening {
            Happening::Arrive(Address { node, life, .. }, _)
            | Happening::Wake { node, life, .. }
            | Happening::Work { node, life }
            | Happening::Answered { node, life, .. }
            | Happening::Dead { at_node: node, life } => Some((node, life)),
            _ => None,
        }
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        if let Some((node, life)) = Self::process_of(&happening) {
            let machine = &self.machines[node];
            if life != machine.life {
                return Ok(());
            }
            if let Some(process) = &mut self.machines[node].process
                && process.paused_until > self.now
            {
                // In a line of its own, so that a longer pause does not change the order.
                if process.deferred.is_empty() {
                    let (at, life) = (process.paused_until, self.machines[node].life);
                    self.at(at, Happening::Resume { node, life });
                }
                let Some(process) = &mut self.machines[node].process else { return Ok(()) };
                process.deferred.push_back(happening);
                return Ok(());
            }
        }
        match happening {
            Happening::Start(node) => self.start(node),
            Happening::Worker(node) => self.work_as_worker(node),
            Happening::Gather(node) => {
                let next = self.now + self.rng.pick(200 * MICRO..3 * MILLI);
                self.at(next, Happening::Gather(node));
                if self.machines[node].is_up(self.now)
                    && !self.dies(node, Side::Before, Step::Gather)
                {
                    self.machines[node].gather(self.now, &mut self.rng);
                    for id in self.machines[node].gathered.drain(..) {
                        self.ahead.on_gathered(id, self.now);
                    }
                    self.dies(node, Side::After, Step::Gather);
                }
                self.pump(node)
            }
            Happening::Port(node) => self.send(node),
            Happening::Heartbeats => self.heartbeats(),
            Happening::Connect => self.connect(),
            Happening::Fault => {
                if self.faults {
                    let next = self.now + self.rng.pick(MILLI..150 * MILLI);
                    self.at(next, Happening::Fault);
                    self.fault()?;
                }
                Ok(())
            }
            Happening::HandOver => self.want_hand_over(),
            Happening::Kill(node) => {
                self.kill_process(node, false);
                Ok(())
            }
            Happening::Arrive(address, packet) => self.arrive(address, packet),
            Happening::Wake { node, at, .. } => {
                let process = self.machines[node].process.as_ref();
                if process.is_none_or(|process| process.wake_at != Some(at)) {
                    return Ok(()); // an earlier one took its place
                }
                self.with_core(node, |core, tick, process_wake| {
                    *process_wake = None;
                    core.handle_timeout(tick);
                });
                self.pump(node)
            }
            Happening::Work { node, .. } => {
                if let Some(process) = &mut self.machines[node].process {
                    process.working = false;
                    if let Some(action) = process.work.pop_front() {
                        self.carry_out(node, action)?;
                    }
                }
                self.pump(node)
            }
            Happening::Resume { node, life } => self.resume(node, life),
            Happening::Land { node, life, question, arbiter } => {
                self.land(node, life, question, arbiter)
            }
            Happening::Operator => {
                self.decide_for_the_arbiter();
                Ok(())
            }
            Happening::Answered { node, id, answer, .. } => {
                let step = Step::of_answer(&answer);
                if self.dies(node, Side::Before, step) {
                    return Ok(());
                }
                self.with_core(node, |core, tick, _| core.handle_arbiter(tick, id, answer));
                self.dies(node, Side::After, step);
                self.pump(node)
            }
            Happening::Dead { at_node: node, .. } => {
                // The notice is about a process: it is void if that lives again.
                if self.machines[1 - node].process.is_none() && !self.net.is_cut(node, self.now) {
                    self.trace(|| format!("node {node} hears that its peer is dead"));
                    self.with_core(node, |core, tick, _| {
                        core.handle_peer_dead(tick, DeathNotice::Tripwire);
                    });
                }
                self.pump(node)
            }
        }
    }

    fn resume(&mut self, node: usize, life: u64) -> Checked {
        if self.machines[node].life != life {
            return Ok(());
        }
        let Some(process) = &mut self.machines[node].process else { return Ok(()) };
        if process.paused_until > self.now {
            let at = process.paused_until;
            self.at(at, Happening::Resume { node, life });
            return Ok(());
        }
        for happening in std::mem::take(&mut process.deferred) {
            self.happen(happening)?;
        }
        Ok(())
    }

    pub(super) fn with_core(
        &mut self,
        node: usize,
        call: impl FnOnce(
            &mut hotpair_replica::protocol::Core,
            hotpair_replica::protocol::Tick,
            &mut Option<u64>,
        ),
    ) {
        let now = self.now;
        if let Some(process) = &mut self.machines[node].process {
            let tick = process.clock.tick(now);
            call(&mut process.core, tick, &mut process.wake_at);
        }
    }

    fn start(&mut self, node: usize) -> Checked {
        if self.machines[node].process.is_some() {
            return Ok(());
        }
        self.trace(|| format!("node {node} starts"));
        self.machines[node].start(self.now, &mut self.rng, &self.setup);
        self.pump(node)
    }

    fn work_as_worker(&mut self, node: usize) -> Checked {
        let busy = self.rng.one_in(if self.ahead.bounds.is_some() { 2 } else { 8 });
        let pause =
            if busy { self.rng.pick(50 * MICRO..MILLI) } else { self.rng.below(20 * MILLI) };
        self.at(self.now + pause, Happening::Worker(node));
        let machine = &mut self.machines[node];
        let (Role::Primary(epoch) | Role::Draining(epoch)) = machine.region.role else {
            return Ok(());
        };
        if machine.workers_until > self.now || !self.working {
            return Ok(());
        }
        for _ in 0..self.rng.pick(1..4) {
            let slot = self.rng.below(SLOTS.into()) as u32;
            let withdraws = slot >= KEPT_SLOTS && self.rng.chance(50);
            let emits = self.rng.chance(60);
            let region = &mut self.machines[node].region;
            if let Some(commit) = region.commit(self.ids, slot, emits, withdraws) {
                self.histories.on_commit(self.ids, &commit);
                self.ledger.on_commit(epoch, commit);
                self.slot_of.push(slot);
                self.ids += 1;
            }
        }
        Ok(())
    }

    fn send(&mut self, node: usize) -> Checked {
        let mut next = self.now + self.rng.pick(100 * MICRO..4 * MILLI);
        if self.ahead.bounds.is_some() && self.rng.one_in(20) {
            next += self.rng.below(60 * MILLI); // with packets in hand that may leave
        }
        self.at(next, Happening::Port(node));
        if self.machines[node].port_until > self.now {
            return Ok(());
        }
        for (epoch, id, way) in self.machines[node].send(self.now, &mut self.rng) {
            if way != Way::Released {
                self.on_ahead(node, way, epoch, id)?;
                continue;
            }
            let slot = self.slot_of[id as usize];
            self.histories.on_sent(id, slot);
            self.ledger.on_sent(epoch, id, slot)?;
        }
        Ok(())
    }

    fn heartbeats(&mut self) -> Checked {
        self.at(self.now + 5 * MILLI, Happening::Heartbeats);
        for node in 0..2 {
            let heard = self.machines[1 - node].is_up(self.now) && !self.net.is_cut(node, self.now);
            let now = self.now;
            let Some(process) = &mut self.machines[node].process else { continue };
            if process.paused_until > now {
                process.heard_at = process.paused_until; // its own thread was late: it accuses nobody
                continue;
            }
            if heard && !self.rng.chance(self.net.loss_percent) {
                let back = now.saturating_sub(process.heard_at) > 100 * MILLI;
                process.heard_at = process.heard_at.max(now);
                if process.silent && !back {
                    process.silent = false;
                    self.with_core(node, |core, tick, _| core.handle_peer_heard(tick));
                }
            } else if now.saturating_sub(process.heard_at) > 40 * MILLI && !process.silent {
                process.silent = true;
                self.trace(|| format!("node {node} does not hear its peer"));
                self.with_core(node, |core, tick, _| core.handle_peer_silent(tick));
            }
            self.pump(node)?;
        }
        Ok(())
    }

    /// Everything a core has to say after an input.
    pub(super) fn pump(&mut self, node: usize) -> Checked {
        loop {
            let Some(process) = &mut self.machines[node].process else { return Ok(()) };
            let Some(action) = process.core.poll_action() else { break };
            self.check_said(node, &action)?;
            let Some(process) = &mut self.machines[node].process else { return Ok(()) };
            let slow = matches!(action, Action::ApplyBatch(..) | Action::ApplyChunk(..));
            if process.work.is_empty() && !process.working && !slow {
                self.carry_out(node, action)?;
            } else {
                process.work.push_back(action);
            }
        }
        let life = self.machines[node].life;
        self.drain_transmits(node)?;
        self.ask_arbiter(node, life);
        let now = self.now;
        let slow = self.rng.chance(self.slow_percent);
        let pick = self.rng.below(if slow { 12 * MILLI } else { 200 * MICRO });
        let Some(process) = &mut self.machines[node].process else { return Ok(()) };
        if !process.work.is_empty() && !process.working {
            process.working = true;
            self.at(now + pick, Happening::Work { node, life });
        }
        let Some(process) = &mut self.machines[node].process else { return Ok(()) };
        if let Some(tick) = process.core.poll_timeout() {
            let at = process.clock.when(tick).max(now + MICRO);
            if process.wake_at.is_none_or(|wake| at < wake) {
                process.wake_at = Some(at);
                self.at(at, Happening::Wake { node, life, at });
            }
        }
        Ok(())
    }

    /// Whether the workers work: at the end they do not, so that it becomes quiet.
    pub(super) fn is_working(&self) -> bool {
        self.working
    }

    fn is_quiet(&self) -> bool {
        let statuses =
            self.machines.each_ref().map(|m| m.process.as_ref().map(|p| p.core.status()));
        let [Some(a), Some(b)] = statuses else { return false };
        let pair = matches!(
            (a.standing, b.standing),
            (Standing::Primary, Standing::Backup) | (Standing::Backup, Standing::Primary)
        );
        let idle =
            self.machines.iter().all(|m| m.process.as_ref().is_some_and(|p| p.work.is_empty()));
        let all_sent = self.machines.iter().all(|m| m.region.packets.is_empty());
        let level = a.watermark == b.watermark && a.watermark >= self.ledger_last(&a, &b);
        pair && a.protected
            && b.protected
            && !a.undetermined
            && !b.undetermined
            && idle
            && all_sent
            && level
    }

    fn ledger_last(
        &self,
        a: &hotpair_replica::protocol::Status,
        b: &hotpair_replica::protocol::Status,
    ) -> Seq {
        let last = self.ledger.last_seq();
        if last.epoch() == a.epoch.max(b.epoch) { last } else { Seq::ZERO }
    }

    fn check_liveness(&self) -> Checked {
        let quiet = self.is_quiet();
        let describe = || {
            self.machines.each_ref().map(|m| {
                let status = m.process.as_ref().map(|p| p.core.status());
                (status, m.region.role, m.region.packets.len())
            })
        };
        ensure!(
            quiet,
            "healed, and still not a quiet pair: {:?} {:?}",
            describe(),
            self.ledger.newest()
        );
        let [a, b] = &self.machines;
        for (index, (x, y)) in a.region.slots.iter().zip(&b.region.slots).enumerate() {
            ensure!(x.value == y.value, "slot {index} differs at the end: {x:?}, {y:?}");
        }
        let mut missing = self.ledger.never_told(&a.region);
        missing.retain(|id| !self.ahead.was_told(*id));
        ensure!(missing.is_empty(), "commits {missing:?} are in the state and were never told");
        Ok(())
    }
}
