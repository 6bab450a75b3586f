//! What holds between any two steps. The rules of `protocol/mod.rs` are looked at where they apply, so
//! that a broken one is seen when it breaks and not only once it has done harm.

use hotpair_replica::protocol::{Action, Body, Mode};

use super::ledger::{Checked, Violation, ensure};
use super::region::Role;
use super::world::World;

impl World {
    /// After every step.
    pub(super) fn check_step(&self) -> Checked {
        self.check_roles()?;
        if self.setup.mode == Mode::Sync && !self.setup.control.release_without_ack {
            self.check_released_is_held()?;
        }
        Ok(())
    }

    /// G7, seen from the regions.
    fn check_roles(&self) -> Checked {
        let [a, b] = self.machines.each_ref().map(|machine| machine.region.role);
        ensure!(a != b || !matches!(a, Role::Primary(_)), "both regions have the role {a:?}");
        for machine in &self.machines {
            let region = &machine.region;
            if let Some(seq) = region.misfit {
                ensure!(
                    false,
                    "node {} was sent a patch at {seq} for what it does not have",
                    machine.id
                );
            }
            if let Role::Primary(epoch) = region.role {
                ensure!(
                    region.released <= region.commit_seq && region.commit_seq.epoch() == epoch,
                    "node {} released {} of {} in epoch {epoch}",
                    machine.id,
                    region.released,
                    region.commit_seq
                );
            }
        }
        Ok(())
    }

    /// P1: as long as the view names a back-up, its region holds all that its primary released,
    /// whether or not a process is there to say so.
    fn check_released_is_held(&self) -> Checked {
        let Some(view) = self.ledger.newest().filter(|view| !view.is_solo()) else { return Ok(()) };
        let [a, b] = &self.machines;
        let (primary, backup) = if a.id == view.primary { (a, b) } else { (b, a) };
        if !view.has(primary.member())
            || !view.has(backup.member())
            || primary.region.role != Role::Primary(view.epoch)
        {
            return Ok(()); // the primary is yet to begin, or a region is gone
        }
        let (released, applied) = (primary.region.released, backup.region.applied);
        ensure!(
            backup.region.role == Role::Backup && released <= applied,
            "{view:?}, but node {} released {released} and node {}, {:?}, has applied {applied}",
            primary.id,
            backup.id,
            backup.region.role
        );
        Ok(())
    }

    /// P2: a node whose compare-and-set is without answer releases nothing and acks nothing.
    pub(super) fn check_said(&self, node: usize, action: &Action) -> Checked {
        let release = matches!(action, Action::Release(_));
        ensure!(!release || !self.is_undetermined(node), "node {node} releases, undetermined");
        Ok(())
    }

    pub(super) fn check_sent(&self, node: usize, body: &Body) -> Checked {
        let ack = matches!(body, Body::Datagram(_));
        ensure!(!ack || !self.is_undetermined(node), "node {node} acks, undetermined");
        Ok(())
    }

    fn is_undetermined(&self, node: usize) -> bool {
        let process = self.machines[node].process.as_ref();
        process.is_some_and(|process| process.core.status().undetermined)
    }
}
