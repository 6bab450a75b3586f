//! The state machine of a remote worker without its sockets, for fuzzers.

use super::job::OwnedJob;
use super::session::{Purpose, Session, Ticket};
use crate::remote::wire::{EffectsDraft, Frames, Request, WireError};

/// A worker with two paths, whose connections are calls.
#[derive(Debug)]
pub struct Client {
    session: Session,
    jobs: Vec<OwnedJob>,
    tickets: Vec<Ticket>,
    asks: Vec<u32>,
}

const PREFETCH: u32 = 4;
const LANES: u16 = 3;

impl Default for Client {
    fn default() -> Self {
        let members = vec!["node-a".to_owned(), "node-b".to_owned()];
        let session =
            Session::new([7; 16], Purpose::Worker("work".to_owned()), members, LANES, PREFETCH);
        Self { session, jobs: Vec::new(), tickets: Vec::new(), asks: Vec::new() }
    }
}

impl Client {
    /// A path, 0 or 1, leads to a gateway.
    pub fn connected(&mut self, path: usize) {
        self.session.connected(path & 1);
    }

    /// A path is gone.
    pub fn lost(&mut self, path: usize) {
        self.session.lost(path & 1);
    }

    /// A frame of a gateway: kind and fields. False: it makes no sense.
    pub fn event(&mut self, path: usize, frame: &[u8]) -> bool {
        self.session.handle(path & 1, frame).is_ok()
    }

    /// The worker does something: which, says the number.
    pub fn act(&mut self, what: u8) {
        match what % 8 {
            0 | 1 => {
                if self.jobs.len() < 8 {
                    self.jobs.extend(self.session.next_job());
                }
            }
            2 => self.session.rest(),
            3 => {
                if let Some(job) = self.jobs.pop() {
                    self.session.give_back(&job, what > 100);
                }
            }
            4 | 5 => {
                if self.session.has_lane()
                    && let Some(job) = self.jobs.pop()
                {
                    let ticket = self.session.commit(&job, &EffectsDraft::default(), what > 100);
                    self.tickets.extend(ticket.filter(|_| what <= 100));
                }
            }
            6 => {
                self.tickets.retain(|&ticket| self.session.take_answer(ticket).is_none());
                self.asks.retain(|&ask| self.session.take_told(ask).is_none());
            }
            _ => {
                if self.asks.len() < 8
                    && let Some(job) = self.jobs.last()
                {
                    self.asks.extend(self.session.also(job, 0, b"other"));
                    self.asks.extend(self.session.read(0, b"other"));
                }
            }
        }
    }

    /// What is written to a path has to be what a gateway understands.
    ///
    /// # Panics
    /// When it is not, or when the worker keeps more than it asks for.
    pub fn check(&mut self) {
        for path in 0..2 {
            let out = self.session.take_out(path);
            let read = Frames::new(usize::MAX).push(&out, |frame| Request::decode(frame).map(drop));
            read.unwrap_or_else(|error: WireError| panic!("a gateway refuses it: {error}"));
        }
        assert!(self.session.waiting() <= PREFETCH as usize);
        let _ = self.session.take_speakers();
    }
}
