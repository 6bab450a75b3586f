//! A planned change of roles: the primary stops on purpose, hands over all it has, and loses and doubles nothing.
//!
//! ```text
//!   primary                                                       back-up
//!   Draining  nothing is read any more, what is here is finished
//!      │ the host: quiet, all offered
//!   Closing   the last batch is on its way
//!      │ acknowledged: commits, packets, and which of them left
//!   Offered ─────────────────────── Ready ──────────────────────► asks the arbiter, as ever (P3)
//!      │ superseded: fenced, comes back as back-up   ◄── its view ──┘
//!      └ or late, or the back-up is lost: Withdrawn, and it serves on in the same epoch
//! ```
//!
//! No rule is added: the back-up stops acking before it asks, and acks are the fence. A primary that gave up while the
//! back-up's request was on its way is superseded like any other.
//!
//! Either node may be asked: a back-up passes the wish on.

use std::time::Duration;

use super::action::{Action, Event};
use super::backup::Backup;
use super::config::{Mode, Mutation};
use super::core::{Core, Role};
use super::ids::{ConnectionId, Seq, Tick};
use super::primary::{Link, Primary};
use crate::wire::{self, HandOver, Outgoing, Standing};

/// A hand-over may take so long at most: the service stands still meanwhile.
const WITHIN_MAX: Duration = Duration::from_secs(600);

/// What is remembered of wishes and orders to change roles.
#[derive(Debug, Default)]
pub(super) struct Planned {
    plan: Option<Plan>,
    offer: Option<Offer>,
    pub(super) order: Option<super::by_hand::Order>,
    /// The peer's death was announced while it was there.
    pub(super) died_in_touch: bool,
    pub(super) wait_told: bool,
    /// The same of a view that leads to nothing.
    pub(super) nothing_told: bool,
}

/// A primary's way out.
#[derive(Clone, Copy, Debug)]
struct Plan {
    epoch: u16,
    until: Tick,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Draining,
    /// Quiet up to here; the table that ends with it, once it is closed.
    Closing {
        through: Seq,
        table: Option<u64>,
    },
    Offered,
}

/// What a back-up was asked for.
#[derive(Clone, Copy, Debug)]
struct Offer {
    connection: ConnectionId,
    epoch: u16,
    last: Seq,
}

/// Why roles do not change on demand, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[repr(u8)]
pub enum Declined {
    /// It is Starting or Joining, or its state is not whole.
    #[error("this node is neither primary nor a back-up that follows one")]
    NoPart = 1,
    /// The view is solo.
    #[error("the primary has no back-up in step")]
    NoBackup = 2,
    /// The back-up of the view is not there.
    #[error("the back-up is not connected")]
    Apart = 3,
    /// There is no state to take over.
    #[error("nothing is replicated in mode local")]
    Local = 4,
    /// A request to the arbiter is without answer.
    #[error("a change of the view is under way")]
    Undetermined = 5,
    /// One at a time.
    #[error("a planned change is under way already")]
    Busy = 6,
    /// Messages, packets or acknowledgements were still missing.
    #[error("the time was over before everything was finished, sent and acknowledged")]
    NotFinished = 7,
    /// The arbiter was silent, or granted nothing.
    #[error("the time was over before the back-up was primary")]
    NotTaken = 8,
    /// Its node, or the connection to it.
    #[error("the back-up was lost")]
    BackupLost = 9,
    /// Others may hold what was released since.
    #[error("this node is not in the in-sync set of the newest view that it knows")]
    NotInSet = 10,
    /// Of a transfer that did not end, or found to differ from its primary's.
    #[error("the state of this node is not whole")]
    NotWhole = 11,
    /// Not connected, and nobody has confirmed its death while this node was in touch with it.
    #[error(
        "the other node may be primary: it is not connected, and the kernel has not confirmed its death"
    )]
    MayBePrimary = 12,
    /// Neither arbiter nor peer told of one.
    #[error("this node knows of no view")]
    NoView = 13,
    /// It is for the one that serves to hand over.
    #[error("the other node is primary")]
    PeerServes = 14,
}

impl Declined {
    const ALL: [Declined; 14] = [
        Declined::NoPart,
        Declined::NoBackup,
        Declined::Apart,
        Declined::Local,
        Declined::Undetermined,
        Declined::Busy,
        Declined::NotFinished,
        Declined::NotTaken,
        Declined::BackupLost,
        Declined::NotInSet,
        Declined::NotWhole,
        Declined::MayBePrimary,
        Declined::NoView,
        Declined::PeerServes,
    ];

    /// How many there are; their numbers begin with 1.
    pub(crate) const COUNT: usize = Declined::ALL.len();

    /// From the number as it travels.
    pub(crate) fn from_byte(byte: u8) -> Option<Declined> {
        Declined::ALL.into_iter().find(|declined| *declined as u8 == byte)
    }

    /// It was tried, and the time was too short.
    pub fn is_late(self) -> bool {
        matches!(self, Declined::NotFinished | Declined::NotTaken)
    }
}

impl Core {
    /// Somebody wants the two nodes to change their roles, within this time. What becomes of it is told by
    /// [`Event::HandedOver`] or [`Event::HandOverEnded`] on the primary; on a back-up, which passes the wish on, by
    /// [`Event::Promoted`] or [`Event::HandOverEnded`].
    pub fn handle_hand_over(&mut self, now: Tick, within: Duration) -> Result<(), Declined> {
        self.wake(now);
        let within = within.min(WITHIN_MAX);
        let begun = match &self.role {
            Role::Primary(_) => self.begin_hand_over(now, within),
            Role::Backup(backup) if backup.is_complete() => self.want_hand_over(within),
            _ => Err(Declined::NoPart),
        };
        self.settle(now);
        begun
    }

    /// After [`Action::Drain`]: the region is quiet. Nothing commits and nothing is sent any more; everything up to
    /// `through`, and every packet that left, has been recorded and [offered](Self::offer).
    pub fn handle_drained(&mut self, now: Tick, through: Seq) {
        self.wake(now);
        if let Some(plan) = &mut self.planned.plan
            && plan.stage == Stage::Draining
        {
            plan.stage = Stage::Closing { through, table: None };
        }
        self.settle(now);
    }

    fn begin_hand_over(&mut self, now: Tick, within: Duration) -> Result<(), Declined> {
        let Role::Primary(primary) = &self.role else { return Err(Declined::NoPart) };
        if self.planned.plan.is_some() {
            return Err(Declined::Busy);
        }
        if self.is_undetermined() {
            return Err(Declined::Undetermined);
        }
        if self.config.mode == Mode::Local {
            return Err(Declined::Local);
        }
        if self.partner().is_none() {
            return Err(Declined::NoBackup);
        }
        if !self.backup_follows(primary) {
            return Err(Declined::Apart);
        }
        let epoch = primary.epoch;
        self.planned.plan = Some(Plan { epoch, until: now.after(within), stage: Stage::Draining });
        self.actions.push_back(Action::Drain);
        self.event(Event::HandingOver { epoch });
        Ok(())
    }

    /// A back-up asks its primary.
    fn want_hand_over(&mut self, within: Duration) -> Result<(), Declined> {
        if self.is_undetermined() {
            return Err(Declined::Undetermined);
        }
        if self.peer().is_none_or(|peer| peer.standing != Standing::Primary) {
            return Err(Declined::Apart);
        }
        let within_ns = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        self.transmit(wire::encode(Outgoing::HandOver(HandOver::Wanted { within_ns })));
        Ok(())
    }

    fn backup_follows(&self, primary: &Primary) -> bool {
        primary.link == Link::Following
            && self.detected().is_none()
            && self.peer().is_some_and(|peer| peer.standing == Standing::Backup)
    }

    /// The peer's part of a planned change.
    pub(super) fn on_hand_over(&mut self, now: Tick, message: HandOver) {
        match message {
            HandOver::Wanted { within_ns } => {
                let within = Duration::from_nanos(within_ns).min(WITHIN_MAX);
                if let Err(why) = self.begin_hand_over(now, within) {
                    self.transmit(wire::encode(Outgoing::HandOver(HandOver::Refused { why })));
                }
            }
            HandOver::Ready { epoch, last } => {
                if let Some(connection) = self.connection() {
                    self.planned.offer = Some(Offer { connection, epoch, last });
                }
            }
            HandOver::Withdrawn { why } => {
                self.planned.offer = None;
                self.event(Event::HandOverEnded { why });
            }
            HandOver::Refused { why } => self.event(Event::HandOverEnded { why }),
        }
    }

    /// Whether the primary waits for this back-up to take over: it has all there is. An offer is void with the connection
    /// over which it came, and as soon as the primary has shipped more.
    pub(super) fn is_invited(&self, backup: &Backup) -> bool {
        let Some(offer) = self.planned.offer else { return false };
        let holds = backup.applied == offer.last && backup.received == offer.last;
        offer.epoch == backup.epoch
            && self.connection() == Some(offer.connection)
            && (holds || self.mutated(Mutation::HandOverBeforeAcked))
    }

    /// Whether the back-up was asked to take over: then it is silent because it does.
    pub(super) fn is_offered(&self) -> bool {
        self.planned.plan.is_some_and(|plan| plan.stage == Stage::Offered)
    }

    /// What follows for a planned change from the state as it is now.
    pub(super) fn settle_planned(&mut self, now: Tick) {
        let Some(plan) = self.planned.plan else { return };
        let Role::Primary(primary) = &self.role else {
            self.planned.plan = None;
            if let Some(by) = self.view {
                self.event(Event::HandedOver { by });
            }
            return;
        };
        if primary.epoch != plan.epoch {
            self.planned.plan = None;
            return;
        }
        if self.partner().is_none() || self.is_undetermined() || !self.backup_follows(primary) {
            return self.withdraw(now, Declined::BackupLost);
        }
        if now >= plan.until {
            let offered = plan.stage == Stage::Offered;
            let why = if offered { Declined::NotTaken } else { Declined::NotFinished };
            return self.withdraw(now, why);
        }
        if let Stage::Closing { through, table } = plan.stage {
            self.close(plan, through, table);
        }
    }

    fn close(&mut self, plan: Plan, through: Seq, table: Option<u64>) {
        let Role::Primary(primary) = &self.role else { return };
        let closed = primary.batched == through && self.open.is_empty() && !self.open.has_sealed();
        let table = table.or_else(|| closed.then_some(primary.tables));
        let acked = table.is_some_and(|table| {
            primary.acked >= through
                && primary.window.front().is_none_or(|batch| batch.table_no > table)
        });
        let stage = if acked || self.mutated(Mutation::HandOverBeforeAcked) {
            let ready = HandOver::Ready { epoch: plan.epoch, last: through };
            self.transmit(wire::encode(Outgoing::HandOver(ready)));
            self.event(Event::HandOverReady { last: through });
            Stage::Offered
        } else {
            Stage::Closing { through, table }
        };
        self.planned.plan = Some(Plan { stage, ..plan });
    }

    /// The primary serves on as if nothing had been.
    fn withdraw(&mut self, now: Tick, why: Declined) {
        let Some(plan) = self.planned.plan.take() else { return };
        self.actions.push_back(Action::Resume { epoch: plan.epoch });
        self.transmit(wire::encode(Outgoing::HandOver(HandOver::Withdrawn { why })));
        self.event(Event::HandOverEnded { why });
        if let Role::Primary(primary) = &mut self.role {
            // A back-up that was asked to take over acknowledged nothing meanwhile.
            primary.window.iter_mut().for_each(|batch| batch.closed_at = now);
        }
    }

    pub(super) fn planned_timeout(&self) -> Option<Tick> {
        let order = self.planned.order.map(|order| order.until);
        let plan = self.planned.plan.map(|plan| plan.until);
        plan.into_iter().chain(order).min()
    }
}
