//! Steady state of a primary: batches out, acks in, output released.
//!
//! ```text
//!   watermark   everything up to here was gathered           offer()
//!       ≥ batched   … is in a closed batch                   close_batches()
//!           ≥ acked     … is applied by the back-up          on_ack()
//!               ≥ released  … may leave                      release()
//! ```
//! (With nobody to wait for, `released` follows the watermark.)

use std::collections::VecDeque;
use std::time::Duration;

use super::action::{Action, Cause, Event, Fault};
use super::config::{Config, Limits, Mode, Mutation};
use super::core::{Core, NotShipped, Role, Trip};
use super::ids::{Seq, Tick};
use super::view::Member;
use crate::wire::{self, Ack, BatchBody, EpochStart, Rows, SharedFrame, Standing};

/// First pause before an evicted back-up is taken in again; doubles with each eviction that follows soon.
const READMIT_WAIT: Duration = Duration::from_millis(500);
const READMIT_WAIT_MAX: Duration = Duration::from_secs(30);

/// A transfer of state may leave a batch unacknowledged at least for so long.
const TRANSFER_WAIT: Duration = Duration::from_secs(2);

/// What a primary remembers.
#[derive(Debug)]
pub(super) struct Primary {
    pub(super) epoch: u16,
    pub(super) link: Link,
    pub(super) transfer: u64,
    /// Tables closed in this epoch.
    pub(super) tables: u64,
    pub(super) watermark: Seq,
    pub(super) digest: Option<u64>,
    pub(super) batched: Seq,
    pub(super) acked: Seq,
    pub(super) released: Seq,
    pub(super) window: VecDeque<InFlight>,
    pub(super) window_bytes: usize,
    pub(super) chunks: u64,
    pub(super) chunks_acked: u64,
    /// The slots that the other has to name before the host copies, and those that it has named.
    pub(super) diverged: Option<Vec<u32>>,
    /// What this transfer assumes that both have in common.
    pub(super) since: Option<Seq>,
    closed_at: Tick,
    /// When the oldest commit of the open batch was gathered, if it holds any.
    pub(super) open_since: Tick,
    /// Tables carry a digest again from here on.
    digest_from: u64,
    changed_at: Tick,
    readmit_from: Tick,
    readmit_wait: Duration,
    admitted_at: Tick,
}

/// What the primary does with its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing; if the view names a back-up, batches wait for it to connect again.
    Apart,
    /// The host copies slots, and batches flow.
    Copying,
    /// All is sent; from here on nothing is released without an ack (P5).
    Closing {
        /// The state is whole when this is applied.
        through: Seq,
    },
    /// The back-up follows, and the view names it.
    Following,
}

/// A batch that is not acknowledged.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) table_no: u64,
    pub(super) frame: SharedFrame,
    pub(super) closed_at: Tick,
    /// The same, whatever the connection met since: the lease counts from it.
    pub(super) made_at: Tick,
    /// When its oldest commit was gathered.
    pub(super) since: Tick,
    pub(super) last: Seq,
    /// Somebody waits for its acknowledgement.
    pub(super) awaited: bool,
}

impl Primary {
    fn new(epoch: u16, now: Tick) -> Primary {
        let start = Seq::new(epoch, 0);
        Primary {
            epoch,
            link: Link::Apart,
            transfer: 0,
            tables: 0,
            watermark: start,
            digest: None,
            batched: start,
            acked: Seq::ZERO,
            released: start,
            window: VecDeque::new(),
            window_bytes: 0,
            chunks: 0,
            chunks_acked: 0,
            diverged: None,
            since: None,
            closed_at: now,
            open_since: now,
            digest_from: 0,
            changed_at: now,
            readmit_from: now,
            readmit_wait: READMIT_WAIT,
            admitted_at: now,
        }
    }

    pub(super) fn has_room(&self, limits: &Limits) -> bool {
        self.window.len() < limits.window_batches as usize
            && self.window_bytes < limits.window_bytes
    }

    /// The present pause between two tables; `nothing` says that the next would be an empty one.
    pub(super) fn period(&self, config: &Config, nothing: bool, now: Tick) -> Duration {
        let timing = &config.timing;
        if !nothing {
            return timing.period;
        }
        if self.window.len() >= config.limits.prompt_batches as usize {
            // Enough is on its way to show a loss, so an empty table helps only if all acks were lost.
            return (timing.period * 8).min(config.idle_period());
        }
        let quiet = now.since(self.changed_at) >= config.idle_period();
        if self.window.is_empty() && quiet { config.idle_period() } else { timing.period }
    }

    pub(super) fn clear_window(&mut self) {
        self.window.clear();
        self.window_bytes = 0;
    }

    pub(super) fn may_readmit(&self, now: Tick) -> bool {
        now >= self.readmit_from
    }

    fn push_back_readmission(&mut self, now: Tick) {
        if now.since(self.admitted_at) > READMIT_WAIT_MAX {
            self.readmit_wait = READMIT_WAIT;
        }
        self.readmit_from = now.after(self.readmit_wait);
        self.readmit_wait = (self.readmit_wait * 2).min(READMIT_WAIT_MAX);
    }
}

impl Core {
    pub(super) fn become_primary(&mut self, now: Tick, epoch: u16, cause: Cause) {
        let from = match &self.role {
            Role::Backup(backup) => backup.handed,
            _ => self.history.end,
        };
        let start = EpochStart { epoch, base: from.raw(), leader: self.config.incarnation };
        self.history.begin(start);
        self.role = Role::Primary(Primary::new(epoch, now));
        self.open.set_recording(false);
        self.withdraw_ack();
        self.close_gates(epoch);
        self.actions.push_back(Action::BecomePrimary { start });
        self.actions.push_back(Action::SetGathering { required: false });
        // Whatever older epochs left unsent is part of the state that goes on, so it may leave.
        self.actions.push_back(Action::Release(Seq::new(epoch, 0)));
        self.event(Event::Promoted { epoch, cause, from });
    }

    /// Why this primary wants to go on without its back-up.
    pub(super) fn primary_suspicion(&self, primary: &Primary, now: Tick) -> Option<Cause> {
        if let Some(cause) = self.detected() {
            return Some(cause);
        }
        let backup = self.partner()?;
        let Some(peer) = self.peer() else {
            let since = self.apart_since.max(self.awake_since);
            let wait = self.config.timing.reconnect_wait;
            return (now.since(since) >= wait).then_some(Cause::Disconnected);
        };
        let same = peer.incarnation == backup.incarnation
            || self.mutated(Mutation::NodeInsteadOfIncarnation);
        if primary.link != Link::Following || !same || peer.standing != Standing::Backup {
            return (!self.mutated(Mutation::ShipToMember)).then_some(Cause::NotInStep);
        }
        (now >= self.ack_deadline(primary)? && !self.is_offered()).then_some(Cause::Slow)
    }

    /// When the oldest batch in flight has waited for too long.
    fn ack_deadline(&self, primary: &Primary) -> Option<Tick> {
        let wait = match primary.link {
            Link::Following => self.config.timing.ack_wait,
            // Applying a whole state takes its time, and nobody waits for it.
            _ => (self.config.timing.ack_wait * 10).max(TRANSFER_WAIT),
        };
        let oldest = primary.window.front()?;
        Some(oldest.closed_at.max(self.awake_since).after(wait))
    }

    pub(super) fn on_offer(
        &mut self,
        now: Tick,
        watermark: Seq,
        digest: Option<u64>,
    ) -> Result<(), NotShipped> {
        let Role::Primary(primary) = &mut self.role else {
            return Err(NotShipped::NotPrimary { watermark });
        };
        if watermark.epoch() != primary.epoch || watermark < primary.watermark {
            return Err(NotShipped::NotPrimary { watermark });
        }
        if watermark > primary.watermark {
            primary.changed_at = now;
            if primary.batched == primary.watermark {
                primary.open_since = now;
            }
        }
        primary.watermark = watermark;
        primary.digest = digest;
        self.open.complete();
        Ok(())
    }

    pub(super) fn settle_primary(&mut self, now: Tick) {
        self.drop_failed_transfer(now);
        self.begin_transfer(now);
        self.close_batches(now);
        self.release();
        self.raise_gates(now);
    }

    fn is_shipping(&self, primary: &Primary) -> bool {
        primary.link != Link::Apart || self.partner().is_some()
    }

    fn close_batches(&mut self, now: Tick) {
        let Role::Primary(primary) = &self.role else {
            return;
        };
        if !self.is_shipping(primary) {
            return;
        }
        while self.window_has_room()
            && let Some((rows, last)) = self.open.take_sealed()
        {
            let awaited = !rows.emits.is_empty();
            self.push_batch(now, rows, last, None, awaited);
        }
        // The back-up refuses what is beyond the window, so nothing is closed while there is no room.
        if self.open.has_sealed() || !self.window_has_room() {
            return;
        }
        let Role::Primary(primary) = &self.role else {
            return;
        };
        let prompt = self.open.is_awaited()
            && primary.window.len() < self.config.limits.prompt_batches as usize;
        let due = self.close_due(primary).is_some_and(|due| now >= due);
        if !self.open.is_complete() || !(prompt || due) {
            return;
        }
        let (last, digest) = (primary.watermark, primary.digest);
        let awaited = self.open.is_awaited();
        let rows = self.open.take();
        self.push_batch(now, rows, last, digest, awaited);
    }

    fn window_has_room(&self) -> bool {
        matches!(&self.role, Role::Primary(primary) if primary.has_room(&self.config.limits))
    }

    /// When the next table is due, if it is time that decides.
    fn close_due(&self, primary: &Primary) -> Option<Tick> {
        let waiting = primary.link == Link::Apart && self.open.is_empty();
        if !self.is_shipping(primary) || waiting || !primary.has_room(&self.config.limits) {
            return None;
        }
        let nothing = self.open.is_empty() && primary.batched == primary.watermark;
        let period = primary.period(&self.config, nothing, self.last_input);
        Some(primary.closed_at.after(period))
    }

    fn push_batch(&mut self, now: Tick, rows: Rows, last: Seq, digest: Option<u64>, awaited: bool) {
        let limits = &self.config.limits;
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        primary.tables += 1;
        // In local mode the back-up has nothing that could be compared.
        let with_digest = primary.link == Link::Following
            && primary.tables >= primary.digest_from
            && self.config.mode != Mode::Local;
        let digest = digest.filter(|_| with_digest);
        if digest.is_some() {
            primary.digest_from = primary.tables + limits.digest_every;
        }
        let body = BatchBody {
            table_no: primary.tables,
            prev: primary.batched.raw(),
            last: last.raw(),
            digest,
            epoch: primary.epoch,
            rows,
        };
        let frame = wire::encode_batch(&body);
        self.open.recycle(body.rows);
        primary.batched = last;
        primary.closed_at = now;
        primary.window_bytes += frame.len();
        let (table_no, apart) = (primary.tables, primary.link == Link::Apart);
        // What is left came in the turn that gathered last: nothing is gathered while something sealed waits.
        let since = std::mem::replace(&mut primary.open_since, primary.changed_at);
        primary.window.push_back(InFlight {
            table_no,
            frame: frame.clone(),
            closed_at: now,
            made_at: now,
            since,
            last,
            awaited,
        });
        if !apart {
            self.transmit(frame);
        }
    }

    /// An ack from the back-up.
    pub(super) fn on_ack(&mut self, now: Tick, ack: Ack) {
        let from = self.peer().map(|peer| peer.incarnation);
        let any_transfer = self.mutated(Mutation::AckOfAnotherTransfer);
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let other = ack.transfer != primary.transfer && !any_transfer;
        let stale = ack.epoch != primary.epoch || other;
        if stale || primary.link == Link::Apart || from != Some(ack.incarnation) {
            return;
        }
        let applied = Seq::from_raw(ack.applied);
        if ack.table_no > primary.tables || applied > primary.batched || ack.chunks > primary.chunks
        {
            return self
                .on_fault(now, Fault::Unexpected { message: "an ack for what was not sent" });
        }
        let (mut newest, mut sent, mut seen) = (None, None, primary.acked);
        while primary.window.front().is_some_and(|batch| batch.table_no <= ack.table_no) {
            let batch = primary.window.pop_front().expect("there is a first one");
            primary.window_bytes -= batch.frame.len();
            newest = Some(batch.made_at);
            if batch.last > seen {
                (seen, sent) = (batch.last, Some(batch.closed_at)); // an empty table is on nobody's way
            }
        }
        primary.chunks_acked = primary.chunks_acked.max(ack.chunks);
        if ack.complete {
            // Before that, batches are applied to a table that never existed as a whole.
            primary.acked = primary.acked.max(applied);
        }
        if let Some(sent) = sent {
            let needed = Duration::from_nanos(ack.needed_ns);
            self.trip = Some(Trip { took: now.since(sent), needed });
        }
        if let Some(made_at) = newest {
            self.on_promised(now, made_at);
        }
    }

    /// Raises `released` as far as the rules allow (P1, P2).
    fn release(&mut self) {
        let hasty = self.mutated(Mutation::SoloBeforeConfirmed) && self.is_asking_solo();
        let careless = self.mutated(Mutation::AdmitBeforeAcks);
        let restless = self.mutated(Mutation::ReleaseWhileUndetermined);
        if self.is_undetermined() && !hasty && !careless && !restless {
            return;
        }
        let open_gate = self.config.mode == Mode::Local || self.config.control.release_without_ack;
        let partner = self.partner().is_some();
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let closing = matches!(primary.link, Link::Closing { .. }) && !careless;
        let waits = (partner || closing) && !hasty && !open_gate;
        let to = if waits { primary.acked.min(primary.watermark) } else { primary.watermark };
        if to > primary.released {
            primary.released = to;
            self.actions.push_back(Action::Release(to));
        }
    }

    /// The solo view is confirmed.
    pub(super) fn on_solo(&mut self, now: Tick, cause: Cause) {
        self.event(Event::Solo { cause });
        self.stop_shipping();
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        if cause == Cause::Slow {
            primary.push_back_readmission(now);
        }
    }

    /// The view with the back-up is confirmed.
    pub(super) fn on_admitted(&mut self, now: Tick, member: Member) {
        self.event(Event::Admitted { node: member.node });
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        primary.admitted_at = now;
        if matches!(primary.link, Link::Closing { .. }) {
            primary.link = Link::Following;
            self.open.set_patching();
        }
        // Else the connection broke while the arbiter was asked: the batches since then are kept,
        // and it resumes, or the next view is without it.
        self.try_resume();
    }

    pub(super) fn primary_timeout(&self, primary: &Primary) -> Option<Tick> {
        let apart = (self.partner().is_some() && self.peer().is_none())
            .then(|| self.apart_since.max(self.awake_since))
            .map(|since| since.after(self.config.timing.reconnect_wait));
        let close = self.close_due(primary).filter(|_| self.open.is_complete());
        let slow = self
            .ack_deadline(primary)
            .filter(|_| primary.link != Link::Apart && !self.is_offered());
        let readmit = self.transfer_waits(primary).then_some(primary.readmit_from);
        [apart, close, slow, readmit].into_iter().flatten().filter(|at| *at > self.last_input).min()
    }

    /// A transfer that does not get on is given up: nobody waits for it, but it costs memory.
    fn drop_failed_transfer(&mut self, now: Tick) {
        let Role::Primary(primary) = &self.role else {
            return;
        };
        let transferring = matches!(primary.link, Link::Copying | Link::Closing { .. });
        if !transferring || self.partner().is_some() || self.is_undetermined() {
            return;
        }
        let stuck = self.ack_deadline(primary).is_some_and(|deadline| now >= deadline);
        if stuck || self.detected().is_some() {
            self.disconnect(now, self.config.timing.reconnect_wait);
            let Role::Primary(primary) = &mut self.role else {
                return;
            };
            primary.push_back_readmission(now);
        }
    }
}
