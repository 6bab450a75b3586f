//! Ports that do not wait: what they may lose, and when they must be silent.
//!
//! Every third commit emits to a sync port, to a bounded one, or to a local one. Sync ports are the
//! ledger's business, whatever the others do beside them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use hotpair_replica::protocol::{Bound, Config, Seq, Tick};

use super::ledger::{Checked, Violation, ensure};
use super::machine::Setup;
use super::net::MILLI;
use super::region::{KEPT_SLOTS, Region};
use super::rng::Rng;
use super::world::{Happening, World};

const BOUNDED: u8 = 1;
/// Longer than a silence, so that a back-up has to wait for the end of its promise.
const LEASE: Duration = Duration::from_millis(100);
/// What a batch holds at least for each packet.
const PACKET_BYTES: u64 = 40;
/// The slowest clock shows so many thousandths of the time that passes.
const SLOWEST: u64 = 950;

/// What the bounded port of both nodes may be ahead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// In nanoseconds of the primary's clock.
    age: u64,
    bytes: u64,
}

impl Bounds {
    pub(crate) fn draw(rng: &mut Rng) -> Bounds {
        // Some longer than the lease.
        Bounds { age: rng.pick(2 * MILLI..150 * MILLI), bytes: rng.pick(1_000..20_000) }
    }
}

/// Why a packet left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its commit was released.
    Released,
    /// It was allowed, and the lease lasted.
    Leased,
    /// Its port waits for nobody.
    Local,
}

/// A packet that left ahead of the acks.
#[derive(Clone, Copy, Debug)]
struct Told {
    id: u32,
    slot: u32,
    epoch: u16,
    gathered_at: u64,
}

/// What left ahead of the acks, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    pub(super) bounds: Option<Bounds>,
    gathered_at: HashMap<u32, u64>,
    told: Vec<Told>,
    /// By the epoch that began without them.
    lost: BTreeMap<u16, Vec<Told>>,
    local: Vec<(u32, u32, u16)>,
    all: HashSet<u32>,
    pub(crate) counts: AheadCounts,
}

/// How often the interesting things happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AheadCounts {
    /// Packets of bounded ports that left ahead of the acks.
    pub(crate) told: u64,
    /// Those of them that the next primary lacked.
    pub(crate) lost: u64,
    /// The most of them at once.
    pub(crate) lost_at_once: u64,
    /// Sent by the port of a dead process when there was another primary.
    pub(crate) after_death: u64,
    /// Packets of local ports that the next primary lacked.
    pub(crate) lost_local: u64,
}

impl AheadCounts {
    pub(crate) fn add(&mut self, more: AheadCounts) {
        self.told += more.told;
        self.lost += more.lost;
        self.lost_at_once = self.lost_at_once.max(more.lost_at_once);
        self.after_death += more.after_death;
        self.lost_local += more.lost_local;
    }
}

impl Setup {
    /// A pair with ports of all modes.
    pub(crate) fn modes() -> Setup {
        Setup { modes: true, ..Setup::default() }
    }
}

/// What the cores of such a pair are told.
pub(crate) fn configure(config: &mut Config, bounds: Bounds) {
    let age = Duration::from_nanos(bounds.age);
    config.bounds = vec![Bound { port: BOUNDED, age, bytes: bounds.bytes }];
    config.modes = 1;
    // The clocks of this world run more wrongly than any quartz.
    config.timing.clock_drift_per_mille = 100;
    config.timing.lease = LEASE;
}

/// The port to which a commit emits.
fn port_of(id: u32) -> u8 {
    (id % 3) as u8
}

impl Region {
    /// Whether a packet may leave when the port's clock shows `tick`, and why.
    pub(crate) fn way_out(&self, id: u32, seq: Seq, tick: Tick, modes: bool) -> Option<Way> {
        if seq <= self.released {
            return Some(Way::Released);
        }
        match port_of(id) {
            _ if !modes => None,
            BOUNDED => (seq <= self.allowed && tick < self.lease_until).then_some(Way::Leased),
            2 => Some(Way::Local),
            _ => None,
        }
    }
}

impl Ahead {
    pub(crate) fn on_gathered(&mut self, id: u32, now: u64) {
        self.gathered_at.insert(id, now);
    }

    /// Whether the outside knows of the commit, whatever becomes of it.
    pub(crate) fn was_told(&self, id: u32) -> bool {
        self.all.contains(&id)
    }

    fn is_lost(region: &Region, slot: u32, id: u32) -> bool {
        slot < KEPT_SLOTS && !region.holds(slot, id)
    }

    /// A node begins an epoch: what does it lack?
    pub(crate) fn on_primary(&mut self, epoch: u16, region: &Region) -> Checked {
        let (lost, kept) = self
            .told
            .iter()
            .partition(|told| told.epoch < epoch && Self::is_lost(region, told.slot, told.id));
        self.told = kept;
        self.lose(epoch, lost)?;
        let before = self.local.len();
        self.local
            .retain(|(id, slot, told_in)| *told_in >= epoch || !Self::is_lost(region, *slot, *id));
        self.counts.lost_local += (before - self.local.len()) as u64;
        Ok(())
    }

    /// P8: never more than the bounds.
    fn lose(&mut self, epoch: u16, more: Vec<Told>) -> Checked {
        let Some(Bounds { age, bytes }) = self.bounds else { return Ok(()) };
        self.counts.lost += more.len() as u64;
        let lost = self.lost.entry(epoch).or_default();
        lost.extend(more);
        let count = lost.len() as u64;
        self.counts.lost_at_once = self.counts.lost_at_once.max(count);
        ensure!(
            count * PACKET_BYTES <= bytes,
            "epoch {epoch} lacks {count} packets that were told ahead of the acks: {lost:?}"
        );
        let times = || lost.iter().map(|told| told.gathered_at);
        let spread = times().max().unwrap_or(0) - times().min().unwrap_or(0);
        ensure!(
            spread <= age * 1000 / SLOWEST,
            "epoch {epoch} lacks what was told ahead of the acks within {spread} ns: {lost:?}"
        );
        Ok(())
    }
}

impl World {
    /// What may leave ahead of the acks is there when the process dies, and its port lives.
    pub(super) fn lose_acks_and_die(&mut self, node: usize) {
        if self.ahead.bounds.is_none() {
            return;
        }
        let dies = self.now + self.rng.pick(5 * MILLI..40 * MILLI);
        self.net.cut_until[node] = dies + 5 * MILLI;
        self.machines[node].port_until = dies + self.rng.below(30 * MILLI);
        self.at(dies, Happening::Kill(node));
    }

    /// A packet left ahead of the acks.
    pub(super) fn on_ahead(&mut self, node: usize, way: Way, epoch: u16, id: u32) -> Checked {
        let slot = self.slot_of[id as usize];
        self.ahead.all.insert(id);
        if way == Way::Local {
            self.ahead.local.push((id, slot, epoch));
            return Ok(());
        }
        let Some(&gathered_at) = self.ahead.gathered_at.get(&id) else {
            return Err(Violation(format!("commit {id} was told before it was gathered")));
        };
        // G7 with a clock: only of a process that died may the ports go on for the rest of the lease.
        let life = self.machines[node].life;
        let alive = self.machines[node].process.is_some()
            && self.ledger.primary_of(epoch) == Some((self.machines[node].id, life));
        let newest = self.ledger.newest().filter(|newest| newest.epoch > epoch);
        ensure!(
            newest.is_none() || !alive,
            "node {node} tells of commit {id} in epoch {epoch} by a lease, but there is {newest:?}"
        );
        self.ahead.counts.after_death += u64::from(newest.is_some());
        self.ahead.counts.told += 1;
        let told = Told { id, slot, epoch, gathered_at };
        match self.ledger.began_without(epoch, id, slot) {
            Some(later) => self.ahead.lose(later, vec![told]),
            None => {
                self.ahead.told.push(told);
                Ok(())
            }
        }
    }
}
