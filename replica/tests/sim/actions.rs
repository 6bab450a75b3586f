//! Carrying out what a core asks of its host, and checking the outcome.

use hotpair_replica::protocol::{Action, Cause, Event, Resync};
use hotpair_replica::wire::Standing;

use super::boundary::{Side, Step};
use super::ledger::{Checked, Violation, ensure};
use super::machine::{HostFlaw, Machine};
use super::region::Role;
use super::world::World;

impl World {
    pub(super) fn carry_out(&mut self, node: usize, action: Action) -> Checked {
        let step = Step::of_action(&action);
        if self.dies(node, Side::Before, step) {
            return Ok(());
        }
        let now = self.now;
        let life = self.machines[node].life;
        let id = self.machines[node].id;
        let Machine { region, process: Some(process), flaw, .. } = &mut self.machines[node] else {
            return Ok(());
        };
        let tick = process.clock.tick(now);
        match action {
            Action::BecomePrimary { start } => {
                let end = region.applied.max(region.commit_seq);
                ensure!(start.base <= end.raw(), "{start:?} begins with a state of {end}");
                region.become_primary(start);
                self.machines[node].handed_over = self.compare_at_hand_over(node, start.epoch);
                let region = &self.machines[node].region;
                self.ledger.on_primary(start.epoch, id, life, region)?;
                self.ahead.on_primary(start.epoch, region)?;
                self.counts.promotions += 1;
            }
            Action::BecomeBackup { epoch, since, receipt, .. } => {
                let changed = region.become_backup(epoch, since);
                process.core.handle_rewound(tick, receipt, &changed);
            }
            Action::Whole { epochs } => region.become_whole(epochs),
            Action::Distrust => region.epochs.clear(),
            Action::Fence => self.machines[node].fence(),
            Action::Drain => region.begin_drain(),
            Action::Resume { epoch } => {
                region.resume(epoch);
                self.machines[node].gave_up = Some(epoch);
            }
            Action::Release(seq) => {
                ensure!(seq >= region.released, "released goes from {} to {seq}", region.released);
                region.released = seq;
            }
            Action::Allow { upto, .. } => region.allowed = upto,
            Action::ExtendLease(until) => region.lease_until = until,
            Action::SetGathering { required } => region.gathering_required = required,
            Action::StartSnapshot { since, also } => {
                self.machines[node].start_copying(since, also);
            }
            Action::StopSnapshot => process.copying = None,
            Action::ApplyBatch(batch, receipt) => {
                region.apply(batch.view(), false);
                region.set_applied(batch.last);
                let digest = batch.digest.map(|_| region.digest());
                process.core.handle_applied(tick, receipt, digest);
                let status = process.core.status();
                if status.protected && status.standing == Standing::Backup {
                    self.check_prefix(node, status.epoch)?;
                }
            }
            Action::ApplyChunk(chunk, receipt) => {
                region.apply(chunk.view(), *flaw != Some(HostFlaw::EqualCopyWins));
                process.core.handle_applied(tick, receipt, None);
            }
            Action::Disconnect { connection, retry_after } => {
                process.retry_from = now + retry_after.as_nanos() as u64;
                if self.net.connection.as_ref().is_some_and(|c| c.id == connection) {
                    self.break_connection();
                }
            }
            Action::Event(event) => self.on_event(node, event)?,
        }
        self.dies(node, Side::After, step);
        Ok(())
    }

    pub(super) fn check_prefix(&mut self, node: usize, epoch: u16) -> Checked {
        self.counts.checked += 1;
        let [a, b] = &self.machines;
        let (backup, primary) = if node == 0 { (a, b) } else { (b, a) };
        let primary = (primary.region.role == Role::Primary(epoch)).then_some(&primary.region);
        self.ledger.check_prefix(epoch, &backup.region, primary)
    }

    pub(super) fn on_event(&mut self, node: usize, event: Event) -> Checked {
        self.trace(|| format!("node {node}: {event:?}"));
        match event {
            Event::ViewChanged { to, .. } => {
                self.machines[node].region.note_view(0, to.number);
                self.ledger.on_learned(to)?;
            }
            Event::Solo { .. } => self.counts.solos += 1,
            Event::Admitted { .. } => self.counts.admissions += 1,
            Event::Superseded { .. } => self.counts.superseded += 1,
            Event::Undetermined { .. } => self.counts.undetermined += 1,
            Event::Resumed { .. } => self.counts.resumed += 1,
            Event::TransferStopped => self.counts.transfers_stopped += 1,
            Event::TransferStarted { resync, .. } => match resync {
                Resync::Incremental => self.counts.incremental += 1,
                Resync::Union => self.counts.union += 1,
                Resync::Full => self.counts.full += 1,
            },
            Event::Promoted { cause: Cause::Planned, .. } => self.on_handed_over(node)?,
            Event::HandOverEnded { .. } => self.counts.hand_overs_ended += 1,
            Event::DigestDiffers { .. } | Event::Fault(_) | Event::Refused { .. } => {
                return Err(Violation(format!("node {node}: {event:?}")));
            }
            _ => {}
        }
        Ok(())
    }
}
