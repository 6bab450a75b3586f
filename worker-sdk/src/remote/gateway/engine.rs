//! What a gateway does in the region for its workers. It opens no socket and reads no clock.
//!
//! ```text
//!   frame ──► handle ──► claim, commit, receipt ──► region
//!                                                     │ released ≥ seq
//!   frame ◄── out    ◄── turn: role, receipts, answers, claims by turns, leases
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use hotpair_shm::{
    AlsoError, Bell, Delivered, Delivery, Endpoint, OTHERS_PER_CLAIM, Participant, PortId, QueueId,
    Region, RoleEpoch, Seq,
};

use super::act;
use super::commit::{Done, also_refusal, carry_out, commit_refusal};
use super::port::FarPort;
use super::receipt::{self, Receipt};
use super::session::{Attached, InHand, Lane, Session, SessionId, Wants};
use super::shares::{Host, Shares};
use super::watch::Looks;
use super::{Limits, Stats};
use crate::remote::wire::{
    Effects, Event, JobView, MessageView, Outcome, Refusal, Request, VERSIONS,
};

/// Frames that wait to be written to one worker, in bytes: beyond it nothing is claimed or read for it.
pub(super) const OUT_BYTES_MAX: usize = 256 << 10;

/// The same for the connections of one host together: beyond it nothing is claimed for any of them.
const HOST_OUT_BYTES_MAX: usize = 8 << 20;

/// Bytes of jobs in one turn, before others have theirs.
const TURN_BYTES_MAX: usize = 1 << 20;

/// Receipts that cannot be written are looked at again after this time.
const RECEIPTS_PAUSE: Duration = Duration::from_millis(5);

/// Of a region's objects so many may be receipts: one in four.
const RECEIPTS_PART: u32 = 4;

/// An answer that waits for its release.
#[derive(Debug)]
struct Answer {
    seq: Seq,
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

/// The workers of one gateway, and its seat in the region.
pub(crate) struct Engine {
    pub(super) seat: Participant,
    pub(super) region: Region,
    pub(super) receipts: QueueId,
    bell: PortId,
    pub(super) limits: Limits,
    pub(super) role: RoleEpoch,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    next_session: SessionId,
    next_job: u64,
    in_hand: usize,
    /// Receipts that were made and not withdrawn.
    receipts_made: u32,
    /// In order of their seqs.
    answers: VecDeque<Answer>,
    pub(super) looks: Looks,
    /// Whose turn it is to be given something.
    shares: Shares,
    /// Receipts could not be written: they are not looked at before.
    receipts_later: Option<Instant>,
    /// Sessions that have something to be written.
    pub(super) speak: Vec<SessionId>,
    /// Bells of ports that have just come.
    pub(super) bells: Vec<(SessionId, UnixDatagram)>,
    stats: Stats,
}

/// The worker has done what nobody may: its connection ends, with this text.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

impl From<crate::remote::wire::WireError> for Broken {
    fn from(error: crate::remote::wire::WireError) -> Self {
        Self(error.to_string())
    }
}

impl Engine {
    /// `first_session` has to differ from that of any other gateway: messages to receipts name sessions.
    pub(crate) fn new(
        seat: Participant,
        receipts: QueueId,
        bell: PortId,
        limits: Limits,
        first_session: SessionId,
    ) -> Self {
        let region = seat.region().clone();
        // Those of a predecessor are receipts as well.
        let made = region.objects().filter(|object| object.queue == receipts).count();
        let room = region.geometry().slots / RECEIPTS_PART;
        let limits = Limits { receipts: limits.receipts.min(room), ..limits };
        let shares = Shares::new(&limits, limits.receipts, HOST_OUT_BYTES_MAX);
        Self {
            role: region.role(),
            seat,
            region,
            receipts,
            bell,
            limits,
            sessions: BTreeMap::new(),
            next_session: first_session,
            next_job: 1,
            in_hand: 0,
            receipts_made: made as u32,
            answers: VecDeque::new(),
            looks: Looks::default(),
            shares,
            receipts_later: None,
            speak: Vec::new(),
            bells: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// A worker has connected.
    pub(crate) fn connect(&mut self, host: Host) -> SessionId {
        let id = self.next_session;
        self.next_session = self.next_session.wrapping_add(1);
        self.sessions.insert(id, Session::default());
        self.shares.connect(id, host);
        id
    }

    /// A connection is gone: what it had in hand is ready again at once. What it was working on counts as an attempt.
    pub(crate) fn disconnect(&mut self, id: SessionId) {
        self.release_all(id, true);
        self.sessions.remove(&id);
        self.looks.forget(id);
        self.grant_ports();
        self.shares.disconnect(id);
    }

    /// A worker has ended its connection by itself: what it has not begun or given back yet is as it was.
    pub(crate) fn leave(&mut self, id: SessionId) {
        self.release_all(id, false);
    }

    /// What is to be written to a worker; and whether it is the last.
    pub(crate) fn take_out(&mut self, id: SessionId) -> Option<(Vec<u8>, bool)> {
        let session = self.sessions.get_mut(&id)?;
        Some((std::mem::take(&mut session.out), session.over))
    }

    /// What this gateway has, and has done.
    pub(crate) fn stats(&self) -> Stats {
        let bytes = self.sessions.values().map(|session| session.out.len()).sum();
        Stats { in_hand: self.in_hand, receipts: self.receipts_made, bytes, ..self.stats }
    }

    /// Whether a worker reads so slowly that nothing more is read from it for the moment.
    pub(crate) fn is_full(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.out.len() > OUT_BYTES_MAX)
    }

    /// Takes a frame of a worker.
    pub(crate) fn handle(
        &mut self,
        id: SessionId,
        frame: &[u8],
        now: Instant,
    ) -> Result<(), Broken> {
        let request = Request::decode(frame)?;
        self.shares.charge(id, frame.len());
        let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.over) else {
            return Ok(());
        };
        match (&request, session.greeted, session.attached.is_some()) {
            (Request::Hello { .. }, false, _)
            | (Request::Attach { .. } | Request::AttachPort { .. }, true, false) => {}
            // Who only looks is not attached.
            (Request::Get { .. } | Request::Watch { .. } | Request::Unwatch { .. }, true, _) => {}
            (Request::Hello { .. } | Request::Attach { .. } | Request::AttachPort { .. }, _, _)
            | (_, _, false) => {
                return Err(Broken("a request comes at the wrong time".to_owned()));
            }
            _ => {}
        }
        match request {
            Request::Hello { oldest, newest } => self.greet(id, oldest, newest)?,
            Request::Attach { client, queue, lanes } => {
                self.attach(id, client, queue, lanes, now)?
            }
            Request::AttachPort { client, port, lanes } => {
                self.attach_port(id, client, port, lanes, now)?
            }
            Request::Credit { more, reset } => self.credit(id, more, reset),
            Request::GiveBack { job, failed, credit } => {
                self.give_back(id, job, failed, now);
                self.credit(id, credit, false);
            }
            Request::Commit { lane, number, credit, .. } => {
                self.credit(id, credit, false);
                self.want(id, lane, number, Wants::Commit(Vec::new()), frame, now)?;
            }
            Request::Resolve { lane, number } => {
                self.want(id, lane, number, Wants::Resolve(number), frame, now)?;
            }
            Request::Act { lane, number, .. } => {
                self.want(id, lane, number, Wants::Act(Vec::new()), frame, now)?;
            }
            Request::Sent { seq, ordinal } => self.sent(id, seq, ordinal)?,
            Request::Also { ask, job, queue, key } => self.also(id, ask, job, queue, key),
            Request::Read { ask, queue, key } => self.read(id, ask, queue, key),
            Request::Get { ask, queue, key } => self.begin_look(id, ask, (queue, key), true)?,
            Request::Watch { ask, queue, key } => self.begin_look(id, ask, (queue, key), false)?,
            Request::Unwatch { ask } => self.end_look(id, ask),
            Request::Rest => {
                if let Some(attached) = self.attached(id) {
                    attached.rests = attached.rests.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    fn greet(&mut self, id: SessionId, oldest: u16, newest: u16) -> Result<(), Broken> {
        if newest < *VERSIONS.start() || oldest > *VERSIONS.end() {
            return Err(Broken(format!(
                "the worker speaks versions {oldest} to {newest}, this gateway {} to {}",
                VERSIONS.start(),
                VERSIONS.end()
            )));
        }
        let geometry = self.region.geometry().clone();
        let (serving, epoch) = (self.role.serves(), self.role.epoch());
        let lanes = self.limits.lanes;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        session.greeted = true;
        session.tell(&Event::Welcome {
            version: newest.min(*VERSIONS.end()),
            lanes,
            queues: geometry.queues.iter().map(|queue| queue.name.as_str()).collect(),
            ports: geometry.ports.iter().map(String::as_str).collect(),
        });
        session.tell(&Event::Role { serving, epoch });
        self.speak.push(id);
        Ok(())
    }

    fn attach(
        &mut self,
        id: SessionId,
        client: [u8; 16],
        queue: &str,
        lanes: u16,
        now: Instant,
    ) -> Result<(), Broken> {
        let queue = match queue {
            "" => None,
            name => {
                let known = self.region.queue(name).filter(|&queue| queue != self.receipts);
                let none = || Broken(format!("the region has no queue {name:?} for workers"));
                Some(known.ok_or_else(none)?)
            }
        };
        self.enter(id, client, queue, lanes, now)
    }

    /// A port of another host.
    fn attach_port(
        &mut self,
        id: SessionId,
        client: [u8; 16],
        name: &str,
        lanes: u16,
        now: Instant,
    ) -> Result<(), Broken> {
        let Some(port) = self.region.port(name).filter(|&port| port != self.bell) else {
            return Err(Broken(format!("the region has no port {name:?} for packets")));
        };
        let most = self.limits.ports;
        let attached = self.sessions.values().filter_map(|session| session.attached.as_ref());
        let ports = attached.filter(|a| a.port.is_some() || a.wants_port.is_some());
        if ports.filter(|attached| attached.client != client).count() >= most as usize {
            return Err(Broken(format!("at most {most} ports come by this gateway")));
        }
        self.enter(id, client, None, lanes, now)?;
        if let Some(attached) = self.attached(id) {
            attached.wants_port = Some(port);
        }
        self.grant_ports();
        Ok(())
    }

    /// One program at a time has the packets that are emitted to a port; the next one waits, and takes over when that is gone.
    fn grant_ports(&mut self) {
        let attached = self.sessions.values().filter_map(|session| session.attached.as_ref());
        let mut taken: Vec<PortId> =
            attached.filter_map(|attached| Some(attached.port.as_ref()?.port())).collect();
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let Some(port) = self.attached(id).and_then(|attached| attached.wants_port) else {
                continue;
            };
            if taken.contains(&port) {
                continue;
            }
            let name = self.region.geometry().ports[usize::from(port.index())].clone();
            match FarPort::join(&self.region, port, &name) {
                Ok((far, bell)) => {
                    taken.push(port);
                    self.bells.push((id, bell));
                    if let Some(attached) = self.attached(id) {
                        attached.wants_port = None;
                        attached.port = Some(far);
                    }
                    if let Some(session) = self.sessions.get_mut(&id) {
                        session.tell(&Event::Port);
                        self.speak.push(id);
                    }
                }
                Err(error) => self.end(id, &format!("there is no seat for the port: {error}")),
            }
        }
    }

    fn enter(
        &mut self,
        id: SessionId,
        client: [u8; 16],
        queue: Option<QueueId>,
        lanes: u16,
        now: Instant,
    ) -> Result<(), Broken> {
        if lanes > self.limits.lanes {
            let most = self.limits.lanes;
            return Err(Broken(format!("a worker has at most {most} lanes, this one {lanes}")));
        }
        // The worker has given up its other connection, whether or not that is known here.
        let same = |session: &Session| {
            session.attached.as_ref().is_some_and(|attached| attached.client == client)
        };
        let older: Vec<_> =
            self.sessions.iter().filter(|(_, s)| same(s)).map(|(&older, _)| older).collect();
        for older in older {
            self.release_all(older, false);
            self.end(older, "the worker has attached by another connection");
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.attached = Some(Attached {
                client,
                queue,
                port: None,
                wants_port: None,
                lanes: Default::default(),
                jobs: BTreeMap::new(),
                first_since: now,
                credit: 0,
                rests: 0,
            });
        }
        Ok(())
    }

    /// Says why, and nothing more.
    pub(crate) fn end(&mut self, id: SessionId, text: &str) {
        if let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.over) {
            session.tell(&Event::Refused { text });
            session.over = true;
            self.stats.refused += 1;
            self.speak.push(id);
        }
    }

    fn attached(&mut self, id: SessionId) -> Option<&mut Attached> {
        self.sessions.get_mut(&id)?.attached.as_mut()
    }

    fn credit(&mut self, id: SessionId, more: u32, reset: bool) {
        let most = self.limits.claims;
        // Without a queue there are no jobs.
        if let Some(attached) = self.attached(id).filter(|attached| attached.queue.is_some()) {
            let before = if reset { 0 } else { attached.credit };
            attached.credit = before.saturating_add(more).min(most);
        }
    }

    fn give_back(&mut self, id: SessionId, job: u64, failed: bool, now: Instant) {
        let Some(held) = self.attached(id).and_then(|attached| attached.take(job, now)) else {
            return;
        };
        self.in_hand -= 1;
        let claim = self.seat.resume(held.claim);
        if failed { claim.fail() } else { claim.give_back() }
    }

    /// Gives everything back that a worker has. With `died`, what it has had longest counts as an attempt: it was at that.
    fn release_all(&mut self, id: SessionId, died: bool) {
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

    fn sent(&mut self, id: SessionId, seq: u64, ordinal: u32) -> Result<(), Broken> {
        let Some(port) = self.attached(id).and_then(|attached| attached.port.as_mut()) else {
            return Err(Broken("only a port sends packets".to_owned()));
        };
        let count = port.sent(seq, ordinal);
        self.stats.packets += count as u64;
        Ok(())
    }

    fn answer(&mut self, id: SessionId, lane: u16, number: u64, outcome: Outcome, text: &str) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.tell(&Event::Answer { lane, number, outcome, text });
            self.speak.push(id);
        }
    }

    /// A commit, or the question what has become of one: at once, or when the lane is open.
    fn want(
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
    fn open(&mut self, id: SessionId, client: &[u8; 16], lane: u16, number: u64) {
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
    fn not_opened(&mut self, id: SessionId, lane: u16, number: u64, text: &str) {
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

    fn commit(&mut self, id: SessionId, frame: &[u8], generation: u64, now: Instant) {
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

    fn also(&mut self, id: SessionId, ask: u32, job: u64, queue: u8, key: &[u8]) {
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

    fn read(&mut self, id: SessionId, ask: u32, queue: u8, key: &[u8]) {
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

    /// Everything that time or others bring. Says when it wants to be called again at the latest.
    pub(crate) fn turn(&mut self, now: Instant) -> Option<Duration> {
        self.look_at_role();
        let mut soon = None;
        if self.role.serves() {
            self.look_at_receipts(now);
            self.release_answers();
            soon = self.look(now);
            self.hand_packets_on();
        }
        self.look_at_leases(now);
        if self.role.serves() {
            self.claim_by_turns(now);
            self.answer_rests();
        }
        let attached = self.sessions.values().filter_map(|session| session.attached.as_ref());
        let mut ports = attached.filter_map(|attached| attached.port.as_ref());
        let held = self.in_hand > 0 || ports.any(FarPort::is_sending);
        let looks = (held || !self.answers.is_empty()).then_some(self.limits.look_every());
        let receipts = self.receipts_later.map(|later| later.saturating_duration_since(now));
        let due = [soon, looks, receipts, self.seat.next_offer()];
        due.into_iter().flatten().min()
    }

    fn look_at_role(&mut self) {
        let role = self.region.role();
        if role == self.role {
            return;
        }
        // Claims of an older role do not commit, and whoever changes the role waits for them.
        let goes_on = role.serves() && role.epoch() == self.role.epoch();
        self.role = role;
        if !goes_on {
            // Whether what they are about is part of the state that is served from now on, only a question can tell.
            self.answers.clear();
            self.looks.clear();
        }
        let (serving, epoch) = (role.serves(), role.epoch());
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let credit = self.attached(id).map_or(0, |attached| attached.credit);
            let lanes = self.attached(id).map(|attached| std::mem::take(&mut attached.lanes));
            self.release_all(id, false);
            if let (true, Some(attached), Some(lanes)) = (goes_on, self.attached(id), lanes) {
                attached.credit = credit;
                attached.lanes = lanes;
            }
            let Some(session) = self.sessions.get_mut(&id).filter(|session| session.greeted) else {
                continue;
            };
            if session.attached.is_some() {
                session.tell(&Event::Revoked { job: 0 });
            }
            session.tell(&Event::Role { serving, epoch });
            self.speak.push(id);
        }
    }

    /// Receipts that were asked for, or that nobody has asked for in a long time.
    fn look_at_receipts(&mut self, now: Instant) {
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
    fn never(&mut self, id: SessionId, lane: u16) {
        self.stats.stale += 1;
        let was = self.attached(id).and_then(|attached| attached.lanes.remove(&lane));
        if let Some(Lane::Opening(_, wants)) = was
            && let Some((number, _)) = act_of(&wants)
        {
            self.answer(id, lane, number, Outcome::Stale, "");
        }
    }

    /// A lane is open: no commit of an earlier session can happen any more. An act has happened.
    fn opened(&mut self, id: SessionId, lane: u16, receipt: Receipt, seq: Seq, now: Instant) {
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

    /// What is released for ports of other hosts.
    fn hand_packets_on(&mut self) {
        for (&id, session) in &mut self.sessions {
            let Some(attached) = session.attached.as_mut().filter(|_| !session.over) else {
                continue;
            };
            if let Some(port) = &mut attached.port
                && port.hand_on(&mut session.out, OUT_BYTES_MAX)
            {
                self.speak.push(id);
            }
        }
    }

    fn release_answers(&mut self) {
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

    /// One object each, by turns of hosts and of their connections, until nothing is ready or nobody can take more.
    fn claim_by_turns(&mut self, now: Instant) {
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
    fn answer_rests(&mut self) {
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
    fn look_at_leases(&mut self, now: Instant) {
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

    /// The bells that this gateway is to be woken by.
    fn bells(&self) -> Vec<Bell> {
        let mut bells = Vec::new();
        if self.receipts_later.is_none() {
            bells.push(Bell::Queue(self.receipts));
        }
        if !self.answers.is_empty() || self.looks.listen() {
            bells.push(Bell::Port(self.bell));
        }
        // Ready objects that nobody here may have are no reason to stay awake.
        let hungry = self.sessions.iter().filter(|&(&id, _)| self.shares.has_room(id));
        for queue in hungry.filter_map(|(_, session)| session.wants(&self.limits, OUT_BYTES_MAX)) {
            if !bells.contains(&Bell::Queue(queue)) {
                bells.push(Bell::Queue(queue));
            }
        }
        bells
    }

    /// Announces a sleep. False: there is something to do.
    pub(crate) fn arm(&mut self) -> bool {
        let mut quiet = true;
        for bell in self.bells() {
            // A queue that is full of work for which all workers here are at their limit is no reason to stay awake.
            quiet &= self.seat.arm_bell(bell) || self.in_hand >= self.limits.claims_all as usize;
        }
        for session in self.sessions.values_mut() {
            let written = session.out.len() < OUT_BYTES_MAX;
            let port = session.attached.as_mut().and_then(|attached| attached.port.as_mut());
            quiet &= port.filter(|_| written).is_none_or(FarPort::arm);
        }
        let released = self.region.released();
        let due = self.answers.front().is_some_and(|first| first.seq <= released)
            || self.looks.is_due(released);
        quiet && !due && self.region.role() == self.role
    }

    /// Ends the sleep.
    pub(crate) fn disarm(&mut self) {
        for queue in 0..self.region.geometry().queues.len() as u8 {
            if let Some(queue) = self.region.queue_at(queue) {
                self.seat.cancel_bell(Bell::Queue(queue));
            }
        }
        self.seat.disarm_bell(Bell::Port(self.bell));
        let attached = self.sessions.values_mut().filter_map(|session| session.attached.as_mut());
        attached.filter_map(|attached| attached.port.as_mut()).for_each(FarPort::disarm);
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
