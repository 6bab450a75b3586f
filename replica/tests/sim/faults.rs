//! What goes wrong, and how often.

use super::ledger::Checked;
use super::net::MILLI;
use super::world::{Happening, World};

impl World {
    /// One fault, drawn from the seed. The pair is never asked to survive what no pair can: a host
    /// is lost with its region only if the other's region is in sync.
    pub(super) fn fault(&mut self) -> Checked {
        let node = self.rng.below(2) as usize;
        match self.rng.below(15) {
            0 | 1 => self.kill_process(node, false),
            2 | 3 => self.kill_process(node, true),
            4 => self.lose_host(node),
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
            }
            13 => self.net.loss_percent = self.rng.below(30),
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

    fn lose_host(&mut self, node: usize) {
        let other = &self.machines[1 - node];
        let spared = self.arbiter.view.is_some_and(|view| view.has(other.member()))
            && other.setting == 0
            && self.machines[node].setting == 0;
        if !spared {
            return;
        }
        self.trace(|| format!("host {node} lost, with its region"));
        let incarnation = self.rng.next();
        let machine = &mut self.machines[node];
        machine.process = None;
        machine.region = super::region::Region::new(incarnation);
        self.counts.hosts_lost += 1;
        let back = self.now + self.rng.pick(5 * MILLI..700 * MILLI);
        self.after_death(node, back);
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

    fn pause(&mut self, node: usize) {
        let until = self.now + self.rng.pick(MILLI..500 * MILLI);
        if let Some(process) = &mut self.machines[node].process {
            // Never shorter than before: what waits for the end of a pause has to stay in order.
            process.paused_until = process.paused_until.max(until);
            self.trace(|| format!("node {node} paused"));
        }
    }

    /// No more faults, and what was cut is whole.
    pub(super) fn heal(&mut self) {
        self.trace(|| "healed".to_owned());
        self.net.cut_until = [self.now; 2];
        self.net.arbiter_cut_until = [self.now; 2];
        self.net.loss_percent = 0;
        self.slow_percent = 5;
        for machine in &mut self.machines {
            machine.workers_until = self.now;
            machine.port_until = self.now;
        }
    }
}
