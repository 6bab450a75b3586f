//! What a gateway knows of one connection.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use hotpair_shm::{Other, PortId, QueueId, SuspendedClaim};

use super::Limits;
use super::port::FarPort;
use crate::remote::wire::{Event, Refusal, encode_event};

/// Names a connection; never used twice.
pub(crate) type SessionId = u64;

/// An object that a worker has in its hands.
#[derive(Debug)]
pub(super) struct InHand {
    pub(super) claim: SuspendedClaim,
    pub(super) others: Vec<Other>,
    pub(super) since: Instant,
}

/// What waits for a lane to be open.
#[derive(Debug)]
pub(super) enum Wants {
    /// The whole request, which is read again.
    Commit(Vec<u8>),
    /// The same, for what the claim of the receipt itself is to do.
    Act(Vec<u8>),
    Resolve(u64),
    /// What was asked for is not possible: only the receipt is still to be put in order.
    Refuse(u64, Refusal, String),
}

/// A lane of a worker: it has at most one unanswered commit.
#[derive(Debug)]
pub(super) enum Lane {
    /// Its receipt has been asked for; what its generation is, if the lane was open before.
    Opening(Option<u64>, Wants),
    /// Generation of the receipt, and the last number committed.
    Open { generation: u64, number: u64 },
}

/// A worker that has attached; or a client, or a port.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) client: [u8; 16],
    /// Where its jobs come from, if it is a worker.
    pub(super) queue: Option<QueueId>,
    pub(super) port: Option<FarPort>,
    /// The port that it will be when nobody else is.
    pub(super) wants_port: Option<PortId>,
    pub(super) lanes: HashMap<u16, Lane>,
    /// By number, so that the first is the one that the worker has had longest.
    pub(super) jobs: BTreeMap<u64, InHand>,
    /// When the first of them became the first: before, the worker was busy with another.
    pub(super) first_since: Instant,
    /// Jobs that it can still take.
    pub(super) credit: u32,
    /// How often it has asked to be told that nothing more is ready.
    pub(super) rests: u32,
}

/// One connection: a worker that is attached, or one that stands by.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) greeted: bool,
    pub(super) attached: Option<Attached>,
    /// Frames that are to be written.
    pub(super) out: Vec<u8>,
    /// Nothing more is read from it.
    pub(super) over: bool,
}

impl Session {
    pub(super) fn tell(&mut self, event: &Event<'_>) {
        encode_event(&mut self.out, event);
    }
}

impl Session {
    /// The queue of which its worker can be given an object now.
    pub(super) fn wants(&self, limits: &Limits, out_max: usize) -> Option<QueueId> {
        let attached = self.attached.as_ref()?;
        let may = attached.credit > 0 && attached.jobs.len() < limits.claims as usize;
        (may && !self.over && self.out.len() <= out_max).then_some(attached.queue).flatten()
    }

    /// Objects in its worker's hands, and bytes that wait to be written to it.
    pub(super) fn holds(&self) -> (usize, usize) {
        let jobs = self.attached.as_ref().map_or(0, |attached| attached.jobs.len());
        (jobs, self.out.len())
    }
}

impl Attached {
    /// Takes a job out of its hands.
    pub(super) fn take(&mut self, job: u64, now: Instant) -> Option<InHand> {
        let first = self.jobs.first_key_value().map(|(&first, _)| first);
        let found = self.jobs.remove(&job);
        if first == Some(job) {
            self.first_since = now;
        }
        found
    }
}
