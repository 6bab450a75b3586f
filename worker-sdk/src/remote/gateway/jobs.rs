//! Jobs: objects that are claimed for workers by turns, and taken back from those who do not end them.

use std::time::Instant;

use hotpair_shm::{AlsoError, OTHERS_PER_CLAIM};

use super::commit::also_refusal;
use super::engine::{Engine, OUT_BYTES_MAX};
use super::port::FarPort;
use super::session::{InHand, Session, SessionId};
use crate::remote::wire::{Event, JobView, MessageView, Refusal};

/// Bytes of jobs in one turn, before others have theirs.
const TURN_BYTES_MAX: usize = 1 << 20;

impl Engine {
    pub(super) fn credit(&mut self, id: SessionId, more: u32, reset: bool) {
        let most = self.limits.claims;
        // Without a queue there are no jobs.
        if let Some(attached) = self.attached(id).filter(|attached| attached.queue.is_some()) {
            let before = if reset { 0 } else { attached.credit };
            attached.credit = before.saturating_add(more).min(most);
        }
    }

    pub(super) fn give_back(&mut self, id: SessionId, job: u64, failed: bool, now: Instant) {
        let Some(held) = self.attached(id).and_then(|attached| attached.take(job, now)) else {
            return;
        };
        self.in_hand -= 1;
        let claim = self.seat.resume(held.claim);
        if failed { claim.fail() } else { claim.give_back() }
    }

    /// Gives everything back that a worker has. With `died`, what it has had longest counts as an attempt: it was at that.
    pub(super) fn release_all(&mut self, id: SessionId, died: bool) {
        let Some(attached) = self.attached(id) else { return };
        (attached.credit, attached.rests) = (0, 0);
        attached.lanes.clear();
        attached.port.iter_mut().for_each(FarPort::give_back);
        let jobs = std::mem::take(&mut attached.jobs);
        self.in_hand -= jobs.len();
        for (at, held) in jobs.into_values().enumerate() {
            let claim = self.seat.resume(held.claim);
            if died && at == 0 { claim.fail() } else { claim.give_back() }
        }
    }

    pub(super) fn also(&mut self, id: SessionId, ask: u32, job: u64, queue: u8, key: &[u8]) {
        let receipts = self.receipts;
        let queue = self.region.queue_at(queue).filter(|&queue| queue != receipts);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let refused = |refusal| Event::Taken { ask, refusal: Some(refusal), slot: 0, value: &[] };
        let jobs = session.attached.as_mut().map(|attached| &mut attached.jobs);
        // A job is taken out of its worker's hands only for what is going to happen.
        let held = jobs.and_then(|jobs| queue.and_then(|_| Some((jobs.remove(&job)?, jobs))));
        match (queue, held) {
            (Some(queue), Some((mut held, jobs))) => {
                let mut claim = self.seat.resume(held.claim);
                // One place is the receipt's.
                let taken = match held.others.len() + 1 < OTHERS_PER_CLAIM {
                    true => claim.also(queue, key),
                    false => Err(AlsoError::TooMany),
                };
                if let Ok(other) = taken {
                    held.others.push(other);
                }
                let (slot, value) = match taken {
                    Ok(other) => {
                        let object = claim.other(other);
                        (object.slot(), object.value().to_vec())
                    }
                    Err(_) => (0, Vec::new()),
                };
                held.claim = claim.suspend();
                jobs.insert(job, held);
                let refusal = taken.err().map(also_refusal);
                session.tell(&Event::Taken { ask, refusal, slot, value: &value });
            }
            (None, _) => session.tell(&refused(Refusal::Absent)),
            (_, None) => session.tell(&refused(Refusal::NoJob)),
        }
        self.speak.push(id);
    }

    pub(super) fn read(&mut self, id: SessionId, ask: u32, queue: u8, key: &[u8]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match self.region.queue_at(queue).map(|queue| self.seat.read(queue, key)) {
            Some(Ok(Some(reading))) => {
                let value = Some(reading.value());
                session.tell(&Event::Value { ask, refusal: None, value });
            }
            Some(Ok(None)) | None => {
                session.tell(&Event::Value { ask, refusal: None, value: None });
            }
            Some(Err(_)) => {
                let refusal = Some(Refusal::Unreadable);
                session.tell(&Event::Value { ask, refusal, value: None });
            }
        }
        self.speak.push(id);
    }

    /// One object each, by turns of hosts and of their connections, until nothing is ready or nobody can take more.
    pub(super) fn claim_by_turns(&mut self, now: Instant) {
        let Self { sessions, shares, .. } = self;
        shares.count(|id| sessions.get(&id).map_or((0, 0), Session::holds));
        let mut bytes = 0;
        let mut empty = [false; 256];
        while self.in_hand < self.limits.claims_all as usize && bytes < TURN_BYTES_MAX {
            let Self { sessions, shares, limits, .. } = self;
            let wants =
                |id| sessions.get(&id).and_then(|session| session.wants(limits, OUT_BYTES_MAX));
            let next =
                shares.next(|id| wants(id).is_some_and(|queue| !empty[usize::from(queue.index())]));
            let Some((id, queue)) = next.and_then(|id| Some((id, wants(id)?))) else { return };
            let Some(claim) = self.seat.claim(queue) else {
                empty[usize::from(queue.index())] = true;
                self.shares.pass(id);
                continue;
            };
            let Some(session) = self.sessions.get_mut(&id) else { return };
            let Some(attached) = session.attached.as_mut() else { return };
            let job = self.next_job;
            self.next_job += 1;
            let messages = claim.messages().map(|message| MessageView {
                id: message.id(),
                source: message.source(),
                payload: message.payload(),
            });
            let view = JobView {
                job,
                slot: claim.slot(),
                attempts: claim.attempts(),
                timer_due: claim.timer_due(),
                timer: claim.timer(),
                key: claim.key(),
                value: claim.value(),
                messages: messages.collect(),
            };
            let before = session.out.len();
            crate::remote::wire::encode_event(&mut session.out, &Event::Job(view));
            let grown = session.out.len() - before;
            bytes += grown;
            self.shares.charge(id, grown);
            if attached.jobs.is_empty() {
                attached.first_since = now;
            }
            attached.credit -= 1;
            let claim = claim.suspend();
            attached.jobs.insert(job, InHand { claim, others: Vec::new(), since: now });
            self.in_hand += 1;
            self.stats.claims += 1;
            self.speak.push(id);
        }
    }

    /// Whoever wants no more than what was ready has got it.
    pub(super) fn answer_rests(&mut self) {
        for (&id, session) in &mut self.sessions {
            let Some(attached) = session.attached.as_mut().filter(|a| a.rests > 0) else {
                continue;
            };
            attached.credit = 0;
            for _ in 0..std::mem::take(&mut attached.rests) {
                session.tell(&Event::Rested);
            }
            self.speak.push(id);
        }
    }

    /// Takes back what a worker does not end. Nobody is asked: a claim that waits here is in this process's hands.
    pub(super) fn look_at_leases(&mut self, now: Instant) {
        let mut late = Vec::new();
        for (&id, session) in &self.sessions {
            let Some(attached) = &session.attached else { continue };
            let Some(queue) = attached.queue else { continue };
            let own = self.region.policy(queue).lease.map(|lease| lease / 2);
            for (at, (&job, held)) in attached.jobs.iter().enumerate() {
                let busy = at == 0 && now - attached.first_since > self.limits.lease;
                // Beyond the queue's own lease the node would hold this process to account for it.
                if busy || own.is_some_and(|own| now - held.since > own) {
                    late.push((id, job, at == 0));
                }
            }
        }
        for (id, job, was_first) in late {
            self.stats.leases += 1;
            self.shares.late(id);
            tracing::warn!(session = id, job, "a remote worker had an object for too long");
            self.give_back(id, job, was_first, now);
            if let Some(session) = self.sessions.get_mut(&id) {
                session.tell(&Event::Revoked { job });
                self.speak.push(id);
            }
        }
    }
}
