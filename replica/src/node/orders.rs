//! What a person asked of the loop, and what it answers when the core says what became of it.

use std::sync::mpsc::SyncSender;

use serde_json::json;

use super::control::{Asked, Outcome, Reply, Request};
use super::draining::Draining;
use super::events::node_name;
use super::standstill::Kind;
use super::turn::Turns;
use crate::protocol::{Cause, Declined, Event, NodeId, Promoting, Tick, View};
use crate::wire::Standing;

/// The one order that is under way.
#[derive(Debug)]
pub(super) struct Order {
    answer: SyncSender<Reply>,
    asked: Tick,
    until: Tick,
    /// Asked of a primary: it is to be another's.
    hands_over: bool,
}

impl Turns {
    /// Somebody asks. The answer comes at once, or with what follows.
    pub(super) fn on_asked(&mut self, asked: Asked, now: Tick) {
        let Asked { request, within, answer } = asked;
        match request {
            Request::Links => {
                let links = self.parts.link.report();
                let _ = answer.send(Reply { links, ..Reply::new(Outcome::Done, "") });
                return;
            }
            Request::Drain { .. } => return self.stand_still(Kind::Drain, within, answer, now),
            Request::Pause { .. } => return self.stand_still(Kind::Pause, within, answer, now),
            Request::Resume => return self.go_on(&answer, now),
            // The thread that was asked reads the files.
            Request::Reload => return,
            Request::Failover { .. } | Request::Promote { .. } => {}
        }
        self.expire_order(now);
        if self.order.is_some() {
            let _ = answer.send(Reply::new(Outcome::Refused, Declined::Busy.to_string()));
            return;
        }
        let core = &mut self.parts.core;
        let hands_over = core.status().standing == Standing::Primary;
        let (what, begun) = match request {
            Request::Failover { .. } => {
                ("failover", core.handle_hand_over(now, within).map(|()| Promoting::HandOver))
            }
            Request::Promote { accept_loss, .. } => {
                ("promote", core.handle_promote(now, accept_loss, within))
            }
            _ => return, // answered above
        };
        let told = begun.map_or_else(|why| why.to_string(), |_| "begun".to_owned());
        self.parts.events.write(
            now.as_nanos(),
            "asked",
            json!({ "what": what, "answer": told, "timeout_ms": within.as_millis() as u64 }),
        );
        let reply = match begun {
            Ok(Promoting::Already) => Reply::new(Outcome::Already, ""),
            Err(why) => Reply::new(Outcome::Refused, why.to_string()),
            Ok(Promoting::HandOver | Promoting::Asking) => {
                let until = now.after(within);
                self.order = Some(Order { answer, asked: now, until, hands_over });
                return;
            }
        };
        let view = self.parts.core.status().view;
        let _ = answer.send(with_view(reply, view));
    }

    /// Something happened that an order may have waited for.
    pub(super) fn note_for_order(&mut self, event: &Event, now: Tick) {
        let Some(order) = &self.order else { return };
        let view = self.parts.core.status().view;
        let reply = match event {
            Event::HandedOver { by } if order.hands_over => {
                let begun = self.draining.as_ref().map_or(order.asked, Draining::begun);
                let reply = Reply::new(Outcome::Done, "");
                with_view(Reply { stood_still_us: micros(now, begun), ..reply }, Some(*by))
            }
            Event::Promoted { cause, .. } if !order.hands_over => {
                let planned = *cause == Cause::Planned;
                let stood_still_us = micros(now, order.asked).filter(|_| planned);
                with_view(Reply { stood_still_us, ..Reply::new(Outcome::Done, "") }, view)
            }
            Event::HandOverEnded { why } | Event::PromotionEnded { why } => {
                let outcome = if why.is_late() { Outcome::TimedOut } else { Outcome::Refused };
                let busy = self.draining.as_ref().filter(|_| *why == Declined::NotFinished);
                let more = busy.map_or_else(String::new, |at| format!(": {}", at.busy));
                with_view(Reply::new(outcome, format!("{why}{more}")), view)
            }
            _ => return,
        };
        self.answer_order(reply);
    }

    /// The core's own patience ends with the order's; this is for what it cannot know, such as a peer that said nothing.
    pub(super) fn expire_order(&mut self, now: Tick) {
        let grace = super::draining::LOOK_EVERY * 100;
        if self.order.as_ref().is_some_and(|order| now >= order.until.after(grace)) {
            let view = self.parts.core.status().view;
            let reply = Reply::new(Outcome::TimedOut, Declined::NotTaken.to_string());
            self.answer_order(with_view(reply, view));
        }
    }

    fn answer_order(&mut self, reply: Reply) {
        if let Some(order) = self.order.take() {
            // Who asked may be gone.
            let _ = order.answer.send(reply);
        }
    }
}

fn micros(now: Tick, since: Tick) -> Option<u64> {
    u64::try_from(now.since(since).as_micros()).ok()
}

pub(super) fn with_view(reply: Reply, view: Option<View>) -> Reply {
    let primary = view.map(|view: View| -> NodeId { view.primary }).map(node_name);
    Reply { primary, epoch: view.map(|view| view.epoch), ..reply }
}
