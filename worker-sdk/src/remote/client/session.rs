//! One remote worker, client or port as a state machine: which path it works by, what it has in hand, which commits are unanswered. It opens
//! no socket, reads no clock, starts nothing.
//!
//! ```text
//!   commit:  Free ──► Sent ──────────────────────────► Answered ──► Free
//!                      │ path or epoch changed             ▲
//!                      └──► Open ──► Asked (resolve) ──────┘
//! ```
//! A commit is sent once. If its answer may be lost, the question what has become of it is sent, on whichever path leads to
//! the primary by then; never the commit itself.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use super::super::wire::{
    Effects, EffectsDraft, Event, FRAME_BYTES_MAX, JobView, Outcome, Refusal, Request, VERSIONS,
    WireError, encode_request,
};
use super::job::OwnedJob;
use super::looking::Looks;
use super::worker::index;

/// Names a commit of this worker: its place among the unanswered ones, and its number there.
pub(super) type Ticket = (u16, u64);

/// What may wait to be written to one gateway when it says something: all that a worker would ask for.
const OUT_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// Names a path: one address of one node.
pub(super) type PathId = usize;

#[derive(Debug, Default)]
struct Path {
    welcomed: bool,
    attached: bool,
    /// It is the port that it has attached as.
    is_port: bool,
    serving: Option<u16>,
    out: Vec<u8>,
    /// Its gateway has said that this worker is not wanted.
    refused: bool,
    /// It does not even connect, because the certificates do not go together.
    unwanted: Option<String>,
}

#[derive(Clone, Debug)]
enum Lane {
    Free,
    /// Its answer comes on the path that is active, unless that changes.
    Sent,
    /// Nobody has been asked yet what has become of it.
    Open,
    Asked,
    Answered(Outcome, String),
}

/// The answer to a question about another object.
#[derive(Debug)]
pub(super) enum Told {
    Taken {
        refusal: Option<Refusal>,
        slot: u32,
        value: Vec<u8>,
    },
    Value {
        refusal: Option<Refusal>,
        value: Option<Vec<u8>>,
    },
    /// The path is gone.
    Lost,
}

/// What it is at its gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Works on the objects of this queue.
    Worker(String),
    /// Sends what is emitted to this port.
    Port(String),
    /// Looks at objects, and puts and sends without having been given work.
    Client,
}

/// A packet that a gateway has handed out.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) activation: u64,
    pub(super) seq: u64,
    pub(super) ordinal: u32,
    pub(super) to: Option<SocketAddr>,
    pub(super) payload: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    client: [u8; 16],
    purpose: Purpose,
    prefetch: u32,
    paths: Vec<Path>,
    /// Of each path, whose it is.
    members: Vec<String>,
    active: Option<PathId>,
    /// Which activation the present one is: jobs and questions of an earlier one are void.
    activation: u64,
    pub(super) queues: Vec<String>,
    pub(super) ports: Vec<String>,
    jobs: VecDeque<OwnedJob>,
    packets: VecDeque<Handed>,
    /// Jobs that were asked for and have not come.
    asked: u32,
    /// Somebody waits for a job, or has one in hand.
    busy: bool,
    /// Somebody waits for a job.
    hungry: bool,
    /// Something has come that somebody may wait for.
    news: bool,
    /// How often was asked whether anything more is ready, and how often this was answered.
    rests: (u64, u64),
    /// State, last number, and whether nobody waits for the answer.
    lanes: Vec<(Lane, u64, bool)>,
    /// So many of them the gateway allows.
    usable: u16,
    asks: HashMap<u32, Option<Told>>,
    next_ask: u32,
    pub(super) looks: Looks,
    /// A client has seen states of this epoch, and shows none of an older one any more.
    oldest: u16,
    /// Paths whose frames are to be written.
    speak: Vec<PathId>,
    /// A gateway has said that this worker is not wanted.
    pub(super) refused: Option<String>,
    pub(super) counts: Counts,
}

/// What has happened to this worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often it has begun to work by another path, or in another epoch.
    pub activations: u64,
    /// Commits whose answer was lost and that had happened.
    pub already_committed: u64,
    /// Commits that have not happened and never will.
    pub stale: u64,
}

impl Session {
    pub(super) fn new(
        client: [u8; 16],
        purpose: Purpose,
        members: Vec<String>,
        lanes: u16,
        prefetch: u32,
    ) -> Self {
        Self {
            client,
            purpose,
            prefetch: prefetch.max(1),
            paths: members.iter().map(|_| Path::default()).collect(),
            members,
            active: None,
            activation: 0,
            queues: Vec::new(),
            ports: Vec::new(),
            jobs: VecDeque::new(),
            packets: VecDeque::new(),
            asked: 0,
            busy: false,
            hungry: false,
            news: false,
            rests: (0, 0),
            lanes: vec![(Lane::Free, 0, false); usize::from(lanes.max(1))],
            usable: lanes.max(1),
            asks: HashMap::new(),
            next_ask: 0,
            looks: Looks::default(),
            oldest: 0,
            speak: Vec::new(),
            refused: None,
            counts: Counts::default(),
        }
    }

    /// A path leads to a gateway.
    pub(super) fn connected(&mut self, path: PathId) {
        self.paths[path] = Path::default();
        let (oldest, newest) = (*VERSIONS.start(), *VERSIONS.end());
        self.send(path, &Request::Hello { oldest, newest });
    }

    /// A path is gone. Whether its gateway had welcomed this worker, and whether it has sent it away.
    pub(super) fn lost(&mut self, path: PathId) -> (bool, bool) {
        let Path { welcomed, refused, .. } = std::mem::take(&mut self.paths[path]);
        self.choose();
        (welcomed, refused)
    }

    /// A path does not come about, and will not until somebody changes certificates. When that is true of all of them, whoever
    /// waits is told.
    pub(super) fn unwanted(&mut self, path: PathId, text: &str) {
        self.paths[path].unwanted = Some(text.to_owned());
        if self.paths.iter().all(|path| path.unwanted.is_some()) {
            self.refused = Some(text.to_owned());
        }
    }

    /// Whether something has come since the last call that somebody may wait for.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// What is to be written by a path.
    pub(super) fn take_out(&mut self, path: PathId) -> Vec<u8> {
        std::mem::take(&mut self.paths[path].out)
    }

    /// Paths that have got something to be written since the last call.
    pub(super) fn take_speakers(&mut self) -> Vec<PathId> {
        std::mem::take(&mut self.speak)
    }

    /// The queue that it works for.
    pub(super) fn queue(&self) -> Option<&str> {
        match &self.purpose {
            Purpose::Worker(queue) => Some(queue),
            Purpose::Port(_) | Purpose::Client => None,
        }
    }

    /// The node that it works with.
    pub(super) fn member(&self) -> Option<&str> {
        self.active.map(|path| self.members[path].as_str())
    }

    /// Whether there is a gateway to work with.
    pub(super) fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// Whether a job is of the present activation: of an earlier one, the gateway has given it back.
    pub(super) fn is_current(&self, activation: u64) -> bool {
        self.active.is_some() && self.activation == activation
    }

    fn send(&mut self, path: PathId, request: &Request<'_>) {
        encode_request(&mut self.paths[path].out, request, &[]);
        self.speak.push(path);
    }

    fn send_active(&mut self, request: &Request<'_>) {
        if let Some(path) = self.active {
            self.send(path, request);
        }
    }

    /// Takes a frame of a gateway.
    pub(super) fn handle(&mut self, path: PathId, frame: &[u8]) -> Result<(), WireError> {
        let event = Event::decode(frame)?;
        // Who waits for an answer is not woken by a job.
        self.news |= self.hungry || !matches!(event, Event::Job(_));
        match event {
            Event::Welcome { queues, ports, lanes, .. } => {
                let own = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
                (self.queues, self.ports) = (own(queues), own(ports));
                self.usable = lanes.max(1);
                self.paths[path].welcomed = true;
            }
            Event::Role { serving, epoch } => {
                let before = self.paths[path].serving;
                self.paths[path].serving = serving.then_some(epoch);
                if self.active == Some(path) && before.is_some() && before != Some(epoch) {
                    // The same server in another epoch: what was unanswered may not be part of it.
                    self.deactivate();
                }
                self.choose();
            }
            Event::Job(job) if self.active == Some(path) => {
                self.refused = None; // what was said before holds no more
                self.got(&job);
            }
            Event::Answer { lane, number, outcome, text } if self.active == Some(path) => {
                self.refused = None;
                self.answered(lane, number, outcome, text);
            }
            Event::Rested if self.active == Some(path) => {
                self.rests.1 += 1;
                if self.rests.1 >= self.rests.0 {
                    (self.rests.1, self.asked) = (self.rests.0, 0);
                }
            }
            Event::Revoked { job } if self.active == Some(path) => {
                self.jobs.retain(|waiting| job != 0 && waiting.job != job);
                self.ask_for_more();
            }
            Event::Packet { seq, ordinal, to, payload } if self.active == Some(path) => {
                let (activation, to) = (self.activation, to.to_socket_addr());
                let payload = payload.to_vec();
                self.packets.push_back(Handed { activation, seq, ordinal, to, payload });
            }
            Event::Port => self.paths[path].is_port = true,
            Event::Taken { ask, refusal, slot, value } => {
                self.told(ask, Told::Taken { refusal, slot, value: value.to_vec() });
            }
            Event::Value { ask, refusal, value } => {
                let value = value.map(<[u8]>::to_vec);
                self.told(ask, Told::Value { refusal, value });
            }
            Event::State { ask, refusal, seq, value } if self.active == Some(path) => {
                self.refused = None;
                self.looks.told(ask, refusal, seq, value);
            }
            Event::Refused { text } => {
                self.refused = Some(text.to_owned());
                self.paths[path].refused = true;
                tracing::warn!(text, "a gateway sends this worker away");
            }
            // Of a path that is worked by no more.
            Event::Job(_)
            | Event::Answer { .. }
            | Event::Revoked { .. }
            | Event::Packet { .. }
            | Event::State { .. }
            | Event::Rested => {}
        }
        // What it is told, and does not read, is not kept without end.
        let (found, max) = (self.paths[path].out.len(), OUT_BYTES_MAX);
        if found > max {
            let what = "what the gateway has not read";
            return Err(WireError::Value { what, found: found as u64, max: max as u64 });
        }
        Ok(())
    }

    /// The path to the primary of the highest epoch; the present one, if it is as good as any.
    fn choose(&mut self) {
        let oldest = self.oldest;
        let epoch = |path: &Path| path.serving.filter(|&epoch| path.welcomed && epoch >= oldest);
        let best = self.paths.iter().filter_map(epoch).max();
        if let Some(active) = self.active {
            if best.is_some() && epoch(&self.paths[active]) == best {
                return;
            }
            self.deactivate();
        }
        let Some(best) = best.filter(|_| self.lacks_queue().is_none()) else { return };
        let Some(path) = self.paths.iter().position(|path| epoch(path) == Some(best)) else {
            return;
        };
        self.active = Some(path);
        self.activation += 1;
        self.counts.activations += 1;
        if self.purpose == Purpose::Client {
            self.oldest = best;
        }
        if !self.paths[path].attached {
            self.paths[path].attached = true;
            let (client, lanes) = (self.client, self.usable.min(self.lanes.len() as u16));
            match self.purpose.clone() {
                Purpose::Worker(queue) => {
                    self.send(path, &Request::Attach { client, queue: &queue, lanes });
                }
                Purpose::Port(port) => {
                    self.send(path, &Request::AttachPort { client, port: &port, lanes });
                }
                Purpose::Client => {
                    self.send(path, &Request::Attach { client, queue: "", lanes });
                }
            }
        }
        for lane in 0..self.lanes.len() {
            if matches!(self.lanes[lane].0, Lane::Open) {
                self.lanes[lane].0 = Lane::Asked;
                let number = self.lanes[lane].1;
                self.send(path, &Request::Resolve { lane: lane as u16, number });
            }
        }
        for request in self.looks.questions() {
            encode_request(&mut self.paths[path].out, &request, &[]);
        }
        self.speak.push(path);
        if self.busy {
            self.ask_for_more();
        }
    }

    /// The queues that there are, if what this worker works for is none of them.
    pub(super) fn lacks_queue(&self) -> Option<Vec<String>> {
        let queue = self.queue().filter(|_| self.paths.iter().any(|path| path.welcomed))?;
        index(&self.queues, queue).err()
    }

    fn deactivate(&mut self) {
        self.active = None;
        self.jobs.clear();
        // They are offered again, by whichever gateway has them then.
        self.packets.clear();
        self.asked = 0;
        self.rests.1 = self.rests.0;
        for (lane, _, _) in &mut self.lanes {
            if matches!(lane, Lane::Sent | Lane::Asked) {
                *lane = Lane::Open;
            }
        }
        self.asks.values_mut().filter(|told| told.is_none()).for_each(|told| {
            *told = Some(Told::Lost);
        });
    }

    /// Credit for as many jobs as are missing, to be sent with whatever is sent next.
    fn missing(&mut self) -> u32 {
        let more = self.prefetch.saturating_sub(self.asked + self.jobs.len() as u32);
        self.asked += more;
        more
    }

    fn ask_for_more(&mut self) {
        if self.active.is_some() {
            let more = self.missing();
            if more > 0 {
                self.send_active(&Request::Credit { more, reset: false });
            }
        }
    }

    fn got(&mut self, job: &JobView<'_>) {
        self.asked = self.asked.saturating_sub(1);
        // Never more than were asked for, whatever the gateway says.
        if self.busy && self.jobs.len() < self.prefetch as usize {
            let node = self.member().unwrap_or_default().to_owned();
            self.jobs.push_back(OwnedJob::new(job, self.activation, node));
        } else {
            self.send_active(&Request::GiveBack { job: job.job, failed: false, credit: 0 });
        }
    }

    /// A job, if there is one; asks for one otherwise.
    pub(super) fn next_job(&mut self) -> Option<OwnedJob> {
        self.busy = true;
        let job = self.jobs.pop_front();
        self.hungry = job.is_none();
        if job.is_none() {
            self.ask_for_more();
        }
        job
    }

    /// Asks whether anything is ready at all; `None` where there is nobody to be asked. See [`last_job`](Self::last_job).
    pub(super) fn ask_for_last(&mut self) -> Option<u64> {
        self.active?;
        self.ask_for_more();
        self.rests.0 += 1;
        self.send_active(&Request::Rest);
        Some(self.rests.0)
    }

    /// A job, or that there was none when `ask_for_last` has asked; `None` before that is known.
    pub(super) fn last_job(&mut self, asked: u64) -> Option<Option<OwnedJob>> {
        let job = self.jobs.pop_front();
        (job.is_some() || self.rests.1 >= asked).then_some(job)
    }

    /// Jobs that wait to be taken up.
    #[cfg(feature = "fuzzing")]
    pub(super) fn waiting(&self) -> usize {
        self.jobs.len()
    }

    /// Nobody waits any more: what comes, or has come, is for others.
    pub(super) fn rest(&mut self) {
        self.busy = false;
        while let Some(job) = self.jobs.pop_front() {
            self.send_active(&Request::GiveBack { job: job.job, failed: false, credit: 0 });
        }
        if std::mem::take(&mut self.asked) > 0 {
            self.send_active(&Request::Credit { more: 0, reset: true });
        }
    }

    pub(super) fn give_back(&mut self, job: &OwnedJob, failed: bool) {
        if self.is_current(job.activation) {
            let credit = self.missing();
            self.send_active(&Request::GiveBack { job: job.job, failed, credit });
        }
    }

    /// Whether there is room for another commit.
    pub(super) fn has_lane(&self) -> bool {
        self.free_lane().is_some()
    }

    fn free_lane(&self) -> Option<usize> {
        let mut usable = self.lanes.iter().take(usize::from(self.usable));
        usable.position(|lane| matches!(lane.0, Lane::Free))
    }

    /// Sends a commit; `None` if the job is not in hand any more, so that it never happens. There has to be a lane.
    pub(super) fn commit(
        &mut self,
        job: &OwnedJob,
        effects: &EffectsDraft,
        forget: bool,
    ) -> Option<Ticket> {
        if !self.is_current(job.activation) {
            self.counts.stale += 1;
            return None;
        }
        let path = self.active?;
        let (lane, number) = self.take_lane(forget)?;
        let credit = self.missing();
        let request =
            Request::Commit { lane, number, job: job.job, credit, effects: Effects::none() };
        encode_request(&mut self.paths[path].out, &request, effects.as_bytes());
        self.speak.push(path);
        Some((lane, number))
    }

    fn take_lane(&mut self, forget: bool) -> Option<Ticket> {
        let lane = self.free_lane()?;
        let (state, last, forgotten) = &mut self.lanes[lane];
        (*state, *forgotten) = (Lane::Sent, forget);
        *last += 1;
        Some((lane as u16, *last))
    }

    /// Sends a commit without a job; `None`, and nothing happens, if there is nobody to send it to, or no lane for it.
    pub(super) fn act(&mut self, effects: &EffectsDraft) -> Option<Ticket> {
        let path = self.active?;
        let (lane, number) = self.take_lane(false)?;
        let request = Request::Act { lane, number, effects: Effects::none() };
        encode_request(&mut self.paths[path].out, &request, effects.as_bytes());
        self.speak.push(path);
        Some((lane, number))
    }

    /// Whether it is the port that it has attached as: before, another program is.
    pub(super) fn is_port(&self) -> bool {
        self.active.is_some_and(|path| self.paths[path].is_port)
    }

    /// Packets that were handed out since the last call.
    pub(super) fn take_packets(&mut self) -> VecDeque<Handed> {
        std::mem::take(&mut self.packets)
    }

    /// This packet of an activation has left, and those before it.
    pub(super) fn sent(&mut self, activation: u64, (seq, ordinal): (u64, u32)) {
        if self.is_current(activation) {
            self.send_active(&Request::Sent { seq, ordinal });
        }
    }

    fn answered(&mut self, lane: u16, number: u64, outcome: Outcome, text: &str) {
        let Some((state, last, forgotten)) = self.lanes.get_mut(usize::from(lane)) else { return };
        if *last != number || !matches!(state, Lane::Sent | Lane::Asked) {
            return;
        }
        match outcome {
            Outcome::AlreadyCommitted { .. } => self.counts.already_committed += 1,
            Outcome::Stale => self.counts.stale += 1,
            Outcome::Committed { .. } => {}
            Outcome::Refused(refusal) if *forgotten => {
                tracing::debug!(lane, number, ?refusal, text, "a commit was refused");
            }
            Outcome::Refused(_) => {}
        }
        *state = if *forgotten { Lane::Free } else { Lane::Answered(outcome, text.to_owned()) };
    }

    /// The answer to a commit, once.
    pub(super) fn take_answer(&mut self, (lane, number): Ticket) -> Option<(Outcome, String)> {
        let (state, last, _) = self.lanes.get_mut(usize::from(lane))?;
        if *last != number {
            return None;
        }
        match std::mem::replace(state, Lane::Free) {
            Lane::Answered(outcome, text) => Some((outcome, text)),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Nobody waits for the answer any more; its lane is free when it comes.
    pub(super) fn forget(&mut self, (lane, _): Ticket) {
        if let Some((_, _, forgotten)) = self.lanes.get_mut(usize::from(lane)) {
            *forgotten = true;
        }
    }

    /// Whether every commit is answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.lanes.iter().all(|lane| matches!(lane.0, Lane::Free | Lane::Answered(..)))
    }

    pub(super) fn also(&mut self, job: &OwnedJob, queue: u8, key: &[u8]) -> Option<u32> {
        if !self.is_current(job.activation) {
            return None;
        }
        let ask = self.begin_ask();
        self.send_active(&Request::Also { ask, job: job.job, queue, key });
        Some(ask)
    }

    pub(super) fn read(&mut self, queue: u8, key: &[u8]) -> Option<u32> {
        self.active?;
        let ask = self.begin_ask();
        self.send_active(&Request::Read { ask, queue, key });
        Some(ask)
    }

    fn begin_ask(&mut self) -> u32 {
        self.next_ask = self.next_ask.wrapping_add(1);
        self.asks.insert(self.next_ask, None);
        self.next_ask
    }

    fn told(&mut self, ask: u32, told: Told) {
        if let Some(place) = self.asks.get_mut(&ask) {
            *place = Some(told);
        }
    }

    pub(super) fn take_told(&mut self, ask: u32) -> Option<Told> {
        self.asks.get(&ask)?.as_ref()?;
        self.asks.remove(&ask).flatten()
    }

    pub(super) fn forget_ask(&mut self, ask: u32) {
        self.asks.remove(&ask);
    }

    /// Begins to look at an object; `None` while there are too many unanswered gets.
    pub(super) fn begin_look(&mut self, queue: u8, key: &[u8], once: bool) -> Option<u32> {
        if once && !self.looks.has_room() {
            return None;
        }
        self.next_ask = self.next_ask.wrapping_add(1);
        let ask = self.next_ask;
        self.looks.begin(ask, queue, key, once);
        if let (Some(path), Some(request)) = (self.active, self.looks.question(ask)) {
            encode_request(&mut self.paths[path].out, &request, &[]);
            self.speak.push(path);
        }
        Some(ask)
    }

    pub(super) fn end_look(&mut self, ask: u32) {
        self.looks.end(ask);
        self.send_active(&Request::Unwatch { ask });
    }

    /// Why no gateway wants this one, once.
    pub(super) fn take_refusal(&mut self) -> Option<String> {
        if self.is_active() { None } else { self.refused.take() }
    }
}
