//! Changing the region's role when the core says so: quiet first, then the word.

use std::time::Duration;

use hotpair_shm::{Holdout, Reaper, Region};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::table::Table;
use crate::protocol::Seq;
use crate::wire::EpochStart;

/// The kernel marks the death of what was killed within a millisecond or so; longer than this it does
/// not, and the supervisor would take this node for stuck.
const DYING: Duration = Duration::from_millis(500);

/// Becomes primary of an epoch. Returns how many packets are sent again.
pub(super) fn become_primary(table: &mut Table, start: EpochStart, patience: Duration) -> usize {
    let (region, epoch) = (table.region().clone(), start.epoch);
    quieten(&region, epoch, patience);
    table.begin_epoch(start);
    let again = table.prepare_to_serve();
    region.become_primary(epoch);
    table.serve();
    again
}

/// Becomes a back-up of `epoch` with the state that it had at `since`, or with none; `before` sees the state that is
/// about to go. The slots that were changed after `since`.
pub(super) fn become_backup(
    table: &mut Table,
    epoch: u16,
    since: Option<Seq>,
    patience: Duration,
    before: impl FnOnce(&Region),
) -> Vec<u32> {
    let region = table.region().clone();
    quieten(&region, epoch, patience);
    end_readings(&region, patience);
    reap(&region);
    before(&region);
    let changed = table.rewind(since);
    region.become_backup(epoch);
    changed
}

/// Finishes what the dead had decided: a slot that still changes cannot be told to have changed. The node's own
/// reaper may be at it, so this takes turns with it.
fn reap(region: &Region) {
    let begun = std::time::Instant::now();
    let mut reaper = Reaper::new(region.clone());
    while begun.elapsed() < DYING {
        reaper.run_once();
        if reaper.has_handed_on() {
            return;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let everybody = region.participants().into_iter();
    let left: Vec<_> = everybody.map(|one| (one.seat, one.name, one.pid, one.alive)).collect();
    tracing::error!(
        ?left,
        "what the dead had decided is not finished within {DYING:?} (seat, name, pid, alive)"
    );
}

/// Before the region is emptied: waits until nobody reads a value in place; kills who does not let go.
pub(super) fn end_readings(region: &Region, patience: Duration) {
    kill_holdouts(
        region.quiesce_readers(patience),
        patience,
        "it read a value of a region to be emptied",
    );
    let left = region.quiesce_readers(DYING);
    if !left.is_empty() {
        tracing::error!(?left, "somebody reads values of a region to be emptied");
    }
}

/// Takes the primary role from the region: nothing begins, nothing leaves.
pub(super) fn fence(table: &Table) {
    let region = table.region();
    region.become_fenced(region.role().epoch());
}

/// Leaves the present role and waits for whoever holds something of it; kills who does not let go.
pub(super) fn quieten(region: &Region, epoch: u16, patience: Duration) {
    region.begin_change(epoch);
    kill_holdouts(region.quiesce(patience), patience, "it held on to an older role");
    // Counts as quiet from the kernel's notice on: the dead hold nothing that moves.
    let left = region.quiesce(DYING);
    if !left.is_empty() {
        tracing::error!(?left, "somebody holds on to an older role");
    }
}

fn kill_holdouts(left: Vec<Holdout>, patience: Duration, why: &str) {
    for Holdout { seat, pid } in left {
        if pid == std::process::id() {
            // In tests, participants live in this very process.
            tracing::error!(seat, "not killed, since it is this very process: {why}");
            continue;
        }
        tracing::warn!(seat, pid, ?patience, "killed: {why}");
        if let Ok(pid) = i32::try_from(pid) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
