//! Promotion by hand, and a pair without an arbiter.
//!
//! Without a third place each node keeps the view in a register of its own (`Config::by_hand`). Then nobody can tell a peer
//! that is dead from one that is out of reach, so:
//!
//! * a primary goes solo and admits by its own register, by itself;
//! * a node that starts goes on alone by itself only if the newest view that it knows names it alone, and its peer, if it is
//!   there, does not serve;
//! * node `first` founds by itself when its peer is there and is as new as it is;
//! * nobody is promoted by itself: [`Core::handle_promote`] is a person's order.
//!
//! # Which of two views is newer
//! Under an arbiter the one with the higher number: there is one sequence of views. Without one the two registers may go on
//! apart, and their numbers say nothing about each other. Then the higher epoch wins, and within an epoch, which has one
//! primary and so one sequence, the higher number. There is no tie: **a node begins only epochs of its own parity**, above
//! each that it knows of, so no order whatsoever brings about two primaries of one epoch. Whoever meets a newer view is
//! fenced by it.

use std::time::Duration;

use super::action::{Cause, Event};
use super::asking::Wish;
use super::backup::Backup;
use super::config::Past;
use super::core::{Core, Role};
use super::ids::Tick;
use super::planned::Declined;
use super::view::View;
use crate::wire::Standing;

/// What the number of a pair's first view is ahead of the last one that its founder knows, where an operator
/// lets it begin again: the other node may know of later ones, and must not take the arbiter's record for an
/// old copy. More than a pair changes its view in its life.
const BEGUN_AGAIN: u64 = 1 << 32;

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) force: bool,
    pub(super) until: Tick,
}

/// What an order to promote leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promoting {
    /// It is primary.
    Already,
    /// The primary was asked to hand over; see [`Core::handle_hand_over`].
    HandOver,
    /// The view is asked for: [`Event::Promoted`], [`Event::PromotionEnded`], or nothing in time.
    Asking,
}

impl Core {
    /// A person wants this node to be primary, within this time. Without `force` it is declined where it could make two
    /// primaries, or lose what was released. The arbiter is asked in any case.
    pub fn handle_promote(
        &mut self,
        now: Tick,
        force: bool,
        within: Duration,
    ) -> Result<Promoting, Declined> {
        if matches!(self.role, Role::Primary(_)) {
            return Ok(Promoting::Already);
        }
        let served = self.is_served();
        let in_step = matches!(&self.role, Role::Backup(backup) if backup.is_complete())
            && self.view.is_some_and(|view| self.is_member_of(&view));
        if served && in_step && !force {
            return self.handle_hand_over(now, within).map(|()| Promoting::HandOver);
        }
        self.wake(now);
        let allowed = self.may_promote(force);
        if allowed.is_ok() {
            self.planned.order = Some(Order { force, until: now.after(within) });
        }
        self.settle(now);
        allowed.map(|()| Promoting::Asking)
    }

    fn may_promote(&self, force: bool) -> Result<(), Declined> {
        let follows = match &self.role {
            Role::Backup(backup) if !backup.is_complete() => return Err(Declined::NotWhole),
            Role::Backup(_) => true,
            _ => false,
        };
        if self.unsound {
            return Err(Declined::NotWhole);
        }
        if force {
            return Ok(());
        }
        let view = self.view.ok_or(Declined::NoView)?;
        if !self.is_member_of(&view) || matches!(self.role, Role::Joining) {
            return Err(Declined::NotInSet);
        }
        if self.is_served() {
            return Err(Declined::PeerServes);
        }
        let dead = self.dead.is_some() && self.planned.died_in_touch && follows;
        // Who is there and says that it does not serve goes by the view that it is told.
        let idle = self.peer().is_some_and(|peer| peer.standing != Standing::Primary)
            && self.detected().is_none();
        let harmless = view.member(self.config.peer).is_none() || idle || dead;
        // An arbiter knows better than any of this.
        if self.config.by_hand && !harmless { Err(Declined::MayBePrimary) } else { Ok(()) }
    }

    fn is_served(&self) -> bool {
        let peer = self.peer().filter(|_| self.detected().is_none());
        peer.is_some_and(|peer| peer.standing == Standing::Primary)
    }

    /// The kernel's notice comes. A primary that lost its back-up may have gone on alone before it died, but not within
    /// the time that it waits for a sign of life.
    pub(super) fn note_death(&mut self, now: Tick) {
        let timing = &self.config.timing;
        let wait = timing.proof_of_life.min(timing.reconnect_wait);
        self.planned.died_in_touch = self.is_served() && now.since(self.heard_at) < wait;
    }

    /// An order that makes no sense any more is dropped, unless its request is on its way.
    pub(super) fn settle_order(&mut self, now: Tick) {
        self.tell_of_waiting();
        let Some(order) = self.planned.order else { return };
        if matches!(self.role, Role::Primary(_)) {
            self.planned.order = None;
        } else if self.is_undetermined() {
            // It is too late to take it back.
        } else if now >= order.until {
            self.planned.order = None;
            self.event(Event::PromotionEnded { why: Declined::NotTaken });
        } else if let Err(why) = self.may_promote(order.force) {
            self.planned.order = None;
            self.event(Event::PromotionEnded { why });
        }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.planned.order.is_some()
    }

    pub(super) fn is_forced(&self) -> bool {
        self.planned.order.is_some_and(|order| order.force)
    }

    /// What a back-up wants whose state is whole.
    pub(super) fn wanted_backup(&self, now: Tick, backup: &Backup) -> Option<Wish> {
        let asked = if self.is_invited(backup) {
            Some(Cause::Planned)
        } else {
            self.is_ordered().then_some(Cause::Ordered)
        };
        let alone = self.backup_suspicion(backup).filter(|_| !self.config.by_hand);
        // A promise that an ack gave holds whatever the reason (P8).
        let free = |cause: &Cause| !self.is_bound(now, *cause);
        alone.filter(free).or(asked.filter(free)).map(Wish::Promote)
    }

    /// What a node wants that starts, knows the view, and has no arbiter.
    pub(super) fn wanted_starting_by_hand(&self, now: Tick, view: &View) -> Wish {
        let alone = view.member(self.config.peer).is_none();
        let reached = self.peer().is_some() && self.detected().is_none();
        let waited = now.since(self.started) >= self.config.timing.takeover_wait;
        let goes_on = alone && (reached || waited) && !self.is_served();
        if self.is_ordered() || goes_on { Wish::StartAlone } else { Wish::Look }
    }

    /// Whether this node may found the pair by itself, without an arbiter that knows of both.
    pub(super) fn may_found_by_hand(&self) -> bool {
        let peer_is_new = self.peer().is_some_and(|peer| {
            peer.view.is_none() && peer.epoch == 0 && peer.standing != Standing::Primary
        });
        self.config.first && self.config.past.is_none() && peer_is_new
    }

    /// Somebody has to be told that nothing goes on by itself.
    fn tell_of_waiting(&mut self) {
        let bereft = match &self.role {
            Role::Backup(backup) => backup.is_complete() && self.backup_suspicion(backup).is_some(),
            Role::Starting => self.looked,
            _ => false,
        };
        let view = self.view.filter(|view| {
            self.config.by_hand && bereft && self.is_member_of(view) && !view.is_solo()
        });
        let waits = view.is_some() && !self.is_ordered() && !self.is_undetermined();
        if let Some(view) = view.filter(|_| waits && !self.planned.wait_told) {
            self.event(Event::WaitsForOrder { view });
        }
        self.planned.wait_told = waits;
    }

    /// And that nobody can, since no state is left that the view names. A peer that is not heard is given some time.
    pub(super) fn tell_of_nothing(&mut self, now: Tick) {
        let view = self.view.filter(|view| {
            let outside = !self.is_member_of(view) || self.unsound;
            matches!(self.role, Role::Joining) && outside && !self.is_served()
        });
        let wait = self.config.timing.takeover_wait * 3;
        let bereft = view.and_then(|view| match (view.member(self.config.peer), self.peer()) {
            (None, _) => Some((view, false)),
            (Some(named), Some(peer)) => {
                (named.incarnation != peer.incarnation).then_some((view, false))
            }
            (Some(_), None) => (now.since(self.apart_since) >= wait).then_some((view, true)),
        });
        if let Some((view, awaited)) = bereft.filter(|_| !self.planned.nothing_told) {
            self.event(Event::NothingToStartFrom { view, awaited });
        }
        self.planned.nothing_told = bereft.is_some();
    }

    /// The epoch to begin after this one.
    pub(super) fn epoch_after(&self, epoch: u16) -> Option<u16> {
        if !self.config.by_hand {
            return epoch.checked_add(1);
        }
        let known = self.config.past.map_or(0, |past| past.epoch).max(epoch);
        let next = known.checked_add(1)?;
        let mine = next % 2 == u16::from(self.config.node.0 % 2);
        if mine { Some(next) } else { next.checked_add(1) }
    }

    /// Whether `view` is newer than `known`.
    pub(super) fn is_newer(&self, view: &View, known: &View) -> bool {
        if self.config.by_hand { view.rank() > known.rank() } else { view.number > known.number }
    }

    /// Whether a view that became known decides a request that expected one and wanted another.
    pub(super) fn is_decided_by(&self, view: &View, expected: u64, wanted: &View) -> bool {
        if self.config.by_hand {
            // The register is this node's own: nothing that becomes known elsewhere is in its way.
            !self.is_newer(wanted, view)
        } else {
            // The number it wanted to replace is gone, so nothing of it can land any more.
            view.number > expected
        }
    }

    /// The newer of what a register says and what this node knows; an arbiter is taken at its word.
    pub(super) fn newest_of(&self, current: Option<View>) -> Option<View> {
        match (current, self.view) {
            (Some(current), Some(known)) if self.config.by_hand => {
                Some(if self.is_newer(&known, &current) { known } else { current })
            }
            (None, known) if self.config.by_hand => known,
            (current, _) => current,
        }
    }

    /// The first view there is, or was for all that is known.
    pub(super) fn first_view(&self) -> Option<View> {
        let past = self.config.past.unwrap_or(Past { epoch: 0, view: 0 });
        let heard = self.view.map_or((0, 0), |view| (view.number, view.epoch));
        let number = match past.view.max(heard.0) {
            number if number == 0 || self.config.by_hand => number.checked_add(1)?,
            number => number.checked_add(BEGUN_AGAIN)?,
        };
        let epoch = self.epoch_after(past.epoch.max(heard.1))?;
        Some(View::alone(number, epoch, self.this()))
    }

    /// The epoch that a hello bears: without an arbiter a node that starts says of which it has commits.
    pub(super) fn epoch_told(&self) -> u16 {
        match self.role {
            Role::Starting if self.config.by_hand => self.config.past.map_or(0, |past| past.epoch),
            _ => self.epoch(),
        }
    }
}
