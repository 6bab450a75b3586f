//! Lanes and receipts: what was asked to be committed, once, and the answer when it is released.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hotpair_shm::{Delivered, Delivery, Endpoint, Seq};

use super::act;
use super::commit::{Done, carry_out, commit_refusal};
use super::engine::{Broken, Engine};
use super::receipt::{self, Receipt};
use super::session::{InHand, Lane, Session, SessionId, Wants};
use crate::remote::wire::{Effects, Outcome, Refusal, Request};

/// Receipts that cannot be written are looked at again after this time.
const RECEIPTS_PAUSE: Duration = Duration::from_millis(5);

/// An answer that waits for its release.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) seq: Seq,
    session: SessionId,
    lane: u16,
    number: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Committed,
    Already,
    Never,
}

impl Engine {
    /// A commit, or the question what has become of one: at once, or when the lane is open.
    pub(super) fn want(
        &mut self,
        id: SessionId,
        lane: u16,
        number: u64,
        wants: Wants,
        frame: &[u8],
        now: Instant,
    ) -> Result<(), Broken> {
        let most = self.limits.lanes;
        let Some(attached) = self.attached(id) else { return Ok(()) };
        if lane >= most {
            return Err(Broken(format!("there are {most} lanes, and this is lane {lane}")));
        }
        match (attached.lanes.get(&lane), wants) {
            (Some(Lane::Opening(..)), _) => {
                Err(Broken(format!("lane {lane} has an unanswered commit already")))
            }
            (Some(&Lane::Open { number: last, .. }), Wants::Commit(_) | Wants::Act(_))
                if number <= last =>
            {
                Err(Broken(format!("commit {number} of lane {lane} comes after {last}")))
            }
            (Some(&Lane::Open { generation, .. }), Wants::Commit(_)) => {
                self.commit(id, frame, generation, now);
                Ok(())
            }
            (open, wants) => {
                let known = open.and_then(|open| match (open, &wants) {
                    (Lane::Open { generation, .. }, Wants::Act(_)) => Some(*generation),
                    _ => None,
                });
                let wants = match wants {
                    Wants::Commit(_) => Wants::Commit(frame.to_vec()),
                    Wants::Act(_) => Wants::Act(frame.to_vec()),
                    other => other,
                };
                attached.lanes.insert(lane, Lane::Opening(known, wants));
                let client = attached.client;
                self.open(id, &client, lane, number);
                Ok(())
            }
        }
    }

    /// Asks the receipt of a lane for its next generation.
    pub(super) fn open(&mut self, id: SessionId, client: &[u8; 16], lane: u16, number: u64) {
        let key = receipt::key(client, lane);
        let to = Delivery { queue: self.receipts, key: Some(&key), priority: 0 };
        if self.receipts_made >= self.limits.receipts {
            return self.not_opened(id, lane, number, "there are as many receipts as there may be");
        }
        if !self.shares.may_open(id) {
            return self.not_opened(
                id,
                lane,
                number,
                "this host has as many receipts as it may have",
            );
        }
        let failed = match self.seat.packet_of(&receipt::opener(id), Endpoint::NONE) {
            Err(error) => Some(error.to_string()),
            Ok(packet) => match self.seat.deliver(to, packet) {
                Ok(delivered) => {
                    if delivered == Delivered::ToNew {
                        self.receipts_made += 1;
                        self.shares.opened(id, &key);
                    }
                    None
                }
                Err((error, packet)) => {
                    self.seat.discard(packet);
                    Some(error.to_string())
                }
            },
        };
        if let Some(text) = failed {
            self.not_opened(id, lane, number, &text);
        }
    }

    /// A commit that was not begun has not happened. A question stays open: the worker connects again and asks again.
    pub(super) fn not_opened(&mut self, id: SessionId, lane: u16, number: u64, text: &str) {
        let was = self.attached(id).and_then(|attached| attached.lanes.remove(&lane));
        match was {
            Some(Lane::Opening(_, Wants::Commit(frame))) => {
                if let Ok(Request::Commit { job, .. }) = Request::decode(&frame) {
                    self.give_back(id, job, false, Instant::now());
                }
                self.answer(id, lane, number, Outcome::Refused(Refusal::OutOf), text);
            }
            Some(Lane::Opening(_, Wants::Act(_))) => {
                self.answer(id, lane, number, Outcome::Refused(Refusal::OutOf), text);
            }
            _ => self.end(id, text),
        }
    }

    pub(super) fn commit(&mut self, id: SessionId, frame: &[u8], generation: u64, now: Instant) {
        let Ok(Request::Commit { lane, number, job, effects, .. }) = Request::decode(frame) else {
            return;
        };
        let role = self.region.role();
        let Some(attached) = self.attached(id) else { return };
        let client = attached.client;
        let Some(held) = attached.take(job, now) else {
            return self.answer(id, lane, number, Outcome::Stale, "");
        };
        self.in_hand -= 1;
        if held.claim.role() != role {
            self.seat.resume(held.claim).give_back();
            return self.answer(id, lane, number, Outcome::Stale, "");
        }
        let InHand { claim, others, .. } = held;
        let claim = self.seat.resume(claim);
        let key = receipt::key(&client, lane);
        let receipt = (self.receipts, &key[..], Receipt { generation, number });
        match carry_out(claim, &others, effects, receipt, self.limits.receipts_kept) {
            Done::Committed(seq) => {
                self.stats.commits += 1;
                self.shares.committed(id);
                if let Some(attached) = self.attached(id) {
                    attached.lanes.insert(lane, Lane::Open { generation, number });
                }
                let kind = Kind::Committed;
                self.answers.push_back(Answer { seq, session: id, lane, number, kind });
            }
            Done::Refused(refusal, text) => {
                self.answer(id, lane, number, Outcome::Refused(refusal), &text);
            }
            Done::Stale => {
                self.stats.stale += 1;
                if let Some(attached) = self.attached(id) {
                    attached.lanes.remove(&lane);
                }
                self.answer(id, lane, number, Outcome::Stale, "");
            }
            Done::Broken(text) => self.end(id, &text),
        }
    }

    /// Receipts that were asked for, or that nobody has asked for in a long time.
    pub(super) fn look_at_receipts(&mut self, now: Instant) {
        if self.receipts_later.is_some_and(|later| now < later) {
            return;
        }
        self.receipts_later = None;
        let kept = self.limits.receipts_kept;
        let attached = self.sessions.values().filter_map(|session| session.attached.as_ref());
        let live: Vec<[u8; 16]> = attached.map(|attached| attached.client).collect();
        loop {
            // A `while let` would borrow the seat up to the end of the turn.
            let Some(mut claim) = self.seat.claim(self.receipts) else { break };
            let asking: Vec<SessionId> = claim
                .messages()
                .filter_map(|message| receipt::opened_by(message.payload()))
                .collect();
            let named = receipt::of_key(claim.key());
            let is_live = named.is_some_and(|(client, _)| live.contains(&client));
            if asking.is_empty() && !is_live {
                let key = claim.key().to_vec();
                claim.withdraw();
                // Or it is ready again, and is looked at again.
                if claim.commit().is_ok() {
                    self.receipts_made = self.receipts_made.saturating_sub(1);
                    self.shares.withdrawn(&key);
                }
                continue;
            }
            let before = Receipt::read(claim.value());
            let asker = named.and_then(|named| opening(&mut self.sessions, &asking, named));
            let (mut refused, mut broken) = (None, None);
            let after = match &asker {
                None if asking.is_empty() => before,
                // Whoever has asked is gone.
                None => Receipt { generation: before.generation + 1, ..before },
                Some((_, _, Some(known), _)) if *known != before.generation => before,
                Some((_, _, known, wants)) => {
                    let generation = known.unwrap_or(before.generation + 1);
                    match act_of(wants) {
                        None => Receipt { generation, ..before },
                        Some((number, _)) if number <= before.number => {
                            broken = Some(format!("commit {number} comes after {}", before.number));
                            before
                        }
                        Some((number, effects)) => {
                            refused = act::stage(&mut claim, self.receipts, effects).err();
                            Receipt { generation, number }
                        }
                    }
                }
            };
            let written = match after == before {
                true => claim.value_mut().map(drop),
                false => claim.set_value(&after.bytes()),
            };
            claim.set_timer(kept);
            let mut committed = None;
            if refused.is_some() || written.is_err() {
                claim.give_back();
            } else {
                match claim.commit() {
                    Ok(seq) => committed = Some(seq),
                    Err(error) => {
                        let text = error.to_string();
                        refused = Some(Done::Refused(commit_refusal(&error), text));
                    }
                }
            }
            let Some((id, lane, known, wants)) = asker else {
                match committed {
                    Some(_) => continue,
                    None => {
                        self.receipts_later = Some(now + RECEIPTS_PAUSE);
                        break;
                    }
                }
            };
            match committed {
                Some(seq) => {
                    let stale = known.is_some_and(|known| known != before.generation);
                    if let Some(text) = broken {
                        self.end(id, &text);
                    } else if stale {
                        self.never(id, lane);
                    } else {
                        self.opened(id, lane, after, seq, now);
                    }
                }
                // The receipt is ready again, and is put in order without what was asked for.
                None => {
                    let Some((number, _)) = act_of(wants) else {
                        // There is no room for it: the others have their turn, and those whose blocks come back.
                        self.receipts_later = Some(now + RECEIPTS_PAUSE);
                        break;
                    };
                    match refused {
                        Some(Done::Refused(refusal, text)) => {
                            *wants = Wants::Refuse(number, refusal, text);
                        }
                        Some(Done::Broken(text)) => {
                            *wants = Wants::Refuse(number, Refusal::Create, text.clone());
                            self.end(id, &text);
                        }
                        _ => {
                            self.receipts_later = Some(now + RECEIPTS_PAUSE);
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Another session has the lane: what was asked for on it has not happened.
    pub(super) fn never(&mut self, id: SessionId, lane: u16) {
        self.stats.stale += 1;
        let was = self.attached(id).and_then(|attached| attached.lanes.remove(&lane));
        if let Some(Lane::Opening(_, wants)) = was
            && let Some((number, _)) = act_of(&wants)
        {
            self.answer(id, lane, number, Outcome::Stale, "");
        }
    }

    /// A lane is open: no commit of an earlier session can happen any more. An act has happened.
    pub(super) fn opened(
        &mut self,
        id: SessionId,
        lane: u16,
        receipt: Receipt,
        seq: Seq,
        now: Instant,
    ) {
        let Receipt { generation, number: last } = receipt;
        let Some(attached) = self.attached(id) else { return };
        let opened = Lane::Open { generation, number: last };
        let Some(Lane::Opening(_, wants)) = attached.lanes.insert(lane, opened) else { return };
        match wants {
            Wants::Commit(frame) => match Request::decode(&frame) {
                Ok(Request::Commit { number, .. }) if number <= last => {
                    self.end(id, &format!("commit {number} of lane {lane} comes after {last}"));
                }
                _ => self.commit(id, &frame, generation, now),
            },
            Wants::Act(_) => {
                self.stats.commits += 1;
                let kind = Kind::Committed;
                self.answers.push_back(Answer { seq, session: id, lane, number: last, kind });
            }
            // Both answers wait for the release: what is not released may be lost, the new generation too.
            Wants::Resolve(number) => {
                self.stats.resolved += 1;
                let kind = if number == last { Kind::Already } else { Kind::Never };
                self.answers.push_back(Answer { seq, session: id, lane, number, kind });
            }
            Wants::Refuse(number, refusal, text) => {
                self.answer(id, lane, number, Outcome::Refused(refusal), &text);
            }
        }
    }

    pub(super) fn release_answers(&mut self) {
        let released = self.region.released();
        if self.region.role() != self.role {
            // What another epoch has released says nothing about the commits of this one.
            return;
        }
        while let Some(answer) = self.answers.pop_front_if(|answer| answer.seq <= released) {
            let Answer { seq, session, lane, number, kind } = answer;
            let seq = seq.to_bits();
            let outcome = match kind {
                Kind::Committed => Outcome::Committed { seq },
                Kind::Already => Outcome::AlreadyCommitted { seq },
                Kind::Never => Outcome::Stale,
            };
            self.answer(session, lane, number, outcome, "");
        }
    }
}

/// The session that has asked for a lane and is still there; what it wants; the generation that it knows.
fn opening<'s>(
    sessions: &'s mut BTreeMap<SessionId, Session>,
    asking: &[SessionId],
    (client, lane): ([u8; 16], u16),
) -> Option<(SessionId, u16, Option<u64>, &'s mut Wants)> {
    let id = *asking.iter().rev().find(|id| {
        let attached = sessions.get(id).and_then(|session| session.attached.as_ref());
        attached.is_some_and(|attached| {
            attached.client == client
                && matches!(attached.lanes.get(&lane), Some(Lane::Opening(..)))
        })
    })?;
    match sessions.get_mut(&id)?.attached.as_mut()?.lanes.get_mut(&lane)? {
        Lane::Opening(known, wants) => Some((id, lane, *known, wants)),
        Lane::Open { .. } => None,
    }
}

/// Number and effects of an act.
fn act_of(wants: &Wants) -> Option<(u64, Effects<'_>)> {
    let Wants::Act(frame) = wants else { return None };
    match Request::decode(frame) {
        Ok(Request::Act { number, effects, .. }) => Some((number, effects)),
        _ => None,
    }
}
