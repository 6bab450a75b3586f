//! What a gateway does in the region for its workers. It opens no socket and reads no clock.
//!
//! ```text
//!   frame ──► handle ──► claim, commit, receipt ──► region
//!                                                     │ released ≥ seq
//!   frame ◄── out    ◄── turn: role, receipts, answers, claims by turns, leases
//! ```
//! Here is who is connected, and what wakes the gateway. What they do has rooms of its own: jobs, lanes (commits and
//! receipts), ports, watches.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use hotpair_shm::{Bell, Participant, PortId, QueueId, Region, RoleEpoch};

use super::lanes::Answer;
use super::port::FarPort;
use super::session::{Attached, Session, SessionId, Wants};
use super::shares::{Host, Shares};
use super::watch::Looks;
use super::{Limits, Stats};
use crate::remote::wire::{Event, Outcome, Request, VERSIONS};

/// Frames that wait to be written to one worker, in bytes: beyond it nothing is claimed or read for it.
pub(super) const OUT_BYTES_MAX: usize = 256 << 10;

/// The same for the connections of one host together: beyond it nothing is claimed for any of them.
const HOST_OUT_BYTES_MAX: usize = 8 << 20;

/// Of a region's objects so many may be receipts: one in four.
const RECEIPTS_PART: u32 = 4;

/// The workers of one gateway, and its seat in the region.
pub(crate) struct Engine {
    pub(super) seat: Participant,
    pub(super) region: Region,
    pub(super) receipts: QueueId,
    pub(super) bell: PortId,
    pub(super) limits: Limits,
    pub(super) role: RoleEpoch,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    next_session: SessionId,
    pub(super) next_job: u64,
    pub(super) in_hand: usize,
    /// Receipts that were made and not withdrawn.
    pub(super) receipts_made: u32,
    /// In order of their seqs.
    pub(super) answers: VecDeque<Answer>,
    pub(super) looks: Looks,
    /// Whose turn it is to be given something.
    pub(super) shares: Shares,
    /// Receipts could not be written: they are not looked at before.
    pub(super) receipts_later: Option<Instant>,
    /// Sessions that have something to be written.
    pub(super) speak: Vec<SessionId>,
    /// Bells of ports that have just come.
    pub(super) bells: Vec<(SessionId, UnixDatagram)>,
    pub(super) stats: Stats,
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

    pub(super) fn enter(
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

    pub(super) fn attached(&mut self, id: SessionId) -> Option<&mut Attached> {
        self.sessions.get_mut(&id)?.attached.as_mut()
    }

    pub(super) fn answer(
        &mut self,
        id: SessionId,
        lane: u16,
        number: u64,
        outcome: Outcome,
        text: &str,
    ) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.tell(&Event::Answer { lane, number, outcome, text });
            self.speak.push(id);
        }
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
