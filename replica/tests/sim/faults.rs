//! What goes wrong, and how often.

use hotpair_replica::protocol::{Testimony, View};

use super::ledger::Checked;
use super::net::MILLI;
use super::world::{Happening, World};

impl World {
    /// One fault, drawn from the seed. The pair is never asked to survive what no pair can: a host
    /// is lost with its region only if the other's region is in sync.
    pub(super) fn fault(&mut self) -> Checked {
        let node = self.rng.below(2) as usize;
        match self.rng.below(23) {
            0 | 1 => self.kill_process(node, false),
            2 | 3 => self.kill_process(node, true),
            4 => {
                self.lose_host(node);
            }
            5 => self.pause(node),
            6 => {
                let until = self.now + self.rng.pick(MILLI..400 * MILLI);
                self.trace(|| format!("cut towards node {node}"));
                self.net.cut_until[node] = until;
            }
            7 => {
                let until = self.now + self.rng.pick(10 * MILLI..400 * MILLI);
                self.trace(|| "cut both ways".to_owned());
                self.net.cut_until = [until; 2];
            }
            8 => {
                let until = self.now + self.rng.pick(MILLI..600 * MILLI);
                self.trace(|| format!("node {node} does not reach the arbiter"));
                self.net.arbiter_cut_until[node] = until;
            }
            9 => {
                let until = self.now + self.rng.pick(MILLI..500 * MILLI);
                self.trace(|| "the arbiter is away".to_owned());
                self.net.arbiter_cut_until = [until; 2];
            }
            10 => self.break_connection(),
            11 => {
                // Both at once, or nearly: whoever is back first may have to go on alone.
                self.kill_process(node, true);
                let soon = self.now + self.rng.below(20 * MILLI);
                self.at(soon, Happening::Kill(1 - node));
            }
            12 => {
                let until = self.now + self.rng.below(200 * MILLI);
                self.machines[node].port_until = until;
                self.lose_acks_and_die(node);
            }
            13 if self.rng.chance(40) => self.lose_disk(),
            13 | 14 => self.net.loss_percent = self.rng.below(31),
            15 => self.pause_side(node),
            16 => self.change_latency(),
            // A bounded port relies on the kernel's word; see P8.
            17 if !self.setup.modes => self.false_notice(node),
            18..=21 => self.deaths.set_trap(node, &mut self.rng),
            _ => {
                // A false suspicion: something delayed the heartbeats alone.
                if let Some(process) = &mut self.machines[node].process {
                    process.heard_at = process.heard_at.saturating_sub(200 * MILLI);
                }
            }
        }
        Ok(())
    }

    /// The node's process dies; with its side, the workers and ports do too.
    pub(super) fn kill_process(&mut self, node: usize, side: bool) {
        if self.machines[node].process.is_none() {
            return;
        }
        self.trace(|| format!("node {node} killed{}", if side { ", with its side" } else { "" }));
        self.machines[node].process = None;
        let quick = self.rng.chance(50);
        let back = self.rng.pick(2 * MILLI..if quick { 60 } else { 900 } * MILLI);
        let back = self.now + back;
        if side {
            self.machines[node].workers_until = back;
            self.machines[node].port_until = back;
        }
        self.after_death(node, back);
    }

    /// Whether it was, for some cannot be spared.
    pub(super) fn lose_host(&mut self, node: usize) -> bool {
        let other = self.machines[1 - node].member();
        let learned = self.learned();
        let newest = self.ledger.newest().filter(|newest| newest.number <= learned);
        let spared = newest.is_some_and(|view| view.has(other))
            && self.machines[1 - node].setting == 0
            && self.machines[node].setting == 0
            && !self.arbiter.has_forgotten();
        if !spared {
            return false;
        }
        self.trace(|| format!("host {node} lost, with its region"));
        let incarnation = self.rng.next();
        let machine = &mut self.machines[node];
        machine.process = None;
        machine.region = super::region::Region::new(incarnation);
        self.counts.hosts_lost += 1;
        let back = self.now + self.rng.pick(5 * MILLI..700 * MILLI);
        self.after_death(node, back);
        true
    }

    /// The newest view of which a region knows: that one outlives the arbiter's disk.
    fn learned(&self) -> u64 {
        let pasts = self.machines.iter().filter_map(|machine| machine.region.past);
        pasts.map(|past| past.view).max().unwrap_or(0)
    }

    /// The arbiter starts again without its disk, or with an old copy of it.
    fn lose_disk(&mut self) {
        if self.ahead.bounds.is_some() {
            return; // the subject of other runs
        }
        let newest = self.ledger.newest();
        // With the host of the only one that knew of an admission the pair is lost, whatever is done.
        let learned = self.learned();
        let left = self.ledger.views.iter().rfind(|view| view.number <= learned);
        if left.is_some_and(|view| !self.machines.iter().any(|m| view.has(m.member()))) {
            return;
        }
        let knows = |node| newest.is_some_and(|v| self.testimony(node) == Testimony::Known(v));
        // An old copy is found out by whoever knows better, if that one asks before others believe it.
        let copy = match self.ledger.views.len() as u64 {
            views if views > 0 && knows(0) && knows(1) && self.rng.chance(30) => {
                Some(self.ledger.views[self.rng.below(views) as usize])
            }
            _ => None,
        };
        // Nor does a pair survive that the last who knew of a view went just before the disk did.
        let remembered = self.ledger.views.iter().rfind(|view| view.number <= self.learned());
        let survives = |view: &View| self.machines.iter().any(|machine| view.has(machine.member()));
        if !remembered.is_none_or(survives) {
            return;
        }
        self.ledger.on_disk_lost(self.learned());
        self.trace(|| format!("the arbiter lost its disk: {copy:?}"));
        self.arbiter.lose_disk(copy);
        self.counts.disks_lost += 1;
    }

    /// What the nodes cannot agree on by themselves, an operator who knows everything decides: whose
    /// state counts. The other node is stopped first.
    pub(super) fn decide_for_the_arbiter(&mut self) {
        let Some(newest) = self.ledger.newest().filter(|_| self.arbiter.has_forgotten()) else {
            return;
        };
        let holds = |node: &usize| newest.has(self.machines[*node].member());
        let was_primary = |node: &usize| newest.primary == self.machines[*node].id;
        let chosen = (0..2).find(|node| holds(node) && was_primary(node));
        let Some(chosen) = chosen.or_else(|| (0..2).find(holds)) else { return };
        self.trace(|| format!("the operator believes node {chosen}"));
        self.kill_process(1 - chosen, false);
        self.arbiter.believe(self.machines[chosen].id);
        self.operator_decided = true;
        self.counts.decided += 1;
    }

    fn after_death(&mut self, node: usize, back: u64) {
        self.at(back, Happening::Start(node));
        let peer = 1 - node;
        let life = self.machines[peer].life;
        if self.rng.chance(70) {
            let at = self.now + self.rng.pick(MILLI / 10..2 * MILLI);
            self.at(at, Happening::Dead { at_node: peer, life });
        }
        self.break_connection();
    }

    /// No more faults, and what was cut is whole.
    pub(super) fn heal(&mut self) {
        self.trace(|| "healed".to_owned());
        self.at(self.now + 1_500 * MILLI, Happening::Operator);
        self.net.cut_until = [self.now; 2];
        self.net.arbiter_cut_until = [self.now; 2];
        self.net.loss_percent = 0;
        self.net.latency = [0; 2];
        self.deaths.disarm();
        self.slow_percent = 5;
        for machine in &mut self.machines {
            machine.workers_until = self.now;
            machine.port_until = self.now;
        }
    }
}
