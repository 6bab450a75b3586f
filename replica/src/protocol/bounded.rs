//! Packets ahead of the acks: what bounded ports may send, and the lease under which (P8).
//!
//! ```text
//!   primary   closes batch n ───────────────► lease ends
//!                    │        lease - drift       │  strictly before
//!   back-up          └─► applies n, acks ──────────────► may ask to be promoted
//!                                  │      lease     │
//! ```
//!
//! An ack says: I shall not ask to be promoted within `lease` from now. The primary counts from the time at
//! which it closed the newest batch that the ack acknowledges: that lies before the ack, whatever the ack met
//! on its way, so the two clocks are never compared, only their rates. `lease` is shortened by the most that
//! one of them can run ahead of the other.
//!
//! What a bounded port may send beyond `released`:
//!
//! | state of the primary | |
//! |---|---|
//! | a back-up in step | up to its bounds, while the lease lasts |
//! | back-up apart, or not heard of | nothing new once the bounds or the lease are reached |
//! | admission under way | as with a back-up in step: it may be a member at any time |
//! | undetermined | what was allowed, while the lease lasts; neither is raised |
//! | solo, or copying to a back-up outside the view | everything gathered, as `released` says it |
//! | superseded, or not primary | nothing: the lease had ended before there was another primary |
//!
//! The bounds limit what is lost with the primary. `allowed` is never raised over a commit when the oldest
//! commit without ack is older than `age`, or more than `bytes` are without ack; acks only make both less.

use std::time::Duration;

use super::action::{Action, Cause, Event};
use super::config::{Bound, Config, Mutation};
use super::core::{Core, Role};
use super::ids::{Seq, Tick};
use super::primary::Primary;

/// A gate that opens and closes is reported at most that often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Why a bounded port does not send what was gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The oldest commit without ack is as old as may be.
    Age,
    /// As many bytes are without ack as may be.
    Bytes,
    /// No ack came for so long that the back-up may ask to be promoted.
    Lease,
    /// A request of this node to change the view is without answer.
    Undetermined,
}

/// A bounded port's gate, for `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLook {
    /// Index of the port.
    pub port: u8,
    /// Why it is closed before something that was gathered.
    pub closed: Option<Closed>,
    /// How often that happened.
    pub closes: u64,
}

/// How much is gathered and not acknowledged, for `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unacked {
    /// Bytes of batches.
    pub bytes: u64,
    /// When the oldest commit of them was gathered.
    pub since: Option<Tick>,
}

/// What a core remembers of gates and leases.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    gates: Vec<Gate>,
    /// As primary: until when no other can be there.
    lease_until: Tick,
    /// As back-up: until when this node does not ask to be promoted.
    promised: Tick,
}

#[derive(Debug)]
struct Gate {
    bound: Bound,
    allowed: Seq,
    closed: Option<Closed>,
    closes: u64,
    /// When a closing was last reported, and whether its end is to be.
    told_at: Option<Tick>,
    told: bool,
}

impl Ahead {
    pub(super) fn new(bounds: &[Bound]) -> Ahead {
        let gate = |bound: &Bound| Gate {
            bound: *bound,
            allowed: Seq::ZERO,
            closed: None,
            closes: 0,
            told_at: None,
            told: false,
        };
        Ahead { gates: bounds.iter().map(gate).collect(), ..Ahead::default() }
    }
}

impl Config {
    /// How long an ack keeps its sender from asking; `None` where no port is bounded.
    pub(super) fn lease(&self) -> Option<Duration> {
        (!self.bounds.is_empty()).then_some(self.timing.lease)
    }

    /// An idle pair renews its lease in time.
    pub(super) fn idle_period(&self) -> Duration {
        let idle = self.timing.idle_period;
        self.lease().map_or(idle, |lease| idle.min(lease / 3).max(self.timing.period))
    }
}

impl Gate {
    /// How far it may be raised, and what stops it there.
    fn reach(&self, primary: &Primary, now: Tick, open_bytes: u64) -> (Seq, Option<Closed>) {
        let Bound { age, bytes, .. } = self.bound;
        if unacked_since(primary).is_some_and(|since| now.since(since) >= age) {
            return (Seq::ZERO, Some(Closed::Age));
        }
        if primary.window_bytes as u64 + open_bytes <= bytes {
            return (primary.watermark, None);
        }
        let (mut sum, mut upto) = (0, Seq::ZERO);
        for batch in &primary.window {
            sum += batch.frame.len() as u64;
            if sum > bytes {
                break;
            }
            upto = batch.last;
        }
        (upto, Some(Closed::Bytes))
    }
}

/// When the oldest commit without ack was gathered.
fn unacked_since(primary: &Primary) -> Option<Tick> {
    let in_flight = primary.window.iter().find(|batch| batch.last > primary.acked);
    let open = (primary.watermark > primary.batched).then_some(primary.open_since);
    in_flight.map(|batch| batch.since).or(open)
}

impl Core {
    /// The back-up promised not to ask to be promoted for a while from a moment after `closed_at`.
    pub(super) fn on_promised(&mut self, now: Tick, closed_at: Tick) {
        let Some(lease) = self.config.lease() else { return };
        if self.is_undetermined() {
            return;
        }
        let drift = lease * self.config.timing.clock_drift_per_mille / 1000;
        let until = if self.mutated(Mutation::LeaseFromAck) {
            now.after(lease + drift)
        } else {
            closed_at.after(lease.saturating_sub(drift))
        };
        if until > self.ahead.lease_until {
            self.ahead.lease_until = until;
            self.actions.push_back(Action::ExtendLease(until));
        }
    }

    /// This node begins an epoch: nothing of it is allowed yet, and nobody has promised anything.
    pub(super) fn close_gates(&mut self, epoch: u16) {
        self.ahead.lease_until = Tick::ZERO;
        for gate in &mut self.ahead.gates {
            gate.allowed = Seq::new(epoch, 0);
            gate.closed = None;
        }
    }

    /// Raises the gates of bounded ports as far as the rules allow (P8).
    pub(super) fn raise_gates(&mut self, now: Tick) {
        if self.ahead.gates.is_empty() {
            return;
        }
        let undetermined = self.is_undetermined();
        let open_bytes = self.open.bytes() as u64;
        let Role::Primary(primary) = &self.role else { return };
        let (released, watermark) = (primary.released, primary.watermark);
        let leased = now < self.ahead.lease_until;
        let boundless = self.mutated(Mutation::BoundsIgnored);
        for gate in &mut self.ahead.gates {
            let (upto, stop) = match () {
                () if released >= watermark => (Seq::ZERO, None),
                () if undetermined => (Seq::ZERO, Some(Closed::Undetermined)),
                () if !leased => (Seq::ZERO, Some(Closed::Lease)),
                () if boundless => (watermark, None),
                () => gate.reach(primary, now, open_bytes),
            };
            let port = gate.bound.port;
            if upto > gate.allowed {
                gate.allowed = upto;
                self.actions.push_back(Action::Allow { port, upto });
            }
            let closed = stop.filter(|_| gate.allowed < watermark);
            match (gate.closed, closed) {
                (None, Some(because)) => {
                    gate.closes += 1;
                    if gate.told_at.is_none_or(|at| now.since(at) >= TELL_EVERY) {
                        (gate.told_at, gate.told) = (Some(now), true);
                        let event = Event::GateClosed { port, because };
                        self.actions.push_back(Action::Event(event));
                    }
                }
                (Some(_), None) if std::mem::take(&mut gate.told) => {
                    let event = Event::GateOpened { port, closes: gate.closes };
                    self.actions.push_back(Action::Event(event));
                }
                _ => {}
            }
            gate.closed = closed;
        }
    }

    /// An ack leaves: from now on this node waits before it asks to be promoted.
    pub(super) fn promise(&mut self) {
        let lease = self.peer().map_or(Duration::ZERO, |peer| Duration::from_nanos(peer.lease_ns));
        if !lease.is_zero() {
            self.ahead.promised = self.ahead.promised.max(self.last_input.after(lease));
        }
    }

    /// Whether this node has promised not to ask yet. A dead process raises no gate, so its certain death
    /// needs no waiting: see P8 for what its ports may still send.
    pub(super) fn is_bound(&self, now: Tick, cause: Cause) -> bool {
        let confirmed = matches!(cause, Cause::Dead(_)) || self.mutated(Mutation::LeaseIgnored);
        !confirmed && now < self.ahead.promised
    }

    pub(super) fn promise_timeout(&self) -> Option<Tick> {
        let waits = matches!(self.role, Role::Backup(_) | Role::Starting);
        (waits && self.suspected.is_some() && self.last_input < self.ahead.promised)
            .then_some(self.ahead.promised)
    }

    /// The gates of bounded ports.
    pub fn gates(&self) -> impl Iterator<Item = GateLook> + '_ {
        self.ahead.gates.iter().map(|gate| GateLook {
            port: gate.bound.port,
            closed: gate.closed,
            closes: gate.closes,
        })
    }

    /// What this primary has gathered and nobody acknowledged; nothing where nobody is waited for.
    pub fn unacked(&self) -> Unacked {
        match &self.role {
            Role::Primary(primary) if primary.released < primary.watermark => Unacked {
                bytes: (primary.window_bytes + self.open.bytes()) as u64,
                since: unacked_since(primary),
            },
            _ => Unacked::default(),
        }
    }
}
