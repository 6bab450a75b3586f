//! Planned changes of roles: at random times, under all faults; and what one owes that nothing disturbs.

use std::time::Duration;

use hotpair_replica::protocol::Tick;

use super::ledger::{Checked, Violation, ensure};
use super::machine::{Machine, Process};
use super::net::MILLI;
use super::region::{Region, Role};
use super::rng::Rng;
use super::world::{Happening, World};

impl Region {
    /// The epoch whose commits are gathered.
    pub(super) fn gathers(&self) -> Option<u16> {
        match self.role {
            Role::Primary(epoch) | Role::Draining(epoch) | Role::Quiet(epoch) => Some(epoch),
            Role::Empty | Role::Backup | Role::Fenced => None,
        }
    }

    pub(super) fn begin_drain(&mut self) {
        if let Role::Primary(epoch) = self.role {
            self.role = Role::Draining(epoch);
        }
    }

    pub(super) fn resume(&mut self, epoch: u16) {
        self.role = Role::Primary(epoch);
    }
}

impl Machine {
    pub(super) fn fence(&mut self) {
        let still = matches!(self.region.role, Role::Quiet(_));
        self.left_behind = still.then(|| self.region.clone());
        self.region.role = Role::Fenced;
    }
}

/// The host's part, after a turn of gathering in which everything was offered: it is quiet at some time. There may be
/// packets left, which the successor sends for the first time.
pub(super) fn drain(region: &mut Region, process: &mut Process, tick: Tick, rng: &mut Rng) {
    match region.role {
        Role::Draining(epoch) if rng.one_in(3) => region.role = Role::Quiet(epoch),
        _ => return,
    }
    process.core.handle_drained(tick, region.commit_seq);
}

impl World {
    /// Somebody asks one of the nodes, while the faults last and a little longer.
    pub(super) fn want_hand_over(&mut self) -> Checked {
        let next = self.now + self.rng.pick(10 * MILLI..200 * MILLI);
        if self.is_working() {
            self.at(next, Happening::HandOver);
        }
        let node = self.rng.below(2) as usize;
        if !self.machines[node].is_up(self.now) {
            return Ok(());
        }
        let within = Duration::from_nanos(self.rng.pick(5 * MILLI..300 * MILLI));
        self.trace(|| format!("node {node} is asked to change roles within {within:?}"));
        self.with_core(node, |core, tick, _| {
            let _ = core.handle_hand_over(tick, within);
        });
        self.pump(node)
    }

    /// A node becomes primary. If the one before it still stands still, nothing disturbed them: then nothing is lost,
    /// released or not, and nothing that left is sent again. Counts if that one wanted it.
    pub(super) fn compare_at_hand_over(&self, node: usize, epoch: u16) -> Option<Checked> {
        let (new, old) = (&self.machines[node].region, &self.machines[1 - node]);
        if old.gave_up == Some(epoch - 1) {
            return None;
        }
        let stood_still = |region: &&Region| region.role == Role::Quiet(epoch - 1);
        let old = Some(&old.region).filter(stood_still).or(old.left_behind.as_ref())?;
        stood_still(&old).then(|| self.compare(new, old))
    }

    fn compare(&self, new: &Region, old: &Region) -> Checked {
        for (index, (new, old)) in new.slots.iter().zip(&old.slots).enumerate() {
            ensure!(
                new.value == old.value,
                "slot {index} was handed over as {new:?}, there was {old:?}"
            );
        }
        for (place, id) in &new.packets {
            // What left under a primary that died before it said so is unsent to its successor, and to the next one.
            let known = !old.packets.contains_key(place) && self.ledger.was_told(*id);
            ensure!(!known, "packet {id} left, and was handed over as unsent");
        }
        let handed: Vec<_> = new.packets.keys().collect();
        let had: Vec<_> = old.packets.keys().collect();
        ensure!(handed == had, "unsent packets {handed:?} were handed over, there were {had:?}");
        Ok(())
    }

    /// The primary wanted it.
    pub(super) fn on_handed_over(&mut self, node: usize) -> Checked {
        self.counts.hand_overs += 1;
        let Some(compared) = self.machines[node].handed_over.take() else { return Ok(()) };
        self.counts.hand_overs_clean += 1;
        compared
    }
}
