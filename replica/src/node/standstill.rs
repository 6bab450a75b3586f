//! A primary that stands still because a person wants it to, until a person wants it to go on, or its role ends.
//!
//! ```text
//!             drain: Draining                          pause: Changing
//!   ports     read nothing, send                       read nothing, send nothing
//!   workers   claim and commit                         begin nothing; what they hold is given back
//!   done      nothing waits, nothing is unsent         everybody has let go
//! ```
//!
//! Both are role words that a planned change uses too ([`draining`](super::draining)), so the hot path has nothing more to
//! look at. The protocol hears nothing of it: the node is primary, ships what commits, and can lose its role as ever. Whoever
//! is primary after it serves; a planned change that did not get through leaves things as they were, which is still.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use serde_json::json;

use super::control::{Outcome, Reply};
use super::draining::{Busy, LOOK_EVERY};
use super::turn::Turns;
use crate::protocol::{Declined, Tick};

/// Each look at what is left costs as much as there are blocks: so many times that is waited before the next.
const COST_SHARE: u32 = 4;

/// How still it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing more comes in.
    Drain,
    /// Nothing happens.
    Pause,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Drain => "drain",
            Kind::Pause => "pause",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Kind::Drain => "drained",
            Kind::Pause => "paused",
        }
    }
}

/// What a person wanted, and whoever still waits for it.
#[derive(Debug)]
pub(super) struct Standstill {
    kind: Kind,
    awaited: Option<Awaited>,
}

#[derive(Debug)]
struct Awaited {
    answer: SyncSender<Reply>,
    asked: Tick,
    until: Tick,
    look_at: Tick,
    busy: Busy,
}

impl Standstill {
    /// When to look again.
    pub(super) fn wake_at(&self) -> Option<Tick> {
        self.awaited.as_ref().map(|awaited| awaited.look_at)
    }
}

impl Turns {
    pub(super) fn stand_still(
        &mut self,
        kind: Kind,
        within: Duration,
        answer: SyncSender<Reply>,
        now: Tick,
    ) {
        let is = self.standstill.as_ref().map(|it| (it.kind, it.awaited.is_some()));
        let reply = if !self.is_primary {
            Some(self.not_primary())
        } else if self.draining.is_some() || self.order.is_some() || is.is_some_and(|is| is.1) {
            Some(Reply::new(Outcome::Refused, Declined::Busy.to_string()))
        } else if is == Some((kind, false)) {
            Some(Reply::new(Outcome::Already, ""))
        } else {
            None
        };
        let told = reply.as_ref().map_or("begun", |reply| match reply.outcome {
            Outcome::Already => "already",
            _ => "refused",
        });
        let fields = json!({ "what": kind.name(), "answer": told });
        self.parts.events.write(now.as_nanos(), "asked", fields);
        if let Some(reply) = reply {
            let _ = answer.send(reply);
            return;
        }
        self.begin_standing(kind);
        let until = now.after(within);
        let busy = Busy::default();
        let awaited = Some(Awaited { answer, asked: now, until, look_at: now, busy });
        self.standstill = Some(Standstill { kind, awaited });
    }

    /// Serves again.
    pub(super) fn go_on(&mut self, answer: &SyncSender<Reply>, now: Tick) {
        let reply = if self.standstill.is_some() {
            self.end_standing("resumed", now);
            Reply::new(Outcome::Done, "")
        } else if self.is_primary {
            Reply::new(Outcome::Already, "")
        } else {
            self.not_primary()
        };
        let _ = answer.send(reply);
    }

    fn not_primary(&self) -> Reply {
        let view = self.parts.core.status().view;
        super::orders::with_view(Reply::new(Outcome::Refused, "this node is not primary"), view)
    }

    fn begin_standing(&self, kind: Kind) {
        let region = self.region();
        match kind {
            Kind::Drain => region.begin_drain(),
            Kind::Pause => region.begin_change(region.role().epoch()),
        }
    }

    /// A look at whether it is as still as somebody waits for it to be.
    pub(super) fn look_at_standing(&mut self, now: Tick) {
        let region = self.parts.table.region().clone();
        let Some(Standstill { kind, awaited: Some(awaited) }) = &mut self.standstill else {
            return;
        };
        if now < awaited.look_at {
            return;
        }
        let begun = Instant::now();
        awaited.busy.holdouts = region.holdouts().len();
        let mut still = awaited.busy.holdouts == 0;
        if still && *kind == Kind::Drain {
            awaited.busy.left = region.left_to_do();
            still = awaited.busy.is_nothing();
        }
        let took = begun.elapsed();
        awaited.look_at = now.after(took + LOOK_EVERY.max(took * COST_SHARE));
        if still {
            let lasted = u64::try_from(now.since(awaited.asked).as_micros()).ok();
            let reply = Reply { stood_still_us: lasted, ..Reply::new(Outcome::Done, "") };
            let _ = awaited.answer.send(reply);
            let fields = json!({ "took_us": lasted });
            self.parts.events.write(now.as_nanos(), kind.done(), fields);
            if let Some(standstill) = &mut self.standstill {
                standstill.awaited = None;
            }
        } else if now >= awaited.until {
            let why = format!("the time was over: {}", awaited.busy);
            let _ = awaited.answer.send(Reply::new(Outcome::TimedOut, why));
            self.end_standing("timed_out", now);
        }
    }

    fn end_standing(&mut self, why: &str, now: Tick) {
        self.forget_standing(why, now);
        // A planned change that is under way has the word; it gives it back by itself.
        if self.is_primary && self.draining.is_none() {
            let epoch = self.region().role().epoch();
            self.region().become_primary(epoch);
        }
    }

    /// The role has changed, and with it who says what this region does.
    pub(super) fn forget_standing(&mut self, why: &str, now: Tick) {
        let Some(Standstill { kind, awaited }) = self.standstill.take() else { return };
        if let Some(awaited) = awaited {
            let _ = awaited.answer.send(Reply::new(Outcome::Refused, format!("given up: {why}")));
        }
        let fields = json!({ "after": kind.name(), "because": why });
        self.parts.events.write(now.as_nanos(), "standstill_over", fields);
    }

    /// A planned change has begun: it empties the region itself, and nobody waits for another to do so.
    pub(super) fn yield_standing(&mut self, now: Tick) {
        if self.standstill.as_ref().is_some_and(|it| it.awaited.is_some()) {
            self.forget_standing("a planned change has begun", now);
        }
    }

    /// It did not get through, and the region serves: unless it stood still before.
    pub(super) fn stand_still_again(&mut self) {
        if let Some(kind) = self.standstill.as_ref().map(|it| it.kind) {
            self.begin_standing(kind);
        }
    }
}
